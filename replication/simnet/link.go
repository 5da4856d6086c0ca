package simnet

import (
	"cmp"
	"slices"
	"time"
)

// A Link is how bytes get from one device to another.
type Link struct {
	Latency time.Duration // of each parcel; a nanosecond at the least
	Jitter  time.Duration // longest addition to Latency, drawn for each parcel
	Rate    float64       // payload bytes a second, all streams together; 0: no limit
	Room    int           // bytes that a stream takes in unread; default 256 KiB, at least 64 KiB
}

func (l Link) room() int {
	if l.Room <= 0 {
		return 256 << 10
	}
	return max(l.Room, 64<<10)
}

// A link is one direction between two devices.
type link struct {
	Link
	cut            bool
	free           instant // when all that was given to it has left, as far as Rate goes
	bytes, parcels uint64  // delivered
}

// delay is how long a parcel is under way once it has left.
func (l *link) delay(pipe uint64, p *parcel) time.Duration {
	return max(1, l.Latency) + upTo(l.Jitter, mix(pipe, forJitter, p.number))
}

// leave gives the time at which a parcel has left that is there to leave from an
// instant on.
func (l *link) leave(from instant, p *parcel) instant {
	if l.Rate <= 0 {
		return from
	}
	l.free = max(l.free, from) + time.Duration(float64(len(p.data))/l.Rate*float64(time.Second))
	return l.free
}

// A fresh parcel is one whose time to leave hangs on what else is sent at the same
// instant.
type fresh struct {
	q *pipe
	p *parcel
}

// settle gives what was sent before now over links with a rate its turn: streams
// take turns in the order of their names.
func (n *Network) settle(now instant) {
	if len(n.fresh) == 0 || n.freshAt == now {
		return
	}
	slices.SortFunc(n.fresh, func(a, b fresh) int {
		return cmp.Or(cmp.Compare(a.p.turn, b.p.turn), cmp.Compare(a.q.key, b.q.key))
	})
	for _, f := range n.fresh {
		f.q.assign(f.p, f.q.way.leave(f.p.sent, f.p))
	}
	clear(n.fresh)
	n.fresh = n.fresh[:0]
}

func (n *Network) link(from, to ID) *link {
	l := n.links[[2]ID{from, to}]
	if l == nil {
		l = &link{Link: n.o.Link}
		n.links[[2]ID{from, to}] = l
	}
	return l
}

// SetLink says how bytes get from one device to another from now on, one way. Room
// is that of streams opened later.
func (n *Network) SetLink(from, to ID, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settle(n.now())
	n.link(from, to).Link = l
}

// Cut lets nothing through any more from one device to another: what would arrive
// is held back. Unless mended before, both sides find each connection between them
// dead from Options.DeadAfter on, since one that gets no acknowledgement knows no
// better than one that gets nothing at all.
func (n *Network) Cut(from, to ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	if l.cut {
		return
	}
	l.cut = true
	now := n.now()
	n.logf(now, "%s -> %s cut", from, to)
	for _, c := range n.pair(from, to).conns {
		for _, e := range c.ends {
			if !e.dead && e.doom.place == 0 {
				n.plan(&e.doom.event, now+n.o.DeadAfter+upTo(n.o.DeadAfter/4, mix(e.key, forSilence, uint64(now))))
			}
		}
	}
}

// Mend lets through again. What was held back, and whose connection still lives,
// arrives as if it were sent now. Devices that are not connected connect, if the
// other direction is not cut.
func (n *Network) Mend(from, to ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	if !l.cut {
		return
	}
	l.cut = false
	now := n.now()
	n.settle(now)
	n.logf(now, "%s -> %s mended", from, to)
	pr := n.pair(from, to)
	pr.resend(l, now)
	if !pr.cut() {
		for _, c := range pr.conns {
			for _, e := range c.ends {
				if !e.doom.certain {
					n.cancel(&e.doom.event)
				}
			}
		}
	}
	pr.tend(now)
}

// resend lets all that a mended link has held back leave again, in the order in
// which it would have arrived. What was sent later in the same stream waits for it,
// as behind a lost segment of TCP.
func (pr *pair) resend(l *link, now instant) {
	var held []fresh
	for _, c := range pr.conns {
		for q := range c.pipes() {
			for p := q.first; q.way == l && p != nil && p.due <= now; p = p.next {
				held = append(held, fresh{q, p})
			}
		}
	}
	slices.SortFunc(held, func(a, b fresh) int {
		return cmp.Or(cmp.Compare(a.p.due, b.p.due), cmp.Compare(a.q.key, b.q.key), cmp.Compare(a.p.number, b.p.number))
	})
	for _, h := range held {
		h.q.assign(h.p, l.leave(now, h.p))
	}
}
