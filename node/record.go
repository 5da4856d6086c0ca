package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// record decides on what was seen and writes it down: what people changed as
// entries, joined into the index, and what the disk now shows as base rows, in
// one synced batch.
func (f *Folder) record(ctx context.Context, seen []sighting) error {
	if len(seen) == 0 {
		return nil
	}
	return f.recordLeaving(ctx, seen, nil)
}

// recordLeaving is record with entries that are gone and recorded as removed
// right after: their names are free.
func (f *Folder) recordLeaving(ctx context.Context, seen []sighting, leaving map[crdt.EntryID]bool) error {
	rec := &recording{f: f, ctx: ctx, leaving: leaving}
	if err := f.index.Update(func(tx *store.Tx) error { return rec.run(tx, seen) }); err != nil {
		return err
	}
	for _, after := range rec.after {
		after()
	}
	if !rec.postponed.IsZero() {
		f.meet(rec.postponed)
	}
	if len(rec.applied.Entries) > 0 {
		f.wake()
	}
	f.progress()
	return nil
}

// A recording is one transaction of record. What it has to tell the control
// goroutine is done after the commit.
type recording struct {
	f       *Folder
	ctx     context.Context
	tx      *store.Tx
	paths   *diskPaths
	rec     *crdt.Recorder
	bases   map[crdt.EntryID]store.Base // of what was recorded: where it stands
	leaving map[crdt.EntryID]bool       // gone, and their names free
	touched bool                        // the disk was changed
	// postponed is when what was postponed is looked at again; zero for nothing.
	postponed time.Time
	applied   crdt.Applied
	after     []func()
}

func (r *recording) later(fn func()) { r.after = append(r.after, fn) }

// A judged sighting is one with what was decided of it.
type judged struct {
	sighting
	plan.Decision
}

func (r *recording) run(tx *store.Tx, seen []sighting) error {
	f := r.f
	r.tx, r.paths, r.bases = tx, newDiskPaths(tx), make(map[crdt.EntryID]store.Base)
	r.rec = crdt.NewRecorder(plan.OnDisk(tx.AsBase()), tx, f.writer())
	views := txViews{f: f, tx: tx, leaving: r.leaving, vanished: make(map[crdt.ContentHash][]plan.Known)}
	for _, s := range seen {
		// What is gone from one name may stand under another, seen at once.
		if k := s.Known; s.Is == plan.Gone && k.Kind == crdt.File && k.Stat.Size > 0 {
			views.vanished[k.Content] = append(views.vanished[k.Content], *k)
		}
	}
	var decisions []judged
	once := make(map[string]bool, len(seen))
	bound := make(map[crdt.EntryID]bool)
	for _, s := range seen {
		ok, err := r.current(s)
		if err != nil {
			return err
		}
		if s.Is != plan.Gone {
			// A scan and an event may both have seen it.
			ok = ok && !once[s.path]
			once[s.path] = true
			if s.Known != nil {
				// And taken it for two things: what is decided of one changes what the
				// other is.
				ok = ok && !bound[s.Known.ID]
				bound[s.Known.ID] = true
			}
		}
		if !ok {
			// Something came in between; it is looked at once more.
			p := s.path
			r.later(func() { f.dirty.addPath(p, time.Time{}) })
			continue
		}
		var d plan.Decision
		if s.Is == plan.Gone {
			d, err = plan.DecideGone(*s.Known, views)
		} else {
			d, err = plan.Decide(s.dir, s.Found, views)
		}
		if err != nil {
			return err
		}
		if s.Is == plan.New && d.ID != (crdt.EntryID{}) {
			if bound[d.ID] { // one that vanished comes up again once alone
				p := s.path
				r.later(func() { f.dirty.addPath(p, time.Time{}) })
				continue
			}
			bound[d.ID] = true
		}
		decisions = append(decisions, judged{s, d})
	}
	if err := r.breakCircles(decisions, views); err != nil {
		return err
	}
	decisions, err := r.gate(decisions)
	if err != nil {
		return err
	}
	for _, d := range decisions {
		if err := r.carry(d); err != nil {
			return err
		}
	}
	if r.touched {
		if err := f.disk.Barrier(); err != nil {
			return err
		}
	}
	return r.write()
}

