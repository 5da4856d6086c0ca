//go:build unix

package store

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile takes the lock that path stands for, for this process alone, until
// it is closed or the process ends: ErrLocked if somebody has it. The file
// stays.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
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

// inodeOf gives a file's inode number, zero where there is none.
func inodeOf(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino, nil
	}
	return 0, nil
}
