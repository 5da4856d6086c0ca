package plan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"sheaf/crdt"
)

// A Tally remembers what was removed and rewritten lately, so that a mass change
// in slices is seen as one. Each entry counts once, however often it is
// rewritten. The zero Tally is empty and ready. It is not safe for concurrent
// use.
//
// What a person has released does not belong into it; and when a person answers
// a hold, the tally begins anew: it is told what it was kept for.
type Tally struct {
	removed   map[crdt.EntryID]removal
	rewritten map[crdt.EntryID]int64 // Unix seconds
}

type removal struct {
	at      int64 // Unix seconds
	entries int
}

// Remove notes that an entry was removed: so many entries in all.
func (t *Tally) Remove(now time.Time, id crdt.EntryID, entries int) {
	if t.removed == nil {
		t.removed = make(map[crdt.EntryID]removal)
	}
	t.removed[id] = removal{now.Unix(), max(1, entries)}
}

// Rewrite notes that an entry was given other content.
func (t *Tally) Rewrite(now time.Time, id crdt.EntryID) {
	if t.rewritten == nil {
		t.rewritten = make(map[crdt.EntryID]int64)
	}
	t.rewritten[id] = now.Unix()
}

// Forget drops what is older than window. It bounds the tally's memory; Gate
// itself leaves what is older out of account.
func (t *Tally) Forget(now time.Time, window time.Duration) {
	for id, r := range t.removed {
		if !within(r.at, now, window) {
			delete(t.removed, id)
		}
	}
	for id, at := range t.rewritten {
		if !within(at, now, window) {
			delete(t.rewritten, id)
		}
	}
}

// Clear begins the tally anew.
func (t *Tally) Clear() { t.removed, t.rewritten = nil, nil }

// within tells whether a moment is in the window that ends now. One in the
// future is: the clock was set back, and forgetting is the weaker choice.
func within(at int64, now time.Time, window time.Duration) bool {
	return now.Sub(time.Unix(at, 0)) < window
}

// count gives the entries removed within the window, and whether an entry was
// rewritten in it.
func (t *Tally) count(now time.Time, window time.Duration) (removed int, rewritten map[crdt.EntryID]bool) {
	rewritten = make(map[crdt.EntryID]bool)
	if t == nil {
		return 0, rewritten
	}
	for _, r := range t.removed {
		if within(r.at, now, window) {
			removed += r.entries
		}
	}
	for id, at := range t.rewritten {
		if _, gone := t.removed[id]; !gone && within(at, now, window) {
			rewritten[id] = true
		}
	}
	return removed, rewritten
}

const tallyRow = len(crdt.EntryID{}) + 8 + 4

// MarshalBinary gives a form to be stored: a restart must not begin a new
// window. Rows of 28 bytes: ID, Unix seconds, entries removed with it and itself
// (zero: rewritten), big-endian, sorted.
func (t *Tally) MarshalBinary() ([]byte, error) {
	rows := make([][tallyRow]byte, 0, len(t.removed)+len(t.rewritten))
	add := func(id crdt.EntryID, at int64, entries int) {
		var row [tallyRow]byte
		n := copy(row[:], id[:])
		binary.BigEndian.PutUint64(row[n:], uint64(at))
		binary.BigEndian.PutUint32(row[n+8:], uint32(min(entries, 1<<31)))
		rows = append(rows, row)
	}
	for id, r := range t.removed {
		add(id, r.at, r.entries)
	}
	for id, at := range t.rewritten {
		add(id, at, 0)
	}
	slices.SortFunc(rows, func(a, b [tallyRow]byte) int { return slices.Compare(a[:], b[:]) })
	out := make([]byte, 0, len(rows)*tallyRow)
	for _, row := range rows {
		out = append(out, row[:]...)
	}
	return out, nil
}

// UnmarshalBinary takes in what MarshalBinary gave.
func (t *Tally) UnmarshalBinary(data []byte) error {
	if len(data)%tallyRow != 0 {
		return fmt.Errorf("read tally of %d bytes: %w", len(data), errTally)
	}
	t.Clear()
	for ; len(data) > 0; data = data[tallyRow:] {
		var id crdt.EntryID
		n := copy(id[:], data)
		at := time.Unix(int64(binary.BigEndian.Uint64(data[n:])), 0)
		if entries := binary.BigEndian.Uint32(data[n+8:]); entries > 0 {
			t.Remove(at, id, int(entries))
		} else {
			t.Rewrite(at, id)
		}
	}
	return nil
}

var errTally = errors.New("not a whole number of rows")
