package replication

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

var testFolder = crdt.FolderID{1, 2, 3}

// A memIndex is an Index over crdt.MemRows.
type memIndex struct {
	id crdt.FolderID

	mu       sync.Mutex
	rows     *crdt.MemRows
	seq      uint64
	seqs     map[crdt.EntryID]uint64
	cursors  map[StoreID]uint64
	progress Progress
	peers    map[DeviceID]PeerProgress
	lists    map[crdt.ContentHash]chunk.List
	heads    crdt.VersionVector
	changed  chan struct{}

	replica crdt.ReplicaID
	counter uint64

	applied  int               // entries that Apply was given
	batches  int               // Apply calls
	sentOut  int               // entries that After gave
	failing  error             // Apply fails with it
	applying func(b Batch)     // called before Apply does anything
	after    func(Batch) Batch // changes what After gives
	settle   bool              // Settled follows Seq
}

// seqRows notes what changes.
type seqRows struct {
	*crdt.MemRows
	x *memIndex
}

func (r seqRows) PutEntry(e crdt.Entry, n crdt.Node) error {
	r.x.seq++
	r.x.seqs[e.ID] = r.x.seq
	return r.MemRows.PutEntry(e, n)
}

func newIndex(id crdt.FolderID, replica byte) *memIndex {
	return &memIndex{id: id, rows: crdt.NewMemRows(), seqs: map[crdt.EntryID]uint64{}, cursors: map[StoreID]uint64{},
		peers: map[DeviceID]PeerProgress{}, lists: map[crdt.ContentHash]chunk.List{}, changed: make(chan struct{}),
		replica: crdt.ReplicaID{replica}, settle: true}
}

func (x *memIndex) wake() {
	if x.settle {
		x.progress.Settled = x.seq
	}
	close(x.changed)
	x.changed = make(chan struct{})
}

func (x *memIndex) ID() crdt.FolderID { return x.id }
func (x *memIndex) Seq() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.seq
}

func (x *memIndex) Wait(ctx context.Context, seq uint64, p Progress) error {
	for {
		x.mu.Lock()
		ch, ok := x.changed, x.seq > seq || x.progress != p
		x.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (x *memIndex) After(seq uint64, maxEntries, maxBytes int) (Batch, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var ids []crdt.EntryID
	for id, s := range x.seqs {
		if s > seq {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b crdt.EntryID) int { return cmp.Compare(x.seqs[a], x.seqs[b]) })
	b := Batch{Next: x.seq, Lists: map[crdt.ContentHash]chunk.List{}}
	in := map[crdt.EntryID]bool{}
	size := 0
	var add func(id crdt.EntryID)
	add = func(id crdt.EntryID) {
		if id == crdt.Root || in[id] || x.seqs[id] <= seq {
			return
		}
		in[id] = true
		e, _, _ := x.rows.Entry(id)
		add(e.Place.Parent)
		add(e.Place.From.Parent)
		b.Entries = append(b.Entries, e)
		size += len(e.Encode(nil))
		for _, f := range e.Versions() {
			if l := x.lists[f.Version.Content]; l != nil {
				b.Lists[f.Version.Content] = l
			}
		}
	}
	for _, id := range ids {
		if len(b.Entries) >= maxEntries-4 || size >= maxBytes { // room for ancestors
			break
		}
		add(id)
		b.Next = x.seqs[id]
	}
	if len(b.Entries) > maxEntries {
		return Batch{}, errors.New("test trees are too deep for this")
	}
	if len(ids) == 0 || b.Next == x.seqs[ids[len(ids)-1]] {
		b.Next = x.seq
		b.Heads = x.heads
	}
	x.sentOut += len(b.Entries)
	if x.after != nil {
		b = x.after(b)
	}
	return b, nil
}

func (x *memIndex) Cursor(_ DeviceID, store StoreID) (uint64, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cursors[store], nil
}

func (x *memIndex) Apply(_ context.Context, _ DeviceID, store StoreID, b Batch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.applying != nil {
		x.applying(b)
	}
	if x.failing != nil {
		return x.failing
	}
	x.applied += len(b.Entries)
	x.batches++
	before := x.seq
	if _, err := crdt.Apply(seqRows{x.rows, x}, b.Entries); err != nil {
		return err
	}
	maps.Copy(x.lists, b.Lists)
	x.cursors[store] = b.Next
	if b.Heads != nil {
		x.heads = x.heads.Merge(b.Heads)
	}
	if x.seq != before {
		x.wake()
	}
	return nil
}

func (x *memIndex) Heads() crdt.VersionVector {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.heads
}

func (x *memIndex) Progress() Progress {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.progress
}

func (x *memIndex) PeerProgress(peer DeviceID, p PeerProgress) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.peers[peer] = p
}

func (x *memIndex) peer(id DeviceID) PeerProgress {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.peers[id]
}

// moveHave says that there is more content here.
func (x *memIndex) moveHave() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.progress.Have++
	x.wake()
}

