package node

import (
	"context"
	"errors"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/store"
)

// A scrub reads every file again within a long time (60 days by default), a
// few at a time, and compares it with what is known of it. Bytes that changed
// though nothing else did are rot: never sent, reported, and fetched anew.

// scrubTick is how often some files are read.
const scrubTick = 5 * time.Minute

// scrubPage is how many entries are looked at in one go.
const scrubPage = 64

const scrubSpace = "scrub"

// scrub runs until ctx ends. every is the time in which all is to be read.
func (f *Folder) scrub(ctx context.Context, every time.Duration) error {
	if f.crashed {
		if err := f.recheck(ctx); err != nil && ctx.Err() == nil {
			f.o.log.Warn("reading again what was written before the power cut", "folder", f.name, "err", err)
		}
	}
	if every <= 0 {
		return nil
	}
	tick := time.NewTicker(scrubTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := f.scrubSome(ctx, every); err != nil && ctx.Err() == nil {
				f.o.log.Warn("reading files again", "folder", f.name, "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// scrubSome reads as many bytes again as are due in one tick.
func (f *Folder) scrubSome(ctx context.Context, every time.Duration) error {
	st, err := f.stats()
	if err != nil {
		return err
	}
	due := int64(float64(st.HereBytes)*scrubTick.Seconds()/every.Seconds()) + 1
	for due > 0 {
		if f.isPaused() || f.serving.Load() == nil {
			return nil
		}
		n, end, err := f.scrubNext(ctx)
		if err != nil || end {
			return err
		}
		due -= n
	}
	return nil
}

// baseFile is a file in the folder's directory, where it lies, and what was last
// known of it there.
type baseFile struct {
	id   crdt.EntryID
	path string
	base store.Base
}

// scrubNext reads the next files, and tells how many bytes that were and
// whether it came to the end of the folder.
func (f *Folder) scrubNext(ctx context.Context) (bytes int64, end bool, err error) {
	cursor, _, err := f.db.Get(scrubSpace, f.id.String())
	if err != nil {
		return 0, false, err
	}
	var files []baseFile
	var next string
	err = f.index.Read(func(r *store.Reader) error {
		w := walk{f: f, r: r, recursive: true}
		if err := w.start(crdt.Root, string(cursor)); err != nil {
			// Where it stood is gone: begin again.
			w = walk{f: f, r: r, recursive: true}
			if err := w.start(crdt.Root, ""); err != nil {
				return err
			}
		}
		var entries []api.Entry
		var err error
		if entries, next, err = w.page(ctx, scrubPage); err != nil {
			return err
		}
		paths := newDiskPaths(r)
		for _, e := range entries {
			id, ok, err := find(r, e.Path[len(f.name)+2:])
			if err != nil || !ok {
				return err
			}
			b, ok, err := r.Base(id)
			if err != nil {
				return err
			}
			if !ok || !b.Here || b.Entry.Kind != crdt.File {
				continue
			}
			if p, err := paths.of(id); err == nil {
				files = append(files, baseFile{id, p, b})
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	for _, x := range files {
		d := f.serving.Load()
		if d == nil {
			return bytes, true, nil
		}
		n, err := f.reread(ctx, d, x)
		if bytes += n; err != nil {
			return bytes, false, err
		}
	}
	return bytes, next == "", f.db.Put(scrubSpace, f.id.String(), []byte(next))
}

// reread reads a file and compares it with what is known of it.
func (f *Folder) reread(ctx context.Context, d *disk.Folder, x baseFile) (bytes int64, err error) {
	b := x.base
	h, err := d.Hash(ctx, x.path, b.Stat, f.o.chunker)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	v := b.Entry.Shown()
	if err != nil || v == nil || crdt.ContentHash(h.Content) == v.Content {
		return b.Stat.Size + 1, nil // changed meanwhile: that is the scan's affair
	}
	err = f.do(ctx, func(context.Context) error {
		f.rotten(x.id, x.path)
		return nil
	})
	if errors.Is(err, errStopped) {
		err = nil
	}
	return b.Stat.Size + 1, err
}

// healSome has rotten files fetched anew. Control goroutine only.
func (f *Folder) healSome(w *work) error {
	for id := range f.heal {
		if _, busy := f.transfers[id]; busy || f.waiting(id, time.Now()) {
			continue
		}
		var target plan.Target
		var ok bool
		err := f.index.Read(func(r *store.Reader) (err error) {
			target, ok, err = planReader{r: r}.Target(id)
			return err
		})
		if err != nil {
			return err
		}
		if !ok || !target.Visible {
			delete(f.heal, id)
			continue
		}
		if !f.begin(w, id, target, true, true) {
			return nil
		}
	}
	return nil
}
