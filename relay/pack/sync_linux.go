package pack

import (
	"errors"
	"os"
	"syscall"
)

// syncData makes a file's bytes and size durable; times may stay behind.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
