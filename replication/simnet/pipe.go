package simnet

import (
	"hash/crc32"
	"strings"
)

// A mark is what a parcel brings beside bytes. More than one may be set; the
// order here is that in which they count, bytes coming before markFin.
type mark uint16

const (
	markHello   mark = 1 << iota // of a connection: one side dials
	markWelcome                  // the other answers
	markThanks                   // the first has heard it
	markGone                     // the connection is lost at the other end
	markOpen                     // of a stream: it is new
	markAccept                   // it is being served
	markFin                      // nothing follows
	markStop                     // the reader has gone
	markReset
)

var markNames = []string{"hello", "welcome", "thanks", "gone", "open", "accept", "fin", "stop", "reset"}

func (m mark) String() string {
	var names []string
	for i, name := range markNames {
		if m&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// maxParcel is the most that arrives at once.
const maxParcel = 16 << 10

// A parcel is what one side of a stream or connection sent at one instant.
type parcel struct {
	number uint64 // in its pipe, from 0
	turn   int    // how many of its pipe were sent at that instant before it
	sent   instant
	due    instant // when it arrives, unless one before it in its pipe is later; at the least, until settled
	marks  mark
	room   int // bytes that may be sent the other way in addition
	data   []byte
	next   *parcel // in its pipe
}

// A pipe carries parcels in order from one end of a stream or connection to the
// other. As an event, it is the arrival of its first parcel.
type pipe struct {
	event
	c      *conn
	way    *link
	first  *parcel // under way
	last   *parcel
	batch  *parcel // the first of the latest instant
	sent   uint64  // parcels ever
	arrive func(p *parcel, at instant) bool
}

// mark sends a mark, behind all that was sent before.
func (q *pipe) mark(now instant, m mark) {
	if q.last == nil || q.last.sent != now {
		q.add(now)
	}
	q.last.marks |= m
}

// grant sends word of room, with the first that is sent at this instant: whether
// the one who reads or the one who writes comes first makes no difference.
func (q *pipe) grant(now instant, room int) {
	if q.batch == nil || q.batch.sent != now {
		q.add(now)
	}
	q.batch.room += room
}

// put sends bytes.
func (q *pipe) put(now instant, b []byte) {
	for len(b) > 0 {
		if q.last == nil || q.last.sent != now || len(q.last.data) == maxParcel {
			q.add(now)
		}
		p := q.last
		k := min(len(b), maxParcel-len(p.data))
		p.data = append(p.data, b[:k]...)
		b = b[k:]
	}
}

// add puts a parcel on its way.
func (q *pipe) add(now instant) {
	n := q.c.pair.n
	n.settle(now)
	p, tail := &parcel{number: q.sent, sent: now}, q.last
	q.sent++
	q.last = p
	if tail == nil {
		q.first = p
	} else {
		tail.next = p
	}
	if tail != nil && tail.sent == now {
		p.turn = tail.turn + 1
	} else {
		q.batch = p
	}
	if q.way.Rate > 0 {
		n.fresh, n.freshAt = append(n.fresh, fresh{q, p}), now
	}
	// Until settled it counts as one that has the link for itself. That is no later
	// than it will be, so that the network wakes in time.
	q.assign(p, now)
}

// assign says when a parcel has left, and so when it arrives.
func (q *pipe) assign(p *parcel, left instant) {
	p.due = left + q.way.delay(q.key, p)
	if q.first == p {
		q.c.pair.n.plan(&q.event, p.due)
	}
}

// happen is the arrival of the first parcel.
func (q *pipe) happen(at instant) bool {
	switch {
	case q.c.over():
		q.first, q.last, q.batch = nil, nil, nil
		return false
	case q.way.cut:
		return false // Mend sends it again
	}
	p := q.first
	if q.first = p.next; q.first == nil {
		q.last, q.batch = nil, nil
	} else {
		q.c.pair.n.plan(&q.event, q.first.due)
	}
	if !q.arrive(p, at) {
		return false
	}
	n := q.c.pair.n
	n.note(at, q.key, p.number, uint64(p.marks), uint64(p.room), uint64(len(p.data)), uint64(crc32.Checksum(p.data, castagnoli)))
	if len(p.data) > 0 {
		q.way.bytes += uint64(len(p.data))
		q.way.parcels++
	}
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
