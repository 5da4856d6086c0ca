//go:build unix

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sheaf/node/api"
)

// What other synchronisers lost data by, played on two or three real devices.
// The letters and numbers are those of docs/hazards.md.

// contents counts the contents of all files on a device's disk.
func (d *device) contents() map[string]int {
	d.t.Helper()
	out := make(map[string]int)
	for p := range d.tree(".") {
		if !strings.HasSuffix(p, "/") {
			out[d.get(p)]++
		}
	}
	return out
}

// peaceful demands that there are no conflicts and that nothing is left behind.
func peaceful(t *testing.T, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		if n := d.folder().Conflicts; n > 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
		clean(t, d)
	}
}

// unwatched gives two devices in step, the second of which sees changes of its
// disk only when it is asked to look.
func unwatched(t *testing.T) (a, b *device) {
	t.Helper()
	a, b = first(t, "laptop"), newDevice(t, "phone")
	b.join(a)
	b.run("config", "set", "watch", "false")
	b.run("config", "set", "scan.interval", "24h")
	b.up()
	b.connected(a)
	return a, b
}

// S8, S9: what a person changed and made and no scan has seen yet is on this disk
// when other content for the same names arrives: it is neither replaced nor put
// aside under another name before it is recorded, and all four contents live.
func TestS8LocalChangeNotYetScanned(t *testing.T) {
	t.Parallel()
	a, b := unwatched(t)
	a.put("edited", "before")
	a.put("removed", "before")
	alike(t, a, b)
	mine := map[string]string{"edited": "edited on the phone", "new": "made on the phone", "removed": "edited on the phone as well"}
	for p, c := range mine {
		b.put(p, c)
	}
	a.put("edited", "edited on the laptop")
	a.put("new", "made on the laptop")
	must(t, os.Remove(a.path("removed")))
	until(t, "what the laptop did has arrived, and nothing of the phone's is gone meanwhile", func() bool {
		have := b.contents()
		for p, c := range mine {
			if have[c] != 1 {
				t.Fatalf("%s of the phone, %q, is there %d times:\n%s", p, c, have[c], show(b.tree(".")))
			}
		}
		return have["edited on the laptop"] == 1 && have["made on the laptop"] == 1
	})
	end := alike(t, a, b)
	have := a.contents()
	for _, c := range []string{mine["edited"], mine["new"], mine["removed"], "edited on the laptop", "made on the laptop"} {
		if have[c] != 1 {
			t.Errorf("%q is there %d times", c, have[c])
		}
	}
	if files(end) != 5 {
		t.Errorf("there is %s", show(a.tree(".")))
	}
}

// S3, S37: the folder's place holds an empty directory when the node starts (a disk
// that was not mounted, a path that was changed): nothing is read as deleted, and
// no marker is made there.
func TestS3EmptyDirectoryInItsPlace(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	a.down()
	away := a.dir + ".away"
	must(t, os.Rename(a.dir, away))
	must(t, os.Mkdir(a.dir, 0o755))
	a.up()
	a.stoppedFolder()
	a.connected(b)
	b.put("rest/meanwhile", "by the other")
	until(t, "the other is idle", func() bool { return b.folder().State == api.Idle })
	if list, err := os.ReadDir(a.dir); err != nil || len(list) > 0 {
		t.Errorf("in the empty directory there is %v, %v", list, err)
	}
	must(t, os.Remove(b.path("rest/meanwhile")))
	must(t, os.Remove(a.dir))
	must(t, os.Rename(away, a.dir))
	a.servingFolder()
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
}

