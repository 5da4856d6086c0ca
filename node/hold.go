package node

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// A holdRecord is a mass change that waits for a person's word, or has had it
// and is being carried out. There is at most one each way in a folder: what
// comes to it while it is open belongs to it.
type holdRecord struct {
	ID       string         `json:"id"`
	Incoming bool           `json:"incoming"` // others made it; else it was made on this disk
	At       time.Time      `json:"at"`
	Released bool           `json:"released"` // may happen
	Entries  []crdt.EntryID `json:"entries"`  // what is held
	Deleted  int64          `json:"deleted"`
	Changed  int64          `json:"changed"`
	Total    int64          `json:"total"`
	Sample   []string       `json:"sample"`
	Reason   string         `json:"reason"`
	Device   string         `json:"device"`

	set map[crdt.EntryID]bool
}

// holds are a folder's open holds.
type holds struct{ out, in *holdRecord }

const holdSample = 10

func (f *Folder) holdSpace() string { return "hold/" + f.id.String() }

func (f *Folder) loadHolds() error {
	f.holds = holds{}
	return f.db.Each(f.holdSpace(), func(_ string, value []byte) error {
		h := new(holdRecord)
		if err := json.Unmarshal(value, h); err != nil {
			return fmt.Errorf("read a hold: %w", err)
		}
		h.index()
		if h.Incoming {
			f.holds.in = h
		} else {
			f.holds.out = h
		}
		f.shareHolds()
		return nil
	})
}

func (h *holdRecord) index() {
	h.set = make(map[crdt.EntryID]bool, len(h.Entries))
	for _, id := range h.Entries {
		h.set[id] = true
	}
}

func (f *Folder) saveHold(h *holdRecord) error {
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return f.db.Put(f.holdSpace(), h.ID, data)
}

func (f *Folder) dropHold(h *holdRecord) error {
	if f.holds.in == h {
		f.holds.in = nil
	}
	if f.holds.out == h {
		f.holds.out = nil
	}
	f.shareHolds()
	return f.db.Delete(f.holdSpace(), h.ID)
}

// hold opens a hold, or adds to the one that is open.
func (f *Folder) hold(h *holdRecord) error {
	slot := &f.holds.out
	if h.Incoming {
		slot = &f.holds.in
	}
	if old := *slot; old != nil {
		h.ID, h.At, h.Released = old.ID, old.At, old.Released
		if slices.Equal(old.Entries, h.Entries) {
			return nil
		}
	} else {
		h.ID = fmt.Sprintf("%x", f.o.clock().UnixMilli())
		if h.Incoming {
			h.ID += "-in"
		}
		h.At = f.o.clock().UTC()
	}
	h.index()
	*slot = h
	if err := f.saveHold(h); err != nil {
		return err
	}
	f.shareHolds()
	f.o.event(api.EventHold, h.view(f.name))
	f.o.log.Warn("mass change held", "folder", f.name, "incoming", h.Incoming, "deleted", h.Deleted, "changed", h.Changed, "of", h.Total)
	return nil
}

func (h *holdRecord) view(folder string) api.Hold {
	return api.Hold{ID: h.ID, Folder: folder, Device: h.Device, At: h.At, Deleted: h.Deleted, Changed: h.Changed, Total: h.Total, Sample: h.Sample, What: h.Reason}
}

// shareHolds lets others see what is held.
func (f *Folder) shareHolds() {
	var list []api.Hold
	for _, h := range []*holdRecord{f.holds.out, f.holds.in} {
		if h != nil && !h.Released {
			list = append(list, h.view(f.name))
		}
	}
	f.mu.Lock()
	f.shownHolds = list
	f.announceLocked()
	f.mu.Unlock()
	for _, h := range list {
		f.problem("", h.What, "see `sheaf hold list`; then `sheaf hold release "+h.ID+"` to let it happen, or `sheaf hold revert "+h.ID+"` to undo it")
	}
	if len(list) == 0 {
		f.solved("")
	}
}

// sample gives some paths for a person to recognise.
func (f *Folder) sample(r *store.Reader, ids []crdt.EntryID) []string {
	var out []string
	for _, id := range ids {
		if len(out) == holdSample {
			break
		}
		if p, err := viewPath(r, id); err == nil {
			out = append(out, f.treePath(p))
		} else if p, err := newDiskPaths(r).of(id); err == nil {
			out = append(out, f.treePath(p))
		}
	}
	slices.SortFunc(out, strings.Compare)
	return out
}

// releasedOut tells whether a person has let a change of this disk through.
func (f *Folder) releasedOut(id crdt.EntryID) bool {
	h := f.holds.out
	return h != nil && h.Released && h.set[id]
}

