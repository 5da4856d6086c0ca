//go:build unix

package main

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"sheaf/node/api"
)

// unheld lets a device make mass changes, so that only who receives them holds.
func unheld(d *device) {
	d.t.Helper()
	d.run("config", "set", "hold.entries", "1000000")
}

// held waits until a device holds one change of so many entries at least.
func (d *device) held(n int64) api.Hold {
	d.t.Helper()
	for end := time.Now().Add(patience()); ; {
		list := ask[[]api.Hold](d, "hold", "list")
		if len(list) == 1 {
			if h := list[0]; h.Deleted+h.Changed < n {
				d.t.Errorf("%s says of a hold of %d: %+v", d.name, n, h)
			}
			return list[0]
		}
		if time.Now().After(end) {
			d.t.Fatalf("%s holds %+v, should be one hold of %d entries", d.name, list, n)
		}
		time.Sleep(20 * time.Millisecond) // between two questions
	}
}

func (d *device) free() {
	d.t.Helper()
	until(d.t, d.name+" holds nothing", func() bool { return len(ask[[]api.Hold](d, "hold", "list")) == 0 })
}

// hundred makes 100 files, 70 of them in one directory.
func (d *device) hundred() {
	d.t.Helper()
	for i := range 100 {
		dir := "most"
		if i >= 70 {
			dir = "rest"
		}
		d.put(fmt.Sprintf("%s/%d/f%02d", dir, i%4, i), fmt.Sprintf("content %d", i))
	}
}

// unholdable gives two devices in step, the first of which holds nothing it
// does itself.
func unholdable(t *testing.T) (a, b *device) {
	t.Helper()
	a = newDevice(t, "laptop")
	a.run("init", "--name", a.name, "--dir", a.dir)
	unheld(a)
	a.up()
	b = newDevice(t, "phone")
	b.join(a)
	b.up()
	b.connected(a)
	return a, b
}

// A mass deletion waits where it is made, over a crash too, until a person says
// that it is not meant: then all comes back. Or that it is: then it happens,
// and the other device's trash has it.
func TestMassDeletionHeldWhereMade(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	must(t, os.RemoveAll(a.path("most")))
	h := a.held(70)
	if h.Device != a.name || h.Folder != "Sync" || len(h.Sample) == 0 || h.Total < 100 {
		t.Errorf("the hold says %+v", h)
	}
	if p, ok := a.problem("/Sync"); !ok || !strings.Contains(p.Remedy, "sheaf hold release "+h.ID) {
		t.Errorf("status does not say so: %+v", a.folder().Problems)
	}
	// The rest goes on meanwhile.
	a.put("rest/meanwhile", "on the one")
	b.put("rest/meanwhile2", "on the other")
	until(t, "the rest goes on", func() bool { return b.has("rest/meanwhile") && a.has("rest/meanwhile2") })
	if diff := differences(below(want, "most"), below(b.all(), "most")); diff != "" {
		t.Fatalf("held, and yet gone from the other:\n%s", diff)
	}
	a.kill()
	a.up()
	h = a.held(70)
	if diff := differences(below(want, "most"), below(b.all(), "most")); diff != "" {
		t.Fatalf("gone from the other after a crash of the one that holds:\n%s", diff)
	}
	a.run("hold", "revert", h.ID)
	a.free()
	end := alike(t, a, b)
	if diff := differences(below(want, "most"), below(end, "most")); diff != "" {
		t.Fatalf("revert did not bring all back:\n%s", diff)
	}
	if p, ok := a.problem("/Sync"); ok {
		t.Errorf("status still says %+v", p)
	}

	must(t, os.RemoveAll(a.path("most")))
	a.run("hold", "release", a.held(70).ID)
	a.free()
	end = alike(t, a, b)
	if n := len(below(end, "most")); n != 0 || b.has("most") {
		t.Fatalf("released, and %d are still there; hold list: %s", n, b.run("hold", "list"))
	}
	in := trashed(b)
	for p := range below(want, "most") {
		if !strings.HasSuffix(p, "/") && in["/Sync/"+p] != 1 {
			t.Fatalf("%s is not in the trash", p)
		}
	}
	b.run("trash", "restore", "/Sync/most")
	end = alike(t, a, b)
	if diff := differences(below(want, "most"), below(end, "most")); diff != "" {
		t.Fatalf("restored from the trash:\n%s", diff)
	}
}