// breakCircles decides again on directories that took each other's names, each
// waiting for the other to be gone from it.
func (r *recording) breakCircles(decisions []judged, views txViews) error {
	var postponed []plan.Decision
	for _, d := range decisions {
		if d.Do == plan.Postpone && d.Known != nil {
			p := d.Decision
			p.ID = d.Known.ID
			postponed = append(postponed, p)
		}
	}
	circle := plan.Circles(postponed)
	if len(circle) == 0 {
		return nil
	}
	views.leaving = maps.Clone(views.leaving)
	if views.leaving == nil {
		views.leaving = make(map[crdt.EntryID]bool)
	}
	for _, id := range circle {
		views.leaving[id] = true
	}
	for i, d := range decisions {
		if d.Do != plan.Postpone || d.Known == nil || !views.leaving[d.Known.ID] {
			continue
		}
		again, err := plan.Decide(d.dir, d.Found, views)
		if err != nil {
			return err
		}
		decisions[i].Decision = again
	}
	return nil
}

// current tells whether the base still is what the sighting was bound to.
func (r *recording) current(s sighting) (bool, error) {
	if s.dir != crdt.Root {
		dir, ok, err := r.tx.Base(s.dir)
		if err != nil || !ok || !dir.Here || s.dir.Kind() != crdt.Directory {
			return false, err
		}
	}
	if s.Known != nil {
		b, ok, err := r.tx.Base(s.Known.ID)
		if err != nil || !ok || !b.Here || b.At != s.Known.At || b.Stat != s.Known.Stat {
			return false, err
		}
		if s.Known.At == (crdt.Location{Parent: s.dir, Name: s.Name}) {
			return true, nil
		}
	}
	id, taken, err := r.tx.BaseAt(s.dir, s.Name)
	if err != nil || !taken {
		return err == nil, err
	}
	// The name is another entry's: right only if that one has left it too.
	if s.Over != nil && id == s.Over.ID {
		return true, nil
	}
	return s.Known != nil, nil
}

// gate holds back the rewritings of a mass change.
func (r *recording) gate(decisions []judged) ([]judged, error) {
	f := r.f
	pending := plan.Pending{Entries: int(r.tx.Stats().Here)}
	for _, d := range decisions {
		if rewrites(d.Decision) {
			pending.Rewritten = append(pending.Rewritten, d.ID)
		}
	}
	if len(pending.Rewritten) == 0 {
		for _, d := range decisions {
			id := d.ID
			r.later(func() { delete(f.heldEdits, id) })
		}
		return decisions, nil
	}
	for id, g := range f.gone {
		pending.Gone = append(pending.Gone, plan.Missing{ID: id, Since: g.since, Entries: 1})
	}
	// What is held already is part of it, though it comes up again only later.
	here := make(map[crdt.EntryID]bool, len(pending.Rewritten))
	for _, id := range pending.Rewritten {
		here[id] = true
	}
	for id := range f.heldEdits {
		if !here[id] {
			pending.Rewritten = append(pending.Rewritten, id)
		}
	}
	v := plan.Gate(pending, &f.tally, time.Now(), f.o.limits, f.releasedOut)
	held := make(map[crdt.EntryID]bool)
	for _, id := range v.Hold {
		held[id] = true
	}
	now := time.Now()
	out := decisions[:0]
	any := false
	for _, d := range decisions {
		id, p := d.ID, d.path
		switch {
		case !rewrites(d.Decision):
			// An edit that was held may have been put back by hand.
			r.later(func() { delete(f.heldEdits, id) })
		case held[id]:
			any = true
			r.later(func() { f.heldEdits[id] = p })
			continue
		case f.releasedOut(id):
			r.later(func() { delete(f.heldEdits, id) })
		default:
			r.later(func() {
				delete(f.heldEdits, id)
				f.tally.Rewrite(now, id)
			})
		}
		out = append(out, d)
	}
	if any {
		ids, reason, total := v.Hold, v.Reason, pending.Entries
		r.later(func() {
			if err := f.holdOutgoing(ids, nil, reason, total); err != nil {
				f.o.log.Error("hold a mass change", "folder", f.name, "err", err)
			}
		})
	}
	return out, nil
}

