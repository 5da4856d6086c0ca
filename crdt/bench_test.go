package crdt

import (
	"fmt"
	"testing"
)

// benchTree records n files, a hundred to a directory (or all in one).
func benchTree(b *testing.B, n, perDir int) ([]Entry, []EntryID) {
	b.Helper()
	rec := NewRecorder(RowsBase{NewMemRows()}, NewMemRows(), Writer{Replica: replicaID(0), Author: "Ada's laptop", Now: 1_787_236_953_000})
	var dir EntryID
	var files []EntryID
	for i := range n {
		var err error
		if i%perDir == 0 {
			if dir, err = rec.Create(Location{Root, fmt.Sprintf("directory %d", i/perDir)}, Directory, Content{}, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		id, err := rec.Create(Location{dir, fmt.Sprintf("IMG_%08d.jpg", i)}, File, contentOf(fmt.Sprint(i)), 0o644)
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, id)
	}
	return rec.Entries(), files
}

func BenchmarkJoin(b *testing.B) {
	vs := concurrent([]string{"1", "2"})
	moved := vs[0]
	moved.Place.Stamp.Count++
	moved.Seen = moved.Seen.With(Dot{replicaID(0), 2})
	for _, c := range []struct {
		name string
		a, b Entry
	}{{"same", vs[0], vs[0]}, {"newer", vs[0], moved}, {"concurrent", vs[0], vs[1]}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Join(c.a, c.b)
			}
		})
	}
	b.Run("normalize", func(b *testing.B) {
		b.ReportAllocs()
		e := Join(vs[0], vs[1])
		for b.Loop() {
			Normalize(e)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	e := samples()["new file"]
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = e.Encode(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "bytes/entry")
}

func BenchmarkDecode(b *testing.B) {
	data := samples()["new file"].Encode(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

// perEntry runs f on batches of 1,000 and reports per entry.
func perEntry(b *testing.B, f func(b *testing.B)) {
	b.Helper()
	b.ReportAllocs()
	f(b)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/entry")
}

// BenchmarkApply is of batches of 1,000 entries on rows in memory: what the
// database takes comes on top.
func BenchmarkApply(b *testing.B) {
	entries, files := benchTree(b, 1000, 1000)
	b.Run("create in one directory", func(b *testing.B) {
		perEntry(b, func(b *testing.B) {
			for b.Loop() {
				mustApply(b, NewMemRows(), entries)
			}
		})
	})
	big := NewMemRows()
	all, _ := benchTree(b, 100_000, 100_000)
	mustApply(b, big, all)
	news := func(do func(r *Recorder, id EntryID) error) []Entry {
		rec := NewRecorder(RowsBase{big}, big, Writer{Replica: replicaID(1), Now: 1_787_236_953_001})
		for _, id := range files {
			if err := do(rec, id); err != nil {
				b.Fatal(err)
			}
		}
		return rec.Entries()
	}
	sets := []struct {
		name  string
		batch []Entry
	}{
		{"known already", all[:1000]},
		{"edit in a directory of 100000", news(func(r *Recorder, id EntryID) error { return r.Edit(id, contentOf("new"), 0o644) })},
		{"rename in a directory of 100000", news(func(r *Recorder, id EntryID) error {
			return r.Move(id, Location{Root, "moved " + id.String()})
		})},
	}
	for _, s := range sets {
		b.Run(s.name, func(b *testing.B) {
			perEntry(b, func(b *testing.B) {
				for b.Loop() {
					a, err := prepare(big, s.batch) // and all but the writing
					if err != nil {
						b.Fatal(err)
					}
					if err := a.attach(); err != nil {
						b.Fatal(err)
					}
					if err := a.rename(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
	b.Run("move of a directory of 100000", func(b *testing.B) {
		b.ReportAllocs()
		dir := all[0].ID
		rec := NewRecorder(RowsBase{big}, big, Writer{Replica: replicaID(1), Now: 1_787_236_953_001})
		i := 0
		for b.Loop() {
			i++
			if err := rec.Move(dir, Location{Root, fmt.Sprint("moved ", i)}); err != nil {
				b.Fatal(err)
			}
			mustApply(b, big, rec.Entries())
		}
	})
}

func BenchmarkView(b *testing.B) {
	entries, _ := benchTree(b, 100_000, 100)
	rows := NewMemRows()
	mustApply(b, rows, entries)
	all := rows.Entries()
	b.ReportAllocs()
	for b.Loop() {
		View(all)
	}
}

// BenchmarkMoves is P19: 10,000 moves of directories in a tree of 100,000.
func BenchmarkMoves(b *testing.B) {
	entries, _ := benchTree(b, 100_000, 10)
	var dirs []EntryID
	for _, e := range entries {
		if e.Kind == Directory {
			dirs = append(dirs, e.ID)
		}
	}
	var moves []Entry
	rows := NewMemRows()
	mustApply(b, rows, entries)
	for i, id := range dirs { // each into some other, from nine replicas: with cycles
		e := rows.entries[id]
		to := Location{dirs[(i*7919+13)%len(dirs)], "moved"}
		d := Dot{replicaID(1 + i%9), uint64(i + 1)}
		e.Place = Place{Stamp{2, int64(i), d.Replica}, to, e.Place.Location}
		e.Seen = e.Seen.With(d)
		moves = append(moves, e)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		fresh := rows.Clone()
		b.StartTimer()
		for i := 0; i < len(moves); i += MaxBatch {
			if _, err := Apply(fresh, moves[i:min(i+MaxBatch, len(moves))]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
