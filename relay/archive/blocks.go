package archive

import (
	"context"
	"crypto/sha256"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// Wanted gives blocks of a group that records refer to and that are not held, by
// digest, after one (the zero Digest: from the first).
func (a *Archive) Wanted(id group.ID, after seal.Digest, limit int) ([]seal.Digest, error) {
	prefix := key(tabWanted, id[:])
	from := append(wantedKey(id, after), 0)
	if after == (seal.Digest{}) {
		from = prefix
	}
	var out []seal.Digest
	err := each(a.db.NewIterator(util.BytesPrefix(prefix), nil), from, func(k, _ []byte) (bool, error) {
		out = append(out, seal.Digest(k[len(prefix):]))
		return len(out) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list wanted blocks: %w", err)
	}
	return out, nil
}

// Lacks gives those of some blocks that a group's records wait for, in their order.
func (a *Archive) Lacks(id group.ID, list []seal.Digest) (out []seal.Digest, err error) {
	for _, d := range list {
		wanted, err := a.db.Has(wantedKey(id, d), nil)
		if err != nil {
			return nil, fmt.Errorf("see whether a block is wanted: %w", err)
		}
		if wanted {
			out = append(out, d)
		}
	}
	return out, nil
}

// Put takes in blocks that a group's records wait for. They are durable when it
// returns, and what they make whole has replaced what it replaces. Of each that was not
// taken in it tells why, by its place in data: ErrUnwanted, ErrQuota. An error means
// that it is not known which were.
func (a *Archive) Put(ctx context.Context, id group.ID, data [][]byte) (refused map[int]error, err error) {
	list, refused, err := a.admit(id, data)
	if err != nil {
		return nil, fmt.Errorf("take in blocks: %w", err)
	}
	if len(list) > 0 {
		// Not under the lock: others' blocks are synced together with these. Nothing
		// collects them meanwhile, for nothing knows of them.
		if err := a.blocks.PutMany(ctx, list); err != nil {
			return nil, fmt.Errorf("store blocks: %w", err)
		}
		if err := a.arrived(ctx, id, list); err != nil {
			return nil, fmt.Errorf("take in blocks: %w", err)
		}
	}
	return refused, nil
}

// admit tells which blocks may come in.
func (a *Archive) admit(id group.ID, data [][]byte) (list []blocks.Block, refused map[int]error, err error) {
	refused = make(map[int]error)
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	if g == nil {
		return nil, nil, fmt.Errorf("group %s: %w", id, ErrNotHosted)
	}
	t := a.begin()
	room := g.limit.Bytes - min(g.limit.Bytes, g.use.Bytes)
	for i, b := range data {
		d := seal.Digest(sha256.Sum256(b))
		wanted, err := t.has(wantedKey(id, d))
		switch {
		case err != nil:
			return nil, nil, err
		case !wanted || len(b) > max(seal.MaxSealed, seal.PageRefs*digestBytes):
			refused[i] = fmt.Errorf("block %s: %w", cidOf(d), ErrUnwanted)
		case uint64(len(b)) > room:
			refused[i] = fmt.Errorf("block %s of %d bytes: %w", cidOf(d), len(b), ErrQuota)
		default:
			room -= uint64(len(b))
			block, err := blocks.NewBlockWithCid(b, cidOf(d))
			if err != nil {
				return nil, nil, err
			}
			list = append(list, block)
		}
	}
	return list, refused, nil
}

// arrived writes down that blocks are held, and what that makes whole.
func (a *Archive) arrived(ctx context.Context, id group.ID, list []blocks.Block) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[id]
	t := a.begin()
	a.tick(t)
	before := map[*hosted]use{g: g.use}
	for _, b := range list {
		d, ok := digestOf(b.Cid())
		if !ok {
			return fmt.Errorf("block %s: %w", b.Cid(), ErrUnwanted)
		}
		if err := a.arrivedOne(ctx, t, g, d, len(b.RawData()), before); err != nil {
			for g, was := range before {
				g.use = was
			}
			return err
		}
	}
	return a.commitWith(t, before)
}

func (a *Archive) arrivedOne(ctx context.Context, t *tx, g *hosted, d seal.Digest, size int, before map[*hosted]use) error {
	if here, err := t.has(key(tabHeld, d[:])); err != nil || here {
		return err // another Put was first
	}
	// Another Put may have been first, and all that waited for the block gone since, and
	// the block with it. Under the lock nothing is collected.
	if here, err := a.blocks.Has(ctx, cidOf(d)); err != nil || !here {
		return err
	}
	t.put(key(tabHeld, d[:]), encode(held{Size: uint64(size), Group: g.id}))
	g.use.Bytes += uint64(size)
	t.delete(wantedKey(g.id, d))
	waiting, err := t.keys(key(tabMissing, d[:]), 0)
	if err != nil {
		return err
	}
	for _, k := range waiting {
		t.delete(k)
		if err := a.arrivedFor(ctx, t, d, numberOf(k), before); err != nil {
			return err
		}
	}
	used, err := t.any(key(tabRef, d[:]))
	if err != nil {
		return err
	}
	if !used {
		// Whatever waited for it has gone while it was stored.
		t.put(key(tabLoose, d[:]), nil)
	}
	return nil
}

// arrivedFor counts an arrived block for one record that waited for it.
func (a *Archive) arrivedFor(ctx context.Context, t *tx, d seal.Digest, no uint64, before map[*hosted]use) error {
	r, err := t.record(no)
	if err != nil {
		return err
	}
	g := a.groups[r.Group]
	if g == nil {
		return fmt.Errorf("record %d is of group %s: %w", no, r.Group, ErrDamaged)
	}
	if _, ok := before[g]; !ok {
		before[g] = g.use
	}
	t.delete(wantedKey(r.Group, d))
	more := uint64(0)
	for _, p := range r.Pages {
		if p == d {
			if more, err = a.referPage(ctx, t, &r.Header, d, no); err != nil {
				return err
			}
			break
		}
	}
	p := placeOf(&r.Header)
	list, heads, err := t.entry(p)
	if err != nil {
		return err
	}
	for i := range list {
		if list[i].No != no {
			continue
		}
		list[i].Missing += more
		list[i].Missing -= min(1, list[i].Missing)
		if !list[i].Whole && list[i].Missing == 0 {
			list[i].Whole = true
			return a.settle(ctx, t, g, p, list, heads, i)
		}
		t.put(p.key(tabEntry), encode(list))
	}
	return nil // a replaced one, that a lost block has come back to
}

// Block gives a block that came for a group and is held; nil if there is none. Whoever
// may read the group's records may read its blocks: the caller makes sure of that.
func (a *Archive) Block(ctx context.Context, id group.ID, d seal.Digest) ([]byte, error) {
	var h held
	if found, err := a.begin().load(key(tabHeld, d[:]), &h); err != nil || !found || h.Group != id {
		return nil, err
	}
	b, err := a.blocks.Get(ctx, cidOf(d))
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", cidOf(d), err)
	}
	return b.RawData(), nil
}

