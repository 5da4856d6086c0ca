package simnet

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"
)

// inBubble runs a benchmark on virtual time, which a test alone can have. The
// timer of b must be left alone in there: it would go by virtual time, too.
func inBubble(b *testing.B, o Options, f func(t *testing.T, n *Network)) {
	b.Helper()
	test := testing.InternalTest{Name: b.Name(), F: func(t *testing.T) { bubble(t, o, f) }}
	if !testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{test}) {
		b.Fatal("failed")
	}
}

// BenchmarkMessages sends messages of 200 bytes and waits for each one's echo, on
// several streams at once between as many pairs of devices. One operation is one
// message that arrives.
func BenchmarkMessages(b *testing.B) {
	for _, streams := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			b.ReportAllocs()
			inBubble(b, Options{Link: Link{Latency: 20 * time.Millisecond, Jitter: 20 * time.Millisecond}}, func(t *testing.T, n *Network) {
				nodes := []*node{up(n, 0), up(n, 1), up(n, 2), up(n, 3), up(n, 4)}
				time.Sleep(time.Minute)
				var all sync.WaitGroup
				for i := range streams {
					s, err := nodes[i%5].Open(context.Background(), nodes[(i+1+i/5%4)%5].id, fmt.Sprint(i))
					ok(t, err)
					all.Go(func() {
						message := make([]byte, 200)
						for range b.N/2/streams + 1 {
							_, _ = s.Write(message)
							if _, err := io.ReadFull(s, message); err != nil {
								t.Error(err)
							}
						}
						_ = s.Close()
					})
				}
				all.Wait()
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// BenchmarkBytes sends much at once.
func BenchmarkBytes(b *testing.B) {
	const size = 1 << 20
	for _, rate := range []float64{0, 10e6} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			inBubble(b, Options{Link: Link{Latency: 20 * time.Millisecond, Rate: rate}}, func(t *testing.T, n *Network) {
				x, y := two(t, n)
				near, far := open(t, x, y, "p")
				block := make([]byte, size)
				for range b.N {
					go func() { _, _ = near.Write(block) }()
					if _, err := io.CopyN(io.Discard, far, size); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkHistory makes a small world, a minute of trouble, and ends it.
func BenchmarkHistory(b *testing.B) {
	events := 0
	for i := range b.N {
		test := testing.InternalTest{Name: b.Name(), F: func(t *testing.T) { events += len(history(t, uint64(i)).lines) }}
		if !testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{test}) {
			b.Fatal("failed")
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
