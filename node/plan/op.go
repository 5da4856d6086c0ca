package plan

import (
	"bytes"
	"fmt"

	"sheaf/crdt"
)

// Do is what an [Op] does.
type Do uint8

// The operations.
const (
	// Settle: the disk needs nothing. The base takes the index's state.
	Settle Do = iota + 1
	// MakeDir makes a directory at To.
	MakeDir
	// MakeLink makes a symbolic link at To, or replaces the one there.
	MakeLink
	// Fetch gets the content of a file and puts it at To: a new name if From is
	// zero, else in place of what the entry holds there.
	Fetch
	// SetAttrs sets mode and, of a file, modification time of what is at To.
	SetAttrs
	// Rename takes the entry from From to To, where nothing is.
	Rename
	// Stage takes it out of the folder's sight for a moment: see [Staging].
	Stage
	// Unstage puts it at To: where it belongs or, if it was found in the stage and
	// cannot go there, in sight under another name. Unlike with other operations
	// the base row durably says so before: it is only wrong after a crash if the
	// entry is still in the stage, where it is found at the start.
	Unstage
	// Trash takes a file or link at From to the trash.
	Trash
	// RemoveDir removes the directory at From, which is empty unless it holds
	// what is unknown or ignored: then it is kept and reported.
	RemoveDir
	// Wait: nothing can be done now, for the reason in Reason.
	Wait
)

// String gives the word for tests and logs.
func (d Do) String() string {
	names := [...]string{"", "settle", "make directory", "make link", "fetch", "set attributes", "rename", "stage", "unstage", "trash", "remove directory", "wait"}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("do(%d)", uint8(d))
}

// A Reason says why an entry must wait.
type Reason uint8

// The reasons.
const (
	Held      Reason = iota + 1 // held says so
	NoParent                    // its directory (For) is not on this disk
	NameTaken                   // the entry For stands at its name and stays
	Blocked                     // something that is no entry stands at its name: unrecorded, ignored, special
	NotEmpty                    // the directory still holds the entry For, which waits
	Entangled                   // what it waits for waits for it
	PutAside                    // it was found staged, and is first put where people see it
	Forgotten                   // the index does not know it: nothing is deleted for want of a row
	Uncopied                    // the conflict copy For, which is to keep its bytes, cannot be made yet
)

