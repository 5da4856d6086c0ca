package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"strings"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// A Tx changes a folder. It reads as a Reader does, its own changes included,
// and is a crdt.Rows, so that crdt.Apply and crdt's Recorder run on it. Keep
// one to a few thousand entries: it is held in memory until its end.
type Tx struct {
	Reader
	lazy   bool
	over   *overlay
	rows   map[crdt.EntryID]*work // every row looked at, nil where there is none
	dirty  []*work
	lists  []crdt.ContentHash // put in this transaction
	unref  []crdt.ContentHash // lost a reference in this transaction
	orphan map[crdt.EntryID]bool
	wrote  map[crdt.EntryID][]byte // rows put, encoded
	before meta
	err    error // of the database or of a misuse: the transaction cannot commit
}

var _ crdt.Rows = (*Tx)(nil)

// maxRows bounds the rows kept of those that were only looked at.
const maxRows = 1 << 14

// work is a row in a transaction, with the facts that the derived tables hold
// of it now.
type work struct {
	row   *row
	facts facts
	dirty bool
	known bool // facts are those of the tables
}

func newTx(f *Folder, lazy bool) *Tx {
	t := &Tx{lazy: lazy, over: newOverlay(), rows: make(map[crdt.EntryID]*work), orphan: make(map[crdt.EntryID]bool), wrote: make(map[crdt.EntryID][]byte), before: *f.state.Load()}
	t.Reader = Reader{f: f, view: view{src: f.s.db, over: t.over}, meta: t.before, tx: t}
	return t
}

// work gives the transaction's row of an entry, nil if there is none.
func (t *Tx) work(id crdt.EntryID) (*work, error) {
	if w, ok := t.rows[id]; ok {
		return w, nil
	}
	if len(t.rows) >= maxRows {
		maps.DeleteFunc(t.rows, func(_ crdt.EntryID, w *work) bool { return w == nil || !w.dirty })
	}
	r, err := t.load(id)
	if err != nil {
		return nil, err
	}
	var w *work
	if r != nil {
		w = &work{row: r}
	}
	t.rows[id] = w
	return w, nil
}

// change gives the row of an entry to be changed, a new one if there is none.
func (t *Tx) change(id crdt.EntryID) (*row, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	w, err := t.work(id)
	if err != nil {
		return nil, err
	}
	if w == nil {
		w = &work{row: &row{id: id}, known: true}
		t.rows[id] = w
	}
	if !w.known {
		if w.facts, err = derive(w.row); err != nil {
			return nil, t.fail("read an entry", err)
		}
		w.known = true
	}
	if !w.dirty {
		w.dirty = true
		t.dirty = append(t.dirty, w)
	}
	return w.row, nil
}

// misuse makes the transaction fail because of its caller.
func (t *Tx) misuse(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if t.err == nil {
		t.err = err
	}
	return err
}

// PutEntry puts an entry's new state and its node. If the state differs from
// the one that is there, it gets the next sequence number.
func (t *Tx) PutEntry(e crdt.Entry, n crdt.Node) error {
	if e.ID == crdt.Root {
		return t.misuse("put an entry: the root has none")
	}
	r, err := t.change(e.ID)
	if err != nil {
		return err
	}
	if enc := e.Encode(nil); !r.indexed() || !bytes.Equal(enc, r.enc) {
		t.meta.seq++
		if err := r.setState(e, enc, t.meta.seq); err != nil {
			return t.fail("put an entry", err)
		}
	}
	return t.fail("put an entry", r.setView(n))
}

// PutNode puts an entry's node, or the root's.
func (t *Tx) PutNode(id crdt.EntryID, n crdt.Node) error {
	r, err := t.change(id)
	if err != nil {
		return err
	}
	if !r.indexed() && id != crdt.Root {
		return t.misuse("put a node: no entry %s", id)
	}
	return t.fail("put a node", r.setView(n))
}

// Link notes that id is visible under parent with a raw name of this NameKey.
func (t *Tx) Link(parent crdt.EntryID, key string, id crdt.EntryID) error {
	return t.setName(parent, key, id, func(n *nameRow) { n.linked = true })
}

// Unlink undoes Link.
func (t *Tx) Unlink(parent crdt.EntryID, key string, id crdt.EntryID) error {
	return t.setName(parent, key, id, func(n *nameRow) { n.linked = false })
}

func (t *Tx) setName(parent crdt.EntryID, key string, id crdt.EntryID, set func(*nameRow)) error {
	if err := t.usable(); err != nil {
		return err
	}
	k := append(t.f.n.nameKey(parent, key), id[:]...)
	val, ok, err := t.view.get(k)
	if err != nil {
		return t.fail("put a name", err)
	}
	var n nameRow
	if ok {
		if n, err = decodeName(val); err != nil {
			return t.fail("put a name", err)
		}
	}
	set(&n)
	if !n.linked && !n.based {
		return t.fail("put a name", t.over.remove(k))
	}
	return t.fail("put a name", t.over.put(k, n.encode()))
}

