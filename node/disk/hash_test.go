//go:build linux

package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sheaf/node/disk"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

func TestHash(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	c := chunker(t)
	ctx := context.Background()
	big := random(t, 3<<20)
	for name, data := range map[string][]byte{"empty": nil, "small": []byte("hello"), "big": big} {
		f.put(name, string(data))
		h, err := f.Hash(ctx, name, f.stat(name), c)
		ok(t, err)
		if h.Size != int64(len(data)) || h.List.Size() != h.Size || h.Stat != f.stat(name) || h.Content != h.List.Content() {
			t.Fatalf("%s: %+v", name, h)
		}
		if len(data) < chunk.MinBlock && h.Content != sha256.Sum256(data) {
			t.Errorf("%s: content is not its hash", name)
		}
		var off int64
		for _, b := range h.List {
			buf := make([]byte, b.Size)
			ok(t, f.ReadBlock(name, h.Stat, off, buf))
			if chunk.Sum(buf) != b.Hash {
				t.Fatalf("%s: block at %d", name, off)
			}
			off += int64(b.Size)
		}
		is(t, f.ReadBlock(name, h.Stat, off, make([]byte, 1)), disk.ErrChanging)
	}
	ok(t, os.Symlink("some/where", f.path("link")))
	h, err := f.Hash(ctx, "link", f.stat("link"), c)
	ok(t, err)
	if h.Target != "some/where" || h.Content != sha256.Sum256([]byte("some/where")) || h.Size != 10 {
		t.Fatalf("%+v", h)
	}
	// Not what was expected.
	s := f.stat("small")
	f.put("small", "other")
	_, err = f.Hash(ctx, "small", s, c)
	is(t, err, disk.ErrChanging)
	is(t, f.ReadBlock("small", s, 0, make([]byte, 1)), disk.ErrChanging)
	s = f.stat("link")
	ok(t, os.Remove(f.path("link")))
	ok(t, os.Symlink("else/where", f.path("link")))
	_, err = f.Hash(ctx, "link", s, c)
	is(t, err, disk.ErrChanging)
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	_, err = f.Hash(stopped, "big", f.stat("big"), c)
	is(t, err, context.Canceled)
}

// during calls do at the first read at or after an offset.
type during struct {
	disk.FS
	at int64
	do func()
}

func (d *during) Open(p string) (disk.File, error) {
	f, err := d.FS.Open(p)
	return &duringFile{File: f, d: d}, err
}

type duringFile struct {
	disk.File
	d    *during
	once sync.Once
}

func (f *duringFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= f.d.at && f.d.do != nil {
		f.once.Do(f.d.do)
	}
	return f.File.ReadAt(p[:min(len(p), 64<<10)], off)
}

// S28: a file that grows, shrinks, is rewritten or replaced while it is read
// has no hash.
func TestS28_ChangingWhileHashed(t *testing.T) {
	t.Parallel()
	data := string(random(t, 1<<20))
	for name, do := range map[string]func(f *folder){
		"grows":    func(f *folder) { appendTo(f, "a", "more") },
		"shrinks":  func(f *folder) { ok(f.t, os.Truncate(f.path("a"), 100)) },
		"in place": func(f *folder) { poke(f, "a", 5) },
		"in place, time put back": func(f *folder) {
			s := f.stat("a")
			poke(f, "a", 5)
			ok(f.t, os.Chtimes(f.path("a"), time.Time{}, time.Unix(0, s.Modified)))
		},
		"replaced": func(f *folder) {
			f.put("b", data)
			ok(f.t, os.Rename(f.path("b"), f.path("a")))
		},
		"removed": func(f *folder) { ok(f.t, os.Remove(f.path("a"))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d *during
			f := newFolder(t, func(f disk.FS) disk.FS { d = &during{FS: f, at: 300_000}; return d })
			f.put("a", data)
			d.do = func() { do(f) }
			_, err := f.Hash(context.Background(), "a", f.stat("a"), chunker(t))
			is(t, err, disk.ErrChanging)
		})
	}
}

func appendTo(f *folder, p, s string) {
	file, err := os.OpenFile(f.path(p), os.O_APPEND|os.O_WRONLY, 0)
	ok(f.t, err)
	_, err = file.WriteString(s)
	ok(f.t, err)
	ok(f.t, file.Close())
}