// rewrites tells whether a decision replaces content.
func rewrites(d plan.Decision) bool {
	for _, s := range d.Steps {
		if s.Do == plan.Edit {
			return true
		}
	}
	return false
}

// carry does what was decided of one sighting, up to the entries themselves.
func (r *recording) carry(d judged) error {
	f := r.f
	if d.Known != nil && d.Is != plan.Gone && d.Do != plan.Postpone {
		id := d.Known.ID
		r.later(func() { f.found(id) })
	}
	f.o.log.Debug("seen", "path", d.path, "is", d.Is.String(), "do", d.Do, "steps", d.Steps, "id", d.ID)
	if d.Is != plan.Gone { // that speaks of who had the name before
		p := d.path
		r.later(func() { delete(f.postponed, p) })
	}
	switch d.Do {
	case plan.Nothing:
	case plan.Pend, plan.Drop:
		// Also what the index no longer shows: it may have been renamed here, which
		// saves it from the deletion.
		known, now := *d.Known, time.Now()
		r.later(func() {
			// One that was recognised under another name in the same go is not missing.
			if b, moved := r.bases[known.ID]; !moved || b.At == known.At {
				f.missing(known, now)
			}
		})
		return nil
	case plan.Postpone:
		waits, now := d, time.Now()
		due := now.Add(postponedFor)
		r.later(func() {
			f.dirty.addPath(waits.path, due)
			f.postponed[waits.path] = waiting{waits, now}
		})
		r.postponed = due
		return nil
	case plan.Rot:
		id, p := d.ID, d.path
		r.later(func() { f.rotten(id, p) })
		b, ok, err := r.tx.Base(id)
		if err != nil || !ok || b.Stat == d.Item.Stat {
			return err
		}
		b.Stat = d.Item.Stat
		return r.tx.SetBase(b)
	case plan.Refresh:
		b, _, err := r.tx.Base(d.ID)
		if err != nil {
			return err
		}
		r.moved(d, b)
		b.Here, b.At, b.Stat = true, d.At, d.Item.Stat
		if err := r.tx.SetBase(b); err != nil {
			return err
		}
	case plan.Adopt:
		if d.Known != nil && d.Known.ID != d.ID {
			// It is taken for another entry than the one whose file it was: what
			// became of that one shows at its own name.
			if from, err := r.paths.of(d.Known.ID); err == nil {
				r.later(func() { f.dirty.addPath(from, time.Time{}) })
			}
		}
		if b, ok, err := r.tx.Base(d.ID); err != nil {
			return err
		} else if ok && b.Here && contentOf(b.Entry).Hash != d.Content.Hash && d.Content.Hash != (crdt.ContentHash{}) {
			// What was here has been replaced, by somebody who saw it, with what others
			// have put there too.
			if err := f.endVersions(r.tx, r.rec, b.Entry); err != nil {
				return err
			}
		}
		if err := r.adopt(d); err != nil {
			return err
		}
	}
	if len(d.Steps) > 0 {
		b, ok, err := r.tx.Base(d.ID)
		if err != nil {
			return err
		}
		switch {
		case ok && d.Anew:
			// What stands there is somebody's own: the entry is not here any more.
			if err := r.tx.SetBase(store.Base{ID: b.ID, Entry: b.Entry}); err != nil {
				return err
			}
		case ok && b.At.Parent == plan.Staging:
			b.At = d.At
			if err := r.tx.SetBase(b); err != nil {
				return err
			}
		case ok:
			r.moved(d, b)
		}
		id, err := d.Record(r.rec)
		var refused *crdt.ChangeError
		if errors.As(err, &refused) {
			// One change that cannot be: the others go on.
			p := d.path
			r.later(func() { f.unrecordable(p, refused) })
			return nil
		}
		if err != nil {
			return err
		}
		r.bases[id] = store.Base{ID: id, Here: true, At: d.At, Stat: d.Item.Stat}
		d.ID = id
		r.later(func() { f.found(id) })
	}
	if len(d.list) > 1 {
		if err := r.tx.PutList(d.Content.Hash, d.list); err != nil {
			return err
		}
	}
	// A directory that is another one, though at the same name, is looked into like
	// a new one.
	anew := d.deep || d.Is == plan.New || d.Is == plan.Moved || d.Is == plan.MovedSuspect || d.Known != nil && d.Known.Stat.Inode != d.Item.Stat.Inode
	if d.Item.Stat.Kind == stat.Directory && anew {
		next := deepDir{path: d.path, id: d.ID, known: true}
		r.later(func() { f.stack = append(f.stack, next) })
	}
	return nil
}

