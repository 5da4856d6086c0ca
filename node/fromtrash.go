package node

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/stat"
	"sheaf/replication"
	"sheaf/replication/chunk"
)

// What the index shows and no device has in its folder may still be in this device's
// trash: the last one that had it under that name was removed, or lost its disk, after
// the others had let go of the same bytes under another name. The trash is looked at
// last, when no peer has the content.

// A trashIndex finds contents in the trash, by their size and then by reading them, each
// once. Its methods may be called concurrently.
type trashIndex struct {
	mu      sync.Mutex
	looked  time.Time
	changes uint64 // of the trash, as of then
	sizes   map[int64][]disk.TrashItem
	read    map[string]readItem
}

// A readItem is what an item held when it was read.
type readItem struct {
	stat    stat.Stat
	content crdt.ContentHash
}

// trashLook is how long a look at the trash is good for, where it has changed since: it
// may be large, and what is nowhere is asked for again and again.
const trashLook = 30 * time.Second

// find gives the item that holds a content, "" for none.
func (x *trashIndex) find(ctx context.Context, d *disk.Folder, c *chunk.Chunker, target crdt.ContentHash, size int64) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := d.TrashChanges(); x.sizes == nil || n != x.changes && time.Since(x.looked) > trashLook {
		if err := x.look(d); err != nil {
			return "", err
		}
		x.changes = n
	}
	for _, item := range x.sizes[size] {
		was, known := x.read[item.ID]
		if !known || was.stat != item.Stat {
			list, err := splitTrash(ctx, d, c, item.ID, size, nil)
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
			if err != nil {
				continue // it is asked again: it may have been the disk's bad moment
			}
			was = readItem{item.Stat, crdt.ContentHash(list.Content())}
			x.read[item.ID] = was
		}
		if was.content == target {
			return item.ID, nil
		}
	}
	return "", nil
}

// look notes what there is.
func (x *trashIndex) look(d *disk.Folder) error {
	items, err := d.Trash()
	if err != nil {
		return err
	}
	read := make(map[string]readItem)
	x.sizes = make(map[int64][]disk.TrashItem)
	for _, item := range items {
		if item.Kind != stat.File || item.Size == 0 {
			continue
		}
		x.sizes[item.Size] = append(x.sizes[item.Size], item)
		if was, ok := x.read[item.ID]; ok {
			read[item.ID] = was
		}
	}
	x.read, x.looked = read, time.Now()
	return nil
}

// splitTrash cuts an item of the trash into blocks, as its content is cut, and calls
// fn, if there is one, for each.
func splitTrash(ctx context.Context, d *disk.Folder, c *chunk.Chunker, id string, size int64, fn func([]byte) error) (chunk.List, error) {
	r, err := d.OpenTrash(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	_, list, err := c.Split(io.NewSectionReader(r, 0, size), func(_ chunk.Block, data []byte) error {
		if err := ctx.Err(); err != nil || fn == nil {
			return err
		}
		return fn(data)
	})
	return list, err
}

// fromTrash brings the content of a transfer together from the trash.
// replication.ErrNoSource where it is not there.
func (f *Folder) fromTrash(ctx context.Context, d *disk.Folder, t *transfer) error {
	id, err := f.trashed.find(ctx, d, f.o.chunker, t.target.Content, t.target.Size)
	if err != nil {
		return fmt.Errorf("look for it in the trash: %w", err)
	}
	if id == "" {
		return replication.ErrNoSource
	}
	if t.target.Blocks > 1 && t.temp == nil {
		if t.temp, err = d.Temp(tempKey(t.id, t.target.Content), t.target.Size); err != nil {
			return err
		}
	}
	var data []byte
	off := int64(0)
	list, err := splitTrash(ctx, d, f.o.chunker, id, t.target.Size, func(block []byte) error {
		if t.target.Blocks == 1 {
			data = append(data, block...)
			return nil
		}
		n, err := t.temp.WriteAt(block, off)
		off += int64(n)
		return err
	})
	if err != nil {
		return fmt.Errorf("take it from the trash: %w", err)
	}
	if crdt.ContentHash(list.Content()) != t.target.Content {
		return replication.ErrNoSource // it is being changed by somebody
	}
	f.o.log.Info("taken from the trash, for no device has it", "folder", f.name, "bytes", t.target.Size)
	t.data, t.list = data, list
	t.got.Store(t.size)
	return nil
}
