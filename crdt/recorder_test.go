package crdt

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// desk is one device whose disk is in step.
type desk struct {
	*world
	r *replica
}

func newDesk(t *testing.T, steps ...string) desk {
	t.Helper()
	w := newWorld(1, 2)
	d := desk{w, w.replicas[0]}
	d.do(t, steps...)
	return d
}

func (d desk) do(t *testing.T, steps ...string) {
	t.Helper()
	for _, s := range steps {
		if err := d.step(d.r, s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (d desk) get(t *testing.T, path string) Entry {
	t.Helper()
	id, err := d.r.find(path)
	if err != nil {
		t.Fatal(err)
	}
	return d.r.disk.entries[id]
}

func (d desk) record(t *testing.T, f func(rec *Recorder) error) []Entry {
	t.Helper()
	rec := d.recorder(d.r)
	if err := f(rec); err != nil {
		t.Fatal(err)
	}
	entries := rec.Entries()
	if err := d.commit(d.r, rec); err != nil {
		t.Fatal(err)
	}
	return entries
}

// TestRecorderRefuses: what cannot be done is refused, with the reason, and
// leaves nothing behind, neither changes nor counters.
func TestRecorderRefuses(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir d", "mkdir d/e", "create f=1")
	dir, inner, file := d.get(t, "d").ID, d.get(t, "d/e").ID, d.get(t, "f").ID
	stranger := NewEntryID(FolderID{}, Root, File, "stranger", nil)
	var name *NameError
	cases := []struct {
		what string
		do   func(r *Recorder) error
		want error
	}{
		{"a bad name", func(r *Recorder) error { _, err := r.Create(Location{Root, "a/b"}, File, Content{}, 0); return err }, nil},
		{"the same path", func(r *Recorder) error { _, err := r.Create(Location{Root, "f"}, File, Content{}, 0); return err }, ErrExists},
		{"a child of a file", func(r *Recorder) error { _, err := r.Create(Location{file, "x"}, File, Content{}, 0); return err }, ErrNotOnDisk},
		{"a child of a stranger", func(r *Recorder) error { _, err := r.Create(Location{stranger, "x"}, File, Content{}, 0); return err }, ErrNotOnDisk},
		{"a directory with content", func(r *Recorder) error {
			_, err := r.Create(Location{Root, "x"}, Directory, contentOf("x"), 0)
			return err
		}, ErrKind},
		{"edit of a directory", func(r *Recorder) error { return r.Edit(dir, contentOf("x"), 0) }, ErrKind},
		{"edit of a stranger", func(r *Recorder) error { return r.Edit(stranger, contentOf("x"), 0) }, ErrNotOnDisk},
		{"move into itself", func(r *Recorder) error { return r.Move(dir, Location{dir, "x"}) }, ErrInside},
		{"move into its child", func(r *Recorder) error { return r.Move(dir, Location{inner, "x"}) }, ErrInside},
		{"move of the root", func(r *Recorder) error { return r.Move(Root, Location{dir, "x"}) }, ErrNotOnDisk},
		{"restoring what is there", func(r *Recorder) error { return r.Restore(file, Location{Root, "x"}, contentOf("x"), 0) }, ErrExists},
		{"restoring a stranger", func(r *Recorder) error { return r.Restore(stranger, Location{Root, "x"}, contentOf("x"), 0) }, ErrNotOnDisk},
		{"removal of a stranger among others", func(r *Recorder) error { return r.Remove(file, stranger) }, ErrNotOnDisk},
	}
	for _, c := range cases {
		rec := d.recorder(d.r)
		before := rec.Counter()
		err := c.do(rec)
		var ce *ChangeError
		switch {
		case !errors.As(err, &ce):
			t.Errorf("%s: %v is not a ChangeError", c.what, err)
		case c.want == nil && !errors.As(err, &name):
			t.Errorf("%s: %v is not a NameError", c.what, err)
		case c.want != nil && !errors.Is(err, c.want):
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
		if rec.Counter() != before || len(rec.Entries()) != 0 {
			t.Errorf("%s: left %d entries, counter %d of %d", c.what, len(rec.Entries()), rec.Counter(), before)
		}
	}
	rec := d.recorder(d.r)
	if err := rec.SetAttrs(file, MaxMode+1, nil); err == nil || rec.Counter() != d.r.counter {
		t.Errorf("a mode out of range: %v, counter %d", err, rec.Counter())
	}
}

// TestRecorderNothingToDo: P9. What is as shown is no change.
func TestRecorderNothingToDo(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir d", "create d/f=1")
	f := d.get(t, "d/f")
	entries := d.record(t, func(r *Recorder) error {
		mtime := f.MTime()
		return errors.Join(
			r.SetAttrs(f.ID, f.Mode(), nil),
			r.SetAttrs(f.ID, f.Mode(), &mtime),
			r.Move(f.ID, Location{f.Place.Parent, "f"}),
			r.Edit(f.ID, contentOf("1"), f.Mode()),
			r.Remove(),
		)
	})
	if len(entries) != 0 {
		t.Errorf("%d entries for nothing", len(entries))
	}
}

// TestTimesShown: the later of content and attributes gives the time, whatever
// the clocks say; a change of mode alone leaves the time in force alone.
func TestTimesShown(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	id := d.get(t, "f").ID
	want := func(what string, mtime int64, mode uint32) {
		t.Helper()
		if e := d.get(t, "f"); e.MTime() != mtime || e.Mode() != mode {
			t.Errorf("%s: time %d, mode %o, want %d, %o", what, e.MTime(), e.Mode(), mtime, mode)
		}
	}
	at := func(ns int64) Content { c := contentOf(fmt.Sprint(ns)); c.MTime = ns; return c }
	steps := []struct {
		what  string
		do    func(r *Recorder) error
		mtime int64
		mode  uint32
	}{
		{"chmod", func(r *Recorder) error { return r.SetAttrs(id, 0o600, nil) }, 1e9, 0o600},
		{"touch", func(r *Recorder) error { ns := int64(50); return r.SetAttrs(id, 0o600, &ns) }, 50, 0o600},
		{"chmod after touch", func(r *Recorder) error { return r.SetAttrs(id, 0o700, nil) }, 50, 0o700},
		{"edit after touch", func(r *Recorder) error { return r.Edit(id, at(60), 0o700) }, 60, 0o700},
		{"chmod after edit", func(r *Recorder) error { return r.SetAttrs(id, 0o644, nil) }, 60, 0o644},
		{"edit with a mode", func(r *Recorder) error { return r.Edit(id, at(70), 0o755) }, 70, 0o755},
		{"touch again", func(r *Recorder) error { ns := int64(80); return r.SetAttrs(id, 0o755, &ns) }, 80, 0o755},
		{"edit with a mode after touch", func(r *Recorder) error { return r.Edit(id, at(90), 0o644) }, 90, 0o644},
		{"the same content again", func(r *Recorder) error { c := at(90); c.MTime = 95; return r.Edit(id, c, 0o644) }, 95, 0o644},
	}
	for i, s := range steps {
		d.clock -= 1000 * int64(i%3) // a clock that goes backwards changes nothing
		versions := len(d.get(t, "f").Versions())
		d.record(t, s.do)
		want(s.what, s.mtime, s.mode)
		if got := len(d.get(t, "f").Versions()); got != versions {
			t.Errorf("%s: %d versions, %d before", s.what, got, versions)
		}
	}
}

// TestCountsShared: a new Version or Attrs outranks all three of Attrs, Live and
// Last, which a version that was deleted elsewhere may have left high.
func TestCountsShared(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	other := d.replicas[1]
	if err := d.sync(d.r, other); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"edit f=2", "edit f=3", "edit f=4", "rm f"} { // high counts, then gone
		if err := d.step(other, s); err != nil {
			t.Fatal(err)
		}
	}
	d.do(t, "move f g") // keeps it alive here
	if err := d.sync(d.r, other); err != nil {
		t.Fatal(err)
	}
	last := d.get(t, "g").Last
	if got := d.get(t, "g"); len(got.Versions()) != 0 || got.Shown() != last || last.Content != contentOf("4").Hash {
		t.Fatalf("the file shows %+v", got.Shown())
	}
	d.do(t, "touch g 7")
	if e := d.get(t, "g"); e.Attrs.Stamp.Count <= last.Stamp.Count || e.MTime() != 7 {
		t.Errorf("attributes %+v do not outrank %+v", e.Attrs, last)
	}
	attrs := d.get(t, "g").Attrs
	d.do(t, "edit g=5")
	if e := d.get(t, "g"); e.Last.Stamp.Count <= attrs.Stamp.Count || e.Last.Content != contentOf("5").Hash {
		t.Errorf("the version %+v does not outrank %+v", e.Last, attrs)
	}
}

// TestHostileCount: a Count at its end cannot wrap around.
func TestHostileCount(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	e := d.get(t, "f")
	top := *e.Last
	top.Stamp.Count = MaxCount
	e.Place.Stamp.Count, e.Attrs.Stamp.Count = MaxCount, MaxCount
	e.Live, e.Last = []Facet{{e.Live[0].Dot, &top}}, &top
	for _, rows := range []*MemRows{d.r.disk, d.r.index} {
		mustApply(t, rows, []Entry{e})
	}
	d.do(t, "edit f=2", "move f g", "chmod g 600")
	if got := d.print(d.r.index); got != "g=2,600" {
		t.Errorf("after a hostile count the tree is %q", got)
	}
}

// TestSalt: a path that is used again gets another entry while the first is
// visible elsewhere, and the same one, with its history, once it is gone.
func TestSalt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	first := d.get(t, "f").ID
	d.do(t, "move f g", "create f=2")
	if second := d.get(t, "f").ID; second == first {
		t.Fatal("two visible entries have one ID")
	}
	d.do(t, "rm f", "rm g", "create f=3")
	if third := d.get(t, "f"); third.ID != first || third.Live[0].Version.Stamp.Count <= 1 {
		t.Errorf("made anew as %+v, want entry %s with its history", third, first)
	}
}

// TestUnseenStaysAbove: an entry made anew takes the place that the person chose,
// also where the index knows a later place of the dead one that the disk does not.
func TestUnseenStaysAbove(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	other := d.replicas[1]
	for _, s := range []string{"create f=1", "move f g", "move g h", "rm h"} {
		if err := d.step(other, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.receive(d.r.index, other.index, false); err != nil { // not to the disk
		t.Fatal(err)
	}
	d.do(t, "create f=2")
	if got := d.print(d.r.index); got != "f=2" {
		t.Errorf("the index shows %q", got)
	}
}

// TestRestoreFromIndex: what the disk never had can be taken out of the trash.
func TestRestoreFromIndex(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	other := d.replicas[1]
	for _, s := range []string{"create f=1", "rm f"} {
		if err := d.step(other, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.receive(d.r.index, other.index, false); err != nil {
		t.Fatal(err)
	}
	d.do(t, "restore f g=1")
	if got := d.print(d.r.index); got != "g=1" {
		t.Errorf("the index shows %q", got)
	}
}

// TestManyChangesAtOnce: changes see the earlier ones of the same Recorder.
func TestManyChangesAtOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create a=1", "create b=2")
	a, b := d.get(t, "a").ID, d.get(t, "b").ID
	entries := d.record(t, func(r *Recorder) error {
		dir, err := r.Create(Location{Root, "d"}, Directory, Content{}, 0o755)
		if err != nil {
			return err
		}
		inner, err := r.Create(Location{dir, "e"}, Directory, Content{}, 0o755)
		if err != nil {
			return err
		}
		made, err := r.Create(Location{inner, "f"}, File, contentOf("3"), 0o644)
		if err != nil {
			return err
		}
		return errors.Join(
			r.Move(a, Location{Root, "tmp"}), r.Move(b, Location{Root, "a"}), r.Move(a, Location{inner, "b"}),
			r.Edit(made, contentOf("4"), 0o600),
			r.Move(dir, Location{Root, "x"}),
			r.Remove(b),
		)
	})
	if got := d.print(d.r.index); got != "x/ x/e/ x/e/b=1 x/e/f=4,600" {
		t.Errorf("the tree is %q", got)
	}
	for i, e := range entries {
		for _, parent := range []EntryID{e.Place.Parent, e.Place.From.Parent} {
			if slices.ContainsFunc(entries[i+1:], func(later Entry) bool { return later.ID == parent }) {
				t.Errorf("%s comes before its parent", e.ID)
			}
		}
	}
}

// TestDepthCap: a person's change stops at MaxDepth.
func TestDepthCap(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.record(t, func(r *Recorder) error {
		parent := Root
		for i := range MaxDepth {
			id, err := r.Create(Location{parent, "d"}, Directory, Content{}, 0o755)
			if err != nil {
				return fmt.Errorf("depth %d: %w", i+1, err)
			}
			parent = id
		}
		if _, err := r.Create(Location{parent, "d"}, Directory, Content{}, 0o755); !errors.Is(err, ErrTooDeep) {
			t.Errorf("one too deep: %v", err)
		}
		return nil
	})
	if err := checkRows(d.r.index); err != nil {
		t.Error(err)
	}
}

// TestReplicasCap: the change that nobody would take is refused here.
func TestReplicasCap(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	id := d.get(t, "f").ID
	for k := 1; k < MaxReplicas; k++ {
		d.r.id, d.r.counter = ReplicaID{1, byte(k)}, 0
		d.do(t, fmt.Sprintf("edit f=by %d", k))
	}
	d.r.id, d.r.counter = ReplicaID{2}, 0
	if err := d.recorder(d.r).Edit(id, contentOf("x"), 0); !errors.Is(err, ErrTooMany) {
		t.Errorf("replica %d: %v", MaxReplicas+1, err)
	}
}

// TestBaseFails: an error of the base comes through and leaves nothing behind.
func TestBaseFails(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "mkdir d", "create d/f=1")
	id := d.get(t, "d/f").ID
	for calls := range 12 {
		rows := &failingRows{MemRows: d.r.disk, left: calls}
		rec := NewRecorder(RowsBase{rows}, d.r.index, Writer{Replica: d.r.id, Counter: d.r.counter})
		err := rec.Edit(id, contentOf("2"), 0o644)
		if err != nil && (!errors.Is(err, errBroken) || len(rec.Entries()) > 0 || rec.Counter() != d.r.counter) {
			t.Errorf("after %d calls: %v, %d entries", calls, err, len(rec.Entries()))
		}
		if err == nil && !rows.broken && calls < 3 {
			t.Errorf("%d calls were enough", calls)
		}
		rows.left = 1000
		if err := rec.Edit(id, contentOf("2"), 0o644); err != nil {
			t.Errorf("after an error the recorder is broken: %v", err)
		}
	}
}

// TestLongAuthor: labels of any kind end in a valid entry.
func TestLongAuthor(t *testing.T) {
	t.Parallel()
	for _, author := range []string{"", strings.Repeat("é", 300), "bad\xffutf8", "a/b\x00c"} {
		rec := NewRecorder(RowsBase{NewMemRows()}, NewMemRows(), Writer{Author: author})
		if _, err := rec.Create(Location{Root, "f"}, File, contentOf("1"), 0); err != nil {
			t.Errorf("%q: %v", author, err)
		}
	}
}

// TestLiveStaysSmall: however often one replica moves an entry, it leaves one
// presence.
func TestLiveStaysSmall(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "create f=1")
	for i := range 20 {
		d.do(t, "move f g", "move g f", fmt.Sprintf("touch f %d", i))
	}
	if e := d.get(t, "f"); len(e.Live) != 2 {
		t.Errorf("%d dots after 60 changes, want a content and a presence", len(e.Live))
	}
}
