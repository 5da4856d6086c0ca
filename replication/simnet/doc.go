// Package simnet is a network for tests: devices, connections and streams in
// memory, on the clock of the caller (a bubble of testing/synctest, or the real
// one), that does on purpose and by seed what real networks do by bad luck. It is
// late, slow, one-way, silent; it loses a connection, or has two where one would
// do.
//
// The picture to hold: **everything that happens on the network is an event with
// an instant of its own.** A parcel of bytes comes in, a stream is opened, a
// connection dies, a deadline passes: one after the other, a nanosecond apart at
// least, so that in a bubble all that an event sets off has come to rest before
// the next one. When an event is due follows from what was sent when, and from
// draws that hash the seed with the names of the things concerned: the two
// devices, the number of their connection, the protocol of the stream and its
// number among those of that protocol, the number of the parcel. No draw depends on
// which goroutine came first. What arrives was sent at an earlier instant; so when
// an instant comes, all events that are due are known, their names decide between
// them, and all but one are late by a nanosecond each. So too for what streams send
// at one instant over a link with a rate: who leaves first is settled after the
// instant, by name.
//
// What is left to the scheduler is what programs leave to it: which of several
// goroutines that run at one instant opens the first stream of a protocol, writes
// first to one stream, or acts on the network itself; and whether a call that a
// timer of the program makes at the very instant of an event comes before it, which
// links with jitter make rare. A program without such races sends the same bytes at
// the same instants in every run of a seed, and [Network.Hash] shows it.
//
// A [Network] joins Hosts by Ports. Between two devices that are up and reach each
// other there is a connection; streams are of a connection and die with it. Within
// one direction of a stream order is kept; between streams nothing is, and that is
// the reordering. Bytes are lost only with their connection, as under TCP.
//
// The package imports nothing of ours, so that the tests of any package may use
// it. It is imported by tests alone.
package simnet
