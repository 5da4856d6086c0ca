package simdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"testing"

	"sheaf/node/disk"
	"sheaf/node/stat"
)

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file and does not sync it.
func put(t *testing.T, f disk.FS, p string, data []byte) {
	t.Helper()
	file, err := f.Create(p, 0o644)
	ok(t, err)
	_, err = file.WriteAt(data, 0)
	ok(t, err)
	ok(t, file.Close())
}

// get gives a file's content; nil, false if there is none.
func get(t *testing.T, f disk.FS, p string) ([]byte, bool) {
	t.Helper()
	file, err := f.Open(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	ok(t, err)
	defer func() { _ = file.Close() }()
	s, err := file.Stat()
	ok(t, err)
	data := make([]byte, s.Size)
	if n, err := file.ReadAt(data, 0); n < len(data) {
		t.Fatal(err)
	}
	return data, true
}

// TestCrashKeepsWhatWasSynced: and may keep the rest, lose it, or tear it; over the
// seeds it does each.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for seed := range uint64(300) {
		d := New(Options{Seed: seed})
		f := d.Open()
		old, fresh := bytes.Repeat([]byte("o"), 3*page), bytes.Repeat([]byte("n"), 4*page)
		ok(t, f.Mkdir("dir", 0o755))
		put(t, f, "dir/kept", old)
		ok(t, f.Sync())
		put(t, f, "named", old)
		ok(t, f.Sync("named", ".")) // its bytes and its name
		put(t, f, "dir/loose", fresh)
		file, err := f.OpenWrite("dir/kept")
		ok(t, err)
		_, err = file.WriteAt(fresh, 0)
		ok(t, err)
		d.Crash()
		if _, err := f.Lstat("."); !errors.Is(err, ErrCrashed) {
			t.Fatalf("seed %d: a dead file system answers: %v", seed, err)
		}
		if err := file.Close(); !errors.Is(err, ErrCrashed) {
			t.Fatalf("seed %d: a dead file answers: %v", seed, err)
		}
		f = d.Open()
		if got, _ := get(t, f, "named"); !bytes.Equal(got, old) {
			t.Fatalf("seed %d: what was synced is lost", seed)
		}
		if _, there := get(t, f, "dir/loose"); there {
			seen["a name kept"]++
		} else {
			seen["a name lost"]++
		}
		got, there := get(t, f, "dir/kept")
		if !there {
			t.Fatalf("seed %d: a synced name is lost", seed)
		}
		switch {
		case bytes.Equal(got, old):
			seen["bytes lost"]++
		case bytes.Equal(got, fresh):
			seen["bytes kept"]++
		default:
			seen["bytes torn"]++
		}
	}
	for _, what := range []string{"a name kept", "a name lost", "bytes lost", "bytes kept", "bytes torn"} {
		if seen[what] < 10 {
			t.Errorf("in 300 crashes: %s %d times", what, seen[what])
		}
	}
}

// TestCrashLeavesATree: after random operations and a crash the names are a tree,
// as they were after some change that is not before the last sync.
func TestCrashLeavesATree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		d := New(Options{Seed: seed, RootReadable: true})
		f := d.Open()
		shown := func() string {
			out := ""
			walk(d.root, ".", func(p string, n *inode) { out += fmt.Sprintln(p, n.number) })
			return out
		}
		states := []string{shown()}
		any := func() string {
			p := names[rnd.IntN(3)]
			for range rnd.IntN(3) {
				p = path.Join(p, names[rnd.IntN(3)])
			}
			return p
		}
		for range 120 {
			p, q := any(), any()
			switch rnd.IntN(6) {
			case 0:
				_ = f.Mkdir(p, 0o755)
			case 1:
				if file, err := f.Create(p, 0o644); err == nil {
					ok(t, file.Close())
				}
			case 2:
				_ = f.RenameNew(p, q)
			case 3:
				_ = f.Exchange(p, q)
			case 4:
				_ = errors.Join(f.Remove(p), f.RemoveDir(p))
			case 5:
				if rnd.IntN(10) == 0 {
					ok(t, f.Sync())
					states = nil
				}
			}
			states = append(states, shown())
		}
		d.Crash()
		if got := shown(); !slices.Contains(states, got) {
			t.Fatalf("seed %d: after the crash there is what never was:\n%s", seed, got)
		}
		walk(d.root, ".", func(p string, n *inode) {
			if n != d.root && n.kind == stat.Directory && !under(n, d.root) {
				t.Errorf("seed %d: %s hangs nowhere", seed, p)
			}
		})
	}
}

// TestSameSeedSameCrash: replay to the byte.
func TestSameSeedSameCrash(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) string {
		d := New(Options{Seed: seed})
		f := d.Open()
		for i := range 20 {
			put(t, f, fmt.Sprint("f", i), bytes.Repeat([]byte{byte(i)}, 10*page))
			if i%7 == 0 {
				ok(t, f.Sync("."))
			}
		}
		d.Crash()
		out := d.String()
		for i := range 20 {
			data, _ := get(t, d.Open(), fmt.Sprint("f", i))
			out += fmt.Sprintf("%x", content7(data))
		}
		return out
	}
	for seed := range uint64(20) {
		if first, again := run(seed), run(seed); first != again {
			t.Fatalf("seed %d gives two results", seed)
		}
	}
	if run(1) == run(2) && run(2) == run(3) {
		t.Error("the seed makes no difference")
	}
}

