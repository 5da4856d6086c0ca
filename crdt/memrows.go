package crdt

import (
	"maps"
	"slices"
)

// MemRows is a [Rows] on maps, for tests and for trees that live only in memory.
// It is not safe for concurrent use. Its errors are always nil.
type MemRows struct {
	entries map[EntryID]Entry
	nodes   map[EntryID]Node
	named   map[memGroup][]EntryID
	fallen  map[EntryID]struct{}
}

type memGroup struct {
	parent EntryID
	key    string
}

// NewMemRows gives an empty index.
func NewMemRows() *MemRows {
	return &MemRows{
		entries: map[EntryID]Entry{},
		nodes:   map[EntryID]Node{Root: {}},
		named:   map[memGroup][]EntryID{},
		fallen:  map[EntryID]struct{}{},
	}
}

// Clone gives an independent copy.
func (m *MemRows) Clone() *MemRows {
	c := &MemRows{maps.Clone(m.entries), maps.Clone(m.nodes), make(map[memGroup][]EntryID, len(m.named)), maps.Clone(m.fallen)}
	for g, ids := range m.named {
		c.named[g] = slices.Clone(ids)
	}
	return c
}

// Entries gives all entries, as [View] takes them.
func (m *MemRows) Entries() map[EntryID]Entry { return maps.Clone(m.entries) }

// Tree gives the view as it is kept here.
func (m *MemRows) Tree() Tree { return Tree{Nodes: maps.Clone(m.nodes), Fallen: maps.Clone(m.fallen)} }

// Len gives the number of entries.
func (m *MemRows) Len() int { return len(m.entries) }

// Entry implements [Rows].
func (m *MemRows) Entry(id EntryID) (Entry, bool, error) {
	e, ok := m.entries[id]
	return e, ok, nil
}

// Node implements [Rows].
func (m *MemRows) Node(id EntryID) (Node, bool, error) {
	n, ok := m.nodes[id]
	return n, ok, nil
}

// PutEntry implements [Rows].
func (m *MemRows) PutEntry(e Entry, n Node) error {
	m.entries[e.ID], m.nodes[e.ID] = e, n
	return nil
}

// PutNode implements [Rows].
func (m *MemRows) PutNode(id EntryID, n Node) error {
	m.nodes[id] = n
	return nil
}

// Named implements [Rows].
func (m *MemRows) Named(parent EntryID, key string) ([]EntryID, error) {
	return slices.Clone(m.named[memGroup{parent, key}]), nil
}

// Link implements [Rows].
func (m *MemRows) Link(parent EntryID, key string, id EntryID) error {
	g := memGroup{parent, key}
	if !slices.Contains(m.named[g], id) {
		m.named[g] = append(m.named[g], id)
	}
	return nil
}

// Unlink implements [Rows].
func (m *MemRows) Unlink(parent EntryID, key string, id EntryID) error {
	g := memGroup{parent, key}
	ids := slices.DeleteFunc(m.named[g], func(x EntryID) bool { return x == id })
	if len(ids) == 0 {
		delete(m.named, g)
	} else {
		m.named[g] = ids
	}
	return nil
}

// Fallen implements [Rows].
func (m *MemRows) Fallen() ([]EntryID, error) {
	return slices.SortedFunc(maps.Keys(m.fallen), EntryID.Compare), nil
}

// SetFallen implements [Rows].
func (m *MemRows) SetFallen(id EntryID, fallen bool) error {
	if fallen {
		m.fallen[id] = struct{}{}
	} else {
		delete(m.fallen, id)
	}
	return nil
}
