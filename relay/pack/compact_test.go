package pack

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// TestCompact: packs of which less than half is live go, others stay.
func TestCompact(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{PackSize: 20_000})
	for n := range uint64(60) {
		must(t, s.Put(ctx, blockOf(n, 1000)))
	}
	before := s.Stats()
	for n := range uint64(60) {
		if n < 30 && n%4 > 0 || n >= 30 && n%4 == 0 {
			must(t, s.DeleteBlock(ctx, blockOf(n, 1000).Cid()))
		}
	}
	r, err := s.Compact(ctx)
	must(t, err)
	after := s.Stats()
	if r.Packs != 2 || r.Moved == 0 || r.Freed <= 0 || before.DiskBytes-after.DiskBytes < 10_000 {
		t.Errorf("%+v: %+v became %+v", r, before, after)
	}
	must(t, recount(s))
	for n := range uint64(60) {
		must(t, holds(s, blockOf(n, 1000).Cid(), n < 30 == (n%4 == 0)))
	}
	if r, err := s.Compact(ctx); err != nil || r.Packs > 0 {
		t.Errorf("once more: %+v, %v", r, err)
	}
	// All of it deleted: nothing is left but the last pack.
	for n := range uint64(60) {
		must(t, s.DeleteBlock(ctx, blockOf(n, 1000).Cid()))
	}
	for range 3 { // tombstones go when what they are for has gone
		_, err = s.Compact(ctx)
		must(t, err)
	}
	if st := s.Stats(); st.Packs > 1 || st.DiskBytes > 5000 || st.Blocks > 0 {
		t.Errorf("%+v", st)
	}
}

// TestTombstoneOutlivesItsPack: a tombstone stays as long as an older pack has the
// block; and one that was copied does not take away what was put meanwhile.
func TestTombstoneOutlivesItsPack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	o := Options{PackSize: 10_000}
	s := openMem(t, d, o)
	for n := range uint64(8) { // one pack, which stays more than half live
		must(t, s.Put(ctx, blockOf(n, 1000)))
	}
	must(t, s.Put(ctx, blockOf(20, 5000)))
	must(t, s.DeleteMany(ctx, []cid.Cid{blockOf(1, 1000).Cid(), blockOf(2, 1000).Cid()}))
	must(t, s.DeleteBlock(ctx, blockOf(20, 5000).Cid()))
	must(t, s.Put(ctx, blockOf(2, 1000)))
	if r, err := s.Compact(ctx); err != nil || r.Packs != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	check := func() {
		t.Helper()
		for n := range uint64(8) {
			must(t, holds(s, blockOf(n, 1000).Cid(), n != 1))
		}
		must(t, holds(s, blockOf(20, 5000).Cid(), false))
		must(t, recount(s))
	}
	check()
	must(t, s.Close())
	s = openMem(t, d, o)
	check()
}

// TestReadersDuringCompaction: blocks can be read and listed while they are moved.
func TestReadersDuringCompaction(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := openStore(t, t.TempDir(), Options{PackSize: 16_000, OpenFiles: 3})
	var kept []blocks.Block
	for n := range uint64(40) {
		kept = append(kept, blockOf(n, 1200))
	}
	must(t, s.PutMany(ctx, kept))
	var all sync.WaitGroup
	errs := make(chan error, 10)
	for i := range 4 {
		rnd := seeded(uint64(i))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := holds(s, kept[rnd.IntN(len(kept))].Cid(), true); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			found := make(map[cid.Cid]bool)
			keys, failed, err := s.AllKeysChanWithErr(ctx)
			if err != nil {
				errs <- err
				return
			}
			for c := range keys {
				found[c] = true
			}
			if err := failed(); errors.Is(err, context.Canceled) {
				return
			} else if err != nil {
				errs <- err
				return
			}
			for _, b := range kept {
				if !found[b.Cid()] {
					errs <- fmt.Errorf("AllKeysChan left out block %s", b.Cid())
					return
				}
			}
		}
	})
	moved := 0
	for round := range uint64(12) {
		var list []blocks.Block
		var cids []cid.Cid
		for n := range uint64(30) {
			list = append(list, blockOf(1000+round*100+n, 1000))
			cids = append(cids, list[n].Cid())
		}
		must(t, s.PutMany(t.Context(), list))
		must(t, s.DeleteMany(t.Context(), cids))
		r, err := s.Compact(t.Context())
		must(t, err)
		moved += r.Moved
	}
	cancel()
	all.Wait()
	close(errs)
	must(t, <-errs)
	if moved == 0 {
		t.Error("nothing was moved")
	}
	must(t, recount(s))
}

// TestCompactBroken: what does not verify is not copied as good and not destroyed.
func TestCompactBroken(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{PackSize: 10_000})
	for n := range uint64(10) {
		must(t, s.Put(ctx, blockOf(n, 1000)))
	}
	for n := uint64(3); n < 9; n++ {
		must(t, s.DeleteBlock(ctx, blockOf(n, 1000).Cid()))
	}
	first := d.names[packNames(d)[0]]
	first.data[packHeader+recordHeader+10] ^= 1 // in block 0
	r, err := s.Compact(ctx)
	must(t, err)
	if r.Packs != 1 || len(r.Broken) != 1 || r.Broken[0] != blockOf(0, 1000).Cid() {
		t.Errorf("%+v", r)
	}
	aside := false
	broken, _ := digestOf(blockOf(0, 1000).Cid())
	for name, f := range d.names {
		aside = aside || name == fmt.Sprintf("quarantine/00000001-00000020-%x.block", broken) && len(f.saved) == 1000
	}
	if !aside {
		t.Error("the broken block is not in quarantine")
	}
	must(t, holds(s, blockOf(0, 1000).Cid(), false))
	must(t, holds(s, blockOf(1, 1000).Cid(), true))
	must(t, recount(s))
}

// TestScrubGoesOn: a scrub that was ended goes on where it was, also after a restart.
func TestScrubGoesOn(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	o := Options{PackSize: 8000}
	s := openMem(t, d, o)
	for n := range uint64(40) {
		must(t, s.Put(t.Context(), blockOf(n, 1000)))
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := s.Scrub(ctx, 0, func(r ScrubReport) {
		if r.Packs == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || r.Packs != 2 || r.Blocks != 14 {
		t.Errorf("%+v, %v", r, err)
	}
	must(t, s.Close())
	s = openMem(t, d, o)
	for _, want := range []int{26, 40} {
		if r, err := s.Scrub(t.Context(), 0, nil); err != nil || r.Blocks != want {
			t.Errorf("%+v, %v; not %d blocks", r, err, want)
		}
	}
}
