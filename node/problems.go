package node

import (
	"path"
	"slices"
	"strings"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
)

// maxProblems bounds how many problems a folder remembers; beyond, one line
// says how many more there are.
const maxProblems = 200

// problem notes what is wrong with a path, in words for a person, with the
// remedy. One path has one problem, the last.
func (f *Folder) problem(p, what, remedy string) {
	next := api.Problem{Path: f.treePath(p), What: what, Remedy: remedy}
	f.mu.Lock()
	old, known := f.problems[p]
	news := old != next && (known || len(f.problems) < maxProblems)
	if news {
		f.problems[p] = next
		f.announceLocked()
	}
	f.mu.Unlock()
	if !news {
		return
	}
	f.o.log.Warn("problem", "folder", f.name, "what", what)
	f.o.event(api.EventProblem, next)
}

// unmet notes what keeps an entry from being as the index shows it. Control goroutine
// only.
func (f *Folder) unmet(id crdt.EntryID, p, what, remedy string) {
	f.wants[id] = want{p, what}
	f.problem(p, what, remedy)
}

// A want is what keeps an entry from being as the index shows it.
type want struct{ path, what string }

// met forgets what kept an entry from it: it is another one now, or as it should be.
func (f *Folder) met(id crdt.EntryID) {
	w, ok := f.wants[id]
	if !ok {
		return
	}
	delete(f.wants, id)
	f.mu.Lock()
	same := f.problems[w.path].What == w.what
	f.mu.Unlock()
	if same { // and not another's, that is still there
		f.solved(w.path)
	}
}

// solved forgets what was wrong with a path.
func (f *Folder) solved(p string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.problems[p]; ok {
		delete(f.problems, p)
		f.announceLocked()
	}
}

// unreadableDir begins what is said of a directory that cannot be listed.
const unreadableDir = "this directory cannot be read"

// readable takes back what was wrong with a directory that could be listed: all of
// it, unless it is to go from this disk; then that it could not be listed.
func (f *Folder) readable(r reader, dir string, id crdt.EntryID) {
	f.mu.Lock()
	p, ok := f.problems[dir]
	f.mu.Unlock()
	if !ok {
		return
	}
	if n, _, err := r.Node(id); id == crdt.Root || strings.HasPrefix(p.What, unreadableDir) || err == nil && n.Visible() {
		f.solved(dir)
	}
}

// solvedBelow forgets what was wrong with paths that are no longer there.
func (f *Folder) solvedBelow(dir string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p := range f.problems {
		if p == dir || strings.HasPrefix(p, dir+"/") {
			delete(f.problems, p)
		}
	}
}

// listProblems gives them in the order of their paths.
func (f *Folder) listProblems() []api.Problem {
	list := f.ownProblems()
	if w := f.watching.Load(); w != nil {
		for _, p := range w.Problems() {
			list = append(list, api.Problem{Path: f.treePath("."), What: p.Text, Remedy: p.Remedy})
		}
	}
	slices.SortStableFunc(list, func(a, b api.Problem) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// ownProblems gives those that are not the watcher's.
func (f *Folder) ownProblems() []api.Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]api.Problem, 0, len(f.problems)+1)
	if err := f.shown.failure; err != nil {
		what, remedy := stopped(err)
		list = append(list, api.Problem{Path: f.treePath("."), What: what, Remedy: remedy})
	}
	if f.fresh {
		list = append(list, api.Problem{
			Path: f.treePath("."),
			What: "this folder waits for another of your devices: until it has once seen what they have, nothing here is sent or changed",
			Remedy: "start another device and let them connect (sheaf peer connect); if there is no other any more, say " +
				"`sheaf resume " + f.name + "`, and this device goes on alone",
		})
	}
	for _, p := range f.problems {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b api.Problem) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// skipped reports what cannot sync. What is ignored is no problem.
func (f *Folder) skipped(p string, s disk.Skipped) {
	if strings.HasPrefix(s.Reason, "ignored by ") {
		return
	}
	f.skips[p] = true
	f.problem(p, "not synced: "+s.Reason, "rename, move or ignore "+path.Base(p))
}
