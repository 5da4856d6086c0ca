//go:build linux

package disk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"sheaf/node/disk"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
)

// S22: a program that opens a file again and again while it is replaced again and
// again finds it each time, whole, the old one or a new one.
func TestS22_PathIsNeverAbsent(t *testing.T) {
	t.Parallel()
	f := newFolder(t, func(f disk.FS) disk.FS { return f })
	version := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i%26)}, 10_000) }
	f.put("f", string(version(0)))
	stop := make(chan struct{})
	looks := 0
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			data, err := os.ReadFile(f.path("f"))
			if err != nil {
				t.Error(err)
				return
			}
			if len(data) != 10_000 || bytes.Count(data, data[:1]) != len(data) {
				t.Errorf("%d bytes that begin with %q", len(data), data[:min(len(data), 1)])
				return
			}
			looks++
		}
	})
	for i := range 200 {
		r := f.install(disk.Install{Path: "f", Data: version(i + 1), Expect: f.stat("f")})
		ok(t, r.Err)
	}
	close(stop)
	reader.Wait()
	t.Logf("looked at %d times", looks)
}

// S8: whatever moment a person's program picks to save a file over the one that is
// being replaced, in place or by a rename, nothing that it wrote is destroyed.
func TestSaveAtEveryCallOfACommit(t *testing.T) {
	t.Parallel()
	mine := []byte("saved by a person")
	for name, o := range map[string]simdisk.Options{"exchange": {}, "no exchange": {NoExchange: true}, "neither exchange nor links": {NoExchange: true, NoLinks: true}, "files without numbers": {NoExchange: true, NoNumbers: true}} {
		for how, save := range map[string]func(f disk.FS) error{
			"by a rename": func(f disk.FS) error { return f.Rename("mine", "other") },
			"in place": func(f disk.FS) error {
				file, err := f.OpenWrite("other")
				if err != nil {
					return err // its name is gone for an instant
				}
				if err = file.Truncate(0); err == nil {
					_, err = file.WriteAt(mine, 0)
				}
				return errors.Join(err, file.Close(), f.Remove("mine"))
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				for call := 1; ; call++ {
					sim, f, d := world(t, o)
					user := sim.User()
					file, err := user.Create("mine", 0o644)
					ok(t, err)
					_, err = file.WriteAt(mine, 0)
					ok(t, err)
					ok(t, file.Close())
					seen, err := f.Lstat("other")
					ok(t, err)
					before, done := sim.Calls(), false
					sim.Before(func(n int, _, _ string) error {
						if n == before+call {
							done = true
							_ = save(user)
						}
						return nil
					})
					res := d.Commit(t.Context(), []disk.Install{{Path: "other", Data: newBytes, Mode: 0o644, Expect: seen, Bucket: d.NewBucket("test")}})
					sim.Before(nil)
					all, _ := found(t, f)
					if len(all[string(mine)]) == 0 {
						t.Fatalf("saved before call %d, and gone: %v\n%s", call, res[0].Err, sim)
					}
					if !done {
						return
					}
				}
			})
		}
	}
}

// An act is one operation of a folder, on a disk on which all of world is.
type act struct {
	name string
	do   func(d *disk.Folder, f disk.FS) error
}

var (
	oldBytes, newBytes = bytes.Repeat([]byte("old "), 2000), bytes.Repeat([]byte("new "), 3000)
	otherBytes         = []byte("another")
)

