// Package simdisk is a disk for tests: a file system in memory, behind the
// interface of the real one (disk.FS), that does on purpose and by seed what real
// disks do by bad luck. It crashes and loses what was not synced, runs full, fails
// a call, keeps times in steps of two seconds, uses inode numbers again, folds case
// or Unicode form.
//
// The picture to hold: **a disk is what a crash would leave of it, and what has
// happened since.** Names are kept as a journaling file system keeps them: changes
// of names have an order, each is done as a whole or not at all, and a crash keeps
// all up to some point that lies no earlier than the last sync that covers them.
// Bytes have no order: of each file what was not synced, nor written back by itself
// since (Writeback), may be there, be missing,
// or be there in part.
//
// A [Disk] outlives crashes; an FS (Disk.Open) does not: after [Disk.Crash] every
// call on it, and on its files, fails with [ErrCrashed]. Everything random comes
// from the seed. The model is held against the real file system by the same random
// operations on both (conform_test.go).
//
// It stands beside node/disk's implementation on the real system, under it in the
// flow, and is imported by tests alone.
package simdisk
