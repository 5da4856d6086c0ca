package plan

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sheaf/crdt"
)

func nobody(crdt.EntryID) bool { return false }

func missing(n, entries int, since time.Time) []Missing {
	var out []Missing
	for i := range n {
		out = append(out, Missing{ID: idOf(fmt.Sprint("gone ", i)), Since: since, Entries: entries})
	}
	return out
}

func ids(prefix string, n int) []crdt.EntryID {
	var out []crdt.EntryID
	for i := range n {
		id := crdt.EntryID{14: byte(i >> 8), 15: byte(i)}
		copy(id[:14], prefix)
		out = append(out, id)
	}
	return out
}

func TestGate(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	old := now.Add(-time.Minute)
	l := DefaultLimits()
	for _, c := range []struct {
		name                  string
		gone                  []Missing
		rewritten             int
		entries               int
		tally                 func(*Tally)
		released              func(crdt.EntryID) bool
		remove, rewrite, wait int
		hold                  int
		reason                string
	}{
		{name: "nothing", entries: 100},
		{name: "a file", gone: missing(1, 1, old), entries: 100, remove: 1},
		{name: "not for long enough", gone: missing(3, 1, now.Add(-time.Second)), entries: 100, wait: 3},
		{name: "just long enough", gone: missing(1, 1, now.Add(-2*time.Second)), entries: 100, remove: 1},
		{name: "a clock set back", gone: missing(1, 1, now.Add(time.Hour)), entries: 100, wait: 1},
		{name: "many, but few of the folder", gone: missing(60, 1, old), entries: 1000, remove: 60},
		{name: "much of the folder, but few", gone: missing(50, 1, old), entries: 60, remove: 50},
		{name: "a mass", gone: missing(51, 1, old), entries: 200, hold: 51, reason: "51 of 200"},
		{name: "one directory is a mass", gone: missing(1, 300, old), entries: 1000, hold: 1, reason: "300 of 1000"},
		{name: "a mass under way is held before the first is recorded", gone: append(missing(1, 1, old), missing(80, 1, now)[1:]...), entries: 200, hold: 80, reason: "80 of 200"},
		{name: "rewritten", rewritten: 51, entries: 200, hold: 51, reason: "51 rewritten"},
		{name: "rewritten and deleted together", gone: missing(30, 1, old), rewritten: 30, entries: 200, hold: 60, reason: "30 of 200 entries would be deleted and 30 rewritten"},
		{name: "some rewritten", rewritten: 51, entries: 1000, rewrite: 51},
		{name: "emptied", gone: missing(10, 1, old), entries: 10, hold: 10, reason: "all 10 entries"},
		{name: "the few files of a new folder", gone: missing(3, 1, old), entries: 3, remove: 3},
		{name: "in slices", gone: missing(15, 1, old), entries: 170, hold: 15, reason: "60 of 215", tally: func(t *Tally) {
			for _, id := range ids("before ", 45) {
				t.Remove(now.Add(-50*time.Minute), id, 1)
			}
		}},
		{name: "slices of a window that has passed", gone: missing(15, 1, old), entries: 170, remove: 15, tally: func(t *Tally) {
			for _, id := range ids("before ", 45) {
				t.Remove(now.Add(-61*time.Minute), id, 1)
			}
		}},
		{name: "emptied in slices", gone: missing(2, 1, old), entries: 2, hold: 2, reason: "all 2 entries", tally: func(t *Tally) {
			for _, id := range ids("before ", 9) {
				t.Remove(old, id, 1)
			}
		}},
		{name: "one file rewritten again and again", rewritten: 1, entries: 100, rewrite: 1, tally: func(t *Tally) {
			for i := range 1000 {
				t.Rewrite(old.Add(time.Duration(i)), ids("rewritten ", 1)[0])
			}
		}},
		{name: "rewritten in slices", rewritten: 20, entries: 200, hold: 20, reason: "60 rewritten", tally: func(t *Tally) {
			for _, id := range ids("before ", 40) {
				t.Rewrite(old, id)
			}
		}},
		{name: "released", gone: missing(100, 1, old), rewritten: 10, entries: 200, remove: 100, rewrite: 10, released: func(crdt.EntryID) bool { return true }},
		{name: "some released, the rest is no mass", gone: missing(60, 1, old), entries: 200, remove: 60, released: func(id crdt.EntryID) bool { return id[11] == '1' }},
		{name: "some released, the rest is a mass", gone: missing(100, 1, old), entries: 200, remove: 11, hold: 89, reason: "89 of 200", released: func(id crdt.EntryID) bool { return id[11] == '1' }},
		{name: "all released one by one still empties", gone: missing(20, 1, old), entries: 20, remove: 20, released: func(crdt.EntryID) bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.released == nil {
				c.released = nobody
			}
			var tally Tally
			if c.tally != nil {
				c.tally(&tally)
			}
			v := Gate(Pending{Gone: c.gone, Rewritten: ids("rewritten ", c.rewritten), Entries: c.entries}, &tally, now, l, c.released)
			if len(v.Remove) != c.remove || len(v.Rewrite) != c.rewrite || len(v.Wait) != c.wait || len(v.Hold) != c.hold {
				t.Errorf("removes %d, rewrites %d, waits %d, holds %d (%s)", len(v.Remove), len(v.Rewrite), len(v.Wait), len(v.Hold), v.Reason)
			}
			if !strings.Contains(v.Reason, c.reason) || (v.Reason == "") != (c.hold == 0) {
				t.Errorf("reason %q", v.Reason)
			}
			if (c.wait > 0) != !v.Until.IsZero() || c.wait > 0 && v.Until.Sub(now) > l.Settle {
				t.Errorf("ask again at %v", v.Until)
			}
		})
	}
}