// acts are all that change a disk.
var acts = []act{
	{"replace a file", func(d *disk.Folder, f disk.FS) error {
		s, err := f.Lstat("dir/a")
		if err != nil {
			return err
		}
		return d.Commit(context.Background(), []disk.Install{{Path: "dir/a", Data: newBytes, Mode: 0o600, MTime: 1e18, Expect: s}})[0].Err
	}},
	{"build and install a file", func(d *disk.Folder, _ disk.FS) error {
		tmp, err := d.Temp("key", int64(len(newBytes)))
		if err != nil {
			return err
		}
		if _, err := tmp.WriteAt(newBytes, 0); err != nil {
			return errors.Join(err, tmp.Close())
		}
		if err := d.Commit(context.Background(), []disk.Install{{Path: "dir/new", Temp: tmp, Mode: 0o600, MTime: 1e18}})[0].Err; err != nil {
			return errors.Join(err, tmp.Close())
		}
		return nil
	}},
	{"discard", func(d *disk.Folder, f disk.FS) error {
		s, err := f.Lstat("dir/a")
		if err != nil {
			return err
		}
		_, err = d.Discard("dir/a", s, d.NewBucket("deleted"))
		return errors.Join(err, d.Barrier())
	}},
	{"rename a file", func(d *disk.Folder, f disk.FS) error {
		s, err := f.Lstat("dir/a")
		if err != nil {
			return err
		}
		_, err = d.Rename("dir/a", "moved", s)
		return errors.Join(err, d.Barrier())
	}},
	{"rename a directory", func(d *disk.Folder, f disk.FS) error {
		s, err := f.Lstat("dir")
		if err != nil {
			return err
		}
		_, err = d.Rename("dir", "moved", s)
		return errors.Join(err, d.Barrier())
	}},
	{"swap two by a stage", func(d *disk.Folder, f disk.FS) error {
		a, err := f.Lstat("dir/a")
		if err != nil {
			return err
		}
		b, err := f.Lstat("other")
		if err != nil {
			return err
		}
		if _, err = d.Stage("dir/a", "k", a); err != nil {
			return err
		}
		if _, err = d.Rename("other", "dir/a", b); err != nil {
			return err
		}
		_, err = d.Unstage("k", "other", a)
		return errors.Join(err, d.Barrier())
	}},
	{"restore from the trash", func(d *disk.Folder, _ disk.FS) error {
		items, err := d.Trash()
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return errors.New("no trash")
		}
		_, err = d.RestoreTrash(items[0].ID, "back/again")
		return errors.Join(err, d.Barrier())
	}},
	{"make and remove", func(d *disk.Folder, f disk.FS) error {
		if _, err := d.MakeDir("made", 0o755); err != nil {
			return err
		}
		if _, err := d.MakeLink("dir/a", "link", 1e18); err != nil {
			return err
		}
		s, err := f.Lstat("other")
		if err != nil {
			return err
		}
		mode, mtime := uint32(0o600), int64(5e17)
		if _, err := d.SetAttrs("other", s, &mode, &mtime); err != nil {
			return err
		}
		return errors.Join(d.RemoveDir("made"), d.Barrier())
	}},
}

// world makes a disk with a folder in which there is a bit of everything.
func world(t *testing.T, o simdisk.Options) (*simdisk.Disk, disk.FS, *disk.Folder) {
	t.Helper()
	sim := simdisk.New(o)
	f := sim.Open()
	ok(t, disk.Init(f, folderID))
	ok(t, f.Mkdir("dir", 0o755))
	for p, data := range map[string][]byte{"dir/a": oldBytes, "other": otherBytes, "gone": []byte("trashed before")} {
		file, err := f.Create(p, 0o644)
		ok(t, err)
		_, err = file.WriteAt(data, 0)
		ok(t, err)
		ok(t, file.Close())
	}
	ok(t, f.Sync())
	d, err := disk.Open(f, folderID, disk.Options{Floor: -1})
	ok(t, err)
	s, err := f.Lstat("gone")
	ok(t, err)
	_, err = d.Discard("gone", s, d.NewBucket("before"))
	ok(t, err)
	ok(t, d.Barrier())
	return sim, f, d
}

// found gives every content that a disk holds, with where; tmp are those that lie
// in the folder's own directories of unfinished things.
func found(t *testing.T, f disk.FS) (all map[string][]string, tmp []string) {
	t.Helper()
	all = map[string][]string{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := f.List(dir)
		ok(t, err)
		for _, e := range list {
			p := e.Name
			if dir != "." {
				p = dir + "/" + e.Name
			}
			switch e.Stat.Kind {
			case stat.Directory:
				walk(p)
				continue
			case stat.File:
				file, err := f.Open(p)
				ok(t, err)
				data := make([]byte, e.Stat.Size)
				if n, err := file.ReadAt(data, 0); n < len(data) {
					t.Fatal(err)
				}
				ok(t, file.Close())
				all[string(data)] = append(all[string(data)], p)
			}
			for _, own := range []string{".sheaf/tmp", ".sheaf/stage", ".sheaf/aside"} {
				if dir == own {
					tmp = append(tmp, p)
				}
			}
		}
	}
	walk(".")
	return all, tmp
}

