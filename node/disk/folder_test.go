//go:build linux

package disk_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sheaf/node/disk"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
)

func remedy(t *testing.T, err, want error) {
	t.Helper()
	is(t, err, want)
	var r *disk.RootError
	if !errors.As(err, &r) || r.Remedy == "" {
		t.Fatalf("no remedy in %v", err)
	}
}

func TestInitAndOpen(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	if s := f.stat(".sheaf"); s.Mode != 0o700 {
		t.Errorf(".sheaf has mode %o", s.Mode)
	}
	before := f.get(".sheaf/folder")
	remedy(t, disk.Init(f.fs, folderID), disk.ErrLocked) // while it is served
	ok(t, f.Close())
	ok(t, disk.Init(f.fs, folderID)) // again: as it was
	f.want(".sheaf/folder", before)
	remedy(t, disk.Init(f.fs, [16]byte{7}), disk.ErrMarked)
	f.want(".sheaf/folder", before)
	_, err := disk.Open(f.fs, [16]byte{7}, disk.Options{})
	remedy(t, err, disk.ErrWrongMarker)
	d, err := disk.Open(f.fs, folderID, disk.Options{Mark: f.Mark()})
	ok(t, err)
	f.Folder = d
	ok(t, f.Check())
	ok(t, os.WriteFile(f.path(".sheaf/folder"), []byte("sheaf folder 9\n"), 0o600))
	remedy(t, f.Check(), disk.ErrNoMarker)
	remedy(t, disk.Init(f.fs, folderID), disk.ErrMarked)
}

// S1: the disk is not there; an empty directory is.
func TestS1_Unmounted(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "mnt")
	ok(t, os.Mkdir(root, 0o755))
	f := folderAt(t, root, disk.Options{Floor: -1})
	f.put("a", "x")
	ok(t, f.Check())
	ok(t, os.Rename(root, root+".away"))
	remedy(t, f.Check(), disk.ErrRootGone)
	ok(t, os.Mkdir(root, 0o755)) // the empty mount point
	remedy(t, f.Check(), disk.ErrRootGone)
	is(t, f.install(disk.Install{Path: "b", Data: []byte("x")}).Err, disk.ErrRootGone)
	f.absent("b")
	// S3, S37: opening there finds no marker, and makes none.
	other, err := disk.NewOS(root)
	ok(t, err)
	defer func() { ok(t, other.Close()) }()
	_, err = disk.Open(other, folderID, disk.Options{})
	remedy(t, err, disk.ErrNoMarker)
	if list, err := os.ReadDir(root); err != nil || len(list) > 0 {
		t.Fatal(list, err)
	}
}

// S2: a marker that was made anew in an emptied folder is not the old one.
func TestS2_MarkerMadeAnew(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("a", "x")
	mark := f.Mark()
	ok(t, os.RemoveAll(f.path(".sheaf")))
	remedy(t, f.Check(), disk.ErrNoMarker)
	ok(t, disk.Init(f.fs, folderID))
	remedy(t, f.Check(), disk.ErrWrongMarker)
	_, err := disk.Open(f.fs, folderID, disk.Options{Mark: mark})
	remedy(t, err, disk.ErrWrongMarker)
}

