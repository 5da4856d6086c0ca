package group

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
)

// Bounds of what waits in a Log for statements that it builds on.
const (
	maxOrphans     = 1024
	maxOrphanBytes = 8 << 20
)

// A Log is the set of a group's statements that this device has, closed under
// parents: what a statement builds on is there before it is. Statements that
// came too early wait in bounded room, the oldest giving way; being asked for
// again is all that happens to one that is dropped.
//
// The set is all there is: nothing in a Log depends on the order of arrival.
type Log struct {
	group ID
	nodes []*node // in order of arrival, which nothing depends on
	byID  map[StatementID]*node
	heads map[StatementID]bool

	admits map[DeviceID][]*node // Genesis, Add and Join that admit a device
	roles  map[DeviceID][]*node // SetRole on a device

	orphans     map[StatementID]Statement
	orphanQueue []StatementID
	orphanBytes int

	state atomic.Pointer[State] // of this set, once asked for
}

// A node is a statement in its place in the graph. It never changes.
type node struct {
	Statement
	index int  // in Log.nodes
	depth int  // longest way from the Genesis
	past  bits // indices of all its ancestors
}

// sees tells whether m is an ancestor of n.
func (n *node) sees(m *node) bool { return n.past.has(m.index) }

// concurrent tells whether neither author had seen the other's statement.
func concurrent(n, m *node) bool { return n != m && !n.sees(m) && !m.sees(n) }

// compare is the order in which statements count: no statement comes before one
// that it builds on, and no later arrival changes the order of two.
func (n *node) compare(m *node) int {
	return cmp.Or(cmp.Compare(n.depth, m.depth), n.id.compare(m.id))
}

// NewLog gives the empty log of a group.
func NewLog(group ID) *Log {
	return &Log{
		group: group, byID: map[StatementID]*node{}, heads: map[StatementID]bool{},
		admits: map[DeviceID][]*node{}, roles: map[DeviceID][]*node{}, orphans: map[StatementID]Statement{},
	}
}

// LoadLog makes a log of statements in any order, all of one group. It is an
// error if one is refused or lacks what it builds on.
func LoadLog(statements []Statement) (*Log, error) {
	if len(statements) == 0 {
		return nil, fmt.Errorf("load log: no statements: %w", ErrMalformed)
	}
	l := NewLog(statements[0].Group())
	if _, err := l.Add(statements...); err != nil {
		return nil, fmt.Errorf("load log: %w", err)
	}
	if missing := l.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("load log: %d statements lack %s: %w", len(l.orphans), missing[0], ErrMalformed)
	}
	return l, nil
}

// Add takes in statements. Those that entered the set are returned in an order
// in which they can be stored and added again; they may include earlier orphans
// that now found their parents. Statements that are there already or wait for
// parents are no error. The error joins those of the refused (ErrForeign,
// ErrUnauthorized, ErrMalformed, ErrFull); all others were taken in.
func (l *Log) Add(statements ...Statement) ([]Statement, error) {
	var added []Statement
	var errs []error
	for _, s := range statements {
		for queue := []Statement{s}; len(queue) > 0; queue = queue[1:] {
			ok, err := l.add(queue[0])
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", queue[0], err))
			}
			if ok {
				added = append(added, queue[0])
				queue = append(queue, l.adoptable(queue[0].id)...)
			}
		}
	}
	return added, errors.Join(errs...)
}

func (l *Log) add(s Statement) (bool, error) {
	if s.IsZero() || s.Group() != l.group {
		return false, ErrForeign
	}
	if l.byID[s.id] != nil {
		return false, nil
	}
	if !l.complete(s) {
		l.keepOrphan(s)
		return false, nil
	}
	if len(l.nodes) >= MaxStatements {
		return false, ErrFull
	}
	n := l.place(s)
	if err := l.justified(n); err != nil {
		return false, err
	}
	l.insert(n)
	return true, nil
}

func (l *Log) complete(s Statement) bool {
	return !slices.ContainsFunc(s.b.Parents, func(p StatementID) bool { return l.byID[p] == nil })
}

