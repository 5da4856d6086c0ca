package node

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// A goneEntry was on this disk, as the base says, and its name was not there
// when its directory was last looked at.
type goneEntry struct {
	since time.Time
	known plan.Known
	scan  uint64 // the first full scan to begin after that
}

// recordGone records deletions that have passed the gate: gone for long enough,
// looked for once more just now, in a directory that could be read, on the
// right disk before and after, and not so many at once that a person must be
// asked. It gives when to look again.
func (f *Folder) recordGone(ctx context.Context) (again time.Time, err error) {
	if len(f.gone) == 0 && len(f.heldEdits) == 0 {
		if f.scan.rounds == 0 {
			return again, nil // what is held from before the start is still to be seen
		}
		// What was held may have been put back by hand.
		return again, f.holdOutgoing(nil, nil, "", 0)
	}
	now := time.Now()
	if f.gateNext.After(now) {
		return f.gateNext, nil
	}
	due := false
	for _, g := range f.gone {
		if t := g.since.Add(goneDelay); t.After(now) {
			if again.IsZero() || t.Before(again) {
				again = t
			}
		} else {
			due = true
		}
	}
	if !due || len(f.backlog) > 0 || len(f.stack) > 0 {
		// A scan may still find what is missing here under another name.
		return again, nil
	}
	if err := f.disk.Check(); err != nil {
		return again, err
	}
	renamed := f.renamedHere(ctx)
	if f.mayBeElsewhere(renamed) {
		f.startScan()
		return again, nil
	}
	waitedFor := f.waitedFor()
	var drop []crdt.EntryID // deleted by others too
	pending := plan.Pending{}
	below := make(map[crdt.EntryID][]crdt.EntryID)
	err = f.index.Read(func(r *store.Reader) error {
		pending.Entries = int(r.Stats().Here)
		paths := newDiskPaths(r)
		for id, g := range f.gone {
			if renamed[id] {
				continue
			}
			if len(waitedFor) > 0 && !waitedFor[id] {
				// It may be in there.
				if t := now.Add(postponedFor); again.IsZero() || t.Before(again) {
					again = t
				}
				continue
			}
			still, err := f.stillGone(ctx, r, paths, g.known)
			if err != nil {
				return err
			}
			if !still {
				f.found(id)
				continue
			}
			if n, ok, err := r.Node(id); err != nil {
				return err
			} else if ok && !n.Visible() {
				drop = append(drop, id) // as plan.DecideGone says
				continue
			}
			ids, err := descendants(r, id)
			if err != nil {
				return err
			}
			below[id] = ids
			pending.Gone = append(pending.Gone, plan.Missing{ID: id, Since: g.since, Entries: len(ids)})
		}
		return nil
	})
	if err != nil {
		return again, err
	}
	if err := f.disk.Check(); err != nil {
		return again, err
	}
	if err := f.drop(drop); err != nil {
		return again, err
	}
	// What is gone with its directory goes with it, and counts once.
	with := make(map[crdt.EntryID]bool)
	for id, ids := range below {
		for _, x := range ids {
			if x != id {
				with[x] = true
			}
		}
	}
	pending.Gone = slices.DeleteFunc(pending.Gone, func(m plan.Missing) bool { return with[m.ID] })
	for id := range f.heldEdits {
		pending.Rewritten = append(pending.Rewritten, id)
	}
	v := plan.Gate(pending, &f.tally, now, f.o.limits, f.releasedOut)
	counts := make(map[crdt.EntryID]int, len(below))
	for id, ids := range below {
		counts[id] = len(ids)
	}
	if err := f.holdOutgoing(v.Hold, counts, v.Reason, pending.Entries); err != nil {
		return again, err
	}
	held := make(map[crdt.EntryID]bool, len(v.Hold))
	for _, id := range v.Hold {
		held[id] = true
	}
	for id, p := range f.heldEdits {
		if !held[id] {
			// With the deletions gone that others had made as well, it is no longer part
			// of a mass change.
			delete(f.heldEdits, id)
			f.dirty.addPath(p, time.Time{})
		}
	}
	for _, id := range v.Remove {
		p := f.nameOf(id)
		rescued, err := f.rescue(ctx, id, below[id])
		if err != nil {
			return again, err
		}
		if rescued {
			if err := f.index.Read(func(r *store.Reader) (err error) {
				below[id], err = descendants(r, id)
				return err
			}); err != nil {
				return again, err
			}
		}
		if err := f.remove(ctx, below[id]); err != nil {
			return again, err
		}
		if !f.releasedOut(id) {
			f.tally.Remove(now, id, len(below[id]))
		}
		f.found(id)
		if p != "" {
			f.dirty.addPath(p, time.Time{}) // its name may have been waited for
			f.solvedBelow(p)
		}
	}
	if len(v.Hold) > 0 {
		// Nothing to do until a person speaks or the disk changes.
		f.gateNext = now.Add(holdRecheck)
	}
	if !v.Until.IsZero() && (again.IsZero() || v.Until.Before(again)) {
		again = v.Until
	}
	return again, nil
}