func TestListing(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	long255 := strings.Repeat("ü", 127) + "x"
	for _, p := range []string{"b", "a", long255, "Ä", "back\\slash", "sp ace", "dir/in", ".DS_Store", "x.crdownload", ".sheafignore"} {
		f.put(p, p)
	}
	for _, bad := range []string{"new\nline", "del\x7f", "c1\u0085", "not\xffutf8"} {
		ok(t, os.WriteFile(filepath.Join(f.root, bad), nil, 0o644))
	}
	ok(t, os.WriteFile(f.path(".SHEAF"), nil, 0o644))
	ok(t, os.WriteFile(f.path(".she\u200caf"), nil, 0o644))
	ok(t, os.Symlink("/nowhere", f.path("link")))
	ok(t, syscall.Mkfifo(f.path("fifo"), 0o644))
	l, err := f.List(context.Background(), ".")
	ok(t, err)
	want := strings.Join([]string{".sheafignore", "a", "b", "back\\slash", "dir", "link", "sp ace", "Ä", long255}, " ")
	if names(l) != want {
		t.Errorf("items %q\nwant  %q", names(l), want)
	}
	sk := skipped(l)
	for name, reason := range map[string]string{
		"new\nline": "control character", "del\x7f": "control", "c1\u0085": "control", "not\xffutf8": "UTF-8",
		".SHEAF": "own directory", ".she\u200caf": "own directory", "fifo": "special", ".DS_Store": "default rule", "x.crdownload": "default rule",
	} {
		if !strings.Contains(sk[name], reason) {
			t.Errorf("%q skipped as %q, want %q", name, sk[name], reason)
		}
	}
	if len(sk) != 9 {
		t.Errorf("skipped %q", sk)
	}
	for _, it := range l.Items {
		if it.Stat != f.stat(it.Name) {
			t.Errorf("%s: %v, lstat says %v", it.Name, it.Stat, f.stat(it.Name))
		}
	}
	// Look says the same of the same names.
	all := []string{"gone", ".sheaf"}
	for _, it := range l.Items {
		all = append(all, it.Name)
	}
	for n := range sk {
		all = append(all, n)
	}
	got, err := f.Look(context.Background(), ".", all)
	ok(t, err)
	if len(got.Items) != len(l.Items)+1 || len(got.Skipped) != len(l.Skipped) {
		t.Fatalf("look: %v %v", names(got), got.Skipped)
	}
	for _, it := range got.Items {
		if (it.Name == "gone") != (it.Stat.Kind == stat.None) {
			t.Errorf("%s: %v", it.Name, it.Stat)
		}
	}
	_, err = f.Look(context.Background(), "nodir", []string{"a"})
	if err == nil {
		t.Error("names of a directory that is gone were looked up")
	}
	_, err = f.Look(context.Background(), "a", []string{"a"})
	is(t, err, disk.ErrNotDirectory)
	_, err = f.List(context.Background(), ".sheaf")
	is(t, err, disk.ErrName)
	// A name of 255 bytes goes all the way round.
	r := f.install(disk.Install{Path: "dir/" + long255, Data: []byte("x")})
	ok(t, r.Err)
	id, err := f.Discard("dir/"+long255, r.Stat, disk.Bucket{})
	ok(t, err)
	_, err = f.RestoreTrash(id, "")
	ok(t, err)
	f.want("dir/"+long255, "x")
}

// S26 and the delete gate: what cannot be read is never empty or absent.
func TestS26_Unreadable(t *testing.T) {
	t.Parallel()
	if asNobody(t) {
		return
	}
	f := newFolder(t)
	f.put("shut/in", "x")
	f.put("file", "x")
	unreadable(t, f)
}

// asNobody runs a test of permissions, of which root knows none, again as nobody,
// and tells whether it has.
func asNobody(t *testing.T) bool {
	t.Helper()
	if os.Getuid() != 0 {
		return false
	}
	if os.Getenv("SHEAF_DISK_CHILD") != "" {
		t.Fatal("still root")
	}
	exe := filepath.Join(mustTemp(t), "disk.test")
	data, err := os.ReadFile("/proc/self/exe")
	ok(t, err)
	ok(t, os.WriteFile(exe, data, 0o755))
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$", "-test.v")
	tmp := filepath.Join(filepath.Dir(exe), "tmp")
	ok(t, os.Mkdir(tmp, 0o777))
	ok(t, os.Chmod(tmp, 0o777))
	cmd.Dir = tmp
	cmd.Env = []string{"TMPDIR=" + tmp, "SHEAF_DISK_CHILD=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: "+t.Name()) {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}
	return true
}

