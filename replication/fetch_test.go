package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// blocksOf makes n random blocks of size bytes.
func blocksOf(seed uint64, n, size int) [][]byte {
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	out := make([][]byte, n)
	for i := range out {
		out[i] = make([]byte, size)
		_, _ = rng.Read(out[i])
	}
	return out
}

// A haul is the outcome of many wants.
type haul struct {
	mu    sync.Mutex
	got   map[chunk.Hash]int
	order []chunk.Hash
	errs  []error
	left  sync.WaitGroup
}

// fetchAll asks for all blocks.
func (d *device) fetchAll(ctx context.Context, blocks []chunk.Block, priority func(i int) int64) *haul {
	h := &haul{got: map[chunk.Hash]int{}}
	h.left.Add(len(blocks))
	for i, b := range blocks {
		w := wantOf(b)
		if priority != nil {
			w.Priority = priority(i)
		}
		d.fetcher.Fetch(ctx, w, func(data []byte, err error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			defer h.left.Done()
			if err != nil {
				h.errs = append(h.errs, err)
				return
			}
			if chunk.Sum(data) != b.Hash {
				h.errs = append(h.errs, errors.New("wrong bytes delivered"))
			}
			h.got[b.Hash]++
			h.order = append(h.order, b.Hash)
		})
	}
	return h
}

func (h *haul) check(t testing.TB, want int) {
	t.Helper()
	h.left.Wait()
	if len(h.errs) > 0 {
		t.Fatalf("%d errors, the first: %v", len(h.errs), h.errs[0])
	}
	if len(h.got) != want {
		t.Fatalf("%d blocks of %d", len(h.got), want)
	}
}

// bubble runs a test on virtual time.
func bubble(t *testing.T, f func(t *testing.T, n *network)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		f(t, n)
		for _, d := range n.devices {
			d.stop()
		}
		for _, d := range n.devices {
			d.running.Wait()
		}
		n.running.Wait()
	})
}

// sharing waits until d has a source.
func sharing(t testing.TB, d *device, peers ...*device) {
	t.Helper()
	eventually(t, "sources", func() bool {
		d.fetcher.mu.Lock()
		defer d.fetcher.mu.Unlock()
		for _, p := range peers {
			if r := d.fetcher.remotes[p.id]; r == nil || r.shares[testFolder] == nil {
				return false
			}
		}
		return true
	})
}

func TestFetch(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	data := append(blocksOf(1, 300, 4096), blocksOf(2, 12, 300<<10)...)
	data = append(data, blocksOf(3, 1, chunk.MaxBlock)...)
	blocks := a.source.put(data...)
	n.connect(a, b)
	sharing(t, b, a)
	b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))

	var l chunk.List
	for _, x := range blocks {
		l = append(l, x)
	}
	content := crdt.ContentHash(l.Content())
	a.source.lists[content] = l.Encode()
	got, err := b.get(t.Context(), Want{Folder: testFolder, List: true, Content: content})
	if err != nil || !bytes.Equal(got, l.Encode()) {
		t.Fatalf("list: %d bytes, %v", len(got), err)
	}
	total := uint64(300*4096 + 12*300<<10 + chunk.MaxBlock + len(got))
	if f := b.fetcher.Traffic().Blocks; f.ReceivedData != total || f.Received < total || f.Received > total+total/50 {
		t.Errorf("traffic %+v for %d bytes", f, total)
	}
	if f := a.fetcher.Traffic().Blocks; f.SentData != total {
		t.Errorf("sent %+v", f)
	}
	for _, w := range []Want{wantOf(chunk.Block{}), wantOf(chunk.Block{Size: chunk.MaxBlock + 1})} {
		if _, err := b.get(t.Context(), w); err == nil {
			t.Errorf("%+v: no error", w)
		}
	}
}

func TestNotHereThenHave(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	sharing(t, b, a)
	data := blocksOf(1, 1, 5000)[0]
	w := wantOf(chunk.Block{Hash: chunk.Sum(data), Size: 5000})
	if _, err := b.get(t.Context(), w); !errors.Is(err, ErrNoSource) {
		t.Fatal(err)
	}
	// It is remembered, though the content has come meanwhile...
	a.source.put(data)
	reads := a.source.reads
	if _, err := b.get(t.Context(), w); !errors.Is(err, ErrNoSource) || a.source.reads != reads {
		t.Fatalf("%v, %d reads", err, a.source.reads)
	}
	// ... until the peer says that it has more.
	changes := b.changes.Load()
	a.index.moveHave()
	eventually(t, "the change to be told", func() bool { return b.changes.Load() > changes })
	if got, err := b.get(t.Context(), w); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
}

