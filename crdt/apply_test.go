package crdt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

var errBroken = errors.New("broken")

// failingRows fails all calls but the first few.
type failingRows struct {
	*MemRows
	left   int
	broken bool
	writes int
	reads  int
}

func (f *failingRows) fail() error {
	if f.left--; f.left < 0 {
		f.broken = true
		return errBroken
	}
	return nil
}

func (f *failingRows) Entry(id EntryID) (Entry, bool, error) {
	f.reads++
	if err := f.fail(); err != nil {
		return Entry{}, false, err
	}
	return f.MemRows.Entry(id)
}

func (f *failingRows) Node(id EntryID) (Node, bool, error) {
	f.reads++
	if err := f.fail(); err != nil {
		return Node{}, false, err
	}
	return f.MemRows.Node(id)
}

func (f *failingRows) Named(parent EntryID, key string) ([]EntryID, error) {
	f.reads++
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.MemRows.Named(parent, key)
}

func (f *failingRows) Fallen() ([]EntryID, error) {
	f.reads++
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.MemRows.Fallen()
}

func (f *failingRows) PutEntry(e Entry, n Node) error {
	f.writes++
	if err := f.fail(); err != nil {
		return err
	}
	return f.MemRows.PutEntry(e, n)
}

func (f *failingRows) PutNode(id EntryID, n Node) error {
	f.writes++
	if err := f.fail(); err != nil {
		return err
	}
	return f.MemRows.PutNode(id, n)
}

// TestApplyReadsThenWrites: an error while reading leaves the rows as they were;
// every error comes through.
func TestApplyReadsThenWrites(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir a", "mkdir b", "create a/x=1", "create f=1")
	batch := d.record(t, func(r *Recorder) error {
		a, b, f := d.get(t, "a").ID, d.get(t, "b").ID, d.get(t, "f").ID
		return errors.Join(r.Move(a, Location{b, "a"}), r.Move(f, Location{b, "a"}), r.Edit(f, contentOf("2"), 0o600))
	})
	for calls := range 100 {
		fresh := newDesk(t, "mkdir a", "mkdir b", "create a/x=1", "create f=1")
		before := fresh.r.index.Clone()
		rows := &failingRows{MemRows: fresh.r.index, left: calls}
		_, err := Apply(rows, batch)
		if rows.broken != (err != nil) || err != nil && !errors.Is(err, errBroken) {
			t.Fatalf("after %d calls: broken %v, error %v", calls, rows.broken, err)
		}
		if err == nil {
			if calls < 10 {
				t.Errorf("%d calls were enough", calls)
			}
			return
		}
		if rows.writes == 0 && (!maps.EqualFunc(before.entries, fresh.r.index.entries, Entry.Equal) || !maps.Equal(before.nodes, fresh.r.index.nodes)) {
			t.Fatalf("after %d calls: written before all was read", calls)
		}
	}
	t.Error("never done")
}

