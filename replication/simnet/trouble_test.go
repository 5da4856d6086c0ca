package simnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

const (
	ms        = time.Millisecond
	deadAfter = 20 * time.Second
	redial    = time.Second
)

// slow is the network of most of these tests.
func slow() Options {
	return Options{Link: Link{Latency: 50 * ms}, DeadAfter: deadAfter, Redial: redial}
}

// lost checks that a node was told once, and when, that it lost a peer.
func (x *node) lost(t *testing.T, peer *node, since time.Time, least, most time.Duration) time.Time {
	t.Helper()
	list := x.news()
	if len(list) != 1 || list[0].peer != peer.id || list[0].up {
		t.Fatalf("%s was told %v", x.id, list)
	}
	if took := list[0].at.Sub(since); took < least || took > most {
		t.Errorf("%s is told after %v, not %v to %v", x.id, took, least, most)
	}
	return list[0].at
}

func TestConnecting(t *testing.T) {
	t.Parallel()
	first := make(map[ID]int)
	for seed := range uint64(20) {
		o := slow()
		o.Seed = seed
		bubble(t, o, func(t *testing.T, n *Network) { first[connecting(t, n)]++ })
	}
	if first[ID{'a'}] < 4 || first[ID{'b'}] < 4 {
		t.Errorf("who connected first: %v", first)
	}
}

func connecting(t *testing.T, n *Network) (first ID) {
	began := time.Now()
	a, b := join(n, 'a'), join(n, 'b')
	x, y := a.await(t, b, true).Sub(began), b.await(t, a, true).Sub(began)
	first = a.id
	if x > y {
		x, y, first = y, x, b.id
	}
	if x <= 100*ms || x > redial+100*ms+1 || y-x != 50*ms {
		t.Errorf("told after %v and %v", x, y)
	}
	if time.Sleep(time.Hour); len(a.news())+len(b.news()) != 2 {
		t.Error("told more than that")
	}
	if got := n.pair(a.id, b.id).made; got != 1 {
		t.Errorf("made %d connections", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("the same device joins again")
		}
	}()
	join(n, 'a')
	return first
}

// TestShortCut: what is held back arrives once mended, and nothing is lost.
func TestShortCut(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string]struct{ there, back bool }{"there": {true, false}, "back": {false, true}, "both": {true, true}} {
		for _, under := range []time.Duration{0, 30 * ms, 5 * time.Second} { // from writing to cutting
			t.Run(fmt.Sprint(name, " ", under), func(t *testing.T) {
				t.Parallel()
				bubble(t, slow(), func(t *testing.T, n *Network) {
					a, b := two(t, n)
					near, far := open(t, a, b, "p")
					there := func(text string) <-chan result {
						write(t, near, text)
						return start(func() (int, error) { return io.ReadFull(far, make([]byte, len(text))) })
					}
					back := func(text string) <-chan result {
						write(t, far, text)
						return start(func() (int, error) { return io.ReadFull(near, make([]byte, len(text))) })
					}
					began := time.Now()
					r := there("one")
					time.Sleep(under)
					if ways.there {
						n.Cut(a.id, b.id)
						n.Cut(a.id, b.id) // once more is nothing more
					}
					if ways.back {
						n.Cut(b.id, a.id)
					}
					arrives := func(what string, r <-chan result, sent, mended time.Time, stopped bool) {
						t.Helper()
						got := <-r
						want := sent.Add(50 * ms)
						if stopped {
							want = mended.Add(50 * ms)
						}
						if late := got.at.Sub(want); got.err != nil || late < 0 || late > 5 {
							t.Errorf("%s arrives %v late, %v", what, late, got.err)
						}
					}
					cut := time.Now()
					s, u := (<-chan result)(nil), back("other")
					if !ways.there || under > 50*ms {
						arrives("what was sent before", r, began, cut, false)
						r = nil
					}
					s = there("two")
					written := time.Now()
					time.Sleep(10 * time.Second)
					synctest.Wait()
					if got := len(s); (got == 0) != ways.there {
						t.Errorf("%d of 1 arrivals while cut", got)
					}
					if got := len(u); (got == 0) != ways.back {
						t.Errorf("%d of 1 arrivals the other way while cut", got)
					}
					n.Mend(a.id, b.id)
					n.Mend(b.id, a.id)
					mended := time.Now()
					v := there("three")
					if r != nil {
						arrives("what was under way", r, began, mended, ways.there)
					}
					arrives("what was sent then", s, written, mended, ways.there)
					arrives("what was sent back then", u, cut, mended, ways.back)
					arrives("what was sent later", v, mended, mended, false)
					time.Sleep(time.Hour)
					if list := append(a.news(), b.news()...); len(list) > 0 {
						t.Errorf("they are told %v", list)
					}
				})
			})
		}
	}
}

