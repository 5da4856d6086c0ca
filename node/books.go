package node

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
	"sheaf/replication/seal"
)

// relayBooks are what a device remembers of what it has handed in at relays: a
// deposit.Books in the index database. If that is lost, all is offered again, and found
// to be there.
type relayBooks struct {
	db    *store.Store
	begun uint64 // where numbers go on at the least: the time at which the node started

	numbering sync.Mutex
}

var _ deposit.Books = (*relayBooks)(nil)

// The spaces of the database that the books stand in.
const (
	refSpace      = "sealed" // by hash: address and epoch
	numberSpace   = "record number"
	progressSpace = "handed in" // by store and folder: number; and, below it, entries that wait
)

// newRelayBooks makes the books. Numbers begin at the time, in microseconds: a database
// that was lost, or restored from a copy, gives none out twice, as long as the clock has
// not gone back over all the time since.
func newRelayBooks(db *store.Store, now time.Time) *relayBooks {
	return &relayBooks{db: db, begun: uint64(max(1, now.UnixMicro()))} //nolint:gosec // above zero
}

// Numbers implements deposit.Books.
func (b *relayBooks) Numbers(folder crdt.FolderID, n uint64) (uint64, error) {
	b.numbering.Lock()
	defer b.numbering.Unlock()
	next := b.begun
	if v, ok, err := b.db.Get(numberSpace, folder.String()); err != nil {
		return 0, err
	} else if ok && len(v) == 8 {
		next = max(next, binary.BigEndian.Uint64(v))
	}
	return next, b.db.Put(numberSpace, folder.String(), binary.BigEndian.AppendUint64(nil, next+n))
}

func progressKey(id replication.StoreID, folder crdt.FolderID) string {
	return hex.EncodeToString(id[:]) + "/" + folder.String()
}

// Progress implements deposit.Books.
func (b *relayBooks) Progress(id replication.StoreID, folder crdt.FolderID) (deposit.Progress, error) {
	var p deposit.Progress
	v, ok, err := b.db.Get(progressSpace, progressKey(id, folder))
	if err != nil || !ok {
		return p, err
	}
	const idSize = len(crdt.EntryID{})
	if len(v) < 8 || (len(v)-8)%idSize != 0 {
		return p, nil // of another release: all is offered again
	}
	p.Seq = binary.BigEndian.Uint64(v)
	for v = v[8:]; len(v) > 0; v = v[idSize:] {
		p.Waiting = append(p.Waiting, crdt.EntryID(v[:idSize]))
	}
	return p, nil
}

// SetProgress implements deposit.Books.
func (b *relayBooks) SetProgress(id replication.StoreID, folder crdt.FolderID, p deposit.Progress) error {
	v := binary.BigEndian.AppendUint64(nil, p.Seq)
	for _, w := range p.Waiting {
		v = append(v, w[:]...)
	}
	return b.db.Put(progressSpace, progressKey(id, folder), v)
}

// Refs implements deposit.Books.
func (b *relayBooks) Refs(hashes []chunk.Hash) (map[chunk.Hash]seal.Ref, error) {
	out := make(map[chunk.Hash]seal.Ref, len(hashes))
	for _, h := range hashes {
		v, ok, err := b.db.Get(refSpace, string(h[:]))
		if err != nil {
			return nil, fmt.Errorf("look up where blocks are sealed: %w", err)
		}
		var r seal.Ref
		if ok && len(v) == len(r.Digest)+len(r.Epoch) {
			copy(r.Digest[:], v)
			copy(r.Epoch[:], v[len(r.Digest):])
			out[h] = r
		}
	}
	return out, nil
}

// PutRefs implements deposit.Books.
func (b *relayBooks) PutRefs(refs map[chunk.Hash]seal.Ref) error {
	values := make(map[string][]byte, len(refs))
	for h, r := range refs {
		if r == (seal.Ref{}) {
			values[string(h[:])] = nil
			continue
		}
		values[string(h[:])] = append(append([]byte(nil), r.Digest[:]...), r.Epoch[:]...)
	}
	if err := b.db.PutAll(refSpace, values); err != nil {
		return fmt.Errorf("note where blocks are sealed: %w", err)
	}
	return nil
}
