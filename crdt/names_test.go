package crdt

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestValidName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", ".a", "...", "a b", "ä", "con", "a\\b", "a:b", strings.Repeat("x", MaxNameBytes), "\u202ea"} {
		if err := ValidName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "/", "a\x00", "\n", "a\x7f", "a\u0085", "\xff", "a\xc3", strings.Repeat("x", MaxNameBytes+1)} {
		var ne *NameError
		if err := ValidName(bad); !errors.As(err, &ne) || ne.Name != bad {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNumberedNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a":           "a (2)",
		"a.txt":       "a (2).txt",
		"a.tar.gz":    "a.tar (2).gz",
		".profile":    ".profile (2)",
		".a.b":        ".a (2).b",
		"a.":          "a (2).",
		"Dr. Jekyll":  "Dr. Jekyll (2)",
		"a (2).b":     "a (2) (2).b",
		"x (at 1.30)": "x (at 1.30) (2)",
	} {
		if got, _ := numbered(name, 2); got != want {
			t.Errorf("the second %q is shown as %q, want %q", name, got, want)
		}
	}
}

// TestMadeNames: names that are made are valid, and tell what they were made of.
func TestMadeNames(t *testing.T) {
	t.Parallel()
	genName := rapid.StringOfN(rapid.RuneFrom([]rune("aé\u0301.( )2\u1100\u1161")), 1, 130, MaxNameBytes)
	rapid.Check(t, func(t *rapid.T) {
		name := genName.Filter(func(s string) bool { return ValidName(s) == nil }).Draw(t, "name")
		k := rapid.SampledFrom([]int{2, 3, 9, 10, 123}).Draw(t, "k")
		if made, ok := numbered(name, k); ok {
			if base, ok := numberedBase(NameKey(made)); !ok || base != NameKey(name) {
				t.Fatalf("%q made of %q is read as made of %q", made, name, base)
			}
		}
		id := genID(t)
		made, _ := identified(namesake{id: id, name: name}, func(string) (bool, error) { return false, nil })
		if err := ValidName(made); err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(identifiedEntries(NameKey(made)), id) {
			t.Fatalf("%q does not tell its entry", made)
		}
		v := genVersion(t, File)
		v.Author = rapid.String().Draw(t, "author")
		v.Stamp.Time = rapid.Int64().Draw(t, "time")
		if err := ValidName(conflictName(name, v)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConflictNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, author string
		ms           int64
		want         string
	}{
		{"notes.txt", "Ada's laptop", 1_787_236_953_000, "notes (conflict from Ada's laptop 2026-08-20 14.42.33).txt"},
		{"notes", "", 0, "notes (conflict from unknown 1970-01-01 00.00.00)"},
		{"a.b", "x/y\n\x00z ", -62167219200000, "a (conflict from xyz 0000-01-01 00.00.00).b"},
		{"a.b", "x", 253402300799999, "a (conflict from x 9999-12-31 23.59.59).b"},
		{"a.b", "x", 253402300800000, "a (conflict from x clock 253402300800000).b"},
		{"a.b", "x", math.MinInt64, "a (conflict from x clock -9223372036854775808).b"},
		{"a.b", strings.Repeat("é", 50), 0, "a (conflict from " + strings.Repeat("é", 32) + " 1970-01-01 00.00.00).b"},
		{strings.Repeat("é", 125) + ".html", "x", 0, strings.Repeat("é", 106) + " (conflict from x 1970-01-01 00.00.00).html"},
	} {
		v := &Version{Author: c.author, Stamp: Stamp{Time: c.ms}}
		if got := conflictName(c.name, v); got != c.want {
			t.Errorf("conflict of %q is %q (%d bytes), want %q", c.name, got, len(got), c.want)
		}
	}
}

// TestNamesInUse: a name that a sibling has of its own is passed over, and comes
// back when the sibling goes, is renamed, or stands elsewhere; the pure view
// agrees each time.
func TestNamesInUse(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create a=1", "create b=2", "create c=3", "mkdir d")
	a, b, c := d.get(t, "a").ID, d.get(t, "b").ID, d.get(t, "c").ID
	// The second and third "a" come from elsewhere: nobody makes two here.
	move := func(id EntryID, to Location) {
		t.Helper()
		d.record(t, func(r *Recorder) error { return r.Move(id, to) })
	}
	want := func(what string, shown ...string) {
		t.Helper()
		for i, id := range []EntryID{a, b, c} {
			if got := d.r.index.nodes[id].Shown; got != shown[i] {
				t.Errorf("%s: number %d is shown as %q, want %q", what, i, got, shown[i])
			}
			found, ok, err := Find(d.r.index, Root, shown[i])
			if err != nil || !ok || found != id {
				t.Errorf("%s: %q is found as %s, %v, %v, want %s", what, shown[i], found, ok, err, id)
			}
		}
		if err := checkRows(d.r.index); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	move(b, Location{Root, "a"})
	move(c, Location{Root, "a"})
	want("three", "a", "a (2)", "a (3)")
	d.do(t, "create x=4", "move x a (2)")
	want("the number is used", "a", "a (3)", "a (4)")
	d.do(t, "create a (4)=5")
	want("the next too", "a", "a (3)", "a (5)")
	x, _, err := Find(d.r.index, Root, "a (2)")
	if err != nil {
		t.Fatal(err)
	}
	move(x, Location{d.get(t, "d").ID, "a (2)"})
	want("it moves away", "a", "a (2)", "a (3)")
	d.do(t, "rm a (4)")
	d.do(t, "create "+"a (2) (2)=6")
	want("a number of a number", "a", "a (2)", "a (3)")
	if _, ok, _ := Find(d.r.index, Root, "a (9)"); ok {
		t.Error("a name that is not shown is found")
	}
}

// TestLongNamesakes: names too long for a number carry their ID, and give way to
// one that has that very name.
func TestLongNamesakes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 250) + ".jpg"
	d := newDesk(t, "create a=1", "create b=2")
	a, b := d.get(t, "a").ID, d.get(t, "b").ID
	d.record(t, func(r *Recorder) error {
		return errors.Join(r.Move(a, Location{Root, long}), r.Move(b, Location{Root, long}))
	})
	made := d.r.index.nodes[b].Shown
	if !strings.HasSuffix(made, " ("+b.String()+").jpg") || len(made) != MaxNameBytes || d.r.index.nodes[a].Shown != long {
		t.Fatalf("shown as %q", made)
	}
	d.do(t, "create "+made+"=3")
	if got := d.r.index.nodes[b].Shown; !strings.HasSuffix(got, " ("+b.String()+" 2).jpg") {
		t.Errorf("with a sibling of that name it is shown as %q", got)
	}
	if err := checkRows(d.r.index); err != nil {
		t.Error(err)
	}
	for _, id := range []EntryID{a, b} {
		if found, ok, _ := Find(d.r.index, Root, d.r.index.nodes[id].Shown); !ok || found != id {
			t.Errorf("%s is not found by its name", id)
		}
	}
	taken, _, _ := Find(d.r.index, Root, made)
	d.record(t, func(r *Recorder) error { return r.Remove(taken) })
	if got := d.r.index.nodes[b].Shown; got != made {
		t.Errorf("when the sibling is gone it is shown as %q", got)
	}
	if err := checkRows(d.r.index); err != nil {
		t.Error(err)
	}
}

// TestNormalisedNamesMeet: one name in two Unicode forms, made while apart, is one
// entry; the bytes shown are those of the place that won.
func TestNormalisedNamesMeet(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	for i, name := range []string{"\u00e9", "e\u0301"} {
		if err := w.step(w.replicas[i], "create "+name+"=1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	if n := w.replicas[0].index.Len(); n != 1 {
		t.Errorf("%d entries", n)
	}
}

// TestIDs: each part of what names an entry counts, the form of its name does not.
func TestIDs(t *testing.T) {
	t.Parallel()
	f, p, d := FolderID{1}, NewEntryID(FolderID{1}, Root, Directory, "p", nil), Dot{ReplicaID{1}, 1}
	ids := map[EntryID]string{}
	for what, id := range map[string]EntryID{
		"plain":         NewEntryID(f, Root, File, "a", nil),
		"other folder":  NewEntryID(FolderID{2}, Root, File, "a", nil),
		"other parent":  NewEntryID(f, p, File, "a", nil),
		"other kind":    NewEntryID(f, Root, Symlink, "a", nil),
		"directory":     NewEntryID(f, Root, Directory, "a", nil),
		"other name":    NewEntryID(f, Root, File, "b", nil),
		"salted":        NewEntryID(f, Root, File, "a", &d),
		"other salt":    NewEntryID(f, Root, File, "a", &Dot{ReplicaID{1}, 2}),
		"conflict":      conflictID(NewEntryID(f, Root, File, "a", nil), File, d),
		"other dot":     conflictID(NewEntryID(f, Root, File, "a", nil), File, Dot{ReplicaID{2}, 1}),
		"other's other": conflictID(NewEntryID(f, Root, File, "b", nil), File, d),
	} {
		if other, taken := ids[id]; taken {
			t.Errorf("%s and %s have one ID", what, other)
		}
		ids[id] = what
	}
	if NewEntryID(f, Root, File, "\u00e9", nil) != NewEntryID(f, Root, File, "e\u0301", nil) {
		t.Error("the form of a name counts")
	}
	for _, k := range []Kind{Directory, File, Symlink} {
		if got := NewEntryID(f, Root, k, "a", nil).Kind(); got != k {
			t.Errorf("the ID of a %s says %s", k, got)
		}
	}
	if Root.Kind() != Directory {
		t.Error("the root is not a directory")
	}
}

// TestLikeAFileSystem: P8. What one person does alone, or several who always meet
// before the next change, is what a plain file system would show.
func TestLikeAFileSystem(t *testing.T) {
	t.Parallel()
	seed := envUint(t, "SHEAF_SEED", rand.Uint64())
	for i := range uint64(30) {
		w := newWorld(seed+i, 3)
		w.profile.names = []string{"a", "b", "c"}
		files := map[string]string{} // path -> content, "/" for a directory
		for range 40 {
			r := pick(w.rnd, w.replicas)
			if err := likeAFileSystem(w, r, files); err != nil {
				t.Fatalf("SHEAF_SEED=%d: %v", seed+i, err)
			}
			for _, s := range w.replicas {
				if err := errors.Join(w.receive(s.index, r.index, false), w.receive(s.disk, s.index, false)); err != nil {
					t.Fatal(err)
				}
			}
			got := map[string]string{}
			tree := r.disk.Tree()
			for id, n := range tree.Nodes {
				if e := r.disk.entries[id]; n.Visible() && e.Kind == Directory {
					got[tree.Path(id)] = "/"
				} else if n.Visible() {
					got[tree.Path(id)] = e.Shown().Content.String()
				}
			}
			if !maps.Equal(got, files) {
				t.Fatalf("SHEAF_SEED=%d: the tree is %v, a file system's %v", seed+i, got, files)
			}
		}
	}
}

func likeAFileSystem(w *world, r *replica, files map[string]string) error {
	paths := slices.Sorted(maps.Keys(files))
	dirs := []string{""}
	for _, p := range paths {
		if files[p] == "/" {
			dirs = append(dirs, p+"/")
		}
	}
	to := pick(w.rnd, dirs) + pick(w.rnd, w.profile.names)
	_, taken := files[to]
	text := fmt.Sprint(w.clock)
	switch act := w.rnd.IntN(6); {
	case act == 0 && !taken:
		files[to] = "/"
		return w.step(r, "mkdir "+to)
	case act <= 2 && !taken:
		files[to] = contentOf(text).Hash.String()
		return w.step(r, "create "+to+"="+text)
	case len(paths) == 0:
		return nil
	}
	from := pick(w.rnd, paths)
	switch act := w.rnd.IntN(3); {
	case act == 0 && files[from] != "/":
		files[from] = contentOf(text).Hash.String()
		return w.step(r, "edit "+from+"="+text)
	case act == 1 && !taken && !strings.HasPrefix(to, from+"/"):
		for _, p := range paths {
			if p == from || strings.HasPrefix(p, from+"/") {
				files[to+p[len(from):]] = files[p]
				delete(files, p)
			}
		}
		return w.step(r, "move "+from+" "+to)
	case act == 2:
		for _, p := range paths {
			if p == from || strings.HasPrefix(p, from+"/") {
				delete(files, p)
			}
		}
		return w.step(r, "rm "+from)
	}
	return nil
}
