package crdt

import (
	"slices"
	"strings"
)

// Node is the derived row of an entry in the view.
type Node struct {
	At       Location // where it stands in effect: its Place, or where it fell back to; with its own name
	Shown    string   // the name shown there ("name (2).ext" for the later of equal names); "" when not visible
	Children uint32   // visible entries directly under it
}

// Visible tells whether the entry is shown.
func (n Node) Visible() bool { return n.Shown != "" }

// Tree is what people see of a set of entries.
type Tree struct {
	Nodes  map[EntryID]Node     // of every entry, visible or not, and of Root
	Fallen map[EntryID]struct{} // directories that have fallen back because of a cycle
}

// Path gives the shown path of a visible entry below the root, with slashes; ""
// for Root and for what is not visible.
func (t Tree) Path(id EntryID) string {
	var names []string
	for id != Root {
		n := t.Nodes[id]
		if !n.Visible() {
			return ""
		}
		names = append(names, n.Shown)
		id = n.At.Parent
	}
	slices.Reverse(names)
	return strings.Join(names, "/")
}

// View gives the tree that a set of entries shows; a pure function of them. Each
// parent named in a Place must be in the set, as [Apply] makes sure of; what
// hangs under an unknown one is not reached from the root.
//
//  1. Where places form a cycle (a moved into b while b moved into a), the entry
//     on it that was moved last (by Time, Replica, ID) falls back to where it
//     was moved from; one that has already fallen back hangs under the root;
//     again until no cycle is left. Compare Kleppmann, Mulligan, Gomes,
//     Beresford: "A highly-available move operation for replicated trees", 2021:
//     the later move has no effect; here without a log of operations.
//  2. An entry is visible when it is live, or when a visible one lies under it.
//  3. Of visible entries in one directory with equal names the first keeps it;
//     see [NameKey] and shownNames.
//
// Of two cycles neither changes the other, so the order in which they are found
// does not matter.
func View(entries map[EntryID]Entry) Tree {
	at, fallen := viewPlaces(entries)
	t := Tree{Nodes: make(map[EntryID]Node, len(entries)+1), Fallen: fallen}
	visible := viewVisible(entries, at)
	t.Nodes[Root] = Node{}
	for id := range entries {
		t.Nodes[id] = Node{At: at[id]}
	}
	type group struct {
		parent EntryID
		key    string
	}
	groups := make(map[group][]namesake, len(visible))
	for id := range visible {
		if n, ok := t.Nodes[at[id].Parent]; ok {
			n.Children++
			t.Nodes[at[id].Parent] = n
		}
		g := group{at[id].Parent, NameKey(at[id].Name)}
		groups[g] = append(groups[g], namesake{id, at[id].Name, entries[id].Place.Stamp})
	}
	for g, members := range groups {
		shown, _ := shownNames(members, func(key string) (bool, error) {
			_, used := groups[group{g.parent, key}]
			return used, nil
		})
		for i, m := range members {
			n := t.Nodes[m.id]
			n.Shown = shown[i]
			t.Nodes[m.id] = n
		}
	}
	return t
}

func viewVisible(entries map[EntryID]Entry, at map[EntryID]Location) map[EntryID]struct{} {
	visible := make(map[EntryID]struct{}, len(entries))
	for id, e := range entries {
		if !e.IsLive() {
			continue
		}
		for id != Root {
			if _, done := visible[id]; done {
				break
			}
			if _, known := entries[id]; !known {
				break
			}
			visible[id] = struct{}{}
			id = at[id].Parent
		}
	}
	return visible
}

func viewPlaces(entries map[EntryID]Entry) (map[EntryID]Location, map[EntryID]struct{}) {
	at := make(map[EntryID]Location, len(entries))
	for id, e := range entries {
		at[id] = e.Place.Location
	}
	fallen := map[EntryID]struct{}{}
	for {
		cycles := findCycles(at)
		if len(cycles) == 0 {
			return at, fallen
		}
		for _, cycle := range cycles {
			id := cycle[0]
			for _, other := range cycle[1:] {
				if fallsBefore(entries, fallen, other, id) {
					id = other
				}
			}
			at[id] = fallBack(entries[id].Place, at[id], fallen, id)
			fallen[id] = struct{}{}
		}
	}
}

// fallsBefore tells whether x rather than y of one cycle falls back: what has
// not fallen yet before what has, then the later move.
func fallsBefore(entries map[EntryID]Entry, fallen map[EntryID]struct{}, x, y EntryID) bool {
	_, fx := fallen[x]
	_, fy := fallen[y]
	if fx != fy {
		return fy
	}
	return namesake{id: x, stamp: entries[x].Place.Stamp}.compare(namesake{id: y, stamp: entries[y].Place.Stamp}) > 0
}

// fallBack gives where an entry on a cycle goes next: to where it was moved
// from, and after that under the root. A fall within one directory cannot open
// the cycle, so it leaves the name alone: what has fallen back is then always
// seen by its parent.
func fallBack(p Place, at Location, fallen map[EntryID]struct{}, id EntryID) Location {
	if _, again := fallen[id]; again {
		return Location{Parent: Root, Name: at.Name}
	}
	if p.From.Parent == p.Parent {
		return at
	}
	return p.From
}

// findCycles gives the cycles of the graph in which each entry points to its
// parent.
func findCycles(at map[EntryID]Location) [][]EntryID {
	var cycles [][]EntryID
	walk := make(map[EntryID]int, len(at)) // the walk that first came by
	var path []EntryID
	n := 0
	for start := range at {
		n++
		path = path[:0]
		id := start
		for id != Root && walk[id] == 0 {
			if _, known := at[id]; !known {
				break
			}
			walk[id] = n
			path = append(path, id)
			id = at[id].Parent
		}
		if id != Root && walk[id] == n {
			cycles = append(cycles, slices.Clone(path[slices.Index(path, id):]))
		}
	}
	return cycles
}
