package node

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"sheaf/crdt"
	"sheaf/node/plan"
	"sheaf/node/store"
)

// errNotHere is what a path lookup gives where an entry, or a directory above
// it, is not on this disk.
var errNotHere = errors.New("not on this disk")

// stageDir is where plan.Staging stands on the disk; the names in it are the
// entries' IDs, which are the keys of disk.Stage.
const stageDir = ".sheaf/stage"

// reader is what of store.Reader and store.Tx the path walks need.
type reader interface {
	Base(crdt.EntryID) (store.Base, bool, error)
	BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error)
	Node(crdt.EntryID) (crdt.Node, bool, error)
}

// diskPaths turns entries into paths on this disk and back, by the base: what
// the disk was last known to show. moved overrides the base with what has been
// done since.
type diskPaths struct {
	r     reader
	moved map[crdt.EntryID]crdt.Location
	cache map[crdt.EntryID]string
}

func newDiskPaths(r reader) *diskPaths {
	return &diskPaths{r: r, moved: make(map[crdt.EntryID]crdt.Location), cache: make(map[crdt.EntryID]string)}
}

// of gives the path of a materialised entry.
func (p *diskPaths) of(id crdt.EntryID) (string, error) { return p.walk(id, 0) }

func (p *diskPaths) walk(id crdt.EntryID, depth int) (string, error) {
	switch id {
	case crdt.Root:
		return ".", nil
	case plan.Staging:
		return stageDir, nil
	}
	if s, ok := p.cache[id]; ok {
		return s, nil
	}
	if depth > crdt.MaxChain {
		return "", fmt.Errorf("entry %s: its directories form a cycle in the base", id)
	}
	at, ok := p.moved[id]
	if !ok {
		b, known, err := p.r.Base(id)
		if err != nil {
			return "", err
		}
		if !known || !b.Here {
			return "", fmt.Errorf("entry %s: %w", id, errNotHere)
		}
		at = b.At
	}
	dir, err := p.walk(at.Parent, depth+1)
	if err != nil {
		return "", err
	}
	s := path.Join(dir, at.Name)
	p.cache[id] = s
	return s, nil
}

// at gives the path of a location.
func (p *diskPaths) at(l crdt.Location) (string, error) {
	dir, err := p.of(l.Parent)
	if err != nil {
		return "", err
	}
	return path.Join(dir, l.Name), nil
}

// place says that an entry now stands elsewhere.
func (p *diskPaths) place(id crdt.EntryID, at crdt.Location) {
	p.moved[id] = at
	clear(p.cache) // what lies under it has moved too
}

// find gives the entry at a path of the disk, by the base.
func (p *diskPaths) find(file string) (crdt.EntryID, bool, error) {
	id := crdt.Root
	if file == "." {
		return id, true, nil
	}
	for name := range strings.SplitSeq(file, "/") {
		next, ok, err := p.r.BaseAt(id, name)
		if err != nil || !ok {
			return next, false, err
		}
		id = next
	}
	return id, true, nil
}

// viewPath gives the path at which the view shows an entry.
func viewPath(r reader, id crdt.EntryID) (string, error) {
	var names []string
	for depth := 0; id != crdt.Root; depth++ {
		n, ok, err := r.Node(id)
		if err != nil {
			return "", err
		}
		if !ok || depth > crdt.MaxChain {
			return "", fmt.Errorf("entry %s has no path in the view", id)
		}
		name := n.Shown
		if name == "" {
			name = n.At.Name
		}
		names = append(names, name)
		id = n.At.Parent
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteString(names[i])
		if i > 0 {
			b.WriteByte('/')
		}
	}
	if b.Len() == 0 {
		return ".", nil
	}
	return b.String(), nil
}