// record makes local changes.
func (x *memIndex) record(t testing.TB, change func(r *crdt.Recorder)) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	r := crdt.NewRecorder(crdt.RowsBase{Rows: x.rows}, x.rows, crdt.Writer{Folder: x.id, Replica: x.replica, Counter: x.counter, Author: "t", Now: 1000})
	change(r)
	x.counter = r.Counter()
	if _, err := crdt.Apply(seqRows{x.rows, x}, r.Entries()); err != nil {
		t.Fatalf("apply own changes: %v", err)
	}
	x.heads = x.heads.With(crdt.Dot{Replica: x.replica, Counter: x.counter})
	x.wake()
}

// create makes a file of these bytes.
func (x *memIndex) create(t testing.TB, parent crdt.EntryID, name string, content crdt.Content) crdt.EntryID {
	t.Helper()
	var id crdt.EntryID
	x.record(t, func(r *crdt.Recorder) {
		var err error
		if id, err = r.Create(crdt.Location{Parent: parent, Name: name}, crdt.File, content, 0o644); err != nil {
			t.Fatalf("create %s: %v", name, err)
		}
	})
	return id
}

func (x *memIndex) mkdir(t testing.TB, parent crdt.EntryID, name string) crdt.EntryID {
	t.Helper()
	var id crdt.EntryID
	x.record(t, func(r *crdt.Recorder) {
		var err error
		if id, err = r.Create(crdt.Location{Parent: parent, Name: name}, crdt.Directory, crdt.Content{}, 0o755); err != nil {
			t.Fatalf("mkdir %s: %v", name, err)
		}
	})
	return id
}

func oneBlock(data []byte) crdt.Content {
	return crdt.Content{Hash: sha256.Sum256(data), Size: int64(len(data)), Blocks: 1}
}

// state is what two indexes in step agree on.
func (x *memIndex) state() map[crdt.EntryID]string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[crdt.EntryID]string{}
	for id, e := range x.rows.Entries() {
		out[id] = string(e.Encode(nil))
	}
	return out
}

// A memSource is a disk of blocks.
type memSource struct {
	mu     sync.Mutex
	blocks map[chunk.Hash][]byte
	lists  map[crdt.ContentHash][]byte
	reads  int
	wrong  func(chunk.Block, []byte) []byte // what is served instead
	before func(chunk.Block)                // called outside the lock
}

func (s *memSource) put(data ...[]byte) (out []chunk.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range data {
		b := chunk.Block{Hash: chunk.Sum(d), Size: uint32(len(d))}
		s.blocks[b.Hash] = d
		out = append(out, b)
	}
	return out
}

func (s *memSource) ReadBlock(ctx context.Context, _ crdt.FolderID, b chunk.Block, _ bool, dst []byte) ([]byte, error) {
	s.mu.Lock()
	s.reads++
	data, ok := s.blocks[b.Hash]
	before, wrong := s.before, s.wrong
	s.mu.Unlock()
	if before != nil {
		before(b)
	}
	if !ok {
		return dst, ErrNotHere
	}
	if wrong != nil {
		data = wrong(b, data)
	}
	return append(dst, data...), ctx.Err()
}

func (s *memSource) ReadList(_ context.Context, _ crdt.FolderID, c crdt.ContentHash) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.lists[c]; ok {
		return l, nil
	}
	return nil, ErrNotHere
}

// A rights is an Authority that can be changed.
type rights struct {
	mu   sync.Mutex
	deny map[DeviceID][2]bool // no read, no write
}

func (r *rights) May(peer DeviceID, _ crdt.FolderID) (read, write bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.deny[peer]
	return !d[0], !d[1]
}

