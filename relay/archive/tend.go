package archive

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/replication/seal"
)

// many is how many entries or blocks are dealt with under one lock and in one batch.
const many = 256

// Tend lets go of what need not be kept any longer: it asks retain about each entry
// that is due. What is in the way of nobody else's work goes entry by entry, so that
// an end at any point leaves each entry as it was or as it is to be.
func (a *Archive) Tend(ctx context.Context) (purged int, err error) {
	for {
		n, more, err := a.tendSome(ctx)
		purged += n
		if err != nil {
			return purged, fmt.Errorf("retention: %w", err)
		}
		if !more {
			return purged, nil
		}
		if err := ctx.Err(); err != nil {
			return purged, err
		}
	}
}

func (a *Archive) tendSome(ctx context.Context) (purged int, more bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.begin()
	now := a.tick(t)
	var due [][]byte
	err = each(a.db.NewIterator(util.BytesPrefix([]byte{tabDue}), nil), nil, func(k, _ []byte) (bool, error) {
		// At its time a thing is due, and not only after it.
		if string(k[1:9]) > string(number(uint64(now))) {
			return false, nil
		}
		due = append(due, append([]byte(nil), k...))
		return len(due) < many, nil
	})
	if err != nil {
		return 0, false, err
	}
	before := make(map[*hosted]use)
	for _, k := range due {
		p, ok := placeAt(k, 9)
		if !ok {
			return 0, false, fmt.Errorf("row %q: %w", k[:1], ErrDamaged)
		}
		t.delete(k)
		g := a.groups[p.group]
		if g == nil {
			return 0, false, fmt.Errorf("an entry of group %s: %w", p.group, ErrDamaged)
		}
		if _, ok := before[g]; !ok {
			before[g] = g.use
		}
		n, err := a.tendOne(ctx, t, g, p, now)
		if err != nil {
			for g, was := range before {
				g.use = was
			}
			return 0, false, err
		}
		purged += n
	}
	return purged, len(due) == many, a.commitWith(t, before)
}

func (a *Archive) tendOne(ctx context.Context, t *tx, g *hosted, p place, now age) (purged int, err error) {
	list, heads, err := t.entry(p)
	if err != nil {
		return 0, err
	}
	var records []kept
	for i, c := range list {
		records = append(records, kept{no: c.No, current: true, dead: heads[i].Dead, purged: c.Purged, arrived: c.Arrived})
	}
	olds, err := t.keys(p.key(tabOld), 0)
	if err != nil {
		return 0, err
	}
	for _, k := range olds {
		var o old
		if _, err := t.load(k, &o); err != nil {
			return 0, err
		}
		records = append(records, kept{no: numberOf(k), replaced: o.Replaced})
	}
	v := retain(records, now, policy{a.o.Retention, a.o.Versions})
	for _, no := range v.drop {
		r, err := t.record(no)
		if err != nil {
			return 0, err
		}
		if err := a.drop(ctx, t, g, &r.Header, no); err != nil {
			return 0, err
		}
		t.delete(p.old(no))
	}
	for _, no := range v.purge {
		for i := range list {
			if list[i].No == no {
				if err := a.release(ctx, t, heads[i], no); err != nil {
					return 0, err
				}
				list[i].Purged, list[i].Missing = true, 0
				t.put(p.key(tabEntry), encode(list))
			}
		}
	}
	if v.ask {
		t.put(p.due(max(v.next, now+1)), nil)
	}
	return len(v.drop) + len(v.purge), nil
}

// Collect removes blocks that no record refers to any more. Only blocks that something
// has let go of are looked at: Check finds others.
func (a *Archive) Collect(ctx context.Context) (freed int64, err error) {
	var after []byte
	for {
		n, last, err := a.collectSome(ctx, after)
		freed += n
		if err != nil {
			return freed, fmt.Errorf("collect blocks: %w", err)
		}
		if last == nil {
			return freed, nil
		}
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		after = last
	}
}

// collectSome keeps the lock from asking whether a block is used to the block's being
// gone, so that no record finds a block held that is on its way out. The database says
// first that it is not held: whatever happens then, it is asked for again and not
// missed.
func (a *Archive) collectSome(ctx context.Context, after []byte) (freed int64, last []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.begin()
	var loose []seal.Digest
	err = each(a.db.NewIterator(util.BytesPrefix([]byte{tabLoose}), nil), append(append([]byte(nil), after...), 0), func(k, _ []byte) (bool, error) {
		loose = append(loose, seal.Digest(k[1:]))
		last = append([]byte(nil), k...)
		return len(loose) < many, nil
	})
	if err != nil || len(loose) == 0 {
		return 0, nil, err
	}
	before := make(map[*hosted]use)
	var gone []seal.Digest
	for _, d := range loose {
		used, err := t.any(key(tabRef, d[:]))
		if err != nil {
			return 0, nil, err
		}
		if used {
			t.delete(key(tabLoose, d[:]))
			continue
		}
		var h held
		if found, err := t.load(key(tabHeld, d[:]), &h); err != nil {
			return 0, nil, err
		} else if g := a.groups[h.Group]; found && g != nil {
			if _, ok := before[g]; !ok {
				before[g] = g.use
			}
			g.use.Bytes -= min(h.Size, g.use.Bytes)
			freed += int64(h.Size)
		}
		t.delete(key(tabHeld, d[:]))
		gone = append(gone, d)
	}
	if err := a.commitWith(t, before); err != nil {
		return 0, nil, err
	}
	if err := a.remove(ctx, gone); err != nil {
		return 0, nil, err
	}
	t = a.begin()
	for _, d := range gone {
		t.delete(key(tabLoose, d[:]))
	}
	return freed, last, a.commit(t)
}

// A manyDeleter deletes many blocks with one sync, as relay/pack does.
type manyDeleter interface {
	DeleteMany(ctx context.Context, list []cid.Cid) error
}

func (a *Archive) remove(ctx context.Context, gone []seal.Digest) error {
	list := make([]cid.Cid, 0, len(gone))
	for _, d := range gone {
		list = append(list, cidOf(d))
	}
	if m, ok := a.blocks.(manyDeleter); ok {
		return m.DeleteMany(ctx, list)
	}
	for _, c := range list {
		if err := a.blocks.DeleteBlock(ctx, c); err != nil {
			return err
		}
	}
	return nil
}
