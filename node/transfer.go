package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
)

// A transfer brings the content of one file together, from this disk where it
// is there already and else from peers. A small file is held in memory until it
// is committed; a larger one is built in a temporary file that outlives a crash.
type transfer struct {
	id     crdt.EntryID
	target plan.Target
	size   int64
	again  bool // the entry has this content here, and is to get it anew
	local  bool // of one block: it may be on this disk already
	cancel context.CancelFunc
	since  uint64 // Folder.sources when it began
	got    atomic.Int64

	// Set when it has ended.
	data []byte
	temp *disk.Temp
	list chunk.List // of more than one block
	err  error

	unwanted bool // by control: the content is in place already
}

// close lets go of the temporary file, which stays for the next attempt if it
// may come to that; it tells whether one was left (see sweepTemps).
func (t *transfer) close() (left bool) {
	t.cancel()
	if t.temp == nil {
		return false
	}
	temp := t.temp
	t.temp = nil
	if t.unwanted {
		return temp.Discard() != nil
	}
	_ = temp.Close()
	return true
}

// Transfers under way at once: enough small ones to fill a connection whose
// round trip is long, few enough that memory stays bounded.
const (
	maxTransfers     = 8192
	maxTransferBytes = 64 << 20 // of small files in memory
	maxLargeFiles    = 8        // with a temporary file open
)

// inFlight is what transfers under way take up.
type inFlight struct {
	bytes int64  // of small files, in memory
	large int    // files with a temporary file open
	full  bool   // one was refused since the last that ended
	seq   uint64 // the index's number when it was
}

// take makes room for a transfer, or refuses it.
func (i *inFlight) take(t *transfer, under int) bool {
	large := t.target.Blocks > 1
	switch {
	case under >= maxTransfers, large && i.large >= maxLargeFiles, !large && i.bytes > 0 && i.bytes+t.size > maxTransferBytes:
		i.full = true
		return false
	case large:
		i.large++
	default:
		i.bytes += t.size
	}
	return true
}

// give takes back the room of a transfer that has ended.
func (i *inFlight) give(t *transfer) {
	if t.target.Blocks > 1 {
		i.large--
	} else {
		i.bytes -= t.size
	}
}

// begin starts a transfer, unless too many are under way.
func (f *Folder) begin(w *work, id crdt.EntryID, target plan.Target, again, local bool) bool {
	t := &transfer{id: id, target: target, size: target.Size, again: again, local: local, since: f.sources.Load()}
	if !f.inFlight.take(t, len(f.transfers)) {
		return false
	}
	ctx, cancel := context.WithCancel(w.ctx)
	t.cancel = cancel
	f.transfers[id] = t
	d := f.disk
	w.group.Go(func() error {
		f.pace(ctx, t.id.String())
		t.err = f.transfer(ctx, d, t)
		f.pace(ctx, t.id.String())
		select {
		case f.ready <- t:
		case <-w.ctx.Done():
		}
		return nil
	})
	return true
}

// transfer runs in a worker.
func (f *Folder) transfer(ctx context.Context, d *disk.Folder, t *transfer) error {
	var err error
	switch t.target.Blocks {
	case 0:
		return nil
	case 1:
		err = f.transferSmall(ctx, d, t)
	default:
		err = f.transferLarge(ctx, d, t)
	}
	if errors.Is(err, replication.ErrNoSource) {
		return f.fromTrash(ctx, d, t)
	}
	return err
}

func (f *Folder) transferSmall(ctx context.Context, d *disk.Folder, t *transfer) error {
	if t.target.Size > chunk.MaxBlock {
		return fmt.Errorf("a block of %d bytes is more than there can be", t.target.Size)
	}
	b := chunk.Block{Hash: chunk.Hash(t.target.Content), Size: uint32(t.target.Size)}
	if data, ok := f.ifLocal(t.local, d, b); ok {
		t.data = data
		t.got.Store(t.size)
		return nil
	}
	done := make(chan error, 1)
	f.o.fetch(ctx, replication.Want{Folder: f.id, Block: b, Priority: t.size}, func(data []byte, err error) {
		if err == nil {
			t.data = slices.Clone(data)
			t.got.Store(t.size)
		}
		done <- err
	})
	return <-done
}

