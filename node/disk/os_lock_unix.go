//go:build unix

package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// lockFD takes a file's lock for this opening of it. Locks by fcntl would be the
// process's: two folders in one process would not see each other's, and closing
// any file of that name would let go of them.
func lockFD(fd uintptr) error {
	for {
		err := unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EWOULDBLOCK, err == unix.EACCES: // the latter from network file systems
			return ErrLocked
		case errors.Is(err, errors.ErrUnsupported), err == unix.EINVAL, err == unix.ENOLCK:
			return ErrUnsupported
		case err == unix.EBADF: // NFS locks nothing that is open for reading alone
			return ErrUnsupported
		}
		return err
	}
}

func unlockFD(fd uintptr) error { return unix.Flock(int(fd), unix.LOCK_UN) }

func readOnly(err error) bool { return errors.Is(err, unix.EROFS) }