// mustTemp is a directory that others may enter.
func mustTemp(t *testing.T) string {
	dir, err := os.MkdirTemp("", "disk")
	ok(t, err)
	ok(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	return dir
}

func unreadable(t *testing.T, f *folder) {
	ctx := context.Background()
	ok(t, os.Chmod(f.path("shut"), 0))
	ok(t, os.Chmod(f.path("file"), 0))
	defer func() { ok(t, os.Chmod(f.path("shut"), 0o755)) }()
	_, err := f.List(ctx, "shut")
	is(t, err, os.ErrPermission)
	ok(t, os.Chmod(f.path("shut"), 0o444)) // names, but no looking at them
	l, err := f.List(ctx, "shut")
	ok(t, err)
	if len(l.Items) != 0 || !strings.Contains(skipped(l)["in"], "permission") {
		t.Fatalf("%v", l)
	}
	l, err = f.Look(ctx, "shut", []string{"in"})
	ok(t, err)
	if len(l.Items) != 0 || !strings.Contains(skipped(l)["in"], "permission") {
		t.Fatalf("%v", l)
	}
	_, err = f.Hash(ctx, "file", f.stat("file"), chunker(t))
	is(t, err, os.ErrPermission)
	// A file without any permission can be installed, synced and replaced.
	r := f.Commit(ctx, []disk.Install{{Path: "blind", Data: []byte("x")}})[0]
	ok(t, r.Err)
	r = f.Commit(ctx, []disk.Install{{Path: "blind", Data: []byte("y"), Mode: 0o644, Expect: r.Stat}})[0]
	ok(t, r.Err)
	f.want("blind", "y")
	// In a directory that cannot be written nothing is half done.
	ok(t, os.Mkdir(f.path("fixed"), 0o755))
	f.put("fixed/a", "mine")
	seen := f.stat("fixed/a")
	ok(t, os.Chmod(f.path("fixed"), 0o555))
	defer func() { ok(t, os.Chmod(f.path("fixed"), 0o755)) }()
	r = f.Commit(ctx, []disk.Install{{Path: "fixed/a", Data: []byte("y"), Expect: seen}})[0]
	is(t, r.Err, os.ErrPermission)
	_, err = f.Discard("fixed/a", seen, disk.Bucket{})
	is(t, err, os.ErrPermission)
	f.want("fixed/a", "mine")
	f.clean()
}

// No path leads outside or into a neighbour, whatever becomes a link.
func TestLinksLeadNowhere(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	outside := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o644))
	f.put("inside/secret", "neighbour")
	f.put("inside/sub/secret", "deeper")
	ok(t, os.Mkdir(filepath.Join(outside, "sub"), 0o755))
	for _, target := range []string{outside, "inside", f.path("inside")} {
		ok(t, os.RemoveAll(f.path("d")))
		ok(t, os.Symlink(target, f.path("d")))
		ctx := context.Background()
		s, err := f.fs.Lstat("inside/secret")
		ok(t, err)
		is(t, f.install(disk.Install{Path: "d/new", Data: []byte("x")}).Err, disk.ErrNotDirectory)
		is(t, f.install(disk.Install{Path: "d/sub/new", Data: []byte("x")}).Err, disk.ErrNotDirectory)
		_, err = f.Rename("inside/secret", "d/sub/secret2", s)
		is(t, err, disk.ErrNotDirectory)
		is(t, f.install(disk.Install{Path: "d/secret", Data: []byte("x"), Expect: s}).Err, disk.ErrChanged)
		_, err = f.List(ctx, "d")
		is(t, err, disk.ErrNotDirectory)
		_, err = f.Look(ctx, "d", []string{"secret"})
		is(t, err, disk.ErrNotDirectory)
		_, err = f.Hash(ctx, "d/secret", s, chunker(t))
		is(t, err, disk.ErrNotDirectory)
		is(t, f.ReadBlock("d/secret", s, 0, make([]byte, 1)), disk.ErrNotDirectory)
		_, err = f.Discard("d/secret", s, disk.Bucket{})
		is(t, err, disk.ErrChanged)
		_, err = f.Rename("d/secret", "stolen", s)
		is(t, err, disk.ErrChanged)
		_, err = f.MakeDir("d/x", 0o755)
		is(t, err, disk.ErrNotDirectory)
		_, err = f.MakeLink("x", "d/x", 0)
		is(t, err, disk.ErrNotDirectory)
		is(t, f.RemoveDir("d/x"), disk.ErrNotDirectory)
		mode := uint32(0o777)
		_, err = f.SetAttrs("d", f.stat("d"), &mode, nil)
		is(t, err, disk.ErrUnsupported)
		if err := f.fs.Chmod("d", 0o777); err == nil {
			t.Error("chmod of a link")
		}
	}
	for _, dir := range []string{outside, f.path("inside")} {
		list, err := os.ReadDir(dir)
		ok(t, err)
		if len(list) != 2 {
			t.Errorf("%s holds %v", dir, list)
		}
	}
	f.want("inside/secret", "neighbour")
	// Files as links, leaf of reads and writes.
	ok(t, os.Symlink(filepath.Join(outside, "secret"), f.path("leaf")))
	_, err := f.fs.Open("leaf")
	is(t, err, disk.ErrNotFile)
	_, err = f.fs.OpenWrite("leaf")
	is(t, err, disk.ErrNotFile)
	_, err = f.fs.Create("leaf", 0o644)
	is(t, err, os.ErrExist)
}

