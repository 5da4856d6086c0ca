// Package chunk cuts file content into blocks and names them.
//
// The picture to hold: a cut stands where the bytes before it say so, not at a
// fixed offset. An insertion or removal therefore changes the one or two
// blocks it touches and moves all others unchanged, and two versions of a file
// (or two files) share every block of the runs that they share. Where cuts
// fall is keyed: who lacks the group's key cannot tell a known file by its
// block sizes alone (design: security, "chunk boundaries").
//
// A [List] names the blocks of a file in order; its [List.Content] is the
// file's content hash in the index. Cutting and encoding are formats: two
// devices that differ in them would share nothing, and the golden vectors in
// testdata hold them.
//
// It stands between the disk and the index ([Chunker.Split] is what a scan
// does to a file) and between the index and the block plane. It reads what it
// is given and nothing else: no files, no network, no clock. A Chunker is
// safe for concurrent use.
package chunk
