package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A trace is what a run of a seed came to.
type trace struct {
	hash     uint64
	lines    []string
	instants []time.Duration // of events, as logged
	echoed   int
}

const (
	devices = 5
	workers = 3 // on each
)

// history lets devices with several goroutines each talk over a network with every
// kind of trouble, for a minute. Each worker has random numbers and a protocol
// of its own: nothing hangs on who comes first.
func history(t *testing.T, seed uint64) (tr trace) {
	t.Helper()
	o := Options{
		Seed: seed, DeadAfter: 5 * time.Second,
		Link: Link{Latency: 20 * ms, Jitter: 30 * ms},
		Log: func(format string, args ...any) {
			tr.lines = append(tr.lines, fmt.Sprintf(format, args...))
			tr.instants = append(tr.instants, args[0].(time.Duration))
		},
	}
	bubble(t, o, func(t *testing.T, n *Network) {
		end, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		rnd := rand.New(rand.NewPCG(seed, 0))
		n.SetLink(ID{1}, ID{2}, Link{Latency: 100 * ms, Jitter: 10 * ms, Rate: 200_000})
		n.SetLink(ID{2}, ID{1}, Link{Rate: 50_000})
		n.SetLink(ID{3}, ID{1}, Link{Latency: 5 * ms, Room: 1})
		var all sync.WaitGroup
		var mu sync.Mutex
		nodes := make([]*node, devices)
		for i := range nodes {
			nodes[i] = up(n, i)
			for w := range workers {
				rnd := rand.New(rand.NewPCG(seed, uint64(1+i*workers+w)))
				all.Go(func() {
					for end.Err() == nil {
						mu.Lock()
						x := nodes[i]
						mu.Unlock()
						to := ID{byte(rnd.IntN(devices))}
						if k := ask(end, x, to, fmt.Sprint(i, w), rnd); k > 0 {
							mu.Lock()
							tr.echoed += k
							mu.Unlock()
						}
						time.Sleep(time.Duration(rnd.Int64N(int64(time.Second))))
					}
				})
			}
		}
		for end.Err() == nil {
			time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Second))))
			i, k := rnd.IntN(devices), rnd.IntN(devices)
			a, b := ID{byte(i)}, ID{byte(k)}
			switch rnd.IntN(6) {
			case 0:
				n.Cut(a, b)
			case 1, 2:
				n.Mend(a, b)
				n.Mend(b, a)
			case 3:
				n.Break(a, b)
			case 4:
				n.Twice(a, b)
			case 5:
				if rnd.IntN(2) == 0 {
					continue
				}
				nodes[i].Leave()
				time.Sleep(time.Duration(rnd.Int64N(int64(time.Second))))
				x := up(n, i)
				mu.Lock()
				nodes[i] = x
				mu.Unlock()
			}
		}
		all.Wait()
		tr.hash = n.Hash()
	})
	return tr
}

// up joins a device that echoes.
func up(n *Network, i int) *node {
	x := &node{serve: func(_ context.Context, _ ID, _ string, s *Stream) {
		if _, err := io.Copy(s, s); err == nil {
			_ = s.Close()
		}
	}}
	x.Port = n.Join(ID{byte(i)}, x)
	return x
}

// ask sends something to be echoed and gives how much of it was.
func ask(ctx context.Context, x *node, to ID, protocol string, rnd *rand.Rand) int {
	s, err := x.Open(ctx, to, protocol)
	if err != nil {
		return 0
	}
	defer func() { _ = s.Reset() }()
	text := make([]byte, rnd.IntN(1000))
	if rnd.IntN(10) == 0 {
		text = make([]byte, rnd.IntN(400_000))
	}
	for i, x := 0, rnd.Uint64(); i < len(text); i++ {
		text[i] = byte(x >> 56)
		x = x*6364136223846793005 + 1442695040888963407
	}
	_ = s.SetDeadline(time.Now().Add(time.Duration(rnd.Int64N(int64(20 * time.Second)))))
	var writing sync.WaitGroup
	writing.Go(func() {
		for rest := text; len(rest) > 0; {
			k := min(len(rest), 1+len(text)/3)
			if _, err := s.Write(rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		_ = s.CloseWrite()
	})
	got, err := io.ReadAll(s)
	_ = s.Close()
	writing.Wait()
	if err == nil && string(got) != string(text) {
		panic(fmt.Sprintf("%d bytes come back as %d others", len(text), len(got)))
	}
	return len(got)
}

// TestSameSeed: two runs of a seed do the same at the same instants; of another one,
// something else.
func TestSameSeed(t *testing.T) {
	t.Parallel()
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	hashes := make(map[uint64]bool)
	for seed := range uint64(seeds) {
		x, y := history(t, seed), history(t, seed)
		if x.hash != y.hash || x.echoed != y.echoed || !slices.Equal(x.lines, y.lines) {
			i := 0
			for i < min(len(x.lines), len(y.lines)) && x.lines[i] == y.lines[i] {
				i++
			}
			t.Fatalf("seed %d: %x and %x; of %d and %d lines these differ first:\n%q\n%q", seed, x.hash, y.hash,
				len(x.lines), len(y.lines), x.lines[i:min(i+3, len(x.lines))], y.lines[i:min(i+3, len(y.lines))])
		}
		if hashes[x.hash] {
			t.Errorf("seed %d does what another one did", seed)
		}
		hashes[x.hash] = true
		if len(x.lines) < 1000 || x.echoed < 100_000 {
			t.Errorf("seed %d: %d events and %d bytes only", seed, len(x.lines), x.echoed)
		}
	}
}

// TestSeedAlone: the seed makes the difference, the program being the same.
func TestSeedAlone(t *testing.T) {
	t.Parallel()
	run := func(o Options) (hash uint64) {
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			near, far := open(t, a, b, "p")
			write(t, near, "x")
			read(t, far, 1)
			hash = n.Hash()
		})
		return hash
	}
	o := Options{Link: Link{Latency: ms, Jitter: ms}}
	if p := o; run(o) != run(p) {
		t.Error("one seed, two hashes")
	}
	if p := o; run(o) == run(func() Options { p.Seed = 1; return p }()) {
		t.Error("two seeds, one hash")
	}
}

