package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// twoFolders gives a device b with a second folder beside testFolder, and a
// peer a that answers by script.
func twoFolders(t *testing.T) (n *network, a, b *device, second *memIndex) {
	n = newNetwork(t)
	a, b = n.device('a', quick()), n.device('b', quick())
	second = newIndex(crdt.FolderID{9}, 'z')
	return n, a, b, second
}

// A liar publishes batches of its own making. It gives the subscriptions it
// sees to script, once all of them are there.
func liar(folders int, script func(c io.Writer, subs map[wire.ID]*wire.Subscribe)) func(string, Stream) {
	return func(protocol string, s Stream) {
		defer func() { _ = s.Reset() }()
		if protocol != wire.IndexProtocol {
			return
		}
		r := bufio.NewReader(s)
		if _, err := wire.ReadHello(r); err != nil {
			return
		}
		if err := wire.WriteHello(s, wire.Hello{Program: "liar", Store: wire.ID{7}}); err != nil {
			return
		}
		subs := map[wire.ID]*wire.Subscribe{}
		for {
			var m wire.IndexUp
			if err := wire.ReadMsg(r, &m, wire.MaxIndexUp); err != nil {
				return
			}
			if m.Subscribe != nil {
				subs[m.Subscribe.Folder] = m.Subscribe
				if len(subs) == folders {
					script(s, subs)
					subs = map[wire.ID]*wire.Subscribe{} // once
				}
			}
		}
	}
}

func send(w io.Writer, b *wire.Batch) {
	_ = wire.WriteMsg(w, wire.IndexDown{Batch: b}, 1<<30)
}

