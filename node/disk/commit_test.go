package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sheaf/node/disk"
	"sheaf/node/stat"
)

// variants are the three ways in which a disk can let us replace a file.
func variants(t *testing.T, test func(t *testing.T, f *folder)) {
	for name, wrap := range map[string]func(disk.FS) disk.FS{
		"exchange": func(f disk.FS) disk.FS { return f },
		"link":     func(f disk.FS) disk.FS { return &limited{FS: f, noExchange: true} },
		"aside":    func(f disk.FS) disk.FS { return &limited{FS: f, noExchange: true, noLink: true} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newFolder(t, wrap))
		})
	}
}

// limited is a disk that lacks what NFS, exFAT or FUSE lack.
type limited struct {
	disk.FS
	noExchange, noLink bool
}

func (l *limited) Exchange(a, b string) error {
	if l.noExchange {
		return disk.ErrUnsupported
	}
	return l.FS.Exchange(a, b)
}

func (l *limited) Link(a, b string) error {
	if l.noLink {
		return disk.ErrUnsupported
	}
	return l.FS.Link(a, b)
}

func TestCommitNewAndReplace(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, f *folder) {
		r := f.install(disk.Install{Path: "a.txt", Data: []byte("one"), Mode: 0o640, MTime: long})
		ok(t, r.Err)
		f.want("a.txt", "one")
		if s := f.stat("a.txt"); s != r.Stat || s.Mode != 0o640 || s.Modified != long || r.Trashed != "" {
			t.Fatalf("stat %v, result %+v", s, r)
		}
		tmp, err := f.Temp("k1", 3)
		ok(t, err)
		_, err = tmp.WriteAt([]byte("two"), 0)
		ok(t, err)
		r = f.install(disk.Install{Path: "a.txt", Temp: tmp, Mode: 0o600, MTime: long + 1, Expect: r.Stat})
		ok(t, r.Err)
		f.want("a.txt", "two")
		if s := f.stat("a.txt"); s != r.Stat || s.Links != 1 {
			t.Fatalf("stat %v, result %+v", s, r)
		}
		if got := f.trashed(); len(got) != 1 || got["a.txt"] != "one" || f.get(".sheaf/trash/"+r.Trashed) != "one" {
			t.Fatalf("trash %v", got)
		}
		// A link replaces a file, a file a link.
		r = f.install(disk.Install{Path: "a.txt", Target: "/etc/passwd", Expect: r.Stat})
		ok(t, r.Err)
		if to, err := os.Readlink(f.path("a.txt")); err != nil || to != "/etc/passwd" || r.Stat.Kind != stat.Symlink {
			t.Fatal(to, err, r.Stat)
		}
		r = f.install(disk.Install{Path: "a.txt", Data: []byte("three"), Expect: r.Stat})
		ok(t, r.Err)
		f.want("a.txt", "three")
		f.clean()
	})
}

// S8: a local change that was not yet recorded is never replaced.
func TestS8_UnseenLocalChangeStays(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, f *folder) {
		f.put("a", "base")
		seen := f.stat("a")
		f.put("a", "mine, newer")
		r := f.install(disk.Install{Path: "a", Data: []byte("theirs"), Expect: seen})
		is(t, r.Err, disk.ErrChanged)
		f.want("a", "mine, newer")
		_, err := f.Discard("a", seen, disk.Bucket{})
		is(t, err, disk.ErrChanged)
		_, err = f.Rename("a", "b", seen)
		is(t, err, disk.ErrChanged)
		mode := uint32(0o600)
		_, err = f.SetAttrs("a", seen, &mode, nil)
		is(t, err, disk.ErrChanged)
		_, err = f.Stage("a", "k", seen)
		is(t, err, disk.ErrChanged)
		f.want("a", "mine, newer")
		// Also one of the same size whose time was put back: the change time
		// tells, as long as nothing has been renamed.
		seen = f.stat("a")
		f.put("a", "mine, older")
		ok(t, os.Chtimes(f.path("a"), time.Time{}, time.Unix(0, seen.Modified)))
		r = f.install(disk.Install{Path: "a", Data: []byte("theirs"), Expect: seen})
		is(t, r.Err, disk.ErrChanged)
		_, err = f.Discard("a", seen, disk.Bucket{})
		is(t, err, disk.ErrChanged)
		f.want("a", "mine, older")
		if len(f.trashed()) != 0 {
			t.Fatal("something is in the trash")
		}
		f.clean()
	})
}