func content7(data []byte) (sum uint64) {
	for _, c := range data {
		sum = sum*31 + uint64(c)
	}
	return sum
}

// TestCommitCrashedAtEveryCall: node/disk puts files in place. Whatever call of the
// disk a power cut comes at, a path holds the old content or the new, whole; what
// was said to be durable is; and what was replaced is not lost.
func TestCommitCrashedAtEveryCall(t *testing.T) {
	t.Parallel()
	id := [16]byte{1}
	old, fresh := bytes.Repeat([]byte("old "), 3000), bytes.Repeat([]byte("new "), 4000)
	for _, o := range []Options{{}, {NoExchange: true}, {NoExchange: true, NoLinks: true}, {Grain: 2e9, NoBirth: true, ReuseInodes: true}} {
		crashes := 0
		for at := 1; ; at++ {
			ended := true
			for seed := range uint64(6) {
				o.Seed = seed<<16 | uint64(at)
				d := New(o)
				f := d.Open()
				ok(t, disk.Init(f, id))
				put(t, f, "a", old)
				ok(t, f.Mkdir("dir", 0o755))
				ok(t, f.Sync())
				folder, err := disk.Open(f, id, disk.Options{})
				ok(t, err)
				expect, err := f.Lstat("a")
				ok(t, err)
				first := d.Calls()
				crashed := false
				d.Before(func(call int, _, _ string) error {
					if call-first != at {
						return nil
					}
					crashed = true
					d.Crash()
					return ErrCrashed
				})
				results := folder.Commit(context.Background(), []disk.Install{
					{Path: "a", Data: fresh, Mode: 0o644, MTime: 1e18, Expect: expect},
					{Path: "dir/b", Data: fresh, Mode: 0o600, MTime: 1e18},
				})
				if !crashed { // it came to its end before
					d.Crash()
				} else {
					ended = false
					crashes++
				}
				f = d.Open()
				folder, err = disk.Open(f, id, disk.Options{})
				if err != nil {
					t.Fatalf("%+v, call %d: the folder does not open after the crash: %v", o, at, err)
				}
				a, there := get(t, f, "a")
				isOld, isNew := bytes.Equal(a, old), bytes.Equal(a, fresh)
				b, thereB := get(t, f, "dir/b")
				items, err := folder.Trash()
				ok(t, err)
				switch {
				case !there || !isOld && !isNew:
					t.Fatalf("%+v, call %d: a is there: %v, %d bytes\n%s", o, at, there, len(a), d)
				case results[0].Err == nil && !isNew:
					t.Fatalf("%+v, call %d: a was said to be in place", o, at)
				case isNew && !slices.ContainsFunc(items, func(i disk.TrashItem) bool { return i.Size == int64(len(old)) }):
					t.Fatalf("%+v, call %d: what a held is in no trash: %v\n%s", o, at, items, d)
				case thereB && !bytes.Equal(b, fresh):
					t.Fatalf("%+v, call %d: dir/b is half there: %d bytes", o, at, len(b))
				case results[1].Err == nil && !thereB:
					t.Fatalf("%+v, call %d: dir/b was said to be in place", o, at)
				}
			}
			if ended {
				break
			}
		}
		if crashes < 60 {
			t.Errorf("%+v: only %d crashes", o, crashes)
		}
	}
}

// TestLockEndsWithItsHolder: closed, even where the close fails, killed or crashed.
func TestLockEndsWithItsHolder(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(d *Disk, lock disk.File){
		"closed": func(_ *Disk, lock disk.File) { ok(t, lock.Close()) },
		"the close fails": func(d *Disk, lock disk.File) {
			d.Before(func(int, string, string) error { return errors.New("a bad sector") })
			if lock.Close() == nil {
				t.Error("it does not fail")
			}
			d.Before(nil)
		},
		"killed":  func(d *Disk, _ disk.File) { d.Kill() },
		"crashed": func(d *Disk, _ disk.File) { d.Crash() },
	} {
		d := New(Options{})
		lock, err := d.Open().Lock("a")
		ok(t, err)
		for range 2 {
			if _, err := d.Open().Lock("a"); !errors.Is(err, disk.ErrLocked) {
				t.Errorf("%s: before: %v", what, err)
			}
		}
		end(d, lock)
		again, err := d.Open().Lock("a")
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if what == "killed" || what == "crashed" {
			_ = lock.Close() // of the dead: it is no longer its own
			if _, err := d.Open().Lock("a"); !errors.Is(err, disk.ErrLocked) {
				t.Errorf("%s: closed by the dead: %v", what, err)
			}
		}
		ok(t, again.Close())
	}
	if _, err := New(Options{}).User().Lock("a"); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("of a user: %v", err)
	}
}
