package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var then = time.Date(2026, 3, 4, 5, 6, 7, 891_000_000, time.UTC)

// fileOf makes a file of blocks, and what gives them.
func fileOf(p string, blocks ...string) (File, Source) {
	f := File{Path: p, Mode: 0o640, MTime: then}
	for _, b := range blocks {
		f.Blocks = append(f.Blocks, sha256.Sum256([]byte(b)))
		f.Sizes = append(f.Sizes, len(b))
		f.Size += int64(len(b))
	}
	return f, func(from int, write func([]byte) error) error {
		for _, b := range blocks[from:] {
			if err := write([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	}
}

func writer(t *testing.T, place string) *Writer {
	t.Helper()
	w, err := New(place)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *Writer) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(w.Finish(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

// listing gives all that is below a directory.
func listing(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir():
			out = append(out, rel+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out = append(out, rel+" -> "+target)
			return err
		default:
			data, err := os.ReadFile(p)
			out = append(out, rel+" "+string(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func expect(t *testing.T, dir string, want ...string) {
	t.Helper()
	got := listing(t, dir)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := filepath.Join(dir, "new", "place")
	for round := range 2 {
		w := writer(t, place)
		made := 0
		for _, p := range []string{".", "sub", "sub/empty"} {
			if err := w.Directory(p, 0o750); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []struct {
			path   string
			blocks []string
		}{{"a", []string{"one", "two"}}, {"sub/nothing", nil}, {"sub/deeper/b", []string{"three"}}} {
			file, source := fileOf(f.path, f.blocks...)
			ok, err := w.File(t.Context(), file, source)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				made++
			}
		}
		ok, err := w.Symlink("sub/link", "../a", then)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			made++
		}
		w.end(t)
		if want := 4 - 4*round; made != want {
			t.Errorf("round %d: %d made, want %d", round, made, want)
		}
		expect(t, place, "a onetwo", "sub/", "sub/nothing ", "sub/deeper/", "sub/deeper/b three", "sub/empty/", "sub/link -> ../a")
	}
	info, err := os.Stat(filepath.Join(place, "a"))
	if err != nil || !info.ModTime().Equal(then) {
		t.Errorf("its time is %v, %v", info.ModTime(), err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if info.Mode() != 0o640 {
		t.Errorf("its mode is %v", info.Mode())
	}
	if info, _ := os.Stat(filepath.Join(place, "sub")); info.Mode().Perm() != 0o750 {
		t.Errorf("the directory's mode is %v", info.Mode())
	}
	if info, _ := os.Lstat(filepath.Join(place, "sub", "link")); !info.ModTime().Equal(then) {
		t.Errorf("the link's time is %v", info.ModTime())
	}
}

// TestNothingIsReplaced: what is there stays, and what is restored stands beside it, once.
func TestNothingIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, data := range map[string]string{"f.txt": "mine", "same": "equal", "link": "no link", "sub": "no directory"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		w := writer(t, dir)
		for p, data := range map[string]string{"f.txt": "theirs", "same": "equal"} {
			file, source := fileOf(p, data)
			if _, err := w.File(t.Context(), file, source); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Symlink("link", "there", then); err != nil {
			t.Fatal(err)
		}
		if err := w.Directory("sub", 0o755); err == nil {
			t.Error("a directory took a file's place")
		}
		file, source := fileOf("sub/x", "data")
		var disk *DiskError
		if _, err := w.File(t.Context(), file, source); !errors.As(err, &disk) {
			t.Errorf("below what is no directory: %v", err)
		}
		w.end(t)
	}
	expect(t, dir, "f.txt mine", "f (restored, of 2026-03-04 050607).txt theirs", "same equal", "link no link",
		"link (restored, of 2026-03-04 050607) -> there", "sub no directory")
}

// TestBrokenOff: a restore that breaks off shows nothing that is not whole, and goes on
// with the block at which it broke.
func TestBrokenOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var blocks []string
	for i := range 5 {
		blocks = append(blocks, strings.Repeat(fmt.Sprint(i), 10))
	}
	file, source := fileOf("f", blocks...)
	oops := errors.New("oops")
	var asked []int
	for stop := range 6 {
		w := writer(t, dir)
		_, err := w.File(t.Context(), file, func(from int, write func([]byte) error) error {
			asked = append(asked, from)
			n := 0
			return source(from, func(b []byte) error {
				if n++; n > 1 {
					return oops
				}
				return write(b)
			})
		})
		if (stop < 4) != errors.Is(err, oops) {
			t.Fatalf("round %d: %v", stop, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "f")); stop < 5 && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("round %d: it is shown: %v", stop, err)
		}
		if stop < 4 {
			_ = w.Close()
			continue
		}
		w.end(t)
		break
	}
	if !slices.Equal(asked, []int{0, 1, 2, 3, 4}) {
		t.Errorf("asked for the blocks from %v on", asked)
	}
	expect(t, dir, "f "+strings.Join(blocks, ""))
}

// TestDamagedLeftOver: what was left by a crash is held against its hashes before it is
// gone on with.
func TestDamagedLeftOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, source := fileOf("f", "first", "second")
	if err := os.WriteFile(filepath.Join(dir, tempName(file)), []byte("firstSEcond and more"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := writer(t, dir)
	if _, err := w.File(t.Context(), file, source); err != nil {
		t.Fatal(err)
	}
	w.end(t)
	expect(t, dir, "f firstsecond")
}

// TestModesAfterBreakingOff: directories have their modes also where the restore that made
// them never came to its end.
func TestModesAfterBreakingOff(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("modes of directories mean little there")
	}
	dir := t.TempDir()
	for round := range 2 {
		w := writer(t, filepath.Join(dir, "place"))
		for p, mode := range map[string]uint32{"shared": 0o755, "closed": 0o550} {
			if err := w.Directory(p, mode); err != nil {
				t.Fatal(err)
			}
		}
		file, source := fileOf("closed/f", "data")
		if _, err := w.File(t.Context(), file, source); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			_ = w.Close() // killed
			continue
		}
		w.end(t)
	}
	for p, want := range map[string]fs.FileMode{"shared": 0o755, "closed": 0o550} {
		if info, err := os.Stat(filepath.Join(dir, "place", p)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s is %v, %v", p, info.Mode().Perm(), err)
		}
	}
	_ = os.Chmod(filepath.Join(dir, "place", "closed"), 0o750)
}

func TestSingleFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := writer(t, filepath.Join(dir, "name"))
	file, source := fileOf(".", "data")
	if made, err := w.File(t.Context(), file, source); err != nil || !made {
		t.Fatal(made, err)
	}
	w.end(t)
	expect(t, dir, "name data")
}

// TestLinksLeadNowhere: a link that is there does not lead what is restored out of the
// place.
func TestLinksLeadNowhere(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "sub")); err != nil {
		t.Skip(err)
	}
	w := writer(t, dir)
	file, source := fileOf("sub/f", "data")
	if _, err := w.File(t.Context(), file, source); err == nil {
		t.Error("it was written through a link")
	}
	w.end(t)
	expect(t, outside)
}

// TestWrongBytes: a source that gives too little, too much or other sizes makes no file.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, _ := fileOf("f", "first", "second")
	for name, source := range map[string]Source{
		"too little": func(_ int, write func([]byte) error) error { return write([]byte("first")) },
		"too much": func(_ int, write func([]byte) error) error {
			return errors.Join(write([]byte("first")), write([]byte("second")), write([]byte("third")))
		},
		"another size": func(_ int, write func([]byte) error) error { return write(bytes.Repeat([]byte("x"), 6)) },
	} {
		w := writer(t, dir)
		if _, err := w.File(context.Background(), file, source); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		_ = os.Remove(filepath.Join(dir, tempName(file)))
		w.end(t)
	}
	expect(t, dir)
}