// TestHash: whatever differs in what is delivered makes a difference.
func TestHash(t *testing.T) {
	t.Parallel()
	hashes := make(map[uint64]string)
	for name, c := range map[string]struct {
		from, to int
		protocol string
		text     string
		wait     time.Duration
		reset    bool
	}{
		"plain":    {0, 1, "p", "text", 0, false},
		"back":     {1, 0, "p", "text", 0, false},
		"to other": {0, 2, "p", "text", 0, false},
		"protocol": {0, 1, "q", "text", 0, false},
		"bytes":    {0, 1, "p", "Text", 0, false},
		"more":     {0, 1, "p", "text.", 0, false},
		"later":    {0, 1, "p", "text", 1, false},
		"reset":    {0, 1, "p", "text", 0, true},
	} {
		var last uint64
		for range 2 {
			bubble(t, Options{}, func(t *testing.T, n *Network) {
				nodes := []*node{join(n, 'a'), join(n, 'b'), join(n, 'c')}
				time.Sleep(time.Minute)
				near, far := open(t, nodes[c.from], nodes[c.to], c.protocol)
				time.Sleep(time.Second + c.wait)
				write(t, near, c.text)
				read(t, far, len(c.text))
				if c.reset {
					ok(t, near.Reset())
				}
				time.Sleep(time.Second)
				if other := hashes[n.Hash()]; other != "" {
					t.Errorf("%s and %s have one hash", name, other)
				}
				if last != 0 && n.Hash() != last {
					t.Errorf("%s has two hashes", name)
				}
				last = n.Hash()
			})
		}
		hashes[last] = name
	}
}

// TestInstants: no two things happen at one instant, though all are due at once, and
// each has come to rest when the next one happens.
func TestInstants(t *testing.T) {
	t.Parallel()
	bubble(t, Options{Link: Link{Latency: 10 * ms}}, func(t *testing.T, n *Network) {
		var nodes []*node
		for i := range byte(4) {
			nodes = append(nodes, join(n, 'a'+i))
		}
		time.Sleep(time.Minute)
		var mu sync.Mutex
		var seen []time.Duration
		saw := func() {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, n.now())
		}
		var near []*Stream
		var all sync.WaitGroup
		for _, a := range nodes {
			for _, b := range nodes {
				if a == b {
					continue
				}
				for i := range 5 {
					s, far := open(t, a, b, fmt.Sprint(i))
					near = append(near, s)
					all.Go(func() {
						read(t, far, 1)
						saw()
						want := io.EOF
						if i == 0 { // a deadline at the instant at which the others' end arrives
							ok(t, far.SetReadDeadline(time.Now().Truncate(ms).Add(10*ms)))
							want = os.ErrDeadlineExceeded
						}
						if _, err := far.Read(make([]byte, 1)); !errors.Is(err, want) {
							t.Error(err)
						}
						saw()
					})
				}
			}
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
		for _, s := range near {
			all.Go(func() { _, _ = s.Write([]byte("x")) })
		}
		time.Sleep(10 * ms)
		for i, s := range near {
			if i%5 > 0 {
				all.Go(func() { _ = s.CloseWrite() })
			}
		}
		all.Wait()
		slices.Sort(seen)
		if got := len(slices.Compact(slices.Clone(seen))); got != 120 || len(seen) != 120 {
			t.Errorf("%d things were seen at %d instants: %v", len(seen), got, seen)
		}
		if took := seen[119] - seen[0]; took > 10*ms+200 {
			t.Errorf("what was due at two instants took %v", took)
		}
	})
}

// TestInstantsOfHistory: nor does it happen in a long history.
func TestInstantsOfHistory(t *testing.T) {
	t.Parallel()
	tr := history(t, 99)
	last, arrivals := -1, 0
	for i, line := range tr.lines {
		if last >= 0 && tr.instants[i] < tr.instants[i-1] {
			t.Fatalf("out of order:\n%s\n%s", tr.lines[i-1], line)
		}
		if !strings.Contains(line, " bytes") {
			continue
		}
		if last >= 0 && tr.instants[i] == tr.instants[last] {
			t.Fatalf("at one instant:\n%s\n%s", tr.lines[last], line)
		}
		last = i
		arrivals++
	}
	if arrivals < 1000 {
		t.Errorf("%d arrivals only", arrivals)
	}
}