// unrecordable reports a change on this disk that the index cannot take.
func (f *Folder) unrecordable(p string, err *crdt.ChangeError) {
	switch {
	case errors.Is(err, crdt.ErrExists):
		f.problem(p, "not synced: another name in its directory is the same to other systems (written with other Unicode characters)", "rename one of the two")
	case errors.Is(err, crdt.ErrTooDeep):
		f.problem(p, "not synced: it lies too deep", "move it up")
	case errors.Is(err, crdt.ErrTooMany):
		f.problem(p, "not synced: "+err.Error(), "copy it to a new name and delete this one")
	default:
		// The disk has moved on since it was seen: it is looked at once more.
		f.o.log.Debug("record", "err", err)
		f.dirty.addPath(p, time.Now().Add(settleDelay))
	}
}

// moved keeps what is remembered by path true when a directory has moved.
func (r *recording) moved(d judged, b store.Base) {
	if b.Entry.Kind != crdt.Directory || !b.Here || b.At == d.At {
		return
	}
	from, err := r.paths.of(b.ID)
	if err != nil {
		return
	}
	r.paths.place(b.ID, d.At)
	to := d.path
	r.later(func() { r.f.followRename(from, to) })
}

// adopt takes what the disk already shows as the index's own.
func (r *recording) adopt(d judged) error {
	e, _, err := r.tx.Entry(d.ID)
	if err != nil {
		return err
	}
	if b, ok, err := r.tx.Base(d.ID); err != nil {
		return err
	} else if ok {
		r.moved(d, b)
	}
	st := d.Item.Stat
	if d.Attrs {
		mode := e.Mode()
		var mtime *int64
		if e.Kind == crdt.File {
			t := e.MTime()
			mtime = &t
		}
		if st, err = r.f.disk.SetAttrs(d.path, st, &mode, mtime); err != nil {
			p := d.path
			r.f.o.log.Debug("adopt", "err", err)
			r.later(func() { r.f.dirty.addPath(p, time.Now().Add(settleDelay)) })
			return nil
		}
		r.touched = true
		st = r.f.retimed(d.path, st)
	}
	return r.tx.SetBase(store.Base{ID: d.ID, Entry: e, Here: true, At: d.At, Stat: r.f.placed(d.path, st)})
}

// write joins what was recorded into the index and brings the base up to it.
func (r *recording) write() error {
	entries := r.rec.Entries()
	if len(entries) == 0 {
		return nil
	}
	return r.f.joinLocal(r.tx, r.rec, r.bases, func(a crdt.Applied) { r.applied = a }, r.later)
}

