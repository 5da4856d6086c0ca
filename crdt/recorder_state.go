package crdt

import (
	"fmt"
	"slices"
)

// do carries out one change, all of it or nothing.
func (r *Recorder) do(op string, id EntryID, change func() error) error {
	counter, n, ended := r.w.Counter, len(r.order), len(r.ended)
	r.undo = r.undo[:0]
	if err := change(); err != nil {
		for _, back := range slices.Backward(r.undo) {
			back()
		}
		r.w.Counter, r.order, r.ended, r.allUp = counter, r.order[:n], r.ended[:ended], false
		clear(r.upright)
		return &ChangeError{op, id, err}
	}
	return nil
}

// put takes a changed state, in which d is seen.
func (r *Recorder) put(e Entry, d Dot) error {
	e.Seen = e.Seen.With(d)
	if err := checkSize(e); err != nil {
		return fmt.Errorf("%w: %w", ErrTooMany, err)
	}
	if err := checkEntry(e); err != nil {
		return err
	}
	old, had := r.entries[e.ID]
	if !had {
		r.order = append(r.order, e.ID)
	}
	r.undo = append(r.undo, func() {
		if had {
			r.entries[e.ID] = old
		} else {
			delete(r.entries, e.ID)
		}
	})
	r.entries[e.ID] = e
	return nil
}

func (r *Recorder) setAt(id EntryID, p *placeOnDisk) {
	old, had := r.at[id]
	r.undo = append(r.undo, func() {
		if had {
			r.at[id] = old
		} else {
			delete(r.at, id)
		}
	})
	r.at[id] = p
}

func (r *Recorder) dot() Dot {
	r.w.Counter++
	return Dot{r.w.Replica, r.w.Counter}
}

// stamp outranks a register's value that has that count.
func (r *Recorder) stamp(count uint64) Stamp { return r.stampAt(min(count, MaxCount-1) + 1) }

func (r *Recorder) stampAt(count uint64) Stamp {
	return Stamp{Count: count, Time: r.w.Now, Replica: r.w.Replica}
}

// nextCount gives the Count of a new Version or Attrs of an entry. They count
// together, since the time shown is the later one's.
func nextCount(e Entry) uint64 {
	n := e.Attrs.Stamp.Count
	if e.Last != nil {
		n = max(n, e.Last.Stamp.Count)
	}
	for _, f := range e.Live {
		if f.Version != nil {
			n = max(n, f.Version.Stamp.Count)
		}
	}
	return min(n, MaxCount-1) + 1
}

// withPresence gives the facets with a presence of dot d instead of older ones
// of this replica.
func (r *Recorder) withPresence(live []Facet, d Dot) []Facet {
	out := make([]Facet, 0, len(live)+1)
	for _, f := range live {
		if f.Version != nil || f.Dot.Replica != r.w.Replica {
			out = append(out, f)
		}
	}
	i, _ := slices.BinarySearchFunc(out, Facet{Dot: d}, Facet.compare)
	return slices.Insert(out, i, Facet{Dot: d})
}

// state gives an entry as the disk and the changes so far have it.
func (r *Recorder) state(id EntryID) (Entry, error) {
	if e, ok := r.entries[id]; ok {
		return e, nil
	}
	e, _, err := r.base.Entry(id)
	if err != nil {
		return Entry{}, fmt.Errorf("read base entry: %w", err)
	}
	return e, nil
}

// shown gives the state of an entry that is on the disk.
func (r *Recorder) shown(id EntryID) (Entry, error) {
	l, err := r.place(id)
	if err != nil {
		return Entry{}, err
	}
	if !l.there || id == Root {
		return Entry{}, ErrNotOnDisk
	}
	return r.state(id)
}

// unshown gives the state to make an entry anew on: the index's where it knows
// the entry and does not show it, else the disk's.
func (r *Recorder) unshown(id EntryID) (Entry, error) {
	if e, ok := r.entries[id]; ok {
		return e, nil
	}
	n, ok, err := r.index.Node(id)
	if err != nil {
		return Entry{}, fmt.Errorf("read index node: %w", err)
	}
	if !ok || n.Visible() {
		return r.state(id)
	}
	e, _, err := r.index.Entry(id)
	if err != nil {
		return Entry{}, fmt.Errorf("read index entry: %w", err)
	}
	return e, nil
}

