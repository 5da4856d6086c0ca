package simdisk

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"

	"github.com/fsnotify/fsnotify"

	"sheaf/node/disk"
	"sheaf/node/stat"
)

// simFS is a disk.FS on a Disk, until its next crash.
type simFS struct {
	d     *Disk
	epoch int
	user  bool // not counted, not told to the hook
}

var _ disk.FS = (*simFS)(nil)

// call runs one call on the disk, under its lock, unless it is dead or told to
// fail.
func (f *simFS) call(op, path string, do func(d *Disk) error) error {
	return f.call2(op, path, "", do)
}

// call2 is call for one with two paths.
func (f *simFS) call2(op, path, to string, do func(d *Disk) error) (err error) {
	d := f.d
	if d.o.Trace != nil {
		defer func() { d.o.Trace(f.user, op, path, to, err) }()
	}
	if !f.user {
		d.mu.Lock()
		d.calls++
		number, hook := d.calls, d.hook
		if f.epoch != d.epoch {
			hook = nil
		}
		d.mu.Unlock()
		if hook != nil {
			if err := hook(number, op, path); err != nil {
				return &fs.PathError{Op: op, Path: path, Err: err}
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.epoch != d.epoch {
		return &fs.PathError{Op: op, Path: path, Err: ErrCrashed}
	}
	if err := do(d); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

const maxName = 255

// errNotEmpty answers to both, as the system's does.
var errNotEmpty = fmt.Errorf("%w (%w)", disk.ErrNotEmpty, fs.ErrExist)

// A place is a name in a directory, and what is there. The root's own has no
// directory.
type place struct {
	dir  *inode
	name string
	n    *inode // nil: nothing
}

// parent gives the directory of a path and the last name; it follows no link.
func (d *Disk) parent(p string) (place, error) {
	if !fs.ValidPath(p) || strings.IndexByte(p, 0) >= 0 {
		return place{}, disk.ErrName
	}
	at := place{d.root, p, nil}
	for i := strings.IndexByte(at.name, '/'); i >= 0; i = strings.IndexByte(at.name, '/') {
		next, err := d.look(place{at.dir, at.name[:i], nil})
		switch {
		case err != nil:
			return place{}, err
		case next.n == nil:
			return place{}, fs.ErrNotExist
		case next.n.kind != stat.Directory:
			return place{}, disk.ErrNotDirectory
		}
		at = place{next.n, at.name[i+1:], nil}
	}
	return at, nil
}

// look finds what is at a place.
func (d *Disk) look(at place) (place, error) {
	switch {
	case at.name == ".":
		return place{n: at.dir}, nil
	case len(at.name) > maxName:
		return place{}, disk.ErrName
	case !d.may(at.dir, 0o100):
		return place{}, fs.ErrPermission
	}
	at.name, at.n = d.find(at.dir, at.name)
	return at, nil
}

// may tells whether the owner's permission bits allow it.
func (d *Disk) may(n *inode, bits uint32) bool { return d.o.RootReadable || n.mode&bits == bits }

func (d *Disk) at(p string) (place, error) {
	at, err := d.parent(p)
	if err != nil {
		return place{}, err
	}
	return d.look(at)
}

// there is at for what must be there.
func (d *Disk) there(p string) (place, error) { return must(d.at(p)) }

func must(at place, err error) (place, error) {
	if err == nil && at.n == nil {
		err = fs.ErrNotExist
	}
	return at, err
}

// spot is at for a name that is to be taken.
func (d *Disk) spot(p string) (place, error) { return d.vacant(d.at(p)) }

func (d *Disk) vacant(at place, err error) (place, error) {
	switch {
	case err != nil:
	case at.n != nil:
		err = fs.ErrExist
	case !d.may(at.dir, 0o300):
		err = fs.ErrPermission
	}
	return at, err
}

// two finds what is at the first of two paths, of which both directories must be
// there, and gives the second as it is before it is looked at.
func (d *Disk) two(from, to string) (a, b place, err error) {
	if a, err = d.parent(from); err == nil {
		b, err = d.parent(to)
	}
	return a, b, err
}

// told is what the system says of a file, which may be less than there is to say.
func (f *simFS) told(s stat.Stat) stat.Stat {
	if f.d.o.NoNumbers && !f.user {
		s.Inode, s.Device, s.Born, s.Changed = 0, 0, 0, 0
		s.Links = min(s.Links, 1)
	}
	return s
}

func (f *simFS) Name() string { return rootName }

func (f *simFS) Close() error { return nil }

func (f *simFS) Check() error {
	return f.call("check", ".", func(d *Disk) error {
		if d.gone {
			return disk.ErrRootGone
		}
		return nil
	})
}

func (f *simFS) Lstat(p string) (s stat.Stat, err error) {
	err = f.call("lstat", p, func(d *Disk) error {
		at, err := d.there(p)
		if err == nil {
			s = f.told(d.stat(at.n))
		}
		return err
	})
	return s, err
}

func (f *simFS) Names(p string) ([]string, error) {
	list, err := f.List(p)
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name
	}
	return names, err
}

func (f *simFS) List(p string) (list []disk.Entry, err error) {
	err = f.call("list", p, func(d *Disk) error {
		at, err := d.there(p)
		n := at.n
		switch {
		case err != nil:
			return err
		case n.kind != stat.Directory:
			return disk.ErrNotDirectory
		case !d.may(n, 0o400):
			return fs.ErrPermission
		}
		names := slices.Sorted(maps.Keys(n.names))
		// Not by the disk's own chance: who else asks for it meanwhile is not to
		// change the order.
		n.lists++
		rand.New(rand.NewPCG(d.o.Seed^n.number, n.lists)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			list = append(list, disk.Entry{Name: name, Stat: f.told(d.stat(n.names[name]))})
		}
		return nil
	})
	return list, err
}

func (f *simFS) open(op, p string, bits uint32) (file disk.File, err error) {
	err = f.call(op, p, func(d *Disk) error {
		at, err := d.there(p)
		n := at.n
		switch {
		case err != nil:
			return err
		case n.kind != stat.File:
			return disk.ErrNotFile
		case !d.may(n, bits):
			return fs.ErrPermission
		}
		file = f.opened(n, p, bits&0o200 != 0)
		return nil
	})
	return file, err
}

func (f *simFS) opened(n *inode, p string, write bool) *simFile {
	n.open++
	return &simFile{f: f, n: n, path: p, write: write}
}

func (f *simFS) Open(p string) (disk.File, error) { return f.open("open", p, 0o400) }

func (f *simFS) OpenWrite(p string) (disk.File, error) { return f.open("open", p, 0o600) }

func (f *simFS) Create(p string, mode uint32) (file disk.File, err error) {
	err = f.call("create", p, func(d *Disk) error {
		at, err := d.spot(p)
		if err != nil {
			return err
		}
		n := d.newInode(stat.File, mode&0o7777)
		d.log(set{at.dir, at.name, n})
		file = f.opened(n, p, true)
		return nil
	})
	return file, err
}

func (f *simFS) Readlink(p string) (target string, err error) {
	err = f.call("readlink", p, func(d *Disk) error {
		at, err := d.there(p)
		if err == nil && at.n.kind != stat.Symlink {
			err = syscall.EINVAL
		}
		if err == nil {
			target = at.n.target
		}
		return err
	})
	return target, err
}

func (f *simFS) Mkdir(p string, mode uint32) error {
	return f.call("mkdir", p, func(d *Disk) error {
		at, err := d.spot(p)
		if err != nil {
			return err
		}
		d.log(set{at.dir, at.name, d.newInode(stat.Directory, mode&0o7777)})
		return nil
	})
}

func (f *simFS) Symlink(target, p string) error {
	return f.call("symlink", p, func(d *Disk) error {
		at, err := d.spot(p)
		if err != nil {
			return err
		}
		n := d.newInode(stat.Symlink, 0o777)
		n.target = target
		d.log(set{at.dir, at.name, n})
		return nil
	})
}

func (f *simFS) Link(from, to string) error {
	return f.call2("link", from, to, func(d *Disk) error {
		a, b, err := d.two(from, to)
		if err == nil {
			a, err = must(d.look(a))
		}
		if err == nil {
			b, err = d.vacant(d.look(b))
		}
		switch {
		case err != nil:
			return err
		case a.n.kind == stat.Directory || d.o.NoLinks:
			return disk.ErrUnsupported
		}
		a.n.links++
		a.n.changed = d.now()
		d.log(set{b.dir, b.name, a.n})
		return nil
	})
}

func (f *simFS) RenameNew(from, to string) error {
	return f.call2("rename", from, to, func(d *Disk) error {
		a, b, err := d.two(from, to)
		switch {
		case err != nil:
			return err
		case a.name == ".":
			return syscall.EBUSY
		case b.name == ".":
			return fs.ErrExist
		}
		if a, err = must(d.look(a)); err == nil {
			b, err = d.vacant(d.look(b))
		}
		if err != nil {
			return err
		}
		return d.rename(a, b)
	})
}

// rename moves what is at a to the name b, whatever that holds.
func (d *Disk) rename(a, b place) error {
	switch {
	case a.n.kind == stat.Directory && under(b.dir, a.n):
		return syscall.EINVAL
	case !d.may(a.dir, 0o300) || !d.may(b.dir, 0o300):
		return fs.ErrPermission
	}
	d.log(set{a.dir, a.name, nil}, set{b.dir, b.name, a.n})
	a.n.changed = d.now()
	return nil
}

func (f *simFS) Rename(from, to string) error {
	return f.call2("rename", from, to, func(d *Disk) error {
		a, b, err := d.two(from, to)
		if err == nil && (a.name == "." || b.name == ".") {
			err = syscall.EBUSY
		}
		asked := b.name
		if err == nil {
			a, err = must(d.look(a))
		}
		if err == nil {
			b, err = d.look(b)
		}
		if err != nil {
			return err
		}
		old := b.n
		switch {
		case old == nil:
			return d.rename(a, b)
		case old == a.n:
			// The same name, perhaps written otherwise where names fold; or two names
			// of one file, which both stay.
			if b.name = d.stored(asked); a.dir == b.dir && d.folded(a.name) == d.folded(b.name) && a.name != b.name {
				return d.rename(a, b)
			}
			return nil
		case a.n.kind == stat.Directory && under(b.dir, a.n):
			return syscall.EINVAL
		case old.kind == stat.Directory && under(a.dir, old):
			return errNotEmpty
		case a.n.kind == stat.Directory && old.kind != stat.Directory:
			return disk.ErrNotDirectory
		case a.n.kind != stat.Directory && old.kind == stat.Directory:
			return syscall.EISDIR
		case len(old.names) > 0:
			return errNotEmpty
		}
		if err := d.rename(a, b); err != nil {
			return err
		}
		d.unlinked(old)
		return nil
	})
}

func (f *simFS) Exchange(from, to string) error {
	return f.call2("exchange", from, to, func(d *Disk) error {
		a, b, err := d.two(from, to)
		if err == nil && (a.name == "." || b.name == ".") {
			err = syscall.EBUSY
		}
		if err == nil {
			a, err = must(d.look(a))
		}
		if err == nil {
			b, err = must(d.look(b))
		}
		switch {
		case err != nil:
			return err
		case d.o.NoExchange, a.n.kind == stat.Directory && under(b.dir, a.n), b.n.kind == stat.Directory && under(a.dir, b.n):
			return disk.ErrUnsupported
		case !d.may(a.dir, 0o300) || !d.may(b.dir, 0o300):
			return fs.ErrPermission
		case a.n == b.n:
			return nil
		}
		d.log(set{a.dir, a.name, b.n}, set{b.dir, b.name, a.n})
		a.n.changed = d.now()
		b.n.changed = a.n.changed
		return nil
	})
}

func (f *simFS) Remove(p string) error {
	return f.call("remove", p, func(d *Disk) error {
		at, err := d.there(p)
		switch {
		case err != nil:
			return err
		case at.n.kind == stat.Directory:
			return syscall.EISDIR
		case !d.may(at.dir, 0o300):
			return fs.ErrPermission
		}
		d.log(set{at.dir, at.name, nil})
		d.unlinked(at.n)
		return nil
	})
}

func (f *simFS) RemoveDir(p string) error {
	return f.call("rmdir", p, func(d *Disk) error {
		at, err := d.there(p)
		switch {
		case err != nil:
			return err
		case at.dir == nil:
			return syscall.EINVAL
		case at.n.kind != stat.Directory:
			return disk.ErrNotDirectory
		case len(at.n.names) > 0:
			return errNotEmpty
		case !d.may(at.dir, 0o300):
			return fs.ErrPermission
		}
		d.log(set{at.dir, at.name, nil})
		d.unlinked(at.n)
		return nil
	})
}

func (f *simFS) Chmod(p string, mode uint32) error {
	return f.call("chmod", p, func(d *Disk) error {
		at, err := d.there(p)
		if err == nil && at.n.kind != stat.File && at.n.kind != stat.Directory {
			err = disk.ErrNotFile
		}
		if err == nil {
			at.n.mode, at.n.changed = mode&0o7777, d.now()
			d.touched(at.n, fsnotify.Chmod)
		}
		return err
	})
}

func (f *simFS) Chtimes(p string, mtime int64) error {
	return f.call("chtimes", p, func(d *Disk) error {
		at, err := d.there(p)
		if err == nil {
			at.n.modified, at.n.changed = d.coarse(mtime), d.now()
			d.touched(at.n, fsnotify.Chmod)
		}
		return err
	})
}

func (f *simFS) Lock(p string) (file disk.File, err error) {
	err = f.call("lock", p, func(d *Disk) error {
		if f.user { // programs lock nothing of ours
			return disk.ErrUnsupported
		}
		at, err := d.at(p)
		if err == nil && at.n == nil {
			if at, err = d.vacant(at, nil); err == nil {
				at.n = d.newInode(stat.File, 0o600)
				d.log(set{at.dir, at.name, at.n})
			}
		}
		switch {
		case err != nil:
			return err
		case at.n.kind != stat.File:
			return disk.ErrNotFile
		case !d.may(at.n, 0o400):
			return fs.ErrPermission
		case at.n.locked == d.epoch+1:
			return disk.ErrLocked
		}
		at.n.locked = d.epoch + 1
		x := f.opened(at.n, p, d.may(at.n, 0o600))
		x.lock, file = true, x
		return nil
	})
	return file, err
}

func (f *simFS) Sync(paths ...string) error {
	first := "."
	if len(paths) > 0 {
		first = paths[0]
	}
	return f.call("sync", first, func(d *Disk) error {
		if len(paths) == 0 {
			d.syncAll()
			return nil
		}
		for _, p := range paths {
			at, err := d.there(p)
			if err != nil || at.n.kind == stat.Symlink {
				d.syncAll() // as the real one: its name is not needed then
				return nil
			}
			at.n.sync()
			if at.n.kind == stat.Directory {
				d.harden(d.touching(at.n))
			}
		}
		return nil
	})
}

func (f *simFS) Space() (free, total int64, err error) {
	err = f.call("statfs", ".", func(d *Disk) error {
		free, total = 1<<50, 1<<50
		if d.o.Size > 0 {
			free, total = max(0, d.o.Size-d.used), d.o.Size
		}
		return nil
	})
	return free, total, err
}
