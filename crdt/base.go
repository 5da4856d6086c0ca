package crdt

import "fmt"

// Base is what a disk shows of a folder: the state that local changes are made
// on. It lags behind the index while content is fetched; what has not reached
// the disk, its person has not seen.
type Base interface {
	// Entry gives the state of an entry as the disk has taken it in, also of one
	// that it knows as dead.
	Entry(id EntryID) (Entry, bool, error)
	// At gives where the disk shows an entry, by its shown name; false when it is
	// not on the disk.
	At(id EntryID) (Location, bool, error)
	// Fallen gives the entries on the disk whose At.Parent is not their
	// Place.Parent: normally none.
	Fallen() ([]EntryID, error)
}

// RowsBase is the [Base] of a disk that shows exactly the tree of Rows: for
// tests, and for trees that are written to without a disk in between.
type RowsBase struct{ Rows Rows }

// Entry implements [Base].
func (b RowsBase) Entry(id EntryID) (Entry, bool, error) { return b.Rows.Entry(id) }

// At implements [Base].
func (b RowsBase) At(id EntryID) (Location, bool, error) {
	n, ok, err := b.Rows.Node(id)
	if err != nil || !ok || !n.Visible() {
		return Location{}, false, err
	}
	return Location{Parent: n.At.Parent, Name: n.Shown}, true, nil
}

// Fallen implements [Base].
func (b RowsBase) Fallen() ([]EntryID, error) {
	ids, err := b.Rows.Fallen()
	if err != nil {
		return nil, err
	}
	var fallen []EntryID
	for _, id := range ids {
		n, _, err := b.Rows.Node(id)
		if err != nil {
			return nil, err
		}
		e, ok, err := b.Rows.Entry(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, fmt.Errorf("fallen entry %s is not there", id)
		}
		if n.Visible() && n.At.Parent != e.Place.Parent {
			fallen = append(fallen, id)
		}
	}
	return fallen, nil
}
