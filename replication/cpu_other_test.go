//go:build !linux

package replication

import "time"

// cpuTime is not measured here.
func cpuTime() time.Duration { return 0 }