func poke(f *folder, p string, off int64) {
	file, err := os.OpenFile(f.path(p), os.O_WRONLY, 0)
	ok(f.t, err)
	_, err = file.WriteAt([]byte("X"), off)
	ok(f.t, err)
	ok(f.t, file.Close())
}

// A second write within the clock step of the first cannot hide behind the
// stat that was taken between them: what Hash returns is true for as long as
// the stat stays the same.
func TestSameStatMeansSameBytes(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(disk.FS) disk.FS{
		"this disk":    func(f disk.FS) disk.FS { return f },
		"10 ms clock":  func(f disk.FS) disk.FS { return coarse{f, 10e6} },
		"whole second": func(f disk.FS) disk.FS { return coarse{f, 1e9} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, wrap)
			c := chunker(t)
			hashed := 0
			for i := range 50 {
				f.put("a", fmt.Sprintf("%05d", i))
				h, err := f.Hash(context.Background(), "a", f.stat("a"), c)
				if errors.Is(err, disk.ErrChanging) && name != "this disk" {
					continue // a time of whole seconds: the caller tries again later
				}
				ok(t, err)
				hashed++
				poke(f, "a", 0) // at once, same size
				if s := f.stat("a"); s.Unchanged(h.Stat) {
					t.Fatalf("round %d: a write does not show: %v", i, s)
				}
			}
			if (hashed == 0) != (name == "whole second") {
				t.Fatalf("%d hashed", hashed)
			}
		})
	}
}

// coarse is a disk whose clock goes in steps, in nanoseconds.
type coarse struct {
	disk.FS
	step int64
}

func (c coarse) trim(s stat.Stat) stat.Stat {
	s.Modified -= s.Modified % c.step
	s.Changed -= s.Changed % c.step
	return s
}

func (c coarse) Lstat(p string) (stat.Stat, error) {
	s, err := c.FS.Lstat(p)
	return c.trim(s), err
}

func (c coarse) Open(p string) (disk.File, error) {
	f, err := c.FS.Open(p)
	return coarseFile{f, c}, err
}

type coarseFile struct {
	disk.File
	c coarse
}

func (f coarseFile) Stat() (stat.Stat, error) {
	s, err := f.File.Stat()
	return f.c.trim(s), err
}

func blocks(t *testing.T, p string) int64 {
	t.Helper()
	var s syscall.Stat_t
	ok(t, syscall.Stat(p, &s))
	return s.Blocks * 512
}

// Sparse files stay sparse, whether their space was reserved or not.
func TestSparse(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, size := range []int64{512 << 10, 16 << 20} {
		name := fmt.Sprint(size)
		tmp, err := f.Temp("k"+name, size)
		ok(t, err)
		head := random(t, 4096)
		block := make([]byte, 128<<10)
		for off := int64(0); off < size; off += int64(len(block)) {
			_, err := tmp.WriteAt(block, off)
			ok(t, err)
		}
		_, err = tmp.WriteAt(head, 0)
		ok(t, err)
		ok(t, f.install(disk.Install{Path: name, Temp: tmp}).Err)
		got := []byte(f.get(name))
		if int64(len(got)) != size || !bytes.Equal(got[:4096], head) || !bytes.Equal(got[4096:], make([]byte, size-4096)) {
			t.Fatal("content")
		}
		if used := blocks(t, f.path(name)); used > 64<<10 {
			t.Errorf("%d bytes of disk for a file with 4 KiB in it", used)
		}
	}
}

