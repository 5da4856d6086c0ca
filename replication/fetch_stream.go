package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// run opens a stream to the peer whenever there is something to ask, until
// ctx ends.
func (r *remote) run(ctx context.Context) {
	pause := r.f.cfg.Timing.Retry
	for ctx.Err() == nil {
		if !r.wanted() {
			select {
			case <-r.wake:
			case <-ctx.Done():
			}
			continue
		}
		answered, err := r.stream(ctx)
		r.f.mu.Lock()
		r.drop()
		r.f.mu.Unlock()
		if answered {
			pause = r.f.cfg.Timing.Retry
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		r.blame(err)
		r.f.log.Info("block stream ended, trying again", "peer", r.peer, "error", err, "pause", pause)
		if !sleep(ctx, r.f.cfg.Timing.Jitter(pause)) {
			return
		}
		pause = min(2*pause, r.f.cfg.Timing.RetryMax)
	}
}

// wanted tells whether a stream is worth opening.
func (r *remote) wanted() bool {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.cancels = nil // of a stream that is gone
	return len(r.queue.items) > 0 || r.mayHelp()
}

// mayHelp tells whether another peer has been asked for what this one might
// give faster.
func (r *remote) mayHelp() bool {
	now := time.Now()
	for _, o := range r.f.remotes {
		if o == r {
			continue
		}
		for _, a := range o.asks {
			if !a.withdrawn && a.t.copies() < maxCopies && r.may(a.t.key) && slower(o, o.inFlight, a, r, now) {
				return true
			}
		}
	}
	return false
}

// errIdle ends a stream that has not been needed for a while.
var errIdle = errors.New("idle")

// stream asks and takes answers over one stream until it is idle (nil) or
// breaks, and tells whether anything was answered.
func (r *remote) stream(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f := r.f
	stream, err := f.cfg.Opener.Open(ctx, r.peer, wire.BlocksProtocol)
	if err != nil {
		return false, fmt.Errorf("open a block stream: %w", err)
	}
	c := newConn(ctx, stream, f.cfg.Timing, bulkBuffer, &f.meter.blocks)
	c.in = f.down
	n := 0
	err = together(cancel,
		func() error { return r.write(ctx, c) },
		func() (err error) { n, err = r.read(c); return err })
	if errors.Is(err, errIdle) {
		err = nil
	}
	c.finish(err)
	return n > 0, err
}

// bulkBuffer is the buffer of a block stream on either side: answers up to
// this size are packed together.
const bulkBuffer = 64 << 10

// write sends requests as the window allows.
func (r *remote) write(ctx context.Context, c *conn) error {
	idle := time.NewTimer(c.timing.Idle)
	defer idle.Stop()
	for {
		r.f.mu.Lock()
		asks, cancels := r.take(time.Now())
		r.f.mu.Unlock()
		for len(asks) > 0 {
			var m wire.BlocksUp
			m.Request, asks = r.request(asks)
			if err := c.send(m, wire.MaxBlocksUp); err != nil {
				return fmt.Errorf("send requests: %w", err)
			}
			idle.Reset(c.timing.Idle)
		}
		for len(cancels) > 0 {
			n := min(len(cancels), wire.MaxRequests)
			if err := c.send(wire.BlocksUp{Cancel: &wire.Cancel{Numbers: cancels[:n]}}, wire.MaxBlocksUp); err != nil {
				return fmt.Errorf("withdraw requests: %w", err)
			}
			cancels = cancels[n:]
		}
		select {
		case <-r.wake:
			if r.f.cfg.Pace != nil {
				r.f.cfg.Pace(ctx, r.peer)
			}
		case <-idle.C:
			if r.idle() {
				// The peer closes its side in turn, and read ends.
				if err := c.s.CloseWrite(); err != nil {
					return fmt.Errorf("close an idle stream: %w", err)
				}
				return nil
			}
			idle.Reset(c.timing.Idle)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// request makes one message of the first asks that go together: consecutive
// in number, of one folder and kind.
func (r *remote) request(asks []*ask) (*wire.Request, []*ask) {
	first := asks[0]
	m := &wire.Request{Folder: wire.ID(first.t.key.folder), First: first.number, Lists: first.t.key.list, Verify: first.verify}
	n := 0
	for _, a := range asks {
		k := a.t.key
		if n == wire.MaxRequests || k.folder != first.t.key.folder || k.list != m.Lists || a.verify != m.Verify || a.number != m.First+uint64(n) {
			break
		}
		m.Hashes = append(m.Hashes, k.hash[:]...)
		if !k.list {
			m.Sizes = append(m.Sizes, k.size)
		}
		n++
	}
	return m, asks[n:]
}

// How answers are taken in: one goroutine reads them, some hash and deliver.
const (
	deliverers  = 2
	hands       = 4         // parcels under way between them
	parcelBytes = 256 << 10 // what a parcel holds, unless one answer is longer
	keepParcel  = 4 << 20   // longer buffers are not kept for reuse
)

// A parcel is answers on their way to be hashed and delivered.
type parcel struct {
	buf     []byte
	numbers []uint64
	sizes   []uint32
}

// read takes answers and has them delivered, and gives how many there were.
func (r *remote) read(c *conn) (answers int, err error) {
	free := make(chan *parcel, hands)
	for range hands {
		free <- &parcel{}
	}
	full := make(chan *parcel, hands)
	var delivering sync.WaitGroup
	for range deliverers {
		delivering.Go(func() {
			for p := range full {
				data := p.buf
				for i, number := range p.numbers {
					r.answer(number, data[:p.sizes[i]:p.sizes[i]])
					data = data[p.sizes[i]:]
				}
				if cap(p.buf) > keepParcel {
					p.buf = nil
				}
				free <- p
			}
		})
	}
	err = r.receive(c, free, full, &answers)
	close(full)
	delivering.Wait()
	if r.idle() && (errors.Is(err, io.EOF) || isTimeout(err)) {
		err = errIdle
	}
	return answers, err
}

// receive reads answers into parcels until the stream ends.
func (r *remote) receive(c *conn, free <-chan *parcel, full chan<- *parcel, answers *int) error {
	for {
		var m wire.BlocksDown
		if err := wire.ReadMsg(c.r, &m, wire.MaxBlocksDown); err != nil {
			return fmt.Errorf("read answers: %w", err)
		}
		for i, number := range m.Numbers {
			if err := r.expect(number, int(m.Sizes[i])); err != nil {
				return &wire.FormatError{What: "answer", Err: err}
			}
		}
		for at := 0; at < len(m.Numbers); {
			n, size := 0, 0
			for at+n < len(m.Numbers) && (n == 0 || size+int(m.Sizes[at+n]) <= parcelBytes) {
				size += int(m.Sizes[at+n])
				n++
			}
			p := <-free
			if cap(p.buf) < size {
				p.buf = make([]byte, max(size, min(2*cap(p.buf), parcelBytes)))
			}
			p.buf, p.numbers, p.sizes = p.buf[:size], m.Numbers[at:at+n], m.Sizes[at:at+n]
			if _, err := io.ReadFull(c.r, p.buf); err != nil {
				return fmt.Errorf("read an answer's data: %w", err)
			}
			r.f.meter.blocks.receivedData.Add(uint64(size))
			*answers += n
			full <- p
			at += n
		}
	}
}

func (r *remote) idle() bool {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return len(r.asks) == 0
}

// expect judges the announcement of an answer.
func (r *remote) expect(number uint64, n int) error {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	a := r.asks[number]
	switch {
	case a == nil || a.announced:
		return fmt.Errorf("number %d was not asked for", number)
	case n == 0:
	case a.t.key.list && n > chunk.MaxList:
		return fmt.Errorf("block list of %d bytes", n)
	case !a.t.key.list && n != int(a.t.key.size):
		return fmt.Errorf("%d bytes where %d were asked for", n, a.t.key.size)
	}
	a.announced = true
	return nil
}

// answer takes the data of an answer; none says that the peer has it not.
func (r *remote) answer(number uint64, data []byte) {
	f := r.f
	f.mu.Lock()
	a := r.asks[number]
	unwanted := a == nil || a.withdrawn
	f.mu.Unlock()
	// Hashing is the long part, and done outside the lock.
	var got chunk.Hash
	if len(data) > 0 && !unwanted {
		got = chunk.Sum(data)
	}

	f.mu.Lock()
	if a == nil || r.asks[number] != a { // dropped meanwhile: the peer has left
		f.mu.Unlock()
		return
	}
	r.settle(a)
	r.window.answered(time.Now(), a.size)
	// A quarter of the window at a time keeps requests many to a message.
	if r.inFlight <= r.window.size*3/4 && (len(r.queue.items) > 0 || len(f.remotes) > 1) {
		r.nudge()
	}
	t := a.t
	if a.withdrawn || unwanted || t.over {
		f.mu.Unlock()
		return
	}
	if len(data) > 0 && got == t.key.hash {
		ws := t.waiters
		t.waiters = nil
		f.forget(t)
		f.mu.Unlock()
		for _, w := range ws {
			w.stop()
			w.deliver(data, nil)
		}
		return
	}
	var bad *Violation
	switch {
	case len(data) == 0:
		r.absent(a)
	case a.verify:
		bad = &Violation{Peer: r.peer, Folder: t.key.folder, Err: &BadContentError{Want: t.key.hash, Got: got}}
		r.putAside(t.key.folder)
	default:
		// Its disk may have changed under it. It is asked to look first.
		f.log.Info("a peer's content has changed on its disk", "peer", r.peer, "folder", t.key.folder, "block", t.key.hash)
		t.place(r).verify = true
	}
	f.offer(t)
	f.mu.Unlock()
	if bad != nil {
		f.log.Warn("a peer gives wrong content and is put aside", "peer", r.peer, "folder", bad.Folder, "error", bad.Err)
		if f.cfg.Bad != nil {
			f.cfg.Bad(bad)
		}
	}
}

// blame puts the peer aside in all folders if err is its breaking the protocol.
func (r *remote) blame(err error) {
	var (
		format *wire.FormatError
		size   *wire.SizeError
	)
	if !errors.As(err, &format) && !errors.As(err, &size) {
		return
	}
	f := r.f
	f.mu.Lock()
	for folder := range r.shares {
		r.putAside(folder)
	}
	f.mu.Unlock()
	f.log.Warn("a peer broke the block protocol and is put aside", "peer", r.peer, "error", err)
	if f.cfg.Bad != nil {
		f.cfg.Bad(&Violation{Peer: r.peer, Err: err})
	}
}

// absent remembers that the peer has not what it was asked for. If it has told
// that it has more than when it was asked, this may be of before: the news comes on
// another stream. Then it is asked again.
func (r *remote) absent(a *ask) {
	k := a.t.key
	s := r.shares[k.folder]
	if s == nil || s.have != a.have {
		return
	}
	if len(s.absent) >= maxAbsent {
		clear(s.absent)
	}
	s.absent[k] = struct{}{}
}

// putAside takes the folder away from the peer. What it was asked for is asked
// of others.
func (r *remote) putAside(folder crdt.FolderID) {
	f := r.f
	f.aside[asideKey{r.peer, folder}] = true
	for k, t := range f.tasks {
		if k.folder != folder {
			continue
		}
		if p := t.place(r); p.asked != nil {
			r.withdraw(p.asked)
			p.asked = nil
		}
		f.offer(t)
	}
}

// Readmit lets a peer that was put aside serve the folder again.
func (f *Fetcher) Readmit(peer DeviceID, folder crdt.FolderID) {
	f.mu.Lock()
	delete(f.aside, asideKey{peer, folder})
	if r := f.remotes[peer]; r != nil {
		f.reoffer(r, folder)
	}
	f.mu.Unlock()
	f.tellChanged(folder)
}