// S9: a file that was created locally under an incoming name stays.
func TestS9_NewLocalFileStays(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("a", "mine")
	tmp, err := f.Temp("k", 6)
	ok(t, err)
	r := f.install(disk.Install{Path: "a", Temp: tmp})
	is(t, r.Err, disk.ErrChanged)
	f.want("a", "mine")
	ok(t, os.Mkdir(f.path("d"), 0o755))
	is(t, f.install(disk.Install{Path: "d", Data: []byte("x")}).Err, disk.ErrChanged)
	_, err = f.MakeLink("x", "a", 0)
	is(t, err, fs.ErrExist)
	_, err = f.MakeDir("a", 0o755)
	is(t, err, fs.ErrExist)
	_, err = f.Rename("d", "a", f.stat("d"))
	is(t, err, fs.ErrExist)
	ok(t, tmp.Discard())
	f.clean()
}

// before runs do just before the named operation, once.
type before struct {
	disk.FS
	mu sync.Mutex
	on string
	do func()
}

func (b *before) hit(op string) {
	b.mu.Lock()
	do := b.do
	if op == b.on {
		b.do = nil
	} else {
		do = nil
	}
	b.mu.Unlock()
	if do != nil {
		do()
	}
}

func (b *before) Exchange(x, y string) error  { b.hit("exchange"); return b.FS.Exchange(x, y) }
func (b *before) RenameNew(x, y string) error { b.hit("rename"); return b.FS.RenameNew(x, y) }
func (b *before) Link(x, y string) error      { b.hit("link"); return b.FS.Link(x, y) }
func (b *before) Sync(p ...string) error      { b.hit("sync"); return b.FS.Sync(p...) }

// A save in the instant between the last look and the exchange is noticed
// afterwards and put back, whether it wrote in place or replaced the file.
func TestSaveBetweenLookAndExchange(t *testing.T) {
	t.Parallel()
	for name, save := range map[string]func(f *folder){
		"in place": func(f *folder) { f.put("a", "mine") },
		"atomic": func(f *folder) {
			f.put("a.tmp", "mine")
			ok(f.t, os.Rename(f.path("a.tmp"), f.path("a")))
		},
		"chmod":  func(f *folder) { f.put("a", "mine"); ok(f.t, os.Chmod(f.path("a"), 0o700)) },
		"shrink": func(f *folder) { f.put("a", "mine") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b *before
			f := newFolder(t, func(f disk.FS) disk.FS { b = &before{FS: f}; return b })
			f.put("a", "base, longer")
			seen := f.stat("a")
			b.on, b.do = "exchange", func() { save(f) }
			tmp, err := f.Temp("k", 6)
			ok(t, err)
			_, err = tmp.WriteAt([]byte("theirs"), 0)
			ok(t, err)
			r := f.install(disk.Install{Path: "a", Temp: tmp, Expect: seen})
			is(t, r.Err, disk.ErrChanged)
			f.want("a", "mine")
			if len(f.trashed()) != 0 {
				t.Fatalf("trash: %v", f.trashed())
			}
			// Looked at again, the same Temp can go in.
			r = f.install(disk.Install{Path: "a", Temp: tmp, Expect: f.stat("a")})
			ok(t, r.Err)
			f.want("a", "theirs")
			if got := f.trashed()["a"]; got != "mine" {
				t.Fatalf("trash: %q", got)
			}
			f.clean()
		})
	}
}

// A save before the exchange and another before the swap back: the newest is
// at the path, the older in the trash, ours nowhere.
func TestTwiceSavedAroundTheExchange(t *testing.T) {
	t.Parallel()
	var b *before
	f := newFolder(t, func(f disk.FS) disk.FS { b = &before{FS: f}; return b })
	save := func(content string) {
		f.put(".save", content)
		ok(t, os.Rename(f.path(".save"), f.path("a")))
	}
	f.put("a", "base")
	seen := f.stat("a")
	b.on = "exchange"
	b.do = func() {
		save("first save")
		b.mu.Lock()
		b.do = func() { save("second save") }
		b.mu.Unlock()
	}
	r := f.install(disk.Install{Path: "a", Data: []byte("theirs"), Expect: seen})
	is(t, r.Err, disk.ErrChanged)
	f.want("a", "second save")
	if got := f.trashed(); len(got) != 1 || got["a"] != "first save" {
		t.Fatalf("trash: %v", got)
	}
	f.clean()
}

