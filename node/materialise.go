package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/text/unicode/norm"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication/chunk"
)

// A blockage is why an entry that is behind is not being worked on, until when.
type blockage struct {
	since   time.Time
	until   time.Time
	passing bool // or until something moves (see unblock)
	tries   int
}

const (
	// maxBackoff is the longest that a blocked entry waits before it is tried again.
	maxBackoff = time.Minute
	// pageSize is how many entries that are behind are planned in one go.
	pageSize = 1000
)

// block puts an entry aside. A reason that passes by itself (nobody has it)
// ends with unblock; others back off.
func (f *Folder) block(id crdt.EntryID, passing bool) {
	b := f.blocked[id]
	if b.since.IsZero() {
		b.since = time.Now()
	}
	b.tries++
	b.passing = passing
	// Never for ever, whatever it waits for: what wakes it may have come before.
	b.until = time.Now().Add(min(maxBackoff, 100*time.Millisecond<<min(b.tries, 12)))
	f.blocked[id] = b
}

// unblock lets what waits for something to move be looked at again, and forgets
// how often an entry was tried that is another one now.
func (f *Folder) unblock() {
	f.mu.Lock()
	news, all := f.news, f.allNews
	f.news, f.allNews = nil, false
	f.mu.Unlock()
	if all {
		clear(f.blocked)
	}
	for id := range news {
		delete(f.blocked, id)
		f.met(id)
	}
	now := time.Now()
	for id, b := range f.blocked {
		if b.passing {
			b.until = now
			f.blocked[id] = b
		}
	}
}

// waiting tells whether an entry is put aside now.
func (f *Folder) waiting(id crdt.EntryID, now time.Time) bool {
	b, ok := f.blocked[id]
	return ok && b.until.After(now)
}

// nextBlocked gives when the first entry that was put aside is due, zero for
// none. What is due already has just been tried.
func (f *Folder) nextBlocked() (again time.Time) {
	now := time.Now()
	for id, b := range f.blocked {
		switch {
		case b.until.Before(now.Add(-2 * maxBackoff)):
			delete(f.blocked, id) // no longer behind
		case b.until.After(now) && (again.IsZero() || b.until.Before(again)):
			again = b.until
		}
	}
	return again
}

// materialise does a page of what the view shows and the disk does not yet. It
// tells whether there is more to do at once, and when to look again.
func (f *Folder) materialise(w *work) (more bool, again time.Time, err error) {
	seq := f.index.Seq()
	if f.rejudge.Swap(false) {
		// A person has spoken: what was held may be let happen now.
		f.judged = 0
		if h := f.holds.in; h != nil {
			for _, id := range h.Entries {
				delete(f.blocked, id)
			}
			if err := f.index.Read(f.judgeIncoming); err != nil {
				return false, again, err
			}
		}
	}
	if f.inFlight.full && f.inFlight.seq == seq {
		return false, again, nil // until some have landed
	}
	f.inFlight.seq = seq
	if err := f.withdrawSuperseded(); err != nil {
		return false, again, err
	}
	if n, _ := f.index.BehindCount(); n == 0 {
		f.page = 0
		return false, f.nextBlocked(), nil
	}
	d := newDone()
	started, last := false, false
	err = f.index.Read(func(r *store.Reader) error {
		ids, err := f.nextBehind(r)
		if err != nil {
			return err
		}
		last = f.page == 0
		if len(ids) == 0 {
			return nil
		}
		view := f.planReader(r)
		ops, err := plan.Materialise(view, ids, f.leaveAlone)
		if err != nil {
			return err
		}
		if f.judged != seq && slices.ContainsFunc(ops, takesAway) {
			// Before the first of it is done all of it is judged. What is then
			// held changes the plan.
			if err := f.judgeIncoming(r); err != nil {
				return err
			}
			f.judged = seq
			if ops, err = plan.Materialise(view, ids, f.leaveAlone); err != nil {
				return err
			}
		}
		started, err = f.carryOutAll(w, r, ops, d)
		return err
	})
	// What was done is recorded, whatever came after it.
	if serr := f.settle(d); err == nil {
		err = serr
	}
	if d.staged {
		// Nothing stays staged when a plan ends, also one of which a part failed.
		if perr := f.putBack(w.ctx); err == nil {
			err = perr
		}
		// What was staged in vain waits, or it would go to and fro all the time that
		// what it waits for is fetched.
		for id, b := range d.bases {
			if b.At.Parent == plan.Staging {
				f.block(id, true)
			}
		}
	}
	if err != nil {
		return false, again, err
	}
	return (d.any() || started || !last) && !f.inFlight.full, f.nextBlocked(), nil
}

