package simdisk

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"sheaf/node/disk"
	"sheaf/node/stat"
)

// simFile is a disk.File.
type simFile struct {
	f      *simFS
	n      *inode
	path   string
	write  bool
	closed bool
	lock   bool // holds the inode's
}

var _ disk.File = (*simFile)(nil)

var errBadFile = errors.New("file not open for that")

func (x *simFile) call(op string, write bool, do func(d *Disk) error) error {
	return x.f.call(op, x.path, func(d *Disk) error {
		if x.closed {
			return fs.ErrClosed
		}
		if write && !x.write {
			return errBadFile
		}
		return do(d)
	})
}

func (x *simFile) ReadAt(p []byte, off int64) (n int, err error) {
	eof := false
	err = x.call("read", false, func(*Disk) error {
		if off < int64(len(x.n.data)) {
			n = copy(p, x.n.data[off:])
		}
		eof = n < len(p)
		return nil
	})
	if err == nil && eof {
		err = io.EOF
	}
	return n, err
}

func (x *simFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = x.call("write", true, func(d *Disk) error {
		if len(p) == 0 {
			return nil
		}
		if err := x.resize(d, max(off+int64(len(p)), int64(len(x.n.data)))); err != nil {
			return err
		}
		n = copy(x.n.data[off:], p)
		x.wrote(d)
		return nil
	})
	return n, err
}

// resize gives the file a length. It never writes into bytes that a sync kept.
func (x *simFile) resize(d *Disk, size int64) error {
	x.n.writeBack()
	if err := d.grow(size - int64(len(x.n.data))); err != nil {
		return err
	}
	if size <= int64(len(x.n.data)) {
		x.n.data = x.n.data[:size:size]
		return nil
	}
	x.n.data = append(slices.Clip(x.n.data), make([]byte, size-int64(len(x.n.data)))...)
	return nil
}

func (x *simFile) wrote(d *Disk) {
	d.version++
	x.n.version = d.version
	x.n.modified = d.now()
	x.n.changed = x.n.modified
	if x.n.dirtied.IsZero() {
		x.n.dirtied = time.Now()
	}
	d.touched(x.n, fsnotify.Write)
}

func (x *simFile) Close() error {
	x.unlock() // also by a close that fails
	return x.call("close", false, func(d *Disk) error {
		x.closed = true
		x.n.open--
		d.released(x.n)
		return nil
	})
}

func (x *simFile) unlock() {
	x.f.d.mu.Lock()
	defer x.f.d.mu.Unlock()
	if x.lock && x.f.epoch == x.f.d.epoch {
		x.n.locked = 0
	}
	x.lock = false
}

func (x *simFile) Stat() (s stat.Stat, err error) {
	err = x.call("stat", false, func(d *Disk) error {
		s = x.f.told(d.stat(x.n))
		return nil
	})
	return s, err
}

func (x *simFile) Truncate(size int64) error {
	return x.call("truncate", true, func(d *Disk) error {
		if err := x.resize(d, size); err != nil {
			return err
		}
		x.wrote(d)
		return nil
	})
}

func (x *simFile) Allocate(size int64) error {
	return x.call("allocate", true, func(d *Disk) error {
		if size <= int64(len(x.n.data)) {
			return nil
		}
		if err := x.resize(d, size); err != nil {
			return err
		}
		x.wrote(d)
		return nil
	})
}

func (x *simFile) Punch(off, n int64) error {
	return x.call("punch", true, func(d *Disk) error {
		x.n.writeBack()
		end := min(off+n, int64(len(x.n.data)))
		if off < end {
			clear(x.n.data[off:end])
		}
		x.wrote(d)
		return nil
	})
}

// CopyFrom is not offered: the caller then reads and writes.
func (x *simFile) CopyFrom(disk.File, int64, int64, int64) (int64, error) {
	return 0, disk.ErrUnsupported
}

func (x *simFile) Chmod(mode uint32) error {
	return x.call("chmod", false, func(d *Disk) error {
		x.n.mode, x.n.changed = mode&0o7777, d.now()
		d.touched(x.n, fsnotify.Chmod)
		return nil
	})
}

func (x *simFile) Chtimes(mtime int64) error {
	return x.call("chtimes", false, func(d *Disk) error {
		x.n.modified, x.n.changed = d.coarse(mtime), d.now()
		d.touched(x.n, fsnotify.Chmod)
		return nil
	})
}
