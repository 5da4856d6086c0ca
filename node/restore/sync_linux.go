package restore

import (
	"time"

	"golang.org/x/sys/unix"
)

// syncsAll: one call makes all of a disk durable, so single files need not be.
const syncsAll = true

// sync makes all that was written durable.
func (w *Writer) sync() error {
	d, err := w.root.Open(".")
	if err != nil {
		return diskError(".", err)
	}
	defer func() { _ = d.Close() }()
	return diskError(".", unix.Syncfs(int(d.Fd()))) //nolint:gosec // a descriptor
}

// linkTime sets the time of a link itself. That it has another is no reason to stop.
func (w *Writer) linkTime(name string, t time.Time) { setLinkTime(w.root, name, t) }
