//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two folders filled by hand with the same files before the devices meet: as
// many files after, no conflict, and no contents sent.
func TestSameFilesBeforeTheyMeet(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	n := sized(500, 10_000)
	a.fill(rnd, n)
	for i := range 20 { // enough bytes that sending them would show
		a.put(fmt.Sprintf("large/%d", i), string(bytesOf(rnd, 1<<20)))
	}
	a.put("large/big", string(bytesOf(rnd, 40<<20))) // hashed apart from the small ones
	copyTree(t, a.dir, b.dir)
	want := a.all()
	for p := range want { // other times, as a download or an unpacked archive has
		if strings.HasSuffix(p, "/") {
			continue
		}
		then := time.Unix(1_650_000_000+rnd.Int64N(1_000_000), rnd.Int64N(1_000_000_000))
		must(t, os.Chtimes(b.path(p), then, then))
	}
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	b.up()
	end := alike(t, a, b)
	if got := files(end); got != n+21 {
		t.Errorf("%d files, should be %d", got, n+21)
	}
	untouched(t, a, b)
	limit := int64(n)*1024 + 1<<20
	for _, d := range []*device{a, b} {
		if got := d.received(); got > limit {
			t.Errorf("%s received %d bytes, should be less than %d", d.name, got, limit)
		}
	}
	b.put("large/0", "edited after")
	a.put("after", "made after")
	end = alike(t, a, b)
	if a.get("large/0") != "edited after" || b.get("after") != "made after" || files(end) != n+22 {
		t.Error("they do not go on syncing")
	}
}

// A third device joins with a directory that holds the same files; meanwhile
// the others have renamed some, moved a directory and deleted nothing. What it
// holds under the new names is recognised; nothing is doubled.
func TestThirdJoinsWithRenamedFiles(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 200)
	for i := range 10 {
		a.put(fmt.Sprintf("large/%d", i), string(bytesOf(rnd, 1<<20)))
	}
	alike(t, a, b)
	b.do(".", "mv d01 renamed")
	b.do(".", "mv large/3 large/three")
	must(t, os.MkdirAll(b.path("new/deeper"), 0o755))
	b.do(".", "mv d02/e2 new/deeper/e2")
	want := alike(t, a, b)
	c := newDevice(t, "tablet")
	copyTree(t, a.dir, c.dir)
	must(t, os.RemoveAll(filepath.Join(c.dir, ".sheaf")))
	c.join(a)
	c.up()
	c.connected(a)
	end := alike(t, a, b, c)
	if diff := differences(want, end); diff != "" {
		t.Errorf("meeting the third changed something:\n%s", diff)
	}
	untouched(t, c)
	if got := c.received(); got > 2<<20 {
		t.Errorf("the third received %d bytes of what it had", got)
	}
	// Identity is the same: a rename on the third is one everywhere.
	sent := a.received()
	c.do(".", "mv renamed again")
	alike(t, a, b, c)
	if !a.has("again/e1") || a.has("renamed") {
		t.Error("a rename on the third did not arrive")
	}
	if got := a.received() - sent; got > 1<<20 {
		t.Errorf("for a rename %d bytes were sent", got)
	}
}

// A third device joins with the same files under their old names: what others
// renamed is neither doubled nor sent.
func TestThirdJoinsWithOldNames(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 100)
	a.put("large/3", string(bytesOf(rnd, 4<<20)))
	alike(t, a, b)
	c := newDevice(t, "tablet")
	copyTree(t, a.dir, c.dir)
	must(t, os.RemoveAll(filepath.Join(c.dir, ".sheaf")))
	b.do(".", "mv large/3 large/three")
	alike(t, a, b)
	c.join(a)
	c.up()
	c.connected(a)
	end := alike(t, a, b, c)
	// Both names may stay: the third never knew of the rename, and a file that
	// a person has is not taken away. The bytes must not travel again.
	if end["large/three"] == "" {
		t.Error("the renamed file is gone")
	}
	if got := c.received(); got > 2<<20 {
		t.Errorf("the third received %d bytes of what it had under another name", got)
	}
	if n := c.folder().Conflicts; n != 0 {
		t.Errorf("%d conflicts", n)
	}
}

// Three devices come up at the same time, two of them new and one writing:
// each says soon, and truly, that all are in step.
func TestThreeAreInStepSoon(t *testing.T) {
	t.Parallel()
	a, hub, c := newDevice(t, "laptop"), newDevice(t, "hub"), newDevice(t, "phone")
	hub.run("init", "--name", hub.name, "--dir", hub.dir)
	hub.up()
	a.join(hub)
	c.join(hub)
	a.up()
	c.up()
	for i := range 40 {
		a.put(fmt.Sprintf("d%d/f%d", i%5, i), fmt.Sprint(i))
	}
	a.connected(hub)
	c.connected(hub)
	alike(t, a, hub, c)
	for _, d := range []*device{a, hub, c} {
		for _, p := range d.status().Peers {
			if p.Connected && !p.InStep {
				t.Errorf("%s says that %s is not in step", d.name, p.Name)
			}
		}
	}
}
