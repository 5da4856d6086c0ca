package simnet

import (
	"io"
	"os"
	"time"
)

// A Stream is one end of an ordered, reliable byte stream between two devices.
// Reads, Writes and all other methods may be called concurrently.
type Stream struct {
	n        *Network
	end      *end
	far      *Stream
	protocol string
	out      pipe // to far

	answered chan struct{} // of the end that opened: closed once it is known whether accepted
	accepted bool

	got     [][]byte // come in and not read
	unread  int      // bytes of got
	taken   int      // bytes read that the other end has not been told of
	room    int      // bytes the other end may be ahead of what it was told
	credit  int      // bytes this end may write
	ended   bool     // all has come in
	fin     bool     // all has been sent
	closed  bool     // by Close, Reset, or the other end's Reset
	reading waiters
	writing waiters
	// What Read and Write give; nil: they go on.
	readErr, writeErr error
}

// stream makes both ends of a stream, opened at e.
func (e *end) stream(protocol string) *Stream {
	n := e.c.pair.n
	e.opened[protocol]++
	key := mix(e.key, forStream, word(protocol), e.opened[protocol])
	near, far := &Stream{end: e}, &Stream{end: e.far()}
	near.far, far.far = far, near
	for _, s := range []*Stream{near, far} {
		side := s.end.side
		s.n, s.protocol = n, protocol
		own := mix(key, uint64(side))
		s.out = pipe{event: event{key: own, what: &s.out}, c: e.c, way: e.c.pair.way[side], arrive: s.far.receive}
		s.credit, s.room = e.c.pair.way[side].room(), e.c.pair.way[1-side].room()
		s.reading = waiters{n: n, event: event{key: mix(own, forRead), what: &s.reading}}
		s.writing = waiters{n: n, event: event{key: mix(own, forWrite), what: &s.writing}}
		s.reading.wake.L, s.writing.wake.L = &n.mu, &n.mu
	}
	near.answered = make(chan struct{})
	e.c.streams[near] = struct{}{}
	return near
}

// Read reads what has come in, or waits for some. Its errors are io.EOF,
// os.ErrDeadlineExceeded, [ErrReset], and io.ErrClosedPipe after Close.
func (s *Stream) Read(b []byte) (int, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return 0, s.readErr
		case len(b) == 0:
			return 0, nil
		case s.reading.late():
			return 0, os.ErrDeadlineExceeded
		case s.unread > 0:
			return s.take(b), nil
		case s.ended:
			return 0, io.EOF
		}
		s.reading.wait()
	}
}

// take reads what is there. The other end is told of room in halves of it, as by
// window updates.
func (s *Stream) take(b []byte) int {
	done := 0
	for done < len(b) && len(s.got) > 0 {
		k := copy(b[done:], s.got[0])
		done += k
		if s.got[0] = s.got[0][k:]; len(s.got[0]) == 0 {
			s.got[0] = nil
			s.got = s.got[1:]
		}
	}
	s.unread -= done
	if s.taken += done; s.taken >= s.room/2 && !s.ended && !s.closed {
		s.out.grant(s.n.now(), s.taken)
		s.taken = 0
	}
	return done
}

// Write sends b, or waits while the other end has no room for it. That b has been
// taken says nothing of its arrival. Its errors are os.ErrDeadlineExceeded,
// [ErrReset], and io.ErrClosedPipe after Close or CloseWrite. Concurrent Writes
// that wait for room may be interleaved.
func (s *Stream) Write(b []byte) (int, error) {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	for done := 0; ; {
		switch {
		case done == len(b) && done > 0:
			return done, nil
		case s.writeErr != nil:
			return done, s.writeErr
		case len(b) == 0:
			return 0, nil
		case s.writing.late():
			return done, os.ErrDeadlineExceeded
		case s.credit == 0:
			s.writing.wait()
			continue
		}
		k := min(len(b)-done, s.credit)
		s.out.put(s.n.now(), b[done:done+k])
		s.credit -= k
		done += k
	}
}

// CloseWrite ends what this end sends: the other reads to the end. It fails with
// [ErrReset] if it cannot.
func (s *Stream) CloseWrite() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.writeErr == nil {
		s.finish()
		s.writing.wake.Broadcast()
	}
	if s.writeErr == ErrReset {
		return ErrReset
	}
	return nil
}

func (s *Stream) finish() {
	s.out.mark(s.n.now(), markFin)
	s.fin, s.writeErr = true, io.ErrClosedPipe
}

// Close gives up both directions in order: what was written still arrives. The
// other end, if it was not done with writing, fails to write more once it knows.
func (s *Stream) Close() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if !s.closed {
		if s.writeErr == nil {
			s.finish()
		}
		if !s.ended {
			s.out.mark(s.n.now(), markStop)
		}
	}
	s.give(io.ErrClosedPipe, true)
	return nil
}

// Reset aborts both directions: at once here, and there when it arrives, behind
// what was written before. It does nothing after Close.
func (s *Stream) Reset() error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.reset()
	return nil
}

func (s *Stream) reset() {
	if !s.closed && !(s.fin && s.ended) {
		s.out.mark(s.n.now(), markReset)
	}
	s.give(ErrReset, true)
}

// give makes calls at this end fail with err, unless they have another error. Not
// for all, reading goes on if all has come in: nothing of it is aborted.
func (s *Stream) give(err error, all bool) {
	s.closed = true
	if s.readErr == nil && (all || !s.ended) {
		s.readErr = err
		s.got, s.unread = nil, 0
	}
	if s.writeErr == nil {
		s.writeErr = err
	}
	s.wake()
	s.forget()
}

// kill is what the death of the connection's end does to a stream.
func (s *Stream) kill(all bool) {
	s.give(ErrReset, all)
	if s.answered != nil && !s.accepted {
		close(s.answered)
		s.answered = nil
	}
}

func (s *Stream) wake() {
	s.reading.wake.Broadcast()
	s.writing.wake.Broadcast()
}

// forget takes a stream from its connection that needs it no more.
func (s *Stream) forget() {
	if s.closed && s.far.closed && s.out.first == nil && s.far.out.first == nil {
		delete(s.end.c.streams, s)
		delete(s.end.c.streams, s.far)
	}
	if s.closed {
		s.n.cancel(&s.reading.event)
		s.n.cancel(&s.writing.event)
	}
}

// SetDeadline sets when Reads and Writes fail, those under way too, with
// os.ErrDeadlineExceeded; the zero time is never.
func (s *Stream) SetDeadline(t time.Time) error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.reading.set(t)
	s.writing.set(t)
	return nil
}

// SetReadDeadline does so for Reads.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.reading.set(t)
	return nil
}

// SetWriteDeadline does so for Writes.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	s.writing.set(t)
	return nil
}
