package node

import (
	"context"
	"time"

	"sheaf/crdt"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// After a power cut a file may hold other bytes than were read from it just
// before, though nobody wrote it: zeros, half of a write, what was there earlier.
// Such bytes are nobody's and must go nowhere. They are told by two signs: a file
// of which the disk's own record is no newer than ours (see torn), and, where not
// even that shows it, by reading again what was written shortly before (recheck).

// crashWindow is how long before a power cut a file may have been written and not
// be on the disk: systems write out what is older than half a minute, or than ten
// where they spare a battery.
const crashWindow = 10 * time.Minute

const runningSpace = "running"

// beginRun notes that the folder runs, and sets crashed if it was running when the
// machine went down.
func (f *Folder) beginRun() error {
	was, ok, err := f.db.Get(runningSpace, f.id.String())
	if err != nil {
		return err
	}
	f.crashed = f.crashed || ok && (f.o.boot == "" || string(was) != f.o.boot)
	return f.db.Put(runningSpace, f.id.String(), []byte(f.o.boot))
}

// endRun notes that the folder ended in order.
func (f *Folder) endRun() {
	if err := f.db.Delete(runningSpace, f.id.String()); err != nil {
		f.o.log.Warn("note the end", "folder", f.name, "err", err)
	}
}

// torn tells whether what the first scan sees of a file that was read before is
// what a power cut made of it: it is the same file, and has not been written since.
//
// The clock is asked too: one that was set back gives a person's writing such times
// as well. Where it was set back, and forward again, between the power cut and the
// start, an edit of that time is taken for torn and ends in the trash: rarer than
// the file that a power cut takes back to what it was, which would else be sent to
// all devices as the newest.
func (f *Folder) torn(s sighting) bool {
	if !f.crashed || f.scan.rounds > 0 || s.Known == nil || s.Known.Kind != crdt.File {
		return false
	}
	was, is := s.Known.Stat, s.Item.Stat
	if is.Changed == 0 {
		return false // the disk does not say when it was last written
	}
	return is.Inode == was.Inode && is.Changed <= was.Changed && is.Modified <= was.Modified && was.Changed <= f.o.clock().UnixNano()
}

// lastWritten is when a file was written, as far as the disk says.
func lastWritten(b store.Base) int64 {
	if b.Stat.Changed != 0 {
		return b.Stat.Changed
	}
	return b.Stat.Modified
}

// recheck reads what was written shortly before a power cut.
func (f *Folder) recheck(ctx context.Context) error {
	var files []baseFile
	var last int64
	now := f.o.clock().UnixNano()
	err := f.index.Read(func(r *store.Reader) error {
		ids, err := descendants(r, crdt.Root)
		if err != nil {
			return err
		}
		paths := newDiskPaths(r)
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			b, ok, err := r.Base(id)
			if err != nil {
				return err
			}
			if !ok || !b.Here || b.Stat.Kind != stat.File {
				continue
			}
			written := lastWritten(b)
			if written <= now { // a time in the future is somebody's mistake
				last = max(last, written)
			}
			if written < last-int64(crashWindow) {
				continue
			}
			if p, err := paths.of(id); err == nil {
				files = append(files, baseFile{id, p, b})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d := f.serving.Load()
	for _, x := range files {
		if d == nil || lastWritten(x.base) < last-int64(crashWindow) {
			continue
		}
		if _, err := f.reread(ctx, d, x); err != nil {
			return err
		}
	}
	return nil
}
