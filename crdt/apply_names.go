package crdt

import (
	"fmt"
	"slices"
)

// nameGroup is the visible entries of one directory with one key.
type nameGroup struct {
	parent EntryID
	key    string
}

// naming is a group of names as it is to be.
type naming struct {
	ids   []EntryID
	dirty bool // its shown names are to be given anew
}

// rename brings the shown names up to date: of each group that an entry joined
// or left, or in which the order may have changed; and of each group that would
// have used a name which a sibling now has, or no longer has, of its own.
func (a *applying) rename() error {
	a.groups = map[nameGroup]*naming{}
	for _, r := range a.list {
		if r.id != Root {
			if err := a.regroup(r); err != nil {
				return err
			}
		}
	}
	if err := a.relink(); err != nil {
		return err
	}
	for i := 0; i < len(a.groupOrder); i++ {
		if g := a.groupOrder[i]; a.groups[g].dirty {
			if err := a.giveNames(g); err != nil {
				return err
			}
		}
	}
	return nil
}

// regroup notes what a row's change means for the groups.
func (a *applying) regroup(r *row) error {
	was, is := r.before.Visible(), r.linked
	if !is {
		r.node.Shown = ""
	}
	if was == is && (!is || r.before.At == r.node.At && !r.placed) {
		return nil
	}
	var from, to nameGroup
	if was {
		from = nameGroup{r.before.At.Parent, NameKey(r.before.At.Name)}
	}
	if is {
		to = nameGroup{r.node.At.Parent, NameKey(r.node.At.Name)}
	}
	if was && is && from == to {
		return a.touch(to)
	}
	if was {
		a.links = append(a.links, link{from, r.id, false})
		if err := a.touch(from); err != nil {
			return err
		}
	}
	if is {
		a.links = append(a.links, link{to, r.id, true})
		return a.touch(to)
	}
	return nil
}

// touch marks a group to be named anew.
func (a *applying) touch(g nameGroup) error {
	n, err := a.group(g)
	if err == nil {
		n.dirty = true
	}
	return err
}

// group gives a group; until relink as it is stored.
func (a *applying) group(g nameGroup) (*naming, error) {
	if n, ok := a.groups[g]; ok {
		return n, nil
	}
	ids, err := a.rows.Named(g.parent, g.key)
	if err != nil {
		return nil, fmt.Errorf("read names %q under %s: %w", g.key, g.parent, err)
	}
	n := &naming{ids: ids}
	a.groups[g] = n
	a.groupOrder = append(a.groupOrder, g)
	return n, nil
}

// relink carries the links out on the groups in hand, and marks the groups for
// which a name has come into use or out of it.
func (a *applying) relink() error {
	had := make(map[nameGroup]bool, len(a.groupOrder))
	touched := slices.Clone(a.groupOrder)
	for _, g := range touched {
		had[g] = len(a.groups[g].ids) > 0
	}
	for _, l := range a.links {
		n := a.groups[l.group]
		if l.add {
			n.ids = append(n.ids[:len(n.ids):len(n.ids)], l.id)
		} else {
			n.ids = slices.DeleteFunc(slices.Clone(n.ids), func(id EntryID) bool { return id == l.id })
		}
	}
	for _, g := range touched {
		if had[g] == (len(a.groups[g].ids) > 0) {
			continue
		}
		if base, ok := numberedBase(g.key); ok {
			if err := a.touch(nameGroup{g.parent, base}); err != nil {
				return err
			}
		}
		for _, id := range identifiedEntries(g.key) {
			r, err := a.row(id)
			if err != nil {
				return err
			}
			if r.linked && r.node.At.Parent == g.parent {
				if err := a.touch(nameGroup{g.parent, NameKey(r.node.At.Name)}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// giveNames gives the entries of a group the names they are shown by.
func (a *applying) giveNames(g nameGroup) error {
	ids := a.groups[g].ids
	if len(ids) == 0 {
		return nil
	}
	members := make([]namesake, len(ids))
	for i, id := range ids {
		r, err := a.row(id)
		if err != nil {
			return err
		}
		members[i] = namesake{id: id, name: r.node.At.Name}
		if len(ids) > 1 {
			if err := a.load(r); err != nil {
				return err
			}
			members[i].stamp = r.entry.Place.Stamp
		}
	}
	shown, err := shownNames(members, func(key string) (bool, error) {
		n, err := a.group(nameGroup{g.parent, key})
		if err != nil {
			return false, err
		}
		return len(n.ids) > 0, nil
	})
	if err != nil {
		return err
	}
	for i, m := range members {
		a.touched[m.id].node.Shown = shown[i]
	}
	return nil
}
