package crdt

import (
	"errors"
	"fmt"
)

// Applied says what a batch changed.
type Applied struct {
	Entries []EntryID // entries whose state changed, conflict copies included and first, each once
	Shown   []EntryID // entries whose visibility, shown name or effective parent changed, each once
}

// Apply joins a batch of entries into rows: it judges the whole batch (see
// [Validate]; only the number of entries is left to the caller), joins each
// entry, brings it to normal form, and brings the view up to date with what
// changed alone. The order of entries in the batch does not matter, nor whether
// some were known before. Nothing is written unless all of it is right: a
// *[BatchError] says what is not; any other error is one of rows.
//
// Conflict copies are put before the entries they come from, so that whoever is
// sent entries in the order in which they changed never hears that a version
// lost before it has the copy that keeps it.
//
// A new file costs a few reads, whatever the size of its directory; the move of a
// directory as many as it is deep; a name as many as there are entries of that
// name.
func Apply(rows Rows, batch []Entry) (Applied, error) {
	a, err := prepare(rows, batch)
	if err != nil {
		return Applied{}, err
	}
	if err := a.attach(); err != nil {
		return Applied{}, err
	}
	if err := a.rename(); err != nil {
		return Applied{}, err
	}
	return a.write()
}

// applying is one batch on its way: all rows that it touches, as they were and
// as they are to be.
type applying struct {
	rows    Rows
	touched map[EntryID]*row
	list    []*row // touched, in the order they were
	changed []*row // those whose state changed
	copies  []*row // of those, conflict copies
	links   []link

	moves      []move                // places to be changed
	fallen     map[EntryID]struct{}  // as stored; nil where it was not looked at
	fallenNow  map[EntryID]struct{}  // as it is to be
	groups     map[nameGroup]*naming // names looked at
	groupOrder []nameGroup
}

// row is an entry with its node.
type row struct {
	id      EntryID
	known   bool // has rows already
	loaded  bool // entry has been read
	entry   Entry
	before  Node
	node    Node
	linked  bool // counted by its parent; in the end: visible
	held    bool // out of the tree, on its way to another place
	changed bool // its state changed
	placed  bool // its Place register changed, or it is new
}

// move is a row and where it comes to stand.
type move struct {
	row *row
	to  Location
}

// link is a change of what Named gives.
type link struct {
	group nameGroup
	id    EntryID
	add   bool
}

// prepare does all of Apply that can be refused; it only reads.
func prepare(rows Rows, batch []Entry) (*applying, error) {
	a := &applying{rows: rows, touched: make(map[EntryID]*row, len(batch)+8)}
	if err := a.check(batch); err != nil {
		return nil, err
	}
	for _, e := range batch {
		if err := a.join(e, false); err != nil {
			return nil, err
		}
	}
	if err := a.settlePlaces(); err != nil {
		return nil, err
	}
	return a, nil
}

// check judges the entries one by one, and that each parent is there.
func (a *applying) check(batch []Entry) error {
	inBatch := make(map[EntryID]struct{}, len(batch))
	for _, e := range batch {
		if err := checkEntry(e); err != nil {
			return err
		}
		inBatch[e.ID] = struct{}{}
	}
	for _, e := range batch {
		for _, parent := range [...]EntryID{e.Place.Parent, e.Place.From.Parent} {
			if _, ok := inBatch[parent]; ok || parent == Root {
				continue
			}
			p, err := a.row(parent)
			if err != nil {
				return err
			}
			if !p.known {
				return &BatchError{e.ID, fmt.Sprintf("its parent %s is not known", parent)}
			}
		}
	}
	return nil
}

// join merges one entry into its row, and the conflict copies this makes into
// theirs.
func (a *applying) join(e Entry, isCopy bool) error {
	r, err := a.row(e.ID)
	if err != nil {
		return err
	}
	if err := a.load(r); err != nil {
		return err
	}
	merged := e
	if r.known || r.changed {
		merged = Join(r.entry, e)
		if merged.Equal(r.entry) {
			return nil
		}
	}
	merged, copies := Normalize(merged)
	for _, c := range copies {
		if err := a.join(c, true); err != nil {
			return err
		}
	}
	if (r.known || r.changed) && merged.Equal(r.entry) {
		return nil
	}
	if err := checkSize(merged); err != nil {
		return err
	}
	r.placed = r.placed || !r.known || merged.Place != r.entry.Place
	r.entry = merged
	if !r.changed {
		r.changed = true
		if isCopy {
			a.copies = append(a.copies, r)
		} else {
			a.changed = append(a.changed, r)
		}
	}
	return nil
}

// row gives the row of an entry as this batch has it so far.
func (a *applying) row(id EntryID) (*row, error) {
	if r, ok := a.touched[id]; ok {
		return r, nil
	}
	n, known, err := a.rows.Node(id)
	if err != nil {
		return nil, fmt.Errorf("read node %s: %w", id, err)
	}
	r := &row{id: id, known: known || id == Root, before: n, node: n, linked: n.Visible()}
	a.touched[id] = r
	a.list = append(a.list, r)
	return r, nil
}

// load reads the state of a known entry.
func (a *applying) load(r *row) error {
	if r.loaded || !r.known || r.id == Root {
		return nil
	}
	e, ok, err := a.rows.Entry(r.id)
	if err == nil && !ok {
		err = errors.New("it has a node and no state")
	}
	if err != nil {
		return fmt.Errorf("read entry %s: %w", r.id, err)
	}
	r.entry, r.loaded = e, true
	return nil
}

// write hands over what changed.
func (a *applying) write() (Applied, error) {
	var out Applied
	for _, rs := range [][]*row{a.copies, a.changed} {
		for _, r := range rs {
			if err := a.rows.PutEntry(r.entry, r.node); err != nil {
				return Applied{}, fmt.Errorf("put entry %s: %w", r.id, err)
			}
			out.Entries = append(out.Entries, r.id)
		}
	}
	for _, r := range a.list {
		if !r.changed && r.node != r.before {
			if err := a.rows.PutNode(r.id, r.node); err != nil {
				return Applied{}, fmt.Errorf("put node %s: %w", r.id, err)
			}
		}
		if r.id != Root && (r.node.Shown != r.before.Shown || r.linked && r.node.At.Parent != r.before.At.Parent) {
			out.Shown = append(out.Shown, r.id)
		}
	}
	for _, l := range a.links {
		do := a.rows.Unlink
		if l.add {
			do = a.rows.Link
		}
		if err := do(l.group.parent, l.group.key, l.id); err != nil {
			return Applied{}, fmt.Errorf("link %s: %w", l.id, err)
		}
	}
	return out, a.writeFallen()
}

func (a *applying) writeFallen() error {
	for _, id := range sortedIDs(a.fallen) {
		if _, still := a.fallenNow[id]; !still {
			if err := a.rows.SetFallen(id, false); err != nil {
				return fmt.Errorf("set fallen %s: %w", id, err)
			}
		}
	}
	for _, id := range sortedIDs(a.fallenNow) {
		if _, before := a.fallen[id]; !before {
			if err := a.rows.SetFallen(id, true); err != nil {
				return fmt.Errorf("set fallen %s: %w", id, err)
			}
		}
	}
	return nil
}
