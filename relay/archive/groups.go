package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/replication/group"
)

// A Limit is what a group may keep.
type Limit struct {
	Bytes   uint64 // of blocks
	Records uint64
}

// RecordBytes is how many bytes of records a group may keep: they are small beside its
// blocks, unless somebody means harm.
func (l Limit) RecordBytes() uint64 { return max(l.Bytes/4, 64<<20) }

// use is what a group keeps.
type use struct {
	Bytes       uint64
	Records     uint64
	RecordBytes uint64
}

// A hosted group.
type hosted struct {
	id    group.ID
	log   *group.Log
	limit Limit
	use   use
	said  uint64 // statements that are stored
}

// groupRow is what is stored of a hosted group.
type groupRow struct {
	_                             struct{} `cbor:",toarray"`
	MostBytes, MostRecords        uint64
	Bytes, Records, RecordedBytes uint64
}

func (g *hosted) row() groupRow {
	return groupRow{MostBytes: g.limit.Bytes, MostRecords: g.limit.Records, Bytes: g.use.Bytes, Records: g.use.Records, RecordedBytes: g.use.RecordBytes}
}

func (a *Archive) loadGroups(ctx context.Context, t *tx) error {
	keys, err := t.keys([]byte{tabGroup}, 0)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		var row groupRow
		if _, err := t.load(k, &row); err != nil || len(k) != 17 {
			return errors.Join(err, fmt.Errorf("group %x: %w", k[1:], ErrDamaged))
		}
		g := &hosted{id: group.ID(k[1:]), limit: Limit{row.MostBytes, row.MostRecords}, use: use{row.Bytes, row.Records, row.RecordedBytes}}
		var said []group.Statement
		it := a.db.NewIterator(util.BytesPrefix(key(tabSaid, g.id[:])), nil)
		if err := each(it, nil, func(_, v []byte) (bool, error) {
			s, err := group.ParseStatement(append([]byte(nil), v...))
			said = append(said, s)
			return err == nil, err
		}); err != nil {
			return fmt.Errorf("statements of group %s: %w: %w", g.id, ErrDamaged, err)
		}
		g.said = uint64(len(said))
		g.log = group.NewLog(g.id)
		if len(said) > 0 {
			if g.log, err = group.LoadLog(said); err != nil {
				return fmt.Errorf("statements of group %s: %w: %w", g.id, ErrDamaged, err)
			}
		}
		a.groups[g.id] = g
	}
	return nil
}

// Host makes the archive keep things for a group, or changes what the group may keep.
// Less than it keeps already takes nothing away.
func (a *Archive) Host(id group.ID, limit Limit) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	next := hosted{id: id, log: group.NewLog(id), limit: limit}
	if g != nil {
		next = *g
		next.limit = limit
	}
	t := a.begin()
	t.put(key(tabGroup, id[:]), encode(next.row()))
	if err := a.commit(t); err != nil {
		return fmt.Errorf("host group %s: %w", id, err)
	}
	a.groups[id] = &next
	return nil
}

// Hear takes in statements of a group: those that are new are durable when it returns,
// and are given back. What does not belong to the group is an error, and nothing of
// the list is taken in then.
func (a *Archive) Hear(id group.ID, list []group.Statement) ([]group.Statement, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return nil, fmt.Errorf("hear statements of group %s: %w", id, ErrNotHosted)
	}
	return a.hear(g, list)
}

// Speak has fn make statements on top of what is known of a group, and takes them in as
// Hear does. fn must not change the log, and must not keep it beyond what it says next:
// an admission may, for the same log grows.
func (a *Archive) Speak(id group.ID, fn func(*group.Log) ([]group.Statement, error)) ([]group.Statement, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return nil, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	list, err := fn(g.log)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return a.hear(g, list)
}

// GroupOfPaper gives the hosted group whose recovery phrase is a paper device's.
func (a *Archive) GroupOfPaper(paper group.DeviceID) (group.ID, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, g := range a.groups {
		if m, ok := g.log.Evaluate().Member(paper); ok && m.Paper {
			return id, true
		}
	}
	return group.ID{}, false
}

// hear is Hear for who holds the lock.
func (a *Archive) hear(g *hosted, list []group.Statement) ([]group.Statement, error) {
	id := g.id
	// A Log that failed half-way is not to be used: so it is tried on a copy.
	next := group.NewLog(id)
	if known := g.log.Statements(); len(known) > 0 {
		var err error
		if next, err = group.LoadLog(known); err != nil {
			return nil, fmt.Errorf("hear statements of group %s: %w", id, err)
		}
	}
	added, err := next.Add(list...)
	if err != nil {
		return nil, fmt.Errorf("hear statements of group %s: %w", id, err)
	}
	t := a.begin()
	said := g.said
	for _, s := range added {
		t.put(key(tabSaid, id[:], number(said)), s.Encode())
		said++
	}
	if err := a.commit(t); err != nil {
		return nil, fmt.Errorf("hear statements of group %s: %w", id, err)
	}
	// The same log grows: an admission under way refers to it. What the copy took, it
	// takes.
	if _, err := g.log.Add(added...); err != nil {
		g.log = next
	}
	g.said = said
	return added, nil
}

// Group gives what a group's statements come to, as far as they are here.
func (a *Archive) Group(id group.ID) (group.State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return group.State{}, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	return g.log.Evaluate(), nil
}

// A Usage is what a group keeps, and may keep.
type Usage struct {
	Group   group.ID
	Bytes   uint64 // of blocks, also of what is in the trash
	Records uint64
	Limit   Limit
}

// Usage gives the use of one group.
func (a *Archive) Usage(id group.ID) (Usage, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return Usage{}, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	return g.usage(), nil
}

func (g *hosted) usage() Usage { return Usage{g.id, g.use.Bytes, g.use.Records, g.limit} }

// Usages gives the use of all hosted groups.
func (a *Archive) Usages() []Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Usage, 0, len(a.groups))
	for _, g := range a.groups {
		out = append(out, g.usage())
	}
	return out
}

// Tell says which statements of a group are here.
func (a *Archive) Tell(id group.ID) (group.Heads, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return group.Heads{}, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	return g.log.Tell(), nil
}

// Lacking gives the statements of a group that somebody lacks who has those told of.
func (a *Archive) Lacking(id group.ID, h group.Heads) ([]group.Batch, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return nil, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	return g.log.Lacking(h)
}

// Knows tells whether any statement of a hosted group is here: who belongs to it can
// then be told.
func (a *Archive) Knows(id group.ID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	return g != nil && g.log.Len() > 0
}