// TestLongCut: the connection dies on both sides, though one direction was open; it
// is made anew when mended, and what the old one held back does not come.
func TestLongCut(t *testing.T) {
	t.Parallel()
	for name, ways := range map[string]struct{ there, back bool }{"there": {true, false}, "back": {false, true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, 6, slow(), func(t *testing.T, n *Network) {
				a, b := two(t, n)
				near, far := open(t, a, b, "p")
				cut := time.Now()
				if ways.there {
					n.Cut(a.id, b.id)
				}
				if ways.back {
					n.Cut(b.id, a.id)
				}
				write(t, near, "into the void")
				write(t, far, "into the void")
				time.Sleep(time.Minute)
				a.lost(t, b, cut, 50*ms, deadAfter*5/4)
				b.lost(t, a, cut, 50*ms, deadAfter*5/4)
				for _, s := range []*Stream{near, far} {
					if _, err := io.ReadAll(s); err != ErrReset {
						t.Errorf("read: %v", err)
					}
					if _, err := s.Write([]byte("x")); err != ErrReset {
						t.Errorf("write: %v", err)
					}
				}
				if _, err := a.Open(t.Context(), b.id, "p"); !errors.Is(err, ErrNotConnected) {
					t.Errorf("open: %v", err)
				}
				there, _ := n.Delivered(a.id, b.id)
				back, _ := n.Delivered(b.id, a.id)
				if (there == 0) != ways.there || (back == 0) != ways.back {
					t.Errorf("delivered: %d bytes there, %d back", there, back)
				}
				n.Mend(a.id, b.id)
				n.Mend(b.id, a.id)
				mended := time.Now()
				for _, told := range []time.Time{a.await(t, b, true), b.await(t, a, true)} {
					if took := told.Sub(mended); took <= 100*ms || took > redial+150*ms+1 {
						t.Errorf("connected again after %v", took)
					}
				}
				near, far = open(t, a, b, "p")
				write(t, near, "fresh")
				if got := read(t, far, 5); got != "fresh" {
					t.Errorf("read %q", got)
				}
			})
		})
	}
}

// TestLongCutTakesItsTime: with both ways cut no word gets through, and each side
// gives up by itself; that one way is mended saves nothing.
func TestLongCutTakesItsTime(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		together := 0
		for seed := range uint64(10) {
			o := slow()
			o.Seed = seed
			bubble(t, o, func(t *testing.T, n *Network) {
				a, b := two(t, n)
				cut := time.Now()
				n.Cut(a.id, b.id)
				n.Cut(b.id, a.id)
				time.Sleep(10 * time.Second)
				if half {
					n.Mend(a.id, b.id)
				}
				time.Sleep(time.Minute)
				x, y := a.lost(t, b, cut, deadAfter, deadAfter*5/4), b.lost(t, a, cut, deadAfter, deadAfter*5/4)
				if apart := x.Sub(y).Abs(); apart <= 50*ms {
					together++
				}
			})
		}
		if together > 5 {
			t.Errorf("half mended %v: in %d of 10 runs both find out together", half, together)
		}
	}
}

// TestBriefCut: what was not to arrive while it lasts comes as if nothing had been.
func TestBriefCut(t *testing.T) {
	t.Parallel()
	bubble(t, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		write(t, near, "x")
		sent := time.Now()
		n.Cut(a.id, b.id)
		time.Sleep(20 * ms)
		n.Mend(a.id, b.id)
		if read(t, far, 1); time.Since(sent) != 50*ms {
			t.Errorf("arrives after %v", time.Since(sent))
		}
	})
}

// TestMendedBetween: one side has given up and the other has not when it is mended.
func TestMendedBetween(t *testing.T) {
	t.Parallel()
	each(t, 20, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		n.Cut(a.id, b.id)
		n.Cut(b.id, a.id)
		for !a.was() && !b.was() {
			time.Sleep(ms)
		}
		n.Mend(a.id, b.id)
		n.Mend(b.id, a.id)
		mended := time.Now()
		time.Sleep(time.Minute)
		for _, x := range []*node{a, b} {
			list := x.news()
			last := list[len(list)-1]
			if took := last.at.Sub(mended); !last.up || took > redial+200*ms {
				t.Errorf("%s is told %v, the last thing after %v", x.id, list, took)
			}
		}
		near, far := open(t, a, b, "p")
		write(t, near, "x")
		read(t, far, 1)
	})
}

