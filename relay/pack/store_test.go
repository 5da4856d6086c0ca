package pack

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// TestBlockstore: what boxo says of a blockstore.
func TestBlockstore(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "blocks")
	s := openStore(t, dir, Options{PackSize: 100 << 10})
	a, b, empty, large := blockOf(1, 5000), blockOf(2, 70_000), sealed(nil), blockOf(3, MaxBlock)
	must(t, holds(s, a.Cid(), false))
	if n, err := s.GetSize(ctx, a.Cid()); n != -1 || !ipld.IsNotFound(err) {
		t.Errorf("size of what is not there: %d, %v", n, err)
	}
	must(t, s.DeleteBlock(ctx, a.Cid()))
	must(t, s.Put(ctx, a))
	must(t, s.PutMany(ctx, []blocks.Block{b, a, empty, b, large}))
	for _, x := range []blocks.Block{a, b, empty, large} {
		must(t, holds(s, x.Cid(), true))
		got, err := s.Get(ctx, x.Cid())
		must(t, err)
		if !bytes.Equal(got.RawData(), x.RawData()) || got.Cid() != x.Cid() {
			t.Errorf("got another block")
		}
		if n, err := s.GetSize(ctx, x.Cid()); err != nil || n != len(x.RawData()) {
			t.Errorf("size is %d, %v", n, err)
		}
		must(t, s.View(ctx, x.Cid(), func(data []byte) error {
			if !bytes.Equal(data, x.RawData()) {
				t.Error("viewed another block")
			}
			return nil
		}))
	}
	if err := s.View(ctx, a.Cid(), func([]byte) error { return fs.ErrInvalid }); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("the error of a viewer became %v", err)
	}
	if all := keysOf(t, s); len(all) != 4 || !all[a.Cid()] || !all[large.Cid()] {
		t.Errorf("keys are %v", all)
	}
	if st := s.Stats(); st.Blocks != 4 || st.DeadBytes != 0 || st.LiveBytes != 5000+70_000+MaxBlock+4*recordHeader {
		t.Errorf("%+v", st)
	}
	must(t, s.DeleteMany(ctx, []cid.Cid{a.Cid(), b.Cid(), blockOf(9, 9).Cid()}))
	must(t, holds(s, a.Cid(), false))
	must(t, s.Put(ctx, a)) // after its deletion
	must(t, recount(s))
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	if r := s.Recovery(); len(r.Rebuilt) > 0 || r.Cut > 0 || len(r.Damaged) > 0 {
		t.Errorf("after Close: %+v", r)
	}
	for x, want := range map[blocks.Block]bool{a: true, b: false, empty: true, large: true} {
		must(t, holds(s, x.Cid(), want))
	}
	must(t, recount(s))
}

func TestRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := openStore(t, t.TempDir(), Options{})
	good := blockOf(1, 100)
	d, err := digestOf(good.Cid())
	must(t, err)
	wrong, err := blocks.NewBlockWithCid([]byte("other"), good.Cid())
	must(t, err)
	for want, b := range map[error]blocks.Block{ErrTooLarge: blockOf(2, MaxBlock+1), ErrMismatch: wrong, ErrAddress: blocks.NewBlock([]byte("version 0"))} {
		if err := s.Put(ctx, b); !errors.Is(err, want) {
			t.Errorf("put gave %v, not %v", err, want)
		}
	}
	for _, c := range []cid.Cid{{}, cid.NewCidV1(cid.DagProtobuf, d.cid().Hash()), cid.NewCidV0(d.cid().Hash())} {
		_, herr := s.Has(ctx, c)
		_, gerr := s.Get(ctx, c)
		_, serr := s.GetSize(ctx, c)
		for _, err := range []error{herr, gerr, serr, s.DeleteBlock(ctx, c)} {
			if !errors.Is(err, ErrAddress) {
				t.Errorf("%s gave %v", c, err)
			}
		}
	}
	if s.Stats().Blocks != 0 {
		t.Error("something was taken")
	}
	must(t, s.Put(ctx, good))
	if err := s.Put(ctx, wrong); !errors.Is(err, ErrMismatch) {
		t.Errorf("wrong bytes of a block that is there: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Put(ended, blockOf(3, 3)); !errors.Is(err, context.Canceled) {
		t.Errorf("put gave %v", err)
	}
	must(t, s.Close())
	must(t, s.Close())
	_, gerr := s.Get(ctx, good.Cid())
	_, herr := s.Has(ctx, good.Cid())
	_, cerr := s.Compact(ctx)
	_, kerr := s.AllKeysChan(ctx)
	_, scerr := s.Scrub(ctx, 0, nil)
	for _, err := range []error{gerr, herr, cerr, kerr, scerr, s.Put(ctx, blockOf(4, 4)), s.DeleteBlock(ctx, good.Cid())} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("a closed store gave %v", err)
		}
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "stop that relay") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, s.Close())
	openStore(t, dir, Options{})
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	s := openMem(t, d, Options{})
	must(t, s.Put(t.Context(), blockOf(1, 10)))
	name := s.active.name()
	data := d.names[name].data
	p := *s.active
	b := p.header()
	b[11] = packVersion + 1
	putSum(b)
	copy(data, b)
	var newer *FormatError
	if _, err := open(t.Context(), "mem", d, Options{}); !errors.As(err, &newer) || newer.Found != packVersion+1 {
		t.Errorf("opened a newer pack: %v", err)
	}
}

