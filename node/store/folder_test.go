package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"sheaf/crdt"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

func TestUpdateThatFailsDoesNothing(t *testing.T) {
	t.Parallel()
	tr := &tree{f: memFolder(t)}
	tr.grow(t, 20)
	want, seq := mustDump(t, tr.f), tr.f.Seq()
	oops := errors.New("oops")
	all := func(tx *Tx) error {
		if _, err := record(tx, func(r *crdt.Recorder) error {
			if err := r.Edit(crdt.NewEntryID(testFolder, tr.dirs[0], crdt.File, fileName(3), nil), content(99), 0o644); err != nil {
				return err
			}
			return r.Remove(crdt.NewEntryID(testFolder, tr.dirs[0], crdt.File, fileName(4), nil))
		}, onDiskAsWas); err != nil {
			return err
		}
		return errors.Join(tx.SetCursor([32]byte{1}, StoreID{1}, 5), tx.MergeHeads(crdt.VersionVector{{Replica: crdt.ReplicaID{3}, Counter: 4}}))
	}
	err := tr.f.Update(func(tx *Tx) error {
		must(t, all(tx))
		if n, _ := tx.BehindCount(); n != 0 {
			t.Errorf("%d are behind in the transaction", n)
		}
		return oops
	})
	if !errors.Is(err, oops) || tr.f.Seq() != seq || !maps.Equal(mustDump(t, tr.f), want) {
		t.Errorf("an update that failed with %v left something", err)
	}
	must(t, tr.f.Update(all))
	if tr.f.Seq() != seq+2 || maps.Equal(mustDump(t, tr.f), want) {
		t.Error("the same update without the failure did nothing")
	}
	check(t, tr.f)
}

// onDiskAsWas settles a base where it was, or as gone.
func onDiskAsWas(e crdt.Entry, b *Base) {
	if !e.IsLive() {
		*b = Base{ID: e.ID, Entry: e}
	}
}