// A peer's answer that something is not there, and its news that it has more, come
// on two streams: the news may overtake the answer.
func TestNewsOvertakesDenial(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	sharing(t, b, a)
	data := blocksOf(1, 1, 5000)[0]
	looked, gate := make(chan struct{}), make(chan struct{})
	var once sync.Once
	a.source.before = func(chunk.Block) {
		once.Do(func() { close(looked) })
		<-gate
	}
	type result struct {
		data []byte
		err  error
	}
	given := make(chan result, 1)
	b.fetcher.Fetch(t.Context(), wantOf(chunk.Block{Hash: chunk.Sum(data), Size: 5000}), func(data []byte, err error) {
		given <- result{bytes.Clone(data), err}
	})
	<-looked // and it was not there
	a.source.put(data)
	changes := b.changes.Load()
	a.index.moveHave()
	eventually(t, "the change to be told", func() bool { return b.changes.Load() > changes })
	close(gate)
	if r := <-given; r.err != nil || !bytes.Equal(r.data, data) {
		t.Fatal(r.err)
	}
}

func TestNobody(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a := n.device('a', quick())
	if _, err := a.get(t.Context(), wantOf(chunk.Block{Size: 1})); !errors.Is(err, ErrNoSource) {
		t.Fatal(err)
	}
}

func TestSameWantOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	sharing(t, b, a)
	block := a.source.put([]byte("hello"))[0]
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	b.fetcher.Fetch(ctx, wantOf(block), func(_ []byte, err error) { given <- err })
	h := &haul{got: map[chunk.Hash]int{}}
	same := make([]chunk.Block, 50)
	for i := range same {
		same[i] = block
	}
	h = b.fetchAll(t.Context(), same, nil)
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatalf("the one that gave up got %v", err)
	}
	close(gate)
	h.check(t, 1)
	if h.got[block.Hash] != 50 || a.source.reads != 1 {
		t.Errorf("delivered %d times, read %d times", h.got[block.Hash], a.source.reads)
	}
}

// What nobody wants any more is withdrawn.
func TestCancelled(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	sharing(t, b, a)
	blocks := a.source.put(blocksOf(1, 500, 1000)...)
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	ctx, cancel := context.WithCancel(t.Context())
	h := b.fetchAll(ctx, blocks, nil)
	cancel()
	h.left.Wait()
	if len(h.errs) != 500 {
		t.Fatalf("%d of 500 were told", len(h.errs))
	}
	time.Sleep(50 * time.Millisecond) // the withdrawal has arrived, or costs reads
	close(gate)
	a.source.mu.Lock()
	a.source.before = nil
	a.source.mu.Unlock()
	if got, err := b.get(t.Context(), wantOf(a.source.put([]byte("after"))[0])); err != nil || string(got) != "after" {
		t.Fatal(err)
	}
	if a.source.reads > 50 {
		t.Errorf("%d of 500 withdrawn blocks were read", a.source.reads)
	}
	b.fetcher.mu.Lock()
	defer b.fetcher.mu.Unlock()
	if len(b.fetcher.tasks) != 0 {
		t.Errorf("%d tasks are left", len(b.fetcher.tasks))
	}
}

func TestTwoSourcesOneSlow(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		fast, slow, b := n.device('f', Timing{}), n.device('s', Timing{}), n.device('b', Timing{})
		n.links[[2]DeviceID{fast.id, b.id}] = link{delay: time.Millisecond, rate: 5 << 20}
		n.links[[2]DeviceID{slow.id, b.id}] = link{delay: 50 * time.Millisecond, rate: 100 << 10}
		data := blocksOf(1, 160, 128<<10) // 20 MiB
		blocks := fast.source.put(data...)
		slow.source.put(data...)
		n.connect(fast, b)
		n.connect(slow, b)
		time.Sleep(time.Second)
		began := time.Now()
		b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
		// Alone the fast one takes 4 s; what the slow one was first asked for
		// (1 MiB) would take it 10 s.
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		} else {
			t.Logf("took %v", took)
		}
	})
}

func TestTwoSourcesShare(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		one, two, b := n.device('1', Timing{}), n.device('2', Timing{}), n.device('b', Timing{})
		n.links[[2]DeviceID{one.id, b.id}] = link{delay: time.Millisecond, rate: 2 << 20}
		n.links[[2]DeviceID{two.id, b.id}] = link{delay: 5 * time.Millisecond, rate: 1 << 20}
		data := blocksOf(1, 160, 128<<10) // 20 MiB
		blocks := one.source.put(data...)
		two.source.put(data...)
		n.connect(one, b)
		n.connect(two, b)
		time.Sleep(time.Second)
		began := time.Now()
		b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
		took := time.Since(began)
		t.Logf("took %v, %d and %d blocks", took, one.source.reads, two.source.reads)
		if took > 8*time.Second { // 6.7 s at the sum of both rates
			t.Errorf("took %v", took)
		}
		if one.source.reads+two.source.reads > len(blocks)+len(blocks)/10 {
			t.Errorf("%d reads for %d blocks", one.source.reads+two.source.reads, len(blocks))
		}
	})
}

