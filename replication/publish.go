package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// A publisher sends our entries over one index stream that the peer opened.
type publisher struct {
	s      *Session
	c      *conn
	peer   StoreID // the subscriber's own
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // holds one: something for follow to do

	mu    sync.Mutex // never held while sending
	wants map[crdt.FolderID]*wish
	pubs  map[crdt.FolderID]*publication
}

// A wish is a folder that the peer subscribes to, whether we publish it or not.
type wish struct {
	wire.Subscribe
	fresh bool       // asked for and not yet answered
	told  wire.State // the answer
}

// A publication is one folder of a publisher, run by one goroutine.
type publication struct {
	*folder
	p      *publisher
	number uint64
	cancel context.CancelFunc
	done   chan struct{}
	room   chan struct{} // holds one: a batch was confirmed

	mu      sync.Mutex
	unacked []uint64 // Next of batches under way
	sent    uint64   // Next of the last batch
}

// ServeIndex answers an index stream that the peer opened, until the stream,
// ctx or Run ends, or the peer opens a newer one. It closes the stream. The
// error says why it ended; the session has logged and reported what needs it.
func (s *Session) ServeIndex(ctx context.Context, stream Stream) (err error) {
	ctx, cancel := s.both(ctx)
	defer cancel()
	c := newConn(ctx, stream, s.cfg.Timing, idleBuffer, s.indexFlows()...)
	defer func() { c.finish(err) }()
	hello, err := wire.ReadHello(c.r)
	if err != nil {
		// Our own is owed all the same: it tells the peer which version to
		// name. That it may not arrive changes nothing.
		_ = c.hello(s)
		s.violation(crdt.FolderID{}, err)
		return fmt.Errorf("read the peer's hello: %w", clean(err))
	}
	if err := c.hello(s); err != nil {
		return err
	}
	p := &publisher{s: s, c: c, peer: StoreID(hello.Store), cancel: cancel, done: make(chan struct{}), wake: make(chan struct{}, 1),
		wants: map[crdt.FolderID]*wish{}, pubs: map[crdt.FolderID]*publication{}}
	defer close(p.done)
	s.mu.Lock()
	old := s.serving
	s.serving = p
	s.mu.Unlock()
	if old != nil {
		old.cancel()
		<-old.done
	}
	err = together(cancel, p.read,
		func() error { return p.follow(ctx) },
		func() error { return c.keepAlive(ctx, wire.IndexDown{Ping: &wire.Ping{}}, wire.MaxIndexDown) })
	s.violation(crdt.FolderID{}, err)
	return err
}

// read takes what the subscriber says. It never waits for anything to be sent.
func (p *publisher) read() error {
	for {
		var m wire.IndexUp
		if err := wire.ReadMsg(p.c.r, &m, wire.MaxIndexUp); err != nil {
			return fmt.Errorf("read from the subscriber: %w", clean(err))
		}
		switch {
		case m.Subscribe != nil:
			p.mu.Lock()
			p.wants[crdt.FolderID(m.Subscribe.Folder)] = &wish{Subscribe: *m.Subscribe, fresh: true}
			n := len(p.wants)
			p.mu.Unlock()
			if n > wire.MaxFolders {
				return &wire.FormatError{What: "subscribe", Err: fmt.Errorf("more than %d folders", wire.MaxFolders)}
			}
			p.nudge()
		case m.Unsubscribe != nil:
			p.mu.Lock()
			delete(p.wants, crdt.FolderID(m.Unsubscribe.Folder))
			p.mu.Unlock()
			p.nudge()
		case m.Progress != nil:
			p.mu.Lock()
			pub := p.pubs[crdt.FolderID(m.Progress.Folder)]
			p.mu.Unlock()
			if pub != nil {
				pub.progress(m.Progress)
			}
		}
	}
}