// TestDuplicatePuts: one copy is written, and none of those who put it is told
// before it is durable.
func TestDuplicatePuts(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	s := openMem(t, d, Options{})
	must(t, s.Put(t.Context(), blockOf(0, 10)))
	var synced atomic.Bool
	begun, goOn := make(chan bool), make(chan bool)
	d.mu.Lock()
	first := true
	d.fail = func(op, _ string) error {
		if op == "sync" && first {
			first = false
			d.mu.Unlock()
			begun <- true
			<-goOn
			d.mu.Lock()
			synced.Store(true)
		}
		return nil
	}
	d.mu.Unlock()
	var all sync.WaitGroup
	put := func() {
		if err := s.Put(t.Context(), blockOf(1, 3000)); err != nil || !synced.Load() {
			t.Errorf("a duplicate was acknowledged before the sync, or failed: %v", err)
		}
	}
	all.Go(put)
	<-begun
	if err := holds(s, blockOf(1, 3000).Cid(), false); err != nil {
		t.Error(err) // not yet
	}
	for range 20 {
		all.Go(put)
	}
	s.waitQueued(20)
	goOn <- true
	all.Wait()
	if st := s.Stats(); st.Blocks != 2 || st.DeadBytes != 0 {
		t.Errorf("%+v", st)
	}
}

// TestGroupCommit: those who come while a sync runs share the next one.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	s := openMem(t, d, Options{})
	syncs := 0
	begun, goOn := make(chan bool), make(chan bool)
	d.fail = func(op, _ string) error {
		if op == "sync" {
			if syncs++; syncs == 1 {
				d.mu.Unlock()
				begun <- true
				<-goOn
				d.mu.Lock()
			}
		}
		return nil
	}
	var all sync.WaitGroup
	put := func(n uint64) {
		if err := s.Put(t.Context(), blockOf(n, 100)); err != nil {
			t.Error(err)
		}
	}
	all.Go(func() { put(0) })
	<-begun
	for n := range uint64(50) {
		all.Go(func() { put(1 + n) })
	}
	s.waitQueued(50)
	// Whoever gives up while he waits has put nothing.
	ctx, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		if err := s.Put(ctx, blockOf(99, 100)); !errors.Is(err, context.Canceled) {
			t.Errorf("gave up, and got %v", err)
		}
	})
	s.waitQueued(51)
	cancel()
	s.waitQueued(50)
	goOn <- true
	all.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if syncs != 2 || s.Stats().Blocks != 51 {
		t.Errorf("%d syncs for 51 puts, %d blocks", syncs, s.Stats().Blocks)
	}
}

// waitQueued waits until so many requests wait.
func (s *Store) waitQueued(want int) {
	for n := -1; n != want; runtime.Gosched() {
		s.queue.Lock()
		n = len(s.queue.waiting)
		s.queue.Unlock()
	}
}

