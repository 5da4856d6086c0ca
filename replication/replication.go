package replication

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// A DeviceID is a device's Ed25519 public key.
type DeviceID [32]byte

// String gives the first eight bytes in hexadecimal: enough for a log.
func (id DeviceID) String() string { return hex.EncodeToString(id[:8]) }

// A StoreID names one index database, drawn at random when it is made. The
// sequence numbers of a device mean something within one store only.
type StoreID [16]byte

// String gives the ID in hexadecimal.
func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// A Stream is an ordered, reliable, encrypted byte stream between two devices
// that know each other's identity. Reset aborts both directions at once and
// makes blocked calls return; Close gives up both directions in order.
// CloseWrite lets the peer read to the end. Read and Write may be called
// concurrently with each other and with all other methods.
type Stream interface {
	io.Reader
	io.Writer
	Close() error
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// An Opener opens streams to connected peers. Safe for concurrent use.
type Opener interface {
	Open(ctx context.Context, peer DeviceID, protocol string) (Stream, error)
}

// An Index is one folder's index as a session needs it. All sessions of a
// node share it: it is safe for concurrent use.
//
// Sequence numbers (Seq) count changes of this device's own state of entries;
// each entry carries the number of its latest change.
type Index interface {
	ID() crdt.FolderID
	// Seq is the highest sequence number given so far.
	Seq() uint64
	// Wait returns when Seq() > seq or Progress() != p, or with ctx's error.
	Wait(ctx context.Context, seq uint64, p Progress) error
	// After gives entries whose number is above seq, in an order in which
	// every directory that an entry's Place or From needs, and that a receiver
	// who has all up to seq may lack, comes earlier in this batch. There are at
	// most maxEntries, and no more once their encoded size reaches maxBytes.
	// Without any, Next is Seq(), which may be above seq.
	After(seq uint64, maxEntries, maxBytes int) (Batch, error)
	// Cursor is the highest number of the peer's store durably applied here.
	Cursor(peer DeviceID, store StoreID) (uint64, error)
	// Apply judges b whole, joins it, and commits entries, view and the cursor
	// b.Next in one step. A *crdt.BatchError says that b breaks the rules, and
	// nothing was written; any other error is our own trouble and Apply is
	// called again later. Lists are hints that may be kept or not: each hashes
	// to its key and fits a Version of b.
	Apply(ctx context.Context, from DeviceID, store StoreID, b Batch) error
	// Heads tells per replica up to which counter all is applied.
	Heads() crdt.VersionVector
	// Progress is how far this device has come by itself.
	Progress() Progress
	// PeerProgress takes what a peer told about itself. It must not block.
	PeerProgress(peer DeviceID, p PeerProgress)
}

// A Batch is entries of one folder on their way from one index to another.
type Batch struct {
	Entries []crdt.Entry
	Lists   map[crdt.ContentHash]chunk.List // block lists of some of the contents
	Next    uint64                          // the sender's sequence number that having this batch is worth
	Heads   crdt.VersionVector              // the sender's heads; nil unless Next is the sender's Seq
}

// Progress is how far a device has come with its own disk.
type Progress struct {
	// Settled is the device's own sequence number up to which its disk shows
	// everything.
	Settled uint64
	// Have rises whenever the device has more content to give than before: a
	// peer that was told "not here" asks again when it moves.
	Have uint64
}

// PeerProgress is how far a peer has come with our entries, in our sequence
// numbers.
type PeerProgress struct {
	Applied uint64 // durably applied there
	Settled uint64 // shown by the peer's disk; at most Applied
	Have    uint64 // the peer's Progress.Have
}

// A Source serves what this device has on its disk. Safe for concurrent use.
type Source interface {
	// ReadBlock appends the block's bytes to dst, or fails with ErrNotHere. Only
	// with verify need they have been hashed, for whoever gets them does so
	// anyway, and asks again with verify if they are others; but they must always
	// be as many as b.Size.
	ReadBlock(ctx context.Context, folder crdt.FolderID, b chunk.Block, verify bool, dst []byte) ([]byte, error)
	// ReadList gives the encoded block list with that content hash, or fails
	// with ErrNotHere.
	ReadList(ctx context.Context, folder crdt.FolderID, content crdt.ContentHash) ([]byte, error)
}

// An Authority says what a peer may do with a folder now: read it, and change
// it. Both are false for folders that are not the peer's business. It is asked
// for every batch and request, so it must be quick. Safe for concurrent use.
type Authority interface {
	May(peer DeviceID, folder crdt.FolderID) (read, write bool)
}

// Errors that callers decide by.
var (
	// ErrNotHere is a Source's answer for what it cannot give at present.
	ErrNotHere = errors.New("not on this device")
	// ErrNoSource reports that every connected peer that shares the folder has
	// said that the content is not there, or none is connected.
	ErrNoSource = errors.New("no connected device has it")
	// ErrStopped reports a call on something whose Run has ended.
	ErrStopped = errors.New("stopped")
	// ErrForbidden reports a peer that sends or wants what it may not.
	ErrForbidden = errors.New("not permitted")
)

// A Violation is something a peer must not send. It ends the peer's part in
// the folder (index plane: no further batch is taken in this session; block
// plane: no block is asked for) and is reported once.
type Violation struct {
	Peer   DeviceID
	Folder crdt.FolderID // zero: the violation broke the stream as a whole
	Err    error         // a *crdt.BatchError, *wire.FormatError, *wire.SizeError, *BadContentError, ErrForbidden...
}

// Error says who did what.
func (v *Violation) Error() string {
	if v.Folder == (crdt.FolderID{}) {
		return fmt.Sprintf("device %s broke the protocol: %v", v.Peer, v.Err)
	}
	return fmt.Sprintf("device %s broke the rules of folder %s: %v", v.Peer, v.Folder, v.Err)
}

// Unwrap gives the cause.
func (v *Violation) Unwrap() error { return v.Err }

// A BadContentError reports bytes that do not hash to what they were asked
// for as, although the peer said that it had verified them.
type BadContentError struct{ Want, Got chunk.Hash }

// Error gives both hashes.
func (e *BadContentError) Error() string {
	return fmt.Sprintf("content asked for as %s hashes to %s", e.Want, e.Got)
}
