package simnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// As replication.Stream, which is not imported so that its own tests can import
// this package.
var _ interface {
	io.Reader
	io.Writer
	Close() error
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
} = (*Stream)(nil)

// TestOrder: each stream's bytes come in order, whatever the jitter; between streams
// what was written later often comes earlier.
func TestOrder(t *testing.T) {
	t.Parallel()
	o := Options{Seed: 1, Link: Link{Latency: 10 * time.Millisecond, Jitter: 50 * time.Millisecond}}
	bubble(t, o, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		const streams, messages = 8, 40
		var near [streams]*Stream
		var mu sync.Mutex
		var arrived []int // messages of all streams, in the order of arrivals
		var readers sync.WaitGroup
		for i := range near {
			s, far := open(t, a, b, fmt.Sprint(i))
			near[i] = s
			readers.Go(func() {
				for k := range messages {
					if got := read(t, far, 4); got != fmt.Sprintf("%04d", k) {
						t.Errorf("stream %d: message %d is %q", i, k, got)
					}
					mu.Lock()
					arrived = append(arrived, k)
					mu.Unlock()
				}
			})
		}
		for k := range messages {
			for _, s := range near {
				write(t, s, fmt.Sprintf("%04d", k))
			}
			time.Sleep(time.Millisecond)
		}
		readers.Wait()
		overtaken := 0
		for i := range arrived {
			if slices.Max(arrived[:i+1]) > arrived[i] {
				overtaken++
			}
		}
		if overtaken < len(arrived)/2 {
			t.Errorf("of %d messages only %d were overtaken", len(arrived), overtaken)
		}
	})
}

// TestJitter: it is drawn anew for each parcel and stream, over all its range.
func TestJitter(t *testing.T) {
	t.Parallel()
	bubble(t, Options{Seed: 2, Link: Link{Latency: 10 * time.Millisecond, Jitter: 100 * time.Millisecond}}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		seen := make(map[time.Duration]bool)
		least, most := time.Hour, time.Duration(0)
		for i := range 10 {
			near, far := open(t, a, b, fmt.Sprint(i))
			for range 20 {
				began := time.Now()
				write(t, near, "x")
				read(t, far, 1)
				took := time.Since(began)
				seen[took] = true
				least, most = min(least, took), max(most, took)
			}
		}
		if len(seen) < 199 || least < 10*time.Millisecond || least > 12*time.Millisecond || most < 108*time.Millisecond || most > 110*time.Millisecond {
			t.Errorf("200 parcels take %v to %v, %d times", least, most, len(seen))
		}
	})
}

func TestLatency(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ there, back Link }{
		{Link{}, Link{}},
		{Link{Latency: 30 * time.Millisecond}, Link{Latency: 5 * time.Millisecond}},
		{Link{Latency: 3 * time.Second, Jitter: time.Second}, Link{Latency: time.Microsecond, Jitter: time.Millisecond}},
	} {
		t.Run(fmt.Sprint(c.there.Latency), func(t *testing.T) {
			t.Parallel()
			bubble(t, Options{Seed: 4}, func(t *testing.T, n *Network) {
				n.SetLink(ID{'a'}, ID{'b'}, c.there)
				n.SetLink(ID{'b'}, ID{'a'}, c.back)
				a, b := two(t, n)
				in := func(what string, l Link, took time.Duration) {
					t.Helper()
					if least := max(1, l.Latency); took < least || took > least+l.Jitter {
						t.Errorf("%s takes %v over %+v", what, took, l)
					}
				}
				began := time.Now()
				near, far := open(t, a, b, "p")
				in("a round trip", Link{Latency: max(1, c.there.Latency) + max(1, c.back.Latency), Jitter: c.there.Jitter + c.back.Jitter}, time.Since(began))
				began = time.Now()
				write(t, near, "there")
				read(t, far, 5)
				in("the way there", c.there, time.Since(began))
				began = time.Now()
				write(t, far, "back")
				read(t, near, 4)
				in("the way back", c.back, time.Since(began))
				began = time.Now()
				ok(t, near.CloseWrite())
				if _, err := far.Read(make([]byte, 1)); err != io.EOF {
					t.Error(err)
				}
				in("the end", c.there, time.Since(began))
			})
		})
	}
}

