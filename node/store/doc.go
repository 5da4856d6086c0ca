// Package store is what a device remembers of its folders, in a goleveldb
// database that nobody else sees: every entry of the index with its derived
// view row, what the disk has taken in (the base), how far each peer's changes
// have been applied, where on this disk a block of bytes is, and a few small
// values of other parts of the node.
//
// The picture to hold: **one row an entry, and everything else is derived from
// rows.** A row ([row]) holds an entry's state in the index, its place in the
// view, and its state on the disk. The tables beside it (sequence numbers,
// what is behind, children on the disk, inodes, blocks, the counts of [Stats])
// are a pure function of each row by itself ([derive]); a transaction replaces
// the derived rows of an entry whenever it replaces the entry's row, so they
// cannot drift, and [Folder.Check] proves that they have not.
//
// Writes go through [Folder.Update]: one writer at a time, an overlay of its
// own that the writer reads through, one database batch, synced. All of it is
// there after a crash, or nothing. [Folder.UpdateLazy] leaves out the sync for
// what a peer can be asked for again; nothing that is not yet durable is ever
// told to a peer ([Folder.Seq], [Reader.After]).
//
// A database that cannot be read is set aside, never deleted and never patched
// up: the index is rebuilt from the disk and from the peers, under a new
// [StoreID] and new replica IDs ([Store.Recovery]). A database that is older
// than what it had acknowledged (a lost tail, a copy restored from a backup)
// goes on under new IDs, so that no dot and no sequence number is used twice.
//
// In the flow it stands between the crdt and everything that acts: sessions,
// the planner's gatherers and the tree read and write here. It decides nothing
// about files, knows no peer, no disk and no network, and merges nothing: that
// is package crdt's, which runs on [Tx].
package store
