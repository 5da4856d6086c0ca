package store

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sheaf/crdt"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

// Random histories: devices that make changes on what their disk shows, take
// each other's entries in batches of any size, and materialise in part. Each
// device has a folder in a store, and the same kept in plain maps beside it.

type device struct {
	f      *Folder
	rows   *crdt.MemRows
	bases  map[crdt.EntryID]Base
	peer   [32]byte
	inodes uint64
}

// memBase is the disk of a device as plain maps.
type memBase struct{ d *device }

func (m memBase) Entry(id crdt.EntryID) (crdt.Entry, bool, error) {
	b, ok := m.d.bases[id]
	return b.Entry, ok, nil
}

func (m memBase) At(id crdt.EntryID) (crdt.Location, bool, error) {
	b := m.d.bases[id]
	return crdt.Location{Parent: b.At.Parent, Name: b.Name()}, b.Here, nil
}

func (m memBase) Fallen() (ids []crdt.EntryID, err error) {
	for id, b := range m.d.bases {
		if b.Here && b.At.Parent != b.Entry.Place.Parent {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, crdt.EntryID.Compare)
	return ids, nil
}

type history struct {
	rnd     *rand.Rand
	devices []*device
	changes uint64
	moving  bool // directories are moved into one another, and little else

	conflicts int64 // met with, to know that histories have them
	fallen    int
}

func newHistory(t testing.TB, seed uint64, n int) *history {
	h := &history{rnd: seeded(seed)}
	for i := range n {
		o := inMemory(Options{Rand: randBytes{seeded(seed<<8 + uint64(i) + 1)}})
		s := openStore(t, filepath.Join(t.TempDir(), strconv.Itoa(i)), o)
		h.devices = append(h.devices, &device{f: openFolder(t, s), rows: crdt.NewMemRows(), bases: make(map[crdt.EntryID]Base), peer: [32]byte{byte(i + 1)}})
	}
	return h
}

var historyNames = []string{"a", "b", "c", "a (2)", "\u00e9", "e\u0301", "x.txt"}

// place gives a random directory on the disk, and a name that is free in it.
func (h *history) place(d *device) (crdt.Location, bool) {
	dirs := []crdt.EntryID{crdt.Root}
	for id, b := range d.bases {
		if b.Here && b.Entry.Kind == crdt.Directory {
			dirs = append(dirs, id)
		}
	}
	slices.SortFunc(dirs, crdt.EntryID.Compare)
	at := crdt.Location{Parent: dirs[h.rnd.IntN(len(dirs))], Name: historyNames[h.rnd.IntN(len(historyNames))]}
	for _, b := range d.bases {
		if b.Here && b.At.Parent == at.Parent && crdt.NameKey(b.Name()) == crdt.NameKey(at.Name) {
			return at, false
		}
	}
	return at, true
}

// here gives a random entry on the disk.
func (h *history) here(d *device) (crdt.EntryID, bool) {
	var ids []crdt.EntryID
	for id, b := range d.bases {
		if b.Here {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return crdt.Root, false
	}
	slices.SortFunc(ids, crdt.EntryID.Compare)
	return ids[h.rnd.IntN(len(ids))], true
}

// below gives an entry and all that is on the disk below it.
func (d *device) below(id crdt.EntryID) []crdt.EntryID {
	all := []crdt.EntryID{id}
	for k, b := range d.bases {
		if b.Here && b.At.Parent == id {
			all = append(all, d.below(k)...)
		}
	}
	return all
}

func (h *history) within(d *device, id, dir crdt.EntryID) bool {
	return slices.Contains(d.below(dir), id)
}

func (h *history) content() crdt.Content {
	h.changes++
	c := content(h.changes)
	switch h.rnd.IntN(5) {
	case 0:
		c.Hash, c.Size, c.Blocks = crdt.ContentHash(chunk.List{}.Content()), 0, 0
	case 1: // of several blocks, some shared with others
		list := h.list(uint64(h.rnd.IntN(6)))
		c.Hash, c.Size, c.Blocks = crdt.ContentHash(list.Content()), list.Size(), uint32(len(list))
	case 2:
		c = content(uint64(h.rnd.IntN(4)))
	}
	return c
}

// list gives a block list, always the same for a number.
func (h *history) list(n uint64) chunk.List {
	list := make(chunk.List, 2+n%3)
	for i := range list {
		list[i].Hash = chunk.Sum([]byte{byte(n), byte(i / 2)}) // and the same block twice
		list[i].Size = uint32(100 + n)
	}
	return list
}

// change makes one random local change.
func (h *history) change(d *device) error {
	op := h.rnd.IntN(10)
	if h.moving {
		op = []int{0, 6, 6, 6, 6, 6, 6, 9}[h.rnd.IntN(8)]
	}
	at, free := h.place(d)
	id, some := h.here(d)
	var target []crdt.EntryID
	do := func(r *crdt.Recorder) error { return nil }
	c := h.content()
	settle := func(b *Base) {}
	switch {
	case op < 4 && free:
		kind := crdt.Kind(1 + h.rnd.IntN(3))
		if h.moving {
			kind = crdt.Directory
		}
		mode := uint32(0o644)
		switch kind {
		case crdt.Directory:
			c = crdt.Content{}
		case crdt.Symlink:
			c = crdt.Content{Target: "to/" + at.Name}
		}
		do = func(r *crdt.Recorder) error {
			id, err := r.Create(at, kind, c, mode)
			target = []crdt.EntryID{id}
			return err
		}
		settle = func(b *Base) { b.Here, b.At = true, at }
	case op < 6 && some && d.bases[id].Entry.Kind == crdt.File:
		target = []crdt.EntryID{id}
		do = func(r *crdt.Recorder) error { return r.Edit(id, c, 0o600) }
	case op < 8 && some && free && !h.within(d, at.Parent, id):
		target = []crdt.EntryID{id}
		do = func(r *crdt.Recorder) error { return r.Move(id, at) }
		settle = func(b *Base) { b.At, b.Alias = at, "" }
	case op == 8 && some:
		mtime := int64(h.changes) * 1_000_003
		target = []crdt.EntryID{id}
		if d.bases[id].Entry.Kind == crdt.File {
			do = func(r *crdt.Recorder) error { return r.SetAttrs(id, 0o755, &mtime) }
		}
	case op == 9 && some:
		target = d.below(id)
		do = func(r *crdt.Recorder) error { return r.Remove(target...) }
		settle = func(b *Base) { *b = Base{ID: b.ID, Entry: b.Entry} }
	}
	// The same, on maps.
	state := d.f.state.Load()
	twin := crdt.NewRecorder(memBase{d}, d.rows, crdt.Writer{
		Folder: d.f.id, Replica: state.replica, Counter: state.counter, Author: "test", Now: 1_700_000_000_000 + int64(state.seq),
	})
	twinErr := do(twin)
	bases := make(map[crdt.EntryID]Base)
	err := d.f.Update(func(tx *Tx) error {
		entries, err := record(tx, do, func(e crdt.Entry, b *Base) {
			if slices.Contains(target, e.ID) {
				settle(b)
			}
			if b.Here {
				d.inodes++
				b.Stat = h.stat(d, e)
			}
			bases[e.ID] = *b
		})
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(entries, twin.Entries()) {
			return fmt.Errorf("recorded on the store:\n%+v\non maps:\n%+v", entries, twin.Entries())
		}
		for i := range uint64(6) { // those that nothing refers to go again
			if err := tx.PutList(crdt.ContentHash(h.list(i).Content()), h.list(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if twinErr != nil {
		var change *crdt.ChangeError
		if err == nil || !errors.As(err, &change) || err.Error() != twinErr.Error() {
			return fmt.Errorf("on the store: %w; on maps: %w", err, twinErr)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := crdt.Apply(d.rows, twin.Entries()); err != nil {
		return err
	}
	for id, b := range bases {
		d.bases[id] = b
	}
	return nil
}

// stat makes up what a disk says of an entry, in all the ways in which it may
// differ from what the entry says.
func (h *history) stat(d *device, e crdt.Entry) stat.Stat {
	s := stat.Stat{Kind: statKind(e.Kind), Mode: e.Mode(), Modified: e.MTime(), Changed: int64(h.rnd.Uint64N(1 << 60)), Inode: d.inodes, Device: 66, Links: 1}
	if v := e.Shown(); v != nil {
		s.Size = v.Size
	}
	switch h.rnd.IntN(8) {
	case 0:
		s.Born = s.Changed - 12345
	case 1:
		s.Mode = 0o777
	case 2:
		s.Modified -= s.Modified % 1_000_000_000
	case 3:
		s.Size++
	case 4:
		s.Links, s.Inode = 2, 7
	case 5:
		s = stat.Stat{}
	case 6:
		s.Modified, s.Born, s.Changed = -1, -5, -1<<63
	}
	return s
}

// receive takes one batch of from's changes.
func (h *history) receive(d, from *device) (more bool, err error) {
	var cursor, next uint64
	store := from.f.s.ID()
	if err := d.f.Read(func(r *Reader) (err error) {
		cursor, err = r.Cursor(from.peer, store)
		return err
	}); err != nil {
		return false, err
	}
	var entries []crdt.Entry
	fallen := 0
	if err := from.f.Read(func(r *Reader) (err error) {
		entries, next, err = r.After(cursor, 1+h.rnd.IntN(4), 1+h.rnd.IntN(4000))
		return err
	}); err != nil {
		return false, err
	}
	update := d.f.Update
	if h.rnd.IntN(2) == 0 {
		update = d.f.UpdateLazy
	}
	if err := update(func(tx *Tx) error {
		got, err := crdt.Apply(tx, entries)
		if err != nil {
			return fmt.Errorf("a batch of %d after %d was refused: %w", len(entries), cursor, err)
		}
		want, err := crdt.Apply(d.rows, entries)
		if err != nil {
			return err
		}
		for _, ids := range [][]crdt.EntryID{got.Entries, got.Shown, want.Entries, want.Shown} {
			slices.SortFunc(ids, crdt.EntryID.Compare)
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("applied on the store: %+v, on maps: %+v", got, want)
		}
		ids, err := tx.Fallen()
		fallen = len(ids)
		return errors.Join(err, tx.SetCursor(from.peer, store, next))
	}); err != nil {
		return false, err
	}
	if h.fallen += fallen; fallen > 0 && h.rnd.IntN(2) == 0 { // so that it is to be seen on a disk, too
		err = errors.Join(h.materialise(d, 1<<30), h.change(d))
	}
	return next > cursor, err
}

// materialise brings the disk to what the view shows of some entries, parents
// first, and children that are to go first.
func (h *history) materialise(d *device, count int) error {
	bases := make(map[crdt.EntryID]Base)
	err := d.f.Update(func(tx *Tx) error {
		behind, _, err := tx.Behind(0, 0)
		if err != nil {
			return err
		}
		h.rnd.Shuffle(len(behind), func(i, j int) { behind[i], behind[j] = behind[j], behind[i] })
		seen := make(map[crdt.EntryID]bool)
		for _, id := range behind[:min(count, len(behind))] {
			if err := h.show(d, tx, id, seen, bases); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for id, b := range bases {
			d.bases[id] = b
		}
	}
	return err
}

func (h *history) show(d *device, tx *Tx, id crdt.EntryID, seen map[crdt.EntryID]bool, bases map[crdt.EntryID]Base) error {
	if id == crdt.Root || seen[id] {
		return nil
	}
	seen[id] = true
	n, _, err := tx.Node(id)
	if err != nil {
		return err
	}
	e, ok, err := tx.Entry(id)
	if err != nil || !ok {
		return fmt.Errorf("entry %s: %v %w", id, ok, err)
	}
	b := Base{ID: id, Entry: e}
	if n.Visible() {
		if err := h.show(d, tx, n.At.Parent, seen, bases); err != nil {
			return err
		}
		d.inodes++
		b.Here, b.At, b.Stat = true, crdt.Location{Parent: n.At.Parent, Name: n.Shown}, h.stat(d, e)
		if h.rnd.IntN(6) == 0 {
			b.At.Name, b.Alias = n.Shown+" (case 2)", n.Shown
		}
	} else {
		children, err := tx.BaseChildren(id)
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := h.show(d, tx, c.ID, seen, bases); err != nil {
				return err
			}
		}
	}
	bases[id] = b
	return tx.SetBase(b)
}

// compare holds the store against the maps.
func (h *history) compare(d *device) error {
	entries, tree := d.rows.Entries(), d.rows.Tree()
	return d.f.Read(func(r *Reader) error {
		for id, e := range entries {
			got, ok, err := r.Entry(id)
			if err != nil || !ok || !got.Equal(e) {
				return fmt.Errorf("entry %s is %+v (%v, %w), must be %+v", id, got, ok, err, e)
			}
		}
		for id, n := range tree.Nodes {
			got, ok, err := r.Node(id)
			if err != nil || !ok || got != n {
				return fmt.Errorf("node %s is %+v (%v, %w), must be %+v", id, got, ok, err, n)
			}
			if !n.Visible() || id == crdt.Root {
				continue
			}
			found, ok, err := r.Find(n.At.Parent, n.Shown)
			if err != nil || !ok || found != id {
				return fmt.Errorf("%q under %s is %s (%v, %w), must be %s", n.Shown, n.At.Parent, found, ok, err, id)
			}
		}
		for id := range tree.Nodes {
			if err := h.compareDirectory(r, d, id, tree); err != nil {
				return err
			}
		}
		for id, b := range d.bases {
			got, ok, err := r.Base(id)
			if err != nil || !ok || !reflect.DeepEqual(got, b) {
				return fmt.Errorf("base %s is\n%+v (%v, %w), must be\n%+v", id, got, ok, err, b)
			}
			if err := h.compareBase(r, d, b); err != nil {
				return err
			}
		}
		if err := h.compareStats(r, d, entries, tree); err != nil {
			return err
		}
		return h.compareBehind(r, d, entries, tree)
	})
}

// compareStats counts anew. A conflict copy is known by its name, as people
// know it.
func (h *history) compareStats(r *Reader, d *device, entries map[crdt.EntryID]crdt.Entry, tree crdt.Tree) error {
	var want Stats
	for id, e := range entries {
		if b := d.bases[id]; b.Here {
			want.Here++
			if e.Kind == crdt.File {
				want.HereBytes += b.Entry.Shown().Size
			}
		}
		n := tree.Nodes[id]
		switch {
		case !n.Visible():
			want.Dead++
			continue
		case e.Kind == crdt.Directory:
			want.Directories++
		case e.Kind == crdt.Symlink:
			want.Symlinks++
		default:
			want.Files++
			want.Bytes += e.Shown().Size
		}
		if strings.Contains(n.Shown, "(conflict from") {
			want.Conflicts++
		}
	}
	h.conflicts += want.Conflicts
	if got := r.Stats(); got != want {
		return fmt.Errorf("stats are %+v, must be %+v", got, want)
	}
	return nil
}

func (h *history) compareDirectory(r *Reader, d *device, dir crdt.EntryID, tree crdt.Tree) error {
	want := make(map[crdt.EntryID]string)
	for id, n := range tree.Nodes {
		if id != crdt.Root && n.Visible() && n.At.Parent == dir {
			want[id] = n.Shown
		}
	}
	got := make(map[crdt.EntryID]string)
	for after := ""; ; {
		page, next, err := r.Children(dir, after, 2)
		if err != nil {
			return err
		}
		for _, c := range page {
			if _, twice := got[c.ID]; twice {
				return fmt.Errorf("child %s of %s comes twice", c.ID, dir)
			}
			got[c.ID] = c.Shown
		}
		if after = next; next == "" {
			break
		}
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("children of %s are %v, must be %v", dir, got, want)
	}
	wantHere := make(map[crdt.EntryID]bool)
	for id, b := range d.bases {
		if b.Here && b.At.Parent == dir {
			wantHere[id] = true
		}
	}
	gotHere := make(map[crdt.EntryID]bool)
	bases, err := r.BaseChildren(dir)
	for _, b := range bases {
		gotHere[b.ID] = true
	}
	stats, serr := r.BaseStats(dir)
	for _, s := range stats {
		if b := d.bases[s.ID]; !b.Here || b.At != (crdt.Location{Parent: dir, Name: s.Name}) || b.Stat != s.Stat {
			return fmt.Errorf("the listing of %s has %+v, must be %+v", dir, s, b)
		}
	}
	if err := errors.Join(err, serr); err != nil || len(stats) != len(wantHere) || !reflect.DeepEqual(gotHere, wantHere) {
		return fmt.Errorf("on the disk under %s are %v (%w), must be %v", dir, gotHere, err, wantHere)
	}
	return nil
}

func (h *history) compareBase(r *Reader, d *device, b Base) error {
	if !b.Here {
		return nil
	}
	at, ok, err := r.BaseAt(b.At.Parent, b.At.Name)
	if err != nil || !ok || at != b.ID && !reflect.DeepEqual(d.bases[at].At, b.At) {
		return fmt.Errorf("at %+v is %s (%v, %w), must be %s", b.At, at, ok, err, b.ID)
	}
	file, ok, err := r.BaseFile(b.Stat)
	if err != nil || ok != (b.Stat.Inode != 0) || ok && b.Stat.SameFile(b.Stat) && !b.Stat.SameFile(file.Stat) {
		return fmt.Errorf("the file %v is %s (%v, %w), must be %s", b.Stat, file.ID, ok, err, b.ID)
	}
	v := b.Entry.Shown()
	if b.Entry.Kind != crdt.File || v == nil {
		return nil
	}
	list, ok, err := r.ListOf(*v)
	if err != nil || v.Blocks < 2 && !ok {
		return fmt.Errorf("no list of %+v (%w)", v, err)
	}
	if !ok {
		return nil
	}
	if crdt.ContentHash(list.Content()) != v.Content {
		return fmt.Errorf("the list of %s is another's", v.Content)
	}
	for _, block := range list {
		refs, err := r.Block(block.Hash)
		if err != nil || len(refs) == 0 {
			return fmt.Errorf("block %s of %s is nowhere (%w)", block.Hash, b.ID, err)
		}
		for _, ref := range refs {
			other := d.bases[ref.ID]
			if has, err := h.hasBlock(r, other, block, ref); err != nil || !has {
				return fmt.Errorf("block %s is said to be at %+v, where it is not (%w)", block.Hash, ref, err)
			}
		}
	}
	return nil
}

func (h *history) hasBlock(r *Reader, b Base, block chunk.Block, ref BlockRef) (bool, error) {
	v := b.Entry.Shown()
	if !b.Here || v == nil {
		return false, nil
	}
	list, _, err := r.ListOf(*v)
	var at int64
	for _, have := range list {
		if have == block && at == ref.Offset && have.Size == ref.Size {
			return true, err
		}
		at += int64(have.Size)
	}
	return false, err
}

// compareBehind holds what is behind against the rule in words.
func (h *history) compareBehind(r *Reader, d *device, entries map[crdt.EntryID]crdt.Entry, tree crdt.Tree) error {
	var want []crdt.EntryID
	var wantBytes int64
	for id, e := range entries {
		b, ok := d.bases[id]
		n := tree.Nodes[id]
		if !ok || !b.Entry.Equal(e) || b.Here != n.Visible() || b.Here && (b.At.Parent != n.At.Parent || b.Name() != n.Shown) {
			want = append(want, id)
			v, have := e.Shown(), b.Entry.Shown()
			if e.Kind == crdt.File && n.Visible() && (!b.Here || have == nil || have.Content != v.Content) {
				wantBytes += v.Size
			}
		}
	}
	seqs := make(map[crdt.EntryID]uint64, len(entries))
	for id := range entries {
		seq, ok, err := r.SeqOf(id)
		if err != nil || !ok {
			return fmt.Errorf("number of %s: %v %w", id, ok, err)
		}
		seqs[id] = seq
		late, err := r.IsBehind(id)
		if err != nil || late != slices.Contains(want, id) {
			return fmt.Errorf("IsBehind(%s) gives %v %w", id, late, err)
		}
	}
	slices.SortFunc(want, func(a, b crdt.EntryID) int { return cmp.Compare(seqs[a], seqs[b]) })
	var got []crdt.EntryID
	for after := uint64(0); ; {
		page, next, err := r.Behind(after, 3)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		if after = next; next != seqs[page[len(page)-1]] {
			return fmt.Errorf("a page of what is behind ends at %d, not at %d", next, seqs[page[len(page)-1]])
		}
		got = append(got, page...)
	}
	count, size := r.BehindCount()
	if !slices.Equal(got, want) || count != len(want) || size != wantBytes {
		return fmt.Errorf("behind are %v (%d, %d bytes), must be %v (%d bytes)", got, count, size, want, wantBytes)
	}
	return nil
}

// quiet lets everybody hear everything.
func (h *history) quiet() error {
	for again := true; again; {
		again = false
		for _, d := range h.devices {
			for _, from := range h.devices {
				if from == d {
					continue
				}
				if err := from.f.Sync(); err != nil {
					return err
				}
				more, err := h.receive(d, from)
				if err != nil {
					return err
				}
				again = again || more
			}
		}
	}
	return nil
}

// run plays a history and checks everything after every step, or only at the
// end.
func (h *history) run(t testing.TB, steps int, each bool) error {
	if h.moving { // everybody has the same directories to begin with
		for range 12 {
			if err := h.change(h.devices[0]); err != nil {
				return err
			}
		}
		if err := h.quiet(); err != nil {
			return err
		}
		for _, d := range h.devices {
			if err := h.materialise(d, 1<<30); err != nil {
				return err
			}
		}
	}
	for range steps {
		d := h.devices[h.rnd.IntN(len(h.devices))]
		var err error
		what := h.rnd.IntN(6)
		if h.moving && h.rnd.IntN(3) > 0 {
			what = 0
		}
		switch what {
		case 0, 1, 2:
			err = h.change(d)
		case 3, 4:
			if from := h.devices[h.rnd.IntN(len(h.devices))]; from != d {
				_, err = h.receive(d, from)
			}
		case 5:
			err = h.materialise(d, 1+h.rnd.IntN(5))
		}
		if err != nil {
			return err
		}
		if each {
			if err := d.f.Check(t.Context()); err != nil {
				return err
			}
		}
	}
	if err := h.quiet(); err != nil {
		return err
	}
	for _, d := range h.devices {
		if err := h.compare(d); err != nil {
			return err
		}
		if err := d.f.Check(t.Context()); err != nil {
			return err
		}
		if !reflect.DeepEqual(d.rows.Tree(), h.devices[0].rows.Tree()) {
			return errors.New("the devices do not show the same")
		}
		for range 10 {
			if err := h.materialise(d, 1<<30); err != nil {
				return err
			}
		}
		if err := d.f.Read(func(r *Reader) error {
			if n, size := r.BehindCount(); n != 0 || size != 0 {
				return fmt.Errorf("%d entries and %d bytes are behind when all has been materialised", n, size)
			}
			return nil
		}); err != nil {
			return err
		}
		if err := h.compare(d); err != nil {
			return err
		}
	}
	return nil
}

// TestHistories: the store is crdt.Rows and crdt.Base as plain maps are, its
// derived tables are right after every change, and a receiver that applies the
// batches of After in order never refuses one, whatever their size.
// SHEAF_SOAK multiplies their number, SHEAF_SEED is the first.
func TestHistories(t *testing.T) {
	t.Parallel()
	n, first := uint64(60*soak()), uint64(1)
	if v, err := strconv.ParseUint(os.Getenv("SHEAF_SEED"), 10, 64); err == nil {
		first = v
	}
	conflicts, fallen := int64(0), 0
	for seed := first; seed < first+n; seed++ {
		h := newHistory(t, seed, 2+int(seed%2))
		h.moving = seed%3 == 0
		if err := h.run(t, 60, seed%8 == 0); err != nil {
			t.Fatalf("SHEAF_SEED=%d: %v", seed, err)
		}
		for _, d := range h.devices {
			must(t, d.f.s.Close())
		}
		conflicts, fallen = conflicts+h.conflicts, fallen+h.fallen
	}
	t.Logf("%d histories; %d conflict copies shown at their ends, %d directories fallen back after batches", n, conflicts, fallen)
	if n >= 60 && (conflicts == 0 || fallen == 0) {
		t.Error("the histories do not reach what they are to test")
	}
}
