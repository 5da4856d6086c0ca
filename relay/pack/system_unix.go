//go:build unix

package pack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock that path stands for, for this process alone, until it is
// closed or the process ends: ErrLocked if somebody has it. The file stays.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", path, ErrLocked)
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return lock{f}, nil
}

// lock is released in so many words: a child process that is just being started
// has the file open too until it becomes another program.
type lock struct{ *os.File }

func (l lock) Close() error {
	err := syscall.Flock(int(l.Fd()), syscall.LOCK_UN)
	if cerr := l.File.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) {
		err = nil // a file system that has no such thing
	}
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// free tells how many bytes an ordinary user may still write there.
func free(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// isFull tells whether a write failed for want of space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
