// Package stat is what a file system says about one name, and what of it tells
// that a file is still the one that was looked at before.
//
// It is the border between the packages that look at a disk (node/disk), that
// decide (node/plan) and that remember (node/store), and knows none of them.
// It does no I/O.
package stat

import "fmt"

// Kind is the type of a directory entry.
type Kind uint8

// The kinds that are told apart. Everything that is neither a regular file, a
// directory nor a symbolic link (sockets, devices, FIFOs) is Other.
const (
	None Kind = iota
	File
	Directory
	Symlink
	Other
)

// String gives the kind's name.
func (k Kind) String() string {
	switch k {
	case None:
		return "none"
	case File:
		return "file"
	case Directory:
		return "directory"
	case Symlink:
		return "symlink"
	}
	return "special file"
}

// A Stat is one answer of lstat. Times are Unix nanoseconds, as coarse as the
// file system keeps them. Born is zero where the system has no birth time;
// Changed (ctime) and Inode are zero where it has none of these.
type Stat struct {
	Kind     Kind
	Mode     uint32 // permission bits, with set-ID and sticky as in 0o7777
	Size     int64  // bytes; zero for directories
	Modified int64
	Changed  int64
	Born     int64
	Inode    uint64
	Device   uint64
	Links    uint32
}

// Unchanged tells whether a file that was seen as s and is seen as t can be
// taken to hold the same bytes without reading them: the same file, size,
// modification and change time.
func (s Stat) Unchanged(t Stat) bool {
	return s.SameContent(t) && s.Changed == t.Changed
}

// SameContent is Unchanged without the change time, which a rename or a chmod
// moves too.
func (s Stat) SameContent(t Stat) bool {
	return s.Kind == t.Kind && s.Size == t.Size && s.Modified == t.Modified && s.Inode == t.Inode
}

// SameFile tells whether s and t are the same file under perhaps another
// name: the same kind, inode and, where there is one, birth time. An inode
// number alone is used again after a deletion, so without a birth time the
// answer is true only if size and modification time agree as well.
func (s Stat) SameFile(t Stat) bool {
	if s.Inode == 0 || s.Inode != t.Inode || s.Device != t.Device || s.Kind != t.Kind {
		return false
	}
	if s.Born != 0 && t.Born != 0 {
		return s.Born == t.Born
	}
	return s.Kind != Directory && s.Size == t.Size && s.Modified == t.Modified
}

// OtherFile tells whether s and t are not known to be one file: where neither has
// a birth time, those of one inode number are, whatever their times and sizes.
func (s Stat) OtherFile(t Stat) bool {
	if s.SameFile(t) {
		return false
	}
	oneNumber := s.Inode != 0 && s.Inode == t.Inode && s.Device == t.Device && s.Kind == t.Kind
	return !oneNumber || s.Born != 0 && t.Born != 0
}

// String gives the parts that matter when a test fails.
func (s Stat) String() string {
	return fmt.Sprintf("%s %o size=%d mtime=%d ctime=%d ino=%d born=%d", s.Kind, s.Mode, s.Size, s.Modified, s.Changed, s.Inode, s.Born)
}
