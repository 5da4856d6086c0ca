package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// A subscriber takes the peer's entries over one index stream.
type subscriber struct {
	s     *Session
	c     *conn
	store StoreID       // the peer's
	wake  chan struct{} // holds one: something for follow to do

	mu    sync.Mutex // never held while sending, so that read never waits for a send
	subs  map[crdt.FolderID]*subscription
	again map[crdt.FolderID]uint64 // subscriptions to be made anew, by number
	last  uint64                   // number of the last subscription
}

// A subscription is one folder of a subscriber. One goroutine applies its
// batches, another watches our own progress.
type subscription struct {
	*folder
	number  uint64
	sub     *subscriber
	batches chan *wire.Batch // never more than the peer may send unconfirmed
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	applied uint64
	marks   marks

	telling gate // held while a Progress is made and sent
	told    wire.Progress
}

// subscribeOnce runs one index stream to the peer to its end.
func (s *Session) subscribeOnce(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.cfg.Opener.Open(ctx, s.cfg.Peer, wire.IndexProtocol)
	if err != nil {
		return fmt.Errorf("open an index stream: %w", err)
	}
	c := newConn(ctx, stream, s.cfg.Timing, idleBuffer, s.indexFlows()...)
	defer func() { c.finish(err) }()
	if err := c.hello(s); err != nil {
		return err
	}
	theirs, err := wire.ReadHello(c.r)
	if err != nil {
		return fmt.Errorf("read the peer's hello: %w", clean(err))
	}
	sub := &subscriber{s: s, c: c, store: StoreID(theirs.Store), wake: make(chan struct{}, 1),
		subs: map[crdt.FolderID]*subscription{}, again: map[crdt.FolderID]uint64{}}
	defer sub.stop()
	return together(cancel, sub.read,
		func() error { return sub.follow(ctx) },
		func() error { return c.keepAlive(ctx, wire.IndexUp{Ping: &wire.Ping{}}, wire.MaxIndexUp) })
}

// idleBuffer is the read buffer of an index stream: a node may have thousands,
// idle nearly always.
const idleBuffer = 4 << 10

func (s *Session) indexFlows() []*flow {
	return []*flow{&s.meter.index, &s.cfg.Fetcher.meter.index}
}

func (c *conn) hello(s *Session) error {
	c.writing.lock()
	defer c.writing.unlock()
	return wire.WriteHello(c, wire.Hello{Program: s.cfg.Program, Store: wire.ID(s.cfg.Store)})
}