// A peer that stalls for ever holds back nothing that another has.
func TestStalledSource(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		good, stuck, b := n.device('g', Timing{}), n.device('s', Timing{}), n.device('b', Timing{})
		data := blocksOf(1, 40, 256<<10)
		blocks := good.source.put(data...)
		stuck.source.put(data...)
		gate := make(chan struct{})
		stuck.source.before = func(chunk.Block) { <-gate }
		n.links[[2]DeviceID{good.id, b.id}] = link{delay: 20 * time.Millisecond, rate: 10 << 20}
		n.connect(stuck, b)
		synctest.Wait()
		n.connect(good, b)
		synctest.Wait()
		began := time.Now()
		b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("took %v", took)
		}
		close(gate)
	})
}

func TestDisconnectRequeues(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, c, b := n.device('a', quick()), n.device('c', quick()), n.device('b', quick())
	data := blocksOf(1, 200, 10000)
	blocks := a.source.put(data...)
	c.source.put(data...)
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	n.connect(a, b)
	sharing(t, b, a)
	h := b.fetchAll(t.Context(), blocks, nil)
	n.connect(c, b)
	sharing(t, b, c)
	time.Sleep(10 * time.Millisecond)
	n.disconnect(a, b)
	h.check(t, len(blocks))
	close(gate)

	// With the last source gone, what is wanted fails.
	last := make(chan struct{})
	c.source.mu.Lock()
	c.source.before = func(chunk.Block) { <-last }
	c.source.mu.Unlock()
	h = b.fetchAll(t.Context(), blocks[:5], nil)
	time.Sleep(5 * time.Millisecond)
	n.disconnect(c, b)
	h.left.Wait()
	for _, err := range h.errs {
		if !errors.Is(err, ErrNoSource) {
			t.Errorf("got %v", err)
		}
	}
	if len(h.errs) != 5 {
		t.Errorf("%d of 5 failed", len(h.errs))
	}
	close(last)
}

// A block stream that is cut in the middle is opened anew, and what has come
// is not asked for again.
func TestBlockStreamCut(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	blocks := a.source.put(blocksOf(1, 300, 64<<10)...) // 19 MiB
	n.cuts[wire.BlocksProtocol] = 3<<20 + 12345
	n.connect(a, b)
	sharing(t, b, a)
	b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
	if n.count(wire.BlocksProtocol) < 5 {
		t.Errorf("%d streams: nothing was cut", n.count(wire.BlocksProtocol))
	}
	if f := b.fetcher.Traffic().Blocks; f.ReceivedData > 20<<20 {
		t.Errorf("%d bytes for %d", f.ReceivedData, 300*64<<10)
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	blocks := a.source.put(blocksOf(1, 40, 512<<10)...)
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	n.connect(a, b)
	sharing(t, b, a)
	h := b.fetchAll(t.Context(), blocks, func(i int) int64 { return int64(-i) })
	// Wanted again, by somebody who cannot wait.
	urgent := blocks[5]
	done := make(chan struct{})
	w := wantOf(urgent)
	w.Priority = -1000
	b.fetcher.Fetch(t.Context(), w, func([]byte, error) { close(done) })
	close(gate)
	<-done
	h.check(t, 40)
	// The first few were asked for before the rest was known.
	if at := slices.Index(h.order, urgent.Hash); at > 8 {
		t.Errorf("the urgent block came as number %d", at)
	}
	// The rest came near enough in order (four are read at once): those of the
	// more urgent half are the first half.
	early := 0
	for _, hash := range h.order[:20] {
		if slices.IndexFunc(blocks, func(b chunk.Block) bool { return b.Hash == hash }) >= 20 {
			early++
		}
	}
	if early < 10 {
		t.Errorf("%d of the first 20 blocks were of the more urgent half", early)
	}
}

func TestLimits(t *testing.T) {
	for _, up := range []bool{true, false} {
		t.Run(fmt.Sprintf("up=%v", up), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *network) {
				a, b := n.device('a', Timing{}), n.device('b', Timing{})
				blocks := a.source.put(blocksOf(1, 64, 64<<10)...) // 4 MiB
				n.connect(a, b)
				synctest.Wait()
				if up {
					a.fetcher.SetLimits(1<<20, 0)
				} else {
					b.fetcher.SetLimits(0, 1<<20)
				}
				began := time.Now()
				b.fetchAll(t.Context(), blocks, nil).check(t, 64)
				if took := time.Since(began); took < 3800*time.Millisecond || took > 4400*time.Millisecond {
					t.Errorf("4 MiB at 1 MiB/s took %v", took)
				}
				// The index plane is not held back, whatever waits on the other.
				a.fetcher.SetLimits(MinLimit, 0)
				h := b.fetchAll(t.Context(), a.source.put(blocksOf(2, 4, 64<<10)...), nil)
				began = time.Now()
				a.index.create(t, crdt.Root, "x", oneBlock(nil))
				synctest.Wait()
				if b.index.Seq() != 1 || time.Since(began) > time.Second {
					t.Error("an entry waited for blocks")
				}
				// Changed while it runs.
				a.fetcher.SetLimits(0, 0)
				b.fetcher.SetLimits(0, 0)
				h.check(t, 4)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("a lifted limit held for %v", took)
				}
			})
		})
	}
}

