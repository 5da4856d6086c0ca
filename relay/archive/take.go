package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"

	"sheaf/replication/seal"
)

// maxCurrent is how many records of one entry may be current: as many devices have
// changed it apart. crdt.MaxReplicas bounds the honest.
const maxCurrent = 64

// ErrTooMany: more records of one entry are current than devices can have changed it.
var ErrTooMany = errors.New("too many concurrent records of one entry")

// An Outcome is what became of a record that was handed in.
type Outcome uint8

// The outcomes.
const (
	Taken   Outcome = iota + 1 // it is durable, and its blocks are held or wanted
	Known                      // something that is here knows all that it does
	Aside                      // it does not count, and is set aside to be shown: seal.ErrCutOff
	Refused                    // it is not taken
)

// A Taking is what became of one record and, unless it was taken or known, why.
type Taking struct {
	Outcome Outcome
	Err     error
}

// Take takes in records of one group, in order. What is Taken is durable when Take
// returns, and so is what is replaced by it. An error means that nothing was taken.
//
// Errors of a Taking: those of seal.Judge, ErrQuota, ErrTooMany.
func (a *Archive) Take(ctx context.Context, records []*seal.Record) ([]Taking, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.begin()
	next := a.next
	out := make([]Taking, len(records))
	touched := make(map[*hosted]use)
	for i, r := range records {
		g := a.groups[r.Group]
		if g == nil {
			out[i] = Taking{Refused, fmt.Errorf("group %s: %w", r.Group, ErrNotHosted)}
			continue
		}
		if _, ok := touched[g]; !ok {
			touched[g] = g.use
		}
		outcome, err := a.takeOne(ctx, t, g, r)
		if err != nil && outcome == 0 {
			a.next = next
			for g, was := range touched {
				g.use = was
			}
			return nil, fmt.Errorf("take in a record: %w", err)
		}
		out[i] = Taking{outcome, err}
	}
	if err := a.commitWith(t, touched); err != nil {
		a.next = next
		return nil, fmt.Errorf("take in records: %w", err)
	}
	return out, nil
}

// commitWith commits with what the groups use now, or puts back what they used.
func (a *Archive) commitWith(t *tx, before map[*hosted]use) error {
	for g, was := range before {
		if g.use != was {
			t.put(key(tabGroup, g.id[:]), encode(g.row()))
		}
	}
	err := a.commit(t)
	if err != nil {
		for g, was := range before {
			g.use = was
		}
	}
	return err
}

// takeOne takes in one record. An error without an outcome is one of the database.
func (a *Archive) takeOne(ctx context.Context, t *tx, g *hosted, r *seal.Record) (Outcome, error) {
	state := g.log.Evaluate()
	if err := seal.Judge(&state, &r.Header); errors.Is(err, seal.ErrCutOff) {
		if aerr := a.setAside(t, g, r); aerr != nil {
			return 0, aerr
		}
		return Aside, err
	} else if err != nil {
		return Refused, err
	}
	p := placeOf(&r.Header)
	list, heads, err := t.entry(p)
	if err != nil {
		return 0, err
	}
	beside := 0
	for _, h := range heads {
		if h.Seen.Includes(r.Seen) {
			return Known, nil
		}
		if !r.Seen.Includes(h.Seen) {
			beside++
		}
	}
	switch {
	case beside >= maxCurrent:
		return Refused, fmt.Errorf("entry %x: %w", p.token, ErrTooMany)
	case g.use.Records >= g.limit.Records || g.use.RecordBytes+uint64(len(r.Encode())) > g.limit.RecordBytes():
		return Refused, fmt.Errorf("%d records: %w", g.use.Records, ErrQuota)
	}
	now := a.tick(t)
	c := current{No: a.next, Arrived: now, Wall: a.o.Now().UnixMilli()}
	a.next++
	t.put(metaKey("next"), number(a.next))
	t.put(recordKey(c.No), r.Encode())
	t.put(feedKey(r.Group, r.Folder, c.No), number(uint64(c.Wall))) //nolint:gosec // after 1970
	g.use.Records++
	g.use.RecordBytes += uint64(len(r.Encode()))
	if c.Missing, err = a.refer(ctx, t, &r.Header, c.No); err != nil {
		return 0, err
	}
	c.Whole = c.Missing == 0 || r.Dead
	if r.Dead {
		t.put(p.due(now.plus(a.o.Retention)), nil)
	}
	return Taken, a.settle(ctx, t, g, p, append(list, c), append(heads, &r.Header), len(list))
}