// A program that keeps the file open and goes on writing after the exchange
// is noticed at the end of the batch, and has its file back.
func TestWriterThroughTheExchange(t *testing.T) {
	t.Parallel()
	var b *before
	f := newFolder(t, func(f disk.FS) disk.FS { b = &before{FS: f}; return b })
	f.put("a", "base")
	f.put("b", "base")
	open, err := os.OpenFile(f.path("a"), os.O_WRONLY, 0)
	ok(t, err)
	defer func() { _ = open.Close() }()
	in := []disk.Install{
		{Path: "a", Data: []byte("theirs"), Mode: 0o644, Expect: f.stat("a")},
		{Path: "b", Data: []byte("theirs"), Mode: 0o644, Expect: f.stat("b")},
	}
	n := 0
	b.on = "exchange"
	b.do = func() { // the second exchange: the first file is displaced already
		b.mu.Lock()
		defer b.mu.Unlock()
		if n++; n == 1 {
			b.do = func() { _, err := open.WriteAt([]byte("mine, written on"), 0); ok(t, err) }
		}
	}
	r := f.Commit(context.Background(), in)
	is(t, r[0].Err, disk.ErrChanged)
	ok(t, r[1].Err)
	f.want("a", "mine, written on")
	f.want("b", "theirs")
	f.clean()
}

// Many saves against many installs: whatever the order, every content that a
// person wrote is at the path, in the trash, or was replaced by the person.
func TestRacingWriter(t *testing.T) {
	t.Parallel()
	variants(t, func(t *testing.T, f *folder) {
		rounds := 300
		lossy := 0
		for i := range rounds {
			path := fmt.Sprintf("f%d", i)
			f.put(path, "base")
			seen := f.stat(path)
			mine := fmt.Sprintf("mine %d", i)
			start := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				<-start
				for range i % 40 * 5 {
					runtime.Gosched()
				}
				tmp := f.path(".save")
				if os.WriteFile(tmp, []byte(mine), 0o644) != nil || os.Rename(tmp, f.path(path)) != nil {
					t.Error("save failed")
				}
			})
			var r disk.Result
			wg.Go(func() {
				<-start
				r = f.install(disk.Install{Path: path, Data: []byte("theirs"), Expect: seen})
			})
			close(start)
			wg.Wait()
			now, old := f.get(path), f.trashed()[path]
			switch {
			case now == mine: // the person saved last, or we kept off
			case now == "theirs" && strings.Contains(old, mine):
				t.Fatalf("round %d: a save that was not expected was displaced (%v)", i, r.Err)
			case now == "theirs" && r.Err == nil:
				lossy++ // only where the disk cannot exchange
			default:
				t.Fatalf("round %d: path %q, trash %q, err %v", i, now, old, r.Err)
			}
			ids, err := f.Trash()
			ok(t, err)
			for _, it := range ids {
				ok(t, f.EmptyTrash(it.ID))
			}
		}
		if lossy > 0 && !strings.HasSuffix(t.Name(), "/link") {
			t.Fatalf("%d saves lost", lossy)
		}
		t.Logf("%d rounds, %d saves overwritten in the documented instant", rounds, lossy)
	})
}

// recorder writes down the order of what matters for a power cut.
type recorder struct {
	disk.FS
	mu  sync.Mutex
	log []string
}

func (r *recorder) add(f string, a ...any) {
	r.mu.Lock()
	r.log = append(r.log, fmt.Sprintf(f, a...))
	r.mu.Unlock()
}

func (r *recorder) Sync(p ...string) error {
	r.add("sync %s", strings.Join(p, " "))
	return r.FS.Sync(p...)
}
func (r *recorder) RenameNew(a, b string) error {
	r.add("rename %s %s", a, b)
	return r.FS.RenameNew(a, b)
}
func (r *recorder) Exchange(a, b string) error {
	r.add("exchange %s %s", a, b)
	return r.FS.Exchange(a, b)
}
func (r *recorder) Rename(a, b string) error { r.add("rename %s %s", a, b); return r.FS.Rename(a, b) }

