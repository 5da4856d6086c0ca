// Package crdt is what a folder is: a set of entries, each one file, directory
// or symbolic link with an identity of its own, that merges the same way on
// every device whatever the order, path and number of times in which changes
// arrive.
//
// The picture to hold: a path is where an entry is, never what it is. An
// [Entry] has two last-writer-wins registers (its [Place] and its [Attrs]) and
// one causal dot store (what keeps it alive: contents and presences). [Join]
// merges two states of an entry, [Normalize] turns concurrent contents into
// conflict copies, and [View] shows the tree that people see. [Apply] keeps
// index and view in step batch by batch over [Rows] that somebody else stores;
// the pure View is its oracle. A [Recorder] turns what a person did on a disk
// into entries, made on what that disk shows (its [Base]): so a change replaces
// only what the person had seen.
//
// It stands at the middle of the flow: disk changes become entries here, and
// entries from peers become a tree here. It never does I/O, reads no clock,
// starts no goroutine, logs nothing, and imports none of our packages.
//
// Every value is immutable by convention: no function changes an Entry, a
// VersionVector or a slice inside one in place; all return new ones that may
// share parts with their arguments.
//
// Read in this order: crdt.go (the types), join.go, normal.go, view.go,
// recorder.go; then apply.go with its two parts, and codec.go.
package crdt
