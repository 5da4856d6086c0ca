package plan

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"sheaf/crdt"
)

// PutBack gives operations that bring what is staged back into sight: to where its
// state says it is, or beside that where its name is taken, or in the root under a name of its
// own where that directory is not in sight; with root into the root alone, for
// what could not be put back otherwise (a crash may have lost where a directory
// went). From there [Materialise] takes it to
// where it belongs. They are carried out before the first look at the disk after a
// start, and at the end of a plan of which an operation failed: what is staged is
// not seen, nor is what a person does with its name. Taken must look at the disk
// here.
//
// In the directory that its own state names it is as if it had not been touched.
// In another one it would look to a crdt.Recorder as if it had fallen back there,
// which the next local change writes down: a move that nobody made.
func PutBack(r Reader, staged []crdt.EntryID, root bool) ([]Op, error) {
	p := newPlanner(r, nil, nil)
	for len(staged) > 0 && !root {
		// What lies in a directory that is staged itself comes after it.
		var left []crdt.EntryID
		for _, id := range staged {
			done, err := p.putBack(id, false)
			if err != nil {
				return nil, fmt.Errorf("plan to put back what is staged: %w", err)
			}
			if !done {
				left = append(left, id)
			}
		}
		if len(left) == len(staged) {
			break
		}
		staged = left
	}
	for _, id := range staged {
		if _, err := p.putBack(id, true); err != nil {
			return nil, fmt.Errorf("plan to put back what is staged: %w", err)
		}
	}
	return p.ops, nil
}

// putBack puts one entry back, into the root or only where it was.
func (p *planner) putBack(id crdt.EntryID, root bool) (done bool, err error) {
	n, err := p.node(id)
	if err != nil || !n.here || n.at.Parent != Staging {
		return err == nil, err
	}
	to, ok := crdt.Location{}, false
	if root {
		to, ok, err = p.asideIn(crdt.Root, n)
	} else {
		to, ok, err = p.home(n)
	}
	if err != nil || !ok {
		return false, err
	}
	p.emit(Op{Do: Unstage, ID: id, From: n.at, To: to, Target: n.target})
	p.arrive(n, to, len(p.ops)-1)
	return true, nil
}

// home gives where the state that the disk has taken in says an entry is, or a
// free name beside that; false if that directory is not in sight.
func (p *planner) home(n *node) (at crdt.Location, ok bool, err error) {
	at = n.base.Place
	if at.Name == "" {
		return at, false, nil
	}
	for id, steps := at.Parent, 0; id != crdt.Root; steps++ {
		dir, err := p.node(id)
		if err != nil || !dir.here || dir.at.Parent == Staging || steps > maxWalk {
			return at, false, err
		}
		id = dir.at.Parent
	}
	holder, _, err := p.holder(at)
	if err != nil {
		return at, false, err
	}
	taken, err := p.r.Taken(at.Parent, at.Name)
	if err != nil || holder == nil && !taken {
		return at, err == nil, err
	}
	return p.asideIn(at.Parent, n)
}

// aside gives a free name at which an entry can wait in sight: beside where it
// belongs or, if that directory is not there or in it, in the root.
func (p *planner) aside(n *node) (at crdt.Location, ok bool, err error) {
	dir, err := p.node(n.target.Parent)
	if err != nil {
		return at, false, err
	}
	inside := !dir.here || !n.target.Visible
	if !inside {
		if inside, err = p.under(dir, n); err != nil {
			return at, false, err
		}
	}
	if inside {
		dir, err = p.node(crdt.Root)
	}
	if err != nil {
		return at, false, err
	}
	return p.asideIn(dir.id, n)
}

func (p *planner) asideIn(dir crdt.EntryID, n *node) (at crdt.Location, ok bool, err error) {
	name := n.target.Name
	if name == "" {
		name = n.id.String()
	}
	at.Parent = dir
	for k := range asideTries {
		at.Name = asideName(name, k+1)
		holder, _, err := p.holder(at)
		if err != nil {
			return at, false, err
		}
		taken, err := p.r.Taken(at.Parent, at.Name)
		if err != nil || !taken && holder == nil {
			return at, err == nil, err
		}
	}
	return at, false, nil
}

const asideTries = 100

// isAside tells whether a name is one that asideName gives.
func isAside(name string) bool {
	return strings.Contains(name, " (moving)") || strings.Contains(name, " (moving ")
}

// asideName gives "name (moving).ext", "name (moving 2).ext" and so on, no longer
// than a name can be.
func asideName(name string, k int) string {
	mark := " (moving)"
	if k > 1 {
		mark = fmt.Sprintf(" (moving %d)", k)
	}
	stem, ext := name, ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i < crdt.MaxNameBytes/2 {
		stem, ext = name[:i], name[i:]
	}
	for len(stem)+len(mark)+len(ext) > crdt.MaxNameBytes {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + mark + ext
}
