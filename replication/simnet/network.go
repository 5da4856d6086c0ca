package simnet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// An ID names a device.
type ID [32]byte

// String gives the first eight bytes in hexadecimal: enough for a log.
func (id ID) String() string { return hex.EncodeToString(id[:8]) }

// Errors that callers decide by.
var (
	// ErrNotConnected reports an Open without a connection to the peer.
	ErrNotConnected = errors.New("not connected")
	// ErrReset reports a stream that this side or the other has reset, whose
	// reader on the other side has closed it (writing only), or whose connection
	// was lost.
	ErrReset = errors.New("stream reset")
)

// Options say what kind of network it is. The zero Options are those of a good
// one: everything arrives a nanosecond later.
type Options struct {
	Seed uint64
	// Link is that of every two devices, each way, for which SetLink has set no
	// other.
	Link Link
	// DeadAfter is how long a connection over which nothing arrives in one or both
	// directions lives at the least (default 30 s). Each side finds it dead at its
	// own moment within a quarter of that more.
	DeadAfter time.Duration
	// Redial is the longest wait before two devices that can reach each other, and
	// are not connected, begin to connect (default 2 s).
	Redial time.Duration
	// Log is told each event, with its time since New. It is called in the order of
	// events, and must not call the network.
	Log func(format string, args ...any)
}

// A Network joins devices. Its methods are safe for concurrent use, and do not
// wait, but for Close.
type Network struct {
	o     Options
	start time.Time

	mu     sync.Mutex // never held over a wait
	timer  *time.Timer
	armed  instant // when timer fires; never: it does not
	agenda agenda
	last   instant // of the event that happened last
	fresh  []fresh // parcels sent at instant freshAt that have yet to be settled
	ports  map[ID]*Port
	links  map[[2]ID]*link // from, to
	pairs  map[[2]ID]*pair // the smaller ID first
	hash   uint64
	closed bool

	freshAt       instant
	stop, stopped chan struct{}
}

// New makes a network without devices. On virtual time it must be made, used and
// closed within one bubble, which the contexts that Open is given must be of, too.
func New(o Options) *Network {
	if o.DeadAfter <= 0 {
		o.DeadAfter = 30 * time.Second
	}
	if o.Redial <= 0 {
		o.Redial = 2 * time.Second
	}
	n := &Network{
		o: o, start: time.Now(), armed: never, timer: time.NewTimer(time.Hour),
		ports: make(map[ID]*Port), links: make(map[[2]ID]*link), pairs: make(map[[2]ID]*pair),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	n.timer.Stop()
	go n.run()
	return n
}

// Close takes all devices down at once, as Leave does, and returns when nothing
// of the network runs any more. It may be called again.
func (n *Network) Close() {
	n.mu.Lock()
	first := !n.closed
	n.closed = true // from here on nobody waits for an event
	ports := slices.SortedFunc(maps.Values(n.ports), func(a, b *Port) int { return bytes.Compare(a.id[:], b.id[:]) })
	for _, p := range ports {
		p.down(n.now())
	}
	n.mu.Unlock()
	for _, p := range ports {
		p.running.Wait()
	}
	if first {
		close(n.stop)
	}
	<-n.stopped
}

// Delivered gives how many bytes of streams have come in at one device from
// another since New, and in how many parcels: a parcel is what one side of a
// stream wrote at one instant, up to 16 KiB. What is not payload (opening,
// closing, making room) is not counted.
func (n *Network) Delivered(from, to ID) (bytes, parcels uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.link(from, to)
	return l.bytes, l.parcels
}

// Hash is of all that was delivered since New: instants, devices, streams, bytes,
// and what became of streams and connections. Two runs that did the same have the
// same, also on another machine; it is not made to withstand malice.
func (n *Network) Hash() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hash
}

// logf tells Options.Log of what happened at an instant.
func (n *Network) logf(at instant, format string, args ...any) {
	if n.o.Log != nil {
		n.o.Log("%14v "+format, append([]any{at}, args...)...)
	}
}

// note adds what happened to the hash.
func (n *Network) note(at instant, words ...uint64) {
	n.hash = mix(mix(n.hash, uint64(at)), words...)
}