// takesAway tells whether an operation costs this disk something.
func takesAway(op plan.Op) bool { return op.Removes() || op.Replaces() }

// nextBehind gives the next page of what is behind and can be worked on. The
// page is zero again when the end was reached.
func (f *Folder) nextBehind(r *store.Reader) (ids []crdt.EntryID, err error) {
	now := time.Now()
	// What was passed may be possible now: who finds nothing in the rest looks once
	// at all.
	rest := f.page != 0
	for len(ids) < pageSize {
		page, next, err := r.Behind(f.page, pageSize)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			f.page = 0
			if rest && len(ids) == 0 {
				rest = false
				continue
			}
			return ids, nil
		}
		f.page = next
		for _, id := range page {
			if _, busy := f.transfers[id]; !busy && !f.waiting(id, now) {
				ids = append(ids, id)
			}
		}
	}
	return ids, nil
}

// carryOutAll does the operations of a plan, in order, and begins its fetches.
func (f *Folder) carryOutAll(w *work, r *store.Reader, ops []plan.Op, d *done) (started bool, err error) {
	paths := newDiskPaths(r)
	carried := make([]bool, len(ops))
	now := time.Now()
	for i, op := range ops {
		if err := w.ctx.Err(); err != nil {
			return started, err
		}
		if slices.ContainsFunc(op.After, func(n int) bool { return !carried[n] }) {
			// It stands on one that is under way (a fetch) or failed.
			f.block(op.ID, slices.ContainsFunc(op.After, func(n int) bool { return ops[n].Do == plan.Fetch }))
			continue
		}
		if op.Firm {
			// What it stands on must be in the base first.
			if err := f.settle(d); err != nil {
				return started, err
			}
		}
		if op.Do != plan.Wait {
			if twin, err := f.twin(paths, op); err != nil {
				return started, err
			} else if twin {
				continue
			}
		}
		if op.Do != plan.Fetch {
			if carried[i], err = f.carryOut(w.ctx, r, paths, op, d); err != nil {
				return started, err
			}
			continue
		}
		// What another stands on comes up with that one, and is no sooner tried again.
		if _, busy := f.transfers[op.ID]; busy || f.waiting(op.ID, now) {
			continue
		}
		local := false
		if op.Target.Blocks == 1 {
			if local, err = isKnown(r, chunk.Hash(op.Target.Content)); err != nil {
				return started, err
			}
		}
		if f.begin(w, op.ID, op.Target, op.Apart, local) {
			started = true
		}
	}
	return started, nil
}

// twin puts an entry aside that cannot come to its name, for this disk takes another
// for the same. The entry's own name, written otherwise, does not stand in its way.
func (f *Folder) twin(paths *diskPaths, op plan.Op) (bool, error) {
	// Asked first: this is done for each operation, and few disks do.
	if !f.disk.Folds() {
		return false, nil
	}
	// What stays where it is has its name.
	if op.To == (crdt.Location{}) || op.To == op.From || op.To.Parent == plan.Staging || op.Do == plan.Settle || op.Do == plan.SetAttrs {
		return false, nil
	}
	to, err := paths.at(op.To)
	if err != nil {
		return false, nil //nolint:nilerr // its directory is not there: the operation says so itself
	}
	name, err := f.disk.Twin(to)
	own := op.From.Parent == op.To.Parent && crdt.NameKey(op.From.Name) == crdt.NameKey(name)
	if err != nil || name == "" || own {
		return false, nil //nolint:nilerr // what cannot be looked at, the operation fails on
	}
	f.block(op.ID, true)
	f.unmet(op.ID, to, "this disk takes it and "+name+" for one name, so it stays on the other devices", "rename one of the two, on a device that has both")
	return true, nil
}

