package wire

import (
	"bytes"
	"errors"
	"fmt"

	"sheaf/crdt"
)

// Limits of the index plane, in bytes of a frame's payload or in items.
const (
	MaxIndexUp   = 4 << 10 // a message to the publisher
	MaxIndexDown = 2 << 20 // a message to the subscriber: a batch
	MaxEntries   = 1000    // entries of a batch
	MaxHeads     = 4096    // replicas named in a batch's heads
	MaxUnacked   = 4       // batches of one subscription sent and not yet confirmed by a Progress
	MaxFolders   = 4096    // folders subscribed to on one stream
)

// IndexUp is a message from subscriber to publisher: exactly one of its
// fields.
type IndexUp struct {
	Subscribe   *Subscribe   `cbor:"1,keyasint,omitempty"`
	Unsubscribe *Unsubscribe `cbor:"2,keyasint,omitempty"`
	Progress    *Progress    `cbor:"3,keyasint,omitempty"`
	Ping        *Ping        `cbor:"4,keyasint,omitempty"`
}

// IndexDown is a message from publisher to subscriber: exactly one of its
// fields.
type IndexDown struct {
	Status *Status `cbor:"1,keyasint,omitempty"`
	Batch  *Batch  `cbor:"2,keyasint,omitempty"`
	Ping   *Ping   `cbor:"3,keyasint,omitempty"`
}

// Ping keeps an idle stream alive. It has no answer.
type Ping struct{}

// Subscribe asks for the entries of a folder whose sequence number in the
// publisher's store is above Cursor, and all later ones. It begins anew if the
// folder is already subscribed to: Sub, higher than in any Subscribe before on
// this stream, tells the old batches from the new.
type Subscribe struct {
	Folder  ID     `cbor:"1,keyasint"`
	Sub     uint64 `cbor:"2,keyasint"`
	Cursor  uint64 `cbor:"3,keyasint"`
	Settled uint64 `cbor:"4,keyasint"`
	Have    uint64 `cbor:"5,keyasint"`
}

// Unsubscribe ends the folder's batches. Some may still be under way.
type Unsubscribe struct {
	Folder ID `cbor:"1,keyasint"`
}

// Progress confirms all batches whose Next is at most Applied, and tells how
// far the subscriber has come.
type Progress struct {
	Folder  ID     `cbor:"1,keyasint"`
	Applied uint64 `cbor:"2,keyasint"` // publisher's sequence number durably applied
	Settled uint64 `cbor:"3,keyasint"` // publisher's sequence number shown by the subscriber's disk
	Have    uint64 `cbor:"4,keyasint"` // rises when the subscriber has more content to give
}

// Status tells where a subscription stands. Nothing tells apart a folder that
// is paused, unknown or forbidden.
type Status struct {
	Folder ID     `cbor:"1,keyasint"`
	Sub    uint64 `cbor:"2,keyasint"` // of the Subscribe that this is about
	State  State  `cbor:"3,keyasint"`
	// From is the cursor above which batches follow, when State is Open: the
	// one subscribed with, or zero if the publisher's store has never come
	// that far, because what it told then is lost.
	From uint64 `cbor:"4,keyasint"`
}

// A State is what a Status says.
type State uint8

// The states of a subscription.
const (
	Closed    State = iota // nothing will come; another Status may
	Available              // the folder is there now: subscribe again
	Open                   // batches follow
)

// Batch carries entries of one folder, each as its canonical encoding,
// ancestors before descendants, and encoded block lists of some of their
// contents. It is all that changed above After up to Next, but for what the
// subscriber itself sent. The first batch's After is the Status's From, each
// later one's the Next before it: a receiver that sees a gap has lost
// something and must not move its cursor.
type Batch struct {
	Folder  ID       `cbor:"1,keyasint"`
	Sub     uint64   `cbor:"2,keyasint"`
	After   uint64   `cbor:"3,keyasint"`
	Next    uint64   `cbor:"4,keyasint"`
	Entries [][]byte `cbor:"5,keyasint,omitempty"`
	Lists   [][]byte `cbor:"6,keyasint,omitempty"`
	Heads   Heads    `cbor:"7,keyasint"` // empty unless Next is all that the publisher has
}

// Heads is a version vector: replica IDs one after the other, and the counter
// of each.
type Heads struct {
	_        struct{} `cbor:",toarray"`
	Replicas []byte
	Counters []uint64
}

var errUnion = errors.New("not exactly one kind of message")

// Check refuses a message of no kind or of several.
func (m *IndexUp) Check() error {
	if count(m.Subscribe != nil, m.Unsubscribe != nil, m.Progress != nil, m.Ping != nil) != 1 {
		return errUnion
	}
	return nil
}

// Check refuses a message of no kind or of several, and a batch with too many
// parts. What a batch holds is checked when it is opened, so that a bad one
// costs its folder alone.
func (m *IndexDown) Check() error {
	if count(m.Status != nil, m.Batch != nil, m.Ping != nil) != 1 {
		return errUnion
	}
	if m.Status != nil && m.Status.State > Open {
		return fmt.Errorf("status with state %d", m.Status.State)
	}
	if b := m.Batch; b != nil {
		if len(b.Entries) > MaxEntries {
			return fmt.Errorf("batch of %d entries, more than %d", len(b.Entries), MaxEntries)
		}
		if len(b.Lists) > MaxEntries {
			return fmt.Errorf("batch of %d block lists, more than %d", len(b.Lists), MaxEntries)
		}
	}
	return nil
}

func count(set ...bool) (n int) {
	for _, s := range set {
		if s {
			n++
		}
	}
	return n
}

// HeadsOf gives the form of v on the wire.
func HeadsOf(v crdt.VersionVector) Heads {
	var h Heads
	for _, d := range v {
		h.Replicas = append(h.Replicas, d.Replica[:]...)
		h.Counters = append(h.Counters, d.Counter)
	}
	return h
}

// Vector gives the version vector, or an error if h is none.
func (h Heads) Vector() (crdt.VersionVector, error) {
	const size = len(crdt.ReplicaID{})
	n := len(h.Counters)
	if n > MaxHeads || len(h.Replicas) != n*size {
		return nil, fmt.Errorf("heads of %d counters and %d bytes of replicas", n, len(h.Replicas))
	}
	if n == 0 {
		return nil, nil
	}
	v := make(crdt.VersionVector, n)
	for i := range v {
		v[i] = crdt.Dot{Replica: crdt.ReplicaID(h.Replicas[i*size : (i+1)*size]), Counter: h.Counters[i]}
		if v[i].Counter == 0 || i > 0 && bytes.Compare(v[i-1].Replica[:], v[i].Replica[:]) >= 0 {
			return nil, errors.New("heads out of order or zero")
		}
	}
	return v, nil
}
