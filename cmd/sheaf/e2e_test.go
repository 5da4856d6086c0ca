//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sheaf/node/api"
)

// soaking tells whether the tests run at the sizes that people have, which
// takes minutes: SHEAF_SOAK=1.
func soaking() bool { return os.Getenv("SHEAF_SOAK") != "" }

// sized gives a size for every day, or the one for a soak.
func sized(quick, soak int) int {
	if soaking() {
		return soak
	}
	return quick
}

// patience is how long a thing may take that takes a second on an idle machine.
func patience() time.Duration { return time.Duration(sized(60, 900)) * time.Second }

// seeded gives a source of randomness and logs its seed; SHEAF_SEED sets it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	if s := os.Getenv("SHEAF_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SHEAF_SEED=%d", seed)         // shown when the test fails, or with -v
	return rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // not a secret
}

// until asks again and again until ok says yes.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, patience(), what, ok)
}

// soon is until for what is wrong in itself, but lets the test go on.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience() / 2); !ok(); {
		if time.Now().After(end) {
			t.Errorf("not in %s: %s", patience()/2, what)
			return
		}
		time.Sleep(20 * time.Millisecond) // between two questions, not for something to happen
	}
}

func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not in %s: %s", d, what)
		}
		time.Sleep(20 * time.Millisecond) // between two questions, not for something to happen
	}
}

// first sets a device up as the first of an account and starts it.
func first(t *testing.T, name string) *device {
	t.Helper()
	d := newDevice(t, name)
	d.run("init", "--name", d.name, "--dir", d.dir)
	d.up()
	return d
}

// pair gives two devices of one account, running and connected.
func pair(t *testing.T) (a, b *device) {
	t.Helper()
	a, b = first(t, "laptop"), newDevice(t, "phone")
	b.join(a)
	b.up()
	b.connected(a)
	return a, b
}

// exits runs a command that is to fail, and gives what it says.
func (d *device) exits(status int, args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		d.t.Fatal(err)
	}
	if got != status {
		d.t.Errorf("%s: sheaf %s: exit status %d, want %d\n%s", d.name, strings.Join(args, " "), got, status, out)
	}
	return out
}

