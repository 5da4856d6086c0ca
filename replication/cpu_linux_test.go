package replication

import (
	"syscall"
	"time"
)

// cpuTime is the processor time this process has used: on a shared machine, it
// tells more than the clock does.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
