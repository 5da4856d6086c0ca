package archive

import (
	"slices"
	"time"
)

// A policy says how long things are kept.
type policy struct {
	retention time.Duration
	versions  int
}

// A kept is one record of an entry, as far as retain has to know.
type kept struct {
	no       uint64
	current  bool
	dead     bool
	purged   bool
	arrived  age // of a current one
	replaced age // of one that is not current
}

// A verdict says what goes. next is when to ask again, if ask is set.
type verdict struct {
	drop  []uint64 // replaced records, to go with their content
	purge []uint64 // dead current records, whose content goes
	ask   bool
	next  age
}

// retain decides what an entry keeps: a pure function of its records, the time and the
// policy.
//
//   - What is current and not dead is kept.
//   - What was replaced is kept for the retention, and the newest few for as long as
//     something of the entry lives, or can still be restored.
//   - What is dead keeps its content for the retention from when the relay heard of it;
//     then all content of the entry goes. The record itself stays, small as it is: a
//     device that has been away must hear of the deletion.
func retain(records []kept, now age, p policy) (v verdict) {
	ask := func(at age) {
		if !v.ask || at < v.next {
			v.ask, v.next = true, at
		}
	}
	lives := false
	for _, k := range records {
		switch {
		case !k.current || k.purged:
		case !k.dead:
			lives = true
		case k.arrived.plus(p.retention) > now:
			lives = true // in the trash
			ask(k.arrived.plus(p.retention))
		}
	}
	for _, k := range records {
		if k.current && k.dead && !k.purged && k.arrived.plus(p.retention) <= now {
			v.purge = append(v.purge, k.no)
		}
	}
	olds := slices.DeleteFunc(slices.Clone(records), func(k kept) bool { return k.current })
	// The latest replaced first; of those replaced at once, the latest to have come.
	slices.SortFunc(olds, func(a, b kept) int {
		if a.replaced != b.replaced {
			return int(max(-1, min(1, b.replaced-a.replaced)))
		}
		return int(b.no) - int(a.no)
	})
	for i, k := range olds {
		until := k.replaced.plus(p.retention)
		switch {
		case lives && i < p.versions:
		case until > now:
			ask(until)
		default:
			v.drop = append(v.drop, k.no)
		}
	}
	slices.Sort(v.drop)
	return v
}
