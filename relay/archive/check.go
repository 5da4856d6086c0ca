package archive

import (
	"context"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/replication/seal"
)

// A Report is what Check found. All but the counts ought to be empty.
type Report struct {
	Records, Blocks int
	Faults          []string      // of the database, in words; at most maxFaults
	Absent          []seal.Digest // blocks that the database says are held and the blockstore has not
	Stray           []seal.Digest // blocks in the blockstore that nothing knows of
}

// maxFaults is how many faults are told one by one.
const maxFaults = 100

// Check holds the database against itself and the blockstore: who is referred to and by
// whom is counted anew. Nothing is written while it runs; with repair, what is absent
// is wanted again afterwards and what is stray is left to Collect. It reads no block:
// that they are what they are addressed by, the blockstore's scrub makes sure of.
func (a *Archive) Check(ctx context.Context, repair bool) (*Report, error) {
	rep, err := a.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the archive: %w", err)
	}
	if !repair {
		return rep, nil
	}
	for _, d := range rep.Absent {
		if err := a.Lost(d); err != nil {
			return rep, err
		}
	}
	for len(rep.Stray) > 0 {
		a.mu.Lock()
		t := a.begin()
		n := min(many, len(rep.Stray))
		for _, d := range rep.Stray[:n] {
			t.put(key(tabLoose, d[:]), nil)
		}
		err := a.commit(t)
		a.mu.Unlock()
		if err != nil {
			return rep, err
		}
		rep.Stray = rep.Stray[n:]
	}
	return rep, nil
}

