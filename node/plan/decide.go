package plan

import (
	"fmt"

	"sheaf/crdt"
)

// Found is a binding with what was read of it.
type Found struct {
	Binding
	// Content is what the item holds; zero where it was not read (directories,
	// Unchanged and Moved items).
	Content crdt.Content
	Mode    uint32 // of the item
	// Torn is set where the item has not been written since the base was, though it
	// may hold other bytes: a power cut came between.
	Torn bool
}

// Shown is the index's state of an entry.
type Shown struct {
	Entry crdt.Entry
	Node  crdt.Node
}

// at gives where the view shows the entry.
func (s Shown) at() crdt.Location {
	return crdt.Location{Parent: s.Node.At.Parent, Name: s.Node.Shown}
}

// holds tells whether the view shows the entry with this content.
func (s Shown) holds(c crdt.Content) bool {
	v := s.Entry.Shown()
	return s.Node.Visible() && v != nil && v.Content == c.Hash && v.Size == c.Size
}

// Views is what [Decide] looks up. All of it is of one moment.
type Views interface {
	// Shown gives the index's state of an entry.
	Shown(id crdt.EntryID) (Shown, bool, error)
	// At gives the entry that the view shows at that path: see crdt.Find.
	At(parent crdt.EntryID, name string) (crdt.EntryID, bool, error)
	// Here tells whether the disk still has something of the entry's kind where the
	// base has the entry: false if that is nowhere, or if there is nothing now (a
	// person or a crash may have taken it away since).
	Here(id crdt.EntryID) (bool, error)
	// Vanished gives the entries that are pending as gone and held this content
	// when they were last seen. At most two are needed.
	Vanished(content crdt.ContentHash) ([]Known, error)
	// Deleted gives entries that are not shown any more and stood at that path, and
	// that the disk may have had before the base was lost: none where it never was,
	// or for what was last changed on the disk since then (see stat.Stat.Changed, zero
	// for what does not say).
	Deleted(at crdt.Location, changed int64) ([]Shown, error)
	// Leaving tells that the entry, gone from its name, is dropped, recorded as
	// removed along with this decision, or is one of those that Circles gave.
	Leaving(id crdt.EntryID) bool
}

// Decide says what to record of one binding other than Gone, found in the
// directory dir, which is itself recorded already.
//
// What a person changed is told from what this device did itself by comparing
// with the view, which shows what we would have done: content, place, mode and
// time that differ from the base but are as in the view are no change. Mode and
// time are compared with what the disk said before, not with the entry, so that
// a disk that cannot hold them changes nothing.
func Decide(dir crdt.EntryID, f Found, view Views) (Decision, error) {
	d := decider{view: view, f: f, at: crdt.Location{Parent: dir, Name: f.Name}}
	out, err := d.decide()
	if err != nil {
		return Decision{}, fmt.Errorf("decide on %q in %s: %w", f.Name, dir, err)
	}
	return out, nil
}

// DecideGone says what becomes of a binding that is Gone: Drop or Pend. What the
// base has below a directory that is gone may have been moved out of it: each
// such entry is pending too, and the directory is dropped only when the base has
// nothing below it any more. Of all that is pending DecideGone is asked once more
// when it has been gone for long enough, children first, before Gate: the view
// may have changed.
func DecideGone(k Known, view Views) (Decision, error) {
	s, ok, err := view.Shown(k.ID)
	if err != nil {
		return Decision{}, fmt.Errorf("decide on %q, which is gone: %w", k.At.Name, err)
	}
	if ok && !s.Node.Visible() {
		return Decision{Do: Drop, ID: k.ID, At: k.At}, nil
	}
	return Decision{Do: Pend, ID: k.ID, At: k.At}, nil
}

// Circles finds, among postponed decisions of one observation, those that wait
// for one another: directories that were swapped across directories, each of
// them gone from the name that another has taken. It gives the entries whose
// moves are to be decided again, together and in one transaction, with Leaving
// true for all of them. An entry of which the same observation took another name
// later (it has hard links) is no longer postponed.
func Circles(postponed []Decision) []crdt.EntryID {
	on := make(map[crdt.EntryID]crdt.EntryID)
	for _, d := range postponed {
		if d.Do == Postpone && d.ID != (crdt.EntryID{}) {
			on[d.ID] = d.On
		}
	}
	var out []crdt.EntryID
	walked := make(map[crdt.EntryID]int) // by which walk
	for i, d := range postponed {
		id := d.ID
		for walked[id] == 0 {
			if _, waits := on[id]; !waits {
				break
			}
			walked[id] = i + 1
			id = on[id]
		}
		if walked[id] == i+1 { // this walk came back to itself
			for first := id; ; {
				out = append(out, id)
				if id = on[id]; id == first {
					break
				}
			}
		}
	}
	return out
}

type decider struct {
	view Views
	f    Found
	at   crdt.Location
}