// Bytes durable, then names, then names durable: the order that a power cut
// must not find otherwise (B-4, S10, S12).
func TestS10_OrderOfDurability(t *testing.T) {
	t.Parallel()
	var rec *recorder
	f := newFolder(t, func(f disk.FS) disk.FS { rec = &recorder{FS: f}; return rec })
	f.put("dir/old", "base")
	tmp, err := f.Temp("big", 5)
	ok(t, err)
	_, err = tmp.WriteAt([]byte("hello"), 0)
	ok(t, err)
	rec.log = nil
	for _, r := range f.Commit(context.Background(), []disk.Install{
		{Path: "new", Data: []byte("x"), Mode: 0o644},
		{Path: "dir/old", Temp: tmp, Mode: 0o644, Expect: f.stat("dir/old")},
	}) {
		ok(t, r.Err)
	}
	at := func(prefix string, in ...string) int {
		for i, line := range rec.log {
			found := strings.HasPrefix(line, prefix)
			for _, s := range in {
				found = found && strings.Contains(line, s)
			}
			if found {
				return i
			}
		}
		t.Fatalf("no %s %v in\n%s", prefix, in, strings.Join(rec.log, "\n"))
		return -1
	}
	data := at("sync ", ".sheaf/tmp/~", ".sheaf/tmp/big")
	firstName := at("rename ")
	lastName := max(at("exchange "), at("rename ", " new"))
	final := len(rec.log) - 1
	if data > firstName || lastName >= final || !strings.HasPrefix(rec.log[final], "sync ") {
		t.Fatalf("wrong order:\n%s", strings.Join(rec.log, "\n"))
	}
	synced := strings.Fields(rec.log[final])
	for _, dir := range []string{".", "dir", ".sheaf/tmp", ".sheaf/trash"} {
		found := false
		for _, s := range synced {
			found = found || s == dir
		}
		if !found {
			t.Errorf("%s is not synced at the end: %s", dir, rec.log[final])
		}
	}
}

// A Barrier waits for another one that has taken over what it was called for.
func TestBarrierWaitsForAnother(t *testing.T) {
	t.Parallel()
	var b *before
	f := newFolder(t, func(f disk.FS) disk.FS { b = &before{FS: f}; return b })
	_, err := f.MakeDir("d", 0o755)
	ok(t, err)
	entered, release := make(chan struct{}), make(chan struct{})
	var synced atomic.Bool
	b.on, b.do = "sync", func() {
		close(entered)
		<-release
		synced.Store(true)
	}
	var wg sync.WaitGroup
	wg.Go(func() { ok(t, f.Barrier()) })
	<-entered
	wg.Go(func() {
		ok(t, f.Barrier())
		if !synced.Load() {
			t.Error("a Barrier returned before the sync was done")
		}
	})
	for range 1000 {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
}

// failing fails syncs from the n-th on.
type failing struct {
	disk.FS
	mu    sync.Mutex
	after int // -1: never
}

func (s *failing) Sync(p ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.after == 0 {
		return errors.New("I/O error")
	}
	if s.after > 0 {
		s.after--
	}
	return s.FS.Sync(p...)
}

// A failed sync is for good: nothing goes on on that disk, nothing is retried.
func TestFailedSyncStopsTheFolder(t *testing.T) {
	t.Parallel()
	for after := range 2 {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			t.Parallel()
			var s *failing
			f := newFolder(t, func(f disk.FS) disk.FS { s = &failing{FS: f, after: -1}; return s })
			s.after = after
			r := f.install(disk.Install{Path: "a", Data: []byte("x")})
			is(t, r.Err, disk.ErrDiskFailed)
			if after == 0 { // before any name changed
				f.absent("a")
			}
			s.after = -1 // well again, but what was written is not known to be there
			is(t, f.install(disk.Install{Path: "b", Data: []byte("x")}).Err, disk.ErrDiskFailed)
			is(t, f.Check(), disk.ErrDiskFailed)
			is(t, f.Barrier(), disk.ErrDiskFailed)
			_, err := f.MakeDir("d", 0o755)
			is(t, err, disk.ErrDiskFailed)
			_, err = f.Temp("k", 1)
			is(t, err, disk.ErrDiskFailed)
			f.absent("b")
			// Opened again it works.
			f.reopen(disk.Options{Floor: -1})
			ok(t, f.install(disk.Install{Path: "b", Data: []byte("x")}).Err)
			f.clean()
		})
	}
}

