package node

import (
	"encoding/hex"
	"fmt"
	"sync"

	"sheaf/crdt"
	"sheaf/node/store"
	"sheaf/replication/group"
)

// replicaNames remembers whose replicas there are, as far as their contents
// say it: moves and deletions carry a replica and no name. It is for people.
type replicaNames struct {
	db *store.Store

	flushing sync.Mutex
	mu       sync.Mutex // never held over a write to the disk
	byID     map[crdt.ReplicaID]string
	unsaid   []crdt.ReplicaID // not yet written
}

const replicaSpace = "replica"

func openReplicaNames(db *store.Store) (*replicaNames, error) {
	r := &replicaNames{db: db, byID: make(map[crdt.ReplicaID]string)}
	err := db.Each(replicaSpace, func(key string, value []byte) error {
		raw, err := hex.DecodeString(key)
		if err != nil || len(raw) != len(crdt.ReplicaID{}) {
			return fmt.Errorf("read the names of replicas: %q is none", key)
		}
		r.byID[crdt.ReplicaID(raw)] = string(value)
		return nil
	})
	return r, err
}

// maxReplicaNames bounds what is remembered.
const maxReplicaNames = 4096

// learn takes the names from versions.
func (r *replicaNames) learn(entries []crdt.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		for _, f := range e.Versions() {
			id, name := f.Version.Stamp.Replica, f.Version.Author
			if r.byID[id] != name && name != "" && len(r.byID) < maxReplicaNames {
				r.byID[id] = name
				r.unsaid = append(r.unsaid, id)
			}
		}
	}
}

// name gives the device whose replica it is, "another device" if not known.
func (r *replicaNames) name(id crdt.ReplicaID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if name := r.byID[id]; name != "" {
		return name
	}
	return "another device"
}

// maxTold bounds how many names are told to a peer.
const maxTold = 512

// known gives names for a peer.
func (r *replicaNames) known() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]string)
	for id, name := range r.byID {
		if len(out) < maxTold {
			out[id.String()] = name
		}
	}
	return out
}

// hear takes names from a peer. Those known already stay.
func (r *replicaNames) hear(names map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, name := range names {
		raw, err := hex.DecodeString(key)
		if err != nil || len(raw) != len(crdt.ReplicaID{}) || group.CheckName(name) != nil || len(r.byID) >= maxReplicaNames {
			continue
		}
		id := crdt.ReplicaID(raw)
		if _, ok := r.byID[id]; !ok {
			r.byID[id] = name
			r.unsaid = append(r.unsaid, id)
		}
	}
}

// own says that a replica is this device's.
func (r *replicaNames) own(id crdt.ReplicaID, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[id] != name {
		r.byID[id] = name
		r.unsaid = append(r.unsaid, id)
	}
}

// flush writes what has been learnt.
func (r *replicaNames) flush() error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	unsaid, names := r.unsaid, make([]string, len(r.unsaid))
	for i, id := range unsaid {
		names[i] = r.byID[id]
	}
	r.unsaid = nil
	r.mu.Unlock()
	for i, id := range unsaid {
		if err := r.db.Put(replicaSpace, id.String(), []byte(names[i])); err != nil {
			r.mu.Lock()
			r.unsaid = append(r.unsaid, unsaid[i:]...)
			r.mu.Unlock()
			return fmt.Errorf("write the names of replicas: %w", err)
		}
	}
	return nil
}