// holdOutgoing keeps the hold over what was done on this disk at just what is
// held now; nothing held ends it. entries says how many go with a directory.
func (f *Folder) holdOutgoing(ids []crdt.EntryID, entries map[crdt.EntryID]int, reason string, total int) error {
	h := f.holds.out
	if len(ids) == 0 {
		if h != nil && (!h.Released || !f.pendingOut(h)) {
			// Put back by a person, or carried out.
			f.tally.Clear()
			return f.dropHold(h)
		}
		return nil
	}
	if h != nil && h.Released {
		// What was let through is done with; this is another one.
		if err := f.dropHold(h); err != nil {
			return err
		}
	}
	slices.SortFunc(ids, crdt.EntryID.Compare)
	next := &holdRecord{Entries: ids, Total: int64(total), Device: f.o.author, Reason: "made on this device: " + reason}
	for _, id := range ids {
		if _, edited := f.heldEdits[id]; edited {
			next.Changed++
		} else {
			next.Deleted += int64(max(1, entries[id]))
		}
	}
	if err := f.index.Read(func(r *store.Reader) error {
		next.Sample = f.sample(r, ids)
		return nil
	}); err != nil {
		return err
	}
	return f.hold(next)
}

// pendingOut tells whether something of a released hold is still to be recorded.
func (f *Folder) pendingOut(h *holdRecord) bool {
	for _, id := range h.Entries {
		_, gone := f.gone[id]
		_, edited := f.heldEdits[id]
		if gone || edited {
			return true
		}
	}
	return false
}

// leaveAlone tells which entries the plan must leave as they are: held, or
// changed on this disk and not recorded yet.
func (f *Folder) leaveAlone(id crdt.EntryID) bool {
	if h := f.holds.in; h != nil && !h.Released && h.set[id] {
		return true
	}
	if _, gone := f.gone[id]; gone {
		return true
	}
	_, edited := f.heldEdits[id]
	return edited
}

// judgeIncoming holds what others would have this disk lose, where that is a
// mass change. All that is behind is judged at once, before any of it is done.
func (f *Folder) judgeIncoming(r *store.Reader) error {
	h := f.holds.in
	var ops []plan.Op
	view := planReader{r: r}
	counts := struct{ deleted, changed int64 }{}
	var after uint64
	for {
		ids, next, err := r.Behind(after, pageSize)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			break
		}
		after = next
		for _, id := range ids {
			base, here, ok, err := view.Base(id)
			if err != nil {
				return err
			}
			if !ok || !here {
				continue
			}
			target, ok, err := view.Target(id)
			if err != nil {
				return err
			}
			switch {
			case !ok:
			case !target.Visible:
				ops = append(ops, plan.Op{Do: plan.Trash, ID: id, From: base.At})
			case base.Kind != crdt.Directory && base.Content != target.Content:
				ops = append(ops, plan.Op{Do: plan.Fetch, ID: id, From: base.At, To: base.At})
			}
		}
	}
	released := func(id crdt.EntryID) bool { return h != nil && h.Released && h.set[id] || f.isLet(id) }
	v := plan.HoldIncoming(ops, &f.taken, int(r.Stats().Here), time.Now(), f.o.limits, released)
	if len(v.Hold) == 0 {
		if h != nil && !h.Released {
			f.taken.Clear()
			return f.dropHold(h)
		}
		if h != nil && len(v.Remove)+len(v.Rewrite) == 0 {
			return f.dropHold(h) // released and done
		}
		now := time.Now()
		for _, id := range v.Remove {
			if !released(id) {
				f.taken.Remove(now, id, 1)
			}
		}
		for _, id := range v.Rewrite {
			if !released(id) {
				f.taken.Rewrite(now, id)
			}
		}
		return nil
	}
	held := make(map[crdt.EntryID]bool, len(v.Hold))
	for _, id := range v.Hold {
		held[id] = true
	}
	for _, op := range ops {
		if held[op.ID] && op.Removes() {
			counts.deleted++
		} else if held[op.ID] {
			counts.changed++
		}
	}
	next := &holdRecord{
		Incoming: true, Entries: v.Hold, Total: r.Stats().Here, Deleted: counts.deleted, Changed: counts.changed,
		Sample: f.sample(r, v.Hold), Reason: "asked for by another device: " + v.Reason,
	}
	if h != nil && h.Released {
		if err := f.dropHold(h); err != nil {
			return err
		}
	}
	return f.hold(next)
}

// releaseHold lets a held change happen. Control goroutine only.
func (f *Folder) releaseHold(h *holdRecord) error {
	h.Released = true
	if err := f.saveHold(h); err != nil {
		return err
	}
	w, err := f.wordOf(h)
	if err != nil {
		return err
	}
	f.tally.Clear()
	f.taken.Clear()
	f.shareHolds()
	f.afterWord(h)
	return f.o.word(w)
}

// afterWord has what was held looked at again.
func (f *Folder) afterWord(h *holdRecord) {
	f.gateNext = time.Time{}
	f.judged = 0
	for _, p := range f.heldEdits {
		f.dirty.addPath(p, time.Time{})
	}
	for _, id := range h.Entries {
		delete(f.blocked, id)
	}
	f.kick()
}

