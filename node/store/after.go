package store

import (
	"encoding/binary"
	"fmt"

	"sheaf/crdt"
)

// After gives entries that have changed after a sequence number, in the order
// of their last changes, and the number up to which everything has been given:
// the cursor for the next call.
//
// An entry is preceded by those of its ancestors (the parents in Place and
// From, and theirs, and so on) that have changed after it; the others were
// given before, in this batch or an earlier one, unless seq is no cursor that
// After gave. So whoever applies the batches in order has every parent at
// hand. Parents that form a cycle come together.
//
// A batch has at most maxEntries entries and maxBytes bytes encoded, except
// that its first entry always comes, with the ancestors that it needs: 1 + the
// number of directories above it that have changed since, which is at most 256
// as people see it, and more only where directories were moved out of one
// another in a long chain and the entry not at all.
//
// Only what is durable is given, or, of an ancestor, what came from a peer and
// would be asked for again. A seq above Folder.Seq gives nothing and itself: that
// peer has heard more of this StoreID than this database knows (it is an older
// copy; see Store.RenewID).
func (r *Reader) After(seq uint64, maxEntries, maxBytes int) (entries []crdt.Entry, next uint64, err error) {
	if err := r.ready(); err != nil {
		return nil, seq, err
	}
	b := batch{r: r, seen: make(map[crdt.EntryID]*changed), maxEntries: maxEntries, maxBytes: maxBytes}
	last := min(r.meta.seq, r.f.Seq())
	next = max(seq, last)
	prefix := r.f.n.key(tabSeq, 0)
	if seq >= last {
		return nil, next, nil
	}
	reached := seq
	full := false
	err = r.view.scan(prefix, r.f.n.seqKey(seq+1), func(k, v []byte) (bool, error) {
		if len(k) != prefixLen+8 || len(v) != idLen {
			return false, errShort
		}
		at := binary.BigEndian.Uint64(k[prefixLen:])
		if at > last {
			return false, nil
		}
		fits, err := b.add(crdt.EntryID(v), at)
		if err != nil || !fits {
			full = !fits
			return false, err
		}
		reached = at
		return true, nil
	})
	if err != nil {
		return nil, seq, r.fail("read changes", err)
	}
	if full {
		next = reached
	}
	return b.entries, next, nil
}

// A batch collects what After gives.
type batch struct {
	r                    *Reader
	entries              []crdt.Entry
	bytes                int
	maxEntries, maxBytes int
	seen                 map[crdt.EntryID]*changed // rows looked at
}

type changed struct {
	row   *row
	given bool
	mark  uint64 // the entry for whose sake it was last visited
}

// add gives the entry changed at seq, ancestors first, or tells that this is
// too much for the batch.
func (b *batch) add(id crdt.EntryID, seq uint64) (fits bool, err error) {
	var chain []*changed
	if err := b.collect(id, seq, &chain); err != nil {
		return false, err
	}
	size := 0
	for _, c := range chain {
		size += len(c.row.enc)
	}
	if len(b.entries) > 0 && (len(b.entries)+len(chain) > b.maxEntries || b.bytes+size > b.maxBytes) {
		return false, nil
	}
	for _, c := range chain {
		e, err := c.row.state()
		if err != nil {
			return false, err
		}
		c.given = true
		b.entries = append(b.entries, e)
	}
	b.bytes += size
	return true, nil
}

// collect adds an entry to chain, behind its ancestors that have changed after
// seq and are not in the batch. It keeps its own stack: a chain of parents may
// be long.
func (b *batch) collect(id crdt.EntryID, seq uint64, chain *[]*changed) error {
	type step struct {
		c       *changed
		parents []crdt.EntryID
	}
	var stack []step
	push := func(id crdt.EntryID, first bool) error {
		c, err := b.look(id)
		if err != nil {
			return err
		}
		if c.given || c.mark == seq || !first && c.row.seq <= seq {
			return nil
		}
		e, err := c.row.state()
		if err != nil {
			return err
		}
		c.mark = seq
		stack = append(stack, step{c, []crdt.EntryID{e.Place.Parent, e.Place.From.Parent}})
		return nil
	}
	if err := push(id, true); err != nil {
		return err
	}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.parents) == 0 {
			*chain = append(*chain, top.c)
			stack = stack[:len(stack)-1]
			continue
		}
		parent := top.parents[0]
		top.parents = top.parents[1:]
		if parent == crdt.Root {
			continue
		}
		if err := push(parent, false); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) look(id crdt.EntryID) (*changed, error) {
	if c, ok := b.seen[id]; ok {
		return c, nil
	}
	w, err := b.r.row(id)
	if err != nil {
		return nil, err
	}
	if w == nil || !w.indexed() {
		return nil, fmt.Errorf("entry %s is referred to and has no row", id)
	}
	c := &changed{row: w}
	b.seen[id] = c
	return c, nil
}