func (d *decider) decide() (Decision, error) {
	if over := d.f.Over; over != nil && !d.view.Leaving(over.ID) {
		out := Decision{Do: Postpone, At: d.at, On: over.ID}
		if d.f.Known != nil {
			out.ID = d.f.Known.ID
		}
		return out, nil
	}
	if d.f.Known == nil {
		return d.unknown()
	}
	return d.known(*d.f.Known)
}

// unknown decides on an item that is no known entry's.
func (d *decider) unknown() (Decision, error) {
	kind := kindOf(d.f.Item.Stat.Kind)
	if id, ok, err := d.adoptable(kind); err != nil {
		return Decision{}, err
	} else if ok {
		s, _, err := d.view.Shown(id)
		return d.adopt(Decision{ID: id, At: d.at}, s), err
	}
	if kind == crdt.File && d.f.Content.Size > 0 {
		gone, err := d.view.Vanished(d.f.Content.Hash)
		if err != nil {
			return Decision{}, err
		}
		if len(gone) == 1 && gone[0].Kind == crdt.File {
			// Where the view has other bytes by now, these are no longer the entry's.
			s, ok, err := d.view.Shown(gone[0].ID)
			if err != nil {
				return Decision{}, err
			}
			if ok && s.holds(d.f.Content) {
				return d.known(gone[0])
			}
		}
	}
	if id, ok, err := d.deleted(kind); err != nil || ok {
		return Decision{Do: Adopt, ID: id, At: d.at}, err
	}
	return Decision{Do: Record, At: d.at, Steps: []Step{d.create()}}, nil
}

// deleted finds the entry that the item was, where others have deleted it since: a
// file with the same bytes and time, a link with the same target, a directory. A
// person who made the very same anew, time and all, finds it in the trash.
func (d *decider) deleted(kind crdt.Kind) (id crdt.EntryID, ok bool, err error) {
	changed := d.f.Item.Stat.Changed
	if kind == crdt.Directory {
		changed = 0 // whatever was put into it changed it
	}
	list, err := d.view.Deleted(d.at, changed)
	if err != nil {
		return id, false, err
	}
	for _, s := range list {
		v := s.Entry.Shown()
		switch {
		case s.Entry.Kind != kind || s.Node.Visible():
			continue
		case kind == crdt.Directory:
		case v == nil || v.Content != d.f.Content.Hash || v.Size != d.f.Content.Size || v.Target != d.f.Content.Target:
			continue
		case kind == crdt.File && !heldTime(d.f.Item.Stat.Modified, s.Entry.MTime()):
			continue
		}
		return s.Entry.ID, true, nil
	}
	return id, false, nil
}

// create records the item as it is.
func (d *decider) create() Step {
	kind, mode := kindOf(d.f.Item.Stat.Kind), d.f.Mode
	if kind == crdt.Symlink {
		mode = linkMode
	}
	return Step{Do: Create, At: d.at, Kind: kind, Content: d.f.Content, Mode: mode}
}

// linkMode is the mode of every symbolic link: systems differ in what they say
// of it, and none heeds it.
const linkMode = 0o777

// adoptable finds the entry that the view shows at the item's path with the
// item's content, if the disk does not hold it elsewhere.
func (d *decider) adoptable(kind crdt.Kind) (crdt.EntryID, bool, error) {
	id, ok, err := d.view.At(d.at.Parent, d.at.Name)
	if err != nil || !ok {
		return id, false, err
	}
	s, ok, err := d.view.Shown(id)
	if err != nil || !ok || s.Entry.Kind != kind {
		return id, false, err
	}
	if kind != crdt.Directory && !s.holds(d.f.Content) {
		return id, false, nil
	}
	here, err := d.view.Here(id)
	return id, !here, err
}

// shownHere finds an entry other than k, that the view shows at the item's path
// with k's bytes, which the item has.
func (d *decider) shownHere(k Known) (crdt.EntryID, bool, error) {
	id, ok, err := d.view.At(d.at.Parent, d.at.Name)
	if err != nil || !ok || id == k.ID || k.Kind != crdt.File {
		return id, false, err
	}
	s, ok, err := d.view.Shown(id)
	if err != nil || !ok || s.Entry.Kind != k.Kind || s.Entry.Shown() == nil {
		return id, false, err
	}
	read := d.f.Content.Hash
	if s.Entry.Shown().Content != k.Content || read != k.Content && read != (crdt.ContentHash{}) {
		return id, false, nil
	}
	here, err := d.view.Here(id)
	return id, !here, err
}

// adopt completes a decision to adopt an entry. Metadata is made the index's,
// except of a file with other hard links: to change it there would be to change
// them all, so what the disk shows is recorded.
func (d *decider) adopt(out Decision, s Shown) Decision {
	out.Do = Adopt
	item := d.f.Item.Stat
	switch {
	case !d.attrsDiffer(s):
	case s.Entry.Kind == crdt.File && item.Links > 1:
		out.Steps = append(out.Steps, Step{Do: SetAttributes, ID: out.ID, Mode: d.f.Mode, MTime: &item.Modified})
	default:
		out.Attrs = true
	}
	return out
}

