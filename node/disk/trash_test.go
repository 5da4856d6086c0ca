package disk_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sheaf/node/disk"
)

func TestTrash(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f := folderAt(t, t.TempDir(), disk.Options{Floor: -1, Device: "laptop", Now: func() time.Time { return now }})
	discard := func(p, content string, b disk.Bucket) string {
		t.Helper()
		f.put(p, content)
		id, err := f.Discard(p, f.stat(p), b)
		ok(t, err)
		f.absent(p)
		return id
	}
	b := f.NewBucket("deleted on phone")
	list := []string{
		discard("docs/a.txt", "1", b),
		discard("docs/a.txt", "22", b), // the same path again
		discard("docs/a.txt/deep", "333", b),
	}
	ok(t, os.RemoveAll(f.path("docs")))
	list = append(list, discard("docs", "4444", b)) // a file where directories are
	now = now.Add(24 * time.Hour)
	b2 := f.NewBucket("replaced")
	list = append(list, discard("x", "55555", b2))
	ok(t, os.Symlink("/etc", f.path("l")))
	id, err := f.Discard("l", f.stat("l"), b2)
	ok(t, err)
	list = append(list, id)
	ok(t, f.Barrier())

	items, err := f.Trash()
	ok(t, err)
	var ids []string
	for _, it := range items {
		ids = append(ids, it.ID)
		if it.Device != "laptop" || it.Reason == "" || it.At.IsZero() || !strings.HasPrefix(it.ID, it.Bucket) || !strings.HasSuffix(it.ID, "/"+it.Path) {
			t.Errorf("%+v", it)
		}
		if got := f.stat(".sheaf/trash/" + it.ID); got != it.Stat { // mv can get it
			t.Errorf("%s: %v", it.ID, got)
		}
	}
	slices.Sort(list)
	sorted := slices.Sorted(slices.Values(ids))
	if !slices.Equal(list, sorted) || !items[0].At.Before(items[len(items)-1].At) {
		t.Fatalf("trash %q\nwant %q", ids, list)
	}
	byPath := func(content string) string {
		for _, it := range items {
			if data, err := os.ReadFile(f.path(".sheaf/trash/" + it.ID)); err == nil && string(data) == content {
				return it.ID
			}
		}
		t.Fatalf("no %q in the trash", content)
		return ""
	}
	// Restoring never overwrites.
	f.put("docs/a.txt", "new")
	_, err = f.RestoreTrash(byPath("1"), "docs/a.txt")
	is(t, err, os.ErrExist)
	for i, content := range []string{"1", "22"} {
		p, err := f.RestoreTrash(byPath(content), "")
		ok(t, err)
		if want := []string{"docs/a (restored).txt", "docs/a (restored 2).txt"}[i]; p != want {
			t.Errorf("restored as %q", p)
		}
		f.want(p, content)
	}
	p, err := f.RestoreTrash(byPath("55555"), "made/for/it")
	ok(t, err)
	f.want(p, "55555")
	f.want("docs/a.txt", "new")
	_, err = f.RestoreTrash(byPath("4444"), ".sheaf/x")
	is(t, err, disk.ErrName)
	_, err = f.RestoreTrash(b.ID+"/nothing", "")
	is(t, err, os.ErrNotExist)

	ok(t, f.EmptyTrash())
	if n := len(f.trashedIDs()); n != 3 {
		t.Fatalf("%d left", n)
	}
	ok(t, f.EmptyTrash(byPath("333"), b.ID+"/gone"))
	for _, id := range f.trashedIDs() {
		ok(t, f.EmptyTrash(id))
	}
	left, err := os.ReadDir(f.path(".sheaf/trash"))
	ok(t, err)
	if len(left) > 0 {
		t.Errorf("an empty trash still has %v", left)
	}
}

func (f *folder) trashedIDs() (ids []string) {
	items, err := f.Trash()
	ok(f.t, err)
	for _, it := range items {
		ids = append(ids, it.ID)
	}
	return ids
}

func TestExpireTrash(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	f := folderAt(t, t.TempDir(), disk.Options{Floor: -1, Now: func() time.Time { return now }})
	for i := range 10 { // one a day of 100 bytes
		p := fmt.Sprint("f", i)
		f.put(p, strings.Repeat("x", 100))
		_, err := f.Discard(p, f.stat(p), disk.Bucket{})
		ok(t, err)
		now = now.Add(24 * time.Hour)
	}
	expire := func(age time.Duration, size int64, want int) {
		t.Helper()
		before := len(f.trashedIDs())
		n, bytes, err := f.ExpireTrash(now, age, size)
		ok(t, err)
		ids := f.trashedIDs()
		if len(ids) != want || n != before-want || bytes != int64(n)*100 {
			t.Fatalf("%d left, want %d; %d removed of %d bytes", len(ids), want, n, bytes)
		}
		if want > 0 && !strings.HasSuffix(ids[0], fmt.Sprint("/f", 10-want)) {
			t.Fatalf("the oldest left is %s", ids[0])
		}
	}
	expire(-1, -1, 10)
	expire(8*24*time.Hour, -1, 8)
	expire(30*24*time.Hour, 550, 5)
	expire(-1, 500, 5)
	expire(2*24*time.Hour, 0, 0)
	// A trash that a person has been at: foreign things are left alone.
	ok(t, os.MkdirAll(f.path(".sheaf/trash/my own/dir"), 0o755))
	ok(t, os.WriteFile(f.path(".sheaf/trash/note.txt"), nil, 0o644))
	expire(0, 0, 0)
	if s := f.stat(".sheaf/trash/my own/dir"); s.Kind == 0 {
		t.Error("gone")
	}
}
