package simnet

import (
	"sync"
	"time"
)

// receive takes in a parcel at the end of a stream.
func (s *Stream) receive(p *parcel, at instant) bool {
	defer s.forget()
	if s.end.dead {
		return false // into the void
	}
	if s.n.o.Log != nil {
		s.n.logf(at, "%s -> %s %d/%s: %d bytes %v", s.far.end.port.id, s.end.port.id, s.end.c.number, s.protocol, len(p.data), p.marks)
	}
	if p.marks&markOpen != 0 {
		s.out.mark(at, markAccept)
		s.serve()
	}
	if p.marks&markAccept != 0 && !s.closed {
		s.accepted = true
		close(s.answered)
		s.answered = nil
	}
	s.credit += p.room
	if len(p.data) > 0 && s.readErr == nil {
		s.got = append(s.got, p.data)
		s.unread += len(p.data)
	}
	if p.marks&markFin != 0 {
		s.ended = true
	}
	if p.marks&markStop != 0 && s.writeErr == nil {
		s.writeErr = ErrReset
	}
	if p.marks&markReset != 0 {
		s.give(ErrReset, false)
	}
	s.wake()
	return true
}

func (s *Stream) serve() {
	e := s.end
	peer := e.far().port.id
	e.port.running.Go(func() {
		e.port.host.Serve(e.ctx, peer, s.protocol, s)
		_ = s.Reset()
	})
}

// Waiters are the calls that wait for something at one end of a stream, with the
// deadline they have. As an event, it is the deadline, which so has its place among
// the other events and an instant of its own.
type waiters struct {
	event
	n       *Network
	wake    sync.Cond
	waiting int
	limited bool
	limit   instant
}

func (w *waiters) set(t time.Time) {
	w.limited, w.limit = !t.IsZero(), t.Sub(w.n.start)
	if w.waiting > 0 {
		w.wake.Broadcast()
	}
}

// late tells whether the deadline has passed.
func (w *waiters) late() bool { return w.limited && w.n.now() >= w.limit }

// wait returns when there may be news, or the deadline has passed. An event that
// stands earlier than the deadline is left there: most deadlines move on before
// they are reached, and it is cheaper to find out then.
func (w *waiters) wait() {
	if w.limited && (w.place == 0 || w.at > w.limit) {
		w.n.plan(&w.event, w.limit)
	}
	w.waiting++
	w.wake.Wait()
	w.waiting--
}

func (w *waiters) happen(instant) bool {
	w.wake.Broadcast() // they look again
	return w.waiting > 0
}
