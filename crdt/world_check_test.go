package crdt

import (
	"fmt"
	"maps"
	"slices"
)

// What must hold: of rows after each batch, of a tree, of a settled world.

// checkRows holds what Apply keeps against the pure View of the same entries.
func checkRows(rows *MemRows) error {
	want := View(rows.entries)
	if !maps.Equal(want.Nodes, rows.nodes) {
		for id, n := range want.Nodes {
			if rows.nodes[id] != n {
				return fmt.Errorf("incremental view differs from pure at %s:\n got %+v\nwant %+v", id, rows.nodes[id], n)
			}
		}
		return fmt.Errorf("incremental view has %d nodes, pure %d", len(rows.nodes), len(want.Nodes))
	}
	if !maps.Equal(want.Fallen, rows.fallen) {
		return fmt.Errorf("fallen: %v, pure %v", rows.fallen, want.Fallen)
	}
	linked := 0
	for g, ids := range rows.named {
		for _, id := range ids {
			n := rows.nodes[id]
			if !n.Visible() || n.At.Parent != g.parent || NameKey(n.At.Name) != g.key {
				return fmt.Errorf("link %v of %s does not fit %+v", g, id, n)
			}
			linked++
		}
	}
	visible := 0
	for _, n := range want.Nodes {
		if n.Visible() {
			visible++
		}
	}
	if linked != visible {
		return fmt.Errorf("%d links of %d visible entries", linked, visible)
	}
	return nil
}

// checkTree holds a tree against the laws of the view (P3, P4).
func checkTree(t Tree, entries map[EntryID]Entry) error {
	type spot struct {
		parent EntryID
		key    string
	}
	names := map[spot]EntryID{}
	children := map[EntryID]uint32{}
	for id, n := range t.Nodes {
		if id == Root {
			continue
		}
		steps := 0
		for up := id; up != Root; up = t.Nodes[up].At.Parent {
			if steps++; steps > len(t.Nodes) {
				return fmt.Errorf("%s is on a cycle", id)
			}
			if n.Visible() && !t.Nodes[up].Visible() {
				return fmt.Errorf("%s is visible under %s, which is not", id, up)
			}
		}
		if !n.Visible() {
			continue
		}
		children[n.At.Parent]++
		if err := ValidName(n.Shown); err != nil {
			return err
		}
		s := spot{n.At.Parent, NameKey(n.Shown)}
		if other, taken := names[s]; taken {
			return fmt.Errorf("%s and %s are both shown as %q", id, other, n.Shown)
		}
		names[s] = id
	}
	for id, n := range t.Nodes {
		if n.Children != children[id] {
			return fmt.Errorf("%s has %d visible children, node says %d", id, children[id], n.Children)
		}
		if id == Root {
			continue
		}
		if want := entries[id].IsLive() || children[id] > 0; want != n.Visible() {
			return fmt.Errorf("%s: visible %v, want %v", id, n.Visible(), want)
		}
	}
	return nil
}

// check holds a settled world against what must be true of it.
func (w *world) check() error {
	final := w.replicas[0].index
	for i, r := range w.replicas {
		for _, rows := range []*MemRows{r.index, r.disk} {
			if err := sameEntries(final.entries, rows.entries); err != nil {
				return fmt.Errorf("replica %d diverges: %w", i, err)
			}
			if err := checkRows(rows); err != nil {
				return err
			}
		}
	}
	tree := final.Tree()
	if err := checkTree(tree, final.entries); err != nil {
		return err
	}
	contents := map[ContentHash]bool{}
	for id, e := range final.entries {
		if n := len(e.Versions()); n > 1 {
			return fmt.Errorf("%s is not in normal form: %d versions", id, n)
		}
		if tree.Nodes[id].Visible() && e.Kind != Directory {
			if e.Shown() == nil {
				return fmt.Errorf("file %s is shown without content", id)
			}
			contents[e.Shown().Content] = true
		}
	}
	if err := w.checkAlive(final); err != nil {
		return err
	}
	for d, c := range w.written {
		if !contents[c] && !w.known(d, nil) {
			return fmt.Errorf("lost: what %s wrote is nowhere, and nobody replaced it", d)
		}
	}
	return nil
}

// checkAlive: whatever is concurrent with a deletion wins over it (P6), and what
// was all seen by those who deleted it is gone (P7).
func (w *world) checkAlive(final *MemRows) error {
	for id, dots := range w.touches {
		for _, d := range dots {
			seen := slices.ContainsFunc(w.covered[id], func(v VersionVector) bool { return v.Covers(d) })
			if !seen && !final.entries[id].IsLive() {
				return fmt.Errorf("%s is dead, though nobody who removed it had seen %s", id, d)
			}
		}
	}
	for id, e := range final.entries {
		for _, f := range e.Live {
			if slices.ContainsFunc(w.removed[id], func(v VersionVector) bool { return v.Covers(f.Dot) }) {
				return fmt.Errorf("%s lives by %s, which somebody removed", id, f.Dot)
			}
		}
	}
	return nil
}

// known tells whether somebody knowingly replaced what dot d wrote, or what it
// folded into.
func (w *world) known(d Dot, path []Dot) bool {
	if w.replaced[d] {
		return true
	}
	for x := range w.folded[d] {
		if !slices.Contains(path, x) && w.known(x, append(path[:len(path):len(path)], d)) {
			return true
		}
	}
	return false
}

func sameEntries(want, got map[EntryID]Entry) error {
	if len(want) != len(got) {
		return fmt.Errorf("%d entries, %d there", len(want), len(got))
	}
	for id, e := range want {
		if !e.Equal(got[id]) {
			return fmt.Errorf("entry %s:\n %+v\n %+v", id, e, got[id])
		}
	}
	return nil
}
