// Package pack keeps a relay's blocks on a local disk, in files that only grow.
//
// The picture to hold: **the packs are a log, and everything else is derived from
// it.** A record in a pack says "here is this block" or "this block is gone"; of
// two records about one block the later counts (packs by number, records by
// offset). The table in memory that says where each block is ([table]), the counts
// of live and dead bytes and the footers of packs can be lost at any time, and are
// made anew from the records. So a block that was put again after it was deleted
// stays: its record is later than the tombstone. Compaction copies what is live to
// the end of the log, and removes a pack only when the copies are durable.
//
// One goroutine appends ([Store.run]). It takes all that waits, writes it, syncs
// once, and only then changes the table and lets the callers go: whoever comes while a sync
// runs is in the next one. So whatever the table knows of is durable, and no caller
// is told of a block that a power cut may take away.
// Readers look a block up and read it without a lock.
//
// A [Store] is a blockstore.Blockstore of boxo. Blocks are bytes that nobody here
// can read, addressed by CIDv1, raw, SHA-256. Whatever is served has been hashed
// on that occasion. What does not hash right is kept aside in quarantine/, said to
// be gone, and is there again when somebody puts it again.
//
// It stands below relay/archive, which decides what is kept. It knows no group, no
// record and no quota, and opens no connection.
//
// # Files
//
//	NNNNNNNN-MMMMMMMMMMMMMMMM.pack   a pack: its number and its marker, in hexadecimal
//	quarantine/                      what did not verify, for an operator
//	scrub                            how far the scrub has come
//	lock                             locked while a process has the store open
//
// # Format of a pack, version 1
//
// Numbers are big-endian. A pack has a header, records and, when it is closed, a
// footer. With all of it a pack is at most 64 MiB.
//
//	header, 32 bytes
//	 0  8  "sheafpak"
//	 8  4  version: 1
//	12  4  number of the pack, as in its name
//	16  8  marker, as in its name
//	24  4  0
//	28  4  CRC-32C of bytes 0 to 28
//
//	record, 48 bytes and the block
//	 0  8  marker of the pack
//	 8  4  CRC-32C of bytes 12 to 48
//	12  1  kind: 1 a block, 2 a tombstone (the block is gone as of here)
//	13  3  length of the block: at most 9 MiB; 0 for a tombstone
//	16 32  SHA-256 of the block
//	48     the block
//
//	footer: for each record 40 bytes, by offset, and then 32 bytes
//	 0 32  SHA-256 of the block
//	32  4  offset of the record in the pack
//	36  1  kind
//	37  3  length of the block
//	...
//	 0  8  marker of the pack
//	 8  4  number of the pack
//	12  4  offset of the footer
//	16  4  number of records
//	20  4  CRC-32C of the footer up to here
//	24  8  "sheafidx"
//
// The marker is drawn at random for each pack and never leaves the disk. Where a
// record's header is broken the next one is found by it, and nobody can upload a
// block that has within it what would then pass for a record (a tombstone for
// somebody else's block). It stands in the name so that a broken header of the
// pack does not matter.
//
// A footer is written only after all records before it are durable. So a pack with
// a footer that verifies is whole, and is not read when the store is opened. The
// last pack has none after a crash: it is read, and cut after its last record that
// verifies. It is then written once more, in place with the same bytes, and synced:
// after a sync that failed, the system shows bytes that never reached the disk, and
// no later sync would bring them there.
// A pack in the middle whose footer is lost is read too, and gets a new one at its end;
// it is never cut.
package pack
