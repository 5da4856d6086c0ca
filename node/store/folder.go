package store

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"sheaf/crdt"
)

// A Folder is what is remembered of one folder. Its methods are safe for
// concurrent use.
type Folder struct {
	s  *Store
	id crdt.FolderID
	n  number

	cache *rowCache
	write sync.Mutex           // held by the one writer
	state atomic.Pointer[meta] // as of the last commit

	mu      sync.Mutex
	durable uint64        // the last sequence number that a power cut cannot take back
	lazy    bool          // there are commits after it
	moved   chan struct{} // closed when durable moves, or at the end
	gone    error         // why the folder takes no more calls
}

// ID gives the folder's ID.
func (f *Folder) ID() crdt.FolderID { return f.id }

// Replica gives the ID under which this database makes dots.
func (f *Folder) Replica() crdt.ReplicaID { return f.state.Load().replica }

// Counter gives the last counter of Replica that was used.
func (f *Folder) Counter() uint64 { return f.state.Load().counter }

// Seq gives the highest sequence number that is durable. Those above it (of a
// lazy update) are not given to peers, since a crash would give them to other
// entries.
func (f *Folder) Seq() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.durable
}

// BehindCount gives how many entries are behind in the last commit and how many
// bytes of content they are to fetch.
func (f *Folder) BehindCount() (n int, bytes int64) {
	m := f.state.Load()
	return int(m.behind), m.missing
}

// Wait waits until Seq is above seq. It fails when the context ends, the store
// is closed or the folder is forgotten.
func (f *Folder) Wait(ctx context.Context, seq uint64) error {
	for {
		f.mu.Lock()
		durable, moved, gone := f.durable, f.moved, f.gone
		f.mu.Unlock()
		switch {
		case gone != nil:
			return gone
		case durable > seq:
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for a change of folder %s: %w", f.id, ctx.Err())
		}
	}
}

// Read gives fn a snapshot of the folder. Many may read at a time, also while
// somebody writes.
func (f *Folder) Read(fn func(*Reader) error) error {
	if err := f.ended(); err != nil {
		return err
	}
	if err := f.s.enter(); err != nil {
		return err
	}
	defer f.s.leave()
	snap, err := f.s.db.GetSnapshot()
	if err != nil {
		return f.s.fault(fmt.Errorf("take a snapshot: %w", ofDB(err)))
	}
	defer snap.Release()
	r := &Reader{f: f, view: view{src: snap}}
	defer func() {
		r.done = true
		r.view.release()
	}()
	val, ok, err := r.view.get(f.n.key(tabMeta, 0))
	switch {
	case err != nil:
		return f.s.fault(fmt.Errorf("read folder %s: %w", f.id, err))
	case !ok:
		return fmt.Errorf("read folder %s: %w", f.id, ErrForgotten)
	}
	if r.meta, err = decodeMeta(val); err != nil {
		return f.s.fault(fmt.Errorf("read folder %s: %w", f.id, err))
	}
	return fn(r)
}

// Update gives fn a transaction and commits what it did, all of it, synced; or
// nothing of it if fn or the commit fails. One writer at a time; what fn is
// given ends with it. A synced commit makes every lazy one before it durable.
//
// After an ErrFailed the database has to be opened again; then the batch is
// there as a whole or not at all.
func (f *Folder) Update(fn func(*Tx) error) error { return f.update(fn, false) }

// UpdateLazy is Update without the sync: after a power cut the commit may be
// missing, but only together with all later ones. It is for what can then be
// had again without anybody noticing: entries from a peer (whose cursor is in
// the same commit, so that they are asked for again), block lists, and base
// rows of what a scan finds anew. Not for local changes (setting the counter
// is refused) nor for base rows of renames and deletions carried out on the disk.
//
// What it puts is read at once by all readers here, and given to peers only
// when a synced commit or Sync has followed.
func (f *Folder) UpdateLazy(fn func(*Tx) error) error { return f.update(fn, true) }

// Sync makes all commits durable.
func (f *Folder) Sync() error { return f.update(func(*Tx) error { return nil }, false) }

// FreshReplica gives the folder a new replica ID with counter zero. The heads
// keep the old one.
func (f *Folder) FreshReplica() error {
	return f.update(func(t *Tx) error {
		var id crdt.ReplicaID
		if _, err := io.ReadFull(f.s.rand, id[:]); err != nil {
			return fmt.Errorf("draw a replica ID: %w", err)
		}
		old := crdt.Dot{Replica: t.meta.replica, Counter: t.meta.counter}
		t.meta.replica, t.meta.counter = id, 0
		if old.Counter == 0 {
			return nil
		}
		return t.putHead(old)
	}, false)
}

func (f *Folder) update(fn func(*Tx) error, lazy bool) error {
	f.write.Lock()
	defer f.write.Unlock()
	if err := f.ended(); err != nil {
		return err
	}
	if err := f.s.enter(); err != nil {
		return err
	}
	defer f.s.leave()
	t := newTx(f, lazy)
	defer func() {
		t.done = true
		t.view.release()
	}()
	if err := fn(t); err != nil {
		return err
	}
	changed, err := t.finish()
	if err != nil {
		return err
	}
	f.mu.Lock()
	pending := f.lazy
	f.mu.Unlock()
	if !changed && (lazy || !pending) {
		return nil
	}
	t.meta.commit++
	if err := t.over.put(f.n.key(tabMeta, 0), t.meta.encode()); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	t.view.release() // a commit may compact, and an iterator keeps files open
	f.cache.begin(t.meta.commit, t.wrote)
	if err := f.s.commit(t.over.batch(), f.n, t.meta.commit, !lazy); err != nil {
		return err
	}
	f.cache.end(t.wrote)
	f.publish(t.meta, !lazy)
	return nil
}

// publish makes a commit known.
func (f *Folder) publish(m meta, synced bool) {
	f.state.Store(&m)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lazy = !synced
	if synced && f.durable != m.seq {
		f.durable = m.seq
		close(f.moved)
		f.moved = make(chan struct{})
	}
}

func (f *Folder) ended() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone
}

// end makes all later calls, and those that wait, fail with err.
func (f *Folder) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone == nil {
		f.gone = err
		close(f.moved)
	}
}
