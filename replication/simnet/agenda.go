package simnet

import (
	"container/heap"
	"math"
	"time"
)

// An instant is a point of time, counted from when the network was made.
type instant = time.Duration

const never instant = math.MaxInt64

// An event is what is to happen at some instant: it is part of the thing it
// happens to, and at most once on the agenda.
type event struct {
	at    instant
	key   uint64 // decides between events that are due at once
	place int    // on the agenda, from 1; 0: not on it
	what  interface {
		// happen is called once the event has come and is off the agenda. It gives
		// false if nothing could be noticed, so that the instant was not used.
		happen(at instant) bool
	}
}

// An agenda is a heap of events, the earliest first.
type agenda []*event

func (a agenda) Len() int { return len(a) }

func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].key < a[j].key
}

func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i+1, j+1
}

func (a *agenda) Push(x any) {
	e := x.(*event)
	*a = append(*a, e)
	e.place = len(*a)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	e.place = 0
	return e
}

// plan puts an event on the agenda, or moves it there. The caller holds n.mu, as
// for all that follows.
func (n *Network) plan(e *event, at instant) {
	e.at = at
	if e.place > 0 {
		heap.Fix(&n.agenda, e.place-1)
	} else {
		heap.Push(&n.agenda, e)
	}
	if at < n.armed && !n.closed {
		n.armed = at
		n.timer.Reset(max(0, at-n.now()))
	}
}

// cancel takes an event off the agenda.
func (n *Network) cancel(e *event) {
	if e.place > 0 {
		heap.Remove(&n.agenda, e.place-1)
	}
}

func (n *Network) now() instant { return time.Since(n.start) }

// run lets events happen when their time has come, until the network is closed.
func (n *Network) run() {
	defer close(n.stopped)
	for {
		select {
		case <-n.timer.C:
			n.mu.Lock()
			n.step()
			n.mu.Unlock()
		case <-n.stop:
			n.timer.Stop()
			return
		}
	}
}

// step lets happen what is due. On virtual time that is one event: the next one
// is a nanosecond later at least, which comes when all goroutines have come to
// rest.
func (n *Network) step() {
	for {
		now := n.now()
		n.settle(now)
		next := never
		if len(n.agenda) > 0 {
			next = max(n.agenda[0].at, n.last+1)
		}
		if next > now {
			if n.armed = next; next < never {
				n.timer.Reset(next - now)
			}
			return
		}
		if heap.Pop(&n.agenda).(*event).what.happen(next) {
			n.last = next
		}
	}
}
