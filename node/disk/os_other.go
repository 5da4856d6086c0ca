//go:build !linux && !darwin

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"sheaf/node/stat"
)

// osFS is FS over os.Root alone, for systems without the calls that the
// other implementation needs. What is weaker here: RenameNew and the refusal
// of links in a path look first and act then, Exchange is unsupported (see
// Folder.Commit for what is done instead), there are no inode numbers, and
// Sync is one fsync for each path.
type osFS struct {
	name string
	root *os.Root
	here os.FileInfo
}

// NewOS opens the directory at root as an FS.
func NewOS(root string) (FS, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	here, err := r.Stat(".")
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("open folder root: %w", err)
	}
	return &osFS{name: root, root: r, here: here}, nil
}

func (f *osFS) Name() string { return f.name }
func (f *osFS) Close() error { return f.root.Close() }

func (f *osFS) Check() error {
	now, err := os.Stat(f.name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRootGone, err)
	}
	if !os.SameFile(now, f.here) {
		return fmt.Errorf("%w: another directory is at %s", ErrRootGone, f.name)
	}
	return nil
}

// local judges a path and gives it in the system's form.
func (f *osFS) local(op, path string) (string, error) {
	name, err := filepath.Localize(path)
	if err != nil {
		return "", &fs.PathError{Op: op, Path: path, Err: ErrName}
	}
	for i, c := range path {
		if c != '/' {
			continue
		}
		info, err := f.root.Lstat(filepath.FromSlash(path[:i]))
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", &fs.PathError{Op: op, Path: path, Err: ErrNotDirectory}
		}
	}
	return name, nil
}

func fromInfo(info os.FileInfo) stat.Stat {
	s := stat.Stat{Kind: stat.Other, Mode: uint32(info.Mode().Perm()), Modified: info.ModTime().UnixNano(), Links: 1}
	switch {
	case info.Mode().IsRegular():
		s.Kind, s.Size = stat.File, info.Size()
	case info.IsDir():
		s.Kind = stat.Directory
	case info.Mode()&fs.ModeSymlink != 0:
		s.Kind, s.Size = stat.Symlink, info.Size()
	}
	return s
}

func (f *osFS) Lstat(path string) (stat.Stat, error) {
	name, err := f.local("lstat", path)
	if err != nil {
		return stat.Stat{}, err
	}
	info, err := f.root.Lstat(name)
	if err != nil {
		return stat.Stat{}, err
	}
	return fromInfo(info), nil
}

func (f *osFS) Names(path string) ([]string, error) {
	list, err := f.List(path)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name
	}
	return names, nil
}

func (f *osFS) List(path string) ([]Entry, error) {
	s, err := f.Lstat(path)
	if err != nil {
		return nil, err
	}
	if s.Kind != stat.Directory {
		return nil, &fs.PathError{Op: "list", Path: path, Err: ErrNotDirectory}
	}
	d, err := f.root.Open(filepath.FromSlash(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	infos, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	list := make([]Entry, 0, len(infos))
	for _, i := range infos {
		info, err := i.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e := Entry{Name: i.Name(), Err: err}
		if err == nil {
			e.Stat = fromInfo(info)
		}
		list = append(list, e)
	}
	return list, nil
}

func (f *osFS) Open(path string) (File, error) { return f.open(path, os.O_RDONLY) }

func (f *osFS) OpenWrite(path string) (File, error) { return f.open(path, os.O_RDWR) }

func (f *osFS) open(path string, flag int) (File, error) {
	s, err := f.Lstat(path)
	if err != nil {
		return nil, err
	}
	if s.Kind != stat.File {
		return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotFile}
	}
	name := filepath.FromSlash(path)
	file, err := f.root.OpenFile(name, flag, 0)
	if err != nil {
		return nil, err
	}
	return &osFile{File: file, root: f.root, name: name}, nil
}

func (f *osFS) Create(path string, mode uint32) (File, error) {
	name, err := f.local("create", path)
	if err != nil {
		return nil, err
	}
	file, err := f.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fs.FileMode(mode&0o777))
	if err != nil {
		return nil, err
	}
	return &osFile{File: file, root: f.root, name: name}, nil
}

func (f *osFS) Readlink(path string) (string, error) {
	name, err := f.local("readlink", path)
	if err != nil {
		return "", err
	}
	return f.root.Readlink(name)
}

