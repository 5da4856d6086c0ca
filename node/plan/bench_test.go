package plan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"sheaf/crdt"
	"sheaf/node/stat"
)

func numbered(kind crdt.Kind, n int) crdt.EntryID {
	id := crdt.EntryID{15: byte(kind)}
	binary.BigEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15)
	return id
}

func numberedStat(n int) stat.Stat {
	return stat.Stat{Kind: stat.File, Mode: 0o644, Size: 1, Inode: uint64(n + 1), Device: 1, Born: int64(n), Modified: int64(n), Links: 1}
}

// BenchmarkBind binds a directory of 100,000 files: unchanged, all saved anew,
// all renamed, all new.
func BenchmarkBind(b *testing.B) {
	const n = 100_000
	for _, c := range []struct {
		name   string
		inode  int
		suffix string
		known  bool
	}{{"unchanged", 0, "", true}, {"saved", n, "", true}, {"renamed", 0, "x", true}, {"new", 0, "", false}} {
		b.Run(c.name, func(b *testing.B) {
			s := Sighting{Complete: true}
			for i := range n {
				name := fmt.Sprintf("file %06d", i)
				s.Items = append(s.Items, Item{name + c.suffix, numberedStat(i + c.inode)})
				if c.known {
					s.Known = append(s.Known, Known{ID: numbered(crdt.File, i), At: crdt.Location{Name: name}, Kind: crdt.File, Stat: numberedStat(i)})
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				if got := Bind(s, nil); len(got) != n {
					b.Fatal(len(got))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/item")
		})
	}
}

// bigReader is a Reader with an index of names.
type bigReader struct {
	*trees
	at   map[crdt.Location]crdt.EntryID
	kids map[crdt.EntryID][]crdt.EntryID
}

func (r bigReader) BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	id, ok := r.at[crdt.Location{Parent: parent, Name: name}]
	return id, ok, nil
}

func (r bigReader) BaseChildren(parent crdt.EntryID) ([]crdt.EntryID, error) {
	return r.kids[parent], nil
}

func bigTrees(n int, was, want func(n, i int) (crdt.Location, bool)) (bigReader, []crdt.EntryID) {
	r := bigReader{newTrees(), make(map[crdt.Location]crdt.EntryID), make(map[crdt.EntryID][]crdt.EntryID)}
	var ids []crdt.EntryID
	for i := range n {
		id := numbered(crdt.Directory, i)
		ids = append(ids, id)
		if at, ok := was(n, i); ok {
			r.base[id] = Known{ID: id, At: at, Kind: crdt.Directory}
			r.at[at] = id
			r.kids[at.Parent] = append(r.kids[at.Parent], id)
		}
		t := Target{Kind: crdt.Directory}
		if at, ok := want(n, i); ok {
			t.Visible, t.Parent, t.Name = true, at.Parent, at.Name
		}
		r.want[id] = t
	}
	slices.SortFunc(ids, compareIDs)
	return r, ids
}

// bigCases are many entries that are behind, in shapes that could be slow.
var bigCases = []struct {
	name      string
	was, want func(n, i int) (crdt.Location, bool)
	ops       func(n int) int // nil: not counted
}{
	{"new in one directory", nowhere, flat, same},
	{"gone from one directory", flat, nowhere, same},
	{"new, 250 deep", nowhere, deep, same},
	{"gone, 250 deep", deep, nowhere, same},
	{"a chain of renames", flat, func(_, i int) (crdt.Location, bool) { return flat1(i + 1), true }, same},
	{"one circle of renames", flat, func(n, i int) (crdt.Location, bool) { return flat1((i + 1) % n), true }, func(n int) int { return n + 1 }},
	{"swaps", flat, func(_, i int) (crdt.Location, bool) { return flat1(i ^ 1), true }, func(n int) int { return n + n/2 }},
	{"a deep tree turned upside down", deep, func(_, i int) (crdt.Location, bool) {
		column, row := i/250, i%250
		at := crdt.Location{Name: fmt.Sprint(column)}
		if row < 249 {
			at = crdt.Location{Parent: numbered(crdt.Directory, i+1), Name: "d"}
		}
		return at, true
	}, nil},
}

const bigN = 100_000

func same(n int) int { return n }

func nowhere(_, _ int) (crdt.Location, bool) { return crdt.Location{}, false }

func flat1(i int) crdt.Location { return crdt.Location{Name: fmt.Sprintf("entry %06d", i)} }

func flat(_, i int) (crdt.Location, bool) { return flat1(i), true }

func deep(_, i int) (crdt.Location, bool) {
	if i%250 == 0 {
		return crdt.Location{Name: fmt.Sprint(i / 250)}, true
	}
	return crdt.Location{Parent: numbered(crdt.Directory, i-1), Name: "d"}, true
}

func BenchmarkMaterialise(b *testing.B) {
	for _, c := range bigCases {
		b.Run(c.name, func(b *testing.B) {
			r, ids := bigTrees(bigN, c.was, c.want)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Materialise(r, ids, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/bigN, "ns/entry")
		})
	}
}

// TestMaterialiseOfMany: each shape of many entries is planned with the
// operations it needs and no more, and no stack of ours or Go's is too small.
func TestMaterialiseOfMany(t *testing.T) {
	t.Parallel()
	const n = 20_000
	for _, c := range bigCases {
		r, ids := bigTrees(n, c.was, c.want)
		ops, err := Materialise(r, ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		waits := 0
		for _, op := range ops {
			if op.Do == Wait {
				waits++
			}
		}
		if waits > 0 || c.ops != nil && len(ops) != c.ops(n) {
			t.Errorf("%s: %d operations, %d of them waits", c.name, len(ops), waits)
		}
	}
}
