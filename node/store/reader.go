package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// A Reader reads one state of a folder: a snapshot (Folder.Read), or, inside a
// Tx, what the transaction has made of it so far. It is for one goroutine and
// ends with the function that it was given to.
type Reader struct {
	f    *Folder
	view view
	meta meta
	tx   *Tx  // nil for a snapshot
	last *row // of a snapshot: the row read last, since one is mostly asked about in a run
	dirs map[crdt.EntryID]*dirNames
	done bool
}

// maxSameInode bounds how many base rows with one inode number are looked at.
const maxSameInode = 64

func (r *Reader) usable() error {
	if r.done {
		return ErrTxDone
	}
	if r.tx != nil {
		return r.tx.err
	}
	return nil
}

// ready makes sure that derived rows are in step before they are read.
func (r *Reader) ready() error {
	if err := r.usable(); err != nil {
		return err
	}
	if r.tx != nil {
		return r.tx.settle()
	}
	return nil
}

// fail notes an error of the database, so that a transaction cannot commit
// over something it could not read.
func (r *Reader) fail(doing string, err error) error {
	if err == nil {
		return nil
	}
	err = r.f.s.fault(fmt.Errorf("%s: %w", doing, err))
	if r.tx != nil && r.tx.err == nil {
		r.tx.err = err
	}
	return err
}

// row gives an entry's row, nil if there is none. In a transaction it is the
// one row that the transaction works on.
func (r *Reader) row(id crdt.EntryID) (*row, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	if r.tx != nil {
		w, err := r.tx.work(id)
		if w == nil {
			return nil, err
		}
		return w.row, err
	}
	if r.last != nil && r.last.id == id {
		return r.last, nil
	}
	w, err := r.load(id)
	if w != nil {
		r.last = w
	}
	return w, err
}

// load reads a row: what the transaction has put or, else, what was committed.
// Only that is kept in the cache and taken from it.
func (r *Reader) load(id crdt.EntryID) (*row, error) {
	key := r.f.n.idKey(tabRow, id)
	data, ok, err := []byte(nil), false, error(nil)
	put := absent
	if r.view.over != nil {
		data, put = r.view.over.get(key)
		ok = put == there
	}
	if put == absent {
		if data, ok = r.f.cache.get(id, r.meta.commit); !ok {
			if data, ok, err = r.view.get(key); err == nil && ok {
				r.f.cache.put(id, data, r.meta.commit)
			}
		}
	}
	if err == nil && ok {
		var w *row
		if w, err = decodeRow(id, data); err == nil {
			return w, nil
		}
	}
	return nil, r.fail("read an entry", err)
}

// Entry gives an entry's state in the index.
func (r *Reader) Entry(id crdt.EntryID) (crdt.Entry, bool, error) {
	w, err := r.row(id)
	if err != nil || w == nil || !w.indexed() {
		return crdt.Entry{}, false, err
	}
	e, err := w.state()
	return e, err == nil, r.fail("read an entry", err)
}

// Node gives an entry's row in the view. There is always one of the root.
func (r *Reader) Node(id crdt.EntryID) (crdt.Node, bool, error) {
	w, err := r.row(id)
	if err != nil {
		return crdt.Node{}, false, err
	}
	if w == nil || !w.indexed() && id != crdt.Root {
		return crdt.Node{}, id == crdt.Root, nil
	}
	n, err := w.view()
	return n, err == nil, r.fail("read an entry", err)
}

// SeqOf gives the sequence number of an entry's last change.
func (r *Reader) SeqOf(id crdt.EntryID) (uint64, bool, error) {
	w, err := r.row(id)
	if err != nil || w == nil {
		return 0, false, err
	}
	return w.seq, w.indexed(), nil
}

// Named gives the visible entries under parent whose raw name has this
// NameKey, in the order of their IDs.
func (r *Reader) Named(parent crdt.EntryID, key string) (ids []crdt.EntryID, err error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	err = r.view.scan(r.f.n.nameKey(parent, key), nil, func(k, v []byte) (bool, error) {
		if id, ok := lastID(k); ok && len(v) > 0 && v[0]&nameLinked != 0 {
			ids = append(ids, id)
		}
		return true, nil
	})
	return ids, r.fail("read names", err)
}

// Find gives the visible child of parent that is shown by this name, or by one
// that is equal to it by crdt.NameKey.
func (r *Reader) Find(parent crdt.EntryID, shown string) (crdt.EntryID, bool, error) {
	return crdt.Find(r.AsRows(), parent, shown)
}