// entry gives what is current of an entry.
func (t *tx) entry(p place) ([]current, []*seal.Header, error) {
	var list []current
	if _, err := t.load(p.key(tabEntry), &list); err != nil {
		return nil, nil, err
	}
	heads := make([]*seal.Header, 0, len(list)+1)
	for _, c := range list {
		r, err := t.record(c.No)
		if err != nil {
			return nil, nil, err
		}
		heads = append(heads, &r.Header)
	}
	return list, heads, nil
}

func (t *tx) record(no uint64) (*seal.Record, error) {
	raw, err := t.get(recordKey(no))
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("record %d is not there: %w", no, ErrDamaged)
	}
	r, err := seal.ReadRecord(raw)
	if err != nil {
		return nil, fmt.Errorf("record %d: %w: %w", no, ErrDamaged, err)
	}
	return r, nil
}

// settle writes what is current of an entry after the record at index i has come or
// has become whole: a whole one sends those that it replaces into the past, and one
// that is not whole takes the place of others that are not, for what those wait for
// will hardly come any more.
func (a *Archive) settle(ctx context.Context, t *tx, g *hosted, p place, list []current, heads []*seal.Header, i int) error {
	var stay []current
	now := a.clock.now()
	for j, c := range list {
		switch {
		case j == i || !heads[i].Seen.Includes(heads[j].Seen):
			stay = append(stay, c)
			continue
		case c.Whole && !list[i].Whole:
			stay = append(stay, c)
			continue
		}
		if c.Purged || !c.Whole || heads[j].Dead {
			// Of a deletion that was taken back nothing is to be restored.
			if err := a.drop(ctx, t, g, heads[j], c.No); err != nil {
				return err
			}
			continue
		}
		t.delete(feedKey(p.group, p.folder, c.No))
		t.put(p.old(c.No), encode(old{Wall: c.Wall, Replaced: now, Gone: a.o.Now().UnixMilli()}))
		t.put(p.due(now), nil) // which of the past ones are now too many
	}
	t.put(p.key(tabEntry), encode(stay))
	return nil
}

// refer writes down which blocks a record refers to, and gives how many of them are
// not held.
func (a *Archive) refer(ctx context.Context, t *tx, h *seal.Header, no uint64) (missing uint64, err error) {
	for _, d := range h.Pages {
		m, err := t.referTo(h, d, no)
		if err != nil {
			return 0, err
		}
		missing += m
		if m == 0 {
			if m, err = a.referPage(ctx, t, h, d, no); err != nil {
				return 0, err
			}
			missing += m
		}
	}
	for _, d := range h.Refs {
		m, err := t.referTo(h, d, no)
		if err != nil {
			return 0, err
		}
		missing += m
	}
	return missing, nil
}

// referPage does the same for a page that is held.
func (a *Archive) referPage(ctx context.Context, t *tx, h *seal.Header, page seal.Digest, no uint64) (missing uint64, err error) {
	list, err := a.page(ctx, page)
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		m, err := t.referTo(h, d, no)
		if err != nil {
			return 0, err
		}
		missing += m
	}
	return missing, nil
}

// referTo gives 1 if the block is not held and the record does not yet wait for it.
func (t *tx) referTo(h *seal.Header, d seal.Digest, no uint64) (uint64, error) {
	if known, err := t.has(refKey(tabRef, d, no)); err != nil || known {
		return 0, err
	}
	t.put(refKey(tabRef, d, no), nil)
	here, err := t.has(key(tabHeld, d[:]))
	if err != nil || here {
		return 0, err
	}
	t.put(refKey(tabMissing, d, no), nil)
	t.put(wantedKey(h.Group, d), nil)
	return 1, nil
}