// revertHold undoes a held change. What was made on this disk is taken back
// here: the base forgets that it had it, so that it is brought again. What
// others made is set back for all: this device says again what it has.
func (f *Folder) revertHold(h *holdRecord) error {
	revert, entries := f.revertOutgoing, h.Entries
	if h.Incoming {
		// Directories before what is in them.
		revert, entries = f.revertIncoming, f.byDepth(h.Entries)
	}
	for rest := entries; len(rest) > 0; {
		n := min(len(rest), 250)
		if err := revert(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	f.tally.Clear()
	f.taken.Clear()
	if err := f.dropHold(h); err != nil {
		return err
	}
	f.afterWord(h)
	f.wake()
	return nil
}

// byDepth orders entries by how deep they lie on this disk.
func (f *Folder) byDepth(ids []crdt.EntryID) []crdt.EntryID {
	depth := make(map[crdt.EntryID]int, len(ids))
	_ = f.index.Read(func(r *store.Reader) error {
		paths := newDiskPaths(r)
		for _, id := range ids {
			if p, err := paths.of(id); err == nil {
				depth[id] = strings.Count(p, "/")
			}
		}
		return nil
	})
	return slices.SortedStableFunc(slices.Values(ids), func(a, b crdt.EntryID) int { return depth[a] - depth[b] })
}

// An undoing is a person's word to take a change of this disk back. It waits
// until all of the change has been seen.
type undoing struct {
	id    string
	since time.Time
	done  chan error
}

// undoAfter is how long an undoing waits at most.
const undoAfter = 10 * time.Second

// undo carries out an undoing that waits, if all that changed has been seen.
// Control goroutine only.
func (f *Folder) undo() (again time.Time) {
	u := f.undoing
	if u == nil {
		return again
	}
	if late := u.since.Add(undoAfter); f.observing() && time.Now().Before(late) {
		return late
	}
	f.undoing = nil
	var err error
	if h := f.holds.out; h != nil && h.ID == u.id {
		err = f.revertHold(h)
	}
	u.done <- err
	return again
}

// revertOutgoing has what was deleted here fetched again, with all below it,
// and what was rewritten here put back; the rewritten bytes go to the trash.
func (f *Folder) revertOutgoing(ids []crdt.EntryID) error {
	for _, id := range ids {
		if p, edited := f.heldEdits[id]; edited {
			if err := f.revertEdit(id, p); err != nil {
				return err
			}
			delete(f.heldEdits, id)
			continue
		}
		err := f.index.Update(func(tx *store.Tx) error {
			all, err := descendants(&tx.Reader, id)
			if err != nil {
				return err
			}
			for _, id := range all {
				b, ok, err := tx.Base(id)
				if err != nil || !ok {
					return err
				}
				if err := tx.SetBase(store.Base{ID: id, Entry: b.Entry}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		f.found(id)
	}
	return nil
}

// revertEdit moves a rewritten file to the trash and has the version before
// brought again.
func (f *Folder) revertEdit(id crdt.EntryID, p string) error {
	l, err := f.disk.Look(context.Background(), path.Dir(p), []string{path.Base(p)})
	if err != nil {
		return err
	}
	for _, item := range l.Items {
		if item.Stat.Kind != stat.File && item.Stat.Kind != stat.Symlink {
			continue
		}
		if _, err := f.disk.Discard(p, item.Stat, f.disk.NewBucket("rewritten on this device, and reverted")); err != nil {
			return err
		}
	}
	if err := f.disk.Barrier(); err != nil {
		return err
	}
	return f.index.Update(func(tx *store.Tx) error {
		b, ok, err := tx.Base(id)
		if err != nil || !ok {
			return err
		}
		return tx.SetBase(store.Base{ID: id, Entry: b.Entry})
	})
}

// revertIncoming says again, for all devices, what this disk has: whoever asked
// for the change is overruled knowingly, so the change is made on the index.
func (f *Folder) revertIncoming(ids []crdt.EntryID) error {
	return f.update(func(tx *store.Tx, later func(func())) error {
		rec := crdt.NewRecorder(crdt.RowsBase{Rows: tx}, tx, f.writer())
		bases := make(map[crdt.EntryID]store.Base)
		for _, id := range ids {
			b, ok, err := tx.Base(id)
			if err != nil {
				return err
			}
			if !ok || !b.Here {
				continue
			}
			node, _, err := tx.Node(id)
			if err != nil {
				return err
			}
			if node.Visible() && id.Kind() == crdt.Directory {
				continue // it is shown again
			}
			content := contentOf(b.Entry)
			if node.Visible() {
				err = rec.Edit(id, content, b.Entry.Mode())
			} else {
				err = rec.Restore(id, b.At, content, b.Entry.Mode())
			}
			if err != nil {
				return fmt.Errorf("set back %q: %w", b.At.Name, err)
			}
			bases[id] = b
		}
		return f.joinLocal(tx, rec, bases, func(crdt.Applied) {}, later)
	})
}

// contentOf gives the content that an entry shows.
func contentOf(e crdt.Entry) crdt.Content {
	v := e.Shown()
	if v == nil {
		return crdt.Content{}
	}
	return crdt.Content{Hash: v.Content, Size: v.Size, Blocks: v.Blocks, MTime: e.MTime(), Target: v.Target}
}