// SetFallen notes whether an entry has fallen back in the view.
func (t *Tx) SetFallen(id crdt.EntryID, fallen bool) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.fail("put a fallen entry", t.mark(t.f.n.idKey(tabFallen, id), fallen))
}

// mark puts or removes a key that has no value.
func (t *Tx) mark(key []byte, on bool) error {
	if on {
		return t.over.put(key, nil)
	}
	return t.over.remove(key)
}

// SetBase puts what the disk has taken in of an entry. By the end of the
// transaction the index must have the entry too.
func (t *Tx) SetBase(b Base) error {
	switch {
	case b.ID == crdt.Root || b.Entry.ID != b.ID:
		return t.misuse("put a base row: entry %s under the ID %s", b.Entry.ID, b.ID)
	case b.Here && (b.At.Name == "" || strings.ContainsRune(b.At.Name, 0)):
		return t.misuse("put a base row: entry %s is on the disk as %q", b.ID, b.At.Name)
	}
	r, err := t.change(b.ID)
	if err != nil {
		return err
	}
	r.setBase(b)
	return nil
}

// DropBase forgets what the disk has taken in of an entry.
func (t *Tx) DropBase(id crdt.EntryID) error {
	if err := t.usable(); err != nil {
		return err
	}
	if w, err := t.work(id); err != nil || w == nil || w.row.base == nil {
		return err
	}
	r, err := t.change(id)
	if err != nil {
		return err
	}
	r.base = nil
	return nil
}

// SetCursor notes how far a peer's store has been applied here. A peer has one
// store at a time: the cursor of an earlier one is forgotten.
func (t *Tx) SetCursor(peer [32]byte, store StoreID, seq uint64) error {
	if err := t.usable(); err != nil {
		return err
	}
	key := append(t.f.n.key(tabPeer, len(peer)), peer[:]...)
	return t.fail("put a cursor", t.over.put(key, binary.AppendUvarint(bytes.Clone(store[:]), seq)))
}

// MergeHeads notes that everything up to these counters has been applied here.
// What it says of our own replica is passed over: of that only SetCounter
// speaks. (A peer whose heads have a higher counter of ours than
// Folder.Counter proves that this database is older than what it once said;
// the caller then asks for Folder.FreshReplica.)
func (t *Tx) MergeHeads(heads crdt.VersionVector) error {
	for _, d := range heads {
		if d.Replica == t.meta.replica {
			continue
		}
		if err := t.putHead(d); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) putHead(d crdt.Dot) error {
	if err := t.usable(); err != nil {
		return err
	}
	key := append(t.f.n.key(tabHead, len(d.Replica)), d.Replica[:]...)
	val, ok, err := t.view.get(key)
	if err != nil {
		return t.fail("read heads", err)
	}
	if ok {
		r := reading{b: val}
		have := r.uint()
		if err := r.end(); err != nil || have >= d.Counter {
			return t.fail("read heads", err)
		}
	}
	return t.fail("put heads", t.over.put(key, binary.AppendUvarint(nil, d.Counter)))
}

// SetCounter notes the last counter of this replica that has been used. It
// never goes back, and only a synced update may set it: a dot must be durable
// before anybody hears of it.
func (t *Tx) SetCounter(counter uint64) error {
	switch err := t.usable(); {
	case err != nil:
		return err
	case counter < t.meta.counter:
		return t.misuse("set the replica's counter to %d: it is %d already", counter, t.meta.counter)
	case counter > t.meta.counter && t.lazy:
		return t.misuse("set the replica's counter: %w", ErrLazyCounter)
	}
	t.meta.counter = counter
	return nil
}

// PutList puts the block list of a content. Lists of one block or none are not
// kept (see Reader.ListOf), nor are lists that no entry, of index or base,
// refers to at the end of the transaction; a list goes when the last entry
// that refers to it does.
func (t *Tx) PutList(content crdt.ContentHash, list chunk.List) error {
	if err := t.usable(); err != nil || len(list) < 2 {
		return err
	}
	if size := list.EncodedSize(); size > chunk.MaxList {
		return fmt.Errorf("put a block list: %d bytes long, more than %d", size, chunk.MaxList)
	}
	if c := crdt.ContentHash(list.Content()); c != content {
		return fmt.Errorf("put a block list: it is that of %s, not of %s", c, content)
	}
	key := t.f.n.contentKey(tabList, content)
	_, have, err := t.view.get(key)
	if err != nil || have {
		return t.fail("read a block list", err)
	}
	val := append(binary.AppendUvarint(nil, uint64(list.Size())), list.Encode()...)
	t.lists = append(t.lists, content)
	return t.fail("put a block list", t.over.put(key, val))
}

// finish settles everything and tells whether anything is to be written.
func (t *Tx) finish() (changed bool, err error) {
	if err := t.usable(); err != nil {
		return false, err
	}
	if err := t.settle(); err != nil {
		return false, err
	}
	for id := range t.orphan {
		return false, t.misuse("the disk has taken in entry %s, which is not in the index", id)
	}
	if err := t.settleLists(); err != nil {
		return false, err
	}
	return t.over.rows.Len() > 0 || t.meta != t.before, t.err
}