// The same where the sender does not hold (an old one, or a hostile one): the
// receiver does.
func TestMassDeletionHeldWhereItArrives(t *testing.T) {
	t.Parallel()
	a, b := unholdable(t)
	a.hundred()
	want := alike(t, a, b)
	must(t, os.RemoveAll(a.path("most")))
	b.held(70)
	b.holds(want)
	a.put("rest/meanwhile", "goes on")
	until(t, "the rest goes on", func() bool { return b.has("rest/meanwhile") })
	b.kill()
	b.up()
	h := b.held(70)
	if diff := differences(below(want, "most"), below(b.all(), "most")); diff != "" {
		t.Fatalf("gone after a crash of the one that holds:\n%s", diff)
	}
	b.run("hold", "revert", h.ID)
	b.free()
	end := alike(t, a, b)
	if diff := differences(below(want, "most"), below(end, "most")); diff != "" {
		t.Fatalf("revert did not bring all back to both:\n%s", diff)
	}
	must(t, os.RemoveAll(a.path("most")))
	b.run("hold", "release", b.held(70).ID)
	b.free()
	end = alike(t, a, b)
	if n := len(below(end, "most")); n != 0 || b.has("most") {
		t.Fatalf("released, and %d are still there", n)
	}
	if in := trashed(b); len(in) < 70 {
		t.Fatalf("%d in the trash, should be 70", len(in))
	}
}

// Rewriting many files is a mass change as well.
func TestMassRewriteHeldWhereMade(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	round := ""
	rewrite := func() {
		round += "again "
		for p := range below(want, "most") {
			if !strings.HasSuffix(p, "/") {
				must(t, os.WriteFile(a.path(p), []byte(round+"encrypted "+p), 0o600))
			}
		}
	}
	// The first ones may go before it is many; which, a person cannot tell, but
	// no more than go in one go without a word.
	rewrite()
	h := a.held(1)
	changed := 0
	for p, w := range b.all() {
		if want[p] != w {
			changed++
		}
	}
	if changed > 50 {
		t.Errorf("%d rewritten files reached the other before it was held: %+v", changed, h)
	}
	a.run("hold", "revert", h.ID)
	a.free()
	end := alike(t, a, b)
	back := 0
	for p, w := range below(want, "most") {
		if end[p] == w {
			back++
		}
	}
	if want := len(below(want, "most")) - 51; back < want { // the directory is one of them
		t.Errorf("after revert %d are as before, should be %d at least", back, want)
	}
	if n := files(end); n != 100 {
		t.Errorf("%d files after revert, should be 100", n)
	}
	lost := maps.Clone(want)
	rewrite()
	a.run("hold", "release", a.held(1).ID)
	a.free()
	end = alike(t, a, b)
	for p := range below(lost, "most") {
		if !strings.HasSuffix(p, "/") && b.get(p) != round+"encrypted "+p {
			t.Fatalf("released, and %s is %q on the other", p, b.get(p))
		}
	}
	if in := trashed(b); len(in) < 70 {
		t.Errorf("%d things in the other's trash, should be all 70 that were replaced", len(in))
	}
	if n := files(end); n != 100 {
		t.Errorf("%d files, should be 100", n)
	}
}

// And where it arrives.
func TestMassRewriteHeldWhereItArrives(t *testing.T) {
	t.Parallel()
	a, b := unholdable(t)
	a.hundred()
	want := alike(t, a, b)
	round := ""
	rewrite := func() {
		round += "again "
		for p := range below(want, "most") {
			if !strings.HasSuffix(p, "/") {
				must(t, os.WriteFile(a.path(p), []byte(round+"encrypted "+p), 0o600))
			}
		}
	}
	rewrite()
	var h api.Hold
	until(t, "the sender has told of all, and the receiver held it", func() bool {
		h = b.held(1)
		return h.Changed >= 20 && a.folder().State == api.Idle && b.folder().State != api.Scanning
	})
	changed := 0
	for p, w := range b.all() {
		if want[p] != w {
			changed++
		}
	}
	if changed > 50 {
		t.Errorf("%d files were rewritten before it was held", changed)
	}
	b.run("hold", "revert", b.held(1).ID)
	b.free()
	end := alike(t, a, b)
	back := 0
	for p := range below(want, "most") {
		if strings.HasPrefix(a.get(p), "content ") {
			back++
		}
	}
	if back < 70-changed {
		t.Errorf("after revert %d have their content again, should be %d", back, 70-changed)
	}
	if n := files(end); n != 100 {
		t.Errorf("%d files after revert, should be 100: %s", n, show(end))
	}
	rewrite()
	b.run("hold", "release", b.held(1).ID)
	b.free()
	alike(t, a, b)
	for p := range below(want, "most") {
		if !strings.HasSuffix(p, "/") && b.get(p) != round+"encrypted "+p {
			t.Fatalf("released, and %s is %q", p, b.get(p))
		}
	}
}

// A folder that is emptied is held, however few files it has.
func TestEmptiedFolderIsHeld(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for i := range 12 {
		a.put(fmt.Sprintf("d%d/f%d", i%3, i), "content")
	}
	want := alike(t, a, b)
	for i := range 3 {
		must(t, os.RemoveAll(a.path(fmt.Sprintf("d%d", i))))
	}
	h := a.held(12)
	b.holds(want)
	a.run("hold", "revert", h.ID)
	a.free()
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("not all came back:\n%s", diff)
	}
}

// What a person puts back by hand ends the hold without a word.
func TestHeldAndPutBackByHand(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	aside := a.home + "/aside"
	must(t, os.Rename(a.path("most"), aside))
	a.held(70)
	must(t, os.Rename(aside, a.path("most")))
	a.free()
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
	untouched(t, a, b)
}
