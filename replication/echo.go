package replication

import (
	"crypto/sha256"
	"sync"

	"sheaf/crdt"
)

// An echo remembers the states of entries that a peer sent, until they were
// due to be sent to it. What equals them then is not sent: the peer has it, as
// long as its store is the one that it was sent from. A session may outlive that:
// of a peer that begins anew the old connection may not have been missed yet.
//
// Forgetting costs traffic and nothing else, so it is bounded. Remembering
// wrongly would lose a change, so states are compared by 128 bits of SHA-256:
// a peer that made two states collide would hide them from itself alone.
type echo struct {
	mu    sync.Mutex
	store StoreID // the peer's, of which sent is
	had   uint64  // how far the peer said that it had applied what is ours
	sent  map[crdt.EntryID]digest
}

type digest [16]byte

// maxEcho bounds an echo to a few batches: about 1 MiB.
const maxEcho = 16 << 10

func digestOf(encoded []byte) digest {
	sum := sha256.Sum256(encoded)
	return digest(sum[:16])
}

// heard remembers that the peer sent the entry in this encoding, from this store.
func (e *echo) heard(store StoreID, id crdt.EntryID, encoded []byte) {
	d := digestOf(encoded)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sent == nil || len(e.sent) >= maxEcho || e.store != store {
		e.store, e.sent = store, map[crdt.EntryID]digest{}
	}
	e.sent[id] = d
}

// applied notes how far the peer has come with what is ours.
func (e *echo) applied(seq uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.had = max(e.had, seq)
}

// resumed notes from where on the peer asks. One that asks for what it had already
// has lost it, and perhaps what it sent as well.
func (e *echo) resumed(from uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from < e.had {
		e.sent = nil
	}
	e.had = from
}

// has tells whether the peer sent the entry in this encoding, from the store that
// it has, and forgets it.
func (e *echo) has(store StoreID, id crdt.EntryID, encoded []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, ok := e.sent[id]
	if !ok || e.store != store {
		return false
	}
	delete(e.sent, id)
	return d == digestOf(encoded)
}
