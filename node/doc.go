// Package node is the daemon of one device: it wires the parts together and
// owns their lives.
//
// The picture to hold, for each folder, is a line on which data moves one way:
//
//	disk -> watch, scan -> bind, hash, decide -> record -> index -> session -> peer
//	peer -> session -> index -> view -> materialise -> fetch -> commit -> disk
//
// A [Folder] runs both halves in one control goroutine, so that what it saw of
// the disk and what it does to the disk never cross; hashing and transfers are
// workers whose results come back to it. What is to be recorded and what is to
// be done is decided by the pure package node/plan from three trees: the view
// (index), the base (what disk and view last agreed on) and the disk. Nothing
// that is pending is stored: after a crash it is computed again.
//
// A [Node] owns the folders, the mesh of peers with a session each, the
// account's statements, and the local API. Nothing here decides who may do
// what (replication/group), how states merge (crdt) or what a file operation
// looks like (node/disk).
package node
