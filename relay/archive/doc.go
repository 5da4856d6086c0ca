// Package archive keeps what devices entrust to a relay: sealed records and the blocks
// that they refer to, for as long as they are to be kept, without being able to read
// them.
//
// The picture to hold: an entry of a folder is a token, and has records. Some are
// current: nothing that is here whole replaces them. Others have been replaced, and are
// kept as versions for a time. A record is whole when all blocks that it refers to are
// held. One that is not replaces nothing yet: whoever dies in the middle of an upload
// has not taken away what was there before.
//
// Blocks stand in a blockstore of boxo's (relay/pack); the records, and who refers to
// which block, in a goleveldb database, so that a record, its references and what they
// change are one batch, synced before anybody is told. A block may only come in when a
// record refers to it, and goes only when none does: devices are believed in nothing
// but what the group's statements allow them (seal.Judge).
//
// Time is the archive's own: it goes on while the archive runs, and by at most a day
// while it does not, whatever the clock says. So nobody can shorten what is kept by
// setting a clock; a machine that is off keeps longer.
//
// It decides what is kept by one pure function, retain. It opens no connection; Tend
// and Collect are called by the relay's loop. An Archive is safe for concurrent use:
// one writes at a time, readers see what is committed.
package archive