// At the lowest limit a long block takes minutes; nobody gives up on it.
func TestSlowIsNotDead(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		blocks := a.source.put(blocksOf(1, 3, 1<<20)...)
		n.connect(a, b)
		synctest.Wait()
		a.fetcher.SetLimits(MinLimit, 0)
		began := time.Now()
		b.fetchAll(t.Context(), blocks, nil).check(t, 3)
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("took %v", took)
		}
		if n.count(wire.BlocksProtocol) != 1 {
			t.Errorf("%d streams", n.count(wire.BlocksProtocol))
		}
	})
}

// A disk that takes minutes to answer (asleep, or busy) is waited for.
func TestSlowDisk(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		blocks := a.source.put(blocksOf(1, 1, 1000)...)
		a.source.before = func(chunk.Block) { time.Sleep(10 * time.Minute) }
		n.connect(a, b)
		synctest.Wait()
		b.fetchAll(t.Context(), blocks, nil).check(t, 1)
		if n.count(wire.BlocksProtocol) != 1 {
			t.Errorf("%d streams", n.count(wire.BlocksProtocol))
		}
	})
}

// A peer that vanishes without a word is noticed.
func TestSilence(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		n.hostile[a.id] = func(_ string, s Stream) {
			buf := make([]byte, 1000)
			for {
				if _, err := s.Read(buf); err != nil {
					return
				}
			}
		}
		n.connect(a, b)
		time.Sleep(10 * time.Minute)
		if got := n.count(wire.IndexProtocol); got < 4 || got > 12 {
			t.Errorf("%d streams opened in ten minutes", got)
		}
	})
}

func TestWindowGrows(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		// 20 MiB/s at a round trip of 200 ms need 4 MiB under way.
		n.links[[2]DeviceID{a.id, b.id}] = link{delay: 100 * time.Millisecond, rate: 20 << 20, room: 64 << 20}
		n.links[[2]DeviceID{b.id, a.id}] = link{delay: 100 * time.Millisecond}
		data := blocksOf(1, 1, 256<<10)[0]
		var blocks []chunk.Block
		for i := range 240 { // 60 MiB
			d := bytes.Clone(data)
			d[0], d[1] = byte(i), byte(i>>8)
			blocks = append(blocks, a.source.put(d)...)
		}
		n.connect(a, b)
		time.Sleep(time.Second)
		began := time.Now()
		b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
		took := time.Since(began)
		b.fetcher.mu.Lock()
		defer b.fetcher.mu.Unlock()
		size := b.fetcher.remotes[a.id].window.size
		t.Logf("60 MiB in %v, window %d MiB", took, size>>20)
		if took > 5*time.Second { // 3 s at full rate; 12 s with the first window
			t.Errorf("took %v", took)
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	n.connect(a, b)
	sharing(t, b, a)
	h := b.fetchAll(t.Context(), a.source.put(blocksOf(1, 100, 1000)...), nil)
	b.stop()
	h.left.Wait()
	close(gate)
	for _, err := range h.errs {
		if !errors.Is(err, ErrStopped) && !errors.Is(err, ErrNoSource) {
			t.Errorf("got %v", err)
		}
	}
	b.running.Wait()
	if _, err := b.get(t.Context(), wantOf(chunk.Block{Size: 1})); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

func TestIdleStreamCloses(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		n.connect(a, b)
		synctest.Wait()
		blocks := a.source.put(blocksOf(1, 2, 1000)...)
		b.fetchAll(t.Context(), blocks[:1], nil).check(t, 1)
		time.Sleep(5 * time.Minute)
		a.mu.Lock()
		notes := slices.Clone(a.notes)
		a.mu.Unlock()
		if !slices.Contains(notes, wire.BlocksProtocol+" ended: <nil>") {
			t.Errorf("the idle stream did not end in order: %q", notes)
		}
		b.fetchAll(t.Context(), blocks[1:], nil).check(t, 1)
	})
}
