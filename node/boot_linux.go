package node

import (
	"os"
	"strings"
)

// bootID names the time since this machine was last started, "" if it cannot be
// told.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}