// joinLocal joins a recorder's entries into the index, as changes of this
// device. bases says where those stand that have moved on the disk; the others
// stay where the base has them.
func (f *Folder) joinLocal(tx *store.Tx, rec *crdt.Recorder, bases map[crdt.EntryID]store.Base, done func(crdt.Applied), later func(func())) error {
	entries := rec.Entries()
	watch, err := f.watchBatch(tx, tx.Entry, entries)
	if err != nil {
		return err
	}
	current := make(map[crdt.EntryID]store.Base, len(entries))
	for _, e := range entries {
		b, ok := bases[e.ID]
		if !ok {
			if b, _, err = tx.Base(e.ID); err != nil {
				return err
			}
		}
		b.ID, b.Entry = e.ID, e
		current[e.ID] = b
	}
	applied, err := crdt.Apply(tx, entries)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := tx.SetBase(current[e.ID]); err != nil {
			return err
		}
	}
	if err := tx.SetCounter(rec.Counter()); err != nil {
		return err
	}
	sets, err := watch.sets(tx, tx.Entry, applied, f.o.clock())
	if err != nil {
		return err
	}
	for _, x := range rec.Ended() {
		if err := tx.PutEnded(x, f.o.clock()); err != nil {
			return err
		}
	}
	done(applied)
	later(func() { f.log.add(sets) })
	return nil
}

// endVersions notes that what an entry showed here was ended by a person in a way
// that changes nothing else in the index.
func (f *Folder) endVersions(tx *store.Tx, rec *crdt.Recorder, e crdt.Entry) error {
	for _, v := range e.Versions() {
		x := crdt.Ended{Copy: crdt.ConflictID(e.ID, v.Dot), Dot: v.Dot}
		if err := tx.PutEnded(x, f.o.clock()); err != nil {
			return err
		}
		if err := rec.DropCopy(x); err != nil {
			return err
		}
	}
	return nil
}

