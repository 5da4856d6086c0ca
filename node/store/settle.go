package store

import (
	"encoding/binary"
	"fmt"
	"slices"

	"sheaf/crdt"
)

// settle brings the derived tables in step with the rows changed since.
func (t *Tx) settle() error {
	for _, w := range t.dirty {
		now, err := derive(w.row)
		if err == nil {
			err = t.restate(w.row.id, w.facts, now)
		}
		var val []byte
		if err == nil {
			val, err = w.row.encode()
		}
		if err == nil {
			err = t.over.put(t.f.n.idKey(tabRow, w.row.id), val)
			t.wrote[w.row.id] = val
		}
		if err != nil {
			return t.fail("put an entry", err)
		}
		if w.facts, w.dirty = now, false; w.row.base != nil && !w.row.indexed() {
			t.orphan[w.row.id] = true
		} else {
			delete(t.orphan, w.row.id)
		}
	}
	t.dirty = t.dirty[:0]
	return nil
}

// restate replaces what the derived tables hold of a row.
func (t *Tx) restate(id crdt.EntryID, was, now facts) error {
	n := t.f.n
	var all []error
	do := func(err error) { all = append(all, err) }
	if was.seq != now.seq {
		if was.seq != 0 {
			do(t.over.remove(n.seqKey(was.seq)))
		}
		if now.seq != 0 {
			do(t.over.put(n.seqKey(now.seq), id[:]))
		}
	}
	if was.behind != now.behind || was.missing != now.missing || was.seq != now.seq {
		if was.behind && (!now.behind || was.seq != now.seq) {
			do(t.over.remove(n.behindKey(was.seq, id)))
		}
		if now.behind {
			do(t.over.put(n.behindKey(now.seq, id), binary.AppendUvarint(nil, uint64(now.missing))))
		}
		t.meta.behind += bit(now.behind) - bit(was.behind)
		t.meta.missing += now.missing - was.missing
	}
	if was.based != now.based || was.at != now.at || was.stat != now.stat {
		if was.based && (!now.based || was.at != now.at) {
			do(t.setName(was.at.Parent, crdt.NameKey(was.at.Name), id, func(r *nameRow) { *r = nameRow{linked: r.linked} }))
		}
		if now.based {
			key := crdt.NameKey(now.at.Name)
			do(t.setName(now.at.Parent, key, id, func(r *nameRow) { r.setBased(key, now) }))
		}
	}
	if was.offPlace != now.offPlace {
		do(t.mark(n.idKey(tabOffPlace, id), now.offPlace))
	}
	if was.stat.Inode != now.stat.Inode {
		if was.stat.Inode != 0 {
			do(t.over.remove(append(n.inodeKey(was.stat.Inode), id[:]...)))
		}
		if now.stat.Inode != 0 {
			do(t.over.put(append(n.inodeKey(now.stat.Inode), id[:]...), nil))
		}
	}
	if was.blocks != now.blocks {
		do(t.restateBlocks(id, was.blocks, now.blocks))
	}
	for _, c := range was.lists {
		if !slices.Contains(now.lists, c) {
			do(t.over.remove(append(n.contentKey(tabRef, c), id[:]...)))
			t.unref = append(t.unref, c)
		}
	}
	for _, c := range now.lists {
		if !slices.Contains(was.lists, c) {
			do(t.over.put(append(n.contentKey(tabRef, c), id[:]...), nil))
		}
	}
	t.meta.stats.add(was.count, -1)
	t.meta.stats.add(now.count, 1)
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// restateBlocks replaces the rows of the block index that a file on the disk
// has, touching only those that differ.
func (t *Tx) restateBlocks(id crdt.EntryID, was, now blockSource) error {
	old, err := t.blocksOf(was)
	if err != nil {
		return err
	}
	rows, err := t.blocksOf(now)
	if err != nil {
		return err
	}
	key := func(h [hashCut]byte) []byte {
		return append(append(t.f.n.key(tabBlock, hashCut+idLen), h[:]...), id[:]...)
	}
	for h := range old {
		if _, keep := rows[h]; !keep {
			if err := t.over.remove(key(h)); err != nil {
				return err
			}
		}
	}
	for h, b := range rows {
		if had, same := old[h]; same && had == b {
			continue
		}
		if err := t.over.put(key(h), b.encode()); err != nil {
			return err
		}
	}
	return nil
}

// blocksOf gives the block index rows for a content on the disk; none if its
// list is not known (PutList adds them when it comes).
func (r *Reader) blocksOf(b blockSource) (map[[hashCut]byte]blockRow, error) {
	if b.blocks == 0 {
		return nil, nil
	}
	list, ok, err := r.ListOf(crdt.Version{Content: b.content, Blocks: b.blocks, Size: b.size})
	if err != nil || !ok {
		return nil, err
	}
	return blockRows(list), nil
}

// settleLists indexes the blocks of the lists that came in, and drops the lists
// that nothing refers to.
func (t *Tx) settleLists() error {
	for _, c := range t.lists {
		ids, err := t.referring(c, 0)
		if err != nil {
			return err
		}
		for _, id := range ids {
			w, err := t.work(id)
			if err != nil {
				return err
			}
			if w == nil {
				return t.fail("put a block list", fmt.Errorf("entry %s refers to a list and has no row", id))
			}
			f, err := derive(w.row)
			if err != nil {
				return t.fail("read an entry", err)
			}
			if f.blocks.content == c && f.blocks.blocks > 1 {
				if err := t.restateBlocks(id, blockSource{}, f.blocks); err != nil {
					return t.fail("put a block list", err)
				}
			}
		}
	}
	for _, c := range append(t.lists, t.unref...) {
		ids, err := t.referring(c, 1)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			if err := t.over.remove(t.f.n.contentKey(tabList, c)); err != nil {
				return t.fail("drop a block list", err)
			}
		}
	}
	return nil
}

// referring gives up to limit (0: all) of the entries that refer to a list.
func (t *Tx) referring(c crdt.ContentHash, limit int) (ids []crdt.EntryID, err error) {
	err = t.view.scan(t.f.n.contentKey(tabRef, c), nil, func(k, _ []byte) (bool, error) {
		if id, ok := lastID(k); ok {
			ids = append(ids, id)
		}
		return limit == 0 || len(ids) < limit, nil
	})
	return ids, t.fail("read references to a block list", err)
}
