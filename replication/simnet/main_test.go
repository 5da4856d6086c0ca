package simnet

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f with a network on virtual time.
func bubble(t *testing.T, o Options, f func(t *testing.T, n *Network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New(o)
		defer n.Close()
		f(t, n)
	})
}

// each runs f for each seed below many, as subtests of one bubble each.
func each(t *testing.T, many uint64, o Options, f func(t *testing.T, n *Network)) {
	t.Helper()
	for o.Seed = range many {
		t.Run(fmt.Sprint(o.Seed), func(t *testing.T) {
			t.Parallel()
			bubble(t, o, f)
		})
	}
}

// A node is a Host that remembers what it was told, and when.
type node struct {
	*Port
	in    chan *Stream // streams that came in, unless serve is set
	serve func(ctx context.Context, peer ID, protocol string, s *Stream)

	mu   sync.Mutex
	told []told
	live int // calls of Serve
}

type told struct {
	at   time.Time
	peer ID
	up   bool
}

func join(n *Network, name byte) *node {
	x := &node{in: make(chan *Stream, 100)}
	x.Port = n.Join(ID{name}, x)
	return x
}

func (x *node) Connected(peer ID)    { x.note(told{time.Now(), peer, true}) }
func (x *node) Disconnected(peer ID) { x.note(told{time.Now(), peer, false}) }

func (x *node) note(e told) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.told = append(x.told, e)
}

// news gives what was told since it was last called.
func (x *node) news() []told {
	x.mu.Lock()
	defer x.mu.Unlock()
	list := x.told
	x.told = nil
	return list
}

// was tells whether anything was told since news was last called.
func (x *node) was() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.told) > 0
}

func (x *node) Serve(ctx context.Context, peer ID, protocol string, s *Stream) {
	x.mu.Lock()
	x.live++
	serve := x.serve
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.live--
	}()
	if serve != nil {
		serve(ctx, peer, protocol, s)
		return
	}
	x.in <- s
	<-ctx.Done()
}

func (x *node) serving() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.live
}

// two gives two connected nodes, and forgets how they came to be.
func two(t *testing.T, n *Network) (a, b *node) {
	t.Helper()
	a, b = join(n, 'a'), join(n, 'b')
	a.await(t, b, true)
	b.await(t, a, true)
	a.news()
	b.news()
	return a, b
}

// await gives when x was told of y; it may take a minute.
func (x *node) await(t *testing.T, y *node, up bool) time.Time {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(7 * time.Millisecond) {
		x.mu.Lock()
		for _, e := range x.told {
			if e.peer == y.id && e.up == up {
				x.mu.Unlock()
				return e.at
			}
		}
		x.mu.Unlock()
	}
	t.Fatalf("in a minute %s was not told that %s is up: %v; only %v", x.id, y.id, up, x.news())
	return time.Time{}
}

// open gives both ends of a new stream.
func open(t *testing.T, a, b *node, protocol string) (near, far *Stream) {
	t.Helper()
	near, err := a.Open(t.Context(), b.id, protocol)
	ok(t, err)
	return near, <-b.in
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// read reads exactly so many bytes.
func read(t *testing.T, s *Stream, size int) string {
	t.Helper()
	b := make([]byte, size)
	_, err := io.ReadFull(s, b)
	ok(t, err)
	return string(b)
}

func write(t *testing.T, s *Stream, text string) {
	t.Helper()
	_, err := s.Write([]byte(text))
	ok(t, err)
}

// result is what a call gave that was made on a goroutine of its own.
type result struct {
	n   int
	err error
	at  time.Time
}

func start(call func() (int, error)) <-chan result {
	c := make(chan result, 1)
	go func() {
		n, err := call()
		c <- result{n, err, time.Now()}
	}()
	return c
}

// pending fails unless the call still waits.
func pending(t *testing.T, c <-chan result) {
	t.Helper()
	synctest.Wait()
	select {
	case r := <-c:
		t.Fatalf("the call should wait, and has given %d, %v", r.n, r.err)
	default:
	}
}
