package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// tree is a folder of small files, a hundred to a directory, made in batches as
// a first scan makes them.
type tree struct {
	f     *Folder
	dirs  []crdt.EntryID
	count int
}

const perDirectory = 100

// grow makes n more files (and their directories) in one Update.
func (tr *tree) grow(t testing.TB, n int) {
	t.Helper()
	must(t, tr.f.Update(func(tx *Tx) error {
		_, err := record(tx, func(r *crdt.Recorder) error {
			for range n {
				if tr.count%perDirectory == 0 {
					id, err := r.Create(crdt.Location{Name: fmt.Sprintf("directory-%04d", len(tr.dirs))}, crdt.Directory, crdt.Content{}, 0o755)
					if err != nil {
						return err
					}
					tr.dirs = append(tr.dirs, id)
				}
				at := crdt.Location{Parent: tr.dirs[len(tr.dirs)-1], Name: fileName(tr.count)}
				if _, err := r.Create(at, crdt.File, content(uint64(tr.count)), 0o644); err != nil {
					return err
				}
				tr.count++
			}
			return nil
		}, onDiskAsIs)
		return err
	}))
}

func fileName(n int) string { return fmt.Sprintf("photo-%06d.jpg", n) }

// onDiskAsIs settles a base as Linux shows a file that was just made.
func onDiskAsIs(e crdt.Entry, b *Base) {
	n := uint64(e.Place.Stamp.Time)<<20 | uint64(len(e.Live[0].Dot.Replica)) + e.Live[0].Dot.Counter
	b.Here, b.At = true, e.Place.Location
	b.Stat = stat.Stat{
		Kind: statKind(e.Kind), Mode: e.Mode(), Modified: e.MTime(), Changed: 1_700_000_100_000_000_000 + int64(n%1e9)*7919,
		Inode: 12_000_000 + e.Live[0].Dot.Counter, Device: 0xfd01, Links: 1,
	}
	b.Stat.Born = b.Stat.Changed - 412_345
	if v := e.Shown(); v != nil {
		b.Stat.Size = v.Size
	}
}

func newTree(t testing.TB, n int) *tree {
	t.Helper()
	tr := &tree{f: openFolder(t, openStore(t, filepath.Join(t.TempDir(), "index"), Options{}))}
	for tr.count < n {
		tr.grow(t, min(1000, n-tr.count))
	}
	return tr
}

// TestBytesPerFile: a small file in step costs at most 400 bytes on the disk,
// all tables together.
func TestBytesPerFile(t *testing.T) {
	t.Parallel()
	n := min(10_000*soak(), 100_000)
	start := time.Now()
	tr := newTree(t, n)
	made := time.Since(start)
	s := tr.f.s
	must(t, s.db.CompactRange(util.Range{}))
	must(t, s.Close()) // files that a compaction replaced go in their own time: reopen
	s = openStore(t, s.dir, Options{})
	tr.f = openFolder(t, s)
	size := directorySize(t, s.dir)
	per := float64(size) / float64(n)
	t.Logf("%d files in %d directories: %d bytes on the disk, %.0f a file; made in %v", n, len(tr.dirs), size, per, made)
	logTables(t, tr.f)
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("heap in use with the database open (all tests' together): %d MiB", m.HeapInuse>>20)
	if per > 400 {
		t.Errorf("%.0f bytes a file, more than 400", per)
	}
}

// logTables tells what each table holds, before compression.
func logTables(t *testing.T, f *Folder) {
	rows, bytes := make(map[byte]int), make(map[byte]int)
	must(t, f.Read(func(r *Reader) error {
		return r.view.scan(f.n.key(0, 0)[:2], nil, func(k, v []byte) (bool, error) {
			rows[k[2]]++
			bytes[k[2]] += len(k) + len(v)
			return true, nil
		})
	}))
	for _, table := range []byte("rsnbfgikcl") {
		if rows[table] > 0 {
			t.Logf("table %c: %6d rows, %3d bytes each", table, rows[table], bytes[table]/rows[table])
		}
	}
}

func directorySize(t testing.TB, dir string) (size int64) {
	names, err := os.ReadDir(dir)
	must(t, err)
	for _, n := range names {
		info, err := n.Info()
		must(t, err)
		if !strings.HasSuffix(n.Name(), ".log") { // preallocated nothing: empty after a compaction
			size += info.Size()
		}
	}
	return size
}

func BenchmarkUpdateCreate1000(b *testing.B) {
	tr := newTree(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		tr.grow(b, 1000)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/entry")
}

// BenchmarkCommit1000 leaves out the crdt: only the store's own work.
func BenchmarkCommit1000(b *testing.B) {
	entries := make([]crdt.Entry, 0, 1000)
	src := newTree(b, 1000)
	must(b, src.f.Read(func(r *Reader) (err error) {
		entries, _, err = r.After(0, 2000, 1<<30)
		return err
	}))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		f := memFolder(b)
		b.StartTimer()
		must(b, f.Update(func(tx *Tx) error {
			for _, e := range entries {
				if err := tx.PutEntry(e, crdt.Node{At: e.Place.Location, Shown: e.Place.Name}); err != nil {
					return err
				}
				if err := tx.Link(e.Place.Parent, e.Place.Name, e.ID); err != nil {
					return err
				}
				base := Base{ID: e.ID, Entry: e}
				onDiskAsIs(e, &base)
				if err := tx.SetBase(base); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func BenchmarkReadByPath(b *testing.B) {
	tr := newTree(b, 100_000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		must(b, tr.f.Read(func(r *Reader) error {
			n := i * 7919 % tr.count
			i++
			dir, ok, err := r.Find(crdt.Root, fmt.Sprintf("directory-%04d", n/perDirectory))
			if err != nil || !ok {
				return fmt.Errorf("directory of %d: %v %w", n, ok, err)
			}
			id, ok, err := r.Find(dir, fileName(n))
			if err != nil || !ok {
				return fmt.Errorf("file %d: %v %w", n, ok, err)
			}
			_, _, err = r.Entry(id)
			return err
		}))
	}
}

func BenchmarkAfter(b *testing.B) {
	tr := newTree(b, 100_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		must(b, tr.f.Read(func(r *Reader) error {
			for seq := uint64(0); ; {
				entries, next, err := r.After(seq, 1000, 1<<20)
				if err != nil || len(entries) == 0 {
					return err
				}
				n += len(entries)
				seq = next
			}
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/entry")
}

func BenchmarkBaseRows(b *testing.B) {
	tr := newTree(b, 100_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		must(b, tr.f.Read(func(r *Reader) error {
			for _, dir := range tr.dirs {
				all, err := r.BaseChildren(dir)
				if err != nil {
					return err
				}
				n += len(all)
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
}

func BenchmarkBaseFile(b *testing.B) {
	tr := newTree(b, 100_000)
	b.ReportAllocs()
	i := uint64(0)
	for b.Loop() {
		must(b, tr.f.Read(func(r *Reader) error {
			i++
			_, ok, err := r.BaseFile(stat.Stat{Kind: stat.File, Inode: 12_000_002 + i*7919%90_000, Device: 0xfd01})
			if !ok {
				return fmt.Errorf("inode %d: %w", i, err)
			}
			return err
		}))
	}
}

func BenchmarkBaseStats(b *testing.B) {
	tr := newTree(b, 100_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		must(b, tr.f.Read(func(r *Reader) error {
			for _, dir := range tr.dirs {
				all, err := r.BaseStats(dir)
				if err != nil {
					return err
				}
				n += len(all)
			}
			return nil
		}))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/row")
}
