package replication

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// fill creates n files in directories of 50.
func (x *memIndex) fill(t testing.TB, prefix string, n int) {
	t.Helper()
	var dir crdt.EntryID
	for i := 0; i < n; i += 50 {
		dir = x.mkdir(t, crdt.Root, fmt.Sprintf("%s-%d", prefix, i/50))
		x.record(t, func(r *crdt.Recorder) {
			for j := i; j < min(n, i+50); j++ {
				if _, err := r.Create(crdt.Location{Parent: dir, Name: fmt.Sprint(j)}, crdt.File, oneBlock([]byte(prefix+fmt.Sprint(j))), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestTwoConverge(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	a.index.fill(t, "a", 2500)
	b.index.fill(t, "b", 700)
	n.connect(a, b)
	inStep(t, a, b)

	// Live: a change on either side arrives without anything else happening.
	a.index.create(t, crdt.Root, "later", oneBlock([]byte("later")))
	inStep(t, a, b)
	b.index.create(t, crdt.Root, "later still", oneBlock([]byte("x")))
	inStep(t, a, b)

	// Both come to know that the other is in step.
	eventually(t, "progress", func() bool {
		pa, pb := a.index.peer(b.id), b.index.peer(a.id)
		return pa.Applied == a.index.Seq() && pa.Settled == a.index.Seq() && pb.Applied == b.index.Seq() && pb.Settled == b.index.Seq()
	})
	// Nothing is echoed: each device was given what the other made, once.
	if got, want := a.index.applied, 700+14+1; got != want {
		t.Errorf("a was given %d entries, want %d", got, want)
	}
	if got, want := b.index.applied, 2500+50+1; got != want {
		t.Errorf("b was given %d entries, want %d", got, want)
	}
	if h, want := a.index.Heads(), b.index.Heads(); len(h) != 2 || !h.Includes(want) || !want.Includes(h) {
		t.Errorf("heads %v and %v", h, want)
	}
}

func TestForwarding(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b, c := n.device('a', quick()), n.device('b', quick()), n.device('c', quick())
	n.connect(a, b)
	n.connect(b, c)
	a.index.fill(t, "a", 120)
	c.index.fill(t, "c", 120)
	inStep(t, a, b, c)
	a.index.create(t, crdt.Root, "same", oneBlock([]byte("one")))
	c.index.create(t, crdt.Root, "same", oneBlock([]byte("two")))
	inStep(t, a, b, c)
}

// A session that breaks anywhere goes on where it was.
func TestCutAndResume(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	a.index.fill(t, "a", 8000)
	rng := rand.New(rand.NewPCG(1, 1))
	n.mu.Lock()
	n.cuts[wire.IndexProtocol] = 300 << 10 // each stream dies after that
	n.mu.Unlock()
	n.connect(a, b)
	for range 20 { // and at other times too
		time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
		n.reset(a, b)
	}
	n.mu.Lock()
	delete(n.cuts, wire.IndexProtocol)
	n.mu.Unlock()
	inStep(t, a, b)
	a.index.mu.Lock()
	sent := a.index.sentOut
	a.index.mu.Unlock()
	if streams := n.count(wire.IndexProtocol); streams < 5 {
		t.Errorf("only %d streams: nothing was cut", streams)
	}
	// Every cut may cost what was unconfirmed, never all from the start.
	if b.index.applied > 8160+20*1000 || b.index.applied < 8160 {
		t.Errorf("b was given %d entries for 8160", b.index.applied)
	}
	t.Logf("%d entries sent, %d applied, for 8160, over %d streams", sent, b.index.applied, n.count(wire.IndexProtocol))
}

func TestCutProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := newNetwork(t)
		ds := []*device{n.device('a', quick()), n.device('b', quick()), n.device('c', quick())}
		defer func() {
			for _, d := range ds {
				d.stop()
				d.running.Wait()
			}
		}()
		n.connect(ds[0], ds[1])
		n.connect(ds[1], ds[2])
		steps := rapid.IntRange(1, 30).Draw(rt, "steps")
		for i := range steps {
			d := ds[rapid.IntRange(0, 2).Draw(rt, "device")]
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				d.index.create(t, crdt.Root, fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "name"), "-", i), oneBlock([]byte(fmt.Sprint(i))))
			case 1:
				n.reset(ds[1], ds[rapid.SampledFrom([]int{0, 2}).Draw(rt, "peer")])
			case 2:
				s := d.sessions[ds[1].id]
				if s == nil {
					s = d.sessions[ds[0].id]
				}
				s.SetFolders([]Folder{{Index: d.index, Paused: true}})
				s.SetFolders([]Folder{{Index: d.index}})
			case 3:
				n.mu.Lock()
				n.cuts[wire.IndexProtocol] = rapid.IntRange(0, 2000).Draw(rt, "cut")
				n.mu.Unlock()
			}
		}
		n.mu.Lock()
		clear(n.cuts)
		n.mu.Unlock()
		inStep(t, ds...)
		for _, d := range ds {
			if len(d.violations) > 0 {
				rt.Fatalf("violation: %v", d.violations[0])
			}
		}
	})
}

