package node

import (
	"context"
	"errors"
	"time"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication"
)

// A landing is one file whose content has come together, on its way to its
// place.
type landing struct {
	transfer *transfer
	install  disk.Install
	base     store.Base
}

// commit puts the files in place whose content has come together: all that are
// there, in one group commit.
func (f *Folder) commit(ctx context.Context) error {
	for draining := true; draining && len(f.landed) < maxTransfers; {
		select {
		case t := <-f.ready:
			f.landed = append(f.landed, t)
		default:
			draining = false
		}
	}
	if len(f.landed) == 0 {
		return nil
	}
	if len(f.transfers)-len(f.landed) <= maxTransfers/2 {
		f.inFlight.full = false // room for a good number more
	}
	landed := f.landed
	f.landed = nil
	defer func() {
		for _, t := range landed {
			f.sweep = t.close() || f.sweep
		}
	}()
	var batch []landing
	var nowhere []crdt.EntryID
	err := f.index.Read(func(r *store.Reader) error {
		paths := newDiskPaths(r)
		buckets := make(map[string]disk.Bucket) // by author
		for _, t := range landed {
			delete(f.transfers, t.id)
			f.inFlight.give(t)
			if t.err != nil {
				f.transferFailed(r, t)
				if errors.Is(t.err, replication.ErrNoSource) {
					nowhere = append(nowhere, t.id)
				}
				continue
			}
			l, ok, err := f.land(r, paths, t)
			if err != nil {
				return err
			}
			if ok {
				author := l.base.Entry.Shown().Author
				if _, ok := buckets[author]; !ok {
					buckets[author] = f.bucket(replaced, author)
				}
				l.install.Bucket = buckets[author]
				batch = append(batch, l)
			}
		}
		return nil
	})
	if err == nil {
		err = f.affirm(nowhere)
	}
	if err != nil || len(batch) == 0 {
		return err
	}
	installs := make([]disk.Install, len(batch))
	for i, l := range batch {
		installs[i] = l.install
	}
	results := f.disk.Commit(ctx, installs)
	err = f.index.Update(func(tx *store.Tx) error {
		for i, res := range results {
			if res.Err != nil {
				continue
			}
			l := batch[i]
			l.base.Stat = f.placed(l.install.Path, res.Stat)
			if len(l.transfer.list) > 1 {
				if err := tx.PutList(l.transfer.target.Content, l.transfer.list); err != nil {
					return err
				}
			}
			if err := tx.SetBase(l.base); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	installed := false
	for i, res := range results {
		t, p := batch[i].transfer, batch[i].install.Path
		switch {
		case res.Err == nil:
			installed = true
			t.temp = nil // it is the file now
			delete(f.blocked, t.id)
			delete(f.heal, t.id)
			f.solved(p)
		case stopsFolder(res.Err):
			return res.Err
		default:
			f.block(t.id, false)
			f.obstructed(t.id, p, res.Err)
		}
	}
	if installed {
		f.unblock() // what waited for these
		f.progress()
	}
	return nil
}

// placed gives the stat to remember of a file that stands at a path now as others
// have it. Where somebody may write it without its times' showing that, it is
// looked at once more.
func (f *Folder) placed(p string, st stat.Stat) stat.Stat {
	if st.Kind != stat.File || !disk.Coarse(st) {
		return st
	}
	s := plan.Smudge(st, f.o.clock().UnixNano(), int64(disk.CoarseTick))
	if s != st {
		f.dirty.addPath(p, time.Now().Add(disk.CoarseTick))
	}
	return s
}

// retimed gives the stat to remember of a file whose mode or time was just set where it
// stands, and has it read once more: somebody may have written it since it was last read,
// and its times do not show that any more.
func (f *Folder) retimed(p string, st stat.Stat) stat.Stat {
	s := plan.Retimed(st)
	if s != st {
		f.dirty.addPath(p, time.Now().Add(settleDelay))
	}
	return s
}

// land says where a file goes now; false where the index has moved on
// meanwhile, and it is planned again.
func (f *Folder) land(r *store.Reader, paths *diskPaths, t *transfer) (l landing, ok bool, err error) {
	entry, ok, err := r.Entry(t.id)
	if err != nil || !ok {
		return l, false, err
	}
	node, _, err := r.Node(t.id)
	if err != nil {
		return l, false, err
	}
	target := plan.TargetOf(entry, node)
	if !target.Visible || target.Content != t.target.Content || f.leaveAlone(t.id) {
		return l, false, nil
	}
	base, known, err := r.Base(t.id)
	if err != nil {
		return l, false, err
	}
	at := crdt.Location{Parent: target.Parent, Name: target.Name}
	here := known && base.Here
	if here && base.At != at {
		return l, false, nil // a rename comes first
	}
	if here && !t.again && knownOf(base).Content == target.Content {
		// It was found here meanwhile, as after a crash between the disk and
		// its base row.
		t.unwanted = true
		return l, false, nil
	}
	if unkept, err := plan.Unkept(f.planReader(r), t.id); err != nil || unkept {
		f.block(t.id, true) // the copy comes first
		return l, false, err
	}
	holder, taken, err := r.BaseAt(at.Parent, at.Name)
	if err != nil || taken && holder != t.id {
		return l, false, err
	}
	p, err := paths.at(at)
	if err != nil {
		return l, false, nil //nolint:nilerr // its directory has gone: planned again
	}
	l = landing{
		transfer: t,
		install:  disk.Install{Path: p, Temp: t.temp, Data: t.data, Mode: target.Mode, MTime: target.MTime},
		base:     store.Base{ID: t.id, Entry: entry, Here: true, At: at},
	}
	if here {
		l.install.Expect = base.Stat
	}
	return l, true, nil
}

// transferFailed puts a file aside whose content could not be brought.
func (f *Folder) transferFailed(r *store.Reader, t *transfer) {
	if errors.Is(t.err, context.Canceled) {
		return
	}
	noSource := errors.Is(t.err, replication.ErrNoSource)
	f.block(t.id, noSource)
	p, err := viewPath(r, t.id)
	if err != nil {
		p = t.id.String()
	}
	if noSource {
		if b := f.blocked[t.id]; time.Since(b.since) > nowhereAfter && f.someConnected() {
			f.nowhere(r, t, p)
		}
		if f.sources.Load() != t.since {
			// What it waits for has come already, while it was failing.
			b := f.blocked[t.id]
			b.until = time.Now()
			f.blocked[t.id] = b
		}
		return
	}
	if errors.Is(t.err, disk.ErrNoSpace) {
		f.obstructed(t.id, p, t.err)
		return
	}
	f.unmet(t.id, p, "could not be fetched: "+t.err.Error(), "it is tried again by itself")
}

// nowhereAfter is how long nobody who is connected must have had a content before
// people are told: a device that has just written it may still be reading it.
const nowhereAfter = time.Minute

func (f *Folder) someConnected() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.peers) > 0
}

// nowhere tells people that a content is on none of the devices that are connected.
func (f *Folder) nowhere(r *store.Reader, t *transfer, p string) {
	who := "the device that wrote it"
	if e, ok, err := r.Entry(t.id); err == nil && ok && e.Shown() != nil && e.Shown().Author != "" {
		who = e.Shown().Author
	}
	f.unmet(t.id, p, "none of the devices that are connected has what this file should hold; "+who+" wrote it",
		"connect "+who+", or another device that has it: it then comes by itself")
}