// After a crash only what the hashes confirm is believed.
func TestResume(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	data := random(t, 1<<20)
	_, list, err := chunker(t).Split(bytes.NewReader(data), func(chunk.Block, []byte) error { return nil })
	ok(t, err)
	tmp, err := f.Temp("k", int64(len(data)))
	ok(t, err)
	_, err = f.Temp("k", 5)
	is(t, err, disk.ErrBusy)
	is(t, f.DropTemp("k"), disk.ErrBusy)
	var off int64
	for i, b := range list {
		if i%2 == 0 {
			_, err := tmp.WriteAt(data[off:off+int64(b.Size)], off)
			ok(t, err)
		}
		off += int64(b.Size)
	}
	ok(t, tmp.Close())
	poke(f, ".sheaf/tmp/k", 3) // the crash tore the first block
	f.reopen(disk.Options{Floor: -1})
	d := f.Folder
	temps, err := d.Temps()
	ok(t, err)
	if len(temps) != 1 || temps[0].Key != "k" || temps[0].Open {
		t.Fatalf("%+v", temps)
	}
	tmp, err = d.Temp("k", int64(len(data)))
	ok(t, err)
	have, err := tmp.Verified(list)
	ok(t, err)
	off = 0
	for i, b := range list {
		if want := i%2 == 0 && i != 0; have[i] != want {
			t.Errorf("block %d: %v", i, have[i])
		}
		if !have[i] {
			_, err := tmp.WriteAt(data[off:off+int64(b.Size)], off)
			ok(t, err)
		}
		off += int64(b.Size)
	}
	r := d.Commit(context.Background(), []disk.Install{{Path: "a", Temp: tmp, Mode: 0o644}})[0]
	ok(t, r.Err)
	f.want("a", string(data))
	f.clean()
	// Other size than was asked for, and outside of it.
	tmp, err = d.Temp("k", 10)
	ok(t, err)
	if _, err := tmp.WriteAt([]byte("x"), 10); err == nil {
		t.Error("wrote beyond the end")
	}
	if _, err := tmp.WriteAt([]byte("x"), -1); err == nil {
		t.Error("wrote before the start")
	}
	ok(t, tmp.Close())
	tmp, err = d.Temp("k", 4)
	ok(t, err)
	if s := f.stat(".sheaf/tmp/k"); s.Size != 4 {
		t.Error(s)
	}
	ok(t, tmp.Discard())
	f.clean()
}

// A temporary file that shares its bytes with a person's file (half a rename
// by link and unlink) is not written to.
func TestTempIsNobodysFile(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.put("a", "mine")
	ok(t, os.Link(f.path("a"), f.path(".sheaf/tmp/k")))
	ok(t, os.Symlink(f.path("a"), f.path(".sheaf/tmp/l")))
	for _, key := range []string{"k", "l"} {
		tmp, err := f.Temp(key, 6)
		ok(t, err)
		_, err = tmp.WriteAt([]byte("theirs"), 0)
		ok(t, err)
		ok(t, tmp.Discard())
	}
	f.want("a", "mine")
}

// noCopy is a disk that cannot copy inside the kernel.
type noCopy struct{ disk.FS }

func (f noCopy) Create(p string, m uint32) (disk.File, error) {
	file, err := f.FS.Create(p, m)
	return noCopyFile{file}, err
}

type noCopyFile struct{ disk.File }

func (noCopyFile) CopyFrom(disk.File, int64, int64, int64) (int64, error) {
	return 0, disk.ErrUnsupported
}

func TestCopyBlocks(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(disk.FS) disk.FS{
		"kernel": func(f disk.FS) disk.FS { return f },
		"plain":  func(f disk.FS) disk.FS { return noCopy{f} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, wrap)
			data := random(t, 3<<20)
			f.put("src", string(data))
			s := f.stat("src")
			r, err := f.Reader("src", s)
			ok(t, err)
			tmp, err := f.Temp("k", int64(len(data)))
			ok(t, err)
			ok(t, f.CloneFile(tmp, r))
			half := int64(len(data) / 2)
			swap, err := f.Temp("l", int64(len(data)))
			ok(t, err)
			ok(t, f.CopyBlocks(swap, r, []disk.Copy{{From: 0, To: half, N: half}, {From: half, To: 0, N: half}}))
			for _, c := range []disk.Copy{{From: 0, To: half, N: half + 1}, {From: -1, N: 1}, {To: -1, N: 1}, {N: -1}, {From: 3 << 20, N: 1}} {
				if f.CopyBlocks(swap, r, []disk.Copy{c}) == nil {
					t.Errorf("%+v was copied", c)
				}
			}
			ok(t, f.install(disk.Install{Path: "clone", Temp: tmp}).Err)
			ok(t, f.install(disk.Install{Path: "swap", Temp: swap}).Err)
			f.want("clone", string(data))
			f.want("swap", string(data[half:])+string(data[:half]))
			// From the trash too, and not from a file that has changed.
			id, err := f.Discard("clone", f.stat("clone"), disk.Bucket{})
			ok(t, err)
			old, err := f.OpenTrash(id)
			ok(t, err)
			again, err := f.Temp("m", int64(len(data)))
			ok(t, err)
			ok(t, f.CloneFile(again, old))
			ok(t, old.Close())
			poke(f, "src", 0)
			is(t, f.CloneFile(again, r), disk.ErrChanging)
			ok(t, r.Close())
			ok(t, again.Discard())
			_, err = f.Reader("src", s)
			is(t, err, disk.ErrChanging)
		})
	}
}