// dropCopies removes what came in of conflict copies of versions that a person had
// replaced or deleted on this disk before the conflict was known here.
func (f *Folder) dropCopies(tx *store.Tx, came []crdt.EntryID, later func(func())) error {
	rec := crdt.NewRecorder(plan.OnDisk(tx.AsBase()), tx, f.writer())
	for _, id := range came {
		if id.Kind() == crdt.Directory {
			continue
		}
		x, ok, err := tx.Ended(id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := rec.DropCopy(x); err != nil {
			return err
		}
	}
	if len(rec.Entries()) == 0 {
		return nil
	}
	return f.joinLocal(tx, rec, nil, func(crdt.Applied) {}, later)
}

// endedKept is for how long it is remembered that a version was replaced: longer
// than a device is away that may not have heard of it.
const endedKept = 365 * 24 * time.Hour

// forgetEnded lets go of what has been remembered for long enough.
func (f *Folder) forgetEnded() error {
	const slice = 1000
	for n := slice; n == slice; {
		err := f.index.Update(func(tx *store.Tx) (err error) {
			n, err = tx.SweepEnded(f.o.clock().Add(-endedKept), slice)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// writer says who makes a change on this device now. Inside a transaction only:
// the counter is the last that was used.
func (f *Folder) writer() crdt.Writer {
	return crdt.Writer{Folder: f.id, Replica: f.index.Replica(), Counter: f.index.Counter(), Author: f.o.author, Now: f.o.clock().UnixMilli()}
}

// update changes the index in one transaction. What fn passes to later is done, in
// order, once the change is committed, and not at all if it is not.
func (f *Folder) update(fn func(tx *store.Tx, later func(func())) error) error {
	var after []func()
	err := f.index.Update(func(tx *store.Tx) error {
		return fn(tx, func(fn func()) { after = append(after, fn) })
	})
	if err != nil {
		return err
	}
	for _, fn := range after {
		fn()
	}
	return nil
}

// remove records the deletion of entries that the gate has let through: all
// that the base had at and below a name, children before parents.
func (f *Folder) remove(ctx context.Context, ids []crdt.EntryID) error {
	const slice = 500
	for len(ids) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := ids[:min(slice, len(ids))]
		ids = ids[len(part):]
		err := f.update(func(tx *store.Tx, later func(func())) error {
			rec := crdt.NewRecorder(plan.OnDisk(tx.AsBase()), tx, f.writer())
			var here []crdt.EntryID
			bases := make(map[crdt.EntryID]store.Base)
			for _, id := range part {
				b, ok, err := tx.Base(id)
				if err != nil {
					return err
				}
				if ok && b.Here {
					here = append(here, id)
					bases[id] = store.Base{ID: id}
				}
			}
			if err := rec.Remove(here...); err != nil {
				return err
			}
			return f.joinLocal(tx, rec, bases, func(crdt.Applied) {}, later)
		})
		if err != nil {
			return err
		}
		f.notHere(part)
	}
	f.wake()
	return nil
}

// notHere forgets what was to be recorded of entries that are no longer on this disk.
func (f *Folder) notHere(ids []crdt.EntryID) {
	for _, id := range ids {
		f.found(id)
		delete(f.heldEdits, id)
	}
}

// drop takes entries that are gone from this disk, and from the index too, out of
// the base, with all that it has below them.
func (f *Folder) drop(ids []crdt.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	err := f.update(func(tx *store.Tx, later func(func())) error {
		rec := crdt.NewRecorder(plan.OnDisk(tx.AsBase()), tx, f.writer())
		bases := make(map[crdt.EntryID]store.Base)
		for _, top := range ids {
			below, err := descendants(&tx.Reader, top)
			if err != nil {
				return err
			}
			later(func() { f.notHere(below) })
			for _, id := range below {
				b, ok, err := tx.Base(id)
				if err != nil {
					return err
				}
				if !ok || !b.Here {
					continue
				}
				entry, _, err := tx.Entry(id)
				if err != nil {
					return err
				}
				if node, _, err := tx.Node(id); err != nil {
					return err
				} else if node.Visible() {
					// What the index shows elsewhere is brought there again. The person
					// deleted what was here: that is recorded where it does not delete
					// the entry, or others would wait for a version that was on this
					// disk alone.
					if savedFrom(entry, b.Entry) {
						if err := rec.Remove(id); err != nil {
							return err
						}
						bases[id] = store.Base{ID: id}
						continue
					}
					entry = b.Entry
				}
				if err := f.endVersions(tx, rec, b.Entry); err != nil {
					return err
				}
				if err := tx.SetBase(store.Base{ID: id, Entry: entry}); err != nil {
					return err
				}
			}
		}
		if len(rec.Entries()) == 0 {
			return nil
		}
		return f.joinLocal(tx, rec, bases, func(crdt.Applied) {}, later)
	})
	return err
}

// savedFrom tells whether others have moved or changed a file since, so that it
// outlives its deletion by somebody who knows no more than the base.
func savedFrom(now, base crdt.Entry) bool {
	return now.Kind != crdt.Directory && slices.ContainsFunc(now.Live, func(l crdt.Facet) bool { return !base.Seen.Covers(l.Dot) })
}

// affirm says again what this disk has of entries of which nobody has what is shown.
//
// A move, or a change of metadata alone, saves an entry from a deletion that did not
// know of it. It then shows the last version that there was, and that may have been
// on the deleter's disk alone, made and deleted before anybody had it. What we have
// was seen by whoever saved the entry, or by us: it is better than nothing, and
// nobody deleted it knowing of the move.
func (f *Folder) affirm(ids []crdt.EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	said := false
	err := f.update(func(tx *store.Tx, later func(func())) error {
		rec := crdt.NewRecorder(crdt.RowsBase{Rows: tx}, tx, f.writer())
		bases := make(map[crdt.EntryID]store.Base)
		for _, id := range ids {
			e, ok, err := tx.Entry(id)
			if err != nil {
				return err
			}
			b, here, err := tx.Base(id)
			if err != nil {
				return err
			}
			n, _, err := tx.Node(id)
			if err != nil {
				return err
			}
			shown, have := e.Shown(), b.Entry.Shown()
			if !ok || !here || !b.Here || !e.IsLive() || len(e.Versions()) > 0 || have == nil || shown.Content == have.Content || b.At.Parent != n.At.Parent || b.At.Name != n.Shown {
				continue
			}
			if err := rec.Edit(id, contentOf(b.Entry), b.Entry.Mode()); err != nil {
				return fmt.Errorf("say again what %q holds: %w", b.At.Name, err)
			}
			if err := dropOwnCopies(tx, rec, b.Entry, have.Content); err != nil {
				return err
			}
			bases[id], said = b, true
		}
		return f.joinLocal(tx, rec, bases, func(crdt.Applied) {}, later)
	})
	if err != nil {
		return err
	}
	if said {
		f.wake()
	}
	return nil
}

// dropOwnCopies removes conflict copies that were made to keep what is now in its own
// place again, if nobody has touched them.
func dropOwnCopies(tx *store.Tx, rec *crdt.Recorder, e crdt.Entry, content crdt.ContentHash) error {
	for _, v := range e.Versions() {
		id := crdt.ConflictID(e.ID, v.Dot)
		c, ok, err := tx.Entry(id)
		if err != nil || !ok {
			return err
		}
		n, _, err := tx.Node(id)
		if err != nil {
			return err
		}
		if shown := c.Shown(); !n.Visible() || c.Place.Stamp.Count > 0 || shown == nil || shown.Content != content {
			continue
		}
		if err := rec.Remove(id); err != nil {
			return err
		}
	}
	return nil
}

// txViews is what plan.Decide looks up, inside a transaction.
type txViews struct {
	f       *Folder
	tx      *store.Tx
	leaving map[crdt.EntryID]bool
	// vanished are those seen as gone in this transaction, by content.
	vanished map[crdt.ContentHash][]plan.Known
}

var _ plan.Views = txViews{}

func (v txViews) Shown(id crdt.EntryID) (s plan.Shown, ok bool, err error) {
	if s.Entry, ok, err = v.tx.Entry(id); err != nil || !ok {
		return s, false, err
	}
	s.Node, ok, err = v.tx.Node(id)
	return s, ok, err
}

func (v txViews) At(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	return crdt.Find(v.tx, parent, name)
}

func (v txViews) Here(id crdt.EntryID) (bool, error) {
	if _, gone := v.f.gone[id]; gone {
		return false, nil
	}
	b, ok, err := v.tx.Base(id)
	if err != nil || !ok || !b.Here {
		return false, err
	}
	p, err := newDiskPaths(v.tx).of(id)
	if err != nil {
		return false, nil //nolint:nilerr // its directory is not there, so neither is it
	}
	l, err := v.f.disk.Look(context.Background(), path.Dir(p), []string{path.Base(p)})
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist), nil // unknown is not gone
	}
	for _, item := range l.Items {
		return item.Stat.Kind == b.Stat.Kind, nil
	}
	return true, nil
}

func (v txViews) Vanished(content crdt.ContentHash) (list []plan.Known, err error) {
	add := func(k plan.Known) error {
		if slices.ContainsFunc(list, func(x plan.Known) bool { return x.ID == k.ID }) {
			return nil
		}
		// What has been found elsewhere since is not looked for any more.
		b, ok, err := v.tx.Base(k.ID)
		if err == nil && ok && b.Here && b.At == k.At && b.Stat == k.Stat {
			list = append(list, k)
		}
		return err
	}
	const enough = 2 // more than one is ambiguous
	for id := range v.f.goneBy[content] {
		if err := add(v.f.gone[id].known); err != nil || len(list) == enough {
			return list, err
		}
	}
	for _, k := range v.vanished[content] {
		if err := add(k); err != nil || len(list) == enough {
			return list, err
		}
	}
	return list, nil
}

func (v txViews) Leaving(id crdt.EntryID) bool {
	if v.leaving[id] {
		return true
	}
	b, ok, err := v.tx.Base(id)
	return err == nil && (!ok || !b.Here)
}

// A waiting sighting was postponed: something that was renamed onto a name which is
// still to be recorded as free.
type waiting struct {
	judged
	at time.Time
}

// postponedFor is when what was postponed is looked at again.
const postponedFor = goneDelay + settleDelay

// renamedHere gives the entries that are gone from where they were and have just
// been seen elsewhere: by sightings that wait, or that could not be read yet.
func (f *Folder) renamedHere(ctx context.Context) map[crdt.EntryID]bool {
	ids := make(map[crdt.EntryID]bool)
	for p, d := range f.postponed {
		// One that is not seen again has gone from there as well.
		if time.Since(d.at) > 4*postponedFor {
			delete(f.postponed, p)
		} else if d.Known != nil {
			ids[d.Known.ID] = true
		}
	}
	for p, id := range f.unread {
		if f.isThere(ctx, p) {
			ids[id] = true
		} else {
			delete(f.unread, p)
		}
	}
	return ids
}

// isThere tells whether a path leads to something, or may.
func (f *Folder) isThere(ctx context.Context, p string) bool {
	l, err := f.disk.Look(ctx, path.Dir(p), []string{path.Base(p)})
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, disk.ErrNotDirectory)
	}
	return len(l.Skipped) > 0 || slices.ContainsFunc(l.Items, func(i disk.Item) bool { return i.Stat.Kind != stat.None })
}

