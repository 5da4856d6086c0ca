package plan

import (
	"fmt"

	"sheaf/crdt"
)

// A Verb is what a [Decision] asks for.
type Verb uint8

// The verbs. In all but Nothing, Rot, Postpone and Pend the base row is written
// in the same transaction: At is Decision.At, Stat what the disk says, Here
// true; what its entry state is stands with each.
const (
	// Nothing: the disk is as the base says.
	Nothing Verb = iota
	// Refresh: the same bytes; only where the entry stands, or what the disk says
	// of it, is new (and not a person's change: it is what the view shows). The
	// entry state stays, but where At is another than before it takes the Place
	// register of the index.
	Refresh
	// Adopt: the disk already holds what the view shows: a crash came before the
	// base row, or people made the same change twice, or two filled folders meet.
	// The entry state becomes the index's. Where Attrs is set, the disk is first
	// given the mode and time that the index shows. Steps, if any, follow on that
	// state.
	Adopt
	// Record: a person changed something. Steps are recorded in order; the entry
	// state is what the recorder made of it. Of an entry that the base has as
	// staged the row is given At before that.
	Record
	// Rot: the bytes changed under a file of which nothing else changed, or that a
	// power cut tore. It is never recorded: report it and fetch the file anew. Only
	// Stat of the base row is brought up to the disk, so that it can be replaced.
	Rot
	// Postpone: the name was another entry's (On), of which it is not decided yet
	// whether it is deleted or has moved. Ask again when that is decided; see
	// Circles. Where On is a directory that the base has above the entry itself,
	// its removal (or Drop) would take the entry along: then ask again right before
	// that, in the same transaction, with Leaving true for On.
	Postpone
	// Drop: the entry is gone from the disk and the view does not show it either.
	// The base row takes the index's state and is no longer Here.
	Drop
	// Pend: the entry is gone from the disk though the view shows it: a person's
	// deletion, if it stays so and Gate lets it through.
	Pend
)

// String gives the word for tests and logs.
func (v Verb) String() string {
	names := [...]string{"nothing", "refresh", "adopt", "record", "rot", "postpone", "drop", "pend"}
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("verb(%d)", uint8(v))
}

// A Decision is what to do about one binding.
type Decision struct {
	Do    Verb
	ID    crdt.EntryID  // the entry; zero where Steps begin with a Create
	At    crdt.Location // where it stands on the disk
	Attrs bool          // Adopt: mode or time on the disk are not what the index shows
	Steps []Step        // Record, Adopt
	// Anew: the base row of ID is first, in the same transaction, to say that the
	// entry is not Here: the step is to create what stands in its place.
	Anew bool
	On   crdt.EntryID // Postpone: the entry that was known at that name
}

// A StepKind is a call of crdt.Recorder.
type StepKind uint8

// The steps: each is the Recorder's method of that name.
const (
	Create StepKind = iota + 1
	Edit
	Move
	SetAttributes
)

// String gives the word for tests and logs.
func (k StepKind) String() string {
	names := [...]string{"", "create", "edit", "move", "set attributes"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("step(%d)", uint8(k))
}

// A Step is one call of crdt.Recorder.
type Step struct {
	Do      StepKind
	ID      crdt.EntryID  // all but Create
	At      crdt.Location // Create, Move
	Kind    crdt.Kind     // Create
	Content crdt.Content  // Create, Edit
	Mode    uint32        // Create, Edit, SetAttributes
	MTime   *int64        // SetAttributes: nil leaves the time
}

// A Recorder is the part of *crdt.Recorder that steps need.
type Recorder interface {
	Create(at crdt.Location, kind crdt.Kind, c crdt.Content, mode uint32) (crdt.EntryID, error)
	Edit(id crdt.EntryID, c crdt.Content, mode uint32) error
	Move(id crdt.EntryID, to crdt.Location) error
	SetAttrs(id crdt.EntryID, mode uint32, mtime *int64) error
}

// Record carries out the steps on r and gives the entry they are about. Where
// the decision is to Adopt, the base must have been given the index's state
// before.
func (d Decision) Record(r Recorder) (crdt.EntryID, error) {
	id := d.ID
	for _, s := range d.Steps {
		var err error
		switch s.Do {
		case Create:
			id, err = r.Create(s.At, s.Kind, s.Content, s.Mode)
		case Edit:
			err = r.Edit(s.ID, s.Content, s.Mode)
		case Move:
			err = r.Move(s.ID, s.At)
		case SetAttributes:
			err = r.SetAttrs(s.ID, s.Mode, s.MTime)
		}
		if err != nil {
			return id, fmt.Errorf("record: %s %q of %s: %w", s.Do, d.At.Name, id, err)
		}
	}
	return id, nil
}
