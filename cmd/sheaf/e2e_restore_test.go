//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"

	"sheaf/node/api"
)

// Q13, S5, S6, S27: a device comes back with an older state of its index, of its
// files, or of both, or with none of one of them, while the other has gone on.
// Nothing of the other is deleted, rolled back or doubled; what the device itself
// had recorded and told comes back to it. Where old files stand beside a newer
// index, a person has put them there (restoring from a backup is an edit): then
// both contents are kept, and what is missing is a deletion, behind its gate.
func TestQ13RestoreMatrix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		index, files string // as it is, old, none
	}{
		{"S6 all of it from a backup", "old", "old"},
		{"S5 the index from a backup", "old", "as it is"},
		{"the files from a backup", "as it is", "old"},
		{"the files from a backup, the index lost", "none", "old"},
		{"the index from a backup, the files lost", "old", "none"},
		{"the files lost", "as it is", "none"},
		{"both lost", "none", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			restored(t, c.index, c.files)
		})
	}
}

func restored(t *testing.T, index, files string) {
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 60)
	for _, p := range []string{"edited by the other", "edited by both", "edited by the one", "deleted by the other", "deleted by the one", "moved"} {
		a.put(p, "before: "+p)
	}
	alike(t, a, b)
	backup := filepath.Join(filepath.Dir(b.home), "backup")
	b.down()
	copyTree(t, b.home, mkdir(t, backup+"/home"))
	copyTree(t, b.dir, mkdir(t, backup+"/disk"))
	b.up()
	b.connected(a)
	// Both go on, with each other's knowledge.
	a.put("edited by the other", "after: by the laptop")
	a.put("edited by both", "between: by the laptop")
	b.put("edited by the one", "after: by the phone")
	must(t, os.Remove(a.path("deleted by the other")))
	must(t, os.Remove(b.path("deleted by the one")))
	b.do(".", "mv d01 moved-by-the-one")
	a.put("new of the other", "after")
	b.put("new of the one", "after")
	must(t, os.Rename(a.path("moved"), a.path("moved2")))
	alike(t, a, b)
	b.put("edited by both", "after: by the phone")
	want := alike(t, a, b)

	b.down()
	switch index {
	case "old":
		must(t, os.RemoveAll(b.home))
		must(t, os.Rename(backup+"/home", b.home))
	case "none":
		must(t, os.RemoveAll(filepath.Join(b.home, "index")))
	}
	switch files {
	case "old":
		must(t, os.RemoveAll(b.dir))
		must(t, os.Rename(backup+"/disk", b.dir))
	case "none":
		must(t, os.RemoveAll(b.dir))
		must(t, os.Mkdir(b.dir, 0o755))
	}
	a.put("new of the other 2", "while it was away")
	must(t, os.Remove(a.path("new of the one")))
	want["new of the other 2"] = ""
	delete(want, "new of the one")
	b.up()
	a.connected(b)
	if files == "none" {
		// No marker: another disk, or none.
		b.stoppedFolder()
		until(t, "the other is idle", func() bool { return a.folder().State == api.Idle })
		want["new of the other 2"] = a.all()["new of the other 2"]
		a.holds(want)
		return
	}
	end := alike(t, a, b)
	want["new of the other 2"] = end["new of the other 2"]
	if files == "as it is" || index == "old" {
		if diff := differences(want, end); diff != "" {
			t.Errorf("something came out otherwise:\n%s", diff)
		}
		peaceful(t, a, b)
		return
	}
	// Old files beside a newer index, or beside none: every content that the other
	// had is in the tree, or in a trash, which is for a person to say.
	have := a.contents()
	for _, d := range []*device{a, b} {
		err := filepath.WalkDir(d.path(".sheaf/trash"), func(p string, e os.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				data, err := os.ReadFile(p)
				must(t, err)
				have[string(data)]++
			}
			return err
		})
		must(t, err)
	}
	for _, content := range []string{
		"after: by the laptop", "after: by the phone", "after", "while it was away", "before: moved",
	} {
		if have[content] == 0 {
			t.Errorf("%q is in no tree and in no trash:\n%s", content, show(a.tree(".")))
		}
	}
}