// S4, S36: a device loses all that the program keeps, and joins anew with the files
// that it had, which are old by now. Old does not beat new, nothing is doubled that
// did not change, and no content of either is lost.
func TestS4JoinsAnewWithOldFiles(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 60)
	for i := range 8 {
		a.put(fmt.Sprintf("edited/%d", i), fmt.Sprintf("first version of %d", i))
	}
	a.put("moved", "content of what is moved")
	alike(t, a, b)
	for round := range 3 { // several versions on, as the counters are
		for i := range 8 {
			a.put(fmt.Sprintf("edited/%d", i), fmt.Sprintf("version %d of %d", round+2, i))
		}
		alike(t, a, b)
	}
	b.down()
	for i := range 8 { // the old files, and no knowledge of how old
		b.put(fmt.Sprintf("edited/%d", i), fmt.Sprintf("first version of %d", i))
	}
	must(t, os.RemoveAll(b.path(".sheaf")))
	must(t, os.RemoveAll(b.home))
	c := newDevice(t, "phone2")
	must(t, os.Remove(c.dir))
	must(t, os.Rename(b.dir, c.dir))
	must(t, os.Rename(a.path("moved"), a.path("moved2")))
	c.join(a)
	c.up()
	c.connected(a)
	end := alike(t, a, c)
	for i := range 8 {
		if got, want := a.get(fmt.Sprintf("edited/%d", i)), fmt.Sprintf("version 4 of %d", i); got != want {
			t.Errorf("edited/%d is %q, should be %q", i, got, want)
		}
	}
	have := a.contents()
	for i := range 8 {
		if n := have[fmt.Sprintf("first version of %d", i)]; n != 1 {
			t.Errorf("the version of %d that the device came with is there %d times", i, n)
		}
	}
	// 60 as they were, 8 with a copy each, what was moved under its new name and
	// perhaps under the old one, which the device still had.
	if n := files(end); n != 60+16+1 && n != 60+16+2 {
		t.Errorf("there are %d files: %s", n, show(below(end, "edited")))
	}
	if a.get("moved2") != "content of what is moved" {
		t.Error("what was moved is gone")
	}
}

// S14: two directories whose names differ in case alone; one is deleted.
func TestS14DirectoriesThatDifferInCase(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for i := range 5 {
		a.put(fmt.Sprintf("Test/%d", i), fmt.Sprintf("upper %d", i))
		a.put(fmt.Sprintf("test/%d", i), fmt.Sprintf("lower %d", i))
	}
	alike(t, a, b)
	must(t, os.RemoveAll(a.path("test")))
	end := alike(t, a, b)
	if files(end) != 5 || b.has("test") || b.get("Test/3") != "upper 3" {
		t.Errorf("one was deleted, and there is\n%s", show(b.tree(".")))
	}
	b.put("Test/3", "edited")
	alike(t, a, b)
	if a.get("Test/3") != "edited" {
		t.Error("the other does not go on syncing")
	}
}

// S17, S33: a device that was away while something was deleted brings none of it
// back when it meets, at first, one that knows of the deletion only by hearsay.
func TestS17DeleteNotUndoneByStalePeer(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := newDevice(t, "tablet")
	c.join(a)
	c.up()
	c.connected(a)
	a.put("deleted", "content")
	a.put("dir/deleted", "content of the second")
	a.put("kept", "content of the third")
	alike(t, a, b, c)
	c.down()
	must(t, os.Remove(a.path("deleted")))
	must(t, os.RemoveAll(a.path("dir")))
	alike(t, a, b)
	a.down()
	c.up()
	c.run("peer", "connect", strings.TrimSpace(b.run("address")))
	c.connected(b)
	end := alike(t, b, c)
	if files(end) != 1 || c.has("deleted") || c.has("dir") {
		t.Errorf("the one that was away: %s", show(c.tree(".")))
	}
	if in := trashed(c); in["/Sync/deleted"] != 1 || in["/Sync/dir/deleted"] != 1 {
		t.Errorf("its trash has %v", in)
	}
	a.up()
	a.connected(b)
	if end = alike(t, a, b, c); files(end) != 1 {
		t.Errorf("all together: %s", show(a.tree(".")))
	}
}

// S20: a directory is renamed while what is in it arrives, and holds a file of the
// other device's own by then: it is renamed there as well, with all that is in it.
func TestS20DirectoryRenamedWhileItArrives(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	b.run("config", "set", "limits.download", "1MiB")
	const n = 40
	for i := range n {
		a.put(fmt.Sprintf("old/sub/%02d", i), string(bytesOf(rnd, 128<<10)))
	}
	until(t, "some have arrived", func() bool { return files(b.tree("old")) > 3 })
	b.put("old/sub/own", "of the phone")
	if got := files(b.tree("old")); got > n/2 {
		t.Logf("%d of %d have arrived already", got, n)
	}
	must(t, os.Rename(a.path("old"), a.path("new")))
	until(t, "the rename arrives", func() bool { return b.has("new") && !b.has("old") })
	b.run("config", "set", "limits.download", "0")
	end := alike(t, a, b)
	if files(end) != n+1 || a.get("new/sub/own") != "of the phone" || a.has("old") {
		t.Errorf("%d files, should be %d: %s", files(end), n+1, show(a.tree("old")))
	}
	untouched(t, a, b)
}

