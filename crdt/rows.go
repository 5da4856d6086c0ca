package crdt

import "fmt"

// Rows is where a folder's index and its view are kept: on a database
// transaction (package store) or in maps ([MemRows]).
//
// [Apply] does all its reading before its first write, so an implementation may
// gather the writes and carry them out at the end. A failed write leaves the
// rows unusable: throw the transaction away.
type Rows interface {
	// Entry gives an entry's state.
	Entry(id EntryID) (Entry, bool, error)
	// Node gives the derived row of an entry, and of Root.
	Node(id EntryID) (Node, bool, error)
	// PutEntry stores an entry whose state has changed, or that is new, with its
	// derived row. A store gives it a new sequence number, in the order of calls.
	PutEntry(e Entry, n Node) error
	// PutNode stores a derived row, of Root too, where the entry's state has not
	// changed.
	PutNode(id EntryID, n Node) error
	// Named gives the linked entries of a directory with that key, in any order.
	Named(parent EntryID, key string) ([]EntryID, error)
	// Link and Unlink add and take away what Named gives: the visible entries
	// standing under parent whose own name (Node.At.Name, not the shown one) has
	// that NameKey.
	Link(parent EntryID, key string, id EntryID) error
	Unlink(parent EntryID, key string, id EntryID) error
	// Fallen gives the directories that have fallen back because of a cycle, in
	// any order: normally none.
	Fallen() ([]EntryID, error)
	SetFallen(id EntryID, fallen bool) error
}

// Names is the part of Rows that [Find] needs.
type Names interface {
	Node(id EntryID) (Node, bool, error)
	Named(parent EntryID, key string) ([]EntryID, error)
}

// Find resolves a shown name: the visible child of parent shown by that name, or
// by one that is equal to it by [NameKey].
func Find(rows Names, parent EntryID, shown string) (EntryID, bool, error) {
	key := NameKey(shown)
	candidates, err := rows.Named(parent, key)
	if err != nil {
		return EntryID{}, false, fmt.Errorf("find %q under %s: %w", shown, parent, err)
	}
	if base, ok := numberedBase(key); ok {
		more, err := rows.Named(parent, base)
		if err != nil {
			return EntryID{}, false, fmt.Errorf("find %q under %s: %w", shown, parent, err)
		}
		candidates = append(candidates[:len(candidates):len(candidates)], more...)
	}
	candidates = append(candidates[:len(candidates):len(candidates)], identifiedEntries(key)...)
	for _, id := range candidates {
		n, ok, err := rows.Node(id)
		if err != nil {
			return EntryID{}, false, fmt.Errorf("find %q under %s: %w", shown, parent, err)
		}
		if ok && n.Visible() && n.At.Parent == parent && NameKey(n.Shown) == key {
			return id, true, nil
		}
	}
	return EntryID{}, false, nil
}
