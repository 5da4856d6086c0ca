package group

import (
	"errors"
	"fmt"
)

// How two sides of /sheaf/groups/1 come to hold the same statements: each sends
// Log.Tell, answers the other's with the batches of Log.Lacking, and adds what it
// gets by Log.Take. A new statement goes to connected members at once, in a Batch
// of Log.Batch. Should a side end with Log.Missing (its orphans gave way), it
// tells again.

// Tell says what this log has.
func (l *Log) Tell() Heads {
	h := Heads{Group: l.group, Heads: l.Heads()}
	if len(h.Heads) > maxArray/2 {
		h.Heads = h.Heads[:maxArray/2]
	}
	order := l.ordered()
	for back := 2; back <= len(order); back *= 2 {
		h.Older = append(h.Older, order[len(order)-back].id)
	}
	return h
}

// Lacking gives what the other side lacks as far as its Heads tell, in batches
// that can be added one after the other; none if it lacks nothing. It may include
// statements that the other side has, never leaves out one that it has not.
// ErrForeign if it speaks of another group.
func (l *Log) Lacking(h Heads) ([]Batch, error) {
	if h.Group != l.group {
		return nil, fmt.Errorf("exchange statements: %w", ErrForeign)
	}
	has := newBits(len(l.nodes))
	for _, ids := range [][]StatementID{h.Heads, h.Older} {
		for _, id := range ids {
			if n := l.byID[id]; n != nil {
				has.union(n.past)
				has.set(n.index)
			}
		}
	}
	var lacking []Statement
	for _, n := range l.ordered() {
		if !has.has(n.index) {
			lacking = append(lacking, n.Statement)
		}
	}
	if len(lacking) == 0 {
		return nil, nil
	}
	return l.Batch(lacking...), nil
}

// Batch puts statements into messages.
func (l *Log) Batch(statements ...Statement) []Batch {
	var out []Batch
	for _, p := range pages(statements) {
		out = append(out, Batch{Group: l.group, Statements: p, More: true})
	}
	out[len(out)-1].More = false
	return out
}

// Take adds a batch from another side. Returned are the statements that entered
// the log, for the caller to store and to pass on. The error joins what was wrong
// with others: the sender is faulty or hostile, but what was good stays.
func (l *Log) Take(b Batch) ([]Statement, error) {
	if b.Group != l.group {
		return nil, fmt.Errorf("take statements: %w", ErrForeign)
	}
	var good []Statement
	var errs []error
	for _, raw := range b.Statements {
		s, err := ParseStatement(raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		good = append(good, s)
	}
	added, err := l.Add(good...)
	return added, errors.Join(append(errs, err)...)
}
