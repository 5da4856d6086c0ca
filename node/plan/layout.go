package plan

import "sheaf/crdt"

// layout is where everything stands as the plan goes on: the base, and over it
// what has been planned.
type layout struct {
	r     Reader
	nodes map[crdt.EntryID]*node
	slots map[crdt.Location]slot
}

// node is one entry in the plan.
type node struct {
	id     crdt.EntryID
	state  walkState
	known  bool // by the index
	target Target
	row    bool // in the base
	base   Known
	behind bool

	wasHere    bool          // on the disk, when the plan began
	here       bool          // and as it goes on
	at         crdt.Location // where
	arrived    int           // the operation that brought it there, or none
	left       int           // the one that took it from where it was
	waitsFor   crdt.EntryID
	skipCopies bool // its conflict copies depend on it
}

// walkState is how far the walk has come with an entry.
type walkState uint8

const (
	unseen walkState = iota
	open             // on the stack
	done             // planned
)

// slot is what the plan has made of a name: who holds it, nil for nobody, and
// the operation that freed it.
type slot struct {
	holder *node
	freed  int
}

// node gives the entry's node. The root is one that is always there.
func (l *layout) node(id crdt.EntryID) (*node, error) {
	if n, ok := l.nodes[id]; ok {
		return n, nil
	}
	n := &node{id: id, arrived: none, left: none}
	if id == crdt.Root {
		n.state, n.here, n.wasHere = done, true, true
		l.nodes[id] = n
		return n, nil
	}
	var err error
	if n.target, n.known, err = l.r.Target(id); err != nil {
		return nil, err
	}
	if n.base, n.here, n.row, err = l.r.Base(id); err != nil {
		return nil, err
	}
	if n.behind, err = l.r.Behind(id); err != nil {
		return nil, err
	}
	n.here = n.here && n.row
	n.at, n.wasHere = n.base.At, n.here
	l.nodes[id] = n
	return n, nil
}

// key makes locations equal that are one to the disk.
func (l *layout) key(at crdt.Location) crdt.Location {
	return crdt.Location{Parent: at.Parent, Name: l.r.NameKey(at.Name)}
}

// holder gives who has a name, as the plan goes on, and what freed it if nobody.
func (l *layout) holder(at crdt.Location) (*node, int, error) {
	if s, ok := l.slots[l.key(at)]; ok {
		return s.holder, s.freed, nil
	}
	id, ok, err := l.r.BaseAt(at.Parent, at.Name)
	if err != nil || !ok {
		return nil, none, err
	}
	n, err := l.node(id)
	if err != nil || !n.here || l.key(n.at) != l.key(at) {
		return nil, none, err // not any more
	}
	return n, none, nil
}

// depart says that operation op takes the entry from where it is.
func (l *layout) depart(n *node, op int) {
	l.slots[l.key(n.at)] = slot{freed: op}
	n.left = op
}

// arrive says that operation op brings the entry to a place.
func (l *layout) arrive(n *node, to crdt.Location, op int) {
	if n.here && n.at != to {
		l.depart(n, op)
	}
	l.slots[l.key(to)] = slot{holder: n, freed: none}
	n.here, n.at, n.arrived = true, to, op
}

// under tells whether a directory lies in dir, or is dir, as the plan goes on. A
// base whose directories form a circle says yes.
func (l *layout) under(n, dir *node) (bool, error) {
	for range maxWalk {
		if n == dir {
			return true, nil
		}
		if n.id == crdt.Root || !n.here || n.at.Parent == Staging {
			return false, nil
		}
		var err error
		if n, err = l.node(n.at.Parent); err != nil {
			return false, err
		}
	}
	return true, nil
}

// maxWalk is deeper than directories can be nested, on the disk too.
const maxWalk = 1 << 12
