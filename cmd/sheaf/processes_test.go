//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A device is one real process with a disk of its own.
type device struct {
	t      *testing.T
	name   string
	home   string
	dir    string
	netns  string // its network namespace; "" is ours
	listen string
	as     func(*exec.Cmd)       // changes how its programs are started: by another user, say; may be nil
	launch func(*exec.Cmd) error // starts its node, where startIn is not enough; may be nil
	cmd    *exec.Cmd
	done   chan struct{}
	log    *bytes.Buffer
}

func newDevice(t *testing.T, name string) *device {
	t.Helper()
	if testing.Short() {
		t.Skip("real processes are for the full run; node/lifecycle_test.go runs two nodes in one process")
	}
	base := filepath.Join(t.TempDir(), name)
	d := &device{t: t, name: name, home: filepath.Join(base, "home"), dir: filepath.Join(base, "disk"), log: new(bytes.Buffer), listen: "/ip4/127.0.0.1/tcp/0"}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, tail(d.log.String(), 4000))
		}
	})
	return d
}

func tail(s string, n int) string {
	if len(s) > n {
		return "... " + s[len(s)-n:]
	}
	return s
}

func realCommand(ctx context.Context, home string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.CommandContext(ctx, exe)
	c.Args = append([]string{realName, "--home", home}, args...)
	return c
}

func (d *device) command(ctx context.Context, args ...string) *exec.Cmd {
	c := realCommand(ctx, d.home, args...)
	if d.as != nil {
		d.as(c)
	}
	return c
}

// run runs a command of the program to its end and gives its answer.
func (d *device) run(args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	if err != nil {
		if strings.Contains(out, "did not answer in time") {
			d.stacks()
		}
		d.t.Fatalf("%s: sheaf %s: %v\n%s", d.name, strings.Join(args, " "), err, out)
	}
	return out
}

// stacks ends a node that does not answer and logs what its goroutines were at.
func (d *device) stacks() {
	if d.cmd == nil {
		return
	}
	before := d.log.Len()
	_ = d.cmd.Process.Signal(syscall.SIGQUIT)
	<-d.done
	d.cmd = nil
	d.t.Logf("goroutines of %s:\n%s", d.name, d.log.Bytes()[before:])
}

func (d *device) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	c := d.command(ctx, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := startIn(d.netns, c)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return out.String() + errs.String(), err
	}
	return out.String(), nil
}

// up starts the node and returns when it serves.
func (d *device) up() {
	d.t.Helper()
	d.cmd = d.command(context.WithoutCancel(d.t.Context()), "up", "--listen", d.listen, "--no-mdns")
	ready := make(chan struct{})
	d.cmd.Stdout = &readyWriter{ready: ready}
	d.cmd.Stderr = d.log
	launch := d.launch
	if launch == nil {
		launch = func(c *exec.Cmd) error { return startIn(d.netns, c) }
	}
	if err := launch(d.cmd); err != nil {
		d.t.Fatal(err)
	}
	d.done = make(chan struct{})
	cmd, done := d.cmd, d.done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-ready:
	case <-d.done:
		d.t.Fatalf("%s ended before it was ready", d.name)
	case <-time.After(time.Minute):
		d.t.Fatalf("%s was not ready in a minute", d.name)
	}
}

// readyWriter notices the line that says so.
type readyWriter struct {
	ready chan struct{}
	seen  bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	if !w.seen && bytes.Contains(p, []byte("ready\n")) {
		w.seen = true
		close(w.ready)
	}
	return len(p), nil
}

// down stops the node in order.
func (d *device) down() {
	d.t.Helper()
	d.run("down")
	<-d.done
	d.cmd = nil
}

// kill is kill -9.
func (d *device) kill() {
	if d.cmd == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	<-d.done
	d.cmd = nil
}

// join makes d one more device of from's account.
func (d *device) join(from *device) {
	d.t.Helper()
	code := strings.TrimSpace(from.run("device", "invite"))
	d.run("join", code, "--name", d.name, "--dir", d.dir, "--yes")
}