// TestRate: the streams of a direction share its rate, and take turns; the other
// direction has its own.
func TestRate(t *testing.T) {
	t.Parallel()
	const latency = 20 * time.Millisecond
	bubble(t, Options{Link: Link{Latency: latency, Rate: 1e6, Room: 1 << 20}}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		big, bigFar := open(t, a, b, "big")
		small, smallFar := open(t, a, b, "small")
		other, otherFar := open(t, b, a, "other")
		size := map[*Stream]int{big: 400_000, small: 50_000, other: 70_000}
		began := time.Now()
		read := func(far *Stream, size int) <-chan result {
			return start(func() (int, error) { return io.ReadFull(far, make([]byte, size)) })
		}
		bigEnd, smallEnd, otherEnd := read(bigFar, size[big]), read(smallFar, size[small]), read(otherFar, size[other])
		for s, size := range size {
			go func() { _, _ = s.Write(make([]byte, size)) }()
		}
		took := func(end <-chan result) time.Duration {
			r := <-end
			ok(t, r.err)
			return r.at.Sub(began) - latency
		}
		if got := took(bigEnd); got != 450*time.Millisecond {
			t.Errorf("450,000 bytes at 1 MB/s take %v", got)
		}
		// Three turns of full parcels, and what is left over of the fourth.
		if got := took(smallEnd); got < 100*time.Millisecond || got > 116*time.Millisecond {
			t.Errorf("the short stream takes %v beside the long one", got)
		}
		if got := took(otherEnd); got != 70*time.Millisecond {
			t.Errorf("70,000 bytes the other way take %v", got)
		}
	})
}

// TestTurnsHangOnNames: what many goroutines send at one instant arrives in the same
// order whoever came first.
func TestTurnsHangOnNames(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0, 1e6} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			turns(t, Options{Link: Link{Latency: time.Millisecond, Rate: rate}})
		})
	}
}

func turns(t *testing.T, o Options) {
	var orders []string
	for range 8 {
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			var near [12]*Stream
			var order string
			var mu sync.Mutex
			var all sync.WaitGroup
			for i := range near {
				s, far := open(t, a, b, fmt.Sprint(i))
				near[i] = s
				all.Go(func() {
					_, _ = io.ReadFull(far, make([]byte, 1000))
					mu.Lock()
					defer mu.Unlock()
					order += fmt.Sprint(i, " ")
				})
			}
			rand.Shuffle(len(near), func(i, j int) { near[i], near[j] = near[j], near[i] })
			for _, s := range near {
				all.Go(func() { _, _ = s.Write(make([]byte, 1000)) })
			}
			all.Wait()
			orders = append(orders, order)
		})
	}
	if slices.Sort(orders); orders[0] != orders[len(orders)-1] {
		t.Errorf("orders of arrival are\n%s\n%s", orders[0], orders[len(orders)-1])
	}
}

// TestRoom: a stream takes in so much unread and no more, and the writer hears of
// room after the way back, half of it at a time.
func TestRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ set, room int }{{0, 256 << 10}, {1, 64 << 10}, {100_000, 100_000}} {
		t.Run(fmt.Sprint(c.set), func(t *testing.T) {
			t.Parallel()
			const latency = 10 * time.Millisecond
			bubble(t, Options{Link: Link{Latency: latency, Room: c.set}}, func(t *testing.T, n *Network) {
				a, b := two(t, n)
				near, far := open(t, a, b, "p")
				text := make([]byte, c.room+1)
				for i := range text {
					text[i] = byte(i >> 8)
				}
				w := start(func() (int, error) { return near.Write(text) })
				time.Sleep(time.Hour)
				pending(t, w)
				if got, _ := n.Delivered(a.id, b.id); got != uint64(c.room) {
					t.Errorf("%d bytes came in", got)
				}
				got := read(t, far, c.room/2-1)
				time.Sleep(time.Hour)
				pending(t, w)
				now := time.Now()
				got += read(t, far, 1)
				if r := <-w; r.err != nil || r.n != len(text) || r.at.Sub(now) != latency {
					t.Errorf("Write gives %d, %v after %v", r.n, r.err, r.at.Sub(now))
				}
				if got += read(t, far, len(text)-len(got)); got != string(text) {
					t.Error("other bytes than were written")
				}
				w = start(func() (int, error) { return near.Write(make([]byte, 2*c.room)) })
				time.Sleep(time.Hour)
				pending(t, w)
				if more, _ := n.Delivered(a.id, b.id); more > uint64(len(text)+c.room) || more < uint64(len(text)+c.room/2) {
					t.Errorf("then %d bytes more than were read came in", int(more)-len(text))
				}
			})
		})
	}
}

