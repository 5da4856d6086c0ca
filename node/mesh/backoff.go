package mesh

import (
	"sync"
	"time"
)

// A keeper decides when a peer that should be connected is dialled. It knows
// no network and no clock: it is told what happened when, and asked what is
// due. Safe for concurrent use; it calls nobody but rand.
type keeper struct {
	min, max time.Duration
	rand     func() float64 // [0, 1)

	mu    sync.Mutex
	peers map[DeviceID]*retry
}

// A retry is the state of one peer.
type retry struct {
	failures int
	next     time.Time // not before
	dialling bool
	hinted   time.Time
}

// Connections that lasted less than steady count as failures, so that a peer
// that accepts and hangs up is not dialled in a tight loop.
const steady = time.Minute

// hintGap bounds what a stream of hints (forged sightings on the local
// network) can make us dial.
const hintGap = 10 * time.Second

func newKeeper(min, max time.Duration, rand func() float64) *keeper {
	return &keeper{min: min, max: max, rand: rand, peers: make(map[DeviceID]*retry)}
}

func (k *keeper) at(id DeviceID) *retry {
	r := k.peers[id]
	if r == nil {
		r = &retry{}
		k.peers[id] = r
	}
	return r
}

// delay is min doubled with each failure up to max, and of that a random part
// between half and all (decorrelates peers that lost each other together).
func (k *keeper) delay(failures int) time.Duration {
	d := k.min
	for i := 1; i < failures && d < k.max; i++ {
		d *= 2
	}
	d = min(d, k.max)
	return d/2 + time.Duration(k.rand()*float64(d/2))
}

// due gives those of wanted that are to be dialled now, and marks them as being
// dialled; and when the next will be due (zero if nothing waits). Whoever is
// neither wanted nor being dialled is forgotten.
func (k *keeper) due(now time.Time, wanted []DeviceID, connected func(DeviceID) bool) (dial []DeviceID, next time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keep := make(map[DeviceID]bool, len(wanted))
	for _, id := range wanted {
		keep[id] = true
		r := k.at(id)
		switch {
		case r.dialling || connected(id):
		case !r.next.After(now):
			r.dialling = true
			dial = append(dial, id)
		case next.IsZero() || r.next.Before(next):
			next = r.next
		}
	}
	for id, r := range k.peers {
		if !keep[id] && !r.dialling {
			delete(k.peers, id)
		}
	}
	return dial, next
}

// failed records that a dial came to nothing, and gives how many have in a row.
func (k *keeper) failed(id DeviceID, now time.Time) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.at(id)
	r.dialling = false
	r.failures++
	r.next = now.Add(k.delay(r.failures))
	return r.failures
}

// reached records that the peer is connected, by whoever's dial. Failures stay
// on record until the connection has proved steady.
func (k *keeper) reached(id DeviceID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.peers[id]; r != nil {
		r.dialling = false
	}
}

// lost records that the last connection to the peer ended after lasted.
func (k *keeper) lost(id DeviceID, now time.Time, lasted time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.peers[id]
	if r == nil || r.dialling {
		return // nobody wants it, or the dial that made it will report
	}
	if lasted >= steady {
		r.failures = 0
	} else {
		r.failures++
	}
	if r.failures <= 1 {
		// A first loss is retried within min: most are a restart or a switch
		// of networks. Random, since both sides do this at the same moment.
		r.next = now.Add(time.Duration(k.rand() * float64(k.min)))
		return
	}
	r.next = now.Add(k.delay(r.failures))
}

// hint says that there is news of where the peer is: it is due at once, unless
// another hint came within [hintGap].
func (k *keeper) hint(id DeviceID, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.at(id)
	if !r.hinted.IsZero() && now.Sub(r.hinted) < hintGap {
		return
	}
	r.hinted, r.failures, r.next = now, 0, now
}

// reset makes every peer due at once: the network has changed, or somebody
// asks.
func (k *keeper) reset(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.peers {
		r.failures, r.next = 0, now
	}
}