// String gives the reason for people.
func (r Reason) String() string {
	switch r {
	case Held:
		return "held until somebody decides"
	case NoParent:
		return "its directory is not here yet"
	case NameTaken:
		return "its name is still in use by another entry"
	case Blocked:
		return "its name is taken by something that is not synced"
	case NotEmpty:
		return "the directory is still in use"
	case Entangled:
		return "it stands in the way of what it waits for"
	case PutAside:
		return "it was left in the middle of a rename and is being put back"
	case Forgotten:
		return "the index does not know it"
	case Uncopied:
		return "the conflict copy of it cannot be made yet"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Staging is the parent of what is staged: .sheaf/stage, a place in the folder
// that is no part of its tree, where entries wait for a moment while others take
// their names. The name there is the entry's ID. No entry has this ID.
//
// Nothing stays there from one plan to the next: see [PutBack].
//
// To the base it is a directory like others: an entry that is staged is Here, At
// the stage. What is found in the stage at the start, its base row saying
// otherwise, is given that row; what has that row, and neither the stage nor a
// look at all of the folder shows it, is no longer Here with what lay below, and
// comes again. To a crdt.Recorder it is not on the disk: see
// [OnDisk].
var Staging = crdt.EntryID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// stage gives the location of an entry in the stage.
func stage(id crdt.EntryID) crdt.Location { return crdt.Location{Parent: Staging, Name: id.String()} }

// A Target is what the view shows of an entry.
type Target struct {
	Visible bool
	Parent  crdt.EntryID
	Name    string
	Kind    crdt.Kind
	Content crdt.ContentHash
	Size    int64
	Blocks  uint32
	Link    string
	Mode    uint32
	MTime   int64
}

// TargetOf gives the target of an entry in the index.
func TargetOf(e crdt.Entry, n crdt.Node) Target {
	t := Target{Visible: n.Visible(), Parent: n.At.Parent, Name: n.Shown, Kind: e.Kind, Mode: e.Mode(), MTime: e.MTime()}
	if v := e.Shown(); v != nil {
		t.Content, t.Size, t.Blocks, t.Link = v.Content, v.Size, v.Blocks, v.Target
	}
	return t
}

// An Op is one thing to be done to the disk.
//
// Locations are entries and names, not paths: they become paths when the
// operation is carried out, by where the directories then stand (of a staged
// directory, in the stage). Operations are carried out in order; one whose
// earlier ones in After were not carried out, or failed, is left out. What an
// operation expects at From is what the base says, and what differs is left
// alone: it is a change by a person, to be observed first.
//
// After the operation, the base has the entry at To (or no longer Here), with
// the disk's stat. Where Last is set, and only there, the base also takes the
// entry state that the index had when the plan was made. Before that it may take
// the Place register of it with a Rename, or with an Unstage to where the view has
// it, and nothing else.
type Op struct {
	Do     Do
	ID     crdt.EntryID
	From   crdt.Location // zero for what is not on the disk yet
	To     crdt.Location // zero where it leaves the disk
	Target Target
	After  []int // operations of this plan that it stands on
	// Firm tells that the base must durably say what those in After did before
	// this one is carried out: it comes to a name that one of them freed, or
	// replaces what one of them moved. Should a crash lose the base rows of both,
	// the file at that name could not be told from one that a person put there.
	Firm bool
	// Apart tells of a Fetch that the content is the one the entry has here: only
	// its metadata is new, but the file has other hard links, which would show a
	// change that nobody made to them. It gets a copy of its own.
	Apart bool
	// Last tells that nothing more is to be done about the entry by this plan.
	Last   bool
	Reason Reason // Wait
	// For is, of a Wait, the entry that must change first. Of a Fetch it is the
	// entry whose local bytes this conflict copy keeps: it is best put in place
	// right before they are replaced or trashed, not while these have yet to wait
	// for their own content; till then there would be two files with the same
	// bytes, of which a person would delete one. Zero for none.
	For crdt.EntryID
}

// Removes tells whether the operation takes an entry from the disk.
func (o Op) Removes() bool { return o.Do == Trash || o.Do == RemoveDir }

// Replaces tells whether the operation takes the place of content on the disk.
func (o Op) Replaces() bool {
	return (o.Do == Fetch && !o.Apart || o.Do == MakeLink) && o.From != crdt.Location{}
}

// String gives the parts that matter when a test fails.
func (o Op) String() string {
	s := fmt.Sprintf("%s %.4s", o.Do, o.ID)
	if o.From != (crdt.Location{}) {
		s += fmt.Sprintf(" from %.4s/%s", o.From.Parent, o.From.Name)
	}
	if o.To != (crdt.Location{}) {
		s += fmt.Sprintf(" to %.4s/%s", o.To.Parent, o.To.Name)
	}
	if o.Do == Wait {
		s += fmt.Sprintf(": %s (%.4s)", o.Reason, o.For)
	}
	if len(o.After) > 0 {
		s += fmt.Sprintf(" after %v", o.After)
	}
	return s
}

func compareIDs(a, b crdt.EntryID) int { return bytes.Compare(a[:], b[:]) }

// OnDisk hides what is staged from a base, as a crdt.Recorder must see it: there
// is no such place in the folder. What waits in the root to go to where it belongs
// is there, and has not fallen back.
func OnDisk(base crdt.Base) crdt.Base { return onDisk{base} }

type onDisk struct{ crdt.Base }

func (b onDisk) At(id crdt.EntryID) (crdt.Location, bool, error) {
	at, ok, err := b.Base.At(id)
	return at, ok && at.Parent != Staging, err
}

func (b onDisk) Fallen() ([]crdt.EntryID, error) {
	ids, err := b.Base.Fallen()
	if err != nil {
		return nil, err
	}
	var out []crdt.EntryID
	for _, id := range ids {
		at, ok, err := b.At(id)
		if err != nil {
			return nil, err
		}
		// What PutBack put in the root has not fallen back there either.
		if ok && (at.Parent != crdt.Root || !isAside(at.Name)) {
			out = append(out, id)
		}
	}
	return out, nil
}
