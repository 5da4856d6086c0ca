// Package wire is what two nodes say to each other, byte for byte: the
// messages of the index and block planes, their framing, and their limits.
//
// The picture to hold: a stream is a sequence of frames, each the length of
// its payload as an unsigned varint and the payload, one CBOR item (RFC 8949,
// core deterministic encoding). Behind a frame of [BlocksDown] follow the raw
// bytes that it announces. Every length is checked against a limit before
// anything is allocated for it, and what decodes has passed its message's
// Check: inside, values are already right.
//
// Every protocol is named with its version ([IndexProtocol],
// [BlocksProtocol]), and the first message of an index stream repeats the
// version so that two programs that do not understand each other can say so,
// naming both ([VersionError]).
//
// It stands between package replication and a stream. It never decides what
// to say, keeps no state between messages, and opens nothing.
package wire
