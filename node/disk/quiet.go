package disk

import (
	"slices"
	"strings"
	"time"
)

// Dirty says what may have changed. It is a hint: looking tells.
type Dirty struct {
	Dir   string
	Names []string // in Dir, sorted; none: all of Dir
	Deep  bool     // Dir and everything below it: it is new here
	All   bool     // events were lost: everything
}

// How long a path must have been quiet before it is reported, at first and at
// most. A path that keeps changing is reported at most once in twice its
// current wait, and at the latest quietMax after its first unreported change.
const (
	quietMin = 200 * time.Millisecond
	quietMax = 10 * time.Second
)

// Bounds of what is remembered: more changed names in one directory mean the
// whole directory, more names or directories in sum mean everything.
const (
	maxNames    = 512
	maxAllNames = 16384
	maxDirs     = 8192
)

// quiet decides when changes are reported. It knows no clock: now comes in.
type quiet struct {
	dirs  map[string]*quietDir
	names int // in all dirs
	all   beat
}

type quietDir struct {
	names map[string]*beat
	whole beat
	deep  bool
}

// beat is the rhythm of one path.
type beat struct {
	first    time.Time // of the unreported changes; zero: none
	last     time.Time
	reported time.Time
	wait     time.Duration
}

func (b *beat) pending() bool { return !b.first.IsZero() }

// note takes a change into account.
func (b *beat) note(now time.Time) {
	if !b.pending() {
		switch {
		case b.reported.IsZero() || now.Sub(b.reported) > b.memory():
			b.wait = quietMin
		default: // it goes on soon after the last report
			b.wait = min(2*b.wait, quietMax)
		}
		b.first = now
	}
	b.last = now
}

// memory is how long a report still counts for the rhythm.
func (b *beat) memory() time.Duration { return 4*b.wait + time.Second }

// due is when a pending change is reported, if nothing more happens.
func (b *beat) due() time.Time {
	quiet, late := b.last.Add(b.wait), b.first.Add(quietMax)
	if late.Before(quiet) {
		return late
	}
	return quiet
}

// take reports the beat if it is due.
func (b *beat) take(now time.Time) bool {
	if !b.pending() || now.Before(b.due()) {
		return false
	}
	b.first, b.reported = time.Time{}, now
	return true
}

// idle tells whether the beat may be forgotten.
func (b *beat) idle(now time.Time) bool {
	return !b.pending() && (b.reported.IsZero() || now.Sub(b.reported) > b.memory())
}

func newQuiet() *quiet { return &quiet{dirs: map[string]*quietDir{}} }

func (q *quiet) dir(path string) *quietDir {
	d := q.dirs[path]
	if d == nil {
		d = &quietDir{}
		q.dirs[path] = d
	}
	return d
}

// note takes changes of names in dir into account; no names mean all of it.
func (q *quiet) note(now time.Time, dir string, names ...string) {
	if q.all.pending() {
		return // which will cover it
	}
	d := q.dir(dir)
	if len(names) == 0 || d.whole.pending() {
		d.whole.note(now)
	} else {
		for _, n := range names {
			b := d.names[n]
			if b == nil {
				if d.names == nil {
					d.names = map[string]*beat{}
				}
				b = &beat{}
				d.names[n] = b
				q.names++
			}
			b.note(now)
		}
		if len(d.names) > maxNames {
			q.collapse(d, now)
		}
	}
	if q.names > maxAllNames || len(q.dirs) > maxDirs {
		q.everything(now)
	}
}

// collapse turns a directory's names into the directory.
func (q *quiet) collapse(d *quietDir, now time.Time) {
	d.whole.note(now)
	for _, b := range d.names {
		d.whole.since(b)
	}
	q.names -= len(d.names)
	d.names = nil
}

// since makes b no later than what it takes over.
func (b *beat) since(old *beat) {
	if old.pending() && old.first.Before(b.first) {
		b.first = old.first
	}
}

// deep notes a directory that is new with all that is in it.
func (q *quiet) deep(now time.Time, dir string) {
	if q.all.pending() {
		return
	}
	d := q.dir(dir)
	d.deep = true
	q.collapse(d, now)
	if len(q.dirs) > maxDirs {
		q.everything(now)
	}
}

// everything notes that no smaller answer is right.
func (q *quiet) everything(now time.Time) {
	q.all.note(now)
	for _, d := range q.dirs {
		q.all.since(&d.whole)
		for _, b := range d.names {
			q.all.since(b)
		}
	}
	q.dirs, q.names = map[string]*quietDir{}, 0
}

// pop gives what is due, directories before those below them, and when to ask
// again (zero: not before the next note).
func (q *quiet) pop(now time.Time) (due []Dirty, next time.Time) {
	soon := func(b *beat) {
		if b.pending() && (next.IsZero() || b.due().Before(next)) {
			next = b.due()
		}
	}
	if q.all.take(now) {
		return []Dirty{{Dir: ".", All: true}}, time.Time{}
	}
	soon(&q.all)
	for path, d := range q.dirs {
		out := Dirty{Dir: path}
		if d.whole.take(now) {
			out.Deep, d.deep = d.deep, false
			due = append(due, out)
			q.names -= len(d.names) // they are covered
			d.names = nil
			continue
		}
		soon(&d.whole)
		for n, b := range d.names {
			switch {
			case b.take(now):
				out.Names = append(out.Names, n)
			case b.idle(now):
				delete(d.names, n)
				q.names--
			default:
				soon(b)
			}
		}
		if len(out.Names) > 0 {
			slices.Sort(out.Names)
			due = append(due, out)
		}
		if len(d.names) == 0 && d.whole.idle(now) {
			delete(q.dirs, path)
		}
	}
	slices.SortFunc(due, func(a, b Dirty) int { return comparePaths(a.Dir, b.Dir) })
	return due, next
}

// comparePaths orders directories before what is in them.
func comparePaths(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == ".":
		return -1
	case b == ".":
		return 1
	}
	return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
}
