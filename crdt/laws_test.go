package crdt

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestJoinLaws: P2, on encoded states, of any entries that may come in.
func TestJoinLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := genID(t)
		a, b, c := genEntry(t, id), genEntry(t, id), genEntry(t, id)
		ab := Join(a, b)
		same(t, "commutative", ab, Join(b, a))
		same(t, "associative", Join(ab, c), Join(a, Join(b, c)))
		same(t, "idempotent", Join(a, a), a)
		same(t, "absorbing", Join(ab, a), ab)
		if err := checkShape(ab); err != nil {
			t.Fatalf("join is malformed: %v", err)
		}
		if !ab.Seen.Includes(a.Seen) || !ab.Seen.Includes(b.Seen) {
			t.Fatal("join has not seen what its sides have")
		}
	})
}

func same(t *rapid.T, law string, a, b Entry) {
	t.Helper()
	if !a.Equal(b) || !bytes.Equal(a.Encode(nil), b.Encode(nil)) {
		t.Fatalf("not %s:\n%+v\n%+v", law, a, b)
	}
}

// TestJoinKeepsArguments: values are immutable, also where they share memory.
func TestJoinKeepsArguments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := genID(t)
		a, b, c := genEntry(t, id), genEntry(t, id), genEntry(t, id)
		before := [][]byte{a.Encode(nil), b.Encode(nil)}
		ab, _ := Normalize(Join(a, b))
		_, _ = Normalize(Join(ab, c))
		_ = ab.Seen.With(genDot(t)).Merge(c.Seen)
		for i, e := range []Entry{a, b} {
			if !bytes.Equal(before[i], e.Encode(nil)) {
				t.Fatalf("argument %d was changed", i)
			}
		}
	})
}

// TestJoinOfStrangers: a wrong call is harmless.
func TestJoinOfStrangers(t *testing.T) {
	t.Parallel()
	a := Entry{ID: NewEntryID(FolderID{}, Root, File, "a", nil), Kind: File}
	b := Entry{ID: NewEntryID(FolderID{}, Root, File, "b", nil), Kind: File}
	if !Join(a, b).Equal(Join(b, a)) {
		t.Error("the order of strangers matters")
	}
}

// TestNormalFormLaws: normal form is one, is stable, and forgets no content.
func TestNormalFormLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := genID(t)
		e := Join(genEntry(t, id), genEntry(t, id))
		n, copies := Normalize(e)
		if len(n.Versions()) > 1 || !slices.Equal(n.Seen, e.Seen) || n.Place != e.Place || n.Attrs != e.Attrs {
			t.Fatalf("not a normal form: %+v of %+v", n, e)
		}
		if again, more := Normalize(n); !again.Equal(n) || len(more) > 0 {
			t.Fatal("normal form is not stable")
		}
		if err := checkShape(n); err != nil {
			t.Fatal(err)
		}
		kept := slices.Clone(copies)
		for _, f := range e.Versions() {
			if !slices.ContainsFunc(append(kept, n), func(k Entry) bool { return sameContent(k.Shown(), f.Version) }) {
				t.Fatalf("content %s of %s is gone", f.Version.Content, f.Dot)
			}
		}
		if v := e.liveVersion(); v != nil && compareVersions(n.liveVersion(), v) != 0 {
			t.Fatal("the greatest version left")
		}
		for _, c := range copies {
			if err := checkEntry(c); err != nil {
				t.Fatalf("conflict copy: %v", err)
			}
		}
	})
}

// TestGreatestVersionStays: all subsets of up to five concurrent versions, in all
// orders of arrival, one by one and in pairs: the greatest known one is the one
// shown, and in the end all orders have made the same entries.
func TestGreatestVersionStays(t *testing.T) {
	t.Parallel()
	for _, texts := range [][]string{{"a", "b"}, {"a", "b", "c", "d"}, {"a", "b", "a", "c", "b"}, {"a", "a", "a"}} {
		versions := concurrent(texts)
		for _, order := range permutations(len(versions)) {
			rows := NewMemRows()
			var greatest *Version
			for _, i := range order {
				if _, err := Apply(rows, versions[i:i+1]); err != nil {
					t.Fatal(err)
				}
				if compareVersions(versions[i].Last, greatest) > 0 {
					greatest = versions[i].Last
				}
				if got := rows.entries[versions[i].ID].Shown(); compareVersions(got, greatest) != 0 {
					t.Fatalf("%v: after %d the file shows %+v, the greatest is %+v", order, i, got, greatest)
				}
			}
			if len(versions) > 4 && order[0] > order[1] {
				continue // halves of the big cases are enough for what follows
			}
			sub := NewMemRows() // each part as another replica, then all of them together
			for cut := range len(order) - 1 {
				part := NewMemRows()
				for _, i := range order[cut : cut+2] {
					mustApply(t, part, versions[i:i+1])
				}
				mustApply(t, sub, Order(values(part)))
			}
			mustApply(t, sub, Order(values(rows)))
			mustApply(t, rows, Order(values(sub)))
			if err := sameEntries(rows.entries, sub.entries); err != nil {
				t.Fatalf("%v: %v", order, err)
			}
			if err := checkRows(sub); err != nil {
				t.Fatal(err)
			}
			if got := shownContents(rows); !maps.Equal(got, wantContents(texts)) {
				t.Fatalf("%v: the contents shown are %v, want %v", order, got, texts)
			}
			// What lost before an equal version came stands beside it.
			if n := rows.Len(); n < len(wantContents(texts)) || n > len(texts) {
				t.Fatalf("%v: %d entries for %v", order, n, texts)
			}
		}
	}
}

// concurrent gives versions of one file that know nothing of each other.
func concurrent(texts []string) []Entry {
	var out []Entry
	for i, text := range texts {
		rec := NewRecorder(RowsBase{NewMemRows()}, NewMemRows(), Writer{Replica: replicaID(i), Author: "x", Now: int64(1000 - i)})
		if _, err := rec.Create(Location{Root, "f"}, File, contentOf(text), 0o644); err != nil {
			panic(err)
		}
		out = append(out, rec.Entries()...)
	}
	return out
}

func values(m *MemRows) []Entry {
	var out []Entry
	for _, id := range m.sortedIDs() {
		out = append(out, m.entries[id])
	}
	return out
}

func mustApply(t testing.TB, rows Rows, batch []Entry) Applied {
	t.Helper()
	a, err := Apply(rows, batch)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func shownContents(m *MemRows) map[ContentHash]bool {
	out := map[ContentHash]bool{}
	for _, e := range m.entries {
		if e.IsLive() && e.Kind != Directory {
			out[e.Shown().Content] = true
		}
	}
	return out
}

func wantContents(texts []string) map[ContentHash]bool {
	out := map[ContentHash]bool{}
	for _, s := range texts {
		out[contentOf(s).Hash] = true
	}
	return out
}
