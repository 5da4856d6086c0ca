// Package deposit is a device's side of a relay's archive: what it hands in there, and
// what it gets back.
//
// The picture to hold: a device offers records, asks which blocks are wanted, and stores
// those; so an upload that was broken off goes on with what is wanted still, and a block
// that is there already is not sent. What it gets back it believes in nothing: each record
// is held against its author's signature, each block against its address. Whether an
// author may be believed the caller asks seal.Judge; whether all is there that ought to
// be, the heads tell.
//
// It stands between the node and the wire; relay.ArchiveService is its other side. A
// Client is one stream and asks one thing at a time; its methods may be called
// concurrently. It starts no goroutine.
package deposit
