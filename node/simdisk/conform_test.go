package simdisk

import (
	"bytes"
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

// class tells errors apart as far as callers do.
func class(err error) string {
	for _, e := range []error{
		disk.ErrNotEmpty, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, disk.ErrNotDirectory, disk.ErrNotFile,
		disk.ErrUnsupported, disk.ErrLocked, disk.ErrName, disk.ErrNoSpace, fs.ErrClosed,
	} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	if err != nil {
		return "another error"
	}
	return "done"
}

// both is one thing done on two file systems.
type both struct {
	t     *testing.T
	pair  [2]disk.FS // the real one and the model
	rnd   *rand.Rand
	files [2][]disk.File // held open
	locks [2][]disk.File // held locked
	trace []string
}

var names = []string{"a", "b", "c", "A", "\u00e9", "long name with spaces"}

// path gives some path, three names deep at most.
func (b *both) path() string {
	p := ""
	for range 1 + b.rnd.IntN(3) {
		p = path.Join(p, names[b.rnd.IntN(len(names))])
	}
	switch b.rnd.IntN(60) {
	case 0:
		return "."
	case 1:
		return path.Join(p, string(bytes.Repeat([]byte("x"), 256)))
	case 2:
		return "../" + p
	}
	return p
}

// do runs one operation on both and compares what it says.
func (b *both) do(what string, op func(f disk.FS) (string, error)) {
	b.t.Helper()
	var said [2]string
	for i, f := range b.pair {
		out, err := op(f)
		said[i] = class(err)
		if errors.Is(err, disk.ErrNotEmpty) != errors.Is(err, fs.ErrExist) && errors.Is(err, disk.ErrNotEmpty) {
			b.t.Errorf("%s: a directory that is not empty answers to ErrExist, too: %v", what, err)
		}
		if err == nil {
			said[i] = out
		}
	}
	b.trace = append(b.trace, what+": "+said[0])
	if said[0] != said[1] {
		b.t.Fatalf("%s: the real disk: %s; the model: %s\n%s", what, said[0], said[1], b.last())
	}
}

func (b *both) last() string {
	out := ""
	for _, l := range b.trace[max(0, len(b.trace)-25):] {
		out += "  " + l + "\n"
	}
	return out
}

func done(err error) (string, error) { return "done", err }

func (b *both) step() {
	p, q := b.path(), b.path()
	data := bytes.Repeat([]byte{byte(b.rnd.Uint32())}, b.rnd.IntN(9000))
	off := int64(b.rnd.IntN(9000))
	mtime := int64(1_600_000_000_000_000_000) + b.rnd.Int64N(1e15)
	held := len(b.files[0])
	switch b.rnd.IntN(23) {
	case 0, 1, 2:
		b.do("create "+p, func(f disk.FS) (string, error) {
			file, err := f.Create(p, 0o640)
			if err != nil {
				return "", err
			}
			_, err = file.WriteAt(data, 0)
			return done(errors.Join(err, file.Close()))
		})
	case 3, 4:
		b.do("mkdir "+p, func(f disk.FS) (string, error) { return done(f.Mkdir(p, 0o755)) })
	case 5:
		b.do("symlink "+p, func(f disk.FS) (string, error) { return done(f.Symlink(q, p)) })
	case 6:
		b.do("link "+p+" "+q, func(f disk.FS) (string, error) { return done(f.Link(p, q)) })
	case 7, 8:
		b.do("rename new "+p+" "+q, func(f disk.FS) (string, error) { return done(f.RenameNew(p, q)) })
	case 9:
		b.do("rename "+p+" "+q, func(f disk.FS) (string, error) { return done(f.Rename(p, q)) })
	case 10, 11:
		b.do("exchange "+p+" "+q, func(f disk.FS) (string, error) { return done(f.Exchange(p, q)) })
	case 12:
		b.do("remove "+p, func(f disk.FS) (string, error) { return done(f.Remove(p)) })
	case 13:
		b.do("remove directory "+p, func(f disk.FS) (string, error) { return done(f.RemoveDir(p)) })
	case 14:
		b.do("chmod "+p, func(f disk.FS) (string, error) { return done(f.Chmod(p, 0o700|uint32(off%8))) })
	case 15:
		b.do("chtimes "+p, func(f disk.FS) (string, error) {
			if err := f.Chtimes(p, mtime); err != nil {
				return "", err
			}
			s, err := f.Lstat(p)
			return fmt.Sprint(s.Modified), err
		})
	case 16:
		b.do("write "+p, func(f disk.FS) (string, error) {
			file, err := f.OpenWrite(p)
			if err != nil {
				return "", err
			}
			n, err := file.WriteAt(data, off)
			s, err2 := file.Stat()
			return fmt.Sprint(n, s.Size), errors.Join(err, err2, file.Close())
		})
	case 17:
		b.do("cut "+p, func(f disk.FS) (string, error) {
			file, err := f.OpenWrite(p)
			if err != nil {
				return "", err
			}
			err = file.Truncate(off)
			if err == nil {
				err = file.Allocate(off + 100)
			}
			if err == nil {
				err = file.Punch(off/2, off)
			}
			if errors.Is(err, disk.ErrUnsupported) {
				err = nil
			}
			return done(errors.Join(err, file.Close()))
		})
	case 18:
		b.do("read link "+p, func(f disk.FS) (string, error) { return f.Readlink(p) })
	case 19: // hold it open, whatever becomes of its name
		i := 0
		b.do("hold "+p, func(f disk.FS) (string, error) {
			file, err := f.OpenWrite(p)
			if err == nil {
				b.files[i] = append(b.files[i], file)
			}
			i++
			return done(err)
		})
	case 20:
		i := 0
		b.do("lock "+p, func(f disk.FS) (string, error) {
			file, err := f.Lock(p)
			if err == nil {
				b.locks[i] = append(b.locks[i], file)
			}
			i++
			return done(err)
		})
	case 21:
		if len(b.locks[0]) == 0 {
			return
		}
		i, k := 0, b.rnd.IntN(len(b.locks[0]))
		b.do("unlock", func(disk.FS) (string, error) {
			file := b.locks[i][k]
			b.locks[i] = slices.Delete(b.locks[i], k, k+1)
			i++
			_, err := file.WriteAt(data, off)
			return done(errors.Join(err, file.Close()))
		})
	case 22:
		if held == 0 {
			return
		}
		i, k := 0, b.rnd.IntN(held)
		b.do("use what is held", func(disk.FS) (string, error) {
			file := b.files[i][k]
			b.files[i] = slices.Delete(b.files[i], k, k+1)
			i++
			_, err := file.WriteAt(data, off)
			s, err2 := file.Stat()
			buf := make([]byte, 100)
			n, _ := file.ReadAt(buf, off)
			return fmt.Sprint(s.Size, s.Links, buf[:n]), errors.Join(err, err2, file.Close())
		})
	}
}

// compare holds the two trees against each other: kinds, modes, sizes, contents,
// and which names are one file.
func (b *both) compare() {
	b.t.Helper()
	var same [2]map[string]uint64
	var all [2][]string
	for i, f := range b.pair {
		same[i] = make(map[string]uint64)
		var visit func(dir string)
		visit = func(dir string) {
			list, err := f.List(dir)
			if err != nil {
				b.t.Fatalf("list %s: %v\n%s", dir, err, b.last())
			}
			slices.SortFunc(list, func(x, y disk.Entry) int { return bytes.Compare([]byte(x.Name), []byte(y.Name)) })
			for _, e := range list {
				p := path.Join(dir, e.Name)
				line := fmt.Sprintf("%s %s", p, e.Stat.Kind)
				if e.Stat.Kind != stat.Symlink {
					line += fmt.Sprintf(" %o", e.Stat.Mode)
				}
				if s, err := f.Lstat(p); err != nil || s != e.Stat {
					line += fmt.Sprintf(" lstat differs from list: %v %v %v", s, e.Stat, err)
				}
				if e.Stat.Kind == stat.File {
					line += fmt.Sprintf(" %d bytes, %d links: %x", e.Stat.Size, e.Stat.Links, content(b.t, f, p))
				}
				all[i] = append(all[i], line)
				same[i][p] = e.Stat.Inode
				if e.Stat.Kind == stat.Directory {
					visit(p)
				}
			}
		}
		visit(".")
	}
	if !slices.Equal(all[0], all[1]) {
		for i := range max(len(all[0]), len(all[1])) {
			x, y := "nothing", "nothing"
			if i < len(all[0]) {
				x = all[0][i]
			}
			if i < len(all[1]) {
				y = all[1][i]
			}
			if x != y {
				b.t.Fatalf("the real disk has %.200s\nthe model has %.200s\n%s", x, y, b.last())
			}
		}
	}
	twin := make(map[uint64]uint64)
	for p, n := range same[0] {
		if m, ok := twin[n]; ok && m != same[1][p] {
			b.t.Fatalf("%s is a file of several names on one of the two\n%s", p, b.last())
		}
		twin[n] = same[1][p]
	}
}

func content(t *testing.T, f disk.FS, p string) []byte {
	t.Helper()
	file, err := f.Open(p)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	s, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, s.Size)
	if n, err := file.ReadAt(buf, 0); n < len(buf) {
		t.Fatal(err)
	}
	var sum [8]byte
	for i, c := range buf {
		sum[i%8] = sum[i%8]*31 + c
	}
	return sum[:]
}

// TestLikeTheRealDisk does the same random things to the real file system and to
// the model, as root: permissions do not count on either.
func TestLikeTheRealDisk(t *testing.T) {
	t.Parallel()
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			real, err := disk.NewOS(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			model := New(Options{Seed: seed, RootReadable: true}).Open()
			b := &both{t: t, pair: [2]disk.FS{real, model}, rnd: rand.New(rand.NewPCG(seed, 1))}
			t.Cleanup(func() {
				for i := range b.files {
					for _, f := range slices.Concat(b.files[i], b.locks[i]) {
						_ = f.Close()
					}
				}
				_ = real.Close()
			})
			for i := range 1500 {
				b.step()
				if i%25 == 0 {
					b.compare()
				}
			}
			b.compare()
		})
	}
}
