package disk

import (
	"errors"

	"golang.org/x/sys/windows"
)

// lockFD takes a file's lock for this handle: of one byte far behind its end, since
// what is locked here nobody else can read.
func lockFD(fd uintptr) error {
	err := windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, lockedByte())
	switch {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION), errors.Is(err, windows.ERROR_IO_PENDING):
		return ErrLocked
	case errors.Is(err, windows.ERROR_INVALID_FUNCTION), errors.Is(err, windows.ERROR_NOT_SUPPORTED):
		return ErrUnsupported
	}
	return err
}

func unlockFD(fd uintptr) error {
	return windows.UnlockFileEx(windows.Handle(fd), 0, 1, 0, lockedByte())
}

func lockedByte() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

func readOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }
