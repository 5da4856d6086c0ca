package crdt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHostileEntries: P14, P18. Whatever well-formed entries come, in whatever
// order and parts: nothing panics, each replica's incremental view is the pure
// one and a tree, and honest replicas that have exchanged all end the same. The
// same dots stand for different facets here, stamps for different values, and
// places form cycles of any shape.
func TestHostileEntries(t *testing.T) {
	t.Parallel()
	for range 10 { // times the number of checks
		rapid.Check(t, func(t *rapid.T) {
			ids := genParents()[1:]
			for _, kind := range []Kind{Directory, File, Symlink} {
				ids = append(ids, NewEntryID(FolderID{}, Root, kind, "f", nil))
			}
			replicas := []*MemRows{NewMemRows(), NewMemRows(), NewMemRows()}
			for range rapid.IntRange(1, 8).Draw(t, "batches") {
				rows := rapid.SampledFrom(replicas).Draw(t, "to")
				batch := []Entry{}
				for _, id := range ids { // all of them: parents are always there
					batch = append(batch, genEntry(t, id))
				}
				apply(t, rows, rapid.Permutation(batch).Draw(t, "order"))
			}
			for _, rows := range replicas[1:] {
				apply(t, replicas[0], values(rows))
			}
			for _, rows := range replicas[1:] {
				apply(t, rows, values(replicas[0]))
				apply(t, replicas[0], values(rows))
				if err := sameEntries(replicas[0].entries, rows.entries); err != nil {
					t.Fatalf("honest replicas differ: %v", err)
				}
			}
		})
	}
}

func apply(t *rapid.T, rows *MemRows, batch []Entry) {
	t.Helper()
	if _, err := Apply(rows, batch); err != nil {
		t.Fatal(err)
	}
	if err := checkRows(rows); err != nil {
		t.Fatal(err)
	}
	if err := checkTree(rows.Tree(), rows.entries); err != nil {
		t.Fatal(err)
	}
}

// TestRandomPlaces: cycles of every shape among ten directories, changed one or a
// few at a time: incremental view against pure.
func TestRandomPlaces(t *testing.T) {
	t.Parallel()
	seed := envUint(t, "SHEAF_SEED", rand.Uint64())
	rnd := rand.New(rand.NewPCG(seed, 3))
	for world := range 300 {
		n := 2 + rnd.IntN(9)
		ids := make([]EntryID, n)
		for i := range ids {
			ids[i] = NewEntryID(FolderID{}, Root, Directory, fmt.Sprint(i), nil)
		}
		where := func() Location {
			if i := rnd.IntN(n + 1); i < n {
				return Location{ids[i], pick(rnd, []string{"x", "y"})}
			}
			return Location{Root, "x"}
		}
		entry := func(id EntryID, count int) Entry {
			r := replicaID(rnd.IntN(3))
			e := Entry{ID: id, Kind: Directory, Place: Place{Stamp{uint64(count), rnd.Int64N(5), r}, where(), where()}, Seen: VersionVector{{r, uint64(count)}}}
			if rnd.IntN(3) > 0 {
				e.Live = []Facet{{Dot: e.Seen[0]}}
			}
			return e
		}
		rows := NewMemRows()
		for count := range 30 {
			var batch []Entry
			for _, id := range ids {
				if count == 0 || rnd.IntN(n) == 0 {
					batch = append(batch, entry(id, count+1))
				}
			}
			mustApply(t, rows, batch)
			if err := checkRows(rows); err != nil {
				t.Fatalf("SHEAF_SEED=%d, world %d, batch %d: %v", seed, world, count, err)
			}
			if err := checkTree(rows.Tree(), rows.entries); err != nil {
				t.Fatalf("SHEAF_SEED=%d, world %d, batch %d: %v", seed, world, count, err)
			}
		}
	}
}