// S21: a file is moved into a directory that is new, which is renamed at once, and
// again while the other hears of it.
func TestS21MovedIntoNewDirectoryThenRenamed(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("file", "content")
	a.put("big/1", strings.Repeat("content ", 1<<17))
	alike(t, a, b)
	for round := range 4 {
		from := []string{"file", "second/file", "second/file", "second/file"}[round]
		must(t, os.Mkdir(a.path("first"), 0o755))
		must(t, os.Rename(a.path(from), a.path("first/file")))
		_ = os.Remove(a.path("second"))
		must(t, os.Rename(a.path("first"), a.path("second")))
		if round%2 == 1 {
			end := alike(t, a, b)
			if files(end) != 2 || b.get("second/file") != "content" || b.has("first") {
				t.Fatalf("round %d: %s", round, show(b.tree(".")))
			}
		}
	}
	alike(t, a, b)
	peaceful(t, a, b)
}

// S23: the times of all files are set to the first second of 1970, as a bad upgrade
// or an unpacked archive does: no content is sent, nothing is held, doubled or lost;
// and back.
func TestS23TimesReset(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	a.fill(rnd, 200)
	a.put("big", string(bytesOf(rnd, 4<<20)))
	before := alike(t, a, b)
	for i, d := range []*device{a, b} {
		sofar := a.received() + b.received()
		then := []time.Time{time.Unix(0, 0), time.Unix(1_700_000_000, 5)}[i]
		for p := range before {
			if !strings.HasSuffix(p, "/") {
				must(t, os.Chtimes(d.path(p), then, then))
			}
		}
		end := alike(t, a, b)
		for p := range before {
			if strings.HasSuffix(p, "/") {
				continue
			}
			if got, want := strings.Fields(end[p]), strings.Fields(before[p]); got[0] != want[0] || got[3] != then.UTC().Format(time.RFC3339Nano) {
				t.Fatalf("%s is %v, was %v", p, got, want)
			}
		}
		if files(end) != files(before) {
			t.Errorf("%d files, should be %d", files(end), files(before))
		}
		if got := a.received() + b.received() - sofar; got > 1<<20 {
			t.Errorf("%d bytes were sent for 201 times", got)
		}
	}
	untouched(t, a, b)
}

// S24, S25: a device joins with a folder that has files of its own: the first sync
// deletes none of them, nor any of the other's, whatever is in both.
func TestS24JoinWithFilesOfItsOwn(t *testing.T) {
	t.Parallel()
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	for i := range 30 {
		a.put(fmt.Sprintf("d%d/of the laptop %d", i%3, i), fmt.Sprintf("laptop's %d", i))
		b.put(fmt.Sprintf("d%d/of the phone %d", i%3, i), fmt.Sprintf("phone's %d", i))
		a.put(fmt.Sprintf("both %d", i), fmt.Sprintf("the laptop's own %d", i))
		b.put(fmt.Sprintf("both %d", i), fmt.Sprintf("the phone's own %d", i))
	}
	a.put("kind", "a file here")
	b.put("kind/file", "a directory there")
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	b.up()
	b.connected(a)
	end := alike(t, a, b)
	have := b.contents()
	for i := range 30 {
		for _, c := range []string{"laptop's %d", "phone's %d", "the laptop's own %d", "the phone's own %d"} {
			if n := have[fmt.Sprintf(c, i)]; n != 1 {
				t.Errorf(c+" is there %d times", i, n)
			}
		}
	}
	if have["a file here"] != 1 || have["a directory there"] != 1 || files(end) != 122 {
		t.Errorf("%d files, should be 122", files(end))
	}
	for _, d := range []*device{a, b} {
		for p := range trashed(d) {
			// What lost its name to the other's version is in the tree, beside it.
			if !strings.HasPrefix(p, "/Sync/both ") {
				t.Errorf("the trash of %s has %s", d.name, p)
			}
		}
	}
}

