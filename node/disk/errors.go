package disk

import (
	"errors"
	"fmt"
)

// What an operation can meet. Errors carry the operation and the path; a
// caller asks with errors.Is. Absent, occupied and forbidden names are
// fs.ErrNotExist, fs.ErrExist and fs.ErrPermission.
var (
	// ErrNoMarker: the root holds no .sheaf/folder. The disk is not mounted or
	// the path is wrong; nothing that seems gone may be taken for deleted.
	ErrNoMarker = errors.New("the folder's marker is missing")
	// ErrWrongMarker: the root is marked as another folder, or as this one
	// made anew.
	ErrWrongMarker = errors.New("the marker is another folder's")
	// ErrRootGone: the root's path no longer leads to the directory that was opened.
	ErrRootGone = errors.New("the folder's root is gone")
	// ErrMarked: Init found another folder's marker.
	ErrMarked = errors.New("the directory already belongs to another folder")
	// ErrLocked: somebody else holds the lock; of a root: a node serves it.
	ErrLocked = errors.New("another node serves this directory")

	// ErrChanged: the path does not hold what the caller expected. Nothing was
	// changed there; look again.
	ErrChanged = errors.New("changed on disk meanwhile")
	// ErrChanging: the file changed while it was read, or so recently that a
	// further change might not show. Try again later.
	ErrChanging = errors.New("still changing")
	// ErrNotEmpty: the directory still holds something.
	ErrNotEmpty = errors.New("directory not empty")
	// ErrNoSpace: the disk is full, a quota is reached, or free space would
	// fall below the floor.
	ErrNoSpace = errors.New("not enough free space")
	// ErrDiskFailed: a sync failed. What was written before is not known to
	// be durable. Stop the folder, open it again and verify; never retry.
	ErrDiskFailed = errors.New("the disk failed to store data")
	// ErrNotFile: the path is no regular file.
	ErrNotFile = errors.New("not a regular file")
	// ErrNotDirectory: a directory of the path is a file, a symbolic link, or
	// on another mounted file system.
	ErrNotDirectory = errors.New("not a directory of this folder")
	// ErrName: the path cannot name a file of a folder.
	ErrName = errors.New("name cannot be used")
	// ErrBusy: the temporary file is open already.
	ErrBusy = errors.New("in use")
	// ErrUnsupported: this file system or system cannot do that.
	ErrUnsupported = errors.ErrUnsupported
)

// A RootError says why a folder cannot be used and what a person can do.
// Is is one of ErrNoMarker, ErrWrongMarker, ErrRootGone, ErrMarked, ErrLocked,
// or why the lock cannot be taken: ErrNotFile, fs.ErrPermission.
type RootError struct {
	Is     error
	Root   string
	Detail string
	Remedy string
}

// Error gives the problem without the remedy.
func (e *RootError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("folder %s: %v", e.Root, e.Is)
	}
	return fmt.Sprintf("folder %s: %v: %s", e.Root, e.Is, e.Detail)
}

// Unwrap makes errors.Is find the kind.
func (e *RootError) Unwrap() error { return e.Is }