// ask runs a command with --json and reads its answer.
func ask[T any](d *device, args ...string) (v T) {
	d.t.Helper()
	out := d.run(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		d.t.Fatalf("sheaf %s --json: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

func (d *device) status() api.Status {
	d.t.Helper()
	return ask[api.Status](d, "status")
}

func (d *device) folder() api.Folder {
	d.t.Helper()
	s := d.status()
	if len(s.Folders) != 1 {
		d.t.Fatalf("%s has %d folders", d.name, len(s.Folders))
	}
	return s.Folders[0]
}

// problem gives what status says of a path of the tree, or of the folder as a
// whole if that is "/Sync".
func (d *device) problem(path string) (p api.Problem, ok bool) {
	d.t.Helper()
	for _, p := range d.folder().Problems {
		if p.Path == path {
			return p, true
		}
	}
	return p, false
}

func (d *device) path(p string) string { return filepath.Join(d.dir, filepath.FromSlash(p)) }

// put writes a file, with the directories it is in.
func (d *device) put(p, content string) {
	d.t.Helper()
	must(d.t, os.MkdirAll(filepath.Dir(d.path(p)), 0o755))
	must(d.t, os.WriteFile(d.path(p), []byte(content), 0o644)) //nolint:gosec // as people's files are
}

// get reads a file, "" if there is none.
func (d *device) get(p string) string {
	data, _ := os.ReadFile(d.path(p))
	return string(data)
}

func (d *device) has(p string) bool {
	_, err := os.Lstat(d.path(p))
	return err == nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// all gives all that is on the disk: of files the hash of their content, mode
// and modification time to the nanosecond.
func (d *device) all() map[string]string {
	d.t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(d.dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(d.dir, p)
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
			out[rel+"/"] = fmt.Sprintf("%04o", info.Mode().Perm())
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out[rel] = "-> " + target
			return err
		case e.Type().IsRegular():
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			h := sha256.New()
			_, err = io.Copy(h, f)
			out[rel] = fmt.Sprintf("%s %04o %d %s", hex.EncodeToString(h.Sum(nil)[:8]), info.Mode().Perm(), info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
			return errors.Join(err, f.Close())
		default:
			out[rel] = e.Type().String()
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	return out
}

// differences tells in words how two trees differ, "" if they do not.
func differences(want, got map[string]string) string {
	var lines []string
	for p, w := range want {
		if g, ok := got[p]; !ok {
			lines = append(lines, fmt.Sprintf("  %q: is missing, should be %s", p, w))
		} else if g != w {
			lines = append(lines, fmt.Sprintf("  %q: is %s, should be %s", p, g, w))
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			lines = append(lines, fmt.Sprintf("  %q: should not be there, is %s", p, g))
		}
	}
	slices.Sort(lines)
	if n := len(lines); n > 20 {
		lines = append(lines[:20], fmt.Sprintf("  and %d more", n-20))
	}
	return strings.Join(lines, "\n")
}

// holds demands that a device's disk shows just this.
func (d *device) holds(want map[string]string) {
	d.t.Helper()
	if diff := differences(want, d.all()); diff != "" {
		d.t.Fatalf("the disk of %s is not as it should be:\n%s", d.name, diff)
	}
}

// alike waits until the devices say that they are in step and their disks are
// equal to the last attribute, and gives what they show.
func alike(t *testing.T, devices ...*device) map[string]string {
	t.Helper()
	return alikeWithin(t, patience(), devices...)
}

func alikeWithin(t *testing.T, most time.Duration, devices ...*device) map[string]string {
	t.Helper()
	said := ""
	for end := time.Now().Add(most); ; {
		ready := true
		for range 2 {
			for _, d := range devices {
				if out, err := d.try("wait", "--timeout", "20s"); err != nil {
					ready, said = false, d.name+": "+out
				}
			}
		}
		want := devices[0].all()
		diff := ""
		for _, d := range devices[1:] {
			if diff == "" {
				if diff = differences(want, d.all()); diff != "" {
					diff = fmt.Sprintf("%s, as against %s:\n%s", d.name, devices[0].name, diff)
				}
			}
		}
		if ready && diff == "" {
			return want
		}
		if time.Now().After(end) {
			for _, d := range devices {
				said += "\n" + d.run("status")
			}
			t.Fatalf("the disks are not equal:\n%s\n%s", diff, said)
		}
	}
}

// untouched demands that nothing went wrong on the way: no conflicts, nothing
// in the trash, nothing left behind.
func untouched(t *testing.T, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		if c := ask[[]api.Conflict](d, "conflicts"); len(c) > 0 {
			t.Errorf("%s has %d conflict copies, such as %s", d.name, len(c), c[0].Path)
		}
		if items := ask[[]api.TrashItem](d, "trash", "list"); len(items) > 0 {
			t.Errorf("%s has %d things in the trash, such as %s", d.name, len(items), items[0].Path)
		}
		clean(t, d)
	}
}

// clean demands that no unfinished content lies about.
func clean(t *testing.T, d *device) {
	t.Helper()
	for _, dir := range []string{"tmp", "stage"} {
		list, err := os.ReadDir(filepath.Join(d.dir, ".sheaf", dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		for _, e := range list {
			t.Errorf("%s: .sheaf/%s still has %s", d.name, dir, e.Name())
		}
	}
}

// trashed counts what lies in a device's trash, by path.
func trashed(d *device) map[string]int {
	d.t.Helper()
	out := make(map[string]int)
	for _, item := range ask[[]api.TrashItem](d, "trash", "list") {
		out[item.Path]++
	}
	return out
}

// received gives the bytes that a device has received since it started.
func (d *device) received() int64 {
	d.t.Helper()
	return d.status().Traffic.ReceivedBytes
}

// bytesOf gives n bytes that do not compress.
func bytesOf(rnd *rand.Rand, n int) []byte {
	var key [32]byte
	for i := range key {
		key[i] = byte(rnd.Uint32())
	}
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data)
	return data
}

// fill makes n small files in some directories, of all kinds of modes and times,
// and gives the size of them all.
func (d *device) fill(rnd *rand.Rand, n int) (bytes int64) {
	d.t.Helper()
	for i := range n {
		p := d.path(fmt.Sprintf("d%02d/e%d/file-%05d", i%37, i%3, i))
		must(d.t, os.MkdirAll(filepath.Dir(p), 0o755))
		data := bytesOf(rnd, rnd.IntN(4000))
		must(d.t, os.WriteFile(p, data, 0o600))
		must(d.t, os.Chmod(p, []fs.FileMode{0o644, 0o600, 0o755, 0o444}[i%4]))
		then := time.Unix(1_500_000_000+rnd.Int64N(100_000_000), rnd.Int64N(1_000_000_000))
		must(d.t, os.Chtimes(p, then, then))
		bytes += int64(len(data))
	}
	return bytes
}

// files counts what is no directory.
func files(tree map[string]string) (n int) {
	for p := range tree {
		if !strings.HasSuffix(p, "/") {
			n++
		}
	}
	return n
}

// below gives what lies in a directory of a tree.
func below(tree map[string]string, dir string) map[string]string {
	out := maps.Clone(tree)
	maps.DeleteFunc(out, func(p, _ string) bool { return !strings.HasPrefix(p, dir+"/") })
	return out
}

// copyTree copies with all attributes.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	var errs bytes.Buffer
	c := exec.CommandContext(t.Context(), "cp", "-a", from+"/.", to)
	c.Stderr = &errs
	if err := c.Run(); err != nil {
		t.Fatalf("cp -a: %v\n%s", err, errs.String())
	}
}
