package replication

import (
	"bufio"
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

// Bounds of serving one block stream.
const (
	maxServed   = 4       // streams of one peer at once
	maxJobs     = 16384   // requests taken and not answered; further ones wait in the stream
	readers     = 4       // reads of the Source at once
	maxReady    = 4 << 20 // bytes read and not yet sent, beyond which no read is begun
	frameData   = 256 << 10
	keepBuffers = 1 << 20 // buffers above this are not kept for reuse
)

// ErrBusy reports a peer that opens more block streams than it may.
var ErrBusy = errors.New("too many block streams at once")

// A server answers one block stream: one goroutine takes requests, some read,
// one sends.
type server struct {
	s     *Session
	c     *conn
	sends chan struct{} // holds one: something for send to do

	mu        sync.Mutex
	change    *sync.Cond // something for the readers to do
	jobs      []job
	taken     int // jobs taken and not yet sent
	withdrawn map[uint64]bool
	ready     []answer
	bytes     int      // in ready and being read
	free      [][]byte // buffers
	last      bool     // no more requests will come
	dead      bool
}

// A job is one request.
type job struct {
	folder crdt.FolderID
	number uint64
	block  chunk.Block // of a list, the hash alone
	list   bool
	verify bool
}

// An answer is a job done; without data, it is not here.
type answer struct {
	number uint64
	data   []byte
	held   int // counted in server.bytes
}

// ServeBlocks answers a block stream that the peer opened, until the stream,
// ctx or Run ends. It closes the stream. What the peer may not have is answered
// like what is not here.
func (s *Session) ServeBlocks(ctx context.Context, stream Stream) (err error) {
	ctx, cancel := s.both(ctx)
	defer cancel()
	c := newConn(ctx, stream, s.cfg.Timing, bulkBuffer, &s.meter.blocks, &s.cfg.Fetcher.meter.blocks)
	c.out = s.cfg.Fetcher.up
	defer func() { c.finish(err) }()
	if !s.enter() {
		return ErrBusy
	}
	defer s.leave()

	v := &server{s: s, c: c, sends: make(chan struct{}, 1), withdrawn: map[uint64]bool{}}
	v.change = sync.NewCond(&v.mu)
	stop := context.AfterFunc(ctx, func() {
		v.mu.Lock()
		v.dead = true
		v.change.Broadcast()
		v.mu.Unlock()
	})
	defer stop()
	work := []func() error{v.take, func() error { return v.send(ctx) }}
	for range readers {
		work = append(work, func() error { v.read(ctx); return nil })
	}
	err = together(cancel, work...)
	s.violation(crdt.FolderID{}, err)
	return err
}

func (s *Session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams >= maxServed {
		return false
	}
	s.streams++
	return true
}

func (s *Session) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
}

// take takes requests until the peer sends no more.
func (v *server) take() error {
	for {
		// A peer that waits for a long answer has nothing to say.
		if _, err := v.c.r.Peek(1); isTimeout(err) && v.busy() {
			continue
		}
		var m wire.BlocksUp
		err := wire.ReadMsg(v.c.r, &m, wire.MaxBlocksUp)
		switch {
		case errors.Is(err, io.EOF):
			v.mu.Lock()
			v.last = true
			v.change.Broadcast()
			v.mu.Unlock()
			v.nudge()
			return nil
		case err != nil:
			return fmt.Errorf("read requests: %w", err)
		case m.Cancel != nil:
			v.cancel(m.Cancel)
		default:
			if err := v.add(m.Request); err != nil {
				return err
			}
		}
	}
}

func (v *server) busy() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.taken > 0
}

func (v *server) nudge() {
	select {
	case v.sends <- struct{}{}:
	default:
	}
}

func (v *server) add(m *wire.Request) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.taken+m.Len() > maxJobs {
		return &wire.FormatError{What: "request", Err: fmt.Errorf("more than %d requests under way", maxJobs)}
	}
	v.taken += m.Len()
	for i := range m.Len() {
		j := job{folder: crdt.FolderID(m.Folder), number: m.First + uint64(i), list: m.Lists, verify: m.Verify}
		j.block.Hash = m.Hash(i)
		if !m.Lists {
			j.block.Size = m.Sizes[i]
		}
		v.jobs = append(v.jobs, j)
	}
	v.change.Broadcast()
	return nil
}

// cancel notes what is withdrawn. It is answered all the same, as not here,
// unless it is too late: every request has one answer.
func (v *server) cancel(m *wire.Cancel) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.jobs) == 0 || len(v.withdrawn) > maxJobs {
		clear(v.withdrawn)
	}
	for _, n := range m.Numbers {
		v.withdrawn[n] = true
	}
}