// do carries out one operation of a history below dir.
func (d *device) do(dir, op string) {
	d.t.Helper()
	verb, rest, _ := strings.Cut(op, " ")
	first, second, _ := strings.Cut(rest, " ")
	at := func(p string) string { return filepath.Join(d.dir, dir, p) }
	var err error
	switch verb {
	case "write":
		if err = os.MkdirAll(filepath.Dir(at(first)), 0o755); err == nil {
			// Of no two cases the same: what is gone here and comes there with the
			// same content has moved.
			err = os.WriteFile(at(first), []byte(second+" "+dir+"\n"), 0o644)
		}
	case "mkdir":
		err = os.MkdirAll(at(first), 0o755)
	case "mv":
		err = os.Rename(at(first), at(second))
	case "rm":
		if _, err = os.Lstat(at(first)); err == nil {
			err = os.RemoveAll(at(first))
		}
	case "chmod":
		var mode uint32
		if _, err = fmt.Sscanf(first, "%o", &mode); err == nil {
			err = os.Chmod(at(second), fs.FileMode(mode))
		}
	case "touch":
		then := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		err = os.Chtimes(at(first), then, then)
	default:
		err = fmt.Errorf("no operation %q", verb)
	}
	if err != nil {
		d.t.Fatalf("%s: %s: %v", d.name, op, err)
	}
}

// tree gives all that lies below a directory of the folder: for a file its
// content and mode.
func (d *device) tree(dir string) map[string]string {
	d.t.Helper()
	out := make(map[string]string)
	root := filepath.Join(d.dir, dir)
	err := filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		if rel == ".sheaf" {
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			out[rel+"/"] = ""
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[rel] = "-> " + target
			return err
		default:
			data, err := os.ReadFile(p)
			out[rel] = fmt.Sprintf("%s mode %04o", strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), " "+dir), info.Mode().Perm())
			return err
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	return out
}

func show(tree map[string]string) string {
	var lines []string
	for p, c := range tree {
		lines = append(lines, fmt.Sprintf("    %s = %s", p, c))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A history is one case of the table.
type history struct {
	name               string
	start, here, there []string
	end                []ending
	any                bool // whatever it is, the same everywhere, with every content
}

// An ending is a path that must be there in the end, and what it must hold.
type ending struct {
	path *regexp.Regexp
	text string
	want string // "" or "?": anything
}

func readHistories(t *testing.T, file string) []history {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []history
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "== "); ok {
			list = append(list, history{name: name})
			continue
		}
		h := &list[len(list)-1]
		verb, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch verb {
		case "start":
			h.start = append(h.start, rest)
		case "here":
			h.here = append(h.here, rest)
		case "there":
			h.there = append(h.there, rest)
		case "end":
			if rest == "?" {
				h.any = true
				continue
			}
			p, want, _ := strings.Cut(rest, " = ")
			h.end = append(h.end, ending{text: p, path: pattern(p), want: want})
		default:
			t.Fatalf("%s:%d: %q", file, i+1, line)
		}
	}
	return list
}

// pattern reads * as anything in a name and [ab] as one of these letters.
func pattern(p string) *regexp.Regexp {
	q := regexp.QuoteMeta(p)
	q = strings.ReplaceAll(q, `\*`, `[^/]+`)
	q = regexp.MustCompile(`\\\[(\w+)\\\]`).ReplaceAllString(q, `[$1]`)
	return regexp.MustCompile("^" + q + "$")
}

// check holds a tree against what a case must end with.
func (h history) check(t *testing.T, device string, tree map[string]string) {
	t.Helper()
	if h.any {
		h.checkContents(t, device, tree)
		return
	}
	left := make(map[string]string, len(tree))
	for p, c := range tree {
		left[p] = c
	}
	for _, e := range h.end {
		found := ""
		for p, c := range left {
			if e.path.MatchString(p) && (e.want == "" || e.want == "?" || strings.HasPrefix(c+" ", e.want+" ")) {
				found = p
				break
			}
		}
		if found == "" {
			t.Errorf("%q on %s: no %s = %s in\n%s", h.name, device, e.text, e.want, show(tree))
			return
		}
		delete(left, found)
	}
	if len(left) > 0 {
		t.Errorf("%q on %s: there is also\n%s", h.name, device, show(left))
	}
}

// checkContents holds that no content which nobody replaced or removed is lost.
func (h history) checkContents(t *testing.T, device string, tree map[string]string) {
	t.Helper()
	for _, ops := range [][]string{h.here, h.there} {
		for _, op := range ops {
			f := strings.Fields(op)
			if f[0] != "write" {
				continue
			}
			want := strings.Join(f[2:], " ")
			if !slices.ContainsFunc(slices.Collect(mapValues(tree)), func(c string) bool { return strings.HasPrefix(c+" ", want+" ") }) {
				t.Errorf("%q on %s: %q is lost in\n%s", h.name, device, want, show(tree))
			}
		}
	}
	if len(tree) == 0 {
		t.Errorf("%q on %s: nothing is left", h.name, device)
	}
}

