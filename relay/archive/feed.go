package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/crdt"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// An Item is a record as a reader is given it.
type Item struct {
	Number uint64 // of the archive: rises with each record that is taken in
	Record []byte // encoded: seal.ParseRecord
	Wall   int64  // when it came, by the relay's clock, in Unix milliseconds
}

// After gives the current records of a folder that came after a number, in order. Who
// asks again from the last Number it has taken in hears of all there is: a record that
// has gone meanwhile was replaced by one that came later. Numbers mean nothing under
// another StoreID.
func (a *Archive) After(id group.ID, folder crdt.FolderID, after uint64, limit int) ([]Item, error) {
	snap, err := a.db.GetSnapshot()
	if err != nil {
		return nil, fmt.Errorf("read the records of folder %s: %w", folder, err)
	}
	defer snap.Release()
	prefix := key(tabFeed, id[:], folder[:])
	var out []Item
	err = each(snap.NewIterator(util.BytesPrefix(prefix), nil), feedKey(id, folder, after+1), func(k, v []byte) (bool, error) {
		raw, err := snap.Get(recordKey(numberOf(k)), nil)
		if errors.Is(err, leveldb.ErrNotFound) {
			return false, fmt.Errorf("record %d is not there: %w", numberOf(k), ErrDamaged)
		}
		i := Item{Number: numberOf(k), Record: raw}
		if len(v) == 8 {
			i.Wall = int64(binary.BigEndian.Uint64(v)) //nolint:gosec // written as one
		}
		out = append(out, i)
		return len(out) < limit, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the records of folder %s: %w", folder, err)
	}
	return out, nil
}

// A Version is one record of an entry, with what the archive makes of it.
type Version struct {
	Item
	Current bool
	Whole   bool  // all its blocks are or were here
	Purged  bool  // its content is gone
	Gone    int64 // when it was replaced, in Unix milliseconds; 0: it was not
}

// Versions gives all records of an entry that are kept, oldest first.
func (a *Archive) Versions(id group.ID, folder crdt.FolderID, token seal.Token) ([]Version, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := place{id, folder, token}
	t := a.begin()
	var list []current
	if _, err := t.load(p.key(tabEntry), &list); err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	var out []Version
	for _, c := range list {
		out = append(out, Version{Item: Item{Number: c.No, Wall: c.Wall}, Current: true, Whole: c.Whole, Purged: c.Purged})
	}
	olds, err := t.keys(p.key(tabOld), 0)
	if err != nil {
		return nil, fmt.Errorf("list versions: %w", err)
	}
	for _, k := range olds {
		var o old
		if _, err := t.load(k, &o); err != nil {
			return nil, fmt.Errorf("list versions: %w", err)
		}
		out = append(out, Version{Item: Item{Number: numberOf(k), Wall: o.Wall}, Whole: true, Gone: o.Gone})
	}
	for i := range out {
		if out[i].Record, err = t.get(recordKey(out[i].Number)); err != nil {
			return nil, fmt.Errorf("list versions: %w", err)
		}
	}
	slices.SortFunc(out, func(a, b Version) int { return int(a.Number) - int(b.Number) })
	return out, nil
}

// TakeHead takes in a device's word of what it has uploaded. The errors are those of
// seal.Head.Follows, ErrNotHosted, or seal.ErrNotWriter; what was there stays then.
func (a *Archive) TakeHead(h *seal.Head) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.groups[h.Group]
	if g == nil {
		return fmt.Errorf("take in a head: group %s: %w", h.Group, ErrNotHosted)
	}
	if state := g.log.Evaluate(); !state.CanWrite(h.Author) {
		return fmt.Errorf("take in a head by %s: %w", h.Author, seal.ErrNotWriter)
	}
	t := a.begin()
	k := key(tabHead, h.Group[:], h.Folder[:], h.Author[:])
	raw, err := t.get(k)
	if err != nil {
		return fmt.Errorf("take in a head: %w", err)
	}
	if raw != nil {
		earlier, err := seal.ParseHead(raw)
		if err != nil {
			return fmt.Errorf("take in a head: %w: %w", ErrDamaged, err)
		}
		if err := h.Follows(earlier); err != nil {
			return fmt.Errorf("take in a head: %w", err)
		}
	}
	t.put(k, h.Encode())
	return a.commit(t)
}

// Heads gives what the devices of a group say that they have uploaded to a folder.
func (a *Archive) Heads(id group.ID, folder crdt.FolderID) (heads [][]byte, err error) {
	err = each(a.db.NewIterator(util.BytesPrefix(key(tabHead, id[:], folder[:])), nil), nil, func(_, v []byte) (bool, error) {
		heads = append(heads, append([]byte(nil), v...))
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list heads: %w", err)
	}
	return heads, nil
}

// SetAside gives the records of a group that do not count, to be shown to its owners.
func (a *Archive) SetAside(id group.ID, limit int) (records [][]byte, err error) {
	err = each(a.db.NewIterator(util.BytesPrefix(key(tabAside, id[:])), nil), nil, func(_, v []byte) (bool, error) {
		records = append(records, append([]byte(nil), v...))
		return len(records) < limit, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list what was set aside: %w", err)
	}
	return records, nil
}