// X27: while files are installed below a directory, it keeps being swapped for
// a link to the outside and to a neighbour. Nothing ever arrives there.
func TestParentSwappedForLink(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	outside := t.TempDir()
	f.put("inside/keep", "x")
	ok(t, os.MkdirAll(f.path("d"), 0o755))
	ok(t, os.Symlink(outside, f.path("l1")))
	ok(t, os.Symlink("inside", f.path("l2")))
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			link := []string{"l1", "l2"}[i%2]
			if f.fs.Exchange("d", link) == nil {
				_ = f.fs.Exchange("d", link)
			}
		}
	}()
	placed, refused := 0, 0
	for i := range 400 {
		r := f.install(disk.Install{Path: "d/f" + string(rune('a'+i%26)), Data: []byte("theirs"), Expect: stat.Stat{}})
		if r.Err == nil {
			placed++
			_, _ = f.Discard("d/f"+string(rune('a'+i%26)), r.Stat, disk.Bucket{})
		} else {
			refused++
		}
	}
	close(stop)
	<-done
	t.Logf("%d placed, %d refused", placed, refused)
	if list, err := os.ReadDir(outside); err != nil || len(list) > 0 {
		t.Fatalf("outside: %v %v", list, err)
	}
	if list, err := os.ReadDir(f.path("inside")); err != nil || len(list) != 1 {
		t.Fatalf("neighbour: %v %v", list, err)
	}
}

// hostile are names that members have tried elsewhere.
var hostile = []string{
	"", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/", "a/.", "a/./b", "\x00", "a\x00b", "a\nb", "\xff\xfe",
	".sheaf", ".sheaf/folder", ".Sheaf/tmp/x", ".SHEAF", ".she\u200caf/x", ".\u200dsheaf", ".sheaf\ufeff/x", strings.Repeat("a", 256), "d/" + strings.Repeat("ü", 128),
	strings.Repeat("a/", 300) + "\x01", "\x1b[2J", "a\u0085", "\xed\xa0\xbd",
}

func TestHostilePaths(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s := stat.Stat{Kind: stat.File}
	for _, p := range hostile {
		errs := []error{f.install(disk.Install{Path: p, Data: []byte("x")}).Err}
		_, err := f.MakeDir(p, 0o755)
		errs = append(errs, err)
		_, err = f.MakeLink("t", p, 0)
		errs = append(errs, err)
		_, err = f.Rename(p, "ok", s)
		errs = append(errs, err)
		_, err = f.Rename("ok", p, s)
		errs = append(errs, err)
		_, err = f.Discard(p, s, disk.Bucket{})
		errs = append(errs, err)
		_, err = f.Discard("x", s, disk.Bucket{ID: p})
		errs = append(errs, err)
		_, err = f.Stage(p, "k", s)
		errs = append(errs, err)
		_, err = f.Unstage("k", p, s)
		errs = append(errs, err, f.RemoveDir(p), f.ReadBlock(p, s, 0, nil))
		_, err = f.List(context.Background(), p)
		errs = append(errs, err)
		for i, err := range errs {
			if err == nil {
				t.Errorf("%q: operation %d was done", p, i)
			}
		}
		if _, err = f.Temp(p, 1); err == nil {
			t.Errorf("%q as a key", p)
		}
		if _, err := f.RestoreTrash(p, "x"); err == nil {
			t.Errorf("%q as a trash item", p)
		}
		if _, err := f.RestoreTrash("b/"+p, "x"); err == nil {
			t.Errorf("b/%q as a trash item", p)
		}
		is(t, f.EmptyTrash(p), disk.ErrName)
	}
	l, err := f.List(context.Background(), ".")
	ok(t, err)
	if len(l.Items) != 0 {
		t.Errorf("%v", l.Items)
	}
}