// A crash while a file had stepped aside is put right when the folder opens.
func TestAsideAfterCrash(t *testing.T) {
	t.Parallel()
	type crash struct{}
	var b *before
	f := newFolder(t, func(f disk.FS) disk.FS {
		b = &before{FS: &limited{FS: f, noExchange: true, noLink: true}}
		return b
	})
	f.put("dir/a", "base")
	seen := f.stat("dir/a")
	// The rename that would bring the new content in does not happen any more.
	var step func()
	step = func() {
		b.mu.Lock()
		b.do = step
		b.mu.Unlock()
		if _, err := os.Lstat(f.path("dir/a")); err != nil {
			panic(crash{})
		}
	}
	b.on, b.do = "rename", step
	func() {
		defer func() {
			if _, hit := recover().(crash); !hit {
				t.Fatal("no crash")
			}
		}()
		f.install(disk.Install{Path: "dir/a", Data: []byte("theirs"), Expect: seen})
	}()
	f.absent("dir/a")
	b.on = ""
	f.reopen(disk.Options{Floor: -1})
	f.want("dir/a", "base")
	f.clean()
	ok(t, f.install(disk.Install{Path: "dir/a", Data: []byte("theirs"), Expect: f.stat("dir/a")}).Err)
	f.want("dir/a", "theirs")
}

// One bad file does not keep the others.
func TestBatchIsNotOneFate(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("taken", "mine")
	ok(t, os.Mkdir(f.path("shut"), 0o755))
	r := f.Commit(context.Background(), []disk.Install{
		{Path: "a", Data: []byte("1"), Mode: 0o644},
		{Path: "taken", Data: []byte("2"), Mode: 0o644},
		{Path: "nowhere/b", Data: []byte("3"), Mode: 0o644},
		{Path: "../out", Data: []byte("4"), Mode: 0o644},
		{Path: ".SHEAF/folder", Data: []byte("5"), Mode: 0o644},
		{Path: "z", Data: []byte("6"), Mode: 0o644},
	})
	ok(t, r[0].Err)
	is(t, r[1].Err, disk.ErrChanged)
	is(t, r[2].Err, fs.ErrNotExist)
	is(t, r[3].Err, disk.ErrName)
	is(t, r[4].Err, disk.ErrName)
	ok(t, r[5].Err)
	f.want("a", "1")
	f.want("taken", "mine")
	f.want("z", "6")
	f.clean()
}

// Set-ID bits from elsewhere are never set here.
func TestModes(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, mode := range []uint32{0, 0o400, 0o644, 0o755, 0o4755, 0o2777} {
		p := fmt.Sprintf("m%o", mode)
		r := f.Commit(context.Background(), []disk.Install{{Path: p, Data: []byte("x"), Mode: mode}})[0]
		ok(t, r.Err)
		if r.Stat.Mode != mode&0o777 || f.stat(p).Mode != mode&0o777 {
			t.Errorf("mode %o became %o", mode, r.Stat.Mode)
		}
	}
	mode := uint32(0o4711)
	s, err := f.SetAttrs("m644", f.stat("m644"), &mode, &long)
	ok(t, err)
	if s.Mode != 0o711 || s.Modified != long || s != f.stat("m644") {
		t.Fatal(s)
	}
	s, err = f.MakeDir("d", 0o2750)
	ok(t, err)
	if s.Mode&0o777 != 0o750 {
		t.Fatalf("%o", s.Mode)
	}
	for _, when := range []int64{0, -1, -1_500_000_001, 1 << 61, long} { // S23
		r := f.install(disk.Install{Path: fmt.Sprint("t", when), Data: []byte("x"), MTime: when})
		ok(t, r.Err)
		if r.Stat.Modified != when && when < 1<<60 {
			t.Errorf("time %d became %d", when, r.Stat.Modified)
		}
	}
}