func (f *osFS) Mkdir(path string, mode uint32) error {
	name, err := f.local("mkdir", path)
	if err != nil {
		return err
	}
	return f.root.Mkdir(name, fs.FileMode(mode&0o777))
}

func (f *osFS) Symlink(target, path string) error {
	name, err := f.local("symlink", path)
	if err != nil {
		return err
	}
	return f.root.Symlink(target, name)
}

func (f *osFS) two(op, from, to string, do func(from, to string) error) error {
	a, err := f.local(op, from)
	if err != nil {
		return err
	}
	b, err := f.local(op, to)
	if err != nil {
		return err
	}
	return do(a, b)
}

func (f *osFS) Link(from, to string) error {
	return f.two("link", from, to, func(a, b string) error {
		err := f.root.Link(a, b)
		if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	})
}

func (f *osFS) RenameNew(from, to string) error {
	return f.two("rename", from, to, func(a, b string) error {
		if _, err := f.root.Lstat(b); err == nil {
			return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A rename would replace what has come to the name since it was looked at; a
		// link never does. What cannot be linked (directories, a disk without links) is
		// renamed all the same.
		if s, err := f.root.Lstat(a); err == nil && s.Mode().IsRegular() {
			err := f.root.Link(a, b)
			if err == nil {
				return f.root.Remove(a)
			}
			if errors.Is(err, fs.ErrExist) {
				return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
			}
		}
		return f.root.Rename(a, b)
	})
}

func (f *osFS) Rename(from, to string) error {
	return f.two("rename", from, to, f.root.Rename)
}

func (f *osFS) Exchange(a, b string) error {
	return &fs.PathError{Op: "exchange", Path: a + ", " + b, Err: ErrUnsupported}
}

func (f *osFS) Remove(path string) error {
	s, err := f.Lstat(path)
	if err != nil {
		return err
	}
	if s.Kind == stat.Directory {
		return &fs.PathError{Op: "remove", Path: path, Err: ErrNotFile}
	}
	return f.root.Remove(filepath.FromSlash(path))
}

func (f *osFS) RemoveDir(path string) error {
	list, err := f.List(path)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return &fs.PathError{Op: "rmdir", Path: path, Err: ErrNotEmpty}
	}
	return f.root.Remove(filepath.FromSlash(path))
}

func (f *osFS) Chmod(path string, mode uint32) error {
	name, err := f.local("chmod", path)
	if err != nil {
		return err
	}
	return f.root.Chmod(name, fs.FileMode(mode&0o777))
}

func (f *osFS) Chtimes(path string, mtime int64) error {
	s, err := f.Lstat(path)
	if err != nil {
		return err
	}
	if s.Kind == stat.Symlink { // os.Root would follow it
		return nil
	}
	return f.root.Chtimes(filepath.FromSlash(path), time.Time{}, time.Unix(0, mtime))
}

func (f *osFS) Lock(path string) (File, error) {
	file, err := openLock(f, path)
	if err != nil {
		return nil, err
	}
	locked, err := lockFile(file, file.(*osFile).File)
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return locked, nil
}

func (f *osFS) Sync(paths ...string) error {
	for _, p := range paths {
		s, err := f.Lstat(p)
		if err != nil || s.Kind != stat.File {
			continue // names are the file system's own journal's matter here
		}
		file, err := f.root.OpenFile(filepath.FromSlash(p), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = file.Sync()
		if e := file.Close(); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *osFS) Space() (free, total int64, err error) {
	free, total, err = diskSpace(f.name)
	return min(free, math.MaxInt64/2), min(total, math.MaxInt64/2), err
}

// osFile is File over os.File.
type osFile struct {
	*os.File
	root *os.Root
	name string
}

func (f *osFile) Stat() (stat.Stat, error) {
	info, err := f.File.Stat()
	if err != nil {
		return stat.Stat{}, err
	}
	return fromInfo(info), nil
}

func (f *osFile) Allocate(int64) error     { return ErrUnsupported }
func (f *osFile) Punch(int64, int64) error { return ErrUnsupported }
func (f *osFile) CopyFrom(File, int64, int64, int64) (int64, error) {
	return 0, ErrUnsupported
}

func (f *osFile) Chmod(mode uint32) error { return f.File.Chmod(fs.FileMode(mode & 0o777)) }

func (f *osFile) Chtimes(mtime int64) error {
	return f.root.Chtimes(f.name, time.Time{}, time.Unix(0, mtime))
}