func (f *Folder) transferLarge(ctx context.Context, d *disk.Folder, t *transfer) error {
	list, err := f.blockList(ctx, t.target)
	if err != nil {
		return err
	}
	t.list = list
	temp, err := d.Temp(tempKey(t.id, t.target.Content), t.target.Size)
	if err != nil {
		return err
	}
	t.temp = temp
	have, err := temp.Verified(list)
	if err != nil {
		return err
	}
	known, err := f.knownBlocks(list)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var pending sync.WaitGroup
	var off int64
	for i, b := range list {
		at := off
		off += int64(b.Size)
		if have[i] {
			t.got.Add(int64(b.Size))
			continue
		}
		if ctx.Err() != nil {
			break
		}
		if data, ok := f.ifLocal(known[i], d, b); ok {
			if _, err := temp.WriteAt(data, at); err != nil {
				cancel(err)
				break
			}
			t.got.Add(int64(b.Size))
			continue
		}
		pending.Add(1)
		f.o.fetch(ctx, replication.Want{Folder: f.id, Block: b, Priority: t.size}, func(data []byte, err error) {
			defer pending.Done()
			if err == nil {
				_, err = temp.WriteAt(data, at)
			}
			if err != nil {
				cancel(err)
				return
			}
			t.got.Add(int64(b.Size))
		})
	}
	pending.Wait()
	return context.Cause(ctx)
}

// blockList gives the list of a file's blocks, from the index or a peer.
func (f *Folder) blockList(ctx context.Context, target plan.Target) (list chunk.List, err error) {
	var ok bool
	err = f.index.Read(func(r *store.Reader) (err error) {
		list, ok, err = r.List(target.Content)
		return err
	})
	if err != nil || ok {
		return list, err
	}
	done := make(chan error, 1)
	f.o.fetch(ctx, replication.Want{Folder: f.id, List: true, Content: target.Content, Priority: 0}, func(data []byte, err error) {
		if err == nil {
			list, err = chunk.DecodeList(data, target.Size)
		}
		done <- err
	})
	if err := <-done; err != nil {
		return nil, err
	}
	if crdt.ContentHash(list.Content()) != target.Content {
		return nil, errors.New("the block list that a peer sent is not the file's")
	}
	return list, nil
}

// isKnown tells whether the index knows a place for a block on this disk.
func isKnown(r *store.Reader, hash chunk.Hash) (bool, error) {
	refs, err := r.Block(hash)
	return len(refs) > 0, err
}

// knownBlocks is isKnown for a list, in one look at the index: a look costs more
// than most answers.
func (f *Folder) knownBlocks(list chunk.List) (known []bool, err error) {
	known = make([]bool, len(list))
	err = f.index.Read(func(r *store.Reader) error {
		for i, b := range list {
			if known[i], err = isKnown(r, b.Hash); err != nil {
				return err
			}
		}
		return nil
	})
	return known, err
}

// ifLocal is localBlock, verified, for a block that may be here.
func (f *Folder) ifLocal(may bool, d *disk.Folder, b chunk.Block) ([]byte, bool) {
	if !may {
		return nil, false
	}
	return f.localBlock(d, b, true, nil)
}

// localBlock looks for a block on this disk and appends it to dst. Without verify
// it is what stands where the block was when its file was last read, of a file
// that looks unchanged since.
func (f *Folder) localBlock(d *disk.Folder, b chunk.Block, verify bool, dst []byte) (data []byte, ok bool) {
	err := f.index.Read(func(r *store.Reader) error {
		refs, err := r.Block(b.Hash)
		if err != nil {
			return err
		}
		paths := newDiskPaths(r)
		for _, ref := range refs {
			base, here, err := r.Base(ref.ID)
			if err != nil || !here || !base.Here || ref.Size != b.Size {
				continue
			}
			p, err := paths.of(ref.ID)
			if err != nil {
				continue
			}
			data = slices.Grow(dst, int(b.Size))[:len(dst)+int(b.Size)]
			block := data[len(dst):]
			if err := d.ReadBlock(p, base.Stat, ref.Offset, block); err != nil {
				continue
			}
			if !verify || chunk.Sum(block) == b.Hash {
				ok = true
				return nil
			}
		}
		return nil
	})
	return data, err == nil && ok
}
