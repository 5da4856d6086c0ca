package crdt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Why a change cannot be recorded. They come wrapped in a *[ChangeError].
var (
	ErrNotOnDisk = errors.New("not on this disk")
	ErrExists    = errors.New("already there")
	ErrKind      = errors.New("not possible for this kind of entry")
	ErrInside    = errors.New("a directory cannot be moved into itself")
	ErrTooDeep   = fmt.Errorf("deeper than %d directories", MaxDepth)
	ErrTooMany   = fmt.Errorf("changed by more than %d replicas, or too large", MaxReplicas)
)

// A ChangeError tells which change could not be recorded, and why: one of the
// errors above, a *[NameError], or an error of the Base or Rows.
type ChangeError struct {
	Op  string
	ID  EntryID
	Err error
}

// Error gives the change, the entry and the cause.
func (e *ChangeError) Error() string {
	return fmt.Sprintf("record %s of entry %s: %v", e.Op, e.ID, e.Err)
}

// Unwrap gives the cause.
func (e *ChangeError) Unwrap() error { return e.Err }

// Writer is who makes local changes, and when.
type Writer struct {
	Folder  FolderID
	Replica ReplicaID
	Counter uint64 // the last one used; the first change takes the next
	Author  string // label of this device, for people
	Now     int64  // Unix milliseconds
}

// Content is what a person put into a file or symbolic link.
type Content struct {
	Hash   ContentHash // see ContentHash; for a symbolic link it is made from Target
	Size   int64       // bytes
	Blocks uint32      // see Version
	MTime  int64       // Unix nanoseconds
	Target string      // of a symbolic link only
}

// Recorder turns what a person did on this disk into entries.
//
// A change is made on the state that the disk shows, never on the newer one of
// the index: it replaces exactly what the person had seen, and a version that has
// arrived but not reached the disk stays as the concurrent version that it is.
// Only of an entry that neither disk nor index shows (made anew, or taken out of
// the trash) the index's state is taken: nothing can be replaced there, and the
// new place outranks all the old ones.
//
// Before each change the Recorder writes down what the person sees where the
// state does not say so (it affirms): each entry that has fallen back because of
// a cycle gets its shown place as its Place, and each directory on the way to the
// root that is shown only for what lies under it gets a presence. So a change
// does what the person sees and moves nothing else.
//
// A version that a person replaces or deletes may have lost a conflict meanwhile,
// and have become a conflict copy that has not reached this disk. The person has
// replaced that too: see [Recorder.DropCopy].
//
// Changes recorded earlier are seen by later ones. A method that returns an error
// has recorded nothing. Not safe for concurrent use.
type Recorder struct {
	base  Base
	index Rows
	w     Writer

	entries map[EntryID]Entry // changed
	order   []EntryID         // keys of entries, as they were first changed
	at      map[EntryID]*placeOnDisk
	undo    []func()
	allUp   bool                 // what had fallen back is written down
	upright map[EntryID]struct{} // directories known to be live, all the way up
	ended   []Ended
}

// Ended is a version that a person replaced or deleted here, by the ID that its
// conflict copy has, if it has lost a conflict somewhere.
type Ended struct {
	Copy EntryID
	Dot  Dot
}

// placeOnDisk is where the disk shows an entry, or that it does not.
type placeOnDisk struct {
	Location
	there bool
}

// NewRecorder gives a Recorder of changes made by w on what base shows. Of the
// index it only asks which entries are visible and, for those that are not, their
// state.
func NewRecorder(base Base, index Rows, w Writer) *Recorder {
	w.Author = cutRunes(strings.ToValidUTF8(w.Author, ""), MaxAuthor)
	return &Recorder{
		base: base, index: index, w: w,
		entries: map[EntryID]Entry{},
		at:      map[EntryID]*placeOnDisk{},
		upright: map[EntryID]struct{}{},
	}
}

// Counter gives the last counter used. It must be durable before the entries
// leave the process.
func (r *Recorder) Counter() uint64 { return r.w.Counter }

// Entries gives the states changed so far, in the order of [Order]. Each is what is
// to be joined into the index, and the new state of the base, which need not hear of
// copies that were dropped.
func (r *Recorder) Entries() []Entry {
	out := make([]Entry, len(r.order))
	for i, id := range r.order {
		out[i] = r.entries[id]
	}
	return Order(out)
}

// Ended gives the versions replaced and deleted by the changes so far. Whoever
// receives a copy of one later hands it to DropCopy.
func (r *Recorder) Ended() []Ended { return r.ended }