func TestHoldIncoming(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	var ops []Op
	for i, id := range ids("file ", 40) {
		ops = append(ops, Op{Do: Trash, ID: id, From: crdt.Location{Name: fmt.Sprint(i)}})
	}
	for _, id := range ids("new ", 500) {
		ops = append(ops, Op{Do: Fetch, ID: id, To: crdt.Location{Name: id.String()}}, Op{Do: Rename, ID: id, From: crdt.Location{Name: "x"}})
	}
	if v := HoldIncoming(ops, nil, 100, now, DefaultLimits(), nobody); len(v.Hold) != 0 || len(v.Remove) != 40 {
		t.Errorf("holds %d: %s", len(v.Hold), v.Reason)
	}
	for _, id := range ids("replaced ", 20) {
		at := crdt.Location{Name: id.String()}
		ops = append(ops, Op{Do: Fetch, ID: id, From: at, To: at})
	}
	v := HoldIncoming(ops, nil, 100, now, DefaultLimits(), nobody)
	if len(v.Hold) != 60 || v.Reason == "" || len(v.Remove)+len(v.Rewrite) != 0 {
		t.Errorf("holds %d: %s", len(v.Hold), v.Reason)
	}
	for i := range ops {
		ops[i].Apart = true // copies of what is here replace nothing
	}
	if v := HoldIncoming(ops, nil, 100, now, DefaultLimits(), nobody); len(v.Hold) != 0 {
		t.Errorf("holds %d: %s", len(v.Hold), v.Reason)
	}
	var tally Tally
	for _, id := range ids("yesterday ", 50) {
		tally.Remove(now.Add(-time.Minute), id, 1)
	}
	if v := HoldIncoming(ops, &tally, 100, now, DefaultLimits(), nobody); len(v.Hold) != 40 {
		t.Errorf("in slices: holds %d: %s", len(v.Hold), v.Reason)
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	var tally Tally
	tally.Remove(now, idOf("a"), 17)
	tally.Rewrite(now, idOf("b"))
	tally.Rewrite(now.Add(-2*time.Hour), idOf("c"))
	data, err := tally.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again Tally
	if err := again.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	for _, tl := range []*Tally{&tally, &again} {
		removed, rewritten := tl.count(now, time.Hour)
		if removed != 17 || len(rewritten) != 1 || !rewritten[idOf("b")] {
			t.Errorf("counts %d, %v", removed, rewritten)
		}
		tl.Forget(now, time.Hour)
		if len(tl.rewritten) != 1 || len(tl.removed) != 1 {
			t.Errorf("keeps %v", tl)
		}
		tl.Clear()
		if removed, rewritten := tl.count(now, time.Hour); removed != 0 || len(rewritten) != 0 {
			t.Errorf("counts %d, %v", removed, rewritten)
		}
	}
	if err := again.UnmarshalBinary(data[1:]); err == nil {
		t.Error("takes a torn tally")
	}
}