// TestApplyCost: what a change reads does not grow with the directory.
func TestApplyCost(t *testing.T) {
	t.Parallel()
	reads := func(files int) (create, edit, rename int) {
		d := newDesk(t)
		d.record(t, func(r *Recorder) error {
			for i := range files {
				if _, err := r.Create(Location{Root, fmt.Sprint(i)}, File, contentOf("1"), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
		count := func(f func(r *Recorder) error) int {
			rec := d.recorder(d.r)
			if err := f(rec); err != nil {
				t.Fatal(err)
			}
			rows := &failingRows{MemRows: d.r.index, left: math.MaxInt}
			mustApply(t, rows, rec.Entries())
			mustApply(t, d.r.disk, rec.Entries())
			d.r.counter = rec.Counter()
			return rows.reads + rows.writes
		}
		id := d.get(t, "0").ID
		create = count(func(r *Recorder) error {
			_, err := r.Create(Location{Root, "new"}, File, contentOf("1"), 0o644)
			return err
		})
		edit = count(func(r *Recorder) error { return r.Edit(id, contentOf("2"), 0o644) })
		rename = count(func(r *Recorder) error { return r.Move(id, Location{Root, "renamed"}) })
		return create, edit, rename
	}
	c1, e1, r1 := reads(1)
	c2, e2, r2 := reads(500)
	if c1 != c2 || e1 != e2 || r1 != r2 {
		t.Errorf("in a directory of 500 a creation, edit, rename take %d, %d, %d calls, in one of one %d, %d, %d", c2, e2, r2, c1, e1, r1)
	}
	t.Logf("calls of Rows: creation %d, edit %d, rename %d", c1, e1, r1)
}

// TestApplied: what a batch changed is told, each thing once; what it did not
// change is not, and not written.
func TestApplied(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir d", "create d/f=1", "create g=1", "create h=1")
	dir, f, g, h := d.get(t, "d").ID, d.get(t, "d/f").ID, d.get(t, "g").ID, d.get(t, "h").ID
	apply := func(what string, wantEntries, wantShown []EntryID, do func(r *Recorder) error) {
		t.Helper()
		rec := d.recorder(d.r)
		if err := do(rec); err != nil {
			t.Fatal(err)
		}
		for i, rows := range []Rows{d.r.index, d.r.disk, d.r.index} {
			a := mustApply(t, rows, append(rec.Entries(), rec.Entries()...))
			if i == 2 {
				wantEntries, wantShown = nil, nil
			}
			for _, x := range []struct{ got, want []EntryID }{{a.Entries, wantEntries}, {a.Shown, wantShown}} {
				slices.SortFunc(x.got, EntryID.Compare)
				slices.SortFunc(x.want, EntryID.Compare)
				if !slices.Equal(x.got, x.want) {
					t.Errorf("%s, time %d: %v, want %v", what, i+1, x.got, x.want)
				}
			}
		}
		d.r.counter = rec.Counter()
	}
	apply("edit", []EntryID{f}, nil, func(r *Recorder) error { return r.Edit(f, contentOf("2"), 0o644) })
	apply("move of a directory", []EntryID{dir}, []EntryID{dir}, func(r *Recorder) error { return r.Move(dir, Location{Root, "e"}) })
	apply("same name", []EntryID{g}, []EntryID{g}, func(r *Recorder) error { return r.Move(g, Location{Root, "h"}) })
	apply("the first of a name goes", []EntryID{h}, []EntryID{g, h}, func(r *Recorder) error { return r.Remove(h) })
	apply("removal", []EntryID{dir, f}, []EntryID{dir, f}, func(r *Recorder) error { return r.Remove(f, dir) })
}

// TestCopiesFirst: whoever is sent what changed in the order of PutEntry has the
// conflict copy before it hears that its version lost.
func TestCopiesFirst(t *testing.T) {
	t.Parallel()
	rows := NewMemRows()
	versions := concurrent([]string{"1", "2", "3"})
	mustApply(t, rows, versions[:1])
	a := mustApply(t, rows, versions[1:])
	if len(a.Entries) != 3 || a.Entries[2] != versions[0].ID {
		t.Errorf("changed in the order %v, want %s last", a.Entries, versions[0].ID)
	}
}

// TestValidate: each rule, one by one, with nothing written.
func TestValidate(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir d", "create d/f=1")
	good, dir := d.get(t, "d/f"), d.get(t, "d")
	link := samples()["symbolic link"]
	other := func(name string, kind Kind) EntryID { return NewEntryID(FolderID{}, Root, kind, name, nil) }
	cases := map[string]func() Entry{
		"root":              func() Entry { e := dir; e.ID = Root; return e },
		"unknown kind":      func() Entry { e := good; e.Kind = 7; return e },
		"no kind":           func() Entry { e := good; e.Kind = 0; e.ID[15] &^= 3; return e },
		"kind of another":   func() Entry { e := good; e.Kind = Symlink; return e },
		"empty name":        func() Entry { e := good; e.Place.Name = ""; return e },
		"bad name to be":    func() Entry { e := good; e.Place.From.Name = ".."; return e },
		"unknown parent":    func() Entry { e := good; e.Place.Parent = other("nowhere", Directory); return e },
		"unknown from":      func() Entry { e := good; e.Place.From.Parent = other("nowhere", Directory); return e },
		"file as parent":    func() Entry { e := good; e.ID = other("x", File); e.Place.Parent = good.ID; return e },
		"mode":              func() Entry { e := good; e.Attrs.Mode = MaxMode + 1; return e },
		"time not in force": func() Entry { e := good; e.Attrs.MTime = 1; return e },
		"count of place":    func() Entry { e := good; e.Place.Stamp.Count = MaxCount + 1; return e },
		"count of version": func() Entry {
			e := good
			e.Last = with(e.Last, func(v *Version) { v.Stamp.Count = math.MaxUint64 })
			return e
		},
		"nothing seen":    func() Entry { e := good; e.Seen, e.Live = nil, nil; return e },
		"dot not seen":    func() Entry { e := good; e.Seen = VersionVector{{ReplicaID{9}, 1}}; return e },
		"counter of zero": func() Entry { e := good; e.Seen = VersionVector{{ReplicaID{}, 0}, e.Seen[0]}; return e },
		"vector unsorted": func() Entry { e := good; e.Seen = append(slices.Clone(e.Seen), Dot{ReplicaID{}, 1}); return e },
		"dots twice":      func() Entry { e := good; e.Live = append(slices.Clone(e.Live), e.Live[0]); return e },
		"file without":    func() Entry { e := good; e.Live, e.Last = nil, nil; return e },
		"greater than last": func() Entry {
			e := good
			e.Last = with(e.Last, func(v *Version) { v.Stamp.Count = 0 })
			return e
		},
		"directory with": func() Entry { e := dir; e.Last = good.Last; return e },
		"directory live with": func() Entry {
			e := dir
			e.Live = []Facet{{e.Live[0].Dot, good.Last}}
			return e
		},
		"negative size": func() Entry { return relive(good, func(v *Version) { v.Size = -1 }) },
		"long author":   func() Entry { return relive(good, func(v *Version) { v.Author = strings.Repeat("x", MaxAuthor+1) }) },
		"binary author": func() Entry { return relive(good, func(v *Version) { v.Author = "\xff" }) },
		"file with target": func() Entry {
			return relive(good, func(v *Version) { v.Target, v.Content = "x", sha256.Sum256([]byte("x")) })
		},
		"link without": func() Entry { return relive(link, func(v *Version) { v.Target = "" }) },
		"link to else": func() Entry { return relive(link, func(v *Version) { v.Target = "else" }) },
		"link with NUL": func() Entry {
			return relive(link, func(v *Version) { v.Target, v.Content = "a\x00", sha256.Sum256([]byte("a\x00")) })
		},
		"long link": func() Entry {
			s := strings.Repeat("x", MaxTarget+1)
			return relive(link, func(v *Version) { v.Target, v.Content = s, sha256.Sum256([]byte(s)) })
		},
		"too many replicas": func() Entry {
			e := good
			for k := range MaxReplicas {
				e.Seen = e.Seen.With(Dot{ReplicaID{9, byte(k)}, 1})
			}
			return e
		},
		"too large": func() Entry {
			e := good
			d := e.Live[0].Dot
			e.Live = nil
			for k := range 2000 {
				e.Live = append(e.Live, Facet{d, with(good.Last, func(v *Version) { v.Stamp.Time -= int64(2000 - k) })})
			}
			return e
		},
	}
	for name, bad := range cases {
		e := bad()
		before := d.r.index.Clone()
		innocent := good
		innocent.ID, innocent.Place.Name = other("innocent", File), "innocent"
		for _, batch := range [][]Entry{{e}, {innocent, e}} {
			for what, err := range map[string]error{"Validate": Validate(d.r.index, batch), "Apply": second(Apply(d.r.index, batch))} {
				var be *BatchError
				if !errors.As(err, &be) || be.ID != e.ID {
					t.Errorf("%s of %s: %v", what, name, err)
				}
			}
		}
		if !maps.EqualFunc(before.entries, d.r.index.entries, Entry.Equal) || !maps.Equal(before.nodes, d.r.index.nodes) {
			t.Fatalf("%s: something was written", name)
		}
	}
	if err := Validate(d.r.index, []Entry{good, dir, link}); err != nil {
		t.Errorf("good entries are refused: %v", err)
	}
	if err := Validate(d.r.index, make([]Entry, MaxBatch+1)); err == nil {
		t.Error("a batch of too many entries is taken")
	}
}

func with(v *Version, change func(*Version)) *Version {
	w := *v
	change(&w)
	return &w
}

func relive(e Entry, change func(*Version)) Entry {
	e.Last = with(e.Last, change)
	e.Live = []Facet{{e.Live[0].Dot, e.Last}}
	return e
}

func second[T any](_ T, err error) error { return err }

// TestChainCap: a chain that no person can have made is refused; one that two
// honest people made together is not.
func TestChainCap(t *testing.T) {
	t.Parallel()
	chain := func(n int) []Entry {
		var out []Entry
		parent := Root
		for i := range n {
			id := NewEntryID(FolderID{}, parent, Directory, "d", nil)
			at := Location{parent, "d"}
			d := Dot{replicaID(0), uint64(i + 1)}
			out = append(out, Entry{ID: id, Kind: Directory, Place: Place{Stamp{1, 0, d.Replica}, at, at}, Live: []Facet{{Dot: d}}, Seen: VersionVector{d}})
			parent = id
		}
		slices.Reverse(out) // the deepest first: no order is asked for
		return out
	}
	rows := NewMemRows()
	mustApply(t, rows, chain(MaxChain))
	if err := checkRows(rows); err != nil {
		t.Error(err)
	}
	var be *BatchError
	if _, err := Apply(NewMemRows(), chain(MaxChain+1)); !errors.As(err, &be) {
		t.Errorf("a chain of %d: %v", MaxChain+1, err)
	}
	deepest := chain(MaxChain)[0]
	file := concurrent([]string{"1"})[0]
	file.Place.Parent = deepest.ID
	if _, err := Apply(rows, []Entry{file}); !errors.As(err, &be) || be.ID != file.ID {
		t.Errorf("a file below a chain of %d: %v", MaxChain, err)
	}
}

// TestOrder: ancestors first, circles together.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(5, 3)
	w.profile = profiles[1]
	if err := w.share(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := w.change(pick(w.rnd, w.replicas)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	entries := values(w.replicas[0].index)
	w.rnd.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
	ordered := Order(entries)
	if len(ordered) != len(entries) {
		t.Fatalf("%d entries of %d", len(ordered), len(entries))
	}
	// Cut wherever no entry names a later one: each part must be taken alone.
	rows, start := NewMemRows(), 0
	for end := 1; end <= len(ordered); end++ {
		if _, err := Apply(rows.Clone(), ordered[start:end]); err == nil {
			mustApply(t, rows, ordered[start:end])
			start = end
		}
	}
	if start != len(ordered) {
		t.Errorf("%d of %d entries could be sent", start, len(ordered))
	}
	if err := sameEntries(w.replicas[0].index.entries, rows.entries); err != nil {
		t.Error(err)
	}
}
