//go:build unix

package main

import (
	"os"
	"strings"
	"testing"

	"sheaf/node/api"
)

// stoppedFolder waits until a device says that its folder is stopped, and why.
func (d *device) stoppedFolder() {
	d.t.Helper()
	until(d.t, d.name+"'s folder is stopped", func() bool { return d.folder().State == api.Failing })
	s := d.status()
	if s.State != api.Failing {
		d.t.Errorf("the node is %s while its folder is stopped", s.State)
	}
	for _, p := range s.Folders[0].Problems {
		if p.Remedy != "" && strings.Contains(p.What+p.Remedy, "nothing is deleted meanwhile") {
			return
		}
	}
	d.t.Errorf("%s does not say why, with what to do: %+v", d.name, s.Folders[0].Problems)
}

func (d *device) servingFolder() {
	d.t.Helper()
	until(d.t, d.name+"'s folder is served again", func() bool { return d.folder().State != api.Failing })
}

// The folder's directory goes away (a disk that is taken out), while the node
// runs and while it does not: nothing is read as deleted, and when it is back
// all goes on.
func TestFolderGoesAway(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	away := a.dir + ".away"
	// Moved away while it runs.
	must(t, os.Rename(a.dir, away))
	a.stoppedFolder()
	if out := a.exits(1, "wait", "--timeout", "20s"); !strings.Contains(out, "nothing is deleted meanwhile") {
		t.Errorf("wait says %s", out)
	}
	// The empty place where a disk was mounted.
	must(t, os.Mkdir(a.dir, 0o755))
	b.put("rest/meanwhile", "by the other")
	until(t, "it is recorded", func() bool { return b.folder().State == api.Idle })
	a.stoppedFolder()
	must(t, os.Remove(a.dir))
	must(t, os.Rename(away, a.dir))
	a.servingFolder()
	end := alike(t, a, b)
	if a.get("rest/meanwhile") != "by the other" {
		t.Error("what came meanwhile was not taken in")
	}
	delete(end, "rest/meanwhile")
	if diff := differences(want, end); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
	// Away when it starts.
	a.down()
	must(t, os.Rename(a.dir, away))
	a.up()
	a.stoppedFolder()
	must(t, os.Rename(away, a.dir))
	a.servingFolder()
	end = alike(t, a, b)
	delete(end, "rest/meanwhile")
	if diff := differences(want, end); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
	untouched(t, a, b)
}

// The marker is removed, or is another folder's.
func TestMarkerGoesAway(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	marker, err := os.ReadFile(a.path(".sheaf/folder"))
	must(t, err)
	must(t, os.Remove(a.path(".sheaf/folder")))
	must(t, os.RemoveAll(a.path("most"))) // as if the disk were another
	a.stoppedFolder()
	b.holds(want)
	must(t, os.WriteFile(a.path(".sheaf/folder"), []byte(strings.Repeat("0", len(marker))), 0o600))
	a.down()
	a.up()
	a.stoppedFolder()
	b.holds(want)
	copyTree(t, b.path("most"), mkdir(t, a.path("most")))
	must(t, os.WriteFile(a.path(".sheaf/folder"), marker, 0o600))
	a.servingFolder()
	b.put("rest/after", "goes on")
	end := alike(t, a, b)
	delete(end, "rest/after")
	if diff := differences(want, end); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
}

func mkdir(t *testing.T, dir string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}
