package pack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
)

// A ledger is what a store has acknowledged.
type ledger struct {
	mu   sync.Mutex
	held map[uint64]bool // by block; false: its deletion was acknowledged, or it never was put
	busy map[uint64]bool // being put or deleted
}

func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &ledger{held: maps.Clone(l.held), busy: maps.Clone(l.busy)}
}

// check holds a store that was opened again against what had been acknowledged,
// and settles what was not.
func (l *ledger) check(s *Store) error {
	for n, held := range l.held {
		c := small(n).Cid()
		if l.busy[n] {
			held, _ = s.Has(context.Background(), c)
			l.held[n] = held
		}
		if err := holds(s, c, held); err != nil {
			return fmt.Errorf("block %d: %w", n, err)
		}
	}
	clear(l.busy)
	return recount(s)
}

// act does something with some of the blocks from first on, and notes what was acknowledged.
func (l *ledger) act(ctx context.Context, s *Store, rnd *rand.Rand, first uint64) error {
	var ids []uint64
	var list []blocks.Block
	var cids []cid.Cid
	l.mu.Lock()
	many := 1
	if rnd.IntN(3) == 0 {
		many = 2 + rnd.IntN(4)
	}
	for range many {
		n := first + rnd.Uint64N(12)
		ids = append(ids, n)
		list = append(list, small(n))
		cids = append(cids, small(n).Cid())
		l.busy[n] = true
		if _, ok := l.held[n]; !ok {
			l.held[n] = false
		}
	}
	l.mu.Unlock()
	var err error
	put := rnd.IntN(5) < 3
	if put {
		err = s.PutMany(ctx, list)
	} else {
		err = s.DeleteMany(ctx, cids)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	for _, n := range ids {
		l.held[n] = put
		delete(l.busy, n)
	}
	l.mu.Unlock()
	return holds(s, cids[0], put)
}

// small gives block n, of a size of its own.
func small(n uint64) blocks.Block { return blockOf(n, int(n*n*37%2500)) }

// A cut is what a power cut left, and what had been acknowledged then.
type cut struct {
	disk *memDisk
	was  *ledger
}

// TestPowerCut: at whatever moment the power goes, what was acknowledged is there
// afterwards, what was deleted is not, and all of it verifies; in each life of a
// store that was cut several times. With one worker a seed is always the same history.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	cuts := 0
	for seed := range uint64(24 * soak()) {
		rnd := seeded(seed)
		disk, l := newMemDisk(), &ledger{held: make(map[uint64]bool), busy: make(map[uint64]bool)}
		for life := range 4 {
			s, err := open(t.Context(), "mem", disk, Options{PackSize: 6000, MinFree: -1})
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			if err := l.check(s); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			var at []cut
			disk.mu.Lock()
			often := 5 + rnd.IntN(20)
			inside := seeded(rnd.Uint64())
			disk.moment = func(string) {
				if inside.IntN(often) == 0 && len(at) < 12 {
					at = append(at, cut{disk.after(inside), l.clone()})
				}
			}
			disk.mu.Unlock()
			if err := live(t.Context(), s, l, rnd, 1+2*int(seed%2)); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			must(t, s.Close())
			disk.mu.Lock()
			at = append(at, cut{disk.after(inside), l.clone()})
			disk.moment = nil
			disk.mu.Unlock()
			cuts += len(at)
			next := rnd.IntN(len(at))
			for i, c := range at {
				if i == next {
					continue
				}
				s, err := open(t.Context(), "mem", c.disk, Options{PackSize: 6000, MinFree: -1})
				if err == nil {
					err = errors.Join(c.was.check(s), s.Close())
				}
				if err != nil {
					t.Fatalf("seed %d, life %d, cut %d: %v", seed, life, i, err)
				}
			}
			disk, l = at[next].disk, at[next].was
		}
	}
	t.Logf("%d cuts", cuts)
}

// live puts, deletes, compacts and scrubs.
func live(ctx context.Context, s *Store, l *ledger, rnd *rand.Rand, workers int) error {
	if workers == 1 {
		for range 40 {
			err := l.act(ctx, s, rnd, 0)
			switch rnd.IntN(12) {
			case 0, 1:
				_, cerr := s.Compact(ctx)
				err = errors.Join(err, cerr)
			case 2:
				_, serr := s.Scrub(ctx, 0, nil)
				err = errors.Join(err, serr)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, workers+1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	for w := range workers {
		own := seeded(rnd.Uint64())
		all.Go(func() {
			for range 20 {
				if err := l.act(ctx, s, own, uint64(w*12)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var beside sync.WaitGroup
	beside.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.Compact(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs <- err
				return
			}
		}
	})
	all.Wait()
	cancel()
	beside.Wait()
	close(errs)
	return <-errs
}

// TestHistory: random operations against a map, through reopening.
func TestHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20 * soak()) {
		rnd := seeded(seed)
		disk, l := newMemDisk(), &ledger{held: make(map[uint64]bool), busy: make(map[uint64]bool)}
		o := Options{PackSize: 4000 + rnd.Int64N(30_000), MinFree: -1, OpenFiles: 1 + rnd.IntN(4)}
		for life := range 5 {
			s, err := open(t.Context(), "mem", disk, o)
			must(t, err)
			if r := s.Recovery(); len(r.Damaged) > 0 || r.Cut > 0 || len(r.Rebuilt) > 0 {
				t.Fatalf("seed %d, life %d: after Close: %+v", seed, life, r)
			}
			if err := errors.Join(l.check(s), live(t.Context(), s, l, rnd, 1), l.check(s)); err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
			keys, count := keysOf(t, s), 0
			for n, held := range l.held {
				if held {
					count++
				}
				if keys[small(n).Cid()] != held {
					t.Fatalf("seed %d, life %d: AllKeysChan and block %d, held: %v", seed, life, n, held)
				}
			}
			if len(keys) != count || s.Stats().Blocks != count {
				t.Fatalf("seed %d, life %d: %d keys, %d blocks, %d held", seed, life, len(keys), s.Stats().Blocks, count)
			}
			must(t, s.Close())
		}
	}
}
