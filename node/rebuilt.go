package node

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// A device that has lost its index no longer knows what of its disk it had in step
// with others. What they deleted meanwhile looks like files that are new here, and
// would come back on all devices. So, in the scan that ends the rebuilding, what is
// not shown is compared with what others know as deleted: see plan.Views.Deleted.

// deletedAt are, by path, entries that others have deleted and that may be what
// stands there on this disk.
type deletedAt map[string][]crdt.EntryID

// findDeleted looks for what others have deleted and this disk has a name for.
// Nothing is joined into the index meanwhile: Folder.scanned sees to that.
func (f *Folder) findDeleted(ctx context.Context) (deletedAt, error) {
	found := make(deletedAt)
	err := f.index.Read(func(r *store.Reader) error {
		for seq := uint64(0); ; {
			if err := ctx.Err(); err != nil {
				return err
			}
			page, next, err := r.After(seq, pageSize, 1<<20)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return nil
			}
			seq = next
			for _, e := range page {
				n, _, err := r.Node(e.ID)
				if err != nil {
					return err
				}
				if n.Visible() {
					continue
				}
				p, err := viewPath(r, e.ID)
				if err != nil {
					continue // it was in directories that are in a circle, or unknown here
				}
				l, err := f.disk.Look(ctx, path.Dir(p), []string{path.Base(p)})
				switch {
				case errors.Is(err, fs.ErrNotExist), errors.Is(err, disk.ErrNotDirectory):
				case err != nil:
					// It cannot be looked at now; when it is seen it passes for new.
					f.o.log.Debug("look for what was deleted", "path", p, "err", err)
				case len(l.Items) > 0 && l.Items[0].Stat.Kind != stat.None:
					found[p] = append(found[p], e.ID)
				}
			}
		}
	})
	return found, err
}

// rebuilding takes up what is to be known before the first scan of a folder whose
// index was lost. Control goroutine only.
func (f *Folder) rebuilding(ctx context.Context) (err error) {
	if f.deleted != nil || f.scan.rounds > 0 || f.lostAt() == 0 {
		return nil
	}
	f.deleted, err = f.findDeleted(ctx)
	return err
}

// rebuilt notes that the first scan after the loss of the index has ended.
func (f *Folder) rebuilt() error {
	f.deleted = nil
	if f.lostAt() == 0 {
		return nil
	}
	f.mu.Lock()
	f.lost = 0
	s := f.standingLocked()
	f.mu.Unlock()
	return f.o.remember(s)
}

// lostAt is when it was noticed that the index is lost, by the wall clock in Unix
// nanoseconds; zero if it is not, or has been made good.
func (f *Folder) lostAt() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// Deleted gives what others have deleted where this disk, before its index was
// lost, may still have had it.
func (v txViews) Deleted(at crdt.Location, changed int64) (list []plan.Shown, err error) {
	if len(v.f.deleted) == 0 || changed > v.f.lostAt() {
		// Somebody has put it there since, as from the trash.
		return nil, nil
	}
	p, err := newDiskPaths(v.tx).at(at)
	if err != nil {
		return nil, nil //nolint:nilerr // its directory is not here, so nothing in it was
	}
	for _, id := range v.f.deleted[p] {
		s, ok, err := v.Shown(id)
		if err != nil {
			return nil, err
		}
		if here, _, err := v.tx.Base(id); err != nil {
			return nil, err
		} else if ok && !s.Node.Visible() && !here.Here {
			list = append(list, s)
		}
	}
	return list, nil
}
