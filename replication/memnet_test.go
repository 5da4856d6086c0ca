package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"sheaf/replication/wire"
)

// A pipe is one direction of an in-memory stream: a bounded buffer with
// deadlines, and on request a delay and a rate.
type pipe struct {
	mu       sync.Mutex
	change   *sync.Cond
	queue    []packet
	buffered int
	closed   bool // no more is written
	err      error
	waking   time.Time // when a reader is woken for the next parcel
	readBy   deadline
	writeBy  deadline

	room  int
	delay time.Duration
	rate  float64 // bytes per second; 0: no limit
	free  time.Time
	total int
	cutAt int // reset both ways once so many bytes were written; 0: never
	cut   func()
}

type packet struct {
	at   time.Time
	data []byte
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func newPipe(l link) *pipe {
	p := &pipe{room: max(256<<10, l.room), delay: l.delay, rate: l.rate}
	p.change = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) wakeAt(t time.Time) *time.Timer {
	return time.AfterFunc(max(0, time.Until(t)), func() {
		p.mu.Lock()
		p.change.Broadcast()
		p.mu.Unlock()
	})
}

func (p *pipe) set(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	p.change.Broadcast()
}

// expired also sees to it that somebody wakes when the deadline comes.
func (p *pipe) expired(d *deadline) bool {
	if d.at.IsZero() {
		return false
	}
	if !time.Now().Before(d.at) {
		return true
	}
	if d.timer == nil {
		d.timer = p.wakeAt(d.at)
	}
	return false
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.err != nil:
			return 0, p.err
		case p.expired(&p.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(p.queue) > 0 && !time.Now().Before(p.queue[0].at):
			n := copy(b, p.queue[0].data)
			if p.queue[0].data = p.queue[0].data[n:]; len(p.queue[0].data) == 0 {
				p.queue = p.queue[1:]
			}
			p.buffered -= n
			p.change.Broadcast()
			return n, nil
		case len(p.queue) > 0:
			if p.waking != p.queue[0].at {
				p.waking = p.queue[0].at
				p.wakeAt(p.waking)
			}
		case p.closed:
			return 0, io.EOF
		}
		p.change.Wait()
	}
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := 0
	for done < len(b) {
		switch {
		case p.err != nil:
			return done, p.err
		case p.closed:
			return done, io.ErrClosedPipe
		case p.expired(&p.writeBy):
			return done, os.ErrDeadlineExceeded
		case p.buffered >= p.room:
			p.change.Wait()
			continue
		}
		n := min(len(b)-done, p.room-p.buffered, 16<<10)
		at := time.Now()
		if p.rate > 0 {
			if p.free.Before(at) {
				p.free = at
			}
			p.free = p.free.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
			at = p.free
		}
		p.queue = append(p.queue, packet{at.Add(p.delay), append([]byte(nil), b[done:done+n]...)})
		p.buffered += n
		done += n
		p.total += n
		p.change.Broadcast()
		if p.cutAt > 0 && p.total >= p.cutAt {
			go p.cut()
			p.cutAt = 0
		}
	}
	return done, nil
}

func (p *pipe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.closed = true
	} else if p.err == nil {
		p.err = err
	}
	p.change.Broadcast()
}

var errReset = errors.New("stream reset")

// A memStream is one end of an in-memory stream.
type memStream struct {
	in, out *pipe
}

func (s *memStream) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *memStream) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *memStream) CloseWrite() error           { s.out.end(nil); return nil }
func (s *memStream) Close() error                { s.out.end(nil); s.in.end(io.ErrClosedPipe); return nil }
func (s *memStream) Reset() error                { s.out.end(errReset); s.in.end(errReset); return nil }
func (s *memStream) SetReadDeadline(t time.Time) error {
	s.in.set(&s.in.readBy, t)
	return nil
}
func (s *memStream) SetWriteDeadline(t time.Time) error {
	s.out.set(&s.out.writeBy, t)
	return nil
}
func (s *memStream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// A link is how a network carries bytes from one device to another.
type link struct {
	delay time.Duration
	rate  float64
	room  int // bytes a stream takes in without the reader's taking any; at least 256 KiB
}

func newStreams(ab, ba link) (a, b *memStream) {
	p, q := newPipe(ab), newPipe(ba)
	return &memStream{in: q, out: p}, &memStream{in: p, out: q}
}

// A network joins devices. Streams between two exist while they are connected.
type network struct {
	t       testing.TB
	mu      sync.Mutex
	devices map[DeviceID]*device
	links   map[[2]DeviceID]link
	streams map[[2]DeviceID][]*memStream
	cuts    map[string]int // per protocol: reset the next stream after so many bytes downward
	opened  map[string]int
	hostile map[DeviceID]func(protocol string, s Stream) // answers in a device's stead
	running sync.WaitGroup
}

func newNetwork(t testing.TB) *network {
	n := &network{t: t, devices: map[DeviceID]*device{}, links: map[[2]DeviceID]link{}, streams: map[[2]DeviceID][]*memStream{},
		cuts: map[string]int{}, opened: map[string]int{}, hostile: map[DeviceID]func(string, Stream){}}
	t.Cleanup(n.running.Wait) // after the devices, which are made later
	return n
}

// An end is a device's side of the network.
type end struct {
	n    *network
	self DeviceID
}

func (e end) Open(ctx context.Context, peer DeviceID, protocol string) (Stream, error) {
	n := e.n
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hostile[peer]; h != nil {
		near, far := newStreams(link{}, link{})
		n.opened[protocol]++
		k := pairOf(e.self, peer)
		n.streams[k] = append(n.streams[k], near)
		n.running.Go(func() { h(protocol, far) })
		return near, nil
	}
	d := n.devices[peer]
	if d == nil {
		return nil, fmt.Errorf("no device %s", peer)
	}
	d.mu.Lock()
	s := d.sessions[e.self]
	d.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("device %s is not connected", peer)
	}
	near, far := newStreams(n.links[[2]DeviceID{e.self, peer}], n.links[[2]DeviceID{peer, e.self}])
	if at := n.cuts[protocol]; at > 0 {
		far.out.cutAt, far.out.cut = at, func() { _ = far.Reset() }
	}
	n.opened[protocol]++
	k := pairOf(e.self, peer)
	n.streams[k] = append(n.streams[k], near)
	n.running.Go(func() {
		var err error
		switch protocol {
		case wire.IndexProtocol:
			err = s.ServeIndex(d.ctx, far)
		case wire.BlocksProtocol:
			err = s.ServeBlocks(d.ctx, far)
		}
		d.note(fmt.Sprintf("%s ended: %v", protocol, err))
	})
	return near, nil
}

func pairOf(a, b DeviceID) [2]DeviceID {
	if string(a[:]) > string(b[:]) {
		a, b = b, a
	}
	return [2]DeviceID{a, b}
}

// count gives how many streams of a protocol were opened.
func (n *network) count(protocol string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opened[protocol]
}

// reset breaks all streams between two devices.
func (n *network) reset(a, b *device) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.streams[pairOf(a.id, b.id)] {
		_ = s.Reset()
	}
	delete(n.streams, pairOf(a.id, b.id))
}