// goodEntries makes entries that a receiver takes.
func goodEntries(t testing.TB, n int) (entries [][]byte, contents []crdt.ContentHash) {
	x := newIndex(testFolder, 'q')
	for i := range n {
		x.create(t, crdt.Root, fmt.Sprint("f", i), oneBlock([]byte(fmt.Sprint(i))))
	}
	b, err := x.After(0, 1000, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range b.Entries {
		entries = append(entries, e.Encode(nil))
		contents = append(contents, e.Shown().Content)
	}
	return entries, contents
}

// Whatever a publisher sends of one folder that it must not, costs it that
// folder alone, and is reported once.
func TestHostileBatches(t *testing.T) {
	t.Parallel()
	good, _ := goodEntries(t, 3)
	child := newIndex(testFolder, 'c')
	dir := child.mkdir(t, crdt.Root, "d")
	child.create(t, dir, "orphan", oneBlock(nil))
	withChild, _ := child.After(0, 1000, 1<<20)
	orphan := withChild.Entries[1].Encode(nil)
	// named gives an entry, right but for its name.
	named := func(name string) []byte {
		e := withChild.Entries[0]
		e.Place.Name, e.Place.From.Name = name, name
		return e.Encode(nil)
	}
	list := chunk.List{{Hash: chunk.Sum([]byte("1")), Size: 1}, {Hash: chunk.Sum([]byte("2")), Size: 1}}
	listed := newIndex(testFolder, 'l')
	listed.create(t, crdt.Root, "two blocks", crdt.Content{Hash: list.Content(), Size: 2, Blocks: 2})
	two, _ := listed.After(0, 1000, 1<<20)
	listed.create(t, crdt.Root, "lies about its size", crdt.Content{Hash: list.Content(), Size: 3, Blocks: 2})
	three, _ := listed.After(1, 1000, 1<<20)

	for name, make := range map[string]func(b *wire.Batch){
		"garbage for an entry":   func(b *wire.Batch) { b.Entries = [][]byte{{1, 2, 3}} },
		"an entry cut off":       func(b *wire.Batch) { b.Entries = [][]byte{good[0][:len(good[0])-1]} },
		"an entry with a tail":   func(b *wire.Batch) { b.Entries = [][]byte{append(bytes.Clone(good[0]), 0)} },
		"a name that leads out":  func(b *wire.Batch) { b.Entries = [][]byte{good[0], named("../../evil")} },
		"the parent for a name":  func(b *wire.Batch) { b.Entries = [][]byte{good[0], named("..")} },
		"an absolute name":       func(b *wire.Batch) { b.Entries = [][]byte{good[0], named("/etc/passwd")} },
		"a name with a NUL":      func(b *wire.Batch) { b.Entries = [][]byte{good[0], named("a\x00b")} },
		"a name of 256 bytes":    func(b *wire.Batch) { b.Entries = [][]byte{good[0], named(strings.Repeat("n", 256))} },
		"an orphan":              func(b *wire.Batch) { b.Entries = [][]byte{good[0], orphan} },
		"a gap":                  func(b *wire.Batch) { b.Entries, b.After = good, 5 },
		"going backwards":        func(b *wire.Batch) { b.After, b.Next = 0, 0; b.Entries = good },
		"a list of nothing here": func(b *wire.Batch) { b.Entries, b.Lists = good, [][]byte{list.Encode()} },
		"a list that does not add": func(b *wire.Batch) {
			b.Entries, b.Lists = [][]byte{three.Entries[0].Encode(nil)}, [][]byte{list.Encode()}
		},
		"a list of garbage": func(b *wire.Batch) {
			b.Entries, b.Lists = [][]byte{two.Entries[0].Encode(nil)}, [][]byte{{1, 2, 3}}
		},
		"heads out of order": func(b *wire.Batch) {
			b.Heads = wire.Heads{Replicas: bytes.Repeat([]byte{9}, 16), Counters: []uint64{1, 1}}
		},
		"heads of odd length": func(b *wire.Batch) { b.Heads = wire.Heads{Replicas: []byte{9}, Counters: []uint64{1}} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, a, b, second := twoFolders(t)
			n.hostile[a.id] = liar(2, func(w io.Writer, subs map[wire.ID]*wire.Subscribe) {
				bad := &wire.Batch{Folder: wire.ID(testFolder), Sub: subs[wire.ID(testFolder)].Sub, Next: 10}
				make(bad)
				send(w, bad)
				// What follows in the bad folder is not taken, the other folder is.
				send(w, &wire.Batch{Folder: wire.ID(testFolder), Sub: bad.Sub, Next: 20, Entries: good})
				send(w, &wire.Batch{Folder: wire.ID(second.id), Sub: subs[wire.ID(second.id)].Sub, Next: 10, Entries: good})
			})
			s := b.session(a)
			s.SetFolders([]Folder{{Index: b.index}, {Index: second}})
			ctx, cancel := context.WithCancel(t.Context())
			b.running.Go(func() { _ = s.Run(ctx) })
			defer cancel()
			eventually(t, "the other folder", func() bool { return second.Seq() == 3 })
			eventually(t, "the report", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.violations) > 0
			})
			n.mu.Lock()
			for _, x := range n.streams[pairOf(a.id, b.id)] {
				_ = x.Reset() // a new stream makes no difference
			}
			n.mu.Unlock()
			eventually(t, "a new stream", func() bool {
				return n.count(wire.IndexProtocol) > 1
			})
			time.Sleep(10 * time.Millisecond)
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.violations) != 1 || b.violations[0].Folder != testFolder || b.violations[0].Peer != a.id {
				t.Errorf("violations: %v", b.violations)
			}
			if b.index.Seq() != 0 {
				t.Error("something of the bad folder was applied")
			}
			t.Log(b.violations[0])
		})
	}
}