// S25: the directory of one account's device is no place for another account's.
func TestS25DirectoryOfAnotherAccount(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	marker := a.get(".sheaf/folder")
	c := newDevice(t, "other")
	if out := c.exits(1, "init", "--name", c.name, "--dir", a.dir); !strings.Contains(out, "folder") {
		t.Errorf("it says: %s", out)
	}
	if a.get(".sheaf/folder") != marker {
		t.Error("the marker was changed")
	}
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("something changed:\n%s", diff)
	}
	untouched(t, a, b)
}

// S25: two nodes may not serve one directory: each would take what the other does
// for what a person does. Neither init nor join takes one that a running node serves,
// and a node on a copy of its home does not touch it.
func TestS25TwoNodesOneDirectory(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	want := alike(t, a, b)
	d := newDevice(t, "second")
	code := strings.TrimSpace(a.run("device", "invite"))
	for _, args := range [][]string{{"join", code, "--yes"}, {"init"}} {
		out := d.exits(1, append(args, "--name", d.name, "--dir", a.dir)...)
		for _, says := range []string{a.dir, "another node serves this directory", "device " + a.name, a.home, "sheaf down", "choose another directory"} {
			if !strings.Contains(out, says) {
				t.Errorf("%s does not say %q: %s", args[0], says, out)
			}
		}
		if strings.Count(strings.TrimSpace(out), "\n") > 1 {
			t.Errorf("%s says more than what is wrong and what to do: %s", args[0], out)
		}
	}
	if list := ask[[]api.Device](a, "device", "list"); len(list) != 2 {
		t.Errorf("who was refused is a device of the account: %+v", list)
	}
	// Refused before anything was made or said: the same code does for another.
	d.run("join", code, "--name", d.name, "--dir", d.dir, "--yes")
	d.up()
	d.connected(a)
	if diff := differences(want, alike(t, a, b, d)); diff != "" {
		t.Errorf("something changed:\n%s", diff)
	}
	d.down()

	a.down()
	twin := a.twin()
	a.up()
	a.connected(b)
	twin.up()
	twin.stoppedFolder()
	if said := twin.folder().Problems[0]; !strings.Contains(said.What, a.dir) || !strings.Contains(said.What, a.home) || !strings.Contains(said.Remedy, "sheaf down") {
		t.Errorf("the node on the copy says %+v", said)
	}
	if out := twin.exits(1, "doctor"); !strings.Contains(out, "another node serves this directory") {
		t.Errorf("its doctor says %s", out)
	}
	for i := range 20 {
		a.put(fmt.Sprintf("new/%d", i), fmt.Sprintf("made by a person %d", i))
		b.put(fmt.Sprintf("of the phone/%d", i), fmt.Sprintf("made on the phone %d", i))
	}
	must(t, os.Rename(a.path("new"), a.path("renamed")))
	twin.stoppedFolder()
	twin.down()
	end := alike(t, a, b)
	if files(end) != files(want)+40 {
		t.Errorf("%d files, should be %d: %s", files(end), files(want)+40, show(a.tree(".")))
	}
	untouched(t, a, b)
}

// twin is a device on a copy of the home of d, which is not running.
func (d *device) twin() *device {
	d.t.Helper()
	c := newDevice(d.t, d.name+"-copy")
	must(d.t, os.RemoveAll(c.dir))
	c.dir = d.dir
	if out, err := exec.Command("cp", "-a", d.home, c.home).CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
	return c
}