func TestPanicInUpdate(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	func() {
		defer func() { _ = recover() }()
		_ = f.Update(func(tx *Tx) error {
			must(t, tx.SetCursor([32]byte{1}, StoreID{1}, 5))
			panic("oops")
		})
	}()
	must(t, f.Update(func(tx *Tx) error {
		at, err := tx.Cursor([32]byte{1}, StoreID{1})
		if at != 0 {
			t.Error("what was put before the panic is there")
		}
		return err
	}))
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	var kept *Tx
	must(t, f.Update(func(tx *Tx) error { kept = tx; return tx.SetCounter(5) }))
	if err := kept.SetCounter(6); !errors.Is(err, ErrTxDone) {
		t.Errorf("a transaction that is over took a change: %v", err)
	}
	if _, _, err := kept.Entry(crdt.Root); !errors.Is(err, ErrTxDone) {
		t.Errorf("a transaction that is over was read: %v", err)
	}
	e := remoteFile(1, seeded(1))
	for name, do := range map[string]func(*Tx) error{
		"root":              func(tx *Tx) error { return tx.PutEntry(crdt.Entry{Kind: crdt.Directory}, crdt.Node{}) },
		"node of nothing":   func(tx *Tx) error { return tx.PutNode(crdt.EntryID{1}, crdt.Node{}) },
		"base of the root":  func(tx *Tx) error { return tx.SetBase(Base{}) },
		"base of another":   func(tx *Tx) error { return tx.SetBase(Base{ID: crdt.EntryID{1}, Entry: e}) },
		"base without name": func(tx *Tx) error { return tx.SetBase(Base{ID: e.ID, Entry: e, Here: true}) },
		"base with a NUL": func(tx *Tx) error {
			return tx.SetBase(Base{ID: e.ID, Entry: e, Here: true, At: crdt.Location{Name: "a\x00"}})
		},
		"counter back":    func(tx *Tx) error { return tx.SetCounter(4) },
		"base of nothing": func(tx *Tx) error { return tx.SetBase(Base{ID: e.ID, Entry: e}) },
	} {
		err := f.Update(func(tx *Tx) error {
			_ = do(tx) // even if its error is passed over
			return nil
		})
		if err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if err := f.UpdateLazy(func(tx *Tx) error { return tx.SetCounter(6) }); !errors.Is(err, ErrLazyCounter) {
		t.Errorf("a lazy update used up a counter: %v", err)
	}
	if f.Counter() != 5 {
		t.Errorf("the counter is %d", f.Counter())
	}
	check(t, f)
}

// TestLazyIsNotTold: what is not durable is read here and not given to peers.
func TestLazyIsNotTold(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	rnd := seeded(1)
	put := func(n uint64) func(*Tx) error {
		return func(tx *Tx) error {
			_, err := crdt.Apply(tx, []crdt.Entry{remoteFile(n, rnd)})
			return err
		}
	}
	state := func() (seq uint64, entries int, next uint64) {
		must(t, f.Read(func(r *Reader) error {
			list, at, err := r.After(0, 100, 1<<20)
			entries, next = len(list), at
			return err
		}))
		return f.Seq(), entries, next
	}
	must(t, f.Update(put(1)))
	must(t, f.UpdateLazy(put(2)))
	if seq, n, next := state(); seq != 1 || n != 1 || next != 1 {
		t.Errorf("after a lazy update: seq %d, %d entries up to %d", seq, n, next)
	}
	if stats := f.state.Load().stats; stats.Files != 2 {
		t.Errorf("a lazy update is not read here: %+v", stats)
	}
	must(t, f.Sync())
	if seq, n, next := state(); seq != 2 || n != 2 || next != 2 {
		t.Errorf("after a sync: seq %d, %d entries up to %d", seq, n, next)
	}
	commit := f.state.Load().commit
	must(t, f.Sync())
	if f.state.Load().commit != commit {
		t.Error("a sync with nothing to sync wrote something")
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "index"), inMemory(Options{}))
	must(t, err)
	f := openFolder(t, s)
	got := make(chan error)
	wait := func(ctx context.Context, seq uint64) { go func() { got <- f.Wait(ctx, seq) }() }
	ctx, cancel := context.WithCancel(t.Context())
	wait(ctx, 0)
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("waited until %v", err)
	}
	wait(t.Context(), 1)
	rnd := seeded(3)
	for n := range uint64(2) {
		select {
		case err := <-got:
			t.Fatalf("seq is %d, waited for more than 1: %v", f.Seq(), err)
		default:
		}
		must(t, f.Update(func(tx *Tx) error {
			_, err := crdt.Apply(tx, []crdt.Entry{remoteFile(n, rnd)})
			return err
		}))
	}
	must(t, <-got)
	wait(t.Context(), 1<<40)
	must(t, s.Close())
	if err := <-got; !errors.Is(err, ErrClosed) {
		t.Errorf("waited until %v", err)
	}
	for name, err := range map[string]error{
		"read": f.Read(func(*Reader) error { return nil }), "update": f.Update(func(*Tx) error { return nil }),
		"get": func() error { _, _, err := s.Get("a", "b"); return err }(), "put": s.Put("a", "b", nil), "renew": s.RenewID(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	must(t, s.Close())
}

// TestCloseWaits: Close lets calls under way end, and lets none begin within
// them that could not.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	s, err := Open(filepath.Join(t.TempDir(), "index"), inMemory(Options{}))
	must(t, err)
	f := openFolder(t, s)
	inside, closed := make(chan bool), make(chan error)
	go func() {
		<-inside
		closed <- s.Close()
	}()
	err = f.Update(func(tx *Tx) error {
		close(inside)
		for { // until Close has begun
			if _, _, err := s.Get("a", "b"); errors.Is(err, ErrClosed) {
				break
			}
		}
		return tx.SetCounter(3)
	})
	must(t, err)
	must(t, <-closed)
	if f.Counter() != 3 {
		t.Error("the update that Close waited for did nothing")
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	rnd := seeded(1)
	put := func(tx *Tx) error {
		_, err := crdt.Apply(tx, []crdt.Entry{remoteFile(f.Seq(), rnd)})
		return err
	}
	must(t, f.Update(put))
	must(t, f.Read(func(r *Reader) error {
		for range 3 {
			must(t, f.Update(put))
			page, next, err := r.Children(crdt.Root, "", 10)
			if len(page) != 1 || next != "" || r.Stats().Files != 1 {
				t.Errorf("a snapshot shows %d children", len(page))
			}
			must(t, err)
		}
		return nil
	}))
}

func TestHeadsAndReplicas(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	a, b := crdt.ReplicaID{1}, crdt.ReplicaID{0xff}
	heads := func() (v crdt.VersionVector) {
		must(t, f.Read(func(r *Reader) (err error) { v, err = r.Heads(); return err }))
		return v
	}
	if len(heads()) != 0 {
		t.Errorf("heads of a new folder are %v", heads())
	}
	own := f.Replica()
	must(t, f.Update(func(tx *Tx) error {
		return errors.Join(tx.SetCounter(7), tx.MergeHeads(crdt.VersionVector{{Replica: a, Counter: 3}, {Replica: b, Counter: 1 << 40}}))
	}))
	must(t, f.Update(func(tx *Tx) error {
		return tx.MergeHeads(crdt.VersionVector{}.With(crdt.Dot{Replica: a, Counter: 2}).With(crdt.Dot{Replica: own, Counter: 100}))
	}))
	want := crdt.VersionVector{}.With(crdt.Dot{Replica: a, Counter: 3}).With(crdt.Dot{Replica: b, Counter: 1 << 40}).With(crdt.Dot{Replica: own, Counter: 7})
	if !slices.Equal(heads(), want) {
		t.Errorf("heads are %v, must be %v", heads(), want)
	}
	must(t, f.FreshReplica())
	if f.Replica() == own || f.Counter() != 0 || !slices.Equal(heads(), want) {
		t.Errorf("a fresh replica %s is at %d, heads are %v", f.Replica(), f.Counter(), heads())
	}
	must(t, f.Update(func(tx *Tx) error { return tx.SetCounter(1) }))
	if want = want.With(crdt.Dot{Replica: f.Replica(), Counter: 1}); !slices.Equal(heads(), want) {
		t.Errorf("heads are %v, must be %v", heads(), want)
	}
	check(t, f)
}

func TestCursors(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	cursor := func(peer byte, store byte) (at uint64) {
		must(t, f.Read(func(r *Reader) (err error) { at, err = r.Cursor([32]byte{peer}, StoreID{store}); return err }))
		return at
	}
	must(t, f.Update(func(tx *Tx) error {
		return errors.Join(tx.SetCursor([32]byte{1}, StoreID{1}, 500), tx.SetCursor([32]byte{2}, StoreID{2}, 7))
	}))
	if cursor(1, 1) != 500 || cursor(2, 2) != 7 || cursor(1, 2) != 0 || cursor(3, 1) != 0 {
		t.Error("cursors are not what was set")
	}
	must(t, f.Update(func(tx *Tx) error { return tx.SetCursor([32]byte{1}, StoreID{9}, 4) }))
	if cursor(1, 9) != 4 || cursor(1, 1) != 0 {
		t.Error("the cursor of a peer's earlier store is still there")
	}
	check(t, f)
}

func TestForget(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	tr := &tree{f: openFolder(t, s)}
	other, err := s.Folder(crdt.FolderID{2})
	must(t, err)
	must(t, other.Update(func(tx *Tx) error { return tx.SetCounter(9) }))
	tr.grow(t, 200)
	replica := tr.f.Replica()
	if ids, _ := s.Folders(); !slices.Equal(ids, []crdt.FolderID{{2}, testFolder}) {
		t.Errorf("folders are %v", ids)
	}
	if again := openFolder(t, s); again != tr.f {
		t.Error("there are two Folders of one ID")
	}
	must(t, s.Forget(testFolder))
	must(t, s.Forget(testFolder))
	if err := tr.f.Update(func(*Tx) error { return nil }); !errors.Is(err, ErrForgotten) {
		t.Errorf("a forgotten folder took an update: %v", err)
	}
	if err := tr.f.Read(func(*Reader) error { return nil }); !errors.Is(err, ErrForgotten) {
		t.Errorf("a forgotten folder was read: %v", err)
	}
	if rows := numberRows(t, s, tr.f.n); rows != 0 {
		t.Errorf("%d rows of a forgotten folder are left", rows)
	}
	f := openFolder(t, s)
	if f.Replica() == replica || f.Counter() != 0 || f.Seq() != 0 || f.n == tr.f.n {
		t.Error("a folder that came back goes on where it was")
	}
	// A crash in the middle of forgetting.
	number := f.n
	must(t, f.Update(func(tx *Tx) error { _, err := crdt.Apply(tx, []crdt.Entry{remoteFile(1, seeded(1))}); return err }))
	must(t, s.change(func(b *leveldb.Batch) { b.Delete(folderKey(testFolder)) }))
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	if rows := numberRows(t, s, number); rows != 0 {
		t.Errorf("%d rows of a forgotten folder are left after a restart", rows)
	}
	if other, err = s.Folder(crdt.FolderID{2}); err != nil || other.Counter() != 9 || s.Recovery().Kind != Clean {
		t.Errorf("the other folder is at %d, %+v, %v", other.Counter(), s.Recovery(), err)
	}
}

func numberRows(t *testing.T, s *Store, n number) (rows int) {
	v := view{src: s.db}
	defer v.release()
	must(t, v.scan(n.key(0, 0)[:2], nil, func(_, _ []byte) (bool, error) { rows++; return true, nil }))
	return rows
}

func TestSpaces(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	must(t, s.Put("a", "k1", []byte("v1")))
	must(t, s.Put("a", "k2\x00", []byte{}))
	must(t, s.Put("ab", "k1", []byte("other")))
	must(t, s.Put("a", "gone", []byte("x")))
	must(t, s.Delete("a", "gone"))
	must(t, s.Delete("a", "never"))
	must(t, s.Put("many", "2", []byte("old")))
	must(t, s.Put("many", "3", []byte("gone")))
	must(t, s.PutAll("many", map[string][]byte{"1": []byte("one"), "2": {}, "3": nil}))
	must(t, s.PutAll("many", nil))
	if err := s.Put("a\x00b", "k", nil); err == nil {
		t.Error("a space with a NUL was taken")
	}
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	got := make(map[string]string)
	must(t, s.Each("a", func(k string, v []byte) error {
		got[k] = string(v)
		return s.Put("a", "made while walking", v)
	}))
	if !maps.Equal(got, map[string]string{"k1": "v1", "k2\x00": ""}) {
		t.Errorf("space a has %q", got)
	}
	if v, ok, err := s.Get("ab", "k1"); err != nil || !ok || string(v) != "other" {
		t.Errorf("got %q %v %v", v, ok, err)
	}
	many := make(map[string]string)
	must(t, s.Each("many", func(k string, v []byte) error {
		many[k] = string(v)
		return nil
	}))
	if !maps.Equal(many, map[string]string{"1": "one", "2": ""}) {
		t.Errorf("put at once are %q", many)
	}
	if err := s.PutAll("b\x00", map[string][]byte{"k": nil}); err == nil {
		t.Error("a space with a NUL was taken")
	}
	if _, ok, err := s.Get("a", "gone"); err != nil || ok {
		t.Errorf("a deleted value is there: %v", err)
	}
	oops := errors.New("oops")
	if err := s.Each("a", func(string, []byte) error { return oops }); !errors.Is(err, oops) {
		t.Errorf("Each passed over %v", err)
	}
}

// TestLists: a list comes and goes with what refers to it, and its blocks are
// found as long as the content is on the disk.
func TestLists(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	h := &history{}
	list := h.list(1)
	c := crdt.ContentHash(list.Content())
	have := func() (ok bool, refs []BlockRef) {
		must(t, f.Read(func(r *Reader) (err error) {
			if _, ok, err = r.List(c); err != nil {
				return err
			}
			refs, err = r.Block(list[0].Hash)
			return err
		}))
		check(t, f)
		return ok, refs
	}
	put := func(tx *Tx) error { return tx.PutList(c, list) }
	must(t, f.Update(put))
	if ok, _ := have(); ok {
		t.Error("a list that nothing refers to was kept")
	}
	e := remoteFile(1, seeded(1))
	must(t, f.Update(func(tx *Tx) error {
		_, err := crdt.Apply(tx, []crdt.Entry{e})
		return errors.Join(put(tx), err)
	}))
	if ok, refs := have(); !ok || len(refs) != 0 {
		t.Errorf("list %v, blocks at %v when it is not on the disk", ok, refs)
	}
	b := Base{ID: e.ID, Entry: e, Here: true, At: e.Place.Location, Stat: stat.Stat{Kind: stat.File, Inode: 5}}
	must(t, f.Update(func(tx *Tx) error { return tx.SetBase(b) }))
	if _, refs := have(); !slices.Equal(refs, []BlockRef{{e.ID, 0, list[0].Size}}) {
		t.Errorf("block is at %v", refs)
	}
	// The last reference of the index goes, the disk still has it.
	next := remoteFile(1, seeded(1))
	next.Live, next.Last = nil, nil
	next.Seen = next.Seen.With(crdt.Dot{Replica: crdt.ReplicaID{9}, Counter: 9})
	must(t, f.Update(func(tx *Tx) error {
		n, _, err := tx.Node(e.ID)
		n.Shown = ""
		return errors.Join(err, tx.PutEntry(next, n))
	}))
	must(t, f.Read(func(r *Reader) error {
		if _, ok, err := r.List(c); !ok || err != nil {
			t.Errorf("the list of what is on the disk is gone: %v", err)
		}
		return nil
	}))
	must(t, f.Update(func(tx *Tx) error { return tx.SetBase(Base{ID: e.ID, Entry: next}) }))
	must(t, f.Read(func(r *Reader) error {
		refs, err := r.Block(list[0].Hash)
		if _, ok, lerr := r.List(c); ok || len(refs) != 0 || err != nil || lerr != nil {
			t.Errorf("the list that nothing refers to is there: %v, blocks at %v", ok, refs)
		}
		return nil
	}))
	// A list that is not what it says.
	if err := f.Update(func(tx *Tx) error { return tx.PutList(crdt.ContentHash{1}, list) }); err == nil {
		t.Error("a list was put under another content")
	}
}

func TestListOf(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	must(t, f.Read(func(r *Reader) error {
		for _, c := range []struct {
			v    crdt.Version
			want chunk.List
			ok   bool
		}{
			{crdt.Version{Size: 0}, nil, true},
			{crdt.Version{Content: crdt.ContentHash{1}, Blocks: 1, Size: 7}, chunk.List{{Hash: chunk.Hash{1}, Size: 7}}, true},
			{crdt.Version{Content: crdt.ContentHash{1}, Blocks: 1, Size: 1 << 40}, nil, false},
			{crdt.Version{Content: crdt.ContentHash{1}, Blocks: 1, Size: -1}, nil, false},
			{crdt.Version{Content: crdt.ContentHash{1}, Blocks: 2, Size: 7}, nil, false},
		} {
			if got, ok, err := r.ListOf(c.v); err != nil || ok != c.ok || !slices.Equal(got, c.want) {
				t.Errorf("list of %+v is %v %v %v", c.v, got, ok, err)
			}
		}
		return nil
	}))
}

func TestBlockIsBounded(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	same := content(1)
	must(t, f.Update(func(tx *Tx) error {
		_, err := record(tx, func(r *crdt.Recorder) error {
			for i := range 50 {
				if _, err := r.Create(crdt.Location{Name: fmt.Sprint(i)}, crdt.File, same, 0o644); err != nil {
					return err
				}
			}
			return nil
		}, onDiskAsIs)
		return err
	}))
	must(t, f.Read(func(r *Reader) error {
		refs, err := r.Block(chunk.Hash(same.Hash))
		if len(refs) != MaxBlockRefs {
			t.Errorf("%d places of a block", len(refs))
		}
		return err
	}))
}

// TestAfterBringsAncestors: files first, then all directories above them moved:
// each file's batch brings them, once, before it.
func TestAfterBringsAncestors(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	var dirs []crdt.EntryID
	local := func(do func(*crdt.Recorder) error, at func(*Base)) {
		must(t, f.Update(func(tx *Tx) error {
			_, err := record(tx, do, func(e crdt.Entry, b *Base) { onDiskAsIs(e, b); at(b) })
			return err
		}))
	}
	parent := crdt.Root
	for i := range 30 {
		local(func(r *crdt.Recorder) (err error) {
			parent, err = r.Create(crdt.Location{Parent: parent, Name: fmt.Sprintf("d%d", i)}, crdt.Directory, crdt.Content{}, 0o755)
			return err
		}, func(*Base) {})
		dirs = append(dirs, parent)
	}
	for i := range 5 {
		local(func(r *crdt.Recorder) error {
			_, err := r.Create(crdt.Location{Parent: parent, Name: fmt.Sprintf("f%d", i)}, crdt.File, content(uint64(i)), 0o644)
			return err
		}, func(*Base) {})
	}
	for i, d := range dirs { // every directory gets a later number than the files
		local(func(r *crdt.Recorder) error {
			up := crdt.Root
			if i > 0 {
				up = dirs[i-1]
			}
			return r.Move(d, crdt.Location{Parent: up, Name: fmt.Sprintf("e%d", i)})
		}, func(*Base) {})
	}
	for _, most := range []int{1, 2, 10, 1000} {
		rows := crdt.NewMemRows()
		var sizes []int
		must(t, f.Read(func(r *Reader) error {
			for seq := uint64(0); ; {
				entries, next, err := r.After(seq, most, 1<<20)
				if err != nil || next == seq {
					return err
				}
				if len(entries) > most && len(entries) > 31 {
					t.Errorf("%d entries in a batch of %d", len(entries), most)
				}
				for i, e := range entries {
					if slices.ContainsFunc(entries[:i], func(o crdt.Entry) bool { return o.ID == e.ID }) {
						t.Errorf("entry %s comes twice in a batch", e.ID)
					}
				}
				if _, err := crdt.Apply(rows, entries); err != nil {
					return err
				}
				sizes = append(sizes, len(entries))
				seq = next
			}
		}))
		if rows.Len() != 35 {
			t.Errorf("in batches of %d: %v, %d entries came", most, sizes, rows.Len())
		}
	}
	// A cursor that is ahead of us is left alone.
	must(t, f.Read(func(r *Reader) error {
		entries, next, err := r.After(1<<40, 10, 10)
		if len(entries) != 0 || next != 1<<40 {
			t.Errorf("after a number that never was: %d entries, next %d", len(entries), next)
		}
		return err
	}))
}

// TestAfterBringsWhereItCameFrom: an entry's From names a directory too.
func TestAfterBringsWhereItCameFrom(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	var x, y, file crdt.EntryID
	for _, do := range []func(*crdt.Recorder) error{
		func(r *crdt.Recorder) (err error) {
			x, err = r.Create(crdt.Location{Name: "x"}, crdt.Directory, crdt.Content{}, 0o755)
			return err
		},
		func(r *crdt.Recorder) (err error) {
			y, err = r.Create(crdt.Location{Name: "y"}, crdt.Directory, crdt.Content{}, 0o755)
			return err
		},
		func(r *crdt.Recorder) (err error) {
			file, err = r.Create(crdt.Location{Parent: x, Name: "f"}, crdt.File, content(1), 0o644)
			return err
		},
		func(r *crdt.Recorder) error { return r.Move(file, crdt.Location{Parent: y, Name: "f"}) },
		func(r *crdt.Recorder) error { return r.Move(x, crdt.Location{Name: "z"}) },
	} {
		must(t, f.Update(func(tx *Tx) error { _, err := record(tx, do, onDiskAsIs); return err }))
	}
	must(t, f.Read(func(r *Reader) error {
		rows := crdt.NewMemRows()
		for seq := uint64(0); seq < f.Seq(); {
			entries, next, err := r.After(seq, 1, 1)
			if err != nil {
				return err
			}
			if _, err := crdt.Apply(rows, entries); err != nil {
				return err
			}
			seq = next
		}
		return nil
	}))
}

func TestSameStateKeepsItsSeq(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	e := remoteFile(1, seeded(1))
	apply := func(tx *Tx) error { _, err := crdt.Apply(tx, []crdt.Entry{e}); return err }
	must(t, f.Update(apply))
	must(t, f.Update(apply))
	must(t, f.Update(func(tx *Tx) error { return tx.PutEntry(e, crdt.Node{At: e.Place.Location, Shown: e.Place.Name}) }))
	if f.Seq() != 1 {
		t.Errorf("an entry that did not change was numbered again: %d", f.Seq())
	}
}

// TestCheckFindsFaults: each table, one row taken away, changed or made up.
func TestCheckFindsFaults(t *testing.T) {
	t.Parallel()
	h := newHistory(t, 5, 2)
	for range 80 { // enough for every table to have rows
		must(t, h.change(h.devices[0]))
	}
	must(t, h.materialise(h.devices[0], 3))
	f := h.devices[0].f
	e := remoteFile(1, seeded(1))
	must(t, f.Update(func(tx *Tx) error { // something behind
		_, err := crdt.Apply(tx, []crdt.Entry{e})
		return errors.Join(err, tx.PutList(e.Last.Content, h.list(1)))
	}))
	check(t, f)
	good := mustDump(t, f)
	tables := make(map[byte][]string)
	for k := range good {
		tables[k[2]] = append(tables[k[2]], k)
	}
	write := func(k string, v []byte) {
		b := new(leveldb.Batch)
		if b.Delete([]byte(k)); v != nil {
			b.Put([]byte(k), v)
		}
		must(t, f.s.db.Write(b, &opt.WriteOptions{}))
	}
	for _, table := range []byte("rsnbikcl") {
		keys := tables[table]
		if len(keys) == 0 {
			t.Errorf("no row in table %c", table)
			continue
		}
		slices.Sort(keys)
		k := keys[len(keys)/2]
		extra := k[:len(k)-1] + string(k[len(k)-1]^0x55)
		for what, harm := range map[string]func(){
			"missing": func() { write(k, nil) },
			"extra":   func() { write(extra, []byte(good[k])) },
			"longer":  func() { write(k, []byte(good[k]+"\x00")) },
		} {
			if table == tabList && what == "missing" {
				continue // it may not have come yet
			}
			harm()
			var found *CheckError
			if err := f.Check(t.Context()); err == nil || !errors.As(err, &found) && table != 'r' {
				t.Errorf("table %c, a row %s: %v", table, what, err)
			}
			write(k, []byte(good[k]))
			write(extra, nil)
		}
	}
	write(string(f.n.idKey(tabFallen, e.ID)), []byte{})
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), `table 'f'`) {
		t.Errorf("an entry that has not fallen: %v", err)
	}
	write(string(f.n.idKey(tabFallen, e.ID)), nil)
	m := *f.state.Load()
	m.stats.Bytes++
	write(string(f.n.key(tabMeta, 0)), m.encode())
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "stats") {
		t.Errorf("counts are wrong: %v", err)
	}
	m.stats.Bytes--
	write(string(f.n.key(tabMeta, 0)), m.encode())
	check(t, f)
}