// TestRateAfterMend: a mended link does not bring at once what takes it a while.
func TestRateAfterMend(t *testing.T) {
	t.Parallel()
	o := slow()
	o.Link.Rate = 1e6
	bubble(t, o, func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		n.Cut(a.id, b.id)
		_, err := near.Write(make([]byte, 200_000))
		ok(t, err)
		time.Sleep(5 * time.Second)
		n.Mend(a.id, b.id)
		mended := time.Now()
		read(t, far, 200_000)
		if took := time.Since(mended); took != 250*ms {
			t.Errorf("200,000 bytes at 1 MB/s arrive within %v", took)
		}
	})
}

func TestBreak(t *testing.T) {
	t.Parallel()
	each(t, 6, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		write(t, near, "never seen")
		r := start(func() (int, error) { return near.Read(make([]byte, 1)) })
		all, allFar := open(t, a, b, "all here")
		write(t, allFar, "text")
		ok(t, allFar.CloseWrite())
		time.Sleep(40 * ms)
		write(t, near, "under way")
		time.Sleep(10 * ms)
		broken := time.Now()
		n.Break(a.id, b.id)
		n.Break(b.id, a.id)
		time.Sleep(10 * ms)
		a.lost(t, b, broken, 1, ms+1)
		b.lost(t, a, broken, 1, ms+1)
		if got := <-r; got.err != ErrReset {
			t.Errorf("a blocked Read gives %v", got.err)
		}
		if got, err := io.ReadAll(far); err != ErrReset || len(got) > 0 {
			t.Errorf("the other end reads %q, %v", got, err)
		}
		if got, err := io.ReadAll(all); string(got) != "text" || err != nil {
			t.Errorf("of what had come in to its end can be read %q, %v", got, err)
		}
		if _, err := all.Write([]byte("x")); err != ErrReset {
			t.Errorf("write: %v", err)
		}
		a.await(t, b, true)
		b.await(t, a, true)
		near, far = open(t, a, b, "p")
		write(t, near, "seen")
		read(t, far, 4)
	})
}

// TestBreakWhileCut: they stay apart until mended.
func TestBreakWhileCut(t *testing.T) {
	t.Parallel()
	bubble(t, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		n.Cut(a.id, b.id)
		n.Break(a.id, b.id)
		now := time.Now()
		time.Sleep(time.Hour)
		a.lost(t, b, now, 1, ms+1)
		b.lost(t, a, now, 1, ms+1)
		n.Mend(a.id, b.id)
		a.await(t, b, true)
		b.await(t, a, true)
	})
}

// TestTwice: for a while there are two connections, with streams on each; then only
// those of the second live on. Nobody is told of a loss; of the second connection,
// some are, by seed.
func TestTwice(t *testing.T) {
	t.Parallel()
	told := 0
	for seed := range uint64(12) {
		o := slow()
		o.Seed = seed
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			oldNear, oldFar := open(t, a, b, "p")
			now := time.Now()
			n.Twice(b.id, a.id)
			time.Sleep(150*ms + 1) // until both have it, and none yet has lost the first
			near, far := open(t, a, b, "p")
			if near.end.c == oldNear.end.c {
				t.Error("a new stream is of the old connection")
			}
			write(t, near, "new")
			read(t, far, 3)
			r := start(func() (int, error) { return oldNear.Read(make([]byte, 10)) })
			s := start(func() (int, error) { return oldFar.Read(make([]byte, 10)) })
			for _, r := range []<-chan result{r, s} {
				if got := <-r; got.err != ErrReset || got.at.Sub(now) > overlap+200*ms+1 {
					t.Errorf("after %v the old stream gives %d, %v", got.at.Sub(now), got.n, got.err)
				}
			}
			write(t, far, "still")
			read(t, near, 5)
			for _, e := range append(a.news(), b.news()...) {
				if !e.up {
					t.Errorf("told of a loss: %v", e)
				}
				told++
			}
			n.Break(a.id, b.id)
			n.Twice(a.id, b.id) // nothing: their connection is about to go
			broken := time.Now()
			time.Sleep(2 * ms)
			a.lost(t, b, broken, 1, ms+1)
			b.lost(t, a, broken, 1, ms+1)
		})
	}
	if told < 4 || told > 20 {
		t.Errorf("of 24 sides %d are told of the second connection", told)
	}
}