// place gives where the disk shows an entry, after the changes so far.
func (r *Recorder) place(id EntryID) (placeOnDisk, error) {
	if p, ok := r.at[id]; ok {
		return *p, nil
	}
	l, ok, err := r.base.At(id)
	if err != nil {
		return placeOnDisk{}, fmt.Errorf("read base place: %w", err)
	}
	r.at[id] = &placeOnDisk{l, ok}
	return placeOnDisk{l, ok}, nil
}

// way gives the directories from one on the disk up to the root, which is not
// among them.
func (r *Recorder) way(dir EntryID) ([]EntryID, error) {
	var way []EntryID
	for id := dir; id != Root; {
		p, err := r.place(id)
		if err != nil {
			return nil, err
		}
		if !p.there || id.Kind() != Directory {
			return nil, fmt.Errorf("directory %s: %w", id, ErrNotOnDisk)
		}
		way = append(way, id)
		if len(way) > MaxChain {
			return nil, ErrTooDeep
		}
		id = p.Parent
	}
	return way, nil
}

// fits tells whether something may stand there.
func (r *Recorder) fits(at Location) error {
	if err := ValidName(at.Name); err != nil {
		return err
	}
	way, err := r.way(at.Parent)
	if err == nil && len(way) >= MaxDepth {
		err = ErrTooDeep
	}
	return err
}

// visibleElsewhere tells whether disk or index show an entry elsewhere than
// there. It is an error if the disk shows it there.
func (r *Recorder) visibleElsewhere(id EntryID, at Location) (bool, error) {
	p, err := r.place(id)
	if err != nil {
		return false, err
	}
	if p.there {
		if sameLocation(p.Location, at) {
			return false, ErrExists
		}
		return true, nil
	}
	n, _, err := r.index.Node(id)
	if err != nil {
		return false, fmt.Errorf("read index node: %w", err)
	}
	return n.Visible() && !sameLocation(n.At, at), nil
}

func sameLocation(l, m Location) bool {
	return l.Parent == m.Parent && NameKey(l.Name) == NameKey(m.Name)
}

// affirm writes down what the person sees, before a change that touches these
// entries; see [Recorder].
func (r *Recorder) affirm(touched ...EntryID) error {
	return r.affirmOutside(nil, touched)
}

// affirmOutside is affirm for what is to be removed: its entries are left as
// they are, the directories around them are affirmed.
func (r *Recorder) affirmOutside(removed map[EntryID]struct{}, touched []EntryID) error {
	if err := r.writeDownFallen(); err != nil {
		return err
	}
	for _, id := range touched {
		if _, ok := removed[id]; ok {
			p, err := r.place(id)
			if err != nil {
				return err
			}
			if _, ok := removed[p.Parent]; ok {
				continue
			}
			id = p.Parent
		}
		if err := r.standUp(id, removed); err != nil {
			return err
		}
	}
	return nil
}

// standUp gives each entry from id to the root that is shown only for what lies
// under it a presence.
func (r *Recorder) standUp(id EntryID, removed map[EntryID]struct{}) error {
	for steps := 0; id != Root; steps++ {
		if _, ok := r.upright[id]; ok {
			return nil
		}
		p, err := r.place(id)
		if err != nil {
			return err
		}
		if !p.there || steps > MaxChain {
			return fmt.Errorf("directory %s: %w", id, ErrNotOnDisk)
		}
		e, err := r.state(id)
		if err != nil {
			return err
		}
		if _, ok := removed[id]; !ok {
			if !e.IsLive() {
				d := r.dot()
				e.Live = r.withPresence(e.Live, d)
				if err := r.put(e, d); err != nil {
					return err
				}
			}
			r.upright[id] = struct{}{}
		}
		id = p.Parent
	}
	return nil
}

// writeDownFallen makes the places of what has fallen back those where it is
// shown.
func (r *Recorder) writeDownFallen() error {
	if r.allUp {
		return nil
	}
	ids, err := r.base.Fallen()
	if err != nil {
		return fmt.Errorf("read base fallen: %w", err)
	}
	for _, id := range ids {
		p, err := r.place(id)
		if err != nil {
			return err
		}
		e, err := r.state(id)
		if err != nil {
			return err
		}
		if !p.there || p.Parent == e.Place.Parent {
			continue
		}
		d := r.dot()
		e.Place = Place{Stamp: r.stamp(e.Place.Stamp.Count), Location: p.Location, From: p.Location}
		e.Live = r.withPresence(e.Live, d)
		if err := r.put(e, d); err != nil {
			return err
		}
	}
	r.allUp = true
	return nil
}

func or(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
