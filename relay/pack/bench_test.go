package pack

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	blocks "github.com/ipfs/go-block-format"
)

var many = flag.Int("blocks", 20_000, "how many blocks BenchmarkReopen has: 1000000 to see what a large relay does")

// BenchmarkPut and BenchmarkGet work in TMPDIR: set it to the disk that is to be measured.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 512 << 10} {
		for _, putters := range []int{1, 16} {
			b.Run(fmt.Sprintf("size=%dKiB/putters=%d", size>>10, putters), func(b *testing.B) {
				s := openStore(b, b.TempDir(), Options{})
				base := blockOf(1, size).RawData()
				var n atomic.Uint64
				b.SetBytes(int64(size))
				b.SetParallelism(max(1, putters/runtime.GOMAXPROCS(0)))
				put := func() {
					data := append([]byte(nil), base...)
					binary.BigEndian.PutUint64(data, n.Add(1))
					if err := s.Put(context.Background(), sealed(data)); err != nil {
						b.Error(err)
					}
				}
				if putters == 1 {
					for b.Loop() {
						put()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						put()
					}
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("size=%dKiB", size>>10), func(b *testing.B) {
			s := openStore(b, b.TempDir(), Options{})
			var list []blocks.Block
			for n := range uint64(64) {
				list = append(list, blockOf(n, size))
			}
			must(b, s.PutMany(b.Context(), list))
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := s.Get(b.Context(), list[rand.IntN(len(list))].Cid()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReopen opens a store with -blocks small blocks, and tells what the table takes in memory.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, dir, Options{})
	for at := 0; at < *many; at += 5000 {
		var list []blocks.Block
		for n := range min(5000, *many-at) {
			list = append(list, sealed(binary.BigEndian.AppendUint64(nil, uint64(at+n))))
		}
		must(b, s.PutMany(b.Context(), list))
	}
	must(b, s.Close())
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		s, err := Open(b.Context(), dir, Options{MinFree: -1})
		must(b, err)
		b.StopTimer()
		if n := s.Stats().Blocks; n != *many {
			b.Fatalf("%d blocks", n)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		must(b, s.Close())
		b.StartTimer()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(*many), "bytes/block")
}
