//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A big file grows while it syncs, then is edited at the front: what is sent is
// what is new, not the file again.
func TestBigFileGrowsAndIsEdited(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	size := sized(24, 400) << 20
	content := bytesOf(rnd, size)
	must(t, os.WriteFile(a.path("big"), content, 0o600))
	// Appended to while it is hashed and sent.
	f, err := os.OpenFile(a.path("big"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	for range 40 {
		part := bytesOf(rnd, 32<<10)
		content = append(content, part...)
		_, err = f.Write(part)
		must(t, err)
		time.Sleep(25 * time.Millisecond) // the pace of the writer
	}
	must(t, f.Close())
	end := alike(t, a, b)
	if files(end) != 1 || b.get("big") != string(content) {
		t.Errorf("after it grew: %s", show(end))
	}
	sofar := b.received()
	if sofar > int64(size)*3/2 {
		t.Errorf("%d bytes were received for a file of %d that grew", sofar, size)
	}
	step := func(what string, limit int64, change func()) {
		t.Helper()
		before := b.received()
		change()
		alike(t, a, b)
		if b.get("big") != string(content) {
			t.Errorf("%s: the content is wrong", what)
		}
		if got := b.received() - before; got > limit {
			t.Errorf("%s: %d bytes received, should be less than %d", what, got, limit)
		}
	}
	limit := int64(sized(6, 20)) << 20
	step("edited at the front", limit, func() {
		content = append([]byte("a new head, "), content...)
		must(t, os.WriteFile(a.path("big"), content, 0o600))
	})
	step("edited in the middle", limit, func() {
		content = bytes.Join([][]byte{content[:size/2], content[size/2+1000:]}, []byte("in between"))
		must(t, os.WriteFile(a.path("big.new"), content, 0o600))
		must(t, os.Rename(a.path("big.new"), a.path("big")))
	})
	step("touched", 64<<10, func() { must(t, os.Chtimes(a.path("big"), time.Now(), time.Unix(1_600_000_000, 5))) })
	step("renamed", 64<<10, func() {
		must(t, os.Rename(a.path("big"), a.path("renamed")))
		alike(t, a, b)
		must(t, os.Rename(a.path("renamed"), a.path("big")))
	})
	must(t, os.WriteFile(a.path("copy"), content, 0o600))
	before := b.received()
	alike(t, a, b)
	if got := b.received() - before; got > 1<<20 {
		t.Errorf("for a copy of what is there %d bytes were received", got)
	}
	if n := a.folder().Conflicts; n != 0 {
		t.Errorf("%d conflicts", n)
	}
	clean(t, b)
}

// SIGTERM and SIGINT stop either side in order, within five seconds, also while
// content is on its way; afterwards it goes on where it was.
func TestStopsCleanly(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	a.fill(rnd, 300)
	must(t, os.WriteFile(a.path("big"), bytesOf(rnd, 24<<20), 0o600))
	want := a.all()
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	if out := a.exits(1, "up"); !strings.Contains(out, "running") && !strings.Contains(out, "already") {
		t.Errorf("a second up says: %s", out)
	}
	b.join(a)
	b.run("config", "set", "limits.download", "4MiB")
	b.up()
	sofar := int64(0)
	for i, d := range []*device{b, a, b} {
		until(t, "content is on its way", func() bool { n := b.received(); return n > 1<<20 })
		sofar = max(sofar, b.received())
		sig := []os.Signal{syscall.SIGTERM, os.Interrupt}[i%2]
		began := time.Now()
		must(t, d.cmd.Process.Signal(sig))
		select {
		case <-d.done:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s did not stop", d.name)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s to stop", d.name, took)
		}
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with status %d after %s", d.name, code, sig)
		}
		d.cmd = nil
		d.exits(3, "status")
		d.up()
	}
	b.run("config", "set", "limits.download", "0")
	alike(t, a, b)
	b.holds(want)
	untouched(t, a, b)
	if err := a.cmd.Process.Signal(syscall.Signal(0)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	var exit *exec.ExitError
	if _, err := a.try("status"); errors.As(err, &exit) {
		t.Errorf("status: %v", err)
	}
}