// AsRows shows the index as crdt's readers need it (Validate, a Recorder's
// index). Its writes fail; a Tx is what can be written. It is good as long as r
// is.
func (r *Reader) AsRows() crdt.Rows { return readOnly{r} }

type readOnly struct{ *Reader }

var errReadOnly = errors.New("a snapshot cannot be written")

func (readOnly) PutEntry(crdt.Entry, crdt.Node) error            { return errReadOnly }
func (readOnly) PutNode(crdt.EntryID, crdt.Node) error           { return errReadOnly }
func (readOnly) Link(crdt.EntryID, string, crdt.EntryID) error   { return errReadOnly }
func (readOnly) Unlink(crdt.EntryID, string, crdt.EntryID) error { return errReadOnly }
func (readOnly) SetFallen(crdt.EntryID, bool) error              { return errReadOnly }

// ids gives all the EntryIDs of a table that holds nothing else.
func (r *Reader) ids(table byte) (ids []crdt.EntryID, err error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	err = r.view.scan(r.f.n.key(table, 0), nil, func(k, _ []byte) (bool, error) {
		if id, ok := lastID(k); ok {
			ids = append(ids, id)
		}
		return true, nil
	})
	return ids, r.fail("read a table", err)
}

// Fallen gives the entries that have fallen back in the view because of a cycle.
func (r *Reader) Fallen() ([]crdt.EntryID, error) { return r.ids(tabFallen) }

// A Child is one visible entry of a directory.
type Child struct {
	ID    crdt.EntryID
	Kind  crdt.Kind
	Shown string
}

// Children gives a page of the visible entries directly under parent, in the
// order of the NameKeys of their raw names (which is not quite that of the
// names shown, where several share a name). after is what the call for the
// page before gave as next, "" for the first; next is "" when there is no more.
func (r *Reader) Children(parent crdt.EntryID, after string, limit int) (page []Child, next string, err error) {
	ids, next, err := r.names(parent, after, limit, nameLinked)
	if err != nil {
		return nil, "", err
	}
	page = make([]Child, 0, len(ids))
	for _, id := range ids {
		w, err := r.row(id)
		if err == nil && (w == nil || !w.indexed()) {
			err = r.fail("list a directory", fmt.Errorf("entry %s is named but has no row", id))
		}
		if err != nil {
			return nil, "", err
		}
		e, err := w.state()
		if err != nil {
			return nil, "", r.fail("list a directory", err)
		}
		n, err := w.view()
		if err != nil {
			return nil, "", r.fail("list a directory", err)
		}
		page = append(page, Child{ID: id, Kind: e.Kind, Shown: n.Shown})
	}
	return page, next, nil
}

// names gives a page of the entries under parent whose name rows have a flag.
func (r *Reader) names(parent crdt.EntryID, after string, limit int, flag byte) (ids []crdt.EntryID, next string, err error) {
	if err := r.ready(); err != nil {
		return nil, "", err
	}
	prefix := r.f.n.dirKey(parent)
	var start []byte
	if after != "" {
		start = append(slices.Clone(prefix), after...)
		start = append(start, 0)
	}
	last := ""
	err = r.view.scan(prefix, start, func(k, v []byte) (bool, error) {
		if len(v) == 0 || v[0]&flag == 0 {
			return true, nil
		}
		if limit > 0 && len(ids) == limit {
			next = last
			return false, nil
		}
		id, ok := lastID(k)
		if !ok {
			return false, errShort
		}
		ids = append(ids, id)
		if limit > 0 && len(ids) == limit {
			last = string(k[len(prefix):])
		}
		return true, nil
	})
	return ids, next, r.fail("list a directory", err)
}

// Base gives what the disk has taken in of an entry.
func (r *Reader) Base(id crdt.EntryID) (Base, bool, error) {
	w, err := r.row(id)
	if err != nil || w == nil {
		return Base{}, false, err
	}
	b, ok, err := w.baseOut()
	return b, ok, r.fail("read an entry", err)
}

// BaseChildIDs gives a page of what is on the disk directly under parent, in
// the order of the names' NameKeys; after and next as for Children.
func (r *Reader) BaseChildIDs(parent crdt.EntryID, after string, limit int) ([]crdt.EntryID, string, error) {
	return r.names(parent, after, limit, nameBased)
}

