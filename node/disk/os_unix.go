//go:build linux || darwin

package disk

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sheaf/node/stat"
)

// osFS is FS on a real directory. Each method opens the directory of its path
// from the root's descriptor (openDir: no link, no other mount) and then acts
// on one name relative to it.
type osFS struct {
	name string
	root *os.Root
	dir  *os.File // the root, open for reading
	fd   int      // dir's descriptor
	here stat.Stat
}

// NewOS opens the directory at root, which may be reached through symbolic
// links, as an FS.
func NewOS(root string) (FS, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	dir, err := r.Open(".")
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	f := &osFS{name: root, root: r, dir: dir, fd: int(dir.Fd())}
	f.here, _, err = statAt(f.fd, ".")
	if err != nil {
		_ = f.Close()
		return nil, osError("stat", root, err)
	}
	return f, nil
}

func (f *osFS) Name() string { return f.name }

func (f *osFS) Close() error {
	err := f.dir.Close()
	if e := f.root.Close(); err == nil {
		err = e
	}
	return err
}

func (f *osFS) Check() error {
	s, _, err := statFollow(f.name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRootGone, osError("stat", f.name, err))
	}
	if s.Device != f.here.Device || s.Inode != f.here.Inode {
		return fmt.Errorf("%w: another directory is at %s", ErrRootGone, f.name)
	}
	return nil
}

