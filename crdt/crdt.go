package crdt

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
)

// A FolderID names a replicated folder. It is part of every derived EntryID.
type FolderID [16]byte

// String gives the ID in hexadecimal.
func (id FolderID) String() string { return hex.EncodeToString(id[:]) }

// A ReplicaID names one incarnation of one device's index database of one
// folder: eight random bytes drawn when the database is made, and drawn anew
// when it may have been restored from a copy, so that a Dot is never made twice.
type ReplicaID [8]byte

// String gives the ID in hexadecimal.
func (id ReplicaID) String() string { return hex.EncodeToString(id[:]) }

// An EntryID names an entry for ever. The root directory's is all zero.
type EntryID [16]byte

// Root is the EntryID of the folder's own directory. It has no Entry.
var Root EntryID

// String gives the ID in hexadecimal.
func (id EntryID) String() string { return hex.EncodeToString(id[:]) }

// Compare orders IDs by their bytes.
func (id EntryID) Compare(other EntryID) int { return bytes.Compare(id[:], other[:]) }

// A ContentHash names the content of a file or symbolic link: the SHA-256 of
// its bytes when it is one block (or none), else of its block list; of the
// target for a symbolic link.
type ContentHash [32]byte

// String gives the hash in hexadecimal.
func (h ContentHash) String() string { return hex.EncodeToString(h[:]) }

// A Dot is one local change: the Counter'th of its Replica. Counters start at
// one, rise strictly and are durable before the change leaves the process.
type Dot struct {
	Replica ReplicaID
	Counter uint64
}

// Compare orders dots by replica, then counter.
func (d Dot) Compare(e Dot) int {
	if c := bytes.Compare(d.Replica[:], e.Replica[:]); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, e.Counter)
}

// String gives the dot as replica:counter.
func (d Dot) String() string { return fmt.Sprintf("%s:%d", d.Replica, d.Counter) }

// A Stamp orders the values of a register, by Count, then Time, then Replica.
// Count is one more than the greatest Count the writer had seen in that
// register, so whoever had seen a value outranks it whatever the clocks say.
// Time is the writer's wall clock in Unix milliseconds: it decides only between
// changes that are truly concurrent, and never what has been seen.
type Stamp struct {
	Count   uint64
	Time    int64
	Replica ReplicaID
}

// Compare orders stamps by Count, Time and Replica.
func (s Stamp) Compare(t Stamp) int {
	if c := cmp.Compare(s.Count, t.Count); c != 0 {
		return c
	}
	return s.compareTime(t)
}

// compareTime orders stamps of different registers, whose Counts do not
// compare: by Time, then Replica.
func (s Stamp) compareTime(t Stamp) int {
	if c := cmp.Compare(s.Time, t.Time); c != 0 {
		return c
	}
	return bytes.Compare(s.Replica[:], t.Replica[:])
}

// Kind is what an entry is. It is part of its identity and never changes.
type Kind uint8

// The kinds of entries.
const (
	Directory Kind = iota + 1
	File
	Symlink
)

// String gives the kind's name.
func (k Kind) String() string {
	switch k {
	case Directory:
		return "directory"
	case File:
		return "file"
	case Symlink:
		return "symlink"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Location is where an entry is: under which directory, by what name.
type Location struct {
	Parent EntryID
	Name   string
}

// A Place is the register of an entry's location. From is the location it was
// moved from (for a new entry, the same location): where the entry falls back
// to when concurrent moves form a cycle.
type Place struct {
	Stamp Stamp
	Location
	From Location
}

// Attrs is the register of changes to metadata alone. Mode holds the
// permission bits (at most 0o7777). MTime is a modification time in Unix
// nanoseconds, in force only when HasMTime is set: a change of mode alone
// leaves the time of the content in force.
//
// Its Stamp and those of Versions count together, so that whichever came later
// in one person's eyes is the later.
type Attrs struct {
	Stamp    Stamp
	Mode     uint32
	MTime    int64
	HasMTime bool
}

// A Version is one content of a file or symbolic link.
type Version struct {
	Stamp   Stamp
	Author  string      // label of the device that wrote it, for people
	Content ContentHash // see ContentHash
	Size    int64       // bytes
	Blocks  uint32      // number of blocks: 0 for no bytes, 1 when Content is the hash of the bytes
	MTime   int64       // Unix nanoseconds
	Target  string      // of a symbolic link only
}

// A Facet is what one Dot contributes to an entry being alive: a Version, or,
// where Version is nil, a mere presence (the dot of a directory, a move, or a
// change of metadata).
type Facet struct {
	Dot     Dot
	Version *Version
}

// An Entry is the state of one file, directory or symbolic link.
//
// Live is sorted by Dot and, under one dot, by Version, a presence first (more
// than one only when a replica repeated itself). Seen holds every dot on this entry
// that this state has taken in; every dot of Live is in Seen. Last is the
// greatest Version ever known by Stamp and is never cleared; nil for
// directories.
type Entry struct {
	ID    EntryID
	Kind  Kind
	Place Place
	Attrs Attrs
	Live  []Facet
	Last  *Version
	Seen  VersionVector
}