// Any string at all is either refused or names exactly one file below the root.
func TestAnyPath(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-c./\\ ~]{1,12}`), rapid.SampledFrom(hostile)).Draw(rt, "path")
		if i := strings.LastIndexByte(p, '/'); i > 0 {
			_ = os.MkdirAll(filepath.Join(f.root, "made"), 0o755)
		}
		r := f.Commit(context.Background(), []disk.Install{{Path: p, Data: []byte("x"), Mode: 0o644}})[0]
		if r.Err != nil {
			return
		}
		if s := f.stat(p); s != r.Stat {
			rt.Fatalf("%q: %v is not %v", p, s, r.Stat)
		}
		if got, err := filepath.Rel(f.root, filepath.Join(f.root, p)); err != nil || got != p {
			rt.Fatalf("%q led to %q", p, got)
		}
		ok(t, os.Remove(f.path(p)))
	})
}

// A path of many long names is beyond what the system takes in one piece.
func TestLongPath(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	p := strings.Repeat("n", 255)
	_, err := f.MakeDir(p, 0o755)
	ok(t, err)
	for range 40 {
		p += "/" + strings.Repeat("n", 255)
		_, err := f.MakeDir(p, 0o755)
		ok(t, err)
	}
	ok(t, f.Barrier())
	r := f.install(disk.Install{Path: p + "/file", Data: []byte("x")})
	ok(t, r.Err)
	id, err := f.Discard(p+"/file", r.Stat, disk.Bucket{})
	ok(t, err)
	_, err = f.RestoreTrash(id, "")
	ok(t, err)
	l, err := f.List(context.Background(), p)
	ok(t, err)
	if names(l) != "file" {
		t.Fatal(names(l))
	}
}

// S13: a rename of case alone is one rename here and loses nothing.
func TestS13_CaseRename(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("readme", "x")
	s, err := f.Rename("readme", "README", f.stat("readme"))
	ok(t, err)
	f.want("README", "x")
	f.absent("readme")
	// Two files that differ by case are two files on this disk.
	f.put("readme", "other")
	_, err = f.Rename("README", "readme", s)
	is(t, err, os.ErrExist)
	f.want("README", "x")
	f.want("readme", "other")
	// Hard links of one file under both names are not a folding disk.
	ok(t, os.Link(f.path("README"), f.path("ReadMe")))
	_, err = f.Rename("README", "ReadMe", f.stat("README"))
	is(t, err, os.ErrExist)
}

// On a disk that folds case.
func TestS13_CaseRenameOnFoldingDisk(t *testing.T) {
	t.Parallel()
	fs := simdisk.New(simdisk.Options{FoldCase: true}).Open()
	ok(t, disk.Init(fs, folderID))
	ok(t, fs.Mkdir("readme", 0o755))
	d, err := disk.Open(fs, folderID, disk.Options{Floor: -1})
	ok(t, err)
	was, err := fs.Lstat("readme")
	ok(t, err)
	_, err = d.Rename("readme", "README", was)
	ok(t, err)
	l, err := d.List(t.Context(), ".")
	ok(t, err)
	if names(l) != "README" {
		t.Fatal(names(l))
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	s, err := f.MakeDir("d", 0o755)
	ok(t, err)
	if s.Kind != stat.Directory {
		t.Fatal(s)
	}
	f.put("d/x/y", "x")
	is(t, f.RemoveDir("d"), disk.ErrNotEmpty)
	s, err = f.Rename("d", "e", s) // its mtime has moved meanwhile
	ok(t, err)
	f.want("e/x/y", "x")
	// Another directory of the same name is not that directory.
	ok(t, os.RemoveAll(f.path("e")))
	ok(t, os.Mkdir(f.path("e"), 0o755))
	_, err = f.Rename("e", "g", s)
	is(t, err, disk.ErrChanged)
	_, err = f.Discard("e", f.stat("e"), disk.Bucket{})
	is(t, err, disk.ErrNotFile)
	if f.install(disk.Install{Path: "e", Expect: f.stat("e")}).Err == nil {
		t.Fatal("a directory was replaced by a file")
	}
	f.put("file", "x")
	is(t, f.RemoveDir("file"), disk.ErrNotDirectory)
	f.want("file", "x")
	ok(t, f.RemoveDir("e"))
	f.absent("e")
	is(t, f.RemoveDir("e"), os.ErrNotExist)
	ok(t, f.Barrier())
}

func TestStage(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("a", "A")
	f.put("b", "B")
	f.put("dir/c", "C")
	// a <-> b by a stage.
	staged, err := f.Stage("a", "k1", f.stat("a"))
	ok(t, err)
	_, err = f.Rename("b", "a", f.stat("b"))
	ok(t, err)
	_, err = f.Unstage("k1", "a", staged)
	is(t, err, os.ErrExist)
	s, err := f.Unstage("k1", "b", staged)
	ok(t, err)
	if s != f.stat("b") {
		t.Fatal(s)
	}
	_, err = f.Unstage("k1", "c", staged)
	is(t, err, disk.ErrLeft)
	f.want("a", "B")
	f.want("b", "A")
	f.clean()
	// Staged when everything stopped: it is found again, whole, with its place.
	_, err = f.Stage("dir", "k2", f.stat("dir"))
	ok(t, err)
	_, err = f.Stage("a", "k2", f.stat("a"))
	is(t, err, os.ErrExist)
	f.want("a", "B")
	f.reopen(disk.Options{Floor: -1})
	items, err := f.Staged()
	ok(t, err)
	if len(items) != 1 || items[0].Key != "k2" || items[0].From != "dir" || items[0].Stat.Kind != stat.Directory {
		t.Fatalf("%+v", items)
	}
	_, err = f.Unstage("k2", items[0].From, items[0].Stat)
	ok(t, err)
	f.want("dir/c", "C")
	f.clean()
	ok(t, f.Barrier())
}

// FIFOs are never opened: each call would hang if one were.
func TestFIFO(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ok(t, syscall.Mkfifo(f.path("p"), 0o644))
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := f.stat("p")
		s.Kind = stat.File
		_, err := f.Hash(context.Background(), "p", s, chunker(t))
		if err == nil {
			t.Error("hashed")
		}
		if f.ReadBlock("p", s, 0, make([]byte, 1)) == nil {
			t.Error("read")
		}
		_, err = f.fs.OpenWrite("p")
		if !errors.Is(err, disk.ErrNotFile) {
			t.Error(err)
		}
		if r := f.install(disk.Install{Path: "p", Data: []byte("x"), Expect: s}); r.Err == nil {
			t.Error("replaced")
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("a FIFO was opened")
	}
}

// A file system mounted inside is not the folder's; unmounted it leaves an
// empty directory that must not be taken for it.
func TestMountInside(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("a", "x")
	ok(t, os.Mkdir(f.path("mnt"), 0o755))
	if err := syscall.Mount("tmpfs", f.path("mnt"), "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			ok(t, syscall.Unmount(f.path("mnt"), 0))
			mounted = false
		}
	}
	defer unmount()
	f.put("mnt/in", "x")
	l, err := f.List(context.Background(), ".")
	ok(t, err)
	if names(l) != "a" || !strings.Contains(skipped(l)["mnt"], "mounted") {
		t.Fatalf("%v %v", names(l), l.Skipped)
	}
	l, err = f.Look(context.Background(), ".", []string{"mnt"})
	ok(t, err)
	if len(l.Items) != 0 {
		t.Fatal(l)
	}
	_, err = f.List(context.Background(), "mnt")
	is(t, err, disk.ErrNotDirectory)
	_, err = f.Look(context.Background(), "mnt", []string{"in"})
	is(t, err, disk.ErrNotDirectory)
	is(t, f.install(disk.Install{Path: "mnt/x", Data: []byte("x")}).Err, disk.ErrNotDirectory)
}