// TestTwiceIsTwo: streams of both connections work beside each other.
func TestTwiceIsTwo(t *testing.T) {
	t.Parallel()
	both := 0
	for seed := range uint64(12) {
		o := slow()
		o.Seed = seed
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			oldNear, oldFar := open(t, a, b, "p")
			n.Twice(a.id, b.id)
			time.Sleep(500 * ms)
			near, far := open(t, a, b, "p")
			write(t, near, "new")
			read(t, far, 3)
			if _, err := oldNear.Write([]byte("old")); err == nil {
				if n, err := io.ReadFull(oldFar, make([]byte, 3)); n == 3 && err == nil {
					both++
				}
			}
		})
	}
	if both < 6 {
		t.Errorf("in %d of 12 runs only both connections carry streams", both)
	}
}

// TestLeave: the one who leaves is gone at once; the other, who writes, learns of it
// by word or by silence, and writes into the void until then.
func TestLeave(t *testing.T) {
	t.Parallel()
	word, silence := 0, 0
	for seed := range uint64(30) {
		o := slow()
		o.Seed = seed
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			near, far := open(t, a, b, "p")
			w := start(func() (int, error) {
				total := 0
				for {
					k, err := near.Write(make([]byte, 1000))
					total += k
					if err != nil {
						return total, err
					}
					time.Sleep(40 * ms)
				}
			})
			r := start(func() (int, error) { k, err := io.Copy(io.Discard, far); return int(k), err })
			time.Sleep(time.Second)
			if b.serving() != 1 {
				t.Fatal("nothing is served")
			}
			left := time.Now()
			b.Leave()
			if b.serving() != 0 {
				t.Error("Leave returns before Serve")
			}
			got := <-r
			if got.err != ErrReset || got.at != left {
				t.Errorf("Read gives %v after %v", got.err, got.at.Sub(left))
			}
			if _, err := b.Open(t.Context(), a.id, "p"); !errors.Is(err, ErrNotConnected) {
				t.Errorf("open: %v", err)
			}
			b.Leave()
			end := <-w
			if end.err != ErrReset || end.n <= got.n {
				t.Errorf("of %d bytes written %d came in; %v", end.n, got.n, end.err)
			}
			time.Sleep(time.Hour)
			switch took := end.at.Sub(left); {
			case took < 100*ms:
				word++
				a.lost(t, b, left, 50*ms, 50*ms)
			default:
				silence++
				a.lost(t, b, left, 50*ms, deadAfter)
			}
			if list := b.news(); len(list) > 0 {
				t.Errorf("who left is told %v", list)
			}
		})
	}
	if word < 5 || silence < 5 {
		t.Errorf("told by word %d times, by silence %d times", word, silence)
	}
}

// TestLeaveWhileCut: whatever is mended, the other side finds out.
func TestLeaveWhileCut(t *testing.T) {
	t.Parallel()
	each(t, 10, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, _ := open(t, a, b, "p")
		n.Cut(b.id, a.id)
		n.Cut(a.id, b.id)
		time.Sleep(time.Second)
		left := time.Now()
		b.Leave()
		time.Sleep(100 * ms)
		if a.was() {
			t.Error("word gets through a cut")
		}
		n.Mend(b.id, a.id)
		n.Mend(a.id, b.id)
		time.Sleep(time.Hour)
		a.lost(t, b, left, 150*ms, deadAfter)
		if _, err := near.Write([]byte("x")); err != ErrReset {
			t.Errorf("write: %v", err)
		}
	})
}

// TestLeaveWhileBlocked: a writer without room, and an Open under way, on both sides.
func TestLeaveWhileBlocked(t *testing.T) {
	t.Parallel()
	each(t, 6, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		near, far := open(t, a, b, "p")
		w := start(func() (int, error) { return near.Write(make([]byte, 1<<20)) })
		v := start(func() (int, error) { return far.Write(make([]byte, 1<<20)) })
		time.Sleep(time.Second)
		x := start(func() (int, error) { _, err := a.Open(t.Context(), b.id, "p"); return 0, err })
		y := start(func() (int, error) { _, err := b.Open(t.Context(), a.id, "p"); return 0, err })
		synctest.Wait()
		left := time.Now()
		b.Leave()
		for what, r := range map[string]<-chan result{"write here": v, "open here": y, "write there": w, "open there": x} {
			got := <-r
			if took := got.at.Sub(left); !errors.Is(got.err, ErrReset) || took > deadAfter || (what == "write here" || what == "open here") && took > 0 {
				t.Errorf("%s: %v after %v", what, got.err, took)
			}
		}
	})
}