// page reads a page of references that is held. One that is none, which only a member
// can have made, refers to nothing: its record can never be whole in a reader's eyes,
// and is the group's own matter.
func (a *Archive) page(ctx context.Context, d seal.Digest) ([]seal.Digest, error) {
	b, err := a.blocks.Get(ctx, cidOf(d))
	if err != nil {
		return nil, fmt.Errorf("read a page of references: %w", err)
	}
	list, err := seal.ParsePage(b.RawData())
	if err != nil {
		a.o.Logger.Warn("a page of references is none", "block", cidOf(d), "error", err)
		return nil, nil
	}
	return list, nil
}

// drop forgets a record and what it refers to.
func (a *Archive) drop(ctx context.Context, t *tx, g *hosted, h *seal.Header, no uint64) error {
	raw, err := t.get(recordKey(no))
	if err != nil {
		return err
	}
	if err := a.release(ctx, t, h, no); err != nil {
		return err
	}
	t.delete(recordKey(no))
	t.delete(feedKey(h.Group, h.Folder, no))
	g.use.Records -= min(1, g.use.Records)
	g.use.RecordBytes -= min(uint64(len(raw)), g.use.RecordBytes)
	return nil
}

// release lets go of what a record refers to.
func (a *Archive) release(ctx context.Context, t *tx, h *seal.Header, no uint64) error {
	list := slices.Clone(h.Refs)
	for _, p := range h.Pages {
		here, err := t.has(key(tabHeld, p[:]))
		if err != nil {
			return err
		}
		if !here {
			continue
		}
		more, err := a.page(ctx, p)
		if ipld.IsNotFound(err) {
			// It is said to be held and is not, so what stood on it has to be looked for.
			more, err = t.refsOf(no)
		}
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	for _, d := range append(list, h.Pages...) {
		if known, err := t.has(refKey(tabRef, d, no)); err != nil {
			return err
		} else if !known {
			continue // named twice
		}
		t.delete(refKey(tabRef, d, no))
		t.delete(refKey(tabMissing, d, no))
		if used, err := t.any(key(tabRef, d[:])); err != nil {
			return err
		} else if used {
			continue
		}
		t.delete(wantedKey(h.Group, d))
		if here, err := t.has(key(tabHeld, d[:])); err != nil {
			return err
		} else if here {
			t.put(key(tabLoose, d[:]), nil)
		}
	}
	return nil
}

// refsOf gives what a record refers to by looking through all references there are.
func (t *tx) refsOf(no uint64) (list []seal.Digest, err error) {
	keys, err := t.keys([]byte{tabRef}, 0)
	for _, k := range keys {
		if numberOf(k) == no {
			list = append(list, seal.Digest(k[1:]))
		}
	}
	return list, err
}

// maxAside is how many records of one author are kept to be shown, though they do not
// count.
const maxAside = 1000

func (a *Archive) setAside(t *tx, g *hosted, r *seal.Record) error {
	prefix := key(tabAside, g.id[:], r.Author[:])
	there, err := t.keys(prefix, maxAside)
	if err != nil || len(there) >= maxAside {
		return err
	}
	t.put(append(append(prefix, r.Folder[:]...), number(r.Number)...), r.Encode())
	return nil
}

// cidOf gives a digest as blockstores take it.
func cidOf(d seal.Digest) cid.Cid {
	h, err := multihash.Encode(d[:], multihash.SHA2_256)
	if err != nil {
		panic(fmt.Sprintf("archive: encode a multihash: %v", err)) // of a known kind and length: a programming error
	}
	return cid.NewCidV1(cid.Raw, h)
}

// digestOf is the inverse; false for a CID that is no digest.
func digestOf(c cid.Cid) (seal.Digest, bool) {
	h, err := multihash.Decode(c.Hash())
	if err != nil || h.Code != multihash.SHA2_256 || len(h.Digest) != digestBytes {
		return seal.Digest{}, false
	}
	return seal.Digest(h.Digest), true
}
