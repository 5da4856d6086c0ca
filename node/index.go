package node

import (
	"context"
	"crypto/sha256"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
)

// A folderIndex is a folder as a session sees it: a replication.Index. All
// its methods may be called concurrently.
type folderIndex struct {
	f    *Folder
	peer string // whose session it is
}

var _ replication.Index = folderIndex{}

func (x folderIndex) ID() crdt.FolderID { return x.f.id }
func (x folderIndex) Seq() uint64       { return x.f.index.Seq() }

// Wait returns when the index or our progress has moved.
func (x folderIndex) Wait(ctx context.Context, seq uint64, p replication.Progress) error {
	for {
		x.f.mu.Lock()
		changed := x.f.changed
		x.f.mu.Unlock()
		if x.Seq() > seq || x.Progress() != p {
			return nil
		}
		select {
		case <-changed:
			x.f.pace(ctx, x.peer)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxListBytes bounds the block lists that travel along with a batch.
const maxListBytes = 256 << 10

// After gives what changed after seq, with the small block lists that belong
// to it.
func (x folderIndex) After(seq uint64, maxEntries, maxBytes int) (b replication.Batch, err error) {
	err = x.f.index.Read(func(r *store.Reader) error {
		if b.Entries, b.Next, err = r.After(seq, maxEntries, maxBytes); err != nil {
			return err
		}
		room := maxListBytes
		for _, e := range b.Entries {
			for _, facet := range e.Versions() {
				v := facet.Version
				if v.Blocks < 2 {
					continue
				}
				list, ok, err := r.List(v.Content)
				if err != nil {
					return err
				}
				if size := list.EncodedSize(); ok && size <= room {
					room -= size
					if b.Lists == nil {
						b.Lists = make(map[crdt.ContentHash]chunk.List)
					}
					b.Lists[v.Content] = list
				}
			}
		}
		if b.Next >= x.Seq() {
			b.Heads, err = r.Heads()
		}
		return err
	})
	return b, err
}

func (x folderIndex) Cursor(peer replication.DeviceID, id replication.StoreID) (seq uint64, err error) {
	err = x.f.index.Read(func(r *store.Reader) error {
		seq, err = r.Cursor(peer, store.StoreID(id))
		return err
	})
	return seq, err
}

// Apply joins a batch into the index.
//
// It waits for the first scan after a start. A crash may have come between a
// disk operation and its base row; that such a file is our own work shows only
// while the index still says what it said then.
//
// What a member sends is taken in whole, also where it holds changes of a
// device that was removed meanwhile: the member could have made them itself,
// and members must end with the same state. What the removed device says itself
// is not heard: it is no longer connected to.
func (x folderIndex) Apply(ctx context.Context, from replication.DeviceID, id replication.StoreID, b replication.Batch) error {
	f := x.f
	if err := f.scanned(ctx); err != nil {
		return err
	}
	own := false
	var applied crdt.Applied
	var sets []api.ChangeSet
	f.o.learn(b.Entries)
	err := f.update(func(tx *store.Tx, later func(func())) error {
		counter := f.index.Counter()
		for _, e := range b.Entries {
			own = own || e.Seen.Counter(f.index.Replica()) > counter
		}
		own = own || b.Heads.Counter(f.index.Replica()) > counter
		watch, err := f.watchBatch(tx, tx.Entry, b.Entries)
		if err != nil {
			return err
		}
		if applied, err = crdt.Apply(tx, b.Entries); err != nil {
			return err
		}
		if sets, err = watch.sets(tx, tx.Entry, applied, f.o.clock()); err != nil {
			return err
		}
		if err := f.dropCopies(tx, applied.Entries, later); err != nil {
			return err
		}
		for content, list := range b.Lists {
			if err := tx.PutList(content, list); err != nil {
				return err
			}
		}
		if b.Heads != nil {
			if err := tx.MergeHeads(b.Heads); err != nil {
				return err
			}
		}
		return tx.SetCursor(from, store.StoreID(id), b.Next)
	})
	if err != nil {
		return err
	}
	if own {
		// A peer knows changes of this replica that we do not: our database was
		// restored from an older copy. No dot is ever made twice.
		f.o.log.Warn("the index is older than what a peer has seen of it: taking a new replica ID", "folder", f.name)
		if err := f.index.FreshReplica(); err != nil {
			return err
		}
	}
	if b.Heads != nil || len(b.Entries) == 0 {
		// The last of what it had: a peer that has nothing has no heads either.
		f.caughtUp(from)
	}
	if len(applied.Entries) > 0 {
		f.log.add(sets)
		f.heard(applied.Entries)
		f.wake()
	}
	f.kick()
	return nil
}

// maxNews bounds what is noted while the control goroutine is not there to look.
const maxNews = 100_000

// heard notes which entries are others now than when they were put aside.
func (f *Folder) heard(ids []crdt.EntryID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.news)+len(ids) > maxNews {
		f.news, f.allNews = nil, true
		return
	}
	if f.news == nil {
		f.news = make(map[crdt.EntryID]struct{}, len(ids))
	}
	for _, id := range ids {
		f.news[id] = struct{}{}
	}
}

// scanned waits for the first scan after a start; a folder that waits for its
// first meeting with another device is scanned only after that.
func (f *Folder) scanned(ctx context.Context) error {
	for {
		f.mu.Lock()
		ok, changed := f.stored || f.fresh || f.shown.rounds > 0, f.changed
		f.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// caughtUp notes that all that a peer had has been taken in. The first time
// ends a folder's waiting to meet another device.
func (f *Folder) caughtUp(peer replication.DeviceID) {
	f.mu.Lock()
	p := f.peers[peer]
	moved := !p.caughtUp
	p.caughtUp = true
	f.peers[peer] = p
	fresh := f.fresh
	f.fresh = false
	if moved || fresh {
		f.announceLocked()
	}
	s := f.standingLocked()
	f.mu.Unlock()
	if fresh {
		if err := f.o.remember(s); err != nil {
			f.o.log.Error("remember that the folder has met another device", "folder", f.name, "err", err)
		}
	}
}

func (x folderIndex) Heads() (heads crdt.VersionVector) {
	_ = x.f.index.Read(func(r *store.Reader) (err error) {
		heads, err = r.Heads()
		return err
	})
	return heads
}

// Progress is how far our disk shows our index: all of it or, while something
// is open, as far as when nothing was.
func (x folderIndex) Progress() replication.Progress {
	if x.f.stored {
		return replication.Progress{Settled: x.f.index.Seq()}
	}
	x.f.mu.Lock()
	defer x.f.mu.Unlock()
	return replication.Progress{Settled: x.f.settled, Have: x.f.have}
}

func (x folderIndex) PeerProgress(peer replication.DeviceID, p replication.PeerProgress) {
	x.f.mu.Lock()
	defer x.f.mu.Unlock()
	state := x.f.peers[peer]
	if state.PeerProgress == p {
		return
	}
	state.PeerProgress = p
	x.f.peers[peer] = state
	x.f.announceLocked()
}

// wake tells the sessions that the index has moved.
func (f *Folder) wake() {
	f.mu.Lock()
	f.announceLocked()
	f.mu.Unlock()
}

// left forgets a peer's state when its session ends.
func (f *Folder) left(peer replication.DeviceID) {
	f.mu.Lock()
	delete(f.peers, peer)
	f.announceLocked()
	f.mu.Unlock()
}

// blockSource serves blocks from this device's disk: a replication.Source.
type blockSource struct{ n *Node }

var _ replication.Source = blockSource{}

func (s blockSource) folder(id crdt.FolderID) (*Folder, *disk.Folder, error) {
	for _, f := range s.n.folders {
		if f.id == id {
			if d := f.serving.Load(); d != nil && !f.isPaused() {
				return f, d, nil
			}
		}
	}
	return nil, nil, replication.ErrNotHere
}

// ReadBlock reads a block from any file that the base says holds it.
func (s blockSource) ReadBlock(ctx context.Context, folder crdt.FolderID, b chunk.Block, verify bool, dst []byte) ([]byte, error) {
	f, d, err := s.folder(folder)
	if err != nil {
		return nil, err
	}
	f.pace(ctx, b.Hash.String())
	data, ok := f.localBlock(d, b, verify, dst)
	if !ok {
		return nil, replication.ErrNotHere
	}
	return data, ctx.Err()
}

// ReadList gives a block list from the index.
func (s blockSource) ReadList(ctx context.Context, folder crdt.FolderID, content crdt.ContentHash) ([]byte, error) {
	f, _, err := s.folder(folder)
	if err != nil {
		return nil, err
	}
	f.pace(ctx, content.String())
	var data []byte
	err = f.index.Read(func(r *store.Reader) error {
		list, ok, err := r.List(content)
		if err != nil {
			return err
		}
		if !ok {
			return replication.ErrNotHere
		}
		data = list.Encode()
		if sha256.Sum256(data) != [32]byte(content) {
			return replication.ErrNotHere
		}
		return ctx.Err()
	})
	return data, err
}
