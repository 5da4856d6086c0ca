package disk

import (
	"io"

	"sheaf/node/stat"
)

// FS is a directory tree as this package needs it: the real one (NewOS), or a
// simulated one in tests. Every path is slash-separated, relative to the root
// and valid by io/fs.ValidPath; no method follows a symbolic link, neither in
// a directory of the path nor in its last name. All methods may be called
// concurrently, Close last.
//
// Absent, occupied and forbidden names are reported as io/fs's errors, the
// rest as this package's: ErrNoSpace, ErrNotEmpty, ErrNotDirectory,
// ErrUnsupported, ErrNotFile.
type FS interface {
	// Name is the root's path, for messages and for the watcher.
	Name() string
	// Check tells whether Name still leads to the directory that was opened;
	// ErrRootGone if not.
	Check() error

	Lstat(path string) (stat.Stat, error)
	// List gives all names of a directory with what lstat says of them, in no
	// order, without "." and "..". A name that vanishes meanwhile is left out.
	List(dir string) ([]Entry, error)
	// Names gives all names of a directory in no order, as List does, and nothing of
	// what they lead to: that is much cheaper.
	Names(dir string) ([]string, error)
	// Open opens a regular file for reading; anything else is ErrNotFile and
	// is not opened.
	Open(path string) (File, error)
	// OpenWrite opens an existing regular file for reading and writing.
	OpenWrite(path string) (File, error)
	// Create makes a new regular file, fs.ErrExist if the name is taken.
	Create(path string, mode uint32) (File, error)
	Readlink(path string) (string, error)
	Mkdir(path string, mode uint32) error
	Symlink(target, path string) error
	// Link makes a second name for a file or symbolic link; fs.ErrExist if the
	// name is taken, ErrUnsupported where there are no hard links.
	Link(from, to string) error

	// RenameNew renames and never replaces: fs.ErrExist if to is taken. Where
	// the system cannot do both in one step, files are linked and unlinked,
	// and what cannot be linked is renamed after a look.
	RenameNew(from, to string) error
	// Rename renames, replacing a file or symbolic link at to.
	Rename(from, to string) error
	// Exchange swaps two names in one step; ErrUnsupported where there is no
	// such step.
	Exchange(a, b string) error
	// Remove unlinks a file or symbolic link, never a directory.
	Remove(path string) error
	// RemoveDir removes an empty directory, else ErrNotEmpty.
	RemoveDir(path string) error

	// Chmod sets permission bits (0o7777) of a file or directory.
	Chmod(path string, mode uint32) error
	// Chtimes sets the modification time, in Unix nanoseconds, of a file,
	// directory or link itself.
	Chtimes(path string, mtime int64) error

	// Lock opens a regular file, which it makes (0600) if need be, and takes its
	// lock, which is held until that File is closed, even if closing fails, or the
	// process ends, however it ends. ErrLocked while somebody holds it, through this
	// FS or another, in this process or another; ErrUnsupported where the file
	// system has no locks. What may not be written is locked, too, and opened for
	// reading alone.
	Lock(path string) (File, error)

	// Sync makes the named paths durable: of files bytes and attributes, of
	// directories the names in them. It may do more; without a path it does
	// all of the file system. Any error means that data may be lost.
	Sync(paths ...string) error
	// Space gives what an unprivileged user may still write, and the size of
	// the file system, in bytes.
	Space() (free, total int64, err error)
	Close() error
}

// An Entry is one name of a directory. Mount is set where another file system
// begins. Err is set if the name is there but cannot be looked at.
type Entry struct {
	Name  string
	Stat  stat.Stat
	Mount bool
	Err   error
}

// File is one open regular file. Its methods may be called concurrently,
// Close last.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (stat.Stat, error)
	Truncate(size int64) error
	// Allocate reserves space for the first size bytes and makes the file at
	// least that long; ErrUnsupported where that would mean writing them.
	Allocate(size int64) error
	// Punch makes a range read as zeros and gives its space back;
	// ErrUnsupported where the disk has no holes.
	Punch(off, n int64) error
	// CopyFrom copies a range of another file of the same FS without moving
	// the bytes through this process, sharing them where the disk can;
	// ErrUnsupported where it cannot. It may copy less than n.
	CopyFrom(src File, srcOff, off, n int64) (int64, error)
	Chmod(mode uint32) error
	Chtimes(mtime int64) error
}