// Create records a new entry: a directory has a zero Content. Its ID is derived
// from its place, so that whoever creates the same path makes the same entry,
// unless the entry of that ID is visible elsewhere.
func (r *Recorder) Create(at Location, kind Kind, c Content, mode uint32) (EntryID, error) {
	id := NewEntryID(r.w.Folder, at.Parent, kind, at.Name, nil)
	err := r.do("creation", id, func() error {
		if kind < Directory || kind > Symlink || kind == Directory && c != (Content{}) {
			return ErrKind
		}
		if err := r.fits(at); err != nil {
			return err
		}
		elsewhere, err := r.visibleElsewhere(id, at)
		if err != nil {
			return err
		}
		if err := r.affirm(at.Parent); err != nil {
			return err
		}
		d := r.dot()
		if elsewhere {
			id = NewEntryID(r.w.Folder, at.Parent, kind, at.Name, &d)
		}
		return r.born(id, d, at, c, mode)
	})
	if err != nil {
		return EntryID{}, err
	}
	return id, nil
}

// Restore records that an entry which is not on this disk is made anew, as by a
// creation.
func (r *Recorder) Restore(id EntryID, at Location, c Content, mode uint32) error {
	return r.do("restoring", id, func() error {
		if id == Root || id.Kind() == Directory && c != (Content{}) {
			return ErrKind
		}
		if err := r.fits(at); err != nil {
			return err
		}
		if l, err := r.place(id); err != nil || l.there {
			return or(err, ErrExists)
		}
		e, err := r.unshown(id)
		if err != nil {
			return err
		}
		if len(e.Seen) == 0 {
			return ErrNotOnDisk
		}
		if err := r.affirm(at.Parent); err != nil {
			return err
		}
		return r.born(id, r.dot(), at, c, mode)
	})
}

// born puts an entry that is not on the disk where it now is.
func (r *Recorder) born(id EntryID, d Dot, at Location, c Content, mode uint32) error {
	e, err := r.unshown(id)
	if err != nil {
		return err
	}
	count := nextCount(e)
	e.ID, e.Kind = id, id.Kind()
	e.Place = Place{Stamp: r.stamp(e.Place.Stamp.Count), Location: at, From: at}
	e.Attrs = Attrs{Stamp: r.stampAt(count), Mode: mode}
	e.Live = []Facet{{Dot: d}}
	if e.Kind != Directory {
		e.Live[0].Version = r.version(e.Kind, count, c)
		e.Last = e.Live[0].Version
	}
	r.setAt(id, &placeOnDisk{at, true})
	return r.put(e, d)
}

// Edit records new content: it replaces all contents that the person had seen.
// The mode is recorded only where it differs from the one shown. The same content
// again is only a change of metadata.
func (r *Recorder) Edit(id EntryID, c Content, mode uint32) error {
	return r.do("edit", id, func() error {
		e, err := r.shown(id)
		if err != nil {
			return err
		}
		if e.Kind == Directory {
			return ErrKind
		}
		v := r.version(e.Kind, nextCount(e), c)
		if old := e.Shown(); old != nil && sameContent(old, v) {
			return r.setAttrs(id, mode, &c.MTime)
		}
		if err := r.affirm(id); err != nil {
			return err
		}
		if e, err = r.state(id); err != nil {
			return err
		}
		if err := r.end(e); err != nil {
			return err
		}
		d := r.dot()
		if mode != e.Mode() {
			e.Attrs = Attrs{Stamp: r.stampAt(nextCount(e)), Mode: mode}
		}
		e.Live, e.Last = []Facet{{d, v}}, v
		return r.put(e, d)
	})
}

// Move records that an entry, with all under it, was moved or renamed. To move it
// to where it is records nothing.
func (r *Recorder) Move(id EntryID, to Location) error {
	return r.do("move", id, func() error {
		if _, err := r.shown(id); err != nil {
			return err
		}
		from, err := r.place(id)
		if err != nil || from.Location == to {
			return err
		}
		if err := r.fits(to); err != nil {
			return err
		}
		way, err := r.way(to.Parent)
		if err != nil {
			return err
		}
		for _, up := range way {
			if up == id {
				return ErrInside
			}
		}
		if err := r.affirm(to.Parent, id); err != nil {
			return err
		}
		e, err := r.state(id)
		if err != nil {
			return err
		}
		d := r.dot()
		e.Place = Place{Stamp: r.stamp(e.Place.Stamp.Count), Location: to, From: from.Location}
		e.Live = r.withPresence(e.Live, d)
		r.setAt(id, &placeOnDisk{to, true})
		return r.put(e, d)
	})
}

