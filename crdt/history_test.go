package crdt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// envUint gives a number from the environment, by which a run is made longer or
// a failure is played again.
func envUint(t testing.TB, name string, otherwise uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// history plays one random history: 2 to 5 replicas, some with clocks far off;
// local changes, partial exchanges; at the end all is exchanged.
func history(seed uint64) (w *world, err error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	w = newWorld(seed, 2+rnd.IntN(4))
	w.profile = pick(rnd, profiles)
	w.checkAll = rnd.IntN(4) == 0
	if err := w.share(); err != nil {
		return w, err
	}
	for _, r := range w.replicas {
		r.skew = pick(w.rnd, []int64{0, 0, 0, 1000, -1000, 50 * year, -50 * year})
	}
	for range 5 + w.rnd.IntN(36) {
		r := pick(w.rnd, w.replicas)
		switch x := w.rnd.Float64(); {
		case x < w.profile.meet*0.6:
			if s := pick(w.rnd, w.replicas); s != r {
				err = w.receive(r.index, s.index, w.rnd.IntN(2) == 0)
			}
		case x < w.profile.meet:
			err = w.receive(r.disk, r.index, w.rnd.IntN(2) == 0)
		default:
			err = w.change(r)
		}
		if err != nil {
			return w, err
		}
	}
	if err := w.settle(); err != nil {
		return w, err
	}
	return w, w.check()
}

// share gives everybody the directories to begin with.
func (w *world) share() error {
	r := w.replicas[0]
	rec := w.recorder(r)
	parent := Root
	for i := range w.profile.shared {
		id, err := rec.Create(Location{parent, fmt.Sprintf("d%d", i)}, Directory, Content{}, 0o755)
		if err != nil {
			return err
		}
		if i%2 == 0 {
			parent = id
		}
	}
	if err := w.commit(r, rec); err != nil {
		return err
	}
	for _, s := range w.replicas[1:] {
		if err := errors.Join(w.receive(s.index, r.index, false), w.receive(s.disk, r.index, false)); err != nil {
			return err
		}
	}
	return nil
}

// TestHistories is the model's random check (P1, P3-P7, P12): replicas end
// equal, names are unique, a local change does what the person sees and moves
// nothing else, no content vanishes that nobody knowingly replaced or removed,
// every file shown has content; and after every single batch the incremental
// view is the pure one. SHEAF_HISTORIES sets their number, SHEAF_SEED the first
// seed.
func TestHistories(t *testing.T) {
	t.Parallel()
	n := envUint(t, "SHEAF_HISTORIES", 20_000)
	if testing.Short() {
		n = min(n, 2000)
	}
	first := envUint(t, "SHEAF_SEED", uint64(time.Now().UnixNano()))
	var next, played, changes, fell atomic.Uint64
	var failed sync.Once
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				w, err := history(first + i)
				changes.Add(uint64(w.changes))
				if w.fell > 0 {
					fell.Add(1)
				}
				if err != nil {
					next.Store(n)
					failed.Do(func() {
						t.Errorf("history %d, play it again with SHEAF_HISTORIES=1 SHEAF_SEED=%d (%s): %v", i+1, first+i, w.profile.name, err)
					})
					return
				}
				played.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d histories, %d changes, %d with something fallen back, first seed %d", played.Load(), changes.Load(), fell.Load(), first)
	if n > 1000 && fell.Load() < n/100 {
		t.Error("too few histories met a cycle of places to say anything about them")
	}
}