// sound demands what must hold of a disk after any trouble, once the folder has
// been opened again and what was staged has been put back: every content that was
// there is there, under a name or in the trash; and under the names of people there
// are only whole contents.
func sound(t *testing.T, what string, f disk.FS, d *disk.Folder) {
	t.Helper()
	staged, err := d.Staged()
	ok(t, err)
	for _, s := range staged {
		if _, err := d.Unstage(s.Key, s.From, s.Stat); err != nil {
			_, err = d.Unstage(s.Key, s.From+" (moving)", s.Stat)
			ok(t, err)
		}
	}
	temps, err := d.Temps()
	ok(t, err)
	for _, tmp := range temps {
		ok(t, d.DropTemp(tmp.Key))
	}
	all, tmp := found(t, f)
	for _, content := range [][]byte{oldBytes, otherBytes, []byte("trashed before")} {
		if len(all[string(content)]) == 0 {
			t.Fatalf("%s: %.10q is lost", what, content)
		}
	}
	if len(tmp) > 0 {
		t.Fatalf("%s: left behind: %v", what, tmp)
	}
	for content, paths := range all {
		for _, p := range paths {
			whole := slices.ContainsFunc([][]byte{oldBytes, newBytes, otherBytes, []byte("trashed before")}, func(b []byte) bool { return string(b) == content })
			if !whole && p[0] != '.' {
				t.Fatalf("%s: %s holds %d bytes that nobody wrote", what, p, len(content))
			}
		}
	}
}

// Q1: the power fails at every call that every operation makes.
func TestQ1_PowerCutAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, o := range []simdisk.Options{{}, {NoExchange: true}, {NoExchange: true, NoLinks: true, ReuseInodes: true, NoBirth: true, Grain: 2e9}} {
		for _, a := range acts {
			cuts := 0
			for at := 1; ; at++ {
				ended := true
				for seed := range uint64(4) {
					o.Seed = seed<<16 | uint64(at)
					sim, f, d := world(t, o)
					first, cut := sim.Calls(), false
					sim.Before(func(call int, _, _ string) error {
						if call-first != at {
							return nil
						}
						cut = true
						sim.Crash()
						return simdisk.ErrCrashed
					})
					err := a.do(d, f)
					if cut {
						ended = false
						cuts++
					} else {
						ok(t, err)
						sim.Crash()
					}
					f = sim.Open()
					what := fmt.Sprintf("%s, cut at call %d, %+v", a.name, at, o)
					d, err2 := disk.Open(f, folderID, disk.Options{Floor: -1})
					if err2 != nil {
						t.Fatalf("%s: does not open: %v", what, err2)
					}
					if err == nil { // what was said to be done is
						all, _ := found(t, f)
						want := map[string]string{"replace a file": "dir/a", "build and install a file": "dir/new"}[a.name]
						if want != "" && !slices.Contains(all[string(newBytes)], want) {
							t.Fatalf("%s: said to be in place, and is at %v", what, all[string(newBytes)])
						}
					}
					sound(t, what, f, d)
				}
				if ended {
					break
				}
			}
			if cuts < 8 {
				t.Errorf("%s: only %d cuts", a.name, cuts)
			}
		}
	}
}

// Q4: every call that every operation makes fails once, in each way that systems
// know: the disk is full, cannot be read, does not let us, has no descriptor left.
// Nothing is lost or half there, and whoever is told of no error has what he wanted.
func TestQ4_EveryCallFails(t *testing.T) {
	t.Parallel()
	for _, trouble := range []error{disk.ErrNoSpace, syscall.EIO, fs.ErrPermission, syscall.EMFILE} {
		for _, a := range acts {
			failures, reported := 0, 0
			for at := 1; ; at++ {
				sim, f, d := world(t, simdisk.Options{Seed: uint64(at)})
				first, failed, op := sim.Calls(), false, ""
				sim.Before(func(call int, what, path string) error {
					if call-first != at {
						return nil
					}
					failed, op = true, what+" "+path
					return &fs.PathError{Op: what, Path: path, Err: trouble}
				})
				err := a.do(d, f)
				if !failed {
					ok(t, err)
					break
				}
				failures++
				what := fmt.Sprintf("%s, %v at call %d (%s)", a.name, trouble, at, op)
				if err != nil {
					reported++
				}
				sim.Before(nil)
				if err == nil {
					all, _ := found(t, f)
					switch a.name {
					case "replace a file":
						if !slices.Contains(all[string(newBytes)], "dir/a") {
							t.Fatalf("%s: no error, and not in place: %v", what, all[string(newBytes)])
						}
					case "build and install a file":
						if !slices.Contains(all[string(newBytes)], "dir/new") {
							t.Fatalf("%s: no error, and not in place: %v", what, all[string(newBytes)])
						}
					}
				}
				// As the folder does after trouble that may have been the disk's.
				ok(t, d.Close())
				d, err = disk.Open(f, folderID, disk.Options{Floor: -1})
				ok(t, err)
				sound(t, what, f, d)
			}
			t.Logf("%s, %v: %d failures, %d reported", a.name, trouble, failures, reported)
			if failures < 4 || reported == 0 {
				t.Errorf("%s: %d failures, %d reported", a.name, failures, reported)
			}
		}
	}
}