// A device is a node without disk and database.
type device struct {
	t       testing.TB
	n       *network
	id      DeviceID
	store   StoreID
	index   *memIndex
	source  *memSource
	rights  *rights
	fetcher *Fetcher
	timing  Timing
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
	changes atomic.Int64

	mu         sync.Mutex
	sessions   map[DeviceID]*Session
	ends       map[DeviceID]func()
	violations []*Violation
	bad        []*Violation
	notes      []string
	ended      map[DeviceID]error
}

// quick is Timing for tests on the real clock.
func quick() Timing {
	return Timing{KeepAlive: time.Second, Silence: 30 * time.Second, Write: 30 * time.Second, Quiet: 20 * time.Millisecond,
		Retry: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, Idle: 500 * time.Millisecond, Answer: 500 * time.Millisecond}
}

func (n *network) device(name byte, timing Timing) *device {
	d := &device{t: n.t, n: n, id: DeviceID{name}, store: StoreID{name, 0xff}, index: newIndex(testFolder, name), timing: timing,
		source:   &memSource{blocks: map[chunk.Hash][]byte{}, lists: map[crdt.ContentHash][]byte{}},
		rights:   &rights{deny: map[DeviceID][2]bool{}},
		sessions: map[DeviceID]*Session{}, ends: map[DeviceID]func(){}, ended: map[DeviceID]error{}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.fetcher = NewFetcher(FetcherConfig{Opener: end{n, d.id}, Timing: timing,
		Changed: func(crdt.FolderID) { d.changes.Add(1) },
		Bad: func(v *Violation) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.bad = append(d.bad, v)
		}})
	d.running.Go(func() {
		if err := d.fetcher.Run(d.ctx); err != nil {
			d.t.Errorf("fetcher: %v", err)
		}
	})
	n.mu.Lock()
	n.devices[d.id] = d
	n.mu.Unlock()
	n.t.Cleanup(func() {
		d.stop()
		d.running.Wait()
	})
	return d
}

func (d *device) note(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.notes = append(d.notes, s)
}

// session makes d's side of a connection.
func (d *device) session(peer *device) *Session {
	s := NewSession(Config{Peer: peer.id, Store: d.store, Program: "test " + string(d.id[0]), Opener: end{d.n, d.id}, Source: d.source,
		Authority: d.rights, Fetcher: d.fetcher, Timing: d.timing,
		Violation: func(v *Violation) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.violations = append(d.violations, v)
		}})
	s.SetFolders([]Folder{{Index: d.index}})
	return s
}

// connect joins two devices until disconnect.
func (n *network) connect(a, b *device) {
	for _, p := range [][2]*device{{a, b}, {b, a}} {
		d, peer := p[0], p[1]
		s := d.session(peer)
		d.mu.Lock()
		d.sessions[peer.id] = s
		d.mu.Unlock()
	}
	for _, p := range [][2]*device{{a, b}, {b, a}} {
		d, peer := p[0], p[1]
		d.mu.Lock()
		s := d.sessions[peer.id]
		ctx, cancel := context.WithCancel(d.ctx)
		done := make(chan struct{})
		d.ends[peer.id] = func() { cancel(); <-done }
		d.mu.Unlock()
		d.running.Go(func() {
			defer close(done)
			err := s.Run(ctx)
			d.mu.Lock()
			d.ended[peer.id] = err
			d.mu.Unlock()
		})
	}
}

func (n *network) disconnect(a, b *device) {
	var ends []func()
	for _, p := range [][2]*device{{a, b}, {b, a}} {
		p[0].mu.Lock()
		ends = append(ends, p[0].ends[p[1].id])
		delete(p[0].sessions, p[1].id)
		p[0].mu.Unlock()
	}
	n.reset(a, b)
	for _, e := range ends {
		e()
	}
}

// eventually waits for ok, or fails with what.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func inStep(t testing.TB, ds ...*device) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d devices in step", len(ds)), func() bool {
		want := ds[0].index.state()
		for _, d := range ds[1:] {
			if !maps.Equal(want, d.index.state()) {
				return false
			}
		}
		return true
	})
}

// get fetches one thing and gives a copy of it.
func (d *device) get(ctx context.Context, w Want) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	ch := make(chan result, 1)
	d.fetcher.Fetch(ctx, w, func(data []byte, err error) { ch <- result{append([]byte(nil), data...), err} })
	r := <-ch
	return r.data, r.err
}

func wantOf(b chunk.Block) Want { return Want{Folder: testFolder, Block: b} }