// known decides on an item that is the entry k.
func (d *decider) known(k Known) (Decision, error) {
	s, ok, err := d.view.Shown(k.ID)
	if err != nil {
		return Decision{}, err
	}
	visible := ok && s.Node.Visible()
	edited := d.f.Content.Hash != (crdt.ContentHash{}) && d.f.Content.Hash != k.Content
	moved := d.at != k.At
	if edited && !moved && (d.f.Torn || k.Stat.Unchanged(d.f.Item.Stat) && k.Stat.SameFile(d.f.Item.Stat)) {
		return Decision{Do: Rot, ID: k.ID, At: d.at}, nil
	}
	out := Decision{Do: Record, ID: k.ID, At: d.at}
	inPlace := visible && s.at() == d.at
	if moved && !inPlace && (k.Stat.Links > 1 || d.f.Item.Stat.Links > 1) {
		// Of hard links it cannot be said which one was renamed: it is the one that
		// the view shows here, if there is one. That of k is then gone.
		id, ok, err := d.shownHere(k)
		if err != nil {
			return Decision{}, err
		}
		if ok {
			other, _, err := d.view.Shown(id)
			return d.adopt(Decision{ID: id, At: d.at}, other), err
		}
	}
	// What the base has as staged, a crash let us lose sight of. Where it stands now
	// is taken as it is, and it goes from there to where the view has it.
	if moved && !inPlace && k.At.Parent != Staging {
		out.Steps = append(out.Steps, Step{Do: Move, ID: k.ID, At: d.at})
	}
	if edited && s.holds(d.f.Content) && (inPlace || s.at() == k.At) {
		return d.adopt(out, s), nil
	}
	if !edited && !moved && d.f.Content.Hash != (crdt.ContentHash{}) && k.Stat.OtherFile(d.f.Item.Stat) && !s.holds(d.f.Content) {
		// Another file with the bytes that the base has, while the view wants
		// others or none: somebody saved them once more, or kept them against those others
		// (a crash may have hidden that it was so already), as by renaming the
		// conflict copy over the file. They must not be replaced as if nobody had.
		out.Anew, out.Steps = true, []Step{d.create()}
		return out, nil
	}
	mode, mtime := d.changedMode(k), d.changedTime(k)
	// That mode or time are the view's tells of our own work only where all else
	// is the view's too: we set them last.
	agree := inPlace && !edited && (k.Kind == crdt.Directory || s.Entry.Shown() != nil && s.Entry.Shown().Content == k.Content)
	if agree && (moved || mode != nil || mtime != nil) {
		byPerson := mode != nil && *mode != s.Entry.Mode() || mtime != nil && !heldTime(*mtime, s.Entry.MTime())
		shared := k.Kind == crdt.File && d.f.Item.Stat.Links > 1 && d.attrsDiffer(s)
		if !byPerson && !shared {
			return d.adopt(out, s), nil
		}
	}
	if mode == nil {
		mode = &k.Mode
	}
	switch {
	case edited:
		out.Steps = append(out.Steps, Step{Do: Edit, ID: k.ID, Content: d.f.Content, Mode: *mode})
	case *mode != k.Mode || mtime != nil:
		out.Steps = append(out.Steps, Step{Do: SetAttributes, ID: k.ID, Mode: *mode, MTime: mtime})
	}
	switch {
	case len(out.Steps) > 0:
	case d.f.Is == Unchanged: // but for a directory's times and links
		out.Do = Nothing
	default:
		out.Do = Refresh
	}
	return out, nil
}

// changedMode gives the mode of a known entry if it is not as it was: nil if the
// disk says what it said before, or what the entry says.
func (d *decider) changedMode(k Known) *uint32 {
	if k.Kind == crdt.Symlink || d.f.Mode == k.Stat.Mode || d.f.Mode == k.Mode {
		return nil
	}
	return &d.f.Mode
}

// changedTime is changedMode for the time of a file.
func (d *decider) changedTime(k Known) *int64 {
	t := d.f.Item.Stat.Modified
	if k.Kind != crdt.File || t == k.Stat.Modified || t == k.MTime {
		return nil
	}
	return &t
}

// attrsDiffer tells whether the disk shows another mode or time than the index.
func (d *decider) attrsDiffer(s Shown) bool {
	switch s.Entry.Kind {
	case crdt.Directory:
		return d.f.Mode != s.Entry.Mode()
	case crdt.File:
		return d.f.Mode != s.Entry.Mode() || d.f.Item.Stat.Modified != s.Entry.MTime()
	}
	return false
}

// heldTime tells whether t is what some disk makes of the time want: cut to its
// own grain, of which two seconds (FAT) is the coarsest.
func heldTime(t, want int64) bool {
	for _, grain := range [...]int64{1, 100, 1e3, 1e6, 1e9, 2e9} {
		if t%grain == 0 && (t == want || t == want-mod(want, grain)) {
			return true
		}
	}
	return false
}

// mod is the remainder that is never negative: times before 1970 are cut
// towards the past too.
func mod(a, b int64) int64 { return (a%b + b) % b }
