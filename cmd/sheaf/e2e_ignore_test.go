//go:build unix

package main

import (
	"os"
	"strings"
	"testing"

	"sheaf/node/api"
)

// What .sheafignore leaves out is not sent, not deleted with its directory, and
// not written over; the file itself syncs.
func TestIgnored(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put(".sheafignore", "*.log\nbuild/\n")
	until(t, "the rules arrive", func() bool { return b.get(".sheafignore") != "" })
	a.put("d/kept", "content")
	a.put("d/noise.log", "of the laptop")
	a.put("d/build/out", "of the laptop")
	alike2 := func(what string, ok func() bool) {
		t.Helper()
		a.run("wait")
		b.run("wait")
		until(t, what, ok)
	}
	alike2("the file arrives", func() bool { return b.has("d/kept") })
	b.put("d/noise.log", "of the phone")
	b.put("d/build/other", "of the phone")
	b.put("d/second", "content")
	alike2("the second arrives", func() bool { return a.has("d/second") })
	if b.has("d/build/out") || a.has("d/build/other") || a.get("d/noise.log") != "of the laptop" || b.get("d/noise.log") != "of the phone" {
		t.Error("something ignored was sent")
	}
	for _, p := range []string{"/Sync/d/noise.log", "/Sync/d/build/out"} {
		w := ask[api.Why](a, "why", p)
		if !strings.Contains(w.Summary, "ignores it") || len(w.Problems) == 0 || !strings.Contains(w.Problems[0].Remedy, ".sheafignore") {
			t.Errorf("why %s: %+v", p, w)
		}
	}
	// The directory is removed there; what is ignored here keeps it here.
	must(t, os.RemoveAll(a.path("d")))
	until(t, "what is not ignored goes", func() bool { return !b.has("d/kept") && !b.has("d/second") })
	if b.get("d/noise.log") != "of the phone" || b.get("d/build/other") != "of the phone" {
		t.Error("something ignored was deleted by a change of another device")
	}
	soon(t, "the directory that is kept is reported", func() bool {
		p, ok := b.problem("/Sync/d")
		return ok && strings.Contains(p.What, "ignored") && p.Remedy != ""
	})
	if out := b.run("why", "/Sync/d"); !strings.Contains(out, "ignored") {
		t.Errorf("why of the directory says: %s", out)
	}
	if a.has("d") {
		t.Error("the directory came back on the device that removed it")
	}
	// What is no longer ignored is sent.
	a.put(".sheafignore", "build/\n")
	until(t, "what is no longer ignored is sent", func() bool { return a.get("d/noise.log") == "of the phone" })
	if b.get("d/build/other") != "of the phone" {
		t.Error("something ignored was deleted")
	}
}

// A file of another device at a path that is ignored here, where one stands
// already, is not put in place, and why says so.
func TestRemoteFileAtIgnoredPath(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("x.log", "of the laptop")
	alike(t, a, b)
	// It is ignored from now on, everywhere; the laptop changes it all the same.
	b.down()
	b.put("y.log", "of the phone, ignored")
	a.put("y.log", "of the laptop")
	a.run("wait", "--timeout", "20s")
	b.put(".sheafignore", "*.log\n")
	b.up()
	b.connected(a)
	until(t, "the rules arrive", func() bool { return a.has(".sheafignore") })
	soon(t, "why says what holds it", func() bool {
		w := ask[api.Why](b, "why", "/Sync/y.log")
		return len(w.Problems) > 0 && strings.Contains(w.Problems[0].What, "ignored") && w.Problems[0].Remedy != ""
	})
	if got := b.get("y.log"); got != "of the phone, ignored" {
		t.Errorf("the ignored file was written over: %q", got)
	}
	if got := a.get("y.log"); got != "of the laptop" {
		t.Errorf("the file of the other is %q", got)
	}
	// What was in step and is ignored now is deleted nowhere.
	if a.get("x.log") != "of the laptop" || b.get("x.log") != "of the laptop" {
		t.Error("what was in step and is ignored now is gone")
	}
	if n := len(trashed(b)); n > 0 {
		t.Errorf("%d things in the trash", n)
	}
}

// Litter of systems and editors is left out by itself.
func TestLitterIsIgnored(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for _, p := range []string{".DS_Store", "d/Thumbs.db", "d/desktop.ini", "d/~$letter.docx", "d/.notes.swp"} {
		a.put(p, "litter")
	}
	a.put("d/notes", "content")
	b.put("d/.DS_Store", "other litter")
	a.run("wait")
	until(t, "the file arrives", func() bool { return b.has("d/notes") })
	b.run("wait")
	if got := len(b.tree("d")); got != 2 {
		t.Errorf("there is %s", show(b.tree(".")))
	}
}

// Rules that are made in the same moment as what they leave out: a project that
// is unpacked with its .sheafignore.
func TestRulesMadeWithWhatTheyIgnore(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("d/build/out", "to be ignored")
	a.put("d/noise.log", "to be ignored")
	a.put("d/kept", "content")
	a.put(".sheafignore", "*.log\nbuild/\n")
	a.run("wait")
	until(t, "the file arrives", func() bool { return b.has("d/kept") && b.has(".sheafignore") })
	b.run("wait")
	if b.has("d/build") || b.has("d/noise.log") {
		t.Errorf("what the rules leave out was sent: %s", show(b.tree(".")))
	}
}
