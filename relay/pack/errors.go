package pack

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Errors a caller decides by.
var (
	// ErrLocked: another process has the store open.
	ErrLocked = errors.New("the block store is in use by another process; stop that relay or give this one a directory of its own")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("the block store is closed")
	// ErrFailed: a write or sync failed. The store takes no more writes and goes on
	// serving; close it, see to the disk, open it again. Whether what was being
	// written is there afterwards is not known.
	ErrFailed = errors.New("a write to the block store failed; it takes no more writes until it is opened again")
	// ErrNoSpace: the disk is full, or would be fuller than Options.MinFree
	// allows. Nothing is harmed; the store goes on when there is space again.
	ErrNoSpace = errors.New("no space left for blocks; free some on the disk, delete blocks and compact, or move the store to a larger disk")
	// ErrTooLarge: the block is larger than MaxBlock.
	ErrTooLarge = errors.New("the block is larger than 9 MiB")
	// ErrAddress: the CID is none of CIDv1, raw, SHA-256.
	ErrAddress = errors.New("not an address of a sealed block (CIDv1, raw, SHA-256)")
	// ErrMismatch: the bytes of a block that was to be put do not hash to its CID.
	ErrMismatch = errors.New("the bytes of the block do not hash to its address")
)

// errGone: the pack has been compacted away; the block is elsewhere.
var errGone = errors.New("the pack has been removed")

// A CorruptError says that a block was found broken. Its bytes are kept in
// quarantine, and it is not in the store any more: the error is also an
// ipld.ErrNotFound.
type CorruptError struct {
	CID    cid.Cid
	Pack   string // name of the file
	Offset int64  // of the record in it
}

// Error gives what is broken and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("block %s is broken in %s at %d; what is left of it is in quarantine, and it can be put again", e.CID, e.Pack, e.Offset)
}

// Unwrap makes it an ipld.ErrNotFound.
func (e *CorruptError) Unwrap() error { return ipld.ErrNotFound{Cid: e.CID} }

// A FormatError says that a pack was written by a newer Sheaf.
type FormatError struct {
	Path        string
	Found, Want uint32
}

// Error gives both versions and the remedy.
func (e *FormatError) Error() string {
	return fmt.Sprintf("pack %s has format %d and this Sheaf knows formats up to %d: run the newer Sheaf again", e.Path, e.Found, e.Want)
}