func TestPauseAndRemove(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	a.index.create(t, crdt.Root, "1", oneBlock([]byte("1")))
	inStep(t, a, b)
	block := a.source.put([]byte("content"))[0]

	for _, off := range [][]Folder{{{Index: a.index, Paused: true}}, nil} {
		s := a.sessions[b.id]
		s.SetFolders(off)
		eventually(t, "b has no source", func() bool {
			_, err := b.get(t.Context(), wantOf(block))
			return errors.Is(err, ErrNoSource)
		})
		seq := b.index.Seq()
		seqA := a.index.Seq()
		a.index.create(t, crdt.Root, fmt.Sprintf("while off %d", seq), oneBlock([]byte("2")))
		b.index.create(t, crdt.Root, fmt.Sprintf("there %d", seq), oneBlock([]byte("3")))
		time.Sleep(50 * time.Millisecond)
		if b.index.Seq() != seq+1 || a.index.Seq() != seqA+1 {
			t.Fatalf("something was sent while the folder was off")
		}
		s.SetFolders([]Folder{{Index: a.index}})
		inStep(t, a, b)
		eventually(t, "b has a source again", func() bool {
			_, err := b.get(t.Context(), wantOf(block))
			return err == nil
		})
	}
}

// Rights are asked again for every batch.
func TestRightsTakenAway(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	a.index.create(t, crdt.Root, "1", oneBlock([]byte("1")))
	inStep(t, a, b)

	// b may no longer read: a stops in the middle.
	a.rights.mu.Lock()
	a.rights.deny[b.id] = [2]bool{true, false}
	a.rights.mu.Unlock()
	a.index.create(t, crdt.Root, "2", oneBlock([]byte("2")))
	time.Sleep(50 * time.Millisecond)
	if b.index.Seq() != 1 {
		t.Fatal("an entry was sent to a device that may not read it")
	}
	block := a.source.put([]byte("content"))[0]
	if _, err := b.get(t.Context(), wantOf(block)); !errors.Is(err, ErrNoSource) {
		t.Fatalf("a block was served to a device that may not read it: %v", err)
	}
	a.rights.mu.Lock()
	clear(a.rights.deny)
	a.rights.mu.Unlock()
	a.sessions[b.id].SetFolders([]Folder{{Index: a.index}})
	inStep(t, a, b)

	// a may no longer write: b refuses what comes.
	b.rights.mu.Lock()
	b.rights.deny[a.id] = [2]bool{false, true}
	b.rights.mu.Unlock()
	a.index.create(t, crdt.Root, "3", oneBlock([]byte("3")))
	eventually(t, "the violation", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.violations) == 1 && errors.Is(b.violations[0], ErrForbidden) && b.violations[0].Folder == testFolder
	})
	if b.index.Seq() != 2 {
		t.Fatal("a forbidden entry was applied")
	}
	b.rights.mu.Lock()
	clear(b.rights.deny)
	b.rights.mu.Unlock()
	b.sessions[a.id].SetFolders([]Folder{{Index: b.index}})
	inStep(t, a, b)
}

// Trouble of our own store is not the peer's fault and is tried again.
func TestApplyRetries(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	b.index.failing = errors.New("disk full")
	n.connect(a, b)
	a.index.fill(t, "a", 100)
	time.Sleep(30 * time.Millisecond)
	b.index.mu.Lock()
	b.index.failing = nil
	b.index.mu.Unlock()
	inStep(t, a, b)
	if len(b.violations) != 0 {
		t.Errorf("violations: %v", b.violations)
	}
}

