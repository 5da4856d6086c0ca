package node

import (
	"path"
	"slices"
	"strings"
	"time"
)

// A dirtySet is what is still to be looked at on the disk: directories, whole
// or some names in them, not before a certain time. It is owned by a folder's
// control goroutine. It is never stored: a start looks at everything.
type dirtySet struct {
	dirs map[string]*dirtyDir
}

type dirtyDir struct {
	whole bool                 // list it all
	deep  bool                 // and all below it
	names map[string]time.Time // else these names, each not before its time
	since time.Time            // whole: not before
}

// maxDirtyNames bounds the names remembered of one directory; beyond, the
// directory is listed whole.
const maxDirtyNames = 4096

func (s *dirtySet) dir(p string) *dirtyDir {
	if s.dirs == nil {
		s.dirs = make(map[string]*dirtyDir)
	}
	d := s.dirs[p]
	if d == nil {
		d = &dirtyDir{names: make(map[string]time.Time)}
		s.dirs[p] = d
	}
	return d
}

// addDir marks a whole directory, and with deep all below it.
func (s *dirtySet) addDir(p string, deep bool, notBefore time.Time) {
	d := s.dir(p)
	d.whole, d.deep, d.names = true, d.deep || deep, nil
	if notBefore.After(d.since) {
		d.since = notBefore
	}
}

// addName marks one name of a directory.
func (s *dirtySet) addName(dir, name string, notBefore time.Time) {
	d := s.dir(dir)
	if d.whole {
		return
	}
	if len(d.names) >= maxDirtyNames {
		s.addDir(dir, false, notBefore)
		return
	}
	if t, ok := d.names[name]; !ok || notBefore.After(t) {
		d.names[name] = notBefore
	}
}

// addPath marks the name that a path ends in.
func (s *dirtySet) addPath(p string, notBefore time.Time) {
	if p == "." {
		s.addDir(".", false, notBefore)
		return
	}
	s.addName(path.Dir(p), path.Base(p), notBefore)
}

// renamed follows a directory that was renamed on the disk.
func (s *dirtySet) renamed(from, to string) {
	for p, d := range s.dirs {
		if p == from || strings.HasPrefix(p, from+"/") {
			delete(s.dirs, p)
			s.dirs[to+strings.TrimPrefix(p, from)] = d
		}
	}
}

func (s *dirtySet) empty() bool { return len(s.dirs) == 0 }

// next gives when the earliest mark falls due.
func (s *dirtySet) next() (due time.Time, ok bool) {
	for _, d := range s.dirs {
		if d.whole {
			if !ok || d.since.Before(due) {
				due, ok = d.since, true
			}
			continue
		}
		for _, t := range d.names {
			if !ok || t.Before(due) {
				due, ok = t, true
			}
		}
	}
	return due, ok
}

// A look is one directory to look at now.
type look struct {
	dir   string
	whole bool
	deep  bool
	names []string
}

// take removes and gives what has fallen due, parents before children, at most
// limit directories.
func (s *dirtySet) take(now time.Time, limit int) []look {
	var due []look
	for p, d := range s.dirs {
		if d.whole {
			if !d.since.After(now) {
				due = append(due, look{dir: p, whole: true, deep: d.deep})
			}
			continue
		}
		var names []string
		for n, t := range d.names {
			if !t.After(now) {
				names = append(names, n)
			}
		}
		if len(names) > 0 {
			slices.Sort(names)
			due = append(due, look{dir: p, names: names})
		}
	}
	slices.SortFunc(due, func(a, b look) int {
		if c := strings.Count(a.dir, "/") - strings.Count(b.dir, "/"); c != 0 {
			return c
		}
		return strings.Compare(a.dir, b.dir)
	})
	if len(due) > limit {
		due = due[:limit]
	}
	for _, l := range due {
		d := s.dirs[l.dir]
		for _, n := range l.names {
			delete(d.names, n)
		}
		if l.whole || len(d.names) == 0 {
			delete(s.dirs, l.dir)
		}
	}
	return due
}
