package simdisk

import (
	"errors"
	"io/fs"
	"slices"
	"testing"

	"sheaf/node/disk"
)

func TestNamesThatFold(t *testing.T) {
	t.Parallel()
	f := New(Options{FoldCase: true, StoreForm: true}).Open()
	put(t, f, "Ren\u00e9", []byte("x"))
	for _, p := range []string{"ren\u00e9", "REN\u00c9", "Rene\u0301"} {
		if _, there := get(t, f, p); !there {
			t.Errorf("%q is not found", p)
		}
		if _, err := f.Create(p, 0o644); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create %q: %v", p, err)
		}
		if err := f.RenameNew("Ren\u00e9", p); !errors.Is(err, fs.ErrExist) {
			t.Errorf("rename to %q: %v", p, err)
		}
	}
	list, err := f.List(".")
	ok(t, err)
	if len(list) != 1 || list[0].Name != "Rene\u0301" {
		t.Errorf("it is kept as %v", list)
	}
	ok(t, f.Rename("Ren\u00e9", "REN\u00c9"))
	if list, err = f.List("."); err != nil || len(list) != 1 || list[0].Name != "RENE\u0301" {
		t.Errorf("renamed by case alone it is %v, %v", list, err)
	}
}

func TestCoarseTimes(t *testing.T) {
	t.Parallel()
	f := New(Options{Grain: 2e9, NoBirth: true}).Open()
	put(t, f, "a", nil)
	ok(t, f.Chtimes("a", -1_500_000_000))
	s, err := f.Lstat("a")
	ok(t, err)
	if s.Modified != -2_000_000_000 || s.Changed%2e9 != 0 || s.Born != 0 {
		t.Errorf("%v", s)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := New(Options{Size: 10_000})
	f := d.Open()
	put(t, f, "a", make([]byte, 6000))
	file, err := f.Create("b", 0o644)
	ok(t, err)
	if _, err := file.WriteAt(make([]byte, 6000), 0); !errors.Is(err, disk.ErrNoSpace) {
		t.Errorf("a full disk takes more: %v", err)
	}
	held, err := f.Open("a")
	ok(t, err)
	ok(t, f.Remove("a"))
	if free, _, err := f.Space(); err != nil || free != 4000 {
		t.Errorf("%d bytes free while the file is open, %v", free, err)
	}
	ok(t, held.Close())
	if free, total, err := f.Space(); err != nil || free != 10_000 || total != 10_000 {
		t.Errorf("%d of %d bytes free, %v", free, total, err)
	}
	_, err = file.WriteAt(make([]byte, 6000), 0)
	ok(t, errors.Join(err, file.Close()))
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	f := New(Options{}).Open()
	ok(t, f.Mkdir("d", 0o700))
	put(t, f, "d/secret", []byte("x"))
	ok(t, f.Chmod("d/secret", 0))
	_, err := f.Open("d/secret")
	errs := []error{err}
	ok(t, f.Chmod("d", 0o500)) // to be looked into, not changed
	_, err = f.Create("d/new", 0o644)
	errs = append(errs, err, f.Remove("d/secret"), f.RenameNew("d/secret", "out"), f.Mkdir("d/sub", 0o755))
	ok(t, f.Chmod("d", 0o300)) // not to be listed
	_, err = f.List("d")
	errs = append(errs, err)
	ok(t, f.Chmod("d", 0o600)) // not to be entered
	_, err = f.Lstat("d/secret")
	errs = append(errs, err)
	for i, err := range errs {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestInodeNumbersAreUsedAgain(t *testing.T) {
	t.Parallel()
	for _, reuse := range []bool{false, true} {
		f := New(Options{ReuseInodes: reuse}).Open()
		put(t, f, "a", nil)
		a, err := f.Lstat("a")
		ok(t, err)
		ok(t, f.Remove("a"))
		put(t, f, "b", nil)
		b, err := f.Lstat("b")
		ok(t, err)
		if (a.Inode == b.Inode) != reuse {
			t.Errorf("reuse %v: numbers %d and %d", reuse, a.Inode, b.Inode)
		}
		if a.SameFile(b) {
			t.Error("two files pass for one")
		}
	}
}

func TestTroubleOnDemand(t *testing.T) {
	t.Parallel()
	d := New(Options{})
	f := d.Open()
	bad := errors.New("a bad sector")
	var ops []string
	d.Before(func(_ int, op, path string) error {
		ops = append(ops, op+" "+path)
		if op == "sync" {
			return bad
		}
		return nil
	})
	put(t, f, "a", []byte("x"))
	if err := f.Sync("a"); !errors.Is(err, bad) {
		t.Error(err)
	}
	if want := []string{"create a", "write a", "close a", "sync a"}; !slices.Equal(ops, want) || d.Calls() != len(want) {
		t.Errorf("calls were %q", ops)
	}
	d.SetGone(true)
	if err := f.Check(); !errors.Is(err, disk.ErrRootGone) {
		t.Error(err)
	}
}