func mapValues(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// settle waits until devices are in step and their disks are equal.
func settle(t *testing.T, devices ...*device) {
	t.Helper()
	// Twice around: what comes to the last of a chain on the first round comes
	// back to the first on the second.
	for range 2 {
		for _, d := range devices {
			d.inStep()
		}
	}
	end := time.Now().Add(30 * time.Second)
	for {
		equal := true
		first := show(devices[0].tree("."))
		for _, d := range devices[1:] {
			equal = equal && show(d.tree(".")) == first
		}
		if equal {
			return
		}
		if time.Now().After(end) {
			for _, d := range devices {
				t.Logf("%s:\n%s", d.name, show(d.tree(".")))
			}
			t.Fatal("the disks are not equal after they said to be in step")
		}
		for _, d := range devices {
			d.inStep()
		}
	}
}

// inStep waits until a device says that it is in step.
func (d *device) inStep() {
	d.t.Helper()
	out, err := "", error(nil)
	for range 6 {
		if out, err = d.try("wait", "--timeout", "20s"); err == nil {
			return
		}
	}
	d.t.Fatalf("%s is not in step: %v\n%s\n%s", d.name, err, out, d.run("status"))
}

// connected waits until d is connected to another device.
func (d *device) connected(other *device) {
	d.t.Helper()
	end := time.Now().Add(time.Minute)
	for !regexp.MustCompile(`"name": ?"` + other.name + `",[^}]*"connected": ?true`).MatchString(d.run("status", "--json")) {
		if time.Now().After(end) {
			d.t.Fatalf("%s and %s do not find each other:\n%s", d.name, other.name, d.run("status"))
		}
		time.Sleep(50 * time.Millisecond) // between two questions, not for something to happen
	}
}

func directory(i int) string { return fmt.Sprintf("case-%02d", i) }

func startAll(list []history, d *device) {
	for i, h := range list {
		d.do(directory(i), "mkdir .")
		for _, op := range h.start {
			d.do(directory(i), op)
		}
	}
}

func apart(list []history, here, there *device) {
	for i, h := range list {
		for _, op := range h.here {
			here.do(directory(i), op)
		}
		for _, op := range h.there {
			there.do(directory(i), op)
		}
	}
}

func checkAll(t *testing.T, list []history, devices ...*device) {
	t.Helper()
	for i, h := range list {
		for _, d := range devices {
			h.check(t, d.name, d.tree(directory(i)))
		}
	}
}

// The whole table with one side stopped: its changes are found by the scan at
// its start.
func TestTableOneSideStopped(t *testing.T) {
	t.Parallel()
	list := readHistories(t, "testdata/histories/table.txt")
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	b.up()
	startAll(list, a)
	settle(t, a, b)
	b.down()
	apart(list, a, b)
	a.run("wait", "--timeout", "60s")
	b.up()
	b.connected(a)
	settle(t, a, b)
	checkAll(t, list, a, b)
}

// The whole table with both running and no way between them: they know each
// other only through a third device, which is stopped meanwhile, and then
// forwards what each has.
func TestTableThroughAThird(t *testing.T) {
	t.Parallel()
	list := readHistories(t, "testdata/histories/table.txt")
	a, hub, c := newDevice(t, "laptop"), newDevice(t, "hub"), newDevice(t, "phone")
	hub.run("init", "--name", hub.name, "--dir", hub.dir)
	hub.up()
	a.join(hub)
	c.join(hub)
	a.up()
	c.up()
	startAll(list, a)
	a.connected(hub)
	c.connected(hub)
	settle(t, a, hub, c)
	hub.down()
	apart(list, a, c)
	a.run("wait", "--timeout", "60s")
	c.run("wait", "--timeout", "60s")
	hub.up()
	a.connected(hub)
	c.connected(hub)
	settle(t, a, hub, c)
	checkAll(t, list, a, hub, c)
	for _, peer := range []*device{a, c} {
		if out := peer.run("status"); strings.Contains(out, a.name+"  lan") || strings.Contains(out, c.name+"  lan") {
			t.Errorf("the two were to know only the third:\n%s", out)
		}
	}
}