// S11: a full disk stops this file alone, and nothing short is ever visible.
func TestS11_NoSpace(t *testing.T) {
	t.Parallel()
	root := mustTemp(t)
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("cannot mount a small disk here: %v", err)
	}
	t.Cleanup(func() { ok(t, syscall.Unmount(root, syscall.MNT_DETACH)) })
	f := folderAt(t, root, disk.Options{Floor: -1})
	f.put("a", "base")
	seen := f.stat("a")
	_, err := f.Temp("huge", 8<<20)
	is(t, err, disk.ErrNoSpace)
	f.clean()
	// Two that fit by themselves.
	var temps []*disk.Temp
	for i := range 2 {
		tmp, err := f.Temp(fmt.Sprint("k", i), 3<<20)
		if err != nil {
			is(t, err, disk.ErrNoSpace)
			continue
		}
		temps = append(temps, tmp)
	}
	if len(temps) != 1 {
		t.Fatalf("%d of 2 fit", len(temps))
	}
	ok(t, temps[0].Discard())
	// Full to the brim by somebody else.
	if err := os.WriteFile(f.path("fill"), make([]byte, 5<<20), 0o644); err == nil {
		t.Fatal("the disk is not full")
	}
	r := f.install(disk.Install{Path: "a", Data: bytes.Repeat([]byte("y"), 100_000), Expect: seen})
	is(t, r.Err, disk.ErrNoSpace)
	f.want("a", "base")
	f.clean()
	ok(t, os.Remove(f.path("fill")))
	// The system gives the room back in its own time.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if free, _, _, err := f.Space(); err != nil || free > 1<<20 || time.Now().After(end) {
			break
		}
	}
	ok(t, f.install(disk.Install{Path: "a", Data: []byte("y"), Expect: seen}).Err)
	// The floor: what is free but not ours.
	f.reopen(disk.Options{Floor: 4 << 20})
	_, err = f.Temp("k", 1)
	is(t, err, disk.ErrNoSpace)
	is(t, f.Commit(context.Background(), []disk.Install{{Path: "b", Data: []byte("x")}})[0].Err, disk.ErrNoSpace)
	f.absent("b")
	f.reopen(disk.Options{})
	_, total, floor, err := f.Space()
	ok(t, err)
	if floor <= 0 || floor > total/10 {
		t.Errorf("a floor of %d on a disk of %d", floor, total)
	}
}

// full is a disk on which writing ends after some bytes, as it does when
// delayed allocation or a quota strikes in the middle.
type full struct {
	disk.FS
	left atomic.Int64
}

func (d *full) Create(p string, m uint32) (disk.File, error) {
	f, err := d.FS.Create(p, m)
	return &fullFile{f, d}, err
}

type fullFile struct {
	disk.File
	d *full
}

func (f *fullFile) Allocate(int64) error { return disk.ErrUnsupported }

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if f.d.left.Add(-int64(len(p))) < 0 {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, disk.ErrNoSpace
	}
	return f.File.WriteAt(p, off)
}

func TestNoSpaceInTheMiddle(t *testing.T) {
	t.Parallel()
	var d *full
	f := newFolder(t, func(f disk.FS) disk.FS { d = &full{FS: f}; d.left.Store(1 << 20); return d })
	f.put("b", "base")
	d.left.Store(5)
	r := f.Commit(context.Background(), []disk.Install{
		{Path: "a", Data: []byte("aaaaaaaa"), Mode: 0o644},
		{Path: "b", Data: []byte("bbbbbbbb"), Mode: 0o644, Expect: f.stat("b")},
	})
	for _, r := range r {
		is(t, r.Err, disk.ErrNoSpace)
	}
	f.absent("a")
	f.want("b", "base")
	tmp, err := f.Temp("k", 100)
	ok(t, err)
	_, err = tmp.WriteAt(bytes.Repeat([]byte("x"), 100), 0)
	is(t, err, disk.ErrNoSpace)
	ok(t, tmp.Discard())
	f.clean()
}