// SetAttrs records a change of metadata alone: permission bits and, if mtime is
// not nil, a modification time over the same bytes. Nothing is recorded where
// both are as shown.
func (r *Recorder) SetAttrs(id EntryID, mode uint32, mtime *int64) error {
	return r.do("change of metadata", id, func() error { return r.setAttrs(id, mode, mtime) })
}

func (r *Recorder) setAttrs(id EntryID, mode uint32, mtime *int64) error {
	e, err := r.shown(id)
	if err != nil {
		return err
	}
	sameTime := mtime == nil || *mtime == e.MTime()
	if mode == e.Mode() && sameTime {
		return nil
	}
	if err := r.affirm(id); err != nil {
		return err
	}
	if e, err = r.state(id); err != nil {
		return err
	}
	attrs := Attrs{Stamp: r.stampAt(nextCount(e)), Mode: mode}
	switch {
	case !sameTime:
		attrs.HasMTime, attrs.MTime = true, *mtime
	case e.attrsTime(): // in force, so it stays so
		attrs.HasMTime, attrs.MTime = true, e.Attrs.MTime
	}
	d := r.dot()
	e.Attrs = attrs
	e.Live = r.withPresence(e.Live, d)
	return r.put(e, d)
}

// Remove records that a set of entries was removed: all that lay under a removed
// directory must be in it. It takes away what the person had seen; what somebody
// else put there meanwhile stays.
func (r *Recorder) Remove(ids ...EntryID) error {
	if len(ids) == 0 {
		return nil
	}
	return r.do("removal", ids[0], func() error {
		set := make(map[EntryID]struct{}, len(ids))
		for _, id := range ids {
			if _, err := r.shown(id); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
			set[id] = struct{}{}
		}
		for id := range set {
			delete(r.upright, id)
		}
		if err := r.affirmOutside(set, ids); err != nil {
			return err
		}
		for _, id := range ids {
			if _, again := set[id]; !again {
				continue
			}
			delete(set, id)
			e, err := r.state(id)
			if err != nil {
				return err
			}
			if err := r.end(e); err != nil {
				return err
			}
			d := r.dot()
			e.Live = nil
			r.setAt(id, &placeOnDisk{})
			if err := r.put(e, d); err != nil {
				return err
			}
		}
		clear(r.upright)
		return nil
	})
}

// end notes that what an entry shows on the disk is about to be replaced, and drops
// the copies of it.
func (r *Recorder) end(e Entry) error {
	for _, f := range e.Versions() {
		x := Ended{conflictID(e.ID, e.Kind, f.Dot), f.Dot}
		r.ended = append(r.ended, x)
		if err := r.dropCopy(x); err != nil {
			return err
		}
	}
	return nil
}

// DropCopy removes a conflict copy of a version that was replaced or deleted here
// knowingly, before the conflict was known: the person saw it, though under the
// name of what it is a copy of. It does nothing if the copy is not there (yet), is
// on this disk, or holds more than that version: then somebody has made it a file
// of its own. Without this, a version that nobody has any more, and that nobody
// misses, could be waited for for ever.
func (r *Recorder) DropCopy(x Ended) error {
	return r.do("removal of a replaced version", x.Copy, func() error { return r.dropCopy(x) })
}

func (r *Recorder) dropCopy(x Ended) error {
	p, err := r.place(x.Copy)
	if err != nil || p.there {
		return err
	}
	e, changed := r.entries[x.Copy]
	if !changed {
		var ok bool
		if e, ok, err = r.index.Entry(x.Copy); err != nil {
			return fmt.Errorf("read index entry: %w", err)
		} else if !ok {
			return nil
		}
	}
	if !e.IsLive() || slices.ContainsFunc(e.Live, func(f Facet) bool { return f.Dot != x.Dot }) {
		return nil
	}
	d := r.dot()
	e.Live = nil
	return r.put(e, d)
}

// version makes the Version of a content.
func (r *Recorder) version(kind Kind, count uint64, c Content) *Version {
	if kind == Symlink {
		c.Hash = sha256.Sum256([]byte(c.Target))
	}
	return &Version{
		Stamp: r.stampAt(count), Author: r.w.Author,
		Content: c.Hash, Size: c.Size, Blocks: c.Blocks, MTime: c.MTime, Target: c.Target,
	}
}
