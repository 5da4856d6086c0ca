//go:build unix

package api

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the file's lock for this open file, or gives errLocked. The lock
// goes when the file is closed, which exec and exit do too.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		case errors.Is(err, syscall.EINTR):
			continue
		}
		return err
	}
}