func (a *Archive) check(ctx context.Context) (*Report, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := &checker{a: a, t: a.begin(), rep: new(Report), uses: make(map[string]use), timed: make(map[place]bool)}
	for _, step := range []func(context.Context) error{c.dues, c.entries, c.olds, c.records, c.references, c.held, c.stored, c.used} {
		if err := step(ctx); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return c.rep, nil
}

type checker struct {
	a      *Archive
	t      *tx
	rep    *Report
	named  int // records that an entry names
	points int // references of all records
	uses   map[string]use
	timed  map[place]bool // entries that have something to let go of
}

func (c *checker) fault(format string, args ...any) {
	if len(c.rep.Faults) < maxFaults {
		c.rep.Faults = append(c.rep.Faults, fmt.Sprintf(format, args...))
	}
}

func (c *checker) each(prefix []byte, fn func(k, v []byte) error) error {
	return each(c.a.db.NewIterator(util.BytesPrefix(prefix), nil), nil, func(k, v []byte) (bool, error) { return true, fn(k, v) })
}

// entries: each names records that are there, are of it, and are in the feed; none of
// them is replaced by a whole one.
func (c *checker) entries(ctx context.Context) error {
	return c.each([]byte{tabEntry}, func(k, _ []byte) error {
		p, ok := placeAt(k, 1)
		if !ok {
			c.fault("entry %x: its key has %d bytes", k, len(k))
			return nil
		}
		list, heads, err := c.t.entry(p)
		if err != nil {
			c.fault("entry %x: %v", k, err)
			return nil
		}
		for i, r := range list {
			c.named++
			if placeOf(heads[i]) != p {
				c.fault("record %d is of another entry than the one that names it", r.No)
			}
			if ok, err := c.t.has(feedKey(p.group, p.folder, r.No)); err != nil || !ok {
				c.fault("record %d is current and not in the feed (%v)", r.No, err)
			}
			for j := range list {
				if i != j && list[j].Whole && heads[j].Seen.Includes(heads[i].Seen) {
					c.fault("record %d is current and replaced by %d", r.No, list[j].No)
				}
			}
			missing, err := c.refersTo(ctx, heads[i], r.No, r.Purged)
			if err != nil {
				return err
			}
			if missing != r.Missing {
				c.fault("record %d waits for %d blocks and says %d", r.No, missing, r.Missing)
			}
			if !r.Whole && missing == 0 {
				c.fault("record %d has all and is not whole", r.No)
			}
			if heads[i].Dead && !r.Purged && !c.timed[p] {
				c.fault("record %d is dead, and has no time at which its content goes", r.No)
			}
		}
		return nil
	})
}

// dues: each time is of an entry.
func (c *checker) dues(context.Context) error {
	return c.each([]byte{tabDue}, func(k, _ []byte) error {
		p, ok := placeAt(k, 9)
		if !ok {
			c.fault("time %x: its key has %d bytes", k, len(k))
			return nil
		}
		c.timed[p] = true
		return nil
	})
}

// refersTo: a record's references are all there, and no others are asked for.
func (c *checker) refersTo(ctx context.Context, h *seal.Header, no uint64, purged bool) (missing uint64, err error) {
	list := append(append([]seal.Digest(nil), h.Pages...), h.Refs...)
	for _, p := range h.Pages {
		if here, err := c.t.has(key(tabHeld, p[:])); err != nil {
			return 0, err
		} else if here && !purged {
			more, err := c.a.page(ctx, p)
			if err != nil {
				c.fault("record %d: %v", no, err)
				continue
			}
			list = append(list, more...)
		}
	}
	seen := make(map[seal.Digest]bool, len(list))
	for _, d := range list {
		if seen[d] {
			continue
		}
		seen[d] = true
		ref, err := c.t.has(refKey(tabRef, d, no))
		if err != nil {
			return 0, err
		}
		waits, err := c.t.has(refKey(tabMissing, d, no))
		if err != nil {
			return 0, err
		}
		here, err := c.t.has(key(tabHeld, d[:]))
		if err != nil {
			return 0, err
		}
		wanted, err := c.t.has(wantedKey(h.Group, d))
		if err != nil {
			return 0, err
		}
		switch {
		case purged && (ref || waits):
			c.fault("record %d is purged and refers to %s", no, cidOf(d))
		case purged:
		case !ref:
			c.fault("record %d does not count as referring to %s", no, cidOf(d))
		case waits == here:
			c.fault("record %d waits for %s: %v, which is held: %v", no, cidOf(d), waits, here)
		case waits && !wanted:
			c.fault("record %d waits for %s, which nobody is asked for", no, cidOf(d))
		}
		if waits {
			missing++
		}
		if ref {
			c.points++
		}
	}
	return missing, nil
}

func (c *checker) olds(ctx context.Context) error {
	return c.each([]byte{tabOld}, func(k, _ []byte) error {
		p, ok := placeAt(k, 1)
		if !ok || len(k) != 57 {
			c.fault("version %x: its key has %d bytes", k, len(k))
			return nil
		}
		c.named++
		no := numberOf(k)
		r, err := c.t.record(no)
		if err != nil {
			c.fault("version: %v", err)
			return nil
		}
		if placeOf(&r.Header) != p {
			c.fault("record %d is of another entry than the one whose version it is", no)
		}
		if ok, err := c.t.has(feedKey(p.group, p.folder, no)); err != nil || ok {
			c.fault("record %d is replaced and in the feed (%v)", no, err)
		}
		_, err = c.refersTo(ctx, &r.Header, no, false)
		return err
	})
}

func (c *checker) records(context.Context) error {
	if err := c.each([]byte{tabRecord}, func(k, v []byte) error {
		c.rep.Records++
		r, err := seal.ParseRecord(append([]byte(nil), v...))
		if err != nil {
			c.fault("record %d: %v", numberOf(k), err)
			return nil
		}
		u := c.uses[string(r.Group[:])]
		u.Records++
		u.RecordBytes += uint64(len(v))
		c.uses[string(r.Group[:])] = u
		if numberOf(k) >= c.a.next {
			c.fault("record %d is there, and the next is to be %d", numberOf(k), c.a.next)
		}
		return nil
	}); err != nil {
		return err
	}
	if c.rep.Records != c.named {
		c.fault("%d records are there, and entries name %d", c.rep.Records, c.named)
	}
	feed := 0
	if err := c.each([]byte{tabFeed}, func(k, _ []byte) error {
		feed++
		if ok, err := c.t.has(recordKey(numberOf(k))); err != nil || !ok {
			c.fault("record %d is in the feed and not there (%v)", numberOf(k), err)
		}
		return nil
	}); err != nil {
		return err
	}
	return nil
}

func (c *checker) references(context.Context) error {
	n := 0
	if err := c.each([]byte{tabRef}, func([]byte, []byte) error { n++; return nil }); err != nil {
		return err
	}
	if n != c.points {
		c.fault("%d references are counted, and records have %d", n, c.points)
	}
	if err := c.each([]byte{tabMissing}, func(k, _ []byte) error {
		if ok, err := c.t.has(key(tabRef, k[1:])); err != nil || !ok {
			c.fault("record %d waits for a block that it does not refer to (%v)", numberOf(k), err)
		}
		return nil
	}); err != nil {
		return err
	}
	return c.each([]byte{tabWanted}, func(k, _ []byte) error {
		if ok, err := c.t.any(key(tabMissing, k[17:])); err != nil || !ok {
			c.fault("block %s is asked for, and nothing waits for it (%v)", cidOf(seal.Digest(k[17:])), err)
		}
		return nil
	})
}

func (c *checker) held(ctx context.Context) error {
	return c.each([]byte{tabHeld}, func(k, v []byte) error {
		d := seal.Digest(k[1:])
		var h held
		if err := decoding.Unmarshal(v, &h); err != nil {
			c.fault("block %s: %v", cidOf(d), err)
			return nil
		}
		c.rep.Blocks++
		u := c.uses[string(h.Group[:])]
		u.Bytes += h.Size
		c.uses[string(h.Group[:])] = u
		size, err := c.a.blocks.GetSize(ctx, cidOf(d))
		if err != nil || uint64(size) != h.Size {
			c.rep.Absent = append(c.rep.Absent, d)
		}
		used, err := c.t.any(key(tabRef, d[:]))
		if err != nil {
			return err
		}
		if loose, err := c.t.has(key(tabLoose, d[:])); err != nil || !used && !loose {
			c.fault("block %s is held for nothing and will not be collected (%v)", cidOf(d), err)
		}
		return nil
	})
}

func (c *checker) stored(ctx context.Context) error {
	all, err := c.a.blocks.AllKeysChan(ctx)
	if err != nil {
		return err
	}
	for id := range all {
		d, ok := digestOf(id)
		if !ok {
			continue
		}
		here, err := c.t.has(key(tabHeld, d[:]))
		if err != nil {
			return err
		}
		loose, err := c.t.has(key(tabLoose, d[:]))
		if err != nil {
			return err
		}
		if !here && !loose {
			c.rep.Stray = append(c.rep.Stray, d)
		}
	}
	return nil
}

func (c *checker) used(context.Context) error {
	for id, g := range c.a.groups {
		if want := c.uses[string(id[:])]; want != g.use {
			c.fault("group %s uses %+v and is said to use %+v", id, want, g.use)
		}
	}
	return nil
}