// follow keeps the subscriptions in step with the session's folders.
func (u *subscriber) follow(ctx context.Context) error {
	for {
		folders, changed := u.s.open()
		if err := u.reconcile(ctx, folders); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-u.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reconcile ends and begins subscriptions. Only follow calls it.
func (u *subscriber) reconcile(ctx context.Context, folders map[crdt.FolderID]*folder) error {
	u.mu.Lock()
	var end []*subscription
	for id, sub := range u.subs {
		if folders[id] != sub.folder || u.again[id] == sub.number || !u.may(id) {
			end = append(end, sub)
			delete(u.subs, id)
		}
	}
	clear(u.again)
	u.mu.Unlock()
	for _, sub := range end {
		sub.cancel()
		sub.running.Wait()
		if err := u.c.send(wire.IndexUp{Unsubscribe: &wire.Unsubscribe{Folder: wire.ID(sub.id)}}, wire.MaxIndexUp); err != nil {
			return err
		}
	}
	for id, f := range folders {
		if u.of(id) != nil || !u.may(id) || u.s.isBad(f) {
			continue
		}
		if err := u.begin(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// may tells whether the peer's changes to the folder are ours to take.
func (u *subscriber) may(id crdt.FolderID) bool {
	_, write := u.s.cfg.Authority.May(u.s.cfg.Peer, id)
	return write
}

func (s *Session) isBad(f *folder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.bad != nil
}

func (u *subscriber) begin(ctx context.Context, f *folder) error {
	cursor, err := f.Index.Cursor(u.s.cfg.Peer, u.store)
	if err != nil {
		return fmt.Errorf("read the cursor of folder %s: %w", f.id, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	sub := &subscription{folder: f, sub: u, cancel: cancel, applied: cursor, telling: newGate(), batches: make(chan *wire.Batch, wire.MaxUnacked)}
	sub.marks.add(cursor, f.Index.Seq())
	p := f.Index.Progress()
	sub.told = wire.Progress{Folder: wire.ID(f.id), Applied: cursor, Settled: sub.marks.upTo(p.Settled), Have: p.Have}
	u.mu.Lock()
	u.last++
	sub.number = u.last
	u.subs[f.id] = sub
	u.mu.Unlock()
	sub.running.Go(func() { sub.run(ctx) })
	err = u.c.send(wire.IndexUp{Subscribe: &wire.Subscribe{Folder: sub.told.Folder, Sub: sub.number, Cursor: cursor, Settled: sub.told.Settled, Have: p.Have}}, wire.MaxIndexUp)
	if err != nil {
		return err // the stream is broken; stop ends the subscription
	}
	sub.running.Go(func() { sub.watch(ctx, p) })
	return nil
}

func (u *subscriber) stop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, sub := range u.subs {
		sub.cancel()
		sub.running.Wait()
	}
}

// read takes what the publisher sends and hands it on. It never waits for a
// folder, nor for anything to be sent.
func (u *subscriber) read() error {
	for {
		var m wire.IndexDown
		if err := wire.ReadMsg(u.c.r, &m, wire.MaxIndexDown); err != nil {
			return fmt.Errorf("read from the publisher: %w", clean(err))
		}
		switch {
		case m.Status != nil:
			u.status(m.Status)
		case m.Batch != nil:
			sub := u.of(crdt.FolderID(m.Batch.Folder))
			if sub == nil || sub.number != m.Batch.Sub {
				continue // of a subscription that ended while it was under way
			}
			select {
			case sub.batches <- m.Batch:
			default:
				return &wire.FormatError{What: "batch", Err: errors.New("more batches than may be unconfirmed")}
			}
		}
	}
}

func (u *subscriber) status(m *wire.Status) {
	id := crdt.FolderID(m.Folder)
	sub := u.of(id)
	if sub == nil || sub.number != m.Sub {
		return
	}
	switch m.State {
	case wire.Open:
		sub.mu.Lock()
		sub.applied = min(sub.applied, m.From)
		sub.mu.Unlock()
		// A peer that opens a folder to us may have become able to serve what
		// it denied before.
		u.s.cfg.Fetcher.recheck(u.s.cfg.Peer, id)
	case wire.Available:
		u.mu.Lock()
		u.again[id] = m.Sub
		u.mu.Unlock()
		select {
		case u.wake <- struct{}{}:
		default:
		}
	case wire.Closed: // its batches have ended; another Status may come
	}
}

func (u *subscriber) of(id crdt.FolderID) *subscription {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.subs[id]
}

// run applies batches until ctx ends or the peer breaks the rules.
func (sub *subscription) run(ctx context.Context) {
	s := sub.sub.s
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-sub.batches:
			err := sub.take(ctx, b)
			if ctx.Err() != nil || errors.Is(err, errOff) {
				return
			}
			if v := s.violation(sub.id, err); v != nil {
				sub.refuse(v)
				sub.drain(ctx)
				return
			}
			if sub.tell(false) != nil {
				return
			}
		}
	}
}

// refuse ends the peer's part in the folder. Where it only lacked the right, it
// may have lost it a moment ago without knowing: that is mended by giving it
// back, all else by taking up the folder afresh.
func (sub *subscription) refuse(v *Violation) {
	u := sub.sub
	if errors.Is(v, ErrForbidden) {
		u.mu.Lock()
		u.again[sub.id] = sub.number // at the next change of folders
		u.mu.Unlock()
	} else {
		u.s.mu.Lock()
		sub.bad = v
		u.s.mu.Unlock()
	}
	// An error here is the stream's end, which its reader sees.
	_ = u.c.send(wire.IndexUp{Unsubscribe: &wire.Unsubscribe{Folder: wire.ID(sub.id)}}, wire.MaxIndexUp)
}

// drain throws away what is under way after a violation.
func (sub *subscription) drain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-sub.batches:
		}
	}
}

// errOff ends a subscription whose folder is off.
var errOff = errors.New("the folder is off")

// take judges a batch as far as the wire goes and applies it. Trouble of our
// own store is retried for as long as it takes: the peer waits, unconfirmed.
func (sub *subscription) take(ctx context.Context, b *wire.Batch) error {
	s := sub.sub.s
	if !s.current(sub.folder) {
		return errOff
	}
	if !sub.sub.may(sub.id) {
		return fmt.Errorf("batch of entries: %w", ErrForbidden)
	}
	sub.mu.Lock()
	applied := sub.applied
	sub.mu.Unlock()
	if b.After != applied || b.Next < applied || b.Next == applied && len(b.Entries) > 0 {
		return &wire.FormatError{What: "batch", Err: fmt.Errorf("batch from %d to %d where %d was applied", b.After, b.Next, applied)}
	}
	batch, err := openBatch(b)
	if err != nil {
		return err
	}
	for i, e := range batch.Entries {
		sub.echo.heard(sub.sub.store, e.ID, b.Entries[i])
	}
	pause := s.cfg.Timing.Retry
	for {
		err := sub.Index.Apply(ctx, s.cfg.Peer, sub.sub.store, batch)
		var bad *crdt.BatchError
		if err == nil {
			break
		}
		if errors.As(err, &bad) || ctx.Err() != nil {
			return err
		}
		s.log.Error("apply a batch", "folder", sub.id, "error", err, "pause", pause)
		if !sleep(ctx, s.cfg.Timing.Jitter(pause)) {
			return ctx.Err()
		}
		pause = min(2*pause, s.cfg.Timing.RetryMax)
	}
	ours := sub.Index.Seq()
	sub.mu.Lock()
	defer sub.mu.Unlock()
	sub.applied = b.Next
	sub.marks.add(b.Next, ours)
	return nil
}

// openBatch decodes what a batch holds. Its errors are *wire.FormatError.
func openBatch(b *wire.Batch) (Batch, error) {
	out := Batch{Next: b.Next, Entries: make([]crdt.Entry, len(b.Entries))}
	bad := func(format string, args ...any) error {
		return &wire.FormatError{What: "batch", Err: fmt.Errorf(format, args...)}
	}
	var err error
	if out.Heads, err = b.Heads.Vector(); err != nil {
		return Batch{}, bad("%w", err)
	}
	for i, data := range b.Entries {
		if out.Entries[i], err = crdt.Decode(data); err != nil {
			return Batch{}, bad("entry %d: %w", i, err)
		}
	}
	if len(b.Lists) == 0 {
		return out, nil
	}
	versions := map[crdt.ContentHash][]*crdt.Version{}
	for _, e := range out.Entries {
		for _, f := range e.Versions() {
			versions[f.Version.Content] = append(versions[f.Version.Content], f.Version)
		}
	}
	out.Lists = make(map[crdt.ContentHash]chunk.List, len(b.Lists))
	for i, data := range b.Lists {
		content := crdt.ContentHash(chunk.Sum(data))
		l, err := listOf(data, versions[content])
		if err != nil {
			return Batch{}, bad("block list %d: %w", i, err)
		}
		out.Lists[content] = l
	}
	return out, nil
}

// listOf decodes the block list of one of the versions, which all have the
// content hash that it hashes to. (A liar can give two files one hash; see
// chunk.List.Content.)
func listOf(data []byte, versions []*crdt.Version) (chunk.List, error) {
	err := errors.New("of no content in the batch")
	for _, v := range versions {
		var l chunk.List
		if l, err = chunk.DecodeList(data, v.Size); err == nil {
			if fits(l, v) {
				return l, nil
			}
			err = fmt.Errorf("has %d blocks, its entry says %d", len(l), v.Blocks)
		}
	}
	return nil, err
}

// watch tells the peer whenever our own progress moves.
func (sub *subscription) watch(ctx context.Context, p Progress) {
	seq := sub.Index.Seq()
	for {
		if err := sub.Index.Wait(ctx, seq, p); err != nil {
			if ctx.Err() != nil || !sleep(ctx, sub.sub.s.cfg.Timing.Retry) {
				return
			}
			sub.sub.s.log.Error("wait for the index", "folder", sub.id, "error", err)
		}
		seq = sub.Index.Seq()
		p = sub.Index.Progress()
		if sub.tell(true) != nil {
			return
		}
	}
}

// tell sends how far we have come if there is news in it, or always.
func (sub *subscription) tell(onlyNews bool) error {
	sub.telling.lock()
	defer sub.telling.unlock()
	p := sub.Index.Progress()
	sub.mu.Lock()
	now := wire.Progress{Folder: wire.ID(sub.id), Applied: sub.applied, Settled: min(sub.marks.upTo(p.Settled), sub.applied), Have: p.Have}
	sub.mu.Unlock()
	if onlyNews && now == sub.told {
		return nil
	}
	sub.told = now
	return sub.sub.c.send(wire.IndexUp{Progress: &now}, wire.MaxIndexUp)
}
