// Command packbench holds relay/pack against the two stores that boxo's blockstore
// is otherwise used over, in one run on one disk: go-ds-flatfs (a file a block) and
// go-ds-leveldb (an LSM tree). Each is set so that Put returns when the block is
// durable, which is what pack promises; flatfs and leveldb verify nothing when they read. See
// docs/performance.md, whose table it prints.
//
//	packbench -dir DIR [-rounds N] [-seconds N] [-blocks N] [-only NAME]
//
// DIR must be on the disk that is to be measured; what packbench makes in it is removed.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	flatfs "github.com/ipfs/go-ds-flatfs"
	leveldb "github.com/ipfs/go-ds-leveldb"
	"github.com/multiformats/go-multihash"

	"sheaf/relay/pack"
)

// A rival opens a store in a directory, synced or not.
type rival struct {
	name string
	open func(dir string, sync bool) (blockstore.Blockstore, func() error, error)
}

var rivals = []rival{
	{"pack", func(dir string, _ bool) (blockstore.Blockstore, func() error, error) {
		s, err := pack.Open(context.Background(), dir, pack.Options{})
		if err != nil {
			return nil, nil, err
		}
		return s, s.Close, nil
	}},
	{"flatfs", func(dir string, sync bool) (blockstore.Blockstore, func() error, error) {
		d, err := flatfs.CreateOrOpen(dir, flatfs.NextToLast(2), sync)
		if err != nil {
			return nil, nil, err
		}
		return blockstore.NewBlockstore(d, blockstore.NoPrefix()), d.Close, nil
	}},
	{"leveldb", func(dir string, sync bool) (blockstore.Blockstore, func() error, error) {
		d, err := leveldb.NewDatastore(dir, &leveldb.Options{NoSync: !sync})
		if err != nil {
			return nil, nil, err
		}
		return blockstore.NewBlockstore(d), d.Close, nil
	}},
}

func main() {
	dir := flag.String("dir", "", "where to work: on the disk that is to be measured")
	seconds := flag.Float64("seconds", 3, "how long each put and get is measured")
	rounds := flag.Int("rounds", 3, "how many times that is measured of each store, by turns: the median counts")
	count := flag.Int("blocks", 20_000, "how many small blocks the stores are reopened with")
	only := flag.String("only", "", "measure this store alone")
	flag.Parse()
	if err := run(*dir, *rounds, time.Duration(*seconds*float64(time.Second)), *count, *only); err != nil {
		fmt.Fprintln(os.Stderr, "packbench:", err)
		os.Exit(1)
	}
}

// A row is one thing measured of each store, in the order of rivals.
type row struct {
	what, unit string
	values     []float64
}