// S25: who was refused a directory serves it when the other's node has ended,
// however that ended, and what was done meanwhile is to it as what a person did
// while it was not running: nothing is lost, doubled or in conflict.
func TestS25SecondNodeTakesOver(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred()
	alike(t, a, b)
	// Another device of the account on the same directory, while nobody serves it.
	a.down()
	d := newDevice(t, "second")
	must(t, os.RemoveAll(d.dir))
	d.dir = a.dir
	d.join(b)
	d.up()
	d.connected(b)
	alike(t, d, b)
	a.up()
	a.stoppedFolder()
	step := func(n int, on *device) {
		t.Helper()
		on.put(fmt.Sprintf("here/%d", n), fmt.Sprintf("made here %d", n))
		b.put(fmt.Sprintf("there/%d", n), fmt.Sprintf("made there %d", n))
		b.put("edited", fmt.Sprintf("edited %d", n))
		// Of their own content each: one that is gone when one with the same bytes has
		// come would pass for renamed.
		b.put(fmt.Sprintf("passing/%d", n), fmt.Sprintf("deleted in step %d", n+1))
		if n > 0 {
			must(t, os.Remove(b.path(fmt.Sprintf("passing/%d", n-1))))
			must(t, os.Rename(b.path(fmt.Sprintf("moved %d", n-1)), b.path(fmt.Sprintf("moved %d", n))))
		} else {
			b.put("moved 0", "what moves")
		}
		// Both whole nodes cannot be in step: of the one that is refused the others
		// know that it is behind.
		until(t, fmt.Sprintf("step %d has come to both", n), func() bool {
			return b.has(fmt.Sprintf("here/%d", n)) && on.has(fmt.Sprintf("there/%d", n)) && on.has(fmt.Sprintf("moved %d", n)) &&
				on.has(fmt.Sprintf("passing/%d", n)) && !on.has(fmt.Sprintf("passing/%d", n-1)) && on.get("edited") == fmt.Sprintf("edited %d", n)
		})
	}
	step(0, d)
	a.stoppedFolder()
	d.kill()
	a.servingFolder()
	step(1, a)
	d.up()
	d.stoppedFolder()
	step(2, a)
	a.down()
	d.servingFolder()
	step(3, d)
	d.down()
	a.up()
	a.connected(b)
	end := alike(t, a, b)
	have := b.contents()
	for n := range 4 {
		for _, c := range []string{"made here %d", "made there %d"} {
			if got := have[fmt.Sprintf(c, n)]; got != 1 {
				t.Errorf(c+" is there %d times", n, got)
			}
		}
	}
	if have["edited 3"] != 1 || b.get("moved 3") != "what moves" {
		t.Errorf("there is %s", show(b.tree(".")))
	}
	if files(end) != 111 {
		t.Errorf("%d files, should be %d: %s", files(end), 111, show(a.tree(".")))
	}
	peaceful(t, a, b)
}

// S31: the index is lost on a device on which a deletion by the other has not yet
// arrived: what it still has on its disk, as it was, is known to the other's index
// as deleted, and does not come back. What was edited on it meanwhile does.
func TestS31RebuildResurrectsNoDelete(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.put("kept", "content that is kept")
	a.put("deleted", "content that is deleted")
	a.put("dir/deleted", "content in a directory")
	a.put("edited", "content that is edited")
	alike(t, a, b)
	b.down()
	for _, p := range []string{"deleted", "dir", "edited"} {
		must(t, os.RemoveAll(a.path(p)))
	}
	b.put("edited", "edited while the index was lost")
	a.run("wait", "--timeout", "20s")
	until(t, "the deletion is recorded", func() bool { return a.folder().Files == 1 })
	must(t, os.RemoveAll(filepath.Join(b.home, "index")))
	b.up()
	b.connected(a)
	alike(t, a, b)
	if a.get("edited") != "edited while the index was lost" {
		t.Errorf("the edit was lost: %s", show(a.tree(".")))
	}
	if a.has("deleted") || a.has("dir") || b.has("deleted") || b.has("dir") {
		t.Errorf("what was deleted is back: %s", show(a.tree(".")))
	}
}

// S34: a person moves the source away as soon as the program says that others have
// it: they do.
func TestS34WaitMeansOthersHaveIt(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	b.run("config", "set", "limits.download", "3MiB")
	for round := range 3 {
		p := fmt.Sprintf("source %d", round)
		content := string(bytesOf(rnd, 4<<20))
		a.put(p, content)
		a.run("wait", "--timeout", patience().String())
		if b.get(p) != content {
			t.Fatalf("round %d: wait has returned, and the other has it not", round)
		}
		must(t, os.Remove(a.path(p)))
	}
	// Without waiting: the deletion wins, and what was on its way leaves nothing.
	a.put("hasty", string(bytesOf(rnd, 8<<20)))
	until(t, "it is on its way", func() bool {
		list, err := os.ReadDir(b.path(".sheaf/tmp"))
		return err == nil && len(list) > 0
	})
	must(t, os.Remove(a.path("hasty")))
	if end := alike(t, a, b); len(end) != 0 {
		t.Errorf("there is %s", show(a.tree(".")))
	}
	clean(t, b)
}