func TestCheckEndsWithItsContext(t *testing.T) {
	t.Parallel()
	tr := &tree{f: memFolder(t)}
	tr.grow(t, 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.f.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("checked until %v", err)
	}
	check(t, tr.f)
	if s, err := Open(tr.f.s.dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("%v %v", s, err)
	}
}

func TestWriterIsAlone(t *testing.T) {
	t.Parallel()
	f := memFolder(t)
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 50 {
				err = errors.Join(err, f.Update(func(tx *Tx) error {
					at, err := tx.Cursor([32]byte{1}, StoreID{1})
					return errors.Join(err, tx.SetCursor([32]byte{1}, StoreID{1}, at+1))
				}), f.Read(func(r *Reader) error { _, _, err := r.Behind(0, 5); return err }))
			}
			done <- err
		}()
	}
	for range 8 {
		must(t, <-done)
	}
	must(t, f.Read(func(r *Reader) error {
		at, err := r.Cursor([32]byte{1}, StoreID{1})
		if at != 400 {
			t.Errorf("400 increments gave %d", at)
		}
		return err
	}))
}

// TestInABubble: nothing here waits for time, so that whole nodes can be
// simulated on virtual time.
func TestInABubble(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, dir, inMemory(Options{}))
		tr := &tree{f: openFolder(t, s)}
		got := make(chan error, 1)
		go func() { got <- tr.f.Wait(t.Context(), 0) }()
		synctest.Wait()
		tr.grow(t, 100)
		must(t, <-got)
		check(t, tr.f)
		must(t, s.Close())
		time.Sleep(2 * time.Second) // virtual: the library's pool stays for one after the end
	})
}