// meet has those that wait for one another's names looked at in one go, where what was
// seen of them came piecemeal: only together can they be recorded.
func (f *Folder) meet(due time.Time) {
	var ds []plan.Decision
	at := make(map[crdt.EntryID]string)
	for p, d := range f.postponed {
		if d.Known != nil {
			ds = append(ds, plan.Decision{Do: plan.Postpone, ID: d.Known.ID, On: d.On})
			at[d.Known.ID] = p
		}
	}
	for _, id := range plan.Circles(ds) {
		f.dirty.addPath(at[id], due)
	}
}

// waitedFor gives the entries whose names directories wait for that have been seen and
// not yet been looked into, and those whose names these wait for in turn: what is gone
// elsewhere may be in there. Call renamedHere before it.
func (f *Folder) waitedFor() map[crdt.EntryID]bool {
	ids := make(map[crdt.EntryID]bool)
	on := make(map[crdt.EntryID]crdt.EntryID)
	var next []crdt.EntryID
	for _, d := range f.postponed {
		if d.Item.Stat.Kind == stat.Directory {
			next = append(next, d.On)
		}
		if d.Known != nil {
			on[d.Known.ID] = d.On
		}
	}
	for len(next) > 0 {
		id := next[0]
		next = next[1:]
		if over, waits := on[id]; waits && !ids[id] {
			next = append(next, over)
		}
		ids[id] = true
	}
	return ids
}

