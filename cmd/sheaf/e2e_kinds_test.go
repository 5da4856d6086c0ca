//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sheaf/node/api"
)

// Everything a disk can hold that can be synced arrives as it is; what cannot
// is named, and keeps nothing else from going on.
func TestKindsAndNames(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for name, target := range map[string]string{
		"dangling": "nowhere", "outside": "/etc/passwd", "up": "../../..", "self": "self", "todir": "dir", "long": strings.Repeat("x/", 500) + "y",
	} {
		must(t, os.Symlink(target, a.path(name)))
	}
	must(t, os.MkdirAll(a.path("dir/empty/deeper"), 0o755))
	must(t, os.Mkdir(a.path("private"), 0o700))
	a.put("private/file", "content")
	a.put("empty", "")
	for _, mode := range []os.FileMode{0o400, 0o755, 0o600, 0o666, 0o444, 0o711} {
		p := fmt.Sprintf("mode-%04o", mode)
		a.put(p, "content "+p)
		must(t, os.Chmod(a.path(p), mode))
	}
	for i, then := range []time.Time{
		time.Date(2021, 3, 4, 5, 6, 7, 123456789, time.UTC), time.Unix(1, 1), time.Date(1969, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(2038, 1, 20, 0, 0, 0, 999999999, time.UTC),
	} {
		p := fmt.Sprintf("time-%d", i)
		a.put(p, p)
		must(t, os.Chtimes(a.path(p), then, then))
	}
	for _, name := range []string{
		strings.Repeat("n", 255), strings.Repeat("ü", 127), " leading and trailing ", "trailing.", "a:b*c?d\"e<f>g|h", "\\back\\slash",
		"con", "aux.txt", "é", "Grüße", "日本語", "\u202eright to left", "🎉", "-rf", "...", "a..b", "#hash", "$HOME", "%s%n",
	} {
		a.put("names/"+name, "content of "+name)
	}
	// Sparse: a megabyte in a hundred.
	f, err := os.Create(a.path("sparse"))
	must(t, err)
	_, err = f.WriteAt(make([]byte, 1), 100<<20-1)
	must(t, err)
	_, err = f.WriteAt([]byte(strings.Repeat("data", 1<<18)), 50<<20)
	must(t, err)
	must(t, f.Close())
	a.put("hard-1", "one file, two names")
	must(t, os.Link(a.path("hard-1"), a.path("hard-2")))
	want := alike(t, a, b)
	if b.get("hard-1") != b.get("hard-2") || len(below(want, "names")) < 19 {
		t.Errorf("names: %s", show(b.tree("names")))
	}
	// A name that is the same as another to most systems is reported and stays here.
	a.put("names/e\u0301", "the twin of é")
	a.run("wait")
	if out := a.run("status"); !strings.Contains(out, "other Unicode characters") {
		t.Errorf("no word of the twin of é:\n%s", out)
	}
	if b.get("names/é") != "content of é" || b.has("names/e\u0301") {
		t.Errorf("the twin of é: %s", show(b.tree("names")))
	}
	must(t, os.Remove(a.path("names/e\u0301")))
	for _, d := range []*device{a, b} {
		info, err := os.Stat(d.path("sparse"))
		must(t, err)
		if on := info.Sys().(*syscall.Stat_t).Blocks * 512; on > 8<<20 {
			t.Errorf("the sparse file takes %d bytes on the disk of %s", on, d.name)
		}
	}
	info1, err := os.Stat(b.path("hard-1"))
	must(t, err)
	info2, err := os.Stat(b.path("hard-2"))
	must(t, err)
	if os.SameFile(info1, info2) {
		t.Error("hard links are one file on the other device")
	}
	untouched(t, a, b)
	// An edit of a hard link through one name is one of both.
	must(t, os.WriteFile(a.path("hard-1"), []byte("edited through one"), 0o600))
	alike(t, a, b)
	if b.get("hard-2") != "edited through one" {
		t.Errorf("hard-2 is %q", b.get("hard-2"))
	}
	// Links change, files become links and back.
	must(t, os.Remove(a.path("dangling")))
	must(t, os.Symlink("elsewhere", a.path("dangling")))
	must(t, os.Remove(a.path("outside")))
	a.put("outside", "a file now")
	must(t, os.Remove(b.path("empty")))
	must(t, os.Symlink("/etc", b.path("empty")))
	alike(t, a, b)
	if to, _ := os.Readlink(a.path("empty")); to != "/etc" || b.get("outside") != "a file now" {
		t.Error("a file that became a link, or a link that became a file, did not arrive")
	}
}

// What cannot be synced is named with what to do, once.
func TestWhatCannotBeSynced(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("ok", "content")
	must(t, syscall.Mkfifo(a.path("fifo"), 0o600))
	bad := "not-utf8-\xff\xfe"
	if err := os.WriteFile(a.path(bad), []byte("content"), 0o600); err != nil {
		t.Skip("this disk takes only UTF-8")
	}
	for _, name := range []string{"with\nnewline", "with\x01control"} {
		a.put(name, "content")
	}
	must(t, os.Mkdir(a.path("dir-\xff"), 0o755))
	must(t, os.WriteFile(a.path("dir-\xff/inside"), []byte("content"), 0o600))
	a.run("wait")
	until(t, "the rest arrives", func() bool { return b.has("ok") })
	b.run("wait")
	if n := len(b.tree(".")); n != 1 {
		t.Errorf("there is %s", show(b.tree(".")))
	}
	said := ""
	for _, p := range a.folder().Problems {
		said += p.Path + ": " + p.What + "; " + p.Remedy + "\n"
	}
	for _, word := range []string{"fifo", "UTF-8", "not-utf8-", "dir-", "newline", "control"} {
		if !strings.Contains(said, word) {
			t.Errorf("status does not say %q:\n%s", word, said)
		}
	}
	a.run("status")
	// When it is put right the problem goes.
	must(t, os.Remove(a.path("fifo")))
	must(t, os.Remove(a.path("with\nnewline")))
	must(t, os.Rename(a.path("with\x01control"), a.path("without")))
	must(t, os.Rename(a.path(bad), a.path("renamed")))
	must(t, os.Rename(a.path("dir-\xff"), a.path("dir")))
	alike(t, a, b)
	if b.get("dir/inside") != "content" || b.get("renamed") != "content" {
		t.Error("what was renamed did not arrive")
	}
	soon(t, "the problems are gone", func() bool { return len(a.folder().Problems) == 0 })
}

// Hard shapes of trees: names that differ in case, what changes its kind, depth,
// and things that change places.
func TestShapes(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	deep := strings.TrimSuffix(strings.Repeat("d/", 100), "/")
	a.put("Readme", "one")
	a.put("becomes/file", "in a directory")
	a.put("plain", "a file")
	a.put(deep+"/leaf", "deep")
	a.put("left/of", "left")
	a.put("left/l", "l")
	a.put("right/of", "right")
	a.put("right/r", "r")
	a.put("f1", "first")
	a.put("f2", "second")
	a.put("f3", "third")
	a.put("parent/child/leaf", "leaf")
	alike(t, a, b)
	swap := func(d *device, x, y string) {
		t.Helper()
		must(t, os.Rename(d.path(x), d.path(x+".swap")))
		must(t, os.Rename(d.path(y), d.path(x)))
		must(t, os.Rename(d.path(x+".swap"), d.path(y)))
	}
	steps := []struct {
		name string
		do   func()
		look func() bool
	}{
		{"case-only rename", func() { a.do(".", "mv Readme README") }, func() bool { return b.get("README") == "one" && !b.has("Readme") }},
		{"two names that differ in case", func() { b.put("readme", "another") }, func() bool { return a.get("readme") == "another" && a.get("README") == "one" }},
		{"a directory becomes a file, a file a directory", func() {
			must(t, os.RemoveAll(a.path("becomes")))
			a.put("becomes", "a file")
			must(t, os.Remove(a.path("plain")))
			a.put("plain/now", "a directory")
		}, func() bool { return b.get("becomes") == "a file" && b.get("plain/now") == "a directory" }},
		{"and back, on the other", func() {
			must(t, os.Remove(b.path("becomes")))
			b.put("becomes/file", "again")
			must(t, os.RemoveAll(b.path("plain")))
			b.put("plain", "again")
		}, func() bool { return a.get("becomes/file") == "again" && a.get("plain") == "again" }},
		{"two directories change places", func() { swap(a, "left", "right") }, func() bool {
			return b.get("left/of") == "right" && b.get("right/of") == "left" && b.has("left/r") && b.has("right/l") && !b.has("left/l")
		}},
		{"three files change places", func() { swap(b, "f1", "f2"); swap(b, "f2", "f3") }, func() bool {
			return a.get("f1") == "second" && a.get("f2") == "third" && a.get("f3") == "first"
		}},
		{"a child takes its parent's place", func() {
			must(t, os.Rename(a.path("parent/child"), a.path("tmp")))
			must(t, os.Rename(a.path("parent"), a.path("tmp/parent")))
			must(t, os.Rename(a.path("tmp"), a.path("parent")))
		}, func() bool { return b.get("parent/leaf") == "leaf" && b.has("parent/parent") && !b.has("parent/child") }},
		{"a deep tree is renamed and edited", func() {
			a.put(deep+"/leaf", "edited")
			a.do(".", "mv d e")
		}, func() bool { return b.get("e"+deep[1:]+"/leaf") == "edited" && !b.has("d") }},
	}
	for _, s := range steps {
		t.Log(s.name)
		s.do()
		end := alike(t, a, b)
		if !s.look() {
			t.Errorf("%s: %s", s.name, show(end))
		}
	}
	for _, d := range []*device{a, b} {
		if n := d.folder().Conflicts; n != 0 {
			t.Errorf("%s has %d conflicts: %s", d.name, n, d.run("conflicts"))
		}
		clean(t, d)
	}
}

// Two names in one directory that are one after normalisation: no disk of a Mac
// can hold both. Nothing else stops, nothing is lost, and the one that does not
// arrive as it is is named.
func TestNormalisationTwins(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("d/\u00e9", "composed")
	a.put("d/e\u0301", "decomposed")
	a.put("d/other", "content")
	until(t, "the rest arrives", func() bool { return b.get("d/other") == "content" })
	arrived := func(content string) bool {
		for _, c := range b.tree("d") {
			if strings.HasPrefix(c, content+" ") {
				return true
			}
		}
		return false
	}
	soon(t, "one of the two arrives", func() bool { return arrived("composed") || arrived("decomposed") })
	soon(t, "the other arrives, or is reported", func() bool {
		_, one := a.problem("/Sync/d/\u00e9")
		_, two := a.problem("/Sync/d/e\u0301")
		return arrived("composed") && arrived("decomposed") || one || two
	})
	a.run("wait", "--timeout", "20s")
	if a.get("d/\u00e9") != "composed" || a.get("d/e\u0301") != "decomposed" {
		t.Errorf("something was lost where it was made: %s", show(a.tree("d")))
	}
	a.put("d/later", "goes on")
	until(t, "it goes on", func() bool { return b.has("d/later") })
	// A rename ends it.
	must(t, os.Rename(a.path("d/e\u0301"), a.path("d/e-acute")))
	alike(t, a, b)
	if b.get("d/e-acute") != "decomposed" || b.get("d/\u00e9") != "composed" {
		t.Errorf("after the rename: %s", show(b.tree("d")))
	}
}

// A directory that is removed and made anew at once, or that changes places with
// another, is looked into: what is in it now is what others get.
func TestDirectoryMadeAnew(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for _, p := range []string{"d/old", "d/kept", "e/1", "e/2", "f/1", "f/sub/3"} {
		a.put(p, "of "+p)
	}
	alike(t, a, b)
	must(t, os.RemoveAll(a.path("d")))
	a.put("d/new", "new")
	a.put("d/sub/new", "new below")
	must(t, os.Rename(a.path("e"), a.path("t")))
	must(t, os.Rename(a.path("f"), a.path("e")))
	must(t, os.Rename(a.path("t"), a.path("f")))
	a.put("e/sub/4", "added")
	// By what the system tells alone, without another scan.
	until(t, "the phone has what is in the new directory", func() bool {
		return b.has("d/new") && b.has("d/sub/new") && b.has("e/sub/4") && b.has("f/2") && !b.has("d/old")
	})
	alike(t, a, b)
	moved := 0
	for _, s := range ask[[]api.ChangeSet](a, "log") {
		for _, c := range s.Changes {
			if c.From != "" {
				t.Logf("%s -> %s", c.From, c.Path)
				moved++
			}
		}
	}
	if moved != 2 {
		t.Errorf("%d entries were recorded as moved, should be the two directories", moved)
	}
}