// Lost says that a held block is gone or broken: it is wanted again.
func (a *Archive) Lost(d seal.Digest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.begin()
	var h held
	if found, err := t.load(key(tabHeld, d[:]), &h); err != nil || !found {
		return err
	}
	before := map[*hosted]use{}
	if g := a.groups[h.Group]; g != nil {
		before[g] = g.use
		g.use.Bytes -= min(h.Size, g.use.Bytes)
	}
	if err := a.lost(t, d); err != nil {
		for g, was := range before {
			g.use = was
		}
		return fmt.Errorf("block %s is lost: %w", cidOf(d), err)
	}
	return a.commitWith(t, before)
}

func (a *Archive) lost(t *tx, d seal.Digest) error {
	t.delete(key(tabHeld, d[:]))
	t.delete(key(tabLoose, d[:]))
	refs, err := t.keys(key(tabRef, d[:]), 0)
	if err != nil {
		return err
	}
	for _, k := range refs {
		no := numberOf(k)
		r, err := t.record(no)
		if err != nil {
			return err
		}
		t.put(refKey(tabMissing, d, no), nil)
		t.put(wantedKey(r.Group, d), nil)
		p := placeOf(&r.Header)
		var list []current
		if _, err := t.load(p.key(tabEntry), &list); err != nil {
			return err
		}
		for i := range list {
			if list[i].No == no {
				list[i].Missing++
				t.put(p.key(tabEntry), encode(list))
			}
		}
	}
	return nil
}