func (p *publisher) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// follow keeps the publications in step with what the peer wishes and what the
// session has. It owns them.
func (p *publisher) follow(ctx context.Context) error {
	defer func() {
		for _, pub := range p.pubs { // nobody else changes the map
			p.stop(pub)
		}
	}()
	for {
		folders, changed := p.s.open()
		if err := p.reconcile(ctx, folders); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-p.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// reconcile ends and begins publications and answers wishes.
func (p *publisher) reconcile(ctx context.Context, folders map[crdt.FolderID]*folder) error {
	for id, pub := range p.pubs {
		w := p.wish(id)
		read, _ := p.s.cfg.Authority.May(p.s.cfg.Peer, id)
		if read && w != nil && w.Sub == pub.number && folders[id] == pub.folder && !pub.over() {
			continue
		}
		p.stop(pub)
	}
	for _, w := range p.wishes() {
		id := crdt.FolderID(w.Folder)
		f := folders[id]
		if f != nil {
			if read, _ := p.s.cfg.Authority.May(p.s.cfg.Peer, id); !read {
				f = nil
			}
		}
		var say wire.State
		switch {
		case f == nil:
			say = wire.Closed
		case w.fresh:
			p.start(ctx, f, w)
			continue // the publication itself says so, before its first batch
		case p.pubs[id] != nil:
			continue
		default:
			say = wire.Available
		}
		if !w.fresh && w.told == say {
			continue
		}
		w.fresh, w.told = false, say
		if err := p.c.send(wire.IndexDown{Status: &wire.Status{Folder: w.Folder, Sub: w.Sub, State: say}}, wire.MaxIndexDown); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) wish(id crdt.FolderID) *wish {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wants[id]
}

// wishes gives them all. A wish itself is follow's, once it is in the map.
func (p *publisher) wishes() []*wish {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*wish, 0, len(p.wants))
	for _, w := range p.wants {
		out = append(out, w)
	}
	return out
}

func (p *publisher) start(ctx context.Context, f *folder, w *wish) {
	w.fresh, w.told = false, wire.Open
	from := w.Cursor
	if from > f.Index.Seq() {
		p.s.log.Warn("the peer has applied more than our index ever had: sending everything", "folder", f.id, "cursor", from)
		from = 0
	}
	f.echo.resumed(w.Cursor)
	ctx, cancel := context.WithCancel(ctx)
	pub := &publication{folder: f, p: p, number: w.Sub, cancel: cancel, done: make(chan struct{}), room: make(chan struct{}, 1), sent: from}
	p.mu.Lock()
	p.pubs[f.id] = pub
	p.mu.Unlock()
	p.s.cfg.Fetcher.share(p.s.cfg.Peer, f.id, w.Have)
	f.Index.PeerProgress(p.s.cfg.Peer, PeerProgress{Applied: from, Settled: min(w.Settled, from), Have: w.Have})
	go func() {
		defer p.nudge()
		defer close(pub.done)
		pub.run(ctx, from)
	}()
}

func (p *publisher) stop(pub *publication) {
	pub.cancel()
	<-pub.done
	p.mu.Lock()
	delete(p.pubs, pub.id)
	p.mu.Unlock()
	p.s.cfg.Fetcher.unshare(p.s.cfg.Peer, pub.id)
}

// over tells whether the publication has ended by itself.
func (pub *publication) over() bool {
	select {
	case <-pub.done:
		return true
	default:
		return false
	}
}

// progress takes the subscriber's confirmation. What it claims beyond what was
// sent is not believed.
func (pub *publication) progress(m *wire.Progress) {
	pub.mu.Lock()
	n := 0
	for n < len(pub.unacked) && pub.unacked[n] <= m.Applied {
		n++
	}
	pub.unacked = pub.unacked[n:]
	applied := min(m.Applied, pub.sent)
	pub.mu.Unlock()
	if n > 0 {
		select {
		case pub.room <- struct{}{}:
		default:
		}
	}
	pub.echo.applied(applied)
	s := pub.p.s
	pub.Index.PeerProgress(s.cfg.Peer, PeerProgress{Applied: applied, Settled: min(m.Settled, applied), Have: m.Have})
	s.cfg.Fetcher.moved(s.cfg.Peer, pub.id, m.Have)
}

// errNoProgress reports an Index that gives entries without moving on.
var errNoProgress = errors.New("the index gave entries and no higher number")

// run sends what changes above cursor until ctx ends, the peer may no longer
// read the folder, or the stream breaks.
func (pub *publication) run(ctx context.Context, cursor uint64) {
	s := pub.p.s
	status := wire.Status{Folder: wire.ID(pub.id), Sub: pub.number, State: wire.Open, From: cursor}
	if pub.p.c.send(wire.IndexDown{Status: &status}, wire.MaxIndexDown) != nil {
		return // the stream's reader sees why
	}
	pause := s.cfg.Timing.Retry
	var owed time.Time // since when the cursor has moved without a batch
	greeted := false   // the peer has been told of our heads, and so that it has all
	for {
		if !pub.wait(ctx) || !s.current(pub.folder) {
			return
		}
		if read, _ := s.cfg.Authority.May(s.cfg.Peer, pub.id); !read {
			return
		}
		progress := pub.Index.Progress()
		b, err := pub.Index.After(cursor, wire.MaxEntries, batchBytes)
		if err == nil && (b.Next < cursor || b.Next == cursor && len(b.Entries) > 0) {
			err = errNoProgress
		}
		if err != nil {
			s.log.Error("read entries to send", "folder", pub.id, "after", cursor, "error", err, "pause", pause)
			if !sleep(ctx, s.cfg.Timing.Jitter(pause)) {
				return
			}
			pause = min(2*pause, s.cfg.Timing.RetryMax)
			continue
		}
		pause = s.cfg.Timing.Retry
		if b.Next > cursor && owed.IsZero() {
			owed = time.Now()
		}
		cursor = b.Next
		entries, lists := pub.pack(b)
		if len(entries) == 0 {
			if len(b.Entries) > 0 {
				continue // all came from the peer; there may be more
			}
			if owed.IsZero() && greeted {
				if pub.Index.Wait(ctx, cursor, progress) != nil && !sleep(ctx, s.cfg.Timing.Retry) {
					return
				}
				continue
			}
			// The cursor has moved over what came from the peer itself. That
			// is told when nothing else has been to tell for a while.
			if left := s.cfg.Timing.Quiet - time.Since(owed); left > 0 && greeted {
				quiet, cancel := context.WithTimeout(ctx, left)
				err := pub.Index.Wait(quiet, cursor, progress)
				cancel()
				if ctx.Err() != nil {
					return
				}
				if err == nil {
					continue
				}
			}
		}
		if pub.send(b, entries, lists) != nil {
			return
		}
		greeted = greeted || b.Heads != nil || len(entries) == 0
		owed = time.Time{}
	}
}

// wait waits until another batch may be under way.
func (pub *publication) wait(ctx context.Context) bool {
	for {
		pub.mu.Lock()
		n := len(pub.unacked)
		pub.mu.Unlock()
		if n < wire.MaxUnacked && ctx.Err() == nil {
			return true
		}
		select {
		case <-pub.room:
		case <-ctx.Done():
			return false
		}
	}
}

// send sends what b comes to.
func (pub *publication) send(b Batch, entries, lists [][]byte) error {
	m := wire.Batch{Folder: wire.ID(pub.id), Sub: pub.number, Next: b.Next, Entries: entries, Lists: lists, Heads: wire.HeadsOf(b.Heads)}
	pub.mu.Lock()
	m.After = pub.sent
	pub.sent = b.Next
	pub.unacked = append(pub.unacked, b.Next)
	pub.mu.Unlock()
	err := pub.p.c.send(wire.IndexDown{Batch: &m}, wire.MaxIndexDown)
	if err != nil && pub.p.c.ctx.Err() == nil {
		pub.p.s.log.Info("send a batch", "folder", pub.id, "error", err)
	}
	return err
}

// Sizes of a batch in bytes.
const (
	batchBytes = 1 << 20            // encoded entries
	packBytes  = batchBytes + 1<<19 // entries and lists
	maxInline  = 64 << 10           // a list that travels along
)

// pack encodes a batch but for what the peer itself sent, and those lists that
// fit.
func (pub *publication) pack(b Batch) (entries, lists [][]byte) {
	size := 0
	var sent []crdt.Entry
	for _, e := range b.Entries {
		data := e.Encode(nil)
		if pub.echo.has(pub.p.peer, e.ID, data) {
			continue
		}
		sent = append(sent, e)
		entries = append(entries, data)
		size += len(data)
	}
	if len(b.Lists) == 0 {
		return entries, nil
	}
	packed := map[crdt.ContentHash]bool{}
	for _, e := range sent {
		for _, f := range e.Versions() {
			l := b.Lists[f.Version.Content]
			n := l.EncodedSize()
			if !fits(l, f.Version) || packed[f.Version.Content] || n > maxInline || size+n > packBytes || len(lists) == wire.MaxEntries {
				continue
			}
			packed[f.Version.Content] = true
			lists = append(lists, l.Encode())
			size += n
		}
	}
	return entries, lists
}

// fits tells whether l can be the block list of v: one of several blocks, that
// add up to v.
func fits(l chunk.List, v *crdt.Version) bool {
	return len(l) > 1 && uint32(len(l)) == v.Blocks && l.Size() == v.Size
}