// S38: a directory is deleted on the one while something is edited and added in it
// on the other, again and again: it ends, and then nothing is said any more.
func TestS38DeletedDirectoryEditedThere(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.hundred() // so that the directory is not all there is
	last := ""
	for round := range sized(2, 10) {
		for i := range 6 {
			a.put(fmt.Sprintf("dir/sub/%d", i), fmt.Sprintf("round %d, %d", round, i))
		}
		alike(t, a, b)
		last = fmt.Sprintf("edited in round %d", round)
		b.put("dir/sub/3", last)
		must(t, os.RemoveAll(a.path("dir")))
		b.put("dir/sub/new", last+", and new")
		alike(t, a, b)
		if b.get("dir/sub/3") != last || b.get("dir/sub/new") != last+", and new" {
			t.Fatalf("round %d: the edit is lost: %s", round, show(a.tree("dir")))
		}
	}
	quiet(t, a, b)
}

// quiet demands that devices in step have nothing to say to each other and do
// nothing: no change of the index, hardly a byte.
func quiet(t *testing.T, devices ...*device) {
	t.Helper()
	var versions, sofar []int64
	look := func() (changes, bytes int64) {
		for _, d := range devices {
			changes += int64(len(ask[[]api.ChangeSet](d, "log")))
			bytes += d.received()
		}
		return changes, bytes
	}
	for range 2 {
		c, n := look()
		versions, sofar = append(versions, c), append(sofar, n)
		time.Sleep(2 * time.Second) // the time for which it is to be quiet
	}
	c, n := look()
	if c != versions[0] {
		t.Errorf("the log grew from %d to %d sets of changes in quiet time", versions[0], c)
	}
	// Keep-alives, and no more.
	if n-sofar[0] > 4096 {
		t.Errorf("%d bytes were received in quiet time", n-sofar[0])
	}
}

// A file is rewritten again and again while it is sent: what shows on the other
// side is at every moment one whole version, and in the end the last.
func TestRewrittenWhileItIsSent(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	b.run("config", "set", "limits.download", "4MiB")
	version := func(n int) []byte {
		line := fmt.Sprintf("version %06d of this file\n", n)
		return []byte(strings.Repeat(line, (3<<20)/len(line)))
	}
	check := func(when string) {
		t.Helper()
		data, err := os.ReadFile(b.path("busy"))
		if err != nil || len(data) == 0 {
			return
		}
		line, _, _ := strings.Cut(string(data), "\n")
		n := 0
		if _, err := fmt.Sscanf(line, "version %d", &n); err != nil || string(data) != string(version(n)) {
			t.Fatalf("%s: %d bytes that begin with %q are no version that was written", when, len(data), line)
		}
	}
	last := 0
	for n := 1; n <= 12; n++ {
		last = n
		if n%3 == 0 { // in place, in pieces
			f, err := os.OpenFile(a.path("busy"), os.O_WRONLY|os.O_CREATE, 0o644)
			must(t, err)
			data := version(n)
			for off := 0; off < len(data); off += 512 << 10 {
				_, err := f.WriteAt(data[off:min(off+512<<10, len(data))], int64(off))
				must(t, err)
				check(fmt.Sprintf("while version %d is written", n))
			}
			must(t, f.Close())
		} else {
			must(t, os.WriteFile(a.path("busy.new"), version(n), 0o600))
			must(t, os.Rename(a.path("busy.new"), a.path("busy")))
		}
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); { // the pace of the writer
			check(fmt.Sprintf("after version %d", n))
			time.Sleep(20 * time.Millisecond)
		}
	}
	alike(t, a, b)
	if b.get("busy") != string(version(last)) {
		t.Error("it is not the last version in the end")
	}
	peaceful(t, a, b)
}
