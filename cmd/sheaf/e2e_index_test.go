//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The index is a thing that can be made anew: whatever becomes of it while the
// node is down, nothing is deleted, nothing doubled, and both go on.
func TestIndexLost(t *testing.T) {
	t.Parallel()
	harms := []struct {
		name string
		harm func(t *testing.T, index, older string)
	}{
		{"deleted", func(t *testing.T, index, _ string) { must(t, os.RemoveAll(index)) }},
		{"truncated", func(t *testing.T, index, _ string) {
			list, err := filepath.Glob(filepath.Join(index, "*.l*"))
			must(t, err)
			for _, p := range list {
				info, err := os.Stat(p)
				must(t, err)
				must(t, os.Truncate(p, info.Size()/2))
			}
		}},
		{"manifest", func(t *testing.T, index, _ string) {
			list, err := filepath.Glob(filepath.Join(index, "MANIFEST-*"))
			must(t, err)
			for _, p := range list {
				must(t, os.Truncate(p, 0))
			}
		}},
		{"older", func(t *testing.T, index, older string) {
			must(t, os.RemoveAll(index))
			must(t, os.Rename(older, index))
		}},
	}
	for i, h := range harms {
		for k, who := range []string{"laptop", "phone"} {
			if !soaking() && i%2 == k {
				continue // each harm once, each device twice
			}
			t.Run(h.name+"-"+who, func(t *testing.T) {
				t.Parallel()
				indexLost(t, h.harm, who)
			})
		}
	}
}

func indexLost(t *testing.T, harm func(t *testing.T, index, older string), who string) {
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 150)
	a.put("edited", "before")
	a.put("removed", "before")
	a.put("moved", "to be moved")
	alike(t, a, b)
	victim, other := a, b
	if who == b.name {
		victim, other = b, a
	}
	index, older := filepath.Join(victim.home, "index"), filepath.Join(victim.home, "index.older")
	victim.down()
	must(t, os.Mkdir(older, 0o700))
	copyTree(t, index, older)
	victim.up()
	victim.connected(other)
	// Changes that the older copy does not know, by both sides.
	victim.put("edited", "after")
	victim.put("new", "by the one")
	other.put("new2", "by the other")
	must(t, os.Remove(other.path("removed")))
	must(t, os.Rename(victim.path("moved"), victim.path("moved2")))
	want := alike(t, a, b)
	victim.down()
	harm(t, index, older)
	victim.up()
	victim.connected(other)
	end := alike(t, a, b)
	if diff := differences(want, end); diff != "" {
		t.Errorf("the loss of the index changed something:\n%s", diff)
	}
	for _, d := range []*device{a, b} {
		if n := d.folder().Conflicts; n > 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
	}
	// Both go on: a change each way, a deletion each way.
	victim.put("edited", "and on")
	other.put("later", "by the other")
	must(t, os.Remove(victim.path("new")))
	must(t, os.Remove(other.path("new2")))
	end = alike(t, a, b)
	if other.get("edited") != "and on" || victim.get("later") != "by the other" || a.has("new") || a.has("new2") {
		t.Errorf("they do not go on syncing: %s", show(end))
	}
}
