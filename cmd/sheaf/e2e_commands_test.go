//go:build unix

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sheaf/node/api"
)

// conflict makes one of a file: both devices change it while they are paused.
// Whose version has the name is for the devices to say.
func conflict(t *testing.T, a, b *device, p string) api.Conflict {
	t.Helper()
	a.put(p, "before")
	alike(t, a, b)
	a.run("pause")
	b.run("pause")
	a.put(p, "of the "+a.name)
	b.put(p, "of the "+b.name)
	for _, d := range []*device{a, b} {
		until(t, "the edit is seen during a pause", func() bool { return ask[api.Why](d, "why", "/Sync/"+p).Size == int64(len("of the "+d.name)) })
	}
	if a.get(p) != "of the "+a.name || b.get(p) != "of the "+b.name {
		t.Fatal("something was applied during the pause")
	}
	a.run("resume")
	b.run("resume")
	alike(t, a, b)
	list := ask[[]api.Conflict](a, "conflicts")
	if len(list) != 1 || list[0].Of != "/Sync/"+p || a.folder().Conflicts != 1 || b.folder().Conflicts != 1 {
		t.Fatalf("conflicts: %+v", list)
	}
	got := []string{a.get(p), a.get(strings.TrimPrefix(list[0].Path, "/Sync/"))}
	slices.Sort(got)
	if want := []string{"of the " + a.name, "of the " + b.name}; !slices.Equal(got, want) {
		t.Fatalf("the versions are %q, should be %q", got, want)
	}
	return list[0]
}

// Conflicts end as a person says, on both devices, from either, by the name of
// the file or of the copy.
func TestConflictsResolve(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	keeps := []string{"mine", "theirs", "both"}
	if soaking() {
		keeps = []string{"mine", "theirs", "mine", "theirs", "theirs", "mine", "both"}
	}
	for i, keep := range keeps {
		p := fmt.Sprintf("notes %d.txt", i)
		c := conflict(t, a, b, p)
		d, other := a, b
		if i%2 == 1 {
			d, other = b, a
		}
		arg := c.Of
		if i > 0 {
			arg = c.Path
		}
		d.run("conflicts", "resolve", arg, "--keep", keep)
		end := alike(t, a, b)
		want := map[string]string{"mine": "of the " + d.name, "theirs": "of the " + other.name}[keep]
		if keep != "both" && other.get(p) != want {
			t.Errorf("keep %s on %s: %q", keep, d.name, other.get(p))
		}
		if keep == "both" && files(end) != i+2 || keep != "both" && files(end) != i+1 {
			t.Errorf("keep %s: %s", keep, show(end))
		}
		for _, d := range []*device{a, b} {
			if n := d.folder().Conflicts; n != 0 {
				t.Errorf("keep %s: %s still has %d conflicts", keep, d.name, n)
			}
		}
		if keep != "both" && len(trashed(d)) == 0 {
			t.Errorf("keep %s: what went is not in the trash", keep)
		}
	}
	a.exits(1, "conflicts", "resolve", "/Sync/notes 0.txt", "--keep", "mine")
	a.exits(1, "conflicts", "resolve", "/Sync/none", "--keep", "mine")
	a.exits(2, "conflicts", "resolve", "/Sync/notes 0.txt", "--keep", "nothing")
}

// The trash: a file, a directory, elsewhere, in the way, emptied.
func TestTrash(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for i := range 30 {
		a.put(fmt.Sprintf("keep/%d", i), "kept")
	}
	a.put("file", "the file")
	a.put("dir/one", "one")
	a.put("dir/sub/two", "two")
	must(t, os.Mkdir(a.path("dir/empty"), 0o755))
	must(t, os.Chmod(a.path("dir/one"), 0o755))
	want := alike(t, a, b)
	remove := func() {
		t.Helper()
		must(t, os.RemoveAll(a.path("dir")))
		must(t, os.Remove(a.path("file")))
		end := alike(t, a, b)
		if files(end) != 30 {
			t.Fatalf("there is %s", show(end))
		}
	}
	remove()
	items := ask[[]api.TrashItem](b, "trash", "list")
	if len(items) != 3 {
		t.Fatalf("the trash has %+v", items)
	}
	for _, i := range items {
		if i.Device != a.name {
			t.Errorf("%s was deleted by %q, should be %s", i.Path, i.Device, a.name)
		}
		if i.Bytes != int64(len(map[string]string{"/Sync/file": "the file", "/Sync/dir/one": "one", "/Sync/dir/sub/two": "two"}[i.Path])) {
			t.Errorf("%s has %d bytes", i.Path, i.Bytes)
		}
		if d := i.Purge.Sub(i.Deleted).Hours() / 24; d < 29.9 || d > 30.1 {
			t.Errorf("%s is kept %f days", i.Path, d)
		}
	}
	if out := b.run("trash", "restore", "/Sync/file"); strings.TrimSpace(out) != "/Sync/file" {
		t.Errorf("restore says %q", out)
	}
	b.run("trash", "restore", "/Sync/dir")
	end := alike(t, a, b)
	delete(want, "dir/empty/") // the trash keeps files
	delete(end, "dir/empty/")
	if diff := differences(want, end); diff != "" {
		t.Errorf("restored:\n%s", diff)
	}
	remove()
	b.run("trash", "restore", "/Sync/dir", "/Sync/file", "--to", "/Sync/back")
	end = alike(t, a, b)
	if a.get("back/dir/one") != "one" || a.get("back/dir/sub/two") != "two" || a.get("back/file") != "the file" {
		t.Errorf("restored elsewhere: %s", show(end))
	}
	// By its ID, with something in the way.
	must(t, os.RemoveAll(a.path("back")))
	alike(t, a, b)
	a.put("back/file", "in the way")
	alike(t, a, b)
	for _, i := range ask[[]api.TrashItem](b, "trash", "list") {
		if i.Path == "/Sync/back/file" {
			if out := b.run("trash", "restore", i.ID); !strings.Contains(out, "(restored)") {
				t.Errorf("restore with something in the way says %q", out)
			}
		}
	}
	if b.get("back/file") != "in the way" || b.get("back/file (restored)") != "the file" {
		t.Errorf("restore with something in the way: %s", show(b.tree("back")))
	}
	b.exits(1, "trash", "restore", "/Sync/never")
	b.run("trash", "empty", "--yes")
	if n := len(trashed(b)); n != 0 {
		t.Errorf("%d things in the emptied trash", n)
	}
}