// BaseChildren gives everything that is on the disk directly under parent. For
// directories that may be huge use BaseChildIDs.
func (r *Reader) BaseChildren(parent crdt.EntryID) ([]Base, error) {
	ids, _, err := r.BaseChildIDs(parent, "", 0)
	if err != nil {
		return nil, err
	}
	all := make([]Base, 0, len(ids))
	for _, id := range ids {
		b, ok, err := r.Base(id)
		if err == nil && (!ok || !b.Here) {
			err = r.fail("list a directory", fmt.Errorf("entry %s is named on the disk but is not there", id))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

// BaseStats gives everything that is on the disk directly under parent as far as
// one needs to see that it has not changed, without reading the rows: it is
// several times faster than BaseChildren.
func (r *Reader) BaseStats(parent crdt.EntryID) (all []BaseStat, err error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	_, err = r.based(parent, 0, func(b BaseStat) { all = append(all, b) })
	return all, r.fail("list a directory", err)
}

// based calls fn for everything that is on the disk directly under parent; unless
// the directory has more than most names in index and on disk together (0: any
// number): then it gives false, and fn may have been called for some.
func (r *Reader) based(parent crdt.EntryID, most int, fn func(BaseStat)) (all bool, err error) {
	prefix, names := r.f.n.dirKey(parent), 0
	err = r.view.scan(prefix, nil, func(k, v []byte) (bool, error) {
		if names++; most > 0 && names > most {
			return false, nil
		}
		if len(v) == 0 || v[0]&nameBased == 0 {
			return true, nil
		}
		n, err := decodeName(v)
		id, ok := lastID(k)
		if err != nil || !ok || len(k) <= len(prefix)+idLen {
			return false, fmt.Errorf("name row %x: %w", k, errors.Join(err, errShort))
		}
		fn(BaseStat{ID: id, Name: n.diskName(string(k[len(prefix) : len(k)-idLen-1])), Stat: n.stat})
		return true, nil
	})
	return most == 0 || names <= most, err
}

// A dirNames is what a snapshot remembers of the names that the disk has in a
// directory.
type dirNames struct {
	asked int
	all   map[string]crdt.EntryID // nil: not read, or too many
}

const (
	namesAsked = 8    // so often a directory is asked about before its names are read
	namesKept  = 2048 // a larger one is looked into name by name
)

// baseNames gives the names on the disk in a directory that is asked about often,
// since reading a hundred of them in a row costs no more than finding two; nil
// for others.
func (r *Reader) baseNames(parent crdt.EntryID) (map[string]crdt.EntryID, error) {
	if r.tx != nil {
		return nil, nil
	}
	d := r.dirs[parent]
	if d == nil {
		d = new(dirNames)
		if r.dirs == nil {
			r.dirs = make(map[crdt.EntryID]*dirNames)
		}
		r.dirs[parent] = d
	}
	if d.asked++; d.asked != namesAsked {
		return d.all, nil
	}
	names := make(map[string]crdt.EntryID)
	all, err := r.based(parent, namesKept, func(b BaseStat) { names[b.Name] = b.ID })
	if err == nil && all {
		d.all = names
	}
	return d.all, r.fail("list a directory", err)
}

// BaseAt gives the entry that is on the disk under parent by exactly this name.
func (r *Reader) BaseAt(parent crdt.EntryID, name string) (id crdt.EntryID, found bool, err error) {
	if err := r.ready(); err != nil {
		return id, false, err
	}
	if names, err := r.baseNames(parent); err != nil || names != nil {
		id, found = names[name]
		return id, found, err
	}
	key := crdt.NameKey(name)
	err = r.view.scan(r.f.n.nameKey(parent, key), nil, func(k, v []byte) (bool, error) {
		n, err := decodeName(v)
		if err != nil || !n.based || n.diskName(key) != name {
			return true, err
		}
		id, found = lastID(k)
		return false, nil
	})
	return id, found, r.fail("find a name", err)
}

// BaseFile gives the base row that has s's inode number and device: the one
// that is certainly the same file where there is one (stat.SameFile), else any
// (an inode number is used again, so the caller checks).
func (r *Reader) BaseFile(s stat.Stat) (Base, bool, error) {
	if s.Inode == 0 {
		return Base{}, false, nil
	}
	if err := r.ready(); err != nil {
		return Base{}, false, err
	}
	var ids []crdt.EntryID
	err := r.view.scan(r.f.n.inodeKey(s.Inode), nil, func(k, _ []byte) (bool, error) {
		if id, ok := lastID(k); ok {
			ids = append(ids, id)
		}
		return len(ids) < maxSameInode, nil
	})
	if err != nil {
		return Base{}, false, r.fail("find an inode", err)
	}
	var best Base
	found := false
	for _, id := range ids {
		b, ok, err := r.Base(id)
		if err != nil {
			return Base{}, false, err
		}
		if !ok || !b.Here || b.Stat.Device != s.Device {
			continue
		}
		if s.SameFile(b.Stat) {
			return b, true, nil
		}
		if !found {
			best, found = b, true
		}
	}
	return best, found, nil
}

// AsBase shows the base rows as crdt's Recorder needs them. It is good as long
// as r is.
func (r *Reader) AsBase() crdt.Base { return onDisk{r} }

type onDisk struct{ r *Reader }

func (d onDisk) Entry(id crdt.EntryID) (crdt.Entry, bool, error) {
	b, ok, err := d.r.Base(id)
	return b.Entry, ok, err
}

func (d onDisk) At(id crdt.EntryID) (crdt.Location, bool, error) {
	b, ok, err := d.r.Base(id)
	if !ok || !b.Here {
		return crdt.Location{}, false, err
	}
	return crdt.Location{Parent: b.At.Parent, Name: b.Name()}, true, err
}

func (d onDisk) Fallen() ([]crdt.EntryID, error) { return d.r.ids(tabOffPlace) }

// Behind gives up to limit (0: all) of the entries that the disk does not show
// as the view does, in the order of their last changes, those of a higher
// sequence number than after (0: from the start); next is the last one's
// number, the after for the next page. In this order what one scan found, a
// directory at a time, comes to another disk a directory at a time.
func (r *Reader) Behind(after uint64, limit int) (ids []crdt.EntryID, next uint64, err error) {
	if err := r.ready(); err != nil {
		return nil, after, err
	}
	next = after
	err = r.view.scan(r.f.n.key(tabBehind, 0), r.f.n.behindKey(after+1, crdt.EntryID{}), func(k, _ []byte) (bool, error) {
		id, ok := lastID(k)
		if !ok || len(k) != prefixLen+8+idLen {
			return false, errShort
		}
		ids, next = append(ids, id), binary.BigEndian.Uint64(k[prefixLen:])
		return limit <= 0 || len(ids) < limit, nil
	})
	return ids, next, r.fail("read what is behind", err)
}

// IsBehind tells whether an entry is one that Behind gives.
func (r *Reader) IsBehind(id crdt.EntryID) (bool, error) {
	w, err := r.row(id)
	if err != nil || w == nil || !w.indexed() {
		return false, err
	}
	n, err := w.view()
	if err != nil {
		return false, r.fail("read an entry", err)
	}
	behind, err := isBehind(w, n)
	return behind, r.fail("read an entry", err)
}

// BehindCount gives how many entries are behind and how many bytes of content
// they are to fetch.
func (r *Reader) BehindCount() (n int, bytes int64) {
	if r.ready() != nil {
		return 0, 0
	}
	return int(r.meta.behind), r.meta.missing
}

// Stats gives the folder's counts.
func (r *Reader) Stats() Stats {
	if r.ready() != nil {
		return Stats{}
	}
	return r.meta.stats
}

// Cursor gives the highest sequence number of a peer's store that has been
// applied here; zero if none, or if that peer has another store now.
func (r *Reader) Cursor(peer [32]byte, store StoreID) (uint64, error) {
	if err := r.usable(); err != nil {
		return 0, err
	}
	val, ok, err := r.view.get(append(r.f.n.key(tabPeer, len(peer)), peer[:]...))
	if err != nil || !ok {
		return 0, r.fail("read a peer's cursor", err)
	}
	d := reading{b: val}
	same := bytes.Equal(d.take(len(store)), store[:])
	seq := d.uint()
	if err := d.end(); err != nil || !same {
		return 0, r.fail("read a peer's cursor", err)
	}
	return seq, nil
}

// Heads gives for each replica the highest counter that has been applied here
// without a gap: of our own the last that was used, of others what MergeHeads
// brought.
func (r *Reader) Heads() (heads crdt.VersionVector, err error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	err = r.view.scan(r.f.n.key(tabHead, 0), nil, func(k, v []byte) (bool, error) {
		d := reading{b: v}
		dot := crdt.Dot{Counter: d.uint()}
		if copy(dot.Replica[:], k[prefixLen:]) != len(dot.Replica) {
			d.bad = true
		}
		heads = append(heads, dot) // keys come in the vector's order
		return true, d.end()
	})
	if err != nil {
		return nil, r.fail("read heads", err)
	}
	if r.meta.counter > 0 {
		heads = heads.With(crdt.Dot{Replica: r.meta.replica, Counter: r.meta.counter})
	}
	return heads, nil
}