// Batches of a subscription that has ended meanwhile are nobody's fault, and
// must not move the cursor of the next one.
func TestStaleBatches(t *testing.T) {
	t.Parallel()
	n, a, b, _ := twoFolders(t)
	good, _ := goodEntries(t, 3)
	var old atomic.Uint64
	n.hostile[a.id] = liar(1, func(w io.Writer, subs map[wire.ID]*wire.Subscribe) {
		sub := subs[wire.ID(testFolder)]
		if old.Load() == 0 {
			old.Store(sub.Sub)
			_ = wire.WriteMsg(w, wire.IndexDown{Status: &wire.Status{Folder: sub.Folder, Sub: sub.Sub, State: wire.Available}}, 1000)
			return
		}
		if sub.Sub == old.Load() {
			t.Error("the folder was not subscribed to anew")
		}
		send(w, &wire.Batch{Folder: sub.Folder, Sub: old.Load(), After: 5, Next: 9, Entries: good})
		send(w, &wire.Batch{Folder: sub.Folder, Sub: old.Load(), After: sub.Cursor, Next: 9, Entries: good[:1]})
		send(w, &wire.Batch{Folder: sub.Folder, Sub: sub.Sub, After: sub.Cursor, Next: 3, Entries: good})
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := b.session(a)
	b.running.Go(func() { _ = s.Run(ctx) })
	eventually(t, "the batch that counts", func() bool { return b.index.Seq() == 3 })
	b.index.mu.Lock()
	if b.index.batches != 1 || b.index.cursors[StoreID{7}] != 3 {
		t.Errorf("%d batches were applied, cursor %d", b.index.batches, b.index.cursors[StoreID{7}])
	}
	b.index.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.violations) != 0 {
		t.Errorf("violations: %v", b.violations)
	}
}

// What breaks the stream's own form ends the session with a report.
func TestHostileIndexFrames(t *testing.T) {
	t.Parallel()
	good, _ := goodEntries(t, 1)
	for name, script := range map[string]func(w io.Writer, sub *wire.Subscribe){
		"a frame too long": func(w io.Writer, _ *wire.Subscribe) { _, _ = w.Write(binary.AppendUvarint(nil, 1<<33)) },
		"no CBOR":          func(w io.Writer, _ *wire.Subscribe) { _, _ = w.Write([]byte{3, 0xff, 0xff, 0xff}) },
		"an unknown field": func(w io.Writer, _ *wire.Subscribe) { _ = wire.WriteMsg(w, map[int]int{99: 1}, 100) },
		"nothing":          func(w io.Writer, _ *wire.Subscribe) { _ = wire.WriteMsg(w, map[int]int{}, 100) },
		"too many entries": func(w io.Writer, s *wire.Subscribe) {
			send(w, &wire.Batch{Folder: s.Folder, Sub: s.Sub, Next: 2000, Entries: make([][]byte, 1001)})
		},
		"a flood past the window": func(w io.Writer, s *wire.Subscribe) {
			for i := range 100 {
				send(w, &wire.Batch{Folder: s.Folder, Sub: s.Sub, After: uint64(i), Next: uint64(i + 1), Entries: good})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, a, b, _ := twoFolders(t)
			gate := make(chan struct{})
			b.index.applying = func(Batch) { <-gate }
			n.hostile[a.id] = liar(1, func(w io.Writer, subs map[wire.ID]*wire.Subscribe) {
				script(w, subs[wire.ID(testFolder)])
			})
			time.AfterFunc(200*time.Millisecond, func() { close(gate) })
			err := b.session(a).Run(t.Context())
			var v *Violation
			if !errors.As(err, &v) || v.Folder != (crdt.FolderID{}) || v.Peer != a.id {
				t.Fatalf("got %v", err)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			if len(b.violations) != 1 {
				t.Errorf("%d reports", len(b.violations))
			}
			t.Log(err)
		})
	}
}

// A subscriber that breaks the rules loses its stream; unknown folders and
// wild numbers are met with silence.
func TestHostileSubscriber(t *testing.T) {
	t.Parallel()
	n, a, b, _ := twoFolders(t)
	b.index.fill(t, "b", 60)
	s := b.session(a)
	near, far := newStreams(link{}, link{})
	ended := make(chan error, 1)
	go func() { ended <- s.ServeIndex(t.Context(), far) }()
	if err := wire.WriteHello(near, wire.Hello{}); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(near)
	if h, err := wire.ReadHello(r); err != nil || StoreID(h.Store) != b.store {
		t.Fatal(h, err)
	}
	up := func(m wire.IndexUp) {
		t.Helper()
		if err := wire.WriteMsg(near, m, wire.MaxIndexUp); err != nil {
			t.Fatal(err)
		}
	}
	up(wire.IndexUp{Progress: &wire.Progress{Folder: wire.ID{5}, Applied: 1 << 60}})
	up(wire.IndexUp{Unsubscribe: &wire.Unsubscribe{Folder: wire.ID{5}}})
	up(wire.IndexUp{Subscribe: &wire.Subscribe{Folder: wire.ID{5}, Sub: 1}})
	up(wire.IndexUp{Subscribe: &wire.Subscribe{Folder: wire.ID(testFolder), Sub: 2, Cursor: 10, Settled: 1 << 60}})
	var batches, statuses int
	for batches == 0 {
		var m wire.IndexDown
		if err := wire.ReadMsg(r, &m, wire.MaxIndexDown); err != nil {
			t.Fatal(err)
		}
		if m.Status != nil {
			statuses++
			if known := crdt.FolderID(m.Status.Folder) == testFolder; known != (m.Status.State == wire.Open) {
				t.Errorf("status %+v", m.Status)
			}
		}
		if m.Batch != nil {
			batches++
			if m.Batch.After != 10 || m.Batch.Next != b.index.Seq() {
				t.Errorf("batch from %d to %d", m.Batch.After, m.Batch.Next)
			}
		}
	}
	// It claims to have what it was never sent: not believed.
	up(wire.IndexUp{Progress: &wire.Progress{Folder: wire.ID(testFolder), Applied: 1 << 60, Settled: 1 << 61, Have: 77}})
	eventually(t, "the progress", func() bool { return b.index.peer(a.id).Have == 77 })
	if p := b.index.peer(a.id); p.Applied > b.index.Seq() || p.Settled > p.Applied {
		t.Errorf("believed %+v", p)
	}
	if _, err := near.Write([]byte{2, 0x20, 0x20}); err != nil {
		t.Fatal(err)
	}
	var format *wire.FormatError
	if err := <-ended; !errors.As(err, &format) {
		t.Errorf("ended with %v", err)
	}
	_ = n
}

// A subscriber that does not read holds up nobody else, and is given up in the
// end.
func TestSlowReader(t *testing.T) {
	bubble(t, func(t *testing.T, n *network) {
		a, b, c := n.device('a', Timing{}), n.device('b', Timing{}), n.device('c', Timing{})
		a.index.fill(t, "a", 3000)
		s := a.session(b)
		near, far := newStreams(link{}, link{})
		ended := make(chan error, 1)
		go func() { ended <- s.ServeIndex(t.Context(), far) }()
		_ = wire.WriteHello(near, wire.Hello{})
		_ = wire.WriteMsg(near, wire.IndexUp{Subscribe: &wire.Subscribe{Folder: wire.ID(testFolder), Sub: 1}}, 1000)
		n.connect(a, c)
		inStep(t, a, c)
		select {
		case err := <-ended:
			if !isTimeout(err) {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(10 * time.Minute):
			t.Error("a peer that does not read was kept")
		}
	})
}

// A forger serves blocks that are not what was asked for, and keeps to it.
func forger(give func(r *wire.Request, i int) []byte) func(string, Stream) {
	return func(protocol string, s Stream) {
		defer func() { _ = s.Reset() }()
		if protocol != wire.BlocksProtocol {
			_, _ = io.Copy(io.Discard, s)
			return
		}
		r := bufio.NewReader(s)
		for {
			var m wire.BlocksUp
			if err := wire.ReadMsg(r, &m, wire.MaxBlocksUp); err != nil {
				return
			}
			if m.Request == nil {
				continue
			}
			for i := range m.Request.Len() {
				data := give(m.Request, i)
				_ = wire.WriteMsg(s, wire.BlocksDown{Numbers: []uint64{m.Request.First + uint64(i)}, Sizes: []uint32{uint32(len(data))}}, 1000)
				if _, err := s.Write(data); err != nil {
					return
				}
			}
		}
	}
}

func TestForger(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	f, b, c := n.device('f', quick()), n.device('b', quick()), n.device('c', quick())
	blocks := c.source.put(blocksOf(1, 20, 3000)...)
	var served, verified atomic.Int64
	n.hostile[f.id] = forger(func(r *wire.Request, i int) []byte {
		served.Add(1)
		if r.Verify {
			verified.Add(1)
		}
		return make([]byte, r.Sizes[i])
	})
	b.fetcher.share(f.id, testFolder, 1)
	if _, err := b.get(t.Context(), wantOf(blocks[0])); !errors.Is(err, ErrNoSource) {
		t.Fatalf("from the forger alone: %v", err)
	}
	b.mu.Lock()
	var wrong *BadContentError
	if len(b.bad) != 1 || b.bad[0].Peer != f.id || !errors.As(b.bad[0], &wrong) || wrong.Want != blocks[0].Hash {
		t.Errorf("reports: %v", b.bad)
	}
	b.mu.Unlock()
	if served.Load() != 2 || verified.Load() != 1 {
		t.Errorf("asked %d times, %d of them to verify", served.Load(), verified.Load())
	}
	// It is put aside, also when it comes back, and others are asked.
	b.fetcher.unshare(f.id, testFolder)
	b.fetcher.share(f.id, testFolder, 2)
	n.connect(b, c)
	sharing(t, b, c)
	b.fetchAll(t.Context(), blocks, nil).check(t, len(blocks))
	if served.Load() != 2 {
		t.Error("a peer put aside was asked again")
	}
	b.fetcher.Readmit(f.id, testFolder)
	c.source.mu.Lock()
	clear(c.source.blocks)
	c.source.mu.Unlock()
	if _, err := b.get(t.Context(), wantOf(blocks[1])); !errors.Is(err, ErrNoSource) {
		t.Fatal(err)
	}
	if served.Load() == 2 {
		t.Error("a peer readmitted was not asked")
	}
	b.fetcher.unshare(f.id, testFolder)
}

// A disk that changed a moment ago makes no liar of its device.
func TestChangedDiskIsNoLie(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	blocks := a.source.put(blocksOf(1, 10, 3000)...)
	changed := blocks[3].Hash
	a.source.wrong = func(b chunk.Block, data []byte) []byte {
		if b.Hash == changed {
			return make([]byte, len(data))
		}
		return data
	}
	n.connect(a, b)
	sharing(t, b, a)
	h := b.fetchAll(t.Context(), blocks, nil)
	h.left.Wait()
	if len(h.errs) != 1 || !errors.Is(h.errs[0], ErrNoSource) || len(h.got) != 9 {
		t.Errorf("%d came, errors: %v", len(h.got), h.errs)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.bad) != 0 {
		t.Errorf("reported: %v", b.bad)
	}
}

// A server that breaks the form of the block plane is put aside.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(w io.Writer, r *wire.Request){
		"a number not asked for": func(w io.Writer, r *wire.Request) {
			_ = wire.WriteMsg(w, wire.BlocksDown{Numbers: []uint64{r.First + 1000}, Sizes: []uint32{5}}, 1000)
		},
		"another size": func(w io.Writer, r *wire.Request) {
			_ = wire.WriteMsg(w, wire.BlocksDown{Numbers: []uint64{r.First}, Sizes: []uint32{7}}, 1000)
		},
		"too much at once": func(w io.Writer, r *wire.Request) {
			_ = wire.WriteMsg(w, wire.BlocksDown{Numbers: []uint64{r.First}, Sizes: []uint32{1 << 31}}, 1000)
		},
		"two answers to one": func(w io.Writer, r *wire.Request) {
			_ = wire.WriteMsg(w, wire.BlocksDown{Numbers: []uint64{r.First, r.First}, Sizes: []uint32{0, 0}}, 1000)
		},
		"sizes missing": func(w io.Writer, r *wire.Request) {
			_ = wire.WriteMsg(w, wire.BlocksDown{Numbers: []uint64{r.First}}, 1000)
		},
		"a frame too long": func(w io.Writer, _ *wire.Request) { _, _ = w.Write([]byte{0xff, 0xff, 0xff, 0xff, 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			a, b := n.device('a', quick()), n.device('b', quick())
			n.hostile[a.id] = func(_ string, s Stream) {
				defer func() { _ = s.Close() }()
				var m wire.BlocksUp
				if err := wire.ReadMsg(bufio.NewReader(s), &m, wire.MaxBlocksUp); err != nil {
					return
				}
				answer(s, m.Request)
				_, _ = io.Copy(io.Discard, s)
			}
			b.fetcher.share(a.id, testFolder, 1)
			if _, err := b.get(t.Context(), wantOf(chunk.Block{Hash: chunk.Hash{1}, Size: 5})); !errors.Is(err, ErrNoSource) {
				t.Fatal(err)
			}
			eventually(t, "the report", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.bad) == 1 && b.bad[0].Folder == crdt.FolderID{}
			})
			b.fetcher.unshare(a.id, testFolder)
			t.Log(b.bad[0])
		})
	}
}

