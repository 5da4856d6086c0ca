package simnet

import (
	"bytes"
	"cmp"
	"context"
	"iter"
	"slices"
)

// A pair is two devices and the connections between them.
type pair struct {
	event // the next attempt to connect
	n     *Network
	ids   [2]ID
	way   [2]*link // from ids[i] to the other
	conns []*conn  // those alive on at least one side, the oldest first
	made  uint64   // connections ever
	waits uint64   // attempts ever
}

// A conn is one connection: to each side what its end is.
type conn struct {
	pair    *pair
	number  uint64
	key     uint64
	ends    [2]*end
	streams map[*Stream]struct{} // by the end that opened it; until closed on both
	instead *conn                // which this one will outlive
}

// An end is one side of a connection.
type end struct {
	c       *conn
	side    int
	key     uint64
	port    *Port
	ctx     context.Context // ends with the end
	cancel  context.CancelFunc
	up      bool
	dead    bool
	opened  map[string]uint64 // streams opened here, by protocol
	control pipe              // to the other end
	doom    doom
}

// A doom is an end's finding that its connection is dead.
type doom struct {
	event
	e       *end
	certain bool // whatever may be mended
}

func (n *Network) pair(a, b ID) *pair {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	pr := n.pairs[[2]ID{a, b}]
	if pr == nil {
		pr = &pair{n: n, ids: [2]ID{a, b}, way: [2]*link{n.link(a, b), n.link(b, a)}}
		pr.event = event{key: b.mixInto(a.mixInto(mix(n.o.Seed))), what: pr}
		n.pairs[pr.ids] = pr
	}
	return pr
}

// pairsOf gives the pairs that a device is of, in one order.
func (n *Network) pairsOf(id ID) []*pair {
	var list []*pair
	for ids, pr := range n.pairs {
		if slices.Contains(ids[:], id) {
			list = append(list, pr)
		}
	}
	slices.SortFunc(list, func(a, b *pair) int { return cmp.Compare(a.key, b.key) })
	return list
}

func (pr *pair) cut() bool { return pr.way[0].cut || pr.way[1].cut }

// apart tells whether the two could connect and ought to.
func (pr *pair) apart() bool {
	return !pr.cut() && pr.n.ports[pr.ids[0]] != nil && pr.n.ports[pr.ids[1]] != nil &&
		!slices.ContainsFunc(pr.conns, func(c *conn) bool { return !c.ends[0].dead && !c.ends[1].dead })
}

// tend sees to it that the two connect, after a while.
func (pr *pair) tend(now instant) {
	if pr.place == 0 && pr.apart() {
		pr.waits++
		pr.n.plan(&pr.event, now+1+upTo(pr.n.o.Redial, mix(pr.key, forWait, pr.waits)))
	}
}

func (pr *pair) happen(at instant) bool {
	if !pr.apart() {
		return false
	}
	pr.dial(at)
	return true
}

// dial begins a connection: three parcels, to and fro, and each side is connected
// with the one that comes to it last.
func (pr *pair) dial(now instant) *conn {
	pr.made++
	c := &conn{pair: pr, number: pr.made, key: mix(pr.key, forConn, pr.made), streams: make(map[*Stream]struct{})}
	for side := range c.ends {
		e := &end{c: c, side: side, key: mix(c.key, forEnd, uint64(side)), port: pr.n.ports[pr.ids[side]], opened: make(map[string]uint64)}
		e.ctx, e.cancel = context.WithCancel(e.port.ctx)
		e.doom = doom{event: event{key: mix(e.key, forNotice), what: &e.doom}, e: e}
		e.control = pipe{event: event{key: e.key, what: &e.control}, c: c, way: pr.way[side]}
		e.control.arrive = func(p *parcel, at instant) bool { return e.far().hear(p, at) }
		c.ends[side] = e
	}
	pr.conns = append(pr.conns, c)
	dialler := c.ends[mix(c.key, forDialler)%2]
	dialler.send(now, markHello)
	pr.n.logf(now, "%s -> %s dials, connection %d", dialler.port.id, dialler.far().port.id, c.number)
	return c
}

func (c *conn) over() bool { return c.ends[0].dead && c.ends[1].dead }

// pipes gives all pipes of the connection, in no order.
func (c *conn) pipes() iter.Seq[*pipe] {
	return func(yield func(*pipe) bool) {
		for _, e := range c.ends {
			if !yield(&e.control) {
				return
			}
		}
		for s := range c.streams {
			if !yield(&s.out) || !yield(&s.far.out) {
				return
			}
		}
	}
}

func (e *end) far() *end { return e.c.ends[1-e.side] }

func (e *end) send(now instant, m mark) { e.control.mark(now, m) }

// hear takes in a parcel about the connection itself.
func (e *end) hear(p *parcel, at instant) bool {
	if e.dead {
		return false
	}
	switch {
	case p.marks&markHello != 0:
		e.send(at, markWelcome)
	case p.marks&markWelcome != 0:
		e.send(at, markThanks)
		e.rise(at)
	case p.marks&markThanks != 0:
		e.rise(at)
		if old := e.c.instead; old != nil {
			first := old.ends[mix(old.key, forOverlap, 1)%2]
			first.meet(at + 1 + upTo(overlap, mix(old.key, forOverlap, 2)))
			e.c.instead = nil
		}
	}
	if p.marks&markGone != 0 {
		e.die(at, false)
	}
	return true
}

// rise makes a side connected.
func (e *end) rise(at instant) {
	peer := e.far().port.id
	again := e.port.best(peer) != nil
	e.up = true
	e.c.pair.n.logf(at, "%s has connection %d to %s", e.port.id, e.c.number, peer)
	if !again || mix(e.key, forTelling)%2 == 0 {
		e.port.tell(news{peer, true})
	}
}

// meet has the end die at an instant, or at an earlier one if that is planned.
func (e *end) meet(at instant) {
	if e.dead {
		return
	}
	e.doom.certain = true
	if e.doom.place == 0 || at < e.doom.at {
		e.c.pair.n.plan(&e.doom.event, at)
	}
}

func (d *doom) happen(at instant) bool {
	d.e.die(at, false)
	n := d.e.c.pair.n
	n.note(at, d.key)
	return true
}

// die ends one side of a connection, with all that streams hold there. Unless
// silent, the other side is sent word.
func (e *end) die(now instant, silent bool) {
	n, far := e.c.pair.n, e.far()
	e.dead = true
	n.cancel(&e.doom.event)
	e.cancel()
	for s := range e.c.streams {
		if s.end != e {
			s = s.far
		}
		s.kill(e.port.left)
	}
	if e.up {
		n.logf(now, "%s has lost connection %d to %s", e.port.id, e.c.number, far.port.id)
		if e.port.best(far.port.id) == nil {
			e.port.tell(news{far.port.id, false})
		}
	}
	switch {
	case far.dead:
		e.c.pair.conns = slices.DeleteFunc(e.c.pair.conns, func(c *conn) bool { return c == e.c })
	case !silent:
		e.send(now, markGone)
	}
	e.c.pair.tend(now)
}
