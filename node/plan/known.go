package plan

import (
	"sheaf/crdt"
	"sheaf/node/stat"
)

// An Item is one name in a directory of the disk and what stands there. Kind
// None says that the name was looked for and nothing is there.
type Item struct {
	Name string
	Stat stat.Stat
}

// Known is a base row of an entry that is on this disk: what the disk was last
// known to show, and what it was made to show.
type Known struct {
	ID      crdt.EntryID
	At      crdt.Location // under which directory, by what name, on this disk
	Place   crdt.Location // where the state that the disk has taken in says it is
	Kind    crdt.Kind
	Stat    stat.Stat // as the disk said when it last agreed
	Content crdt.ContentHash
	// Mode and MTime are what was put there or read from there: the entry's own.
	// A disk that cannot hold them says something else in Stat.
	Mode  uint32
	MTime int64
}

// MovedAway tells whether a base row may have moved to where its file was newly
// seen, given what now stands at its old path: not if it still holds the file
// (the new name is a hard link), and not if it was refilled by a file that is no
// other entry's (an editor kept the old content as a backup and wrote the entry
// anew). It is for the caller's half of [Bind]'s elsewhere.
func MovedAway(k Known, atOld stat.Stat, othersFile bool) bool {
	switch {
	case atOld.Kind == stat.None:
		return true
	case k.Stat.SameFile(atOld) || k.Stat.Inode == atOld.Inode && k.Stat.Device == atOld.Device:
		return false
	}
	return k.Kind == crdt.Directory || othersFile || kindOf(atOld.Kind) != k.Kind
}

// Smudge gives the stat to remember of a file that was put in place at the time
// now (Unix nanoseconds) with the modification time it has elsewhere, on a disk
// whose clock ticks every grain nanoseconds. If that time is less than a tick ago,
// whoever writes the file within the tick leaves all its times as they are. Its
// change time is then forgotten, so that the next look reads it; it is never taken
// for rot. (The remedy is git's for its "racy" index entries. Files that are read
// need none: they are not read before their tick is over.)
func Smudge(s stat.Stat, now, grain int64) stat.Stat {
	if s.Modified > now-grain {
		s.Changed = smudged
	}
	return s
}

// Retimed gives the stat to remember of a file whose mode or time was set in place. To set
// them covers the traces of whoever wrote the file after it was last read, so what the disk
// says afterwards must not pass for the stat of what was read: the change time is forgotten,
// as in [Smudge], and the next look reads the file, also under a new name. (The change time
// from before would do where the file stays: but who renames it moves that time as well.)
func Retimed(s stat.Stat) stat.Stat {
	if s.Kind == stat.File {
		s.Changed = smudged
	}
	return s
}

// smudged is a change time that no file has.
const smudged = -1

// kindOf gives the kind of entry that such a file would be, zero for none.
func kindOf(k stat.Kind) crdt.Kind {
	switch k {
	case stat.File:
		return crdt.File
	case stat.Directory:
		return crdt.Directory
	case stat.Symlink:
		return crdt.Symlink
	}
	return 0
}
