//go:build unix

package restore

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

func setLinkTime(root *os.Root, name string, t time.Time) {
	d, err := root.Open(filepath.Dir(name))
	if err != nil {
		return
	}
	defer func() { _ = d.Close() }()
	ts := unix.NsecToTimespec(t.UnixNano())
	_ = unix.UtimesNanoAt(int(d.Fd()), filepath.Base(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW) //nolint:gosec // a descriptor
}
