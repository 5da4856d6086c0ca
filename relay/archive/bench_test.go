package archive

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
)

// BenchmarkTake takes in batches of 1,000 records of new files of one block each, on a
// real disk, and tells what a record takes there. Signatures are verified before, by
// seal.ParseRecord.
func BenchmarkTake(b *testing.B) {
	const batch = 1000
	a := sealtest.NewAccount(b, 1)
	dir := filepath.Join(b.TempDir(), "records")
	h, err := Open(context.Background(), dir, newShelf(nil), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Host(a.ID(), plenty); err != nil {
		b.Fatal(err)
	}
	sealtest.Must(h.Hear(a.ID(), a.Log.Statements()))(b)
	n := 0
	for b.Loop() {
		b.StopTimer()
		var records []*seal.Record
		var data [][]byte
		for range batch {
			n++
			s := a.Laptop.Content(b, fmt.Sprint("block ", n))
			r, _ := a.Laptop.Record(b, sealtest.File(fmt.Sprint("a file with a name ", n), s, false, sealtest.Dot(1, uint64(n))), s)
			records, data = append(records, r), append(data, s.Bytes...)
		}
		b.StartTimer()
		if _, err := h.Take(context.Background(), records); err != nil {
			b.Fatal(err)
		}
		if _, err := h.Put(context.Background(), a.ID(), data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if info, ierr := os.Stat(path); err == nil && ierr == nil && !d.IsDir() {
			size += info.Size()
		}
		return nil
	})
	b.ReportMetric(float64(size)/float64(n), "bytes/record")
}