// TestParcels: what one end writes at one instant arrives at once, however many
// Writes it took, up to 16 KiB.
func TestParcels(t *testing.T) {
	t.Parallel()
	bubble(t, Options{}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		for _, c := range []struct{ size, writes, parcels int }{{10, 1, 1}, {10, 100, 1}, {100, 164, 2}, {50_000, 1, 4}} {
			_, before := n.Delivered(a.id, b.id)
			for range c.writes {
				write(t, near, string(make([]byte, c.size)))
			}
			read(t, far, c.size*c.writes)
			if _, parcels := n.Delivered(a.id, b.id); parcels-before != uint64(c.parcels) {
				t.Errorf("%d writes of %d bytes make %d parcels", c.writes, c.size, parcels-before)
			}
		}
		for what, call := range map[string]func([]byte) (int, error){"Read": near.Read, "Write": near.Write} {
			if k, err := call(nil); k != 0 || err != nil {
				t.Errorf("%s of nothing gives %d, %v", what, k, err)
			}
		}
	})
}

// TestSetLink: a link that becomes quick does not let bytes overtake others of their
// stream.
func TestSetLink(t *testing.T) {
	t.Parallel()
	bubble(t, Options{Link: Link{Latency: time.Second}}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		other, otherFar := open(t, a, b, "q")
		began := time.Now()
		write(t, near, "one")
		time.Sleep(time.Millisecond)
		n.SetLink(a.id, b.id, Link{Latency: time.Millisecond})
		write(t, near, "two")
		write(t, other, "overtakes")
		if read(t, otherFar, 9); time.Since(began) != 2*time.Millisecond {
			t.Errorf("the quick one arrives after %v", time.Since(began))
		}
		if got := read(t, far, 6); got != "onetwo" || time.Since(began) > time.Second+1 {
			t.Errorf("read %q after %v", got, time.Since(began))
		}
	})
}