func (l *Log) place(s Statement) *node {
	n := &node{Statement: s, index: len(l.nodes), past: newBits(len(l.nodes))}
	for _, p := range s.b.Parents {
		parent := l.byID[p]
		n.past.union(parent.past)
		n.past.set(parent.index)
		n.depth = max(n.depth, parent.depth+1)
	}
	return n
}

func (l *Log) insert(n *node) {
	l.nodes = append(l.nodes, n)
	l.byID[n.id] = n
	for _, p := range n.b.Parents {
		delete(l.heads, p)
	}
	l.heads[n.id] = true
	for _, d := range n.admitted() {
		l.admits[d] = append(l.admits[d], n)
	}
	if r := n.b.Role; r != nil {
		l.roles[r.Device] = append(l.roles[r.Device], n)
	}
	l.state.Store(nil)
}

func (l *Log) keepOrphan(s Statement) {
	if _, ok := l.orphans[s.id]; ok {
		return
	}
	l.orphans[s.id] = s
	l.orphanQueue = append(l.orphanQueue, s.id)
	l.orphanBytes += len(s.raw)
	for len(l.orphans) > maxOrphans || l.orphanBytes > maxOrphanBytes {
		l.dropOrphan(l.orphanQueue[0])
	}
}

func (l *Log) dropOrphan(id StatementID) {
	l.orphanBytes -= len(l.orphans[id].raw)
	delete(l.orphans, id)
	l.orphanQueue = slices.DeleteFunc(l.orphanQueue, func(o StatementID) bool { return o == id })
}

// adoptable takes out the orphans that waited for parent and nothing else.
func (l *Log) adoptable(parent StatementID) []Statement {
	var out []Statement
	for _, id := range slices.Clone(l.orphanQueue) {
		s := l.orphans[id]
		if slices.Contains(s.b.Parents, parent) && l.complete(s) {
			l.dropOrphan(id)
			out = append(out, s)
		}
	}
	return out
}

// Group is the group the log is of.
func (l *Log) Group() ID { return l.group }

// Len is the number of statements in the set.
func (l *Log) Len() int { return len(l.nodes) }

// Has tells whether a statement is in the set.
func (l *Log) Has(id StatementID) bool { return l.byID[id] != nil }

// Get gives a statement of the set.
func (l *Log) Get(id StatementID) (Statement, bool) {
	n := l.byID[id]
	if n == nil {
		return Statement{}, false
	}
	return n.Statement, true
}

// Heads are the statements that no other builds on, ascending.
func (l *Log) Heads() []StatementID {
	return slices.SortedFunc(maps.Keys(l.heads), StatementID.compare)
}

// Missing are the statements that orphans wait for, ascending.
func (l *Log) Missing() []StatementID {
	missing := map[StatementID]bool{}
	for _, s := range l.orphans {
		for _, p := range s.b.Parents {
			if _, waits := l.orphans[p]; !waits && l.byID[p] == nil {
				missing[p] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(missing), StatementID.compare)
}

// Statements gives the whole set in the order in which statements count, which
// puts each after all that it builds on.
func (l *Log) Statements() []Statement {
	out := make([]Statement, 0, len(l.nodes))
	for _, n := range l.ordered() {
		out = append(out, n.Statement)
	}
	return out
}

func (l *Log) ordered() []*node {
	return slices.SortedFunc(slices.Values(l.nodes), (*node).compare)
}

// with gives a log that has the statements, too, and leaves l as it is.
func (l *Log) with(statements ...Statement) (*Log, error) {
	c := NewLog(l.group)
	c.nodes = slices.Clip(l.nodes)
	maps.Copy(c.byID, l.byID)
	maps.Copy(c.heads, l.heads)
	for d, ns := range l.admits {
		c.admits[d] = slices.Clip(ns)
	}
	for d, ns := range l.roles {
		c.roles[d] = slices.Clip(ns)
	}
	if _, err := c.Add(statements...); err != nil {
		return nil, err
	}
	return c, nil
}