// A list is believed only if it hashes to what was asked for.
func TestForgedList(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	n.hostile[a.id] = forger(func(*wire.Request, int) []byte { return []byte("no such list") })
	b.fetcher.share(a.id, testFolder, 1)
	if _, err := b.get(t.Context(), Want{Folder: testFolder, List: true, Content: crdt.ContentHash{1}}); !errors.Is(err, ErrNoSource) {
		t.Fatal(err)
	}
	b.fetcher.unshare(a.id, testFolder)
}

// A client that breaks the rules loses its stream; what it may not have is
// not here.
func TestHostileClient(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	block := a.source.put([]byte("secret"))[0]
	_ = n
	serve := func(s *Session) (near *memStream, ended chan error) {
		near, far := newStreams(link{}, link{})
		ended = make(chan error, 1)
		go func() { ended <- s.ServeBlocks(t.Context(), far) }()
		return near, ended
	}
	ask := func(folder crdt.FolderID) *wire.Request {
		return &wire.Request{Folder: wire.ID(folder), Hashes: block.Hash[:], Sizes: []uint32{block.Size}}
	}
	size := func(near *memStream, r *wire.Request) uint32 {
		t.Helper()
		if err := wire.WriteMsg(near, wire.BlocksUp{Request: r}, wire.MaxBlocksUp); err != nil {
			t.Fatal(err)
		}
		var m wire.BlocksDown
		br := bufio.NewReader(near)
		if err := wire.ReadMsg(br, &m, wire.MaxBlocksDown); err != nil || len(m.Sizes) != 1 {
			t.Fatal(m, err)
		}
		if _, err := io.CopyN(io.Discard, br, int64(m.Sizes[0])); err != nil {
			t.Fatal(err)
		}
		return m.Sizes[0]
	}
	s := a.session(b)
	near, ended := serve(s)
	if got := size(near, ask(testFolder)); got != 6 {
		t.Errorf("a member was given %d bytes", got)
	}
	if got := size(near, ask(crdt.FolderID{66})); got != 0 {
		t.Error("a block of an unknown folder was served")
	}
	a.rights.mu.Lock()
	a.rights.deny[b.id] = [2]bool{true, true}
	a.rights.mu.Unlock()
	if got := size(near, ask(testFolder)); got != 0 {
		t.Error("a block was served to a device that is no member")
	}
	wrongSize := ask(testFolder)
	wrongSize.Sizes[0] = 5
	if got := size(near, wrongSize); got != 0 {
		t.Error("a block was served under a wrong size")
	}
	_ = near.CloseWrite()
	if err := <-ended; err != nil {
		t.Errorf("a clean end gave %v", err)
	}

	for name, raw := range map[string]any{
		"no hashes":        wire.BlocksUp{Request: &wire.Request{}},
		"half a hash":      wire.BlocksUp{Request: &wire.Request{Hashes: make([]byte, 31), Sizes: []uint32{1}}},
		"sizes missing":    wire.BlocksUp{Request: &wire.Request{Hashes: make([]byte, 64), Sizes: []uint32{1}}},
		"a block of 1 GiB": wire.BlocksUp{Request: &wire.Request{Hashes: make([]byte, 32), Sizes: []uint32{1 << 30}}},
		"numbers overflow": wire.BlocksUp{Request: &wire.Request{First: 1<<64 - 1, Hashes: make([]byte, 32), Sizes: []uint32{1}}},
		"nothing":          wire.BlocksUp{},
	} {
		near, ended := serve(s)
		if err := wire.WriteMsg(near, raw, wire.MaxBlocksUp); err != nil {
			t.Fatal(err)
		}
		var format *wire.FormatError
		if err := <-ended; !errors.As(err, &format) {
			t.Errorf("%s: ended with %v", name, err)
		}
	}

	// More requests than may be under way.
	gate := make(chan struct{})
	a.source.before = func(chunk.Block) { <-gate }
	a.rights.mu.Lock()
	clear(a.rights.deny)
	a.rights.mu.Unlock()
	near, ended = serve(s)
	many := &wire.Request{Folder: wire.ID(testFolder), Hashes: bytes.Repeat(block.Hash[:], 4096), Sizes: make([]uint32, 4096)}
	for i := range many.Sizes {
		many.Sizes[i] = block.Size
	}
	for range 5 {
		if err := wire.WriteMsg(near, wire.BlocksUp{Request: many}, wire.MaxBlocksUp); err != nil {
			break
		}
	}
	time.AfterFunc(50*time.Millisecond, func() { close(gate) })
	var format *wire.FormatError
	if err := <-ended; !errors.As(err, &format) {
		t.Errorf("a flood ended with %v", err)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.device('a', quick()), n.device('b', quick())
	s := a.session(b)
	var nears []*memStream
	ended := make(chan error, 10)
	for range maxServed + 1 {
		near, far := newStreams(link{}, link{})
		nears = append(nears, near)
		go func() { ended <- s.ServeBlocks(t.Context(), far) }()
	}
	if err := <-ended; !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	for _, near := range nears {
		_ = near.CloseWrite()
	}
	for range maxServed {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// FuzzBatch opens what a peer sends as a batch. What is taken must be entries
// and lists that encode to what came.
func FuzzBatch(f *testing.F) {
	good, _ := goodEntries(f, 2)
	list := chunk.List{{Hash: chunk.Sum([]byte("1")), Size: 1}, {Hash: chunk.Sum([]byte("2")), Size: 1}}
	x := newIndex(testFolder, 'l')
	x.create(f, crdt.Root, "two blocks", crdt.Content{Hash: list.Content(), Size: 2, Blocks: 2})
	two, err := x.After(0, 1000, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range []*wire.Batch{
		{Entries: good, Next: 1, Heads: wire.HeadsOf(crdt.VersionVector{{Replica: crdt.ReplicaID{1}, Counter: 5}})},
		{Entries: [][]byte{two.Entries[0].Encode(nil)}, Lists: [][]byte{list.Encode()}},
	} {
		data, err := wire.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b wire.Batch
		if wire.Unmarshal(data, &b) != nil {
			return
		}
		got, err := openBatch(&b)
		if err != nil {
			return
		}
		for i, e := range got.Entries {
			if !bytes.Equal(e.Encode(nil), b.Entries[i]) {
				t.Fatalf("entry %d encodes to something else", i)
			}
		}
		for content, l := range got.Lists {
			if crdt.ContentHash(l.Content()) != content || len(l) < 2 {
				t.Fatal("a list under a wrong name")
			}
		}
	})
}