// mayBeElsewhere tells whether something that is gone may stand under another name
// that nothing has told of: whether a scan begun after it was missed is still to
// come, and would matter. To take a rename for a deletion and a new file is wrong
// wherever others change the file meanwhile: their change and the new name would
// end as two files.
func (f *Folder) mayBeElsewhere(renamed map[crdt.EntryID]bool) bool {
	told := f.o.watch && len(f.watcher.Problems()) == 0
	left, _ := f.index.BehindCount()
	may := false
	_ = f.index.Read(func(r *store.Reader) error {
		for id, g := range f.gone {
			if f.scans >= g.scan || renamed[id] {
				continue
			}
			if !told {
				may = true
				return nil
			}
			if left == 0 {
				continue
			}
			var err error
			if may, err = anyBehind(r, id); err != nil || may {
				return err
			}
		}
		return nil
	})
	return may
}

// anyBehind tells whether something that the base has below a directory is behind.
func anyBehind(r *store.Reader, top crdt.EntryID) (bool, error) {
	ids, err := descendants(r, top)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		if behind, err := r.IsBehind(id); err != nil || behind {
			return behind, err
		}
	}
	return false, nil
}

// nextScan is the number of the first full scan to begin from now on.
func (f *Folder) nextScan() uint64 {
	if f.scan.running {
		return f.scans + 2
	}
	return f.scans + 1
}

// holdRecheck is how often what is held is looked at again by itself.
const holdRecheck = 30 * time.Second

// nameOf gives where an entry was on this disk, "" if its directory is gone.
func (f *Folder) nameOf(id crdt.EntryID) (p string) {
	_ = f.index.Read(func(r *store.Reader) (err error) {
		p, err = newDiskPaths(r).of(id)
		return err
	})
	return p
}

// stillGone looks for an entry once more. A name that cannot be looked for is
// unknown, which is not gone. What stands there now may be something else: of
// another kind, or the file of another entry that came there.
func (f *Folder) stillGone(ctx context.Context, r *store.Reader, paths *diskPaths, k plan.Known) (bool, error) {
	p, err := paths.of(k.ID)
	if errors.Is(err, errNotHere) {
		return false, nil // moved or removed with its directory meanwhile
	}
	if err != nil {
		return false, err
	}
	l, err := f.disk.Look(ctx, path.Dir(p), []string{path.Base(p)})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrNotDirectory) {
		// Its directory is gone too: that is its own affair, and takes this with it.
		return true, nil
	}
	if err != nil || len(l.Skipped) > 0 {
		return false, ctx.Err()
	}
	for _, item := range l.Items {
		if item.Stat.Kind == stat.None {
			continue
		}
		other, ok, err := r.BaseFile(item.Stat)
		if err != nil {
			return false, err
		}
		others := ok && other.ID != k.ID && other.Stat.SameFile(item.Stat)
		if k.Stat.Kind == item.Stat.Kind && !others {
			f.dirty.addPath(p, time.Time{})
			return false, nil
		}
	}
	return true, nil
}

// descendants gives an entry and all that the base has below it on the disk,
// children before parents.
func descendants(r *store.Reader, top crdt.EntryID) ([]crdt.EntryID, error) {
	ids := []crdt.EntryID{top}
	for i := 0; i < len(ids); i++ {
		children, err := r.BaseChildren(ids[i])
		if err != nil {
			return nil, err
		}
		for _, c := range children {
			ids = append(ids, c.ID)
		}
	}
	for i, j := 0, len(ids)-1; i < j; i, j = i+1, j-1 {
		ids[i], ids[j] = ids[j], ids[i]
	}
	return ids, nil
}
