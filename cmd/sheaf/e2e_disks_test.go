//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sheaf/node/api"
)

// Disks that run full, go away, or do not let the node in. They are made for the
// test: mounts need root, and are skipped without it.

// smallDisk mounts a disk of some MiB of memory at a directory.
func smallDisk(t *testing.T, dir string, mib int) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=755", mib)); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
}

// grow gives a small disk another size.
func grow(t *testing.T, dir string, mib int) {
	t.Helper()
	must(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", mib)))
}

// brimful fills a disk to the last byte with a file that is not synced.
func brimful(t *testing.T, p string) {
	t.Helper()
	f, err := os.Create(p)
	must(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	must(t, f.Close())
}

// reports waits until a device names a thing of the tree as a problem, with what to
// do, in these words.
func (d *device) reports(path string, words ...string) {
	d.t.Helper()
	said := ""
	until(d.t, d.name+" reports "+path, func() bool {
		p, ok := d.problem(path)
		said = p.What + "; " + p.Remedy
		return ok && p.What != "" && p.Remedy != ""
	})
	for _, w := range words {
		if !strings.Contains(said, w) {
			d.t.Errorf("%s says of %s: %q, and not %q", d.name, path, said, w)
		}
	}
}

// S11: the receiver's disk is full. What fits arrives, what does not is named, of
// nothing half is to be seen, and the old content of a file stays until the new one
// has room; when there is room, all arrives by itself.
func TestDiskFullWhereItArrives(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := first(t, "laptop"), newDevice(t, "phone")
	smallDisk(t, b.dir, 16)
	b.join(a)
	b.up()
	b.connected(a)
	a.put("replaced", "the old content")
	alike(t, a, b)
	big := bytesOf(rnd, 20<<20)
	must(t, os.WriteFile(a.path("big"), big, 0o600))
	must(t, os.WriteFile(a.path("replaced"), append(big, 'x'), 0o600))
	a.put("small", "content")
	a.put("dir/small", "content in a directory")
	until(t, "what fits arrives", func() bool { return b.has("small") && b.has("dir/small") })
	b.reports("/Sync/big", "space")
	b.reports("/Sync/replaced", "space")
	if b.has("big") || b.get("replaced") != "the old content" {
		t.Error("something half is to be seen")
	}
	if out := b.exits(4, "wait", "--timeout", "1s"); !strings.Contains(out, "2 entries") {
		t.Errorf("wait says: %s", out)
	}
	// Filled to the brim by somebody else, and edits that are small.
	brimful(t, b.path("brim.swp"))
	a.put("small", "edited while the other is full")
	b.put("dir/small", "") // a program that could not write
	must(t, os.Remove(b.path("brim.swp")))
	until(t, "the edit arrives when there is room for it", func() bool { return b.get("small") == "edited while the other is full" })
	grow(t, b.dir, 128)
	alike(t, a, b)
	if len(b.get("big")) != len(big) || len(b.get("replaced")) != len(big)+1 {
		t.Error("not all arrived when there was room")
	}
	peaceful(t, a, b)
}

// S11: the disk is full where the changes are made. What is on it goes out, what
// comes waits, and nothing that is short for want of room replaces anything.
func TestDiskFullWhereItIsMade(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a := newDevice(t, "laptop")
	smallDisk(t, a.dir, 16)
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b := newDevice(t, "phone")
	b.join(a)
	b.up()
	b.connected(a)
	content := string(bytesOf(rnd, 2<<20))
	a.put("file", content)
	alike(t, a, b)
	brimful(t, a.path("brim.swp"))
	must(t, os.Rename(a.path("file"), a.path("renamed"))) // all that a full disk still takes
	must(t, os.Chmod(a.path("renamed"), 0o600))
	until(t, "what is done on the full disk arrives", func() bool { return b.get("renamed") == content && !b.has("file") })
	b.put("from the other", strings.Repeat("content ", 1<<17))
	b.put("renamed", strings.Repeat("edited ", 1<<18))
	a.reports("/Sync/from the other", "space")
	if got := a.get("renamed"); got != content {
		t.Errorf("the file of the full disk has %d bytes", len(got))
	}
	must(t, os.Remove(a.path("brim.swp")))
	alike(t, a, b)
	if len(a.get("renamed")) != 7<<18 || a.get("from the other") == "" {
		t.Error("not all arrived when there was room")
	}
	peaceful(t, a, b)
}

// The disk of the program's own state is full, so that the index cannot be written:
// the node says so or ends, nothing is lost, and with room it goes on.
func TestDiskFullUnderTheIndex(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := first(t, "laptop"), newDevice(t, "phone")
	smallDisk(t, b.home, 48)
	must(t, os.Chmod(b.home, 0o700))
	b.join(a)
	b.up()
	b.connected(a)
	a.fill(rnd, 50)
	a.put("kept", "before")
	b.put("own", "before")
	alike(t, a, b)
	brimful(t, filepath.Join(b.home, "brim"))
	for i := range 400 { // more than what is reserved in the index's files
		a.put(fmt.Sprintf("while full/%03d", i), fmt.Sprintf("content %d", i))
	}
	must(t, os.Remove(a.path("kept")))
	b.put("own", "edited while full")
	b.put("new", "made while full")
	_, _ = a.try("wait", "--timeout", "5s") // it may be in step or not: what matters is the end
	must(t, os.Remove(filepath.Join(b.home, "brim")))
	// A write that failed is for good: it is started again, as a supervisor does.
	b.kill()
	b.up()
	b.connected(a)
	end := alike(t, a, b)
	if a.get("own") != "edited while full" || a.get("new") != "made while full" || b.has("kept") || files(below(end, "while full")) != 400 {
		t.Errorf("own %q, new %q, kept %v, %d files", a.get("own"), a.get("new"), b.has("kept"), files(below(end, "while full")))
	}
	peaceful(t, a, b)
}

// S1: the disk that the folder is on is unmounted while the node runs and while it
// does not: its mount point is empty, and nothing is read as deleted.
func TestS1FolderUnmounted(t *testing.T) {
	t.Parallel()
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	real := a.dir + ".real"
	must(t, os.Mkdir(real, 0o755))
	mount := func() {
		if err := unix.Mount(real, a.dir, "", unix.MS_BIND, ""); err != nil {
			t.Skipf("a directory cannot be mounted here: %v", err)
		}
	}
	mount()
	t.Cleanup(func() { _ = unix.Unmount(a.dir, unix.MNT_DETACH) })
	a.run("init", "--name", a.name, "--dir", a.dir)
	if !soaking() {
		a.run("config", "set", "scan.interval", "1s") // by itself it looks every minute
	}
	a.up()
	b.join(a)
	b.up()
	b.connected(a)
	a.hundred()
	want := alike(t, a, b)
	must(t, unix.Unmount(a.dir, unix.MNT_DETACH))
	b.put("rest/meanwhile", "by the other")
	a.stoppedFolder()
	if list, err := os.ReadDir(a.dir); err != nil || len(list) > 0 {
		t.Errorf("in the mount point there is %v, %v", list, err)
	}
	until(t, "the other is idle", func() bool { return b.folder().State == api.Idle })
	mount()
	a.servingFolder()
	want["rest/meanwhile"] = b.all()["rest/meanwhile"]
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("mounted again:\n%s", diff)
	}
	a.down()
	must(t, unix.Unmount(a.dir, unix.MNT_DETACH))
	a.up()
	a.stoppedFolder()
	a.connected(b)
	b.holds(want)
	mount()
	a.servingFolder()
	if diff := differences(want, alike(t, a, b)); diff != "" {
		t.Errorf("mounted again after a start without:\n%s", diff)
	}
	untouched(t, a, b)
}

// nobody is a user without rights.
const nobody = 65534

// asNobody has a device run as a user without rights: all is readable to root.
func asNobody(t *testing.T, d *device) {
	t.Helper()
	if os.Geteuid() != 0 {
		return // no rights already
	}
	exe := filepath.Join(filepath.Dir(d.home), "sheaf")
	data, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	must(t, os.WriteFile(exe, data, 0o755)) //nolint:gosec // a program
	for dir := filepath.Dir(d.home); dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		must(t, os.Chmod(dir, 0o755)) //nolint:gosec // that nobody may enter
	}
	must(t, os.MkdirAll(d.home, 0o700))
	must(t, os.Chown(d.home, nobody, nobody))
	must(t, os.Chown(d.dir, nobody, nobody))
	d.as = func(c *exec.Cmd) {
		c.Path = exe
		c.Dir = d.dir
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// theirs gives all that lies in a device's folder to the user that it runs as.
func theirs(t *testing.T, d *device, paths ...string) {
	t.Helper()
	if os.Geteuid() == 0 {
		for _, p := range paths {
			must(t, os.Chown(d.path(p), nobody, nobody))
		}
	}
}

// S26: a file that cannot be read, a directory that cannot be entered and one that
// cannot be written, each on a device whose user has no rights to them: nothing is
// read as deleted or empty, each is named with what to do, all else goes on, and
// when the rights are given all is in step.
func TestS26WithoutPermission(t *testing.T) {
	t.Parallel()
	a, b := first(t, "laptop"), newDevice(t, "phone")
	asNobody(t, b)
	b.join(a)
	b.up()
	b.connected(a)
	for _, p := range []string{"secret", "shut/in/file", "fixed/file", "fixed/gone", "open/file"} {
		a.put(p, "content of "+p)
	}
	alike(t, a, b)
	b.put("own", "content")
	b.put("unreadable", "never read")
	theirs(t, b, "own", "unreadable")
	must(t, os.Chmod(b.path("unreadable"), 0))
	must(t, os.Chmod(b.path("secret"), 0))
	must(t, os.Chmod(b.path("shut"), 0))
	must(t, os.Chmod(b.path("fixed"), 0o555))
	b.reports("/Sync/unreadable", "permission")
	until(t, "the rest goes on", func() bool { return a.has("own") })
	a.put("shut/in/file", "edited")
	a.put("shut/new", "added")
	a.put("fixed/file", "edited")
	must(t, os.Remove(a.path("fixed/gone")))
	a.put("open/file", "edited")
	until(t, "the rest goes on", func() bool { return b.get("open/file") == "edited" })
	b.reports("/Sync/fixed/file", "permission")
	if b.get("fixed/file") != "content of fixed/file" || b.get("fixed/gone") == "" {
		t.Error("something was changed in a directory that cannot be written")
	}
	for _, p := range []string{"secret", "shut/in/file", "shut/new", "fixed/file", "open/file"} {
		if !a.has(p) {
			t.Errorf("%s is gone on the other", p)
		}
	}
	// Over a restart, whose scan cannot see what lies in there.
	b.down()
	b.up()
	b.connected(a)
	b.reports("/Sync/shut")
	if !a.has("shut/in/file") || !a.has("secret") {
		t.Fatal("what could not be read after a restart was taken for deleted")
	}
	must(t, os.Chmod(b.path("shut"), 0o755))
	must(t, os.Chmod(b.path("fixed"), 0o755))
	must(t, os.Chmod(b.path("secret"), 0o600))
	must(t, os.Chmod(b.path("unreadable"), 0o600))
	alike(t, a, b)
	if b.get("fixed/file") != "edited" || b.get("shut/new") != "added" || b.has("fixed/gone") || a.get("unreadable") != "never read" {
		t.Errorf("with the rights given: %s", show(b.tree(".")))
	}
	peaceful(t, a, b)
	soon(t, "the problems are gone", func() bool { return len(b.folder().Problems) == 0 })
}

// N13: the system's limit of watches is lower than the folder has directories: no
// change is missed, and doctor says what to raise.
func TestInotifyLimit(t *testing.T) {
	t.Parallel()
	a, b := first(t, "laptop"), newDevice(t, "phone")
	// In a user namespace of its own, whose limit is its own.
	link := filepath.Join(filepath.Dir(b.home), realName)
	exe, err := os.Executable()
	must(t, err)
	must(t, os.Symlink(exe, link))
	b.as = func(c *exec.Cmd) {
		script := `echo 12 >/proc/sys/user/max_inotify_watches && exec "$@"`
		c.Args = append([]string{"sh", "-c", script, "sh", link}, c.Args[1:]...)
		c.Path = "/bin/sh"
		c.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	probe := exec.CommandContext(t.Context(), "/bin/true")
	b.as(probe)
	probe.Args[4] = "/bin/true"
	var said bytes.Buffer
	probe.Stderr = &said
	if err := probe.Run(); err != nil {
		t.Skipf("no user namespace with a limit of its own can be made here: %v: %s", err, said.String())
	}
	b.join(a)
	if !soaking() {
		b.run("config", "set", "scan.interval", "5s") // what is not watched is looked at every minute
	}
	b.up()
	b.connected(a)
	for i := range 40 {
		a.put(fmt.Sprintf("d%02d/file", i), fmt.Sprint(i))
	}
	alike(t, a, b)
	soon(t, "doctor says what to raise", func() bool {
		out, _ := b.try("doctor")
		return strings.Contains(out, "above the system's limit of watches") && strings.Contains(out, "max_user_watches")
	})
	// A change in each: those that are not watched are looked at in turn.
	for i := range 40 {
		b.put(fmt.Sprintf("d%02d/file", i), fmt.Sprintf("edited %d", i))
		b.put(fmt.Sprintf("d%02d/new", i), fmt.Sprintf("new %d", i))
	}
	within(t, 3*patience(), "all changes arrive", func() bool {
		for i := range 40 {
			if a.get(fmt.Sprintf("d%02d/file", i)) != fmt.Sprintf("edited %d", i) || !a.has(fmt.Sprintf("d%02d/new", i)) {
				return false
			}
		}
		return true
	})
	if end := alike(t, a, b); files(end) != 80 {
		t.Errorf("%d files", files(end))
	}
}

// A directory of the folder is replaced by a link that leads out of it, on the
// device where changes for what lay in it arrive, again and again: nothing outside
// is ever written, made or removed, and what came is not lost.
func TestLinkOutOfTheFolder(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	outside := filepath.Join(filepath.Dir(b.dir), "outside")
	must(t, os.Mkdir(outside, 0o755))
	for _, p := range []string{"f0", "f1", "kept"} {
		must(t, os.WriteFile(filepath.Join(outside, p), []byte("outside"), 0o600))
	}
	for i := range 20 {
		a.put(fmt.Sprintf("dir/f%d", i), "before")
	}
	alike(t, a, b)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // the race: the directory and the link change places
		defer close(done)
		must := func(err error) {
			if err != nil {
				t.Error(err)
			}
		}
		must(os.Symlink(outside, b.dir+".link"))
		for {
			select {
			case <-stop:
				must(os.Remove(b.dir + ".link"))
				return
			default:
			}
			for range 2 { // there and back
				must(unix.Renameat2(unix.AT_FDCWD, b.path("dir"), unix.AT_FDCWD, b.dir+".link", unix.RENAME_EXCHANGE))
			}
		}
	}()
	for round := range 5 {
		for i := range 20 {
			a.put(fmt.Sprintf("dir/f%d", i), fmt.Sprintf("round %d", round))
		}
		a.put(fmt.Sprintf("dir/new%d", round), "made")
		must(t, os.Remove(a.path(fmt.Sprintf("dir/f%d", 19-round))))
		_, _ = a.try("wait", "--timeout", "1s")
	}
	close(stop)
	<-done
	b.down() // what it could not do it would try again within a minute; at a start, at once
	b.up()
	b.connected(a)
	list, err := os.ReadDir(outside)
	must(t, err)
	if len(list) != 3 {
		t.Errorf("outside there is %v", list)
	}
	for _, e := range list {
		if data, err := os.ReadFile(filepath.Join(outside, e.Name())); err != nil || string(data) != "outside" {
			t.Errorf("%s, which lies outside, holds %q, %v", e.Name(), data, err)
		}
	}
	alike(t, a, b)
	have := a.contents()
	if have["made"] != 5 || have["outside"] != 0 {
		t.Errorf("contents in the end: %v", have)
	}
}