// TestEquivocation: a replica that was cloned uses its dots twice. Both contents
// are kept, all honest replicas show the same, whoever they heard first (P14).
func TestEquivocation(t *testing.T) {
	t.Parallel()
	cloned := func(text string) []Entry {
		rec := NewRecorder(RowsBase{NewMemRows()}, NewMemRows(), Writer{Replica: replicaID(0), Author: "clone", Now: 1000})
		if _, err := rec.Create(Location{Root, "f"}, File, contentOf(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return rec.Entries()
	}
	states := [][]Entry{cloned("1"), cloned("2"), cloned("3")}
	if states[0][0].Live[0].Dot != states[1][0].Live[0].Dot {
		t.Fatal("the clones have different dots: this test tests nothing")
	}
	var want []Entry
	for _, order := range permutations(3) {
		rows := NewMemRows()
		for _, i := range order {
			mustApply(t, rows, states[i])
			mustApply(t, rows, states[i])
		}
		if got := shownContents(rows); len(got) != 3 {
			t.Fatalf("%v: %d contents of 3 are shown", order, len(got))
		}
		if err := checkRows(rows); err != nil {
			t.Fatal(err)
		}
		if got := values(rows); want == nil {
			want = got
		} else if !slices.EqualFunc(got, want, Entry.Equal) {
			t.Fatalf("%v: %+v, in another order %+v", order, got, want)
		}
	}
}

// TestNewEpoch: P13. A device that lost its database, and with it any part of
// what it had, goes on under a fresh ReplicaID: nothing of anybody is hidden.
func TestNewEpoch(t *testing.T) {
	t.Parallel()
	for lost := range 4 {
		w := newWorld(uint64(lost), 2)
		a, b := w.replicas[0], w.replicas[1]
		steps := []string{"create f=1", "edit f=2", "create g=3", "move g h"}
		var backup *replica
		for i, s := range steps {
			if i == lost {
				backup = &replica{id: replicaID(7), index: a.index.Clone(), disk: a.disk.Clone()}
			}
			if err := w.step(a, s); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.receive(b.index, a.index, false); err != nil {
			t.Fatal(err)
		}
		w.replicas[0] = backup
		if err := w.step(backup, "create new=4"); err != nil {
			t.Fatal(err)
		}
		if err := w.settle(); err != nil {
			t.Fatal(err)
		}
		if got := w.print(b.index); got != "f=2 h=3 new=4" {
			t.Errorf("%d steps left of the lost database: %q", lost, got)
		}
	}
}

// TestMembersComeAndGo: P11. Devices that join later or leave make no conflict.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 1)
	if err := w.step(w.replicas[0], "create f=0"); err != nil {
		t.Fatal(err)
	}
	for k := 1; k < 20; k++ {
		next := &replica{id: replicaID(k), index: NewMemRows(), disk: NewMemRows(), skew: int64(k%3-1) * 50 * year}
		last := w.replicas[0]
		if err := w.receive(next.index, last.index, false); err != nil {
			t.Fatal(err)
		}
		if err := w.receive(next.disk, next.index, false); err != nil {
			t.Fatal(err)
		}
		w.replicas = []*replica{next}
		if err := w.step(next, fmt.Sprintf("edit f=%d", k%10)); err != nil {
			t.Fatal(err)
		}
		if got, want := w.print(next.index), fmt.Sprintf("f=%d", k%10); got != want {
			t.Fatalf("device %d shows %q, want %q", k, got, want)
		}
	}
}

// TestFilledByHand: P15. The same 10,000 files put into both sides before they
// first meet are 10,000 files.
func TestFilledByHand(t *testing.T) {
	t.Parallel()
	const files = 10_000
	var sides [2][]Entry
	for k := range sides {
		rec := NewRecorder(RowsBase{NewMemRows()}, NewMemRows(), Writer{Replica: replicaID(k), Now: int64(k) * 50 * year})
		var dir EntryID
		for i := range files {
			if i%100 == 0 {
				var err error
				if dir, err = rec.Create(Location{Root, fmt.Sprint("d", i)}, Directory, Content{}, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := rec.Create(Location{dir, fmt.Sprint(i)}, File, contentOf(fmt.Sprint(i)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		sides[k] = rec.Entries()
	}
	rows := NewMemRows()
	mustApply(t, rows, sides[0])
	before := rows.Tree()
	mustApply(t, rows, sides[1])
	if rows.Len() != files+files/100 || len(shownContents(rows)) != files {
		t.Errorf("%d entries, %d contents", rows.Len(), len(shownContents(rows)))
	}
	for id, n := range rows.nodes {
		if n != before.Nodes[id] {
			t.Fatalf("meeting moved %s from %+v to %+v", id, before.Nodes[id], n)
		}
	}
}
