//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// relayProgram builds sheaf-relay, once for all tests.
var relayProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sheaf-relay-test")
	if err != nil {
		return "", err
	}
	exe := filepath.Join(dir, "sheaf-relay")
	out, err := exec.Command("go", "build", "-o", exe, "../sheaf-relay").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build sheaf-relay: %w\n%s", err, out)
	}
	return exe, err
})

// A relayProcess is a real relay.
type relayProcess struct {
	t    *testing.T
	exe  string
	home string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan struct{}
}

// newRelay sets up a relay at a port that is free now, and that it keeps: it is found
// again at it after each start.
func newRelay(t *testing.T, args ...string) *relayProcess {
	t.Helper()
	if testing.Short() {
		t.Skip("real processes are for the full run")
	}
	exe, err := relayProgram()
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	r := &relayProcess{t: t, exe: exe, home: filepath.Join(t.TempDir(), "relay"), log: new(bytes.Buffer)}
	r.run(append([]string{"init", "--name", "nas", "--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}, args...)...)
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("log of the relay:\n%s", tail(r.log.String(), 4000))
		}
	})
	return r
}

func (r *relayProcess) run(args ...string) string {
	r.t.Helper()
	c := exec.CommandContext(r.t.Context(), r.exe, append([]string{"--home", r.home}, args...)...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		r.t.Fatalf("sheaf-relay %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

func (r *relayProcess) up() {
	r.t.Helper()
	r.cmd = exec.CommandContext(context.WithoutCancel(r.t.Context()), r.exe, "--home", r.home, "run")
	ready := make(chan struct{})
	r.cmd.Stdout, r.cmd.Stderr = &readyWriter{ready: ready}, r.log
	must(r.t, r.cmd.Start())
	cmd, done := r.cmd, make(chan struct{})
	r.done = done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-ready:
	case <-done:
		r.t.Fatal("the relay ended before it was ready")
	case <-time.After(time.Minute):
		r.t.Fatal("the relay was not ready in a minute")
	}
}

// kill is kill -9.
func (r *relayProcess) kill() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.done
	r.cmd = nil
}

// Device and relay are killed at random moments of a backup and of its restore. In the
// end all is stored, the relay's books are right, and what is restored, on a device that
// has nothing but the phrase, is the same to the last attribute.
func TestKilledDuringBackupAndRestore(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	relay := newRelay(t)
	relay.up()
	a := newDevice(t, "laptop")
	docs := filepath.Join(filepath.Dir(a.dir), "docs")
	src := *a // fills docs as if they were its folder
	src.dir = docs
	must(t, os.MkdirAll(docs, 0o755))
	src.fill(rnd, sized(600, 5000))
	must(t, os.WriteFile(filepath.Join(docs, "big"), bytesOf(rnd, sized(60, 500)<<20), 0o600))
	must(t, os.Symlink("big", filepath.Join(docs, "link")))
	want := src.all()
	account := a.run("init", "--name", a.name, "--dir", a.dir, "--json")
	_, rest, _ := strings.Cut(account, `"recovery_phrase": "`)
	phrase, _, _ := strings.Cut(rest, `"`)
	a.up()
	a.run("relay", "add", relay.run("invite", "--quota", "100GB"))
	a.run("backup", "add", docs)
	kill := func(d *device, most time.Duration) {
		pause(rnd, most)
		if rnd.IntN(2) == 0 {
			d.kill()
			d.up()
		} else {
			relay.kill()
			relay.up()
		}
	}
	for range sized(5, 20) {
		kill(a, 400*time.Millisecond)
	}
	a.run("wait", "--relay", "--timeout", "5m")
	a.kill()
	if out := relay.run("check"); !strings.Contains(out, " 0 broken, 0 missing") {
		t.Errorf("the relay's check: %s", out)
	}

	b := newDevice(t, "new")
	c := b.command(t.Context(), "recover", "--name", "new", "--dir", b.dir, "--relay", strings.Fields(relay.run("address"))[0])
	c.Stdin = strings.NewReader(phrase + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("recover: %v\n%s", err, out)
	}
	b.up()
	to := filepath.Join(filepath.Dir(b.dir), "restored")
	for range sized(4, 20) {
		c := b.command(t.Context(), "restore", "/Backups/laptop/docs", "--to", to)
		must(t, c.Start())
		kill(b, 300*time.Millisecond)
		_ = c.Wait() // whatever it came to
	}
	// The device may still be on its way to the relay.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(2 * time.Minute); ; {
		out, err := b.try("restore", "/Backups/laptop/docs", "--to", to)
		if err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("restore: %v: %s", err, out)
		}
	}
	got := *b
	got.dir = to
	got.holds(want)
	if left, _ := filepath.Glob(filepath.Join(to, ".sheaf-restore-*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