// TestJoinAgain: who comes back is connected soon, though the other side may not
// have found out yet that it had left.
func TestJoinAgain(t *testing.T) {
	t.Parallel()
	twice := 0
	for seed := range uint64(20) {
		o := slow()
		o.Seed = seed
		bubble(t, o, func(t *testing.T, n *Network) {
			a, b := two(t, n)
			old, _ := open(t, a, b, "p")
			b.Leave()
			b = join(n, 'b')
			b.await(t, a, true)
			time.Sleep(50 * ms)
			if len(n.pair(a.id, b.id).conns) == 2 {
				twice++
			}
			near, far := open(t, a, b, "p")
			write(t, near, "x")
			read(t, far, 1)
			if _, err := old.Read(make([]byte, 1)); err != ErrReset {
				t.Errorf("the old stream gives %v", err)
			}
			time.Sleep(time.Hour)
			if list := a.news(); len(list) > 0 && !list[len(list)-1].up {
				t.Errorf("told last of a loss: %v", list)
			}
			if got := len(n.pair(a.id, b.id).conns); got != 1 {
				t.Errorf("%d connections in the end", got)
			}
		})
	}
	if twice < 3 {
		t.Errorf("in %d of 20 runs only is the old connection still there on one side", twice)
	}
}

// TestClose: it waits for what hosts do, and can be done by several, and again.
func TestClose(t *testing.T) {
	t.Parallel()
	bubble(t, slow(), func(t *testing.T, n *Network) {
		a, b := two(t, n)
		b.serve = func(ctx context.Context, _ ID, _ string, s *Stream) {
			_, err := io.Copy(io.Discard, s)
			if <-ctx.Done(); err != ErrReset {
				t.Errorf("read: %v", err)
			}
			time.Sleep(time.Second)
		}
		near, err := a.Open(t.Context(), b.id, "p")
		ok(t, err)
		began := time.Now()
		other := start(func() (int, error) { n.Close(); return b.serving(), nil })
		n.Close()
		if b.serving() > 0 || time.Since(began) != time.Second {
			t.Errorf("%d are being served after Close, which took %v", b.serving(), time.Since(began))
		}
		if r := <-other; r.n > 0 {
			t.Error("the other Close has not waited")
		}
		n.Close()
		if _, err := near.Write([]byte("x")); err != ErrReset {
			t.Errorf("write: %v", err)
		}
		if _, err := a.Open(t.Context(), b.id, "p"); !errors.Is(err, ErrNotConnected) {
			t.Errorf("open: %v", err)
		}
		if list := append(a.news(), b.news()...); len(list) > 0 {
			t.Errorf("told %v", list)
		}
		defer func() {
			if recover() == nil {
				t.Error("a device joins after Close")
			}
		}()
		join(n, 'c')
	})
}

// TestContexts: that of Serve ends with the connection of its stream.
func TestContexts(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(n *Network, a, b *node){
		"break":     func(n *Network, a, b *node) { n.Break(a.id, b.id) },
		"leave":     func(_ *Network, _, b *node) { b.Leave() },
		"peer left": func(_ *Network, a, _ *node) { a.Leave() },
		"close":     func(n *Network, _, _ *node) { n.Close() },
		"cut":       func(n *Network, a, b *node) { n.Cut(a.id, b.id) },
		"twice":     func(n *Network, a, b *node) { n.Twice(a.id, b.id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, slow(), func(t *testing.T, n *Network) {
				a, b := two(t, n)
				ended := make(chan struct{})
				b.serve = func(ctx context.Context, _ ID, _ string, _ *Stream) {
					<-ctx.Done()
					close(ended)
				}
				_, err := a.Open(t.Context(), b.id, "p")
				ok(t, err)
				select {
				case <-ended:
					t.Error("ended before")
				default:
				}
				end(n, a, b)
				<-ended
			})
		})
	}
}

// TestSlowHost: a host that takes its time to be told is told in order, and holds up
// nobody but itself.
func TestSlowHost(t *testing.T) {
	t.Parallel()
	bubble(t, slow(), func(t *testing.T, n *Network) {
		a := join(n, 'a')
		x := &sluggish{}
		n.Join(ID{'x'}, x)
		a.await(t, &node{Port: &Port{id: ID{'x'}}}, true)
		time.Sleep(time.Second)
		n.Break(ID{'x'}, a.id)
		time.Sleep(10 * time.Second)
		if got := len(a.news()); got != 3 {
			t.Errorf("its peer was told %d things", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := fmt.Sprint(x.told); got != "[true false true]" {
			t.Errorf("it was told %s", got)
		}
	})
}

type sluggish struct{ told []bool }

func (x *sluggish) Connected(ID) { time.Sleep(time.Minute); x.told = append(x.told, true) }

func (x *sluggish) Disconnected(ID) { time.Sleep(time.Minute); x.told = append(x.told, false) }

func (x *sluggish) Serve(context.Context, ID, string, *Stream) {}