// rescue records what was renamed onto the very name of a directory above it
// that is about to be recorded as removed: it must not go with it.
func (f *Folder) rescue(ctx context.Context, dir crdt.EntryID, below []crdt.EntryID) (rescued bool, err error) {
	for p, d := range f.postponed {
		if d.On != dir || d.Known == nil || d.Known.ID == dir || !slices.Contains(below, d.Known.ID) {
			continue
		}
		delete(f.postponed, p)
		if err := f.recordLeaving(ctx, []sighting{d.sighting}, map[crdt.EntryID]bool{dir: true}); err != nil {
			return rescued, err
		}
		rescued = true
	}
	return rescued, nil
}

// missing notes that an entry was not where the base has it.
func (f *Folder) missing(k plan.Known, now time.Time) {
	if _, ok := f.gone[k.ID]; ok {
		return
	}
	f.gone[k.ID] = goneEntry{since: now, known: k, scan: f.nextScan()}
	f.gateNext = time.Time{}
	if k.Kind == crdt.File && k.Stat.Size > 0 {
		by := f.goneBy[k.Content]
		if by == nil {
			by = make(map[crdt.EntryID]bool)
			f.goneBy[k.Content] = by
		}
		by[k.ID] = true
	}
}

// found takes back that an entry is missing.
func (f *Folder) found(id crdt.EntryID) {
	g, ok := f.gone[id]
	if !ok {
		return
	}
	delete(f.gone, id)
	f.gateNext = time.Time{}
	if by := f.goneBy[g.known.Content]; by != nil {
		if delete(by, id); len(by) == 0 {
			delete(f.goneBy, g.known.Content)
		}
	}
}

// rotten reports a file whose bytes changed though nothing else did, and has it
// brought anew.
func (f *Folder) rotten(id crdt.EntryID, p string) {
	f.problem(p, "its bytes have changed on this disk though nobody wrote it (bit rot): the change is not sent", "it is fetched again from another device by itself; check the disk under "+path.Dir(p))
	f.heal[id] = p
}
