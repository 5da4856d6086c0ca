//go:build linux || darwin

package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"sheaf/node/stat"
)

// osFile is File on a descriptor.
type osFile struct {
	f    *os.File
	fd   int
	path string
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, fileError("write", f.path, err)
}

func (f *osFile) Close() error { return f.f.Close() }

func (f *osFile) Stat() (stat.Stat, error) {
	s, err := statFD(f.fd)
	return s, osError("stat", f.path, err)
}

func (f *osFile) Truncate(size int64) error {
	return fileError("truncate", f.path, f.f.Truncate(size))
}

func (f *osFile) Allocate(size int64) error {
	err := retry(func() error { return allocate(f.fd, size) })
	if unsupported(err) {
		return ErrUnsupported
	}
	return osError("allocate", f.path, err)
}

func (f *osFile) Punch(off, n int64) error {
	err := retry(func() error { return punch(f.fd, off, n) })
	if unsupported(err) {
		return ErrUnsupported
	}
	return osError("punch", f.path, err)
}

func (f *osFile) CopyFrom(src File, srcOff, off, n int64) (int64, error) {
	from, ok := src.(*osFile)
	if !ok {
		return 0, ErrUnsupported
	}
	return copyRange(from.fd, srcOff, f.fd, off, n)
}

func (f *osFile) Chmod(mode uint32) error {
	return osError("chmod", f.path, retry(func() error { return unix.Fchmod(f.fd, mode&0o7777) }))
}

func (f *osFile) Chtimes(mtime int64) error {
	return osError("chtimes", f.path, retry(func() error { return futimes(f.fd, mtime) }))
}

// fileError brings an error of package os, which hides the number, into the
// form of osError.
func fileError(op, path string, err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return osError(op, path, e)
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		return err
	}
	return osError(op, path, err)
}
