package plan

import (
	"fmt"
	"slices"
	"time"

	"sheaf/crdt"
)

// Limits say what may be removed or rewritten without a word from a person.
//
// A mass change is more than Entries entries and more than Share of the folder,
// removed or rewritten "in one go": within Window, counting what is about to
// happen together with what has happened in it. The folder is counted as it was
// when the window began, so that removing it slice by slice does not make the
// slices small. Emptying the folder is a mass change too, from Emptied entries
// on: whoever deletes the one file of a new folder means it.
type Limits struct {
	Settle  time.Duration // how long something must have been gone
	Window  time.Duration
	Entries int
	Share   float64 // of 1
	Emptied int
}

// DefaultLimits gives the limits of a folder for which nobody has set others.
func DefaultLimits() Limits {
	return Limits{Settle: 2 * time.Second, Window: time.Hour, Entries: 50, Share: 0.20, Emptied: 10}
}

// Missing is an entry that is not on the disk though base and view say it should
// be: see Pend.
type Missing struct {
	ID      crdt.EntryID
	Since   time.Time // when it was first found gone, and not found since
	Entries int       // how many base entries go: itself and, of a directory, what lay below and was found nowhere else
}

// Pending is what people did that takes something away, not yet recorded.
type Pending struct {
	Gone      []Missing
	Rewritten []crdt.EntryID // files with other content
	Entries   int            // all entries that the base has on this disk, the gone ones among them
}

// A Verdict says what of it may be recorded (or, of what peers did, carried out).
// Each entry of the question is in exactly one of Remove, Rewrite, Wait and Hold.
type Verdict struct {
	Remove  []crdt.EntryID
	Rewrite []crdt.EntryID
	Wait    []crdt.EntryID // not gone for long enough
	Until   time.Time      // when to ask again for the first of Wait; zero for none
	Hold    []crdt.EntryID // a mass change: not before a person releases them
	Reason  string         // of Hold, for people: "" for none
}

// Gate says which deletions and rewritings may be recorded. released tells what a
// person has let through; tally is what has been recorded lately, to which the
// caller adds what it records of Remove and Rewrite that was not released.
//
// All that is pending counts, also what has not been gone for long enough: a
// mass deletion under way is held before its first deletion is recorded. When a
// limit is passed, everything pending is held.
func Gate(p Pending, tally *Tally, now time.Time, l Limits, released func(crdt.EntryID) bool) Verdict {
	var v Verdict
	q := question{entries: p.Entries}
	for _, g := range p.Gone {
		q.remove(g.ID, max(1, g.Entries), released(g.ID))
	}
	for _, id := range p.Rewritten {
		q.rewrite(id, released(id))
	}
	v.Reason = q.reason(tally, now, l)
	held := func(id crdt.EntryID) bool { return v.Reason != "" && !released(id) }
	for _, g := range p.Gone {
		due := g.Since.Add(l.Settle)
		if latest := now.Add(l.Settle); due.After(latest) {
			due = latest // the clock was set back
		}
		switch {
		case held(g.ID):
			v.Hold = append(v.Hold, g.ID)
		case due.After(now):
			v.Wait = append(v.Wait, g.ID)
			if v.Until.IsZero() || due.Before(v.Until) {
				v.Until = due
			}
		default:
			v.Remove = append(v.Remove, g.ID)
		}
	}
	for _, id := range p.Rewritten {
		if held(id) {
			v.Hold = append(v.Hold, id)
		} else {
			v.Rewrite = append(v.Rewrite, id)
		}
	}
	if len(v.Hold) == 0 {
		v.Reason = ""
	}
	return v
}

// HoldIncoming judges by the same rule what peers would have this disk remove or
// replace: a sender may be old, hostile, or encrypted by an extortionist. ops is
// what [Materialise] plans, entries the number of entries on this disk. What is
// in Hold goes into the held of a new Materialise; the operations of a plan that
// was judged must not be carried out in part, since they stand on one another.
// Wait is always empty.
func HoldIncoming(ops []Op, tally *Tally, entries int, now time.Time, l Limits, released func(crdt.EntryID) bool) Verdict {
	var v Verdict
	q := question{entries: entries}
	for _, op := range ops {
		switch {
		case op.Removes():
			q.remove(op.ID, 1, released(op.ID))
		case op.Replaces():
			q.rewrite(op.ID, released(op.ID))
		}
	}
	v.Reason = q.reason(tally, now, l)
	for _, op := range ops {
		switch {
		case !op.Removes() && !op.Replaces():
		case v.Reason != "" && !released(op.ID):
			v.Hold = append(v.Hold, op.ID)
		case op.Removes():
			v.Remove = append(v.Remove, op.ID)
		default:
			v.Rewrite = append(v.Rewrite, op.ID)
		}
	}
	slices.SortFunc(v.Hold, compareIDs)
	v.Hold = slices.Compact(v.Hold)
	if len(v.Hold) == 0 {
		v.Reason = ""
	}
	return v
}

// question adds up what is asked for.
type question struct {
	entries   int // on the disk
	removed   int
	taken     int // removed, released ones among them
	rewritten []crdt.EntryID
}

func (q *question) remove(_ crdt.EntryID, entries int, released bool) {
	q.taken += entries
	if !released {
		q.removed += entries
	}
}

func (q *question) rewrite(id crdt.EntryID, released bool) {
	if !released {
		q.rewritten = append(q.rewritten, id)
	}
}

// reason gives why it is a mass change, "" if it is none.
func (q *question) reason(tally *Tally, now time.Time, l Limits) string {
	if q.removed == 0 && len(q.rewritten) == 0 {
		return ""
	}
	before, rewritten := tally.count(now, l.Window)
	for _, id := range q.rewritten {
		rewritten[id] = true
	}
	removed, whole := before+q.removed, before+q.entries
	if n := removed + len(rewritten); n > l.Entries && float64(n) > l.Share*float64(whole) {
		return fmt.Sprintf("%d of %d entries would be deleted and %d rewritten within %s", removed, whole, len(rewritten), l.Window)
	}
	if q.removed > 0 && q.taken >= q.entries && whole >= l.Emptied {
		return fmt.Sprintf("all %d entries would be deleted", q.entries)
	}
	return ""
}
