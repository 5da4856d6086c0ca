package crdt

import (
	"fmt"
	"maps"
	"slices"
)

// settlePlaces finds where each entry whose Place changed comes to stand, and
// with them the directories that fall back.
//
// A cycle of places was there before, and then one on it had fallen back, or it
// goes through a directory whose Place has just changed. So it is enough to put
// these two sets where their Places say and to walk up from them. What falls
// back meanwhile lies on the walk that found it.
func (a *applying) settlePlaces() error {
	p := placing{a: a, at: map[EntryID]Location{}, fell: map[EntryID]struct{}{}, depth: map[EntryID]int{Root: 0}}
	placed := a.placed()
	for _, r := range placed {
		if r.entry.Kind == Directory {
			if err := p.raw(r); err != nil {
				return err
			}
		}
	}
	if len(p.order) > 0 {
		if err := p.resolve(); err != nil {
			return err
		}
	}
	for _, r := range placed {
		if r.entry.Kind == Directory {
			continue
		}
		if err := p.walk(r.entry.Place.Parent); err != nil {
			return err
		}
		if p.depth[r.entry.Place.Parent]+1 > MaxChain {
			return tooDeep(r.id)
		}
		a.moves = append(a.moves, move{r, r.entry.Place.Location})
	}
	return nil
}

func tooDeep(id EntryID) error {
	return &BatchError{id, fmt.Sprintf("deeper than %d", MaxChain)}
}

// placed gives the rows whose Place changed.
func (a *applying) placed() []*row {
	var placed []*row
	for _, rs := range [][]*row{a.copies, a.changed} {
		for _, r := range rs {
			if r.placed {
				placed = append(placed, r)
			}
		}
	}
	return placed
}

// placing is the search for cycles.
type placing struct {
	a     *applying
	at    map[EntryID]Location // where it is to stand, for what was moved, or had fallen, or falls
	order []EntryID            // the keys of at
	fell  map[EntryID]struct{}
	depth map[EntryID]int // of what is known to reach the root
}

// raw puts a directory where its Place says.
func (p *placing) raw(r *row) error {
	if err := p.a.load(r); err != nil {
		return err
	}
	p.set(r.id, r.entry.Place.Location)
	return nil
}

func (p *placing) set(id EntryID, to Location) {
	if _, ok := p.at[id]; !ok {
		p.order = append(p.order, id)
	}
	p.at[id] = to
}

func (p *placing) resolve() error {
	changed := len(p.order)
	ids, err := p.a.rows.Fallen()
	if err != nil {
		return fmt.Errorf("read fallen: %w", err)
	}
	p.a.fallen = make(map[EntryID]struct{}, len(ids))
	for _, id := range ids {
		p.a.fallen[id] = struct{}{}
		r, err := p.a.row(id)
		if err != nil {
			return err
		}
		if err := p.raw(r); err != nil {
			return err
		}
	}
	for _, id := range slices.Clone(p.order) {
		if err := p.walk(id); err != nil {
			return err
		}
	}
	for _, id := range p.order[:changed] {
		if p.depth[id] > MaxChain {
			return tooDeep(id)
		}
	}
	p.a.fallenNow = p.fell
	for _, id := range p.order {
		r, err := p.a.row(id)
		if err != nil {
			return err
		}
		p.a.moves = append(p.a.moves, move{r, p.at[id]})
	}
	return nil
}

// walk goes from an entry to the root, opens each cycle that it meets, and
// notes how deep everything on the way lies.
func (p *placing) walk(start EntryID) error {
	for {
		path, cycle, err := p.climb(start)
		if err != nil {
			return err
		}
		if len(cycle) == 0 {
			for i, id := range slices.Backward(path) {
				parent, err := p.parent(path[i])
				if err != nil {
					return err
				}
				p.depth[id] = p.depth[parent] + 1
			}
			return nil
		}
		if err := p.open(cycle); err != nil {
			return err
		}
	}
}

// climb gives the way from an entry to the first whose depth is known, or the
// cycle that it ends in.
func (p *placing) climb(start EntryID) (path, cycle []EntryID, err error) {
	var on map[EntryID]int
	for id := start; ; {
		if _, ok := p.depth[id]; ok {
			return path, nil, nil
		}
		if on == nil {
			on = map[EntryID]int{}
		}
		if i, ok := on[id]; ok {
			return nil, path[i:], nil
		}
		on[id] = len(path)
		path = append(path, id)
		if id, err = p.parent(id); err != nil {
			return nil, nil, err
		}
	}
}

func (p *placing) parent(id EntryID) (EntryID, error) {
	if l, ok := p.at[id]; ok {
		return l.Parent, nil
	}
	r, err := p.a.row(id)
	if err != nil {
		return EntryID{}, err
	}
	if !r.known {
		return EntryID{}, fmt.Errorf("read node %s: a parent that is not there", id)
	}
	return r.node.At.Parent, nil
}

// open lets one entry of a cycle fall back; see [View].
func (p *placing) open(cycle []EntryID) error {
	entries := make(map[EntryID]Entry, len(cycle))
	for _, id := range cycle {
		r, err := p.a.row(id)
		if err != nil {
			return err
		}
		if err := p.a.load(r); err != nil {
			return err
		}
		entries[id] = r.entry
	}
	id := cycle[0]
	for _, other := range cycle[1:] {
		if fallsBefore(entries, p.fell, other, id) {
			id = other
		}
	}
	at, ok := p.at[id]
	if !ok {
		at = entries[id].Place.Location
	}
	p.set(id, fallBack(entries[id].Place, at, p.fell, id))
	p.fell[id] = struct{}{}
	return nil
}

// attach carries the moves out on the counts of visible children. First all are
// taken out of the tree as it was, then put into the tree as it is to be: in
// between there may be cycles, and no walk goes through what is held.
func (a *applying) attach() error {
	moves := a.moves[:0:0]
	for _, m := range a.moves {
		if !m.row.known || m.row.node.At != m.to {
			moves = append(moves, m)
			m.row.held = true
		}
	}
	for _, m := range moves {
		if m.row.linked {
			m.row.linked = false
			if err := a.count(m.row.node.At.Parent, false); err != nil {
				return err
			}
		}
	}
	for _, m := range moves {
		m.row.node.At = m.to
	}
	for _, m := range moves {
		m.row.held = false
		if err := a.settle(m.row); err != nil {
			return err
		}
	}
	for _, rs := range [][]*row{a.copies, a.changed} {
		for _, r := range rs {
			if err := a.settle(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// count adds or takes away one visible child.
func (a *applying) count(parent EntryID, add bool) error {
	p, err := a.row(parent)
	if err != nil {
		return err
	}
	if add {
		p.node.Children++
	} else {
		p.node.Children--
	}
	return a.settle(p)
}

// settle makes an entry visible or not by what keeps it so, and its parents with
// it.
func (a *applying) settle(r *row) error {
	for r.id != Root && !r.held {
		visible := r.node.Children > 0
		if !visible {
			if err := a.load(r); err != nil {
				return err
			}
			visible = r.entry.IsLive()
		}
		if visible == r.linked {
			return nil
		}
		r.linked = visible
		p, err := a.row(r.node.At.Parent)
		if err != nil {
			return err
		}
		if visible {
			p.node.Children++
		} else {
			p.node.Children--
		}
		r = p
	}
	return nil
}

func sortedIDs(set map[EntryID]struct{}) []EntryID {
	return slices.SortedFunc(maps.Keys(set), EntryID.Compare)
}