// TestFailedSync: after it nothing more is written, and what it did not bring to the
// disk is not believed when the store is opened again.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, list := range [][]blocks.Block{
		{blockOf(2, 3000)},
		{blockOf(2, 3000), blockOf(3, 3000)}, // the sync that closes the pack
	} {
		failedSync(t, ctx, list)
	}
}

func failedSync(t *testing.T, ctx context.Context, list []blocks.Block) {
	d := newMemDisk()
	s := openMem(t, d, Options{PackSize: 8000})
	a, b := blockOf(1, 3000), list[0]
	must(t, s.Put(ctx, a))
	d.mu.Lock()
	d.fail = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	d.mu.Unlock()
	if err := s.PutMany(ctx, list); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("a failed sync gave %v", err)
	}
	d.mu.Lock()
	d.fail = nil
	d.mu.Unlock()
	for _, err := range []error{s.Put(ctx, b), s.DeleteBlock(ctx, a.Cid()), s.Err()} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("afterwards: %v", err)
		}
	}
	must(t, holds(s, a.Cid(), true))
	must(t, holds(s, b.Cid(), false))
	must(t, s.Close())
	s = openMem(t, d, Options{PackSize: 8000})
	must(t, s.Put(ctx, b)) // which may seem to be there
	for seed := range uint64(20) {
		d.mu.Lock()
		left := d.after(seeded(seed))
		d.mu.Unlock()
		again := openMem(t, left, Options{})
		must(t, holds(again, a.Cid(), true))
		must(t, holds(again, b.Cid(), true))
	}
}

// TestDiskFull: what does not fit is refused, what fits beside it is taken, and
// all goes on when there is space.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{PackSize: 20_000})
	must(t, s.Put(ctx, blockOf(1, 5000)))
	for room := int64(0); room < 9000; room += 700 {
		d.mu.Lock()
		d.room = room
		d.mu.Unlock()
		big, small := blockOf(uint64(10+room), 9000), blockOf(uint64(11+room), 200)
		if err := s.Put(ctx, big); !errors.Is(err, ErrNoSpace) {
			t.Fatalf("with %d bytes left: %v", room, err)
		}
		if p := s.active; p != nil {
			if size := int64(len(d.names[p.name()].data)); size != p.end {
				t.Errorf("with %d bytes left: pack of %d bytes has %d", room, p.end, size)
			}
		}
		err := s.Put(ctx, small)
		if room >= 2000 && err != nil || err != nil && !errors.Is(err, ErrNoSpace) {
			t.Fatalf("with %d bytes left: %v", room, err)
		}
		must(t, holds(s, small.Cid(), err == nil))
		must(t, s.Err())
		d.mu.Lock()
		d.room = -1
		d.mu.Unlock()
		must(t, s.Put(ctx, big))
		must(t, s.DeleteBlock(ctx, big.Cid()))
	}
	must(t, recount(s))
	must(t, s.Close())
	s = openMem(t, d, Options{})
	if r := s.Recovery(); len(r.Damaged) > 0 {
		t.Errorf("%+v", r)
	}
	must(t, holds(s, blockOf(1, 5000).Cid(), true))
	must(t, recount(s))
}

// TestFloor: Put leaves some space for deleting and compaction.
func TestFloor(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{MinFree: 50_000, PackSize: 30_000})
	d.room = 100_000
	var put []blocks.Block
	for i := uint64(0); ; i++ {
		b := blockOf(i, 3000)
		if err := s.Put(ctx, b); errors.Is(err, ErrNoSpace) {
			break
		} else {
			must(t, err)
		}
		put = append(put, b)
	}
	if len(put) < 12 || len(put) > 17 {
		t.Errorf("took %d blocks", len(put))
	}
	for _, b := range put[2:] {
		must(t, s.DeleteBlock(ctx, b.Cid()))
	}
	r, err := s.Compact(ctx)
	must(t, err)
	if r.Packs == 0 || r.Freed < 20_000 {
		t.Errorf("%+v", r)
	}
	must(t, holds(s, put[0].Cid(), true))
}