// at runs do with the descriptor of the directory of path and its last name.
func (f *osFS) at(op, path string, do func(dir int, name string) error) error {
	if !fs.ValidPath(path) || strings.IndexByte(path, 0) >= 0 {
		return &fs.PathError{Op: op, Path: path, Err: ErrName}
	}
	dir, name := split(path)
	fd := f.fd
	if dir != "." {
		var err error
		if fd, err = openDir(f.fd, dir); err != nil {
			return osError(op, path, err)
		}
		defer func() { _ = unix.Close(fd) }()
	}
	if err := retry(func() error { return do(fd, name) }); err != nil {
		return osError(op, path, err)
	}
	return nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func (f *osFS) Lstat(path string) (s stat.Stat, err error) {
	err = f.at("lstat", path, func(dir int, name string) (err error) {
		s, _, err = statAt(dir, name)
		return err
	})
	return s, err
}

// listable opens a directory to list it, and no symbolic link to one.
func listable(dir int, name, path string) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (f *osFS) Names(path string) (names []string, err error) {
	err = f.at("list", path, func(dir int, name string) error {
		d, err := listable(dir, name, path)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		names, err = d.Readdirnames(-1)
		return err
	})
	return names, err
}

func (f *osFS) List(path string) (list []Entry, err error) {
	err = f.at("list", path, func(dir int, name string) error {
		d, err := listable(dir, name, path)
		if err != nil {
			return err
		}
		defer func() { _ = d.Close() }()
		fd := int(d.Fd())
		here, err := statFD(fd)
		if err != nil {
			return err
		}
		if here.Device != f.here.Device {
			return ErrNotDirectory
		}
		names, err := d.Readdirnames(-1)
		if err != nil {
			return err
		}
		list = slices.Grow(list[:0], len(names))
		for _, n := range names {
			var e Entry
			err := retry(func() (err error) {
				e.Stat, e.Mount, err = statAt(fd, n)
				return err
			})
			if err == unix.ENOENT {
				continue
			}
			if err != nil {
				e.Err = osError("lstat", join(path, n), err)
			}
			e.Name = n
			if e.Stat.Kind == stat.Directory && e.Stat.Device != f.here.Device {
				e.Mount = true
			}
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

func (f *osFS) Open(path string) (File, error) { return f.open("open", path, unix.O_RDONLY) }

func (f *osFS) OpenWrite(path string) (File, error) { return f.open("open", path, unix.O_RDWR) }

// open looks before it opens, since opening a FIFO or a device has effects,
// and looks again at what it got.
func (f *osFS) open(op, path string, flags int) (file File, err error) {
	err = f.at(op, path, func(dir int, name string) error {
		s, _, err := statAt(dir, name)
		if err != nil {
			return err
		}
		if s.Kind != stat.File {
			return ErrNotFile
		}
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == unix.ELOOP {
			return ErrNotFile
		}
		if err != nil {
			return err
		}
		if s, err = statFD(fd); err == nil && s.Kind != stat.File {
			err = ErrNotFile
		}
		if err == nil {
			err = unix.SetNonblock(fd, false)
		}
		if err != nil {
			_ = unix.Close(fd)
			return err
		}
		file = &osFile{f: os.NewFile(uintptr(fd), path), fd: fd, path: path}
		return nil
	})
	return file, err
}

func (f *osFS) Create(path string, mode uint32) (file File, err error) {
	err = f.at("create", path, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o7777)
		if err != nil {
			return err
		}
		file = &osFile{f: os.NewFile(uintptr(fd), path), fd: fd, path: path}
		return nil
	})
	return file, err
}

func (f *osFS) Readlink(path string) (target string, err error) {
	err = f.at("readlink", path, func(dir int, name string) error {
		for size := 256; ; size *= 2 {
			buf := make([]byte, size)
			n, err := unix.Readlinkat(dir, name, buf)
			if err != nil {
				return err
			}
			if n < size || size > maxPath {
				target = string(buf[:n])
				return nil
			}
		}
	})
	return target, err
}

func (f *osFS) Mkdir(path string, mode uint32) error {
	return f.at("mkdir", path, func(dir int, name string) error {
		return unix.Mkdirat(dir, name, mode&0o7777)
	})
}

func (f *osFS) Symlink(target, path string) error {
	return f.at("symlink", path, func(dir int, name string) error {
		return unix.Symlinkat(target, dir, name)
	})
}

// two is at for an operation on two paths.
func (f *osFS) two(op, from, to string, do func(d1 int, n1 string, d2 int, n2 string) error) error {
	return f.at(op, from, func(d1 int, n1 string) error {
		return f.at(op, to, func(d2 int, n2 string) error { return do(d1, n1, d2, n2) })
	})
}

func (f *osFS) Link(from, to string) error {
	return f.two("link", from, to, func(d1 int, n1 string, d2 int, n2 string) error {
		err := unix.Linkat(d1, n1, d2, n2, 0)
		switch err {
		case unix.EPERM, unix.EMLINK, unix.ENOSYS, unix.EOPNOTSUPP:
			return ErrUnsupported
		}
		return err
	})
}

func (f *osFS) Rename(from, to string) error {
	return f.two("rename", from, to, unix.Renameat)
}

func (f *osFS) RenameNew(from, to string) error {
	return f.two("rename", from, to, func(d1 int, n1 string, d2 int, n2 string) error {
		err := renameNew(d1, n1, d2, n2)
		if !unsupported(err) {
			return err
		}
		// A link never replaces, so link and unlink is as safe; a crash in
		// between leaves two names for one file.
		s, _, err := statAt(d1, n1)
		if err != nil {
			return err
		}
		if s.Kind != stat.Directory {
			if err = unix.Linkat(d1, n1, d2, n2, 0); err == nil {
				return unix.Unlinkat(d1, n1, 0)
			}
			if !unsupported(err) && err != unix.EPERM && err != unix.EMLINK {
				return err
			}
		}
		if _, _, err = statAt(d2, n2); err == nil {
			return unix.EEXIST
		} else if err != unix.ENOENT {
			return err
		}
		return unix.Renameat(d1, n1, d2, n2)
	})
}

func (f *osFS) Exchange(a, b string) error {
	return f.two("exchange", a, b, func(d1 int, n1 string, d2 int, n2 string) error {
		err := exchange(d1, n1, d2, n2)
		if unsupported(err) {
			return ErrUnsupported
		}
		return err
	})
}

// unsupported tells the answers by which file systems decline a variant of
// rename or link.
func unsupported(err error) bool {
	switch err {
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.ENOTTY:
		return true
	}
	return false
}

func (f *osFS) Remove(path string) error {
	return f.at("remove", path, func(dir int, name string) error {
		return unix.Unlinkat(dir, name, 0)
	})
}

func (f *osFS) RemoveDir(path string) error {
	return f.at("rmdir", path, func(dir int, name string) error {
		err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		if err == unix.EEXIST { // POSIX leaves the choice
			err = unix.ENOTEMPTY
		}
		return err
	})
}

func (f *osFS) Chmod(path string, mode uint32) error {
	return f.at("chmod", path, func(dir int, name string) error { return chmodAt(dir, name, mode&0o7777) })
}

func (f *osFS) Chtimes(path string, mtime int64) error {
	return f.at("chtimes", path, func(dir int, name string) error {
		return unix.UtimesNanoAt(dir, name, mtimeOnly(mtime), unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (f *osFS) Lock(path string) (File, error) {
	file, err := openLock(f, path)
	if err != nil {
		return nil, err
	}
	locked, err := lockFile(file, file.(*osFile).f)
	return locked, osError("lock", path, err)
}

// Beyond this many paths one sync of the file system is cheaper than one of
// each, and the wait for other programs' data is worth it.
const syncEach = 16

func (f *osFS) Sync(paths ...string) error {
	if len(paths) == 0 || len(paths) > syncEach {
		return f.syncAll()
	}
	// At once, so that a journal can take them in one commit.
	var g errgroup.Group
	refused := make([]bool, len(paths))
	for i, p := range paths {
		g.Go(func() error {
			fd := -1
			err := f.at("sync", p, func(dir int, name string) (err error) {
				fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
				return err
			})
			if err != nil { // unreadable, a link, or renamed away: sync it without its name
				refused[i] = true
				return nil
			}
			file := os.NewFile(uintptr(fd), p)
			err = file.Sync()
			_ = file.Close()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if slices.Contains(refused, true) {
		return f.syncAll()
	}
	return nil
}

func (f *osFS) Space() (free, total int64, err error) {
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(f.fd, &s) }); err != nil {
		return 0, 0, osError("statfs", f.name, err)
	}
	size := int64(s.Bsize)
	return clampMul(s.Bavail, size), clampMul(s.Blocks, size), nil
}

// clampMul multiplies blocks by their size without overflow; some network
// file systems report absurd numbers of blocks.
func clampMul(blocks uint64, size int64) int64 {
	const limit = int64(1) << 62
	if size <= 0 || blocks > uint64(limit/size) {
		return limit
	}
	return int64(blocks) * size
}

// osError gives an error of the system its operation and path, and makes it
// answer to this package's errors.
func osError(op, path string, err error) error {
	switch e := err.(type) {
	case nil:
		return nil
	case *fs.PathError:
		return err
	case unix.Errno:
		var is error
		switch e {
		case unix.ENOSPC, unix.EDQUOT:
			is = ErrNoSpace
		case unix.ENOTEMPTY:
			is = ErrNotEmpty
		case unix.ELOOP, unix.ENOTDIR, unix.EXDEV:
			is = ErrNotDirectory
		case unix.ENAMETOOLONG, unix.EILSEQ:
			is = ErrName
		}
		if is != nil {
			err = &sysError{e, is}
		}
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// sysError is a system's error number that also answers to one of this
// package's errors.
type sysError struct {
	errno error
	is    error
}

func (e *sysError) Error() string   { return e.errno.Error() }
func (e *sysError) Unwrap() []error { return []error{e.errno, e.is} }
