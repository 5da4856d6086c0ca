//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// reexec puts this program, perhaps a newer one by now, in place of this
// process: same process ID, arguments and terminal, so that whoever started and
// watches it, a person or systemd, need not notice. It returns only on failure.
func reexec() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	env := append(os.Environ(), restartedVariable+"=1")
	if err := syscall.Exec(self, os.Args, env); err != nil {
		return fmt.Errorf("start %s again: %w", self, err)
	}
	return nil
}