// TestEndings: what each end sees of how the other ended a stream.
func TestEndings(t *testing.T) {
	t.Parallel()
	is := func(what string, err, want error) func(t *testing.T) {
		return func(t *testing.T) {
			t.Helper()
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
	}
	reads := func(what string, s *Stream, text string, want error) func(t *testing.T) {
		got, err := io.ReadAll(s)
		if err == nil {
			err = io.EOF
		}
		if string(got) != text {
			what += fmt.Sprintf(" (has read %q)", got)
			return is(what, errors.New("other text"), nil)
		}
		return is(what, err, want)
	}
	writes := func(what string, s *Stream, want error) func(t *testing.T) {
		_, err := s.Write([]byte("more"))
		return is(what, err, want)
	}
	second := func() { time.Sleep(time.Second) }
	for name, f := range map[string]func(near, far *Stream) []func(*testing.T){
		"CloseWrite": func(near, far *Stream) []func(*testing.T) {
			first := near.CloseWrite()
			second()
			return []func(*testing.T){
				is("first", first, nil), is("again", near.CloseWrite(), nil),
				writes("write after it", near, io.ErrClosedPipe), reads("far", far, "text", io.EOF),
				writes("the other way", far, nil), is("far, too", far.Close(), nil), reads("near", near, "more", io.EOF),
			}
		},
		"Close": func(near, far *Stream) []func(*testing.T) {
			err := near.Close()
			early := writes("far, before it knows", far, nil)
			second()
			return []func(*testing.T){
				is("first", err, nil), early, writes("near", near, io.ErrClosedPipe), reads("near", near, "", io.ErrClosedPipe),
				writes("far", far, ErrReset), reads("far", far, "text", io.EOF), is("again", near.Close(), nil), is("far", far.Close(), nil),
			}
		},
		"Reset": func(near, far *Stream) []func(*testing.T) {
			err := near.Reset()
			early := writes("far, before it knows", far, nil)
			at := reads("near", near, "", ErrReset)
			second()
			return []func(*testing.T){
				is("first", err, nil), early, at, writes("near", near, ErrReset), is("near", near.CloseWrite(), ErrReset),
				writes("far", far, ErrReset), reads("far", far, "", ErrReset),
			}
		},
		"CloseWrite, Reset": func(near, far *Stream) []func(*testing.T) {
			_, _ = near.CloseWrite(), near.Reset()
			second()
			return []func(*testing.T){writes("far", far, ErrReset), reads("far", far, "text", io.EOF), reads("near", near, "", ErrReset)}
		},
		"Close, Reset": func(near, far *Stream) []func(*testing.T) {
			_, _ = near.Close(), near.Reset()
			second()
			return []func(*testing.T){reads("far", far, "text", io.EOF), reads("near", near, "", io.ErrClosedPipe)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, Options{Link: Link{Latency: time.Millisecond}}, func(t *testing.T, n *Network) {
				a, b := two(t, n)
				near, far := open(t, a, b, "p")
				write(t, near, "text")
				for _, check := range f(near, far) {
					check(t)
				}
			})
		})
	}
}

// TestEndingWakes: what blocks returns when its own end is ended.
func TestEndingWakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end         func(s *Stream) error
		read, write error
	}{
		"Close": {(*Stream).Close, io.ErrClosedPipe, io.ErrClosedPipe},
		"Reset": {(*Stream).Reset, ErrReset, ErrReset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, Options{}, func(t *testing.T, n *Network) {
				a, b := two(t, n)
				near, _ := open(t, a, b, "p")
				r := start(func() (int, error) { return near.Read(make([]byte, 1)) })
				w := start(func() (int, error) { return near.Write(make([]byte, 300<<10)) })
				time.Sleep(time.Second)
				pending(t, r)
				pending(t, w)
				ok(t, c.end(near))
				if got := <-r; got.err != c.read {
					t.Errorf("Read gives %v", got.err)
				}
				if got := <-w; got.err != c.write || got.n != 256<<10 {
					t.Errorf("Write gives %d, %v", got.n, got.err)
				}
			})
		})
	}
}

