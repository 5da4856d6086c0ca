package disk_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sheaf/node/disk"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

func TestMain(m *testing.M) {
	if root := os.Getenv(holdVariable); root != "" {
		if err := hold(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// holdVariable makes this program a node that has the directory it names open.
const holdVariable = "SHEAF_DISK_HOLD"

// hold opens the folder at root until its input ends or it is killed.
func hold(root string) error {
	f, err := disk.NewOS(root)
	if err != nil {
		return err
	}
	d, err := disk.Open(f, folderID, disk.Options{Floor: -1, Holder: "the other process"})
	if err != nil {
		return err
	}
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, d.Close(), f.Close())
}

var folderID = [16]byte{1, 2, 3}

// folder is one under test, with its root for looking from outside.
type folder struct {
	*disk.Folder
	t    testing.TB
	fs   disk.FS
	root string
}

// newFolder makes a folder on the real file system; wrap may put something
// between.
func newFolder(t testing.TB, wrap ...func(disk.FS) disk.FS) *folder {
	t.Helper()
	return folderAt(t, t.TempDir(), disk.Options{Floor: -1}, wrap...)
}

func folderAt(t testing.TB, root string, o disk.Options, wrap ...func(disk.FS) disk.FS) *folder {
	t.Helper()
	f, err := disk.NewOS(root)
	ok(t, err)
	t.Cleanup(func() { ok(t, f.Close()) })
	for _, w := range wrap {
		f = w(f)
	}
	ok(t, disk.Init(f, folderID))
	d, err := disk.Open(f, folderID, o)
	ok(t, err)
	got := &folder{d, t, f, root}
	t.Cleanup(func() { ok(t, got.Close()) })
	return got
}

// reopen is what a node does that starts again.
func (f *folder) reopen(o disk.Options) {
	f.t.Helper()
	ok(f.t, f.Close())
	d, err := disk.Open(f.fs, folderID, o)
	ok(f.t, err)
	f.Folder = d
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func is(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func (f *folder) path(p string) string { return filepath.Join(f.root, filepath.FromSlash(p)) }

// put writes as a program would.
func (f *folder) put(p, content string) {
	f.t.Helper()
	ok(f.t, os.MkdirAll(filepath.Dir(f.path(p)), 0o755))
	ok(f.t, os.WriteFile(f.path(p), []byte(content), 0o644))
}

func (f *folder) get(p string) string {
	f.t.Helper()
	data, err := os.ReadFile(f.path(p))
	ok(f.t, err)
	return string(data)
}

func (f *folder) want(p, content string) {
	f.t.Helper()
	if got := f.get(p); got != content {
		f.t.Fatalf("%s holds %.60q, want %.60q", p, got, content)
	}
}

func (f *folder) absent(p string) {
	f.t.Helper()
	if _, err := os.Lstat(f.path(p)); !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatalf("%s is there (%v)", p, err)
	}
}

func (f *folder) stat(p string) stat.Stat {
	f.t.Helper()
	s, err := f.fs.Lstat(p)
	ok(f.t, err)
	return s
}

// install commits one file and gives its result.
func (f *folder) install(in disk.Install) disk.Result {
	f.t.Helper()
	if in.Mode == 0 {
		in.Mode = 0o644
	}
	return f.Commit(context.Background(), []disk.Install{in})[0]
}

// trashed gives path: content of everything in the trash.
func (f *folder) trashed() map[string]string {
	f.t.Helper()
	items, err := f.Trash()
	ok(f.t, err)
	m := map[string]string{}
	for _, it := range items {
		data, err := os.ReadFile(f.path(".sheaf/trash/" + it.ID))
		ok(f.t, err)
		m[it.Path] += string(data)
	}
	return m
}

// clean checks that no temporary or staged file is left.
func (f *folder) clean() {
	f.t.Helper()
	for _, dir := range []string{"tmp", "stage", "aside"} {
		list, err := os.ReadDir(f.path(".sheaf/" + dir))
		ok(f.t, err)
		if len(list) > 0 {
			f.t.Errorf(".sheaf/%s still holds %v", dir, list)
		}
	}
}

func chunker(t testing.TB) *chunk.Chunker {
	t.Helper()
	c, err := chunk.New([32]byte{9})
	ok(t, err)
	return c
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	ok(t, err)
	return b
}

func names(l disk.Listing) string {
	var s []string
	for _, it := range l.Items {
		s = append(s, it.Name)
	}
	return strings.Join(s, " ")
}

func skipped(l disk.Listing) map[string]string {
	m := map[string]string{}
	for _, s := range l.Skipped {
		m[s.Name] = s.Reason
	}
	return m
}

var long = time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC).UnixNano()
