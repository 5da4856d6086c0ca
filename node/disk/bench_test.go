package disk_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sheaf/node/disk"
	"sheaf/replication/chunk"
)

const smallFiles, smallSize = 10_000, 2 << 10

// benchDir is on a real disk: $SHEAF_BENCH_DIR, else the temporary directory.
func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp(os.Getenv("SHEAF_BENCH_DIR"), "sheaf-bench")
	ok(b, err)
	b.Cleanup(func() { ok(b, os.RemoveAll(dir)) })
	return dir
}

// BenchmarkSmallFiles installs 10,000 files of 2 KiB in 100 directories,
// durably, in batches of 1,000, and in turns lets the operating system do the
// same (cp -r and sync): the ratio counts, as machines are never idle.
func BenchmarkSmallFiles(b *testing.B) {
	dir := benchDir(b)
	data := random(b, smallSize)
	for n := range smallFiles {
		d := filepath.Join(dir, "src", fmt.Sprint("d", n/100))
		ok(b, os.MkdirAll(d, 0o755))
		ok(b, os.WriteFile(filepath.Join(d, fmt.Sprint("f", n)), data, 0o644))
	}
	var ours, theirs time.Duration
	b.ResetTimer()
	for i := range b.N {
		root := filepath.Join(dir, fmt.Sprint("ours", i))
		ok(b, os.Mkdir(root, 0o755))
		f := folderAt(b, root, disk.Options{})
		ok(b, exec.Command("sync", "-f", dir).Run())
		start := time.Now()
		for d := range 100 {
			_, err := f.MakeDir(fmt.Sprint("d", d), 0o755)
			ok(b, err)
		}
		for from := 0; from < smallFiles; from += 1000 {
			batch := make([]disk.Install, 1000)
			for i := range batch {
				n := from + i
				batch[i] = disk.Install{Path: fmt.Sprintf("d%d/f%d", n/100, n), Data: data, Mode: 0o644, MTime: long}
			}
			for _, r := range f.Commit(context.Background(), batch) {
				ok(b, r.Err)
			}
		}
		ours += time.Since(start)
		start = time.Now()
		ok(b, exec.Command("sh", "-c", fmt.Sprintf("cp -r %s/src %s/dst%d && sync -f %s", dir, dir, i, dir)).Run())
		theirs += time.Since(start)
	}
	b.ReportMetric(float64(b.N*smallFiles)/ours.Seconds(), "files/s")
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x_cp")
}

// BenchmarkReplaceSmall is the same over files that are there.
func BenchmarkReplaceSmall(b *testing.B) {
	f := folderAt(b, benchDir(b), disk.Options{})
	batch := make([]disk.Install, 1000)
	for i := range batch {
		batch[i] = disk.Install{Path: fmt.Sprint("f", i), Data: random(b, smallSize), Mode: 0o644, MTime: long}
	}
	for i, r := range f.Commit(context.Background(), batch) {
		ok(b, r.Err)
		batch[i].Expect = r.Stat
	}
	b.ResetTimer()
	for range b.N {
		for i, r := range f.Commit(context.Background(), batch) {
			ok(b, r.Err)
			batch[i].Expect = r.Stat
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "files/s")
}

// BenchmarkCommitOne is the latency of one small durable change.
func BenchmarkCommitOne(b *testing.B) {
	f := folderAt(b, benchDir(b), disk.Options{})
	data := random(b, smallSize)
	b.ResetTimer()
	for i := range b.N {
		ok(b, f.Commit(context.Background(), []disk.Install{{Path: fmt.Sprint("f", i), Data: data, Mode: 0o644}})[0].Err)
	}
}

// BenchmarkList lists a directory of 100,000 files, and in turns walks it with
// the standard library.
func BenchmarkList(b *testing.B) {
	f := folderAt(b, benchDir(b), disk.Options{})
	const n = 100_000
	for i := range n {
		ok(b, os.WriteFile(f.path(fmt.Sprintf("file number %06d.txt", i)), nil, 0o644))
	}
	var ours, walk time.Duration
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		l, err := f.List(context.Background(), ".")
		ok(b, err)
		if len(l.Items) != n {
			b.Fatal(len(l.Items))
		}
		ours += time.Since(start)
		start = time.Now()
		list, err := os.ReadDir(f.root)
		ok(b, err)
		for _, e := range list {
			_, err := e.Info()
			ok(b, err)
		}
		walk += time.Since(start)
	}
	b.ReportMetric(float64(b.N*n)/ours.Seconds(), "names/s")
	b.ReportMetric(ours.Seconds()/walk.Seconds(), "x_stat_walk")
}

// BenchmarkHash hashes one big cached file.
func BenchmarkHash(b *testing.B) {
	f := folderAt(b, benchDir(b), disk.Options{})
	data := random(b, 256<<20)
	ok(b, os.WriteFile(f.path("big"), data, 0o644))
	s, err := f.fs.Lstat("big")
	ok(b, err)
	c := chunker(b)
	b.SetBytes(int64(len(data)))
	b.ResetTimer()
	for range b.N {
		_, err := f.Hash(context.Background(), "big", s, c)
		ok(b, err)
	}
}

// BenchmarkHashSmall hashes files of 2 KiB.
func BenchmarkHashSmall(b *testing.B) {
	f := folderAt(b, benchDir(b), disk.Options{})
	for i := range 1000 {
		ok(b, os.WriteFile(f.path(fmt.Sprint("f", i)), bytes.Repeat([]byte{byte(i)}, smallSize), 0o644))
	}
	l, err := f.List(context.Background(), ".")
	ok(b, err)
	c := chunker(b)
	b.ResetTimer()
	for i := range b.N {
		it := l.Items[i%1000]
		_, err := f.Hash(context.Background(), it.Name, it.Stat, c)
		ok(b, err)
	}
}

// BenchmarkTemp builds a big file block by block, out of order, and commits it.
func BenchmarkTemp(b *testing.B) {
	const size = 256 << 20
	f := folderAt(b, benchDir(b), disk.Options{})
	block := random(b, chunk.MinBlock)
	b.SetBytes(size)
	b.ResetTimer()
	for i := range b.N {
		tmp, err := f.Temp("k", size)
		ok(b, err)
		for k := range size / len(block) {
			_, err := tmp.WriteAt(block, int64(k*977%(size/len(block))*len(block)))
			ok(b, err)
		}
		ok(b, f.Commit(context.Background(), []disk.Install{{Path: fmt.Sprint("big", i%2, i), Temp: tmp, Mode: 0o644}})[0].Err)
	}
}