// TestServeEnds: what a host has not closed when it is done is reset.
func TestServeEnds(t *testing.T) {
	t.Parallel()
	bubble(t, Options{}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		b.serve = func(_ context.Context, peer ID, protocol string, s *Stream) {
			if peer != a.id {
				t.Errorf("served %s", peer)
			}
			if _, _ = io.WriteString(s, protocol); protocol == "close" {
				_ = s.Close()
			}
		}
		for protocol, want := range map[string]error{"close": nil, "leave": ErrReset} {
			s, err := a.Open(t.Context(), b.id, protocol)
			ok(t, err)
			time.Sleep(time.Second)
			if got, err := io.ReadAll(s); err != want || want == nil && string(got) != protocol {
				t.Errorf("%s: read %q, %v", protocol, got, err)
			}
			ok(t, s.Close())
		}
		if left := len(n.pair(a.id, b.id).conns[0].streams); left != 0 {
			t.Errorf("%d streams are kept", left)
		}
	})
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	bubble(t, Options{Link: Link{Latency: time.Second}}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		began := time.Now()
		if _, err := a.Open(t.Context(), ID{'x'}, "p"); !errors.Is(err, ErrNotConnected) || time.Now() != began {
			t.Errorf("to nobody: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := a.Open(ended, b.id, "p"); !errors.Is(err, context.Canceled) || len(b.in) > 0 {
			t.Errorf("with a context that has ended: %v", err)
		}
		if _, err := a.Open(ctx, b.id, "p"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("in less than a round trip: %v after %v", err, time.Since(began))
		}
		// The peer hears of both, one after the other.
		if _, err := (<-b.in).Read(make([]byte, 1)); err != ErrReset {
			t.Errorf("the peer reads %v", err)
		}
		r := start(func() (int, error) { _, err := a.Open(t.Context(), b.id, "p"); return 0, err })
		synctest.Wait()
		n.Break(a.id, b.id)
		if got := <-r; !errors.Is(got.err, ErrReset) {
			t.Errorf("on a connection that is lost: %v", got.err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	const s = time.Second
	both := func(x *Stream, t time.Time) error { return x.SetDeadline(t) }
	for name, c := range map[string]struct {
		set   func(*Stream, time.Time) error
		first time.Duration // from the beginning; 0: none
		then  time.Duration // set a second later; 0: none
		fails time.Duration
	}{
		"one":      {both, 5 * s, 5 * s, 5 * s},
		"later":    {both, 5 * s, 9 * s, 9 * s},
		"earlier":  {both, 5 * s, 3 * s, 3 * s},
		"at once":  {both, 5 * s, s, s},
		"past":     {both, 5 * s, -s, s},
		"set late": {both, 0, 7 * s, 7 * s},
		"cleared":  {both, 5 * s, 0, 0},
	} {
		for _, op := range []string{"read", "write"} {
			t.Run(name+" "+op, func(t *testing.T) {
				t.Parallel()
				bubble(t, Options{}, func(t *testing.T, n *Network) {
					a, b := two(t, n)
					near, far := open(t, a, b, "p")
					_, err := near.Write(make([]byte, 256<<10))
					ok(t, err)
					began := time.Now()
					at := func(d time.Duration) time.Time {
						if d == 0 {
							return time.Time{}
						}
						return began.Add(d)
					}
					ok(t, c.set(near, at(c.first)))
					call := func() (int, error) { return near.Read(make([]byte, 1)) }
					if op == "write" {
						call = func() (int, error) { return near.Write(make([]byte, 1)) }
					}
					r := start(call)
					time.Sleep(s)
					pending(t, r)
					ok(t, c.set(near, at(c.then)))
					if c.fails == 0 {
						time.Sleep(time.Hour)
						pending(t, r)
						return
					}
					if got := <-r; !errors.Is(got.err, os.ErrDeadlineExceeded) || got.at.Sub(began) != c.fails {
						t.Fatalf("%v after %v", got.err, got.at.Sub(began))
					}
					if _, err := call(); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("and again: %v", err)
					}
					// Nothing is broken: with more time it goes on.
					ok(t, near.SetDeadline(time.Now().Add(s)))
					go func() {
						_, _ = far.Write([]byte("x"))
						_, _ = io.CopyN(io.Discard, far, 256<<10)
					}()
					if n, err := call(); n != 1 || err != nil {
						t.Errorf("later: %d, %v", n, err)
					}
				})
			})
		}
	}
}

// TestDeadlineOfOne: that of reading is none of writing's.
func TestDeadlineOfOne(t *testing.T) {
	t.Parallel()
	bubble(t, Options{}, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		ok(t, near.SetReadDeadline(time.Now()))
		ok(t, far.SetWriteDeadline(time.Now()))
		write(t, near, "x")
		read(t, far, 1)
		for what, call := range map[string]func([]byte) (int, error){"read": near.Read, "write": far.Write} {
			if _, err := call(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// TestRealTime: the network also works on the real clock.
func TestRealTime(t *testing.T) {
	t.Parallel()
	n := New(Options{Link: Link{Latency: 2 * time.Millisecond, Jitter: time.Millisecond}, Redial: time.Millisecond})
	defer n.Close()
	a, b := two(t, n)
	b.serve = func(_ context.Context, _ ID, _ string, s *Stream) {
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	}
	text := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s, err := a.Open(t.Context(), b.id, fmt.Sprint(i))
			if err != nil {
				t.Error(err)
				return
			}
			all.Go(func() {
				_, _ = s.Write(text)
				_ = s.CloseWrite()
			})
			if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, text) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
}