// A store that has gone back behind what it once sent sends all again, under
// its new ID or under the old one.
// TestPeerBegunAnew: a peer that has lost its store, and comes back before its old
// connection was missed, gets all again, also what it had sent itself.
func TestPeerBegunAnew(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	dir := b.index.mkdir(t, crdt.Root, "d")
	inStep(t, a, b)
	a.index.create(t, dir, "f", crdt.Content{Hash: crdt.ContentHash{1}, Size: 1, Blocks: 1})
	inStep(t, a, b)

	b.mu.Lock()
	end := b.ends[a.id]
	b.mu.Unlock()
	end() // a does not hear of it
	b.store, b.index = StoreID{'b', 0xfe}, newIndex(testFolder, 'c')
	s := b.session(a)
	b.mu.Lock()
	b.sessions[a.id] = s
	b.mu.Unlock()
	b.running.Go(func() { _ = s.Run(b.ctx) })
	n.reset(a, b)
	inStep(t, a, b)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.violations)+len(b.violations) > 0 {
		t.Errorf("violations: %v, %v", a.violations, b.violations)
	}
}

func TestStoreGoneBack(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	b.index.cursors[a.store] = 99 // applied of a store that a has lost since
	n.connect(a, b)
	a.index.fill(t, "a", 60)
	inStep(t, a, b)
	eventually(t, "cursor", func() bool {
		c, _ := b.index.Cursor(a.id, a.store)
		return c == a.index.Seq()
	})
}

func TestListsTravel(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.connect(a, b)
	var l chunk.List
	for i := range 3 {
		l = append(l, chunk.Block{Hash: chunk.Sum([]byte{byte(i)}), Size: 1})
	}
	c := crdt.Content{Hash: l.Content(), Size: 3, Blocks: 3}
	a.index.mu.Lock()
	a.index.lists[c.Hash] = l
	a.index.mu.Unlock()
	a.index.create(t, crdt.Root, "big", c)
	inStep(t, a, b)
	b.index.mu.Lock()
	defer b.index.mu.Unlock()
	if got := b.index.lists[c.Hash]; len(got) != 3 {
		t.Errorf("the list did not come along: %v", got)
	}
}

// Settled never runs ahead of what the disk shows.
func TestSettled(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	b.index.settle = false
	n.connect(a, b)
	a.index.fill(t, "a", 60)
	inStep(t, a, b)
	eventually(t, "applied", func() bool { return a.index.peer(b.id).Applied == a.index.Seq() })
	if p := a.index.peer(b.id); p.Settled != 0 {
		t.Fatalf("settled %d of %d before the disk shows anything", p.Settled, a.index.Seq())
	}
	b.index.mu.Lock()
	b.index.progress.Settled = b.index.seq
	b.index.wake()
	b.index.mu.Unlock()
	eventually(t, "settled", func() bool { return a.index.peer(b.id).Settled == a.index.Seq() })
}

func TestVersionMismatch(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	near, far := newStreams(link{}, link{})
	go func() {
		_ = wire.WriteMsg(far, map[int]any{1: 7, 2: "sheaf 9.9", 17: "unknown"}, 1000)
	}()
	err := a.session(b).ServeIndex(t.Context(), near)
	var v *wire.VersionError
	if !errors.As(err, &v) || v.Theirs != 7 || v.Ours != wire.Version || v.Program != `"sheaf 9.9"` {
		t.Fatalf("got %v", err)
	}
}

// Two sessions that have nothing to say send keep-alives and nothing else.
func TestIdle(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b := n.device('a', Timing{}), n.device('b', Timing{})
		n.connect(a, b)
		a.index.fill(t, "a", 60)
		inStep(t, a, b)
		time.Sleep(time.Minute)
		before := a.sessions[b.id].Traffic().Index
		time.Sleep(time.Hour)
		after := a.sessions[b.id].Traffic().Index
		// Every 30 s, four bytes on each of two streams.
		if sent := after.Sent - before.Sent; sent < 120*4 || sent > 2*120*4 {
			t.Errorf("an idle session sent %d bytes in an hour", sent)
		}
		if got := n.count(wire.IndexProtocol); got != 2 {
			t.Errorf("%d index streams were opened: an idle one died", got)
		}
		if !maps.Equal(a.index.state(), b.index.state()) {
			t.Error("not in step")
		}
	})
}