// What a pause is: nothing is sent, fetched or applied, over a restart too.
func TestPause(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("before", "content")
	alike(t, a, b)
	a.run("pause")
	b.put("of-the-phone", "content")
	a.put("of-the-laptop", "content")
	if s := a.status(); s.State != api.Paused || s.Folders[0].State != api.Paused {
		t.Errorf("state is %s, %s", s.State, s.Folders[0].State)
	}
	a.exits(1, "wait", "--timeout", "5s")
	a.down()
	a.up()
	if s := a.status(); s.State != api.Paused {
		t.Errorf("state after a restart is %s", s.State)
	}
	until(t, "local changes are still seen", func() bool {
		_, err := a.try("why", "/Sync/of-the-laptop")
		return err == nil && ask[api.Why](a, "why", "/Sync/of-the-laptop").Version != ""
	})
	b.connected(a)
	if a.has("of-the-phone") || b.has("of-the-laptop") {
		t.Error("something crossed during a pause")
	}
	a.run("resume", "Sync")
	alike(t, a, b)
	if !a.has("of-the-phone") || !b.has("of-the-laptop") {
		t.Error("not in step after the pause")
	}
}

// What why, ls and log say.
func TestWhyListLog(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for i := range 1500 {
		a.put(fmt.Sprintf("many/%d/%04d", i%3, i), "x")
	}
	a.put("file", "content")
	must(t, os.Symlink("file", a.path("link")))
	must(t, syscall.Mkfifo(a.path("pipe"), 0o600))
	alike3 := func() { t.Helper(); a.run("wait"); b.run("wait"); a.run("wait") }
	alike3()
	w := ask[api.Why](b, "why", "/Sync/file")
	if w.State != api.EntryInStep || !w.Here || w.Author != a.name || !slices.Equal(w.Others, []string{a.name}) || w.Kind != "file" || w.Size != 7 {
		t.Errorf("why of a file in step: %+v", w)
	}
	if w2 := ask[api.Why](a, "why", a.path("file")); w2.Version != w.Version {
		t.Errorf("the version is %s here and %s there", w2.Version, w.Version)
	}
	if w := ask[api.Why](a, "why", "/Sync/pipe"); w.State != api.EntryBlocked || !strings.Contains(w.Summary, "not synced") {
		t.Errorf("why of a FIFO: %+v", w)
	}
	if b.has("pipe") {
		t.Error("a FIFO was synced")
	}
	if p, ok := a.problem("/Sync/pipe"); !ok || p.Remedy == "" {
		t.Errorf("status says nothing of the FIFO: %+v", a.folder().Problems)
	}
	b.exits(1, "why", "/Sync/none")
	list := ask[[]api.Entry](b, "ls", "-R", "/Sync")
	if want := 1500 + 3 + 1 + 2; len(list) != want {
		t.Errorf("ls -R lists %d, should be %d", len(list), want)
	}
	seen := make(map[string]bool)
	for _, e := range list {
		if seen[e.Path] {
			t.Errorf("ls -R lists %s twice", e.Path)
		}
		seen[e.Path] = true
		if e.State != api.EntryInStep {
			t.Errorf("%s is %s", e.Path, e.State)
		}
	}
	if got := strings.Fields(b.run("ls", "/Sync")); !slices.Equal(got, []string{"file", "link", "many/"}) {
		t.Errorf("ls lists %q", got)
	}
	b.exits(1, "ls", "/Sync/none")
	// The log of what was done to one file, in order.
	a.put("file", "second content")
	alike3()
	must(t, os.Rename(a.path("file"), a.path("renamed")))
	alike3()
	must(t, os.Remove(b.path("renamed")))
	alike3()
	for _, d := range []*device{a, b} {
		var what []string
		for _, set := range ask[[]api.ChangeSet](d, "log") {
			for _, c := range set.Changes {
				if c.Path == "/Sync/file" || c.Path == "/Sync/renamed" {
					what = append(what, c.What+" by "+set.Device)
				}
			}
		}
		want := []string{"deleted by phone", "moved by laptop", "modified by laptop", "created by laptop"}
		if !slices.Equal(what, want) {
			t.Errorf("the log of %s says %q, should be %q", d.name, what, want)
		}
	}
}