func run(base string, rounds int, long time.Duration, count int, only string) error {
	if base == "" || rounds < 1 {
		return errors.New("-dir is needed, and a round at least")
	}
	work, err := os.MkdirTemp(base, "packbench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	var names []string
	var rows []row
	for _, r := range rivals {
		if only == "" || only == r.name {
			names = append(names, r.name)
		}
	}
	for _, size := range []int{4 << 10, 512 << 10} {
		// By turns, since others use the disk too.
		var of [][][]row // by store and round
		for range rounds {
			for i, name := range names {
				measured, err := measure(name, work, func(r rival, dir string) ([]row, error) { return putAndGet(r, dir, size, long) })
				if err != nil {
					return err
				}
				if i == len(of) {
					of = append(of, nil)
				}
				of[i] = append(of[i], measured)
			}
		}
		for j, first := range of[0][0] {
			for _, all := range of {
				var values []float64
				for _, one := range all {
					values = append(values, one[j].values...)
				}
				slices.Sort(values)
				first.values = append(first.values, values[len(values)/2])
			}
			first.values = first.values[1:]
			rows = append(rows, first)
		}
	}
	var last []row
	for _, name := range names {
		measured, err := measure(name, work, func(r rival, dir string) ([]row, error) { return reopen(r, dir, count) })
		if err != nil {
			return err
		}
		for i, m := range measured {
			if i == len(last) {
				last = append(last, row{what: m.what, unit: m.unit})
			}
			last[i].values = append(last[i].values, m.values...)
		}
	}
	rows = append(rows, last...)
	fmt.Printf("| what | %s |\n|%s\n", strings.Join(names, " | "), strings.Repeat(" --- |", len(names)+1))
	for _, r := range rows {
		fmt.Printf("| %s, %s |", r.what, r.unit)
		for i, v := range r.values {
			fmt.Printf(" %.4g", v)
			if i > 0 {
				fmt.Printf(" (%.2f x)", v/r.values[0])
			}
			fmt.Print(" |")
		}
		fmt.Println()
	}
	return nil
}

// measure calls do with a store and a directory for it, which is removed then.
func measure(name, work string, do func(rival, string) ([]row, error)) ([]row, error) {
	for _, r := range rivals {
		if r.name != name {
			continue
		}
		dir := filepath.Join(work, name)
		rows, err := do(r, dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return rows, os.RemoveAll(dir)
	}
	return nil, fmt.Errorf("there is no store %q", name)
}

// putAndGet measures puts by one and by 16, gets of what they put in random order,
// and what all of it takes on the disk.
func putAndGet(r rival, dir string, size int, long time.Duration) ([]row, error) {
	store, closeStore, err := r.open(dir, true)
	if err != nil {
		return nil, err
	}
	base := noise(size)
	var next atomic.Uint64
	what := fmt.Sprintf("%d KiB", size>>10)
	var rows []row
	for _, putters := range []int{1, 16} {
		rate, err := during(long, putters, func() error { return store.Put(context.Background(), block(base, next.Add(1), size)) })
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{fmt.Sprintf("put %s, %d at a time", what, putters), "a second", []float64{rate}})
	}
	all := next.Load()
	var asked []cid.Cid // at random
	for range 4000 {
		asked = append(asked, block(base, 1+rand.Uint64N(all), size).Cid())
	}
	for _, getters := range []int{1, 16} {
		for _, verified := range []bool{false, true} {
			how := "as it does by itself"
			if verified {
				how = "verified"
			}
			_, verifies := store.(*pack.Store)
			rate, err := during(long, getters, func() error {
				c := asked[rand.IntN(len(asked))]
				b, err := store.Get(context.Background(), c)
				if err == nil && verified && !verifies && addressOf(b.RawData()) != c {
					err = errors.New("another block was served")
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			rows = append(rows, row{fmt.Sprintf("get %s, %d at a time, cached by the system, %s", what, getters, how), "a second", []float64{rate}})
		}
	}
	if err := closeStore(); err != nil {
		return nil, err
	}
	used, err := onDisk(dir)
	if err != nil {
		return nil, err
	}
	return append(rows, row{"disk for blocks of " + what, "bytes a byte", []float64{used / float64(all) / float64(size)}}), nil
}

// during calls do from so many goroutines and tells how often a second.
func during(long time.Duration, many int, do func() error) (float64, error) {
	began := time.Now()
	var count atomic.Int64
	errs := make([]error, many)
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			for errs[i] == nil && time.Since(began) < long {
				errs[i] = do()
				count.Add(1)
			}
		})
	}
	all.Wait()
	return float64(count.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

// reopen fills a store, without syncing where that can be had, and opens it again.
func reopen(r rival, dir string, count int) ([]row, error) {
	ctx := context.Background()
	store, closeStore, err := r.open(dir, false)
	if err != nil {
		return nil, err
	}
	const size, batch = 200, 1000
	base := noise(size)
	began := time.Now()
	for at := 0; at < count; at += batch {
		var list []blocks.Block
		for n := at; n < min(at+batch, count); n++ {
			list = append(list, block(base, uint64(n), size))
		}
		if err := store.PutMany(ctx, list); err != nil {
			return nil, err
		}
	}
	filled := time.Since(began)
	if err := closeStore(); err != nil {
		return nil, err
	}
	used, err := onDisk(dir)
	if err != nil {
		return nil, err
	}
	began = time.Now()
	store, closeStore, err = r.open(dir, false)
	if err != nil {
		return nil, err
	}
	opened := time.Since(began)
	began = time.Now()
	for n := range min(count, 100_000) {
		has, err := store.Has(ctx, block(base, rand.Uint64N(uint64(count)), size).Cid())
		if err != nil || !has {
			return nil, fmt.Errorf("block %d of those filled in: %v, %w", n, has, err)
		}
	}
	asked := time.Since(began)
	what := fmt.Sprintf("%d blocks of %d bytes", count, size)
	return []row{
		{"fill in " + what + " by 1,000 (pack: synced; others: not)", "s", []float64{filled.Seconds()}},
		{"open with " + what, "ms", []float64{float64(opened.Microseconds()) / 1000}},
		{"ask for a block that is there, of " + what + " (hashing it included)", "us", []float64{float64(asked.Microseconds()) / float64(min(count, 100_000))}},
		{"disk for " + what, "bytes a byte", []float64{used / float64(count) / size}},
	}, closeStore()
}

// noise gives bytes that do not compress, as sealed ones do not.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// block gives block n of a size: small ones are their own noise, larger ones that of
// base behind their number.
func block(base []byte, n uint64, size int) blocks.Block {
	data := make([]byte, size)
	if size < 1<<10 {
		_, _ = rand.NewChaCha8(sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))).Read(data)
	} else {
		copy(data, base)
		binary.BigEndian.PutUint64(data, n)
	}
	b, err := blocks.NewBlockWithCid(data, addressOf(data))
	if err != nil {
		panic(err) // only in a debugging mode of boxo
	}
	return b
}

// addressOf gives the CID of a sealed block.
func addressOf(data []byte) cid.Cid {
	sum := sha256.Sum256(data)
	h, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // of a known kind and length
	}
	return cid.NewCidV1(cid.Raw, h)
}
