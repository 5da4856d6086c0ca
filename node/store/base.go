package store

import (
	"sheaf/crdt"
	"sheaf/node/stat"
)

// A Base is what the disk has taken in of an entry. There is one for each
// entry that the disk has ever settled, those it knows as dead included.
type Base struct {
	ID    crdt.EntryID
	Entry crdt.Entry // the state the disk has taken in
	Here  bool       // it is on the disk
	// What follows is kept only while Here.
	At    crdt.Location // under which directory it is, by the name on the disk
	Alias string        // the view's name that At.Name stands for; "" when it is that name itself
	Stat  stat.Stat     // as seen when it was put there or last agreed with
}

// Name is the name in the view that the file on the disk shows: At.Name, or
// the one that At.Name is an alias for.
func (b Base) Name() string {
	if b.Alias != "" {
		return b.Alias
	}
	return b.At.Name
}

// A BaseStat is the part of a base row that tells whether a file is still as it
// was left: what a directory's listing is compared with.
type BaseStat struct {
	ID   crdt.EntryID
	Name string // on the disk
	Stat stat.Stat
}