// next waits for a job and room for its data, and gives a buffer for it.
func (v *server) next() (j job, buf []byte, held int, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for len(v.jobs) == 0 || v.bytes >= maxReady {
		if v.dead || v.last && len(v.jobs) == 0 {
			return job{}, nil, 0, false
		}
		v.change.Wait()
	}
	if v.dead {
		return job{}, nil, 0, false
	}
	j, v.jobs = v.jobs[0], v.jobs[1:]
	if v.withdrawn[j.number] {
		delete(v.withdrawn, j.number)
		return job{number: j.number}, nil, 0, true
	}
	held = int(j.block.Size)
	if j.list {
		held = maxReady // of unknown length: nothing else is begun beside it
	}
	v.bytes += held
	if n := len(v.free); n > 0 {
		buf, v.free = v.free[n-1], v.free[:n-1]
	}
	return j, buf, held, true
}

// read does jobs until there are no more.
func (v *server) read(ctx context.Context) {
	for {
		j, buf, held, ok := v.next()
		if !ok {
			return
		}
		var data []byte
		if held > 0 {
			data = v.get(ctx, j, buf[:0])
		}
		v.mu.Lock()
		v.bytes += len(data) - held
		v.ready = append(v.ready, answer{number: j.number, data: data, held: len(data)})
		if v.bytes < maxReady {
			v.change.Broadcast()
		}
		v.mu.Unlock()
		v.nudge()
	}
}

// get gives the bytes for a job, or none.
func (v *server) get(ctx context.Context, j job, buf []byte) []byte {
	cfg := &v.s.cfg
	if _, ok := v.s.served(j.folder); !ok {
		return nil
	}
	if read, _ := cfg.Authority.May(cfg.Peer, j.folder); !read {
		return nil
	}
	var (
		data []byte
		err  error
	)
	if j.list {
		data, err = cfg.Source.ReadList(ctx, j.folder, crdt.ContentHash(j.block.Hash))
	} else {
		data, err = cfg.Source.ReadBlock(ctx, j.folder, j.block, j.verify, buf)
	}
	switch {
	case errors.Is(err, ErrNotHere):
		return nil
	case err != nil:
		if ctx.Err() == nil {
			v.s.log.Warn("read content for the peer", "folder", j.folder, "block", j.block.Hash, "error", err)
		}
		return nil
	case j.list && len(data) > chunk.MaxList || !j.list && len(data) != int(j.block.Size):
		v.s.log.Warn("content for the peer has the wrong length", "folder", j.folder, "block", j.block.Hash, "length", len(data))
		return nil
	case j.verify && chunk.Sum(data) != j.block.Hash:
		return nil
	}
	return data
}

// send sends what is ready, packed, until all is sent and no more will come.
func (v *server) send(ctx context.Context) error {
	out := bufio.NewWriterSize(v.c, bulkBuffer)
	alive := time.NewTimer(v.c.timing.Answer)
	defer alive.Stop()
	for {
		batch, more, done := v.collect()
		if len(batch) == 0 {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("send answers: %w", err)
			}
			if done {
				return nil
			}
			select {
			case <-v.sends:
			case <-alive.C:
				if v.busy() {
					if err := wire.WriteMsg(out, wire.BlocksDown{}, wire.MaxBlocksDown); err != nil {
						return fmt.Errorf("keep the stream alive: %w", err)
					}
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			alive.Reset(v.c.timing.Answer)
			continue
		}
		if err := v.write(out, batch); err != nil {
			return fmt.Errorf("send answers: %w", err)
		}
		v.sent(batch)
		if !more {
			if err := out.Flush(); err != nil {
				return fmt.Errorf("send answers: %w", err)
			}
		}
	}
}

// collect takes what goes into the next frame.
func (v *server) collect() (batch []answer, more, done bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, size := 0, 0
	for n < len(v.ready) && n < wire.MaxRequests && (n == 0 || size+len(v.ready[n].data) <= frameData) {
		size += len(v.ready[n].data)
		n++
	}
	batch = append(batch, v.ready[:n]...)
	v.ready = append(v.ready[:0], v.ready[n:]...)
	return batch, len(v.ready) > 0, v.last && v.taken == 0
}

func (v *server) write(out *bufio.Writer, batch []answer) error {
	var m wire.BlocksDown
	for _, a := range batch {
		m.Numbers = append(m.Numbers, a.number)
		m.Sizes = append(m.Sizes, uint32(len(a.data)))
	}
	if err := wire.WriteMsg(out, m, wire.MaxBlocksDown); err != nil {
		return err
	}
	for _, a := range batch {
		if _, err := out.Write(a.data); err != nil {
			return err
		}
		v.s.meter.blocks.sentData.Add(uint64(len(a.data)))
		v.s.cfg.Fetcher.meter.blocks.sentData.Add(uint64(len(a.data)))
	}
	return nil
}

// sent gives back what the answers held.
func (v *server) sent(batch []answer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, a := range batch {
		v.taken--
		v.bytes -= a.held
		if 0 < cap(a.data) && cap(a.data) <= keepBuffers && len(v.free) < 4*readers {
			v.free = append(v.free, a.data[:0])
		}
	}
	v.change.Broadcast()
}
