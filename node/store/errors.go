package store

import (
	"errors"
	"fmt"
)

// Errors a caller decides by.
var (
	// ErrLocked: another process has the database open.
	ErrLocked = errors.New("the index database is in use by another process; stop that one (sheaf stop) or give this one a directory of its own")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("the index database is closed")
	// ErrFailed: a write or sync failed earlier. The store takes no more
	// writes; close it, see to the disk, open it again. Whether the batch that
	// failed is there afterwards is not known, but it is there whole or not at all.
	ErrFailed = errors.New("an earlier write to the index database failed; it takes no more writes until it is opened again")
	// ErrForgotten: the folder has been forgotten by Store.Forget.
	ErrForgotten = errors.New("the folder has been forgotten")
	// ErrTxDone: a Tx or Reader was used after its function had returned.
	ErrTxDone = errors.New("transaction used after its end")
	// ErrLazyCounter: UpdateLazy may not use up counters of the replica.
	ErrLazyCounter = errors.New("a local change needs a synced update")
)

// A CorruptError says that the database holds something it cannot have
// written. The folder must be stopped; the store notes it on the disk, and the
// next Open sets the database aside and starts a fresh one.
type CorruptError struct {
	Dir string
	Err error
}

// Error gives what was found and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("the index database %s is damaged and will be rebuilt at the next start: %v", e.Dir, e.Err)
}

// Unwrap gives what was found.
func (e *CorruptError) Unwrap() error { return e.Err }

// A SchemaError says that the database was written by a newer Sheaf.
type SchemaError struct {
	Dir         string
	Found, Want uint64
}

// Error gives both versions and the remedy.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("the index database %s has format %d and this Sheaf knows formats up to %d: run the newer Sheaf again", e.Dir, e.Found, e.Want)
}