// done collects what operations did, to be recorded in the base in one go.
type done struct {
	bases   map[crdt.EntryID]store.Base // all that was done
	unsaid  map[crdt.EntryID]bool       // not yet recorded
	touched bool                        // names on the disk have changed
	staged  bool                        // something was staged
	renamed []rename
}

func (d *done) put(b store.Base) { d.bases[b.ID], d.unsaid[b.ID] = b, true }

type rename struct{ from, to string }

func newDone() *done {
	return &done{bases: make(map[crdt.EntryID]store.Base), unsaid: make(map[crdt.EntryID]bool)}
}

func (d *done) any() bool { return len(d.bases) > 0 }

// settle makes what was done durable and records it in the base: in this
// order, for a base that is ahead of the disk would read as a person's change.
func (f *Folder) settle(d *done) error {
	if d.touched {
		if err := f.disk.Barrier(); err != nil {
			return err
		}
		d.touched = false
	}
	if len(d.unsaid) == 0 {
		return nil
	}
	for _, r := range d.renamed {
		f.followRename(r.from, r.to)
	}
	d.renamed = nil
	err := f.index.Update(func(tx *store.Tx) error {
		for id := range d.unsaid {
			if err := tx.SetBase(d.bases[id]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	clear(d.unsaid)
	f.progress()
	return nil
}

// carryOut does one operation other than a fetch, and tells whether it did. A
// failure of the operation itself puts its entry aside and lets the others go
// on; an error stops the folder.
func (f *Folder) carryOut(ctx context.Context, r *store.Reader, paths *diskPaths, op plan.Op, d *done) (bool, error) {
	if op.Do == plan.Wait {
		if twin, _ := f.twin(paths, op); !twin {
			f.block(op.ID, op.Reason == plan.Held)
		}
		return false, nil
	}
	entry, _, err := r.Entry(op.ID)
	if err != nil {
		return false, err
	}
	base, ok := d.bases[op.ID]
	if !ok {
		if base, ok, err = r.Base(op.ID); err != nil {
			return false, err
		}
		if !ok {
			base = store.Base{Entry: crdt.Entry{ID: op.ID, Kind: entry.Kind}}
		}
	}
	if op.Do == plan.Settle && op.Target.Visible {
		// A person has taken it away with its directory. What they had not seen must not
		// come into the base then, or their deletion covers it.
		if gone, err := f.belowGone(r, op.To); err != nil || gone {
			f.block(op.ID, true)
			return false, err
		}
	}
	base.ID = op.ID
	if err := f.operate(ctx, paths, op, &base, d, f.o.deviceOf(writer(entry, base.Entry.Seen))); err != nil {
		if stopsFolder(err) || ctx.Err() != nil {
			return false, err
		}
		f.failed(op, paths, err)
		return false, nil
	}
	switch {
	case op.Last:
		base.Entry = entry
	case op.Do == plan.Rename, op.Do == plan.Unstage && op.To == (crdt.Location{Parent: op.Target.Parent, Name: op.Target.Name}):
		// It is where it belongs, whatever else is to come: else it would pass for
		// fallen back there.
		base.Entry.Place = entry.Place
	}
	d.put(base)
	// What was staged in vain and is put back is no further than before: how often it
	// was tried counts on.
	if op.Do != plan.Stage && (op.Do != plan.Unstage || op.Last) {
		delete(f.blocked, op.ID)
	}
	return true, nil
}

// belowGone tells whether a place is in a directory that is gone from the disk, and not
// yet recorded as that.
func (f *Folder) belowGone(r *store.Reader, at crdt.Location) (bool, error) {
	if len(f.gone) == 0 {
		return false, nil
	}
	for id := at.Parent; id != crdt.Root; {
		if _, gone := f.gone[id]; gone {
			return true, nil
		}
		b, ok, err := r.Base(id)
		if err != nil || !ok {
			return false, err
		}
		id = b.At.Parent
	}
	return false, nil
}

// operate does one operation and brings base up to what the disk then shows.
// device is who asks for it.
func (f *Folder) operate(ctx context.Context, paths *diskPaths, op plan.Op, base *store.Base, d *done, device string) (err error) {
	var from, to string
	if op.From != (crdt.Location{}) && op.From.Parent != plan.Staging {
		if from, err = paths.at(op.From); err != nil {
			return err
		}
	}
	if op.To != (crdt.Location{}) && op.To.Parent != plan.Staging {
		if to, err = paths.at(op.To); err != nil {
			return err
		}
	}
	key := hex.EncodeToString(op.ID[:])
	var st stat.Stat
	switch op.Do {
	case plan.Settle:
		if !op.Target.Visible {
			base.Here, base.At, base.Stat = false, crdt.Location{}, stat.Stat{}
		}
		return nil
	case plan.MakeDir:
		if st, err = f.disk.MakeDir(to, op.Target.Mode); err == nil {
			f.watch(to)
		}
	case plan.MakeLink:
		if op.From == (crdt.Location{}) {
			st, err = f.disk.MakeLink(op.Target.Link, to, op.Target.MTime)
		} else {
			in := disk.Install{Path: to, Target: op.Target.Link, MTime: op.Target.MTime, Expect: base.Stat, Bucket: f.bucket(replaced, device)}
			res := f.disk.Commit(ctx, []disk.Install{in})[0]
			st, err = res.Stat, res.Err
		}
	case plan.SetAttrs:
		mode := op.Target.Mode
		var mtime *int64
		if op.Target.Kind == crdt.File {
			mtime = &op.Target.MTime
		}
		if st, err = f.disk.SetAttrs(to, base.Stat, &mode, mtime); err == nil {
			st = f.retimed(to, st)
		}
	case plan.Rename:
		if st, err = f.disk.Rename(from, to, base.Stat); err == nil && op.Target.Kind == crdt.Directory {
			d.renamed = append(d.renamed, rename{from, to})
		}
	case plan.Stage:
		if st, err = f.disk.Stage(from, key, base.Stat); err == nil {
			d.staged = true
		}
	case plan.Unstage:
		st, err = f.disk.Unstage(key, to, base.Stat)
		if errors.Is(err, disk.ErrLeft) {
			// It came to its place, perhaps before a crash, and a person has gone on from
			// there: where to, looking at its name tells.
			st, err = base.Stat, nil
			f.dirty.addPath(to, time.Time{})
		}
		if err == nil && op.Target.Kind == crdt.Directory {
			f.stack = append(f.stack, deepDir{path: to})
		}
	case plan.Trash:
		_, err = f.disk.Discard(from, base.Stat, f.bucket(deleted, device))
	case plan.RemoveDir:
		if err = f.disk.RemoveDir(from); err == nil {
			f.watcher.Remove(from)
			f.solvedBelow(from)
		}
	default:
		return fmt.Errorf("plan asks to %v, which this release cannot do", op.Do)
	}
	// What is to be removed and is not there may have been deleted here too, or
	// renamed, which saves it: looking at its name leads to recordGone, which tells.
	if err != nil {
		return err
	}
	d.touched = true
	if op.Removes() {
		base.Here, base.At, base.Stat = false, crdt.Location{}, stat.Stat{}
		return nil
	}
	if moves(op.Do) && st.Kind == stat.Directory && st.Mode != base.Stat.Mode {
		// Somebody has changed it since it was last looked at: that is to be seen.
		st.Mode = base.Stat.Mode
		if to != "" {
			f.dirty.addPath(to, time.Time{})
		}
	}
	base.Here, base.At, base.Stat = true, op.To, f.placed(to, st)
	paths.place(op.ID, op.To)
	if to != "" {
		f.solved(to)
	}
	return nil
}

// stopsFolder tells whether an error is one of the whole disk, and not of what was
// being done on it.
func stopsFolder(err error) bool {
	var root *disk.RootError
	return errors.Is(err, disk.ErrDiskFailed) || errors.As(err, &root)
}

// moves tells whether an operation only puts something elsewhere.
func moves(do plan.Do) bool { return do == plan.Rename || do == plan.Stage || do == plan.Unstage }

// Why something is in the trash, in words for a person.
const (
	deleted  = "deleted on another device"
	replaced = "replaced by another device's version"
)

// bucket gives the part of the trash for what a device has this disk let go of.
func (f *Folder) bucket(reason, device string) disk.Bucket {
	b := f.disk.NewBucket(reason)
	b.Device = device
	return b
}

// failed puts an entry aside after its operation failed, and says why.
func (f *Folder) failed(op plan.Op, paths *diskPaths, err error) {
	f.block(op.ID, false)
	where := op.To
	if where == (crdt.Location{}) {
		where = op.From
	}
	p, perr := paths.at(where)
	if perr != nil {
		return // its directory is not there yet; it comes after that
	}
	if op.From != (crdt.Location{}) && op.From != where {
		if from, err := paths.at(op.From); err == nil {
			f.dirty.addPath(from, time.Time{})
		}
	}
	f.obstructed(op.ID, p, err)
}

// obstructed deals with what kept an operation on an entry at a path from being done.
func (f *Folder) obstructed(id crdt.EntryID, p string, err error) {
	switch {
	case errors.Is(err, disk.ErrNotEmpty):
		f.dirty.addDir(p, true, time.Time{})
		f.unmet(id, p, "deleted on another device, but here it still holds files that are ignored or cannot be synced", "move or delete what is in it, and it will go")
	case errors.Is(err, disk.ErrChanged), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, disk.ErrNotDirectory):
		// The disk is not as the base has it: somebody was here. That is
		// recorded first.
		f.dirty.addPath(p, time.Time{})
		if rule, ignored := f.disk.Ignored(p, false); ignored {
			f.unmet(id, p, "what another device has here cannot be put in place: the name is ignored by the rule "+rule, "rename or move the ignored file, or change .sheafignore")
		}
	case errors.Is(err, disk.ErrNoSpace):
		f.unmet(id, p, "no room on this disk: "+err.Error(), "make room, or lower free.floor with `sheaf config set`")
	default:
		f.unmet(id, p, err.Error(), "see what holds it on this disk; it is tried again by itself")
	}
}

// followRename keeps what is remembered by path true after a directory was
// renamed on the disk, by us or by a person.
func (f *Folder) followRename(from, to string) {
	f.dirty.renamed(from, to)
	f.watcher.Remove(from)
	f.stack = append(f.stack, deepDir{path: to})
}

// watch has a directory watched. What cannot be watched is polled by the
// watcher, which says so in its problems.
func (f *Folder) watch(dir string) {
	if !f.o.watch {
		return
	}
	if err := f.watcher.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.o.log.Debug("watch", "dir", dir, "err", err)
	}
}

// putBack brings into sight what a crash, or a plan of which a part failed, left
// staged. From there it goes to where it belongs like anything else that is behind.
func (f *Folder) putBack(ctx context.Context) error {
	staged, err := f.disk.Staged()
	if err != nil || len(staged) == 0 {
		return err
	}
	var ids []crdt.EntryID
	var strangers []disk.StagedItem
	err = f.index.Update(func(tx *store.Tx) error {
		for _, item := range staged {
			raw, err := hex.DecodeString(item.Key)
			if err != nil || len(raw) != len(crdt.EntryID{}) {
				strangers = append(strangers, item)
				continue
			}
			b, ok, err := tx.Base(crdt.EntryID(raw))
			if err != nil {
				return err
			}
			if !ok || !b.Here {
				strangers = append(strangers, item)
				continue
			}
			b.At, b.Stat = crdt.Location{Parent: plan.Staging, Name: b.ID.String()}, item.Stat
			if err := tx.SetBase(b); err != nil {
				return err
			}
			ids = append(ids, b.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d := newDone()
	err = f.index.Read(func(r *store.Reader) error {
		paths := newDiskPaths(r)
		view := planReader{r: r, disk: f.disk, taken: func(parent crdt.EntryID, name string) (bool, error) {
			return f.isTaken(ctx, paths, crdt.Location{Parent: parent, Name: name})
		}}
		for _, root := range []bool{false, true} {
			ops, err := plan.PutBack(view, ids, root)
			if err != nil {
				return err
			}
			ids = nil
			for _, op := range ops {
				done, err := f.carryOut(ctx, r, paths, op, d)
				if err != nil {
					return fmt.Errorf("put back %s, which was left staged: %w", op.To.Name, err)
				}
				if !done {
					ids = append(ids, op.ID)
				}
			}
		}
		if len(ids) > 0 {
			return fmt.Errorf("put back %d entries, which were left staged: %w", len(ids), fs.ErrExist)
		}
		return nil
	})
	if serr := f.settle(d); err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	for _, item := range strangers {
		// Of a base that is no more: it is recorded as a new file.
		if _, err := f.disk.Unstage(item.Key, "recovered-"+item.Key, item.Stat); err != nil && !errors.Is(err, disk.ErrLeft) {
			return fmt.Errorf("put back what a crash left staged: %w", err)
		}
	}
	return f.disk.Barrier()
}

// isTaken tells whether anything stands at a name on the disk.
func (f *Folder) isTaken(ctx context.Context, paths *diskPaths, at crdt.Location) (bool, error) {
	dir, err := paths.of(at.Parent)
	if err != nil {
		return false, err
	}
	l, err := f.disk.Look(ctx, dir, []string{at.Name})
	var root *disk.RootError
	if errors.As(err, &root) || ctx.Err() != nil {
		return false, err
	}
	if err != nil {
		// No directory that can be looked into, or one that is staged itself: what
		// is to go there will fail to, and is put elsewhere.
		return false, nil
	}
	for _, item := range l.Items {
		return item.Stat.Kind != stat.None, nil
	}
	return true, nil
}

// planReader is what plan.Materialise looks up.
type planReader struct {
	r     *store.Reader
	taken func(parent crdt.EntryID, name string) (bool, error)
	// rotten are entries of which the disk does not hold what the base says: of
	// these no conflict copy can be kept.
	rotten map[crdt.EntryID]string
	disk   *disk.Folder // whose names they are; nil where no names are asked for
}

// planReader reads what the control goroutine plans by.
func (f *Folder) planReader(r *store.Reader) planReader {
	return planReader{r: r, rotten: f.heal, disk: f.disk}
}

var _ plan.Reader = planReader{}

func (p planReader) Target(id crdt.EntryID) (plan.Target, bool, error) {
	e, ok, err := p.r.Entry(id)
	if err != nil || !ok {
		return plan.Target{}, false, err
	}
	n, ok, err := p.r.Node(id)
	return plan.TargetOf(e, n), ok, err
}

func (p planReader) Base(id crdt.EntryID) (k plan.Known, here, ok bool, err error) {
	b, ok, err := p.r.Base(id)
	if err != nil || !ok {
		return k, false, false, err
	}
	return knownOf(b), b.Here, true, nil
}

func (p planReader) BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	id, ok, err := p.r.BaseAt(parent, name)
	if err != nil || ok || p.disk == nil {
		return id, ok, err
	}
	at, err := newDiskPaths(p.r).at(crdt.Location{Parent: parent, Name: name})
	if err != nil {
		return id, false, nil //nolint:nilerr // its directory is not here, so nothing in it is
	}
	twin, err := p.disk.Twin(at)
	if err != nil || twin == "" {
		return id, false, nil //nolint:nilerr // who stands in the way is met when it is carried out
	}
	for _, form := range []string{twin, norm.NFC.String(twin)} { // the disk may have a form of its own
		if id, ok, err = p.r.BaseAt(parent, form); err != nil || ok {
			return id, ok, err
		}
	}
	return id, false, nil
}

func (p planReader) NameKey(name string) string {
	if p.disk == nil {
		return name
	}
	return p.disk.NameKey(name)
}

func (p planReader) BaseChildren(parent crdt.EntryID) (ids []crdt.EntryID, err error) {
	ids, _, err = p.r.BaseChildIDs(parent, "", 0)
	return ids, err
}

func (p planReader) BaseVersions(id crdt.EntryID) (dots []crdt.Dot, err error) {
	if _, ok := p.rotten[id]; ok {
		return nil, nil
	}
	b, ok, err := p.r.Base(id)
	if err != nil || !ok {
		return nil, err
	}
	for _, v := range b.Entry.Versions() {
		dots = append(dots, v.Dot)
	}
	return dots, nil
}

func (p planReader) Behind(id crdt.EntryID) (bool, error) {
	return p.r.IsBehind(id)
}

// Taken: elsewhere than in putBack, what stands in the way is met when the
// operation is carried out.
func (p planReader) Taken(parent crdt.EntryID, name string) (bool, error) {
	if p.taken == nil {
		return false, nil
	}
	return p.taken(parent, name)
}
