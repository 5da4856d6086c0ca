package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// openLock opens what FS.Lock is to lock, on the real file system.
func openLock(f FS, path string) (file File, err error) {
	for range 3 { // another may make it between two looks
		if file, err = f.OpenWrite(path); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		if file, err = f.Create(path, 0o600); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if !errors.Is(err, fs.ErrPermission) && !readOnly(err) {
		return file, err
	}
	if file, err := f.Open(path); err == nil {
		return file, nil
	}
	if readOnly(err) { // and there is nothing to lock: nobody changes anything here
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil, err
}

// A lockedFile lets go of its lock when it is closed. To close it alone would not
// do: a child that is just being started has all our files open until its exec, and
// the lock is theirs together.
type lockedFile struct {
	File
	of *os.File
}

// lockFile takes the lock of an open file; if it cannot, the file is closed.
func lockFile(file File, of *os.File) (File, error) {
	l := &lockedFile{file, of}
	if err := l.control(lockFD); err != nil {
		_ = file.Close()
		return nil, err
	}
	return l, nil
}

func (l *lockedFile) Close() error {
	_ = l.control(unlockFD)
	return l.File.Close()
}

// control calls fn with the descriptor, unless the file is closed.
func (l *lockedFile) control(fn func(fd uintptr) error) error {
	conn, err := l.of.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err = conn.Control(func(fd uintptr) { inner = fn(fd) }); err == nil {
		err = inner
	}
	return err
}
