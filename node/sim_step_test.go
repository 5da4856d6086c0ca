package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
	"sheaf/replication"
	"sheaf/replication/simnet"
)

// A step is one thing that happens in a history. It says all that it needs, so
// that a history can be written down, run again, and cut.
type step struct {
	// Wait is how long after the step before it happens.
	Wait time.Duration `json:"wait,omitempty"`
	// Calls, if not zero, has it happen at that many more calls on the disk of On,
	// from within the call, or after Wait where there are not as many.
	Calls int `json:"calls,omitempty"`
	// Op, if not empty, has only calls of that name counted ("chtimes"): such a step stays
	// where it is meant to be when the program comes to make other calls.
	Op string `json:"op,omitempty"`

	On   int           `json:"on"`
	Do   string        `json:"do"`
	A    string        `json:"a,omitempty"`
	B    string        `json:"b,omitempty"`
	Blob *blob         `json:"blob,omitempty"`
	N    int64         `json:"n,omitempty"`
	Peer int           `json:"peer,omitempty"`
	For  time.Duration `json:"for,omitempty"`
	Why  string        `json:"why,omitempty"` // what program does it; nothing depends on it
}

func (s step) String() string {
	var b strings.Builder
	if s.Calls > 0 {
		fmt.Fprintf(&b, "at %s +%d (or +%v)", cmp.Or(s.Op, "call"), s.Calls, s.Wait)
	} else {
		fmt.Fprintf(&b, "+%v", s.Wait)
	}
	fmt.Fprintf(&b, " dev%d %s", s.On, s.Do)
	if s.A != "" {
		fmt.Fprintf(&b, " %q", s.A)
	}
	if s.B != "" {
		fmt.Fprintf(&b, " to %q", s.B)
	}
	if s.Blob != nil {
		fmt.Fprintf(&b, " content %d (%d bytes)", s.Blob.ID, s.Blob.Size)
	}
	if s.N != 0 {
		fmt.Fprintf(&b, " n=%d", s.N)
	}
	switch s.Do {
	case "cut", "mend", "break", "twice":
		fmt.Fprintf(&b, " dev%d", s.Peer)
	}
	if s.For != 0 {
		fmt.Fprintf(&b, " for %v", s.For)
	}
	if s.Why != "" {
		fmt.Fprintf(&b, " (%s)", s.Why)
	}
	return b.String()
}

// errSkip is a step that cannot be done as the world stands, which is no fault.
var errSkip = errors.New("skipped")

// do does one step. It may be called from within a call on the disk.
func (w *world) do(s step) error {
	d := w.devices[s.On]
	switch s.Do {
	case "cut":
		w.net.Cut(d.id, w.devices[s.Peer].id)
	case "mend":
		if d.gone.Load() || w.devices[s.Peer].gone.Load() {
			return errSkip
		}
		if !d.down && !w.devices[s.Peer].down {
			w.net.Mend(d.id, w.devices[s.Peer].id)
		}
	case "break":
		w.net.Break(d.id, w.devices[s.Peer].id)
	case "twice":
		w.net.Twice(d.id, w.devices[s.Peer].id)
	case "link":
		l := simnet.Link{Latency: s.For, Jitter: s.For / 2, Rate: float64(s.N)}
		w.net.SetLink(d.id, w.devices[s.Peer].id, l)
		w.net.SetLink(w.devices[s.Peer].id, d.id, l)
	case "power", "kill":
		if d.run == nil || d.away {
			return errSkip
		}
		d.crash(s.Do == "power")
		if s.Do == "power" {
			w.lostUnsynced(d)
		}
		w.fell <- d
	case "stop":
		if d.run == nil || d.down {
			return errSkip
		}
		return d.stop()
	case "start":
		if d.run != nil || d.gone.Load() {
			return errSkip
		}
		return d.start()
	case "image":
		if img, err := d.db.Image(nil); err == nil {
			d.images = append(d.images, img)
		}
	case "restore": // the database comes back as it was
		if d.run != nil || len(d.images) == 0 {
			return errSkip
		}
		w.forgot = true
		// As a backup program does it: other files with the same content.
		for _, old := range []simdisk.Image{nil, d.images[len(d.images)-1]} {
			if err := old.Write(d.dir); err != nil {
				return err
			}
		}
	case "forget": // the database is lost
		if d.run != nil {
			return errSkip
		}
		w.forgot = true
		for _, h := range d.restored {
			// If it was lost before it was said, the file is just as others deleted it.
			w.ledger.end(h, fmt.Sprintf("step %d: restored on %s, which has forgotten that", w.count, d.name()))
		}
		return simdisk.Image(nil).Write(d.dir)
	case "unmount": // an empty directory is at the folder's path
		if d.run != nil || d.away {
			return errSkip
		}
		d.away = true
		d.disk.Swap()
	case "mount":
		if !d.away {
			return errSkip
		}
		d.away = false
		d.disk.Swap()
	case "expel": // it is no member any more
		if d.gone.Load() || w.members() <= 2 {
			return errSkip
		}
		w.expel(d)
	case "pause", "resume", "untrash", "resolve", "release", "revert":
		return w.person(d, s)
	case "full", "room", "deny":
		return w.trouble(d, s)
	case "alone":
		return w.alone(d)
	case "lose": // another directory is at the folder's path, which is open
		d.disk.SetGone(s.N != 0)
	case "clock":
		d.setBack = d.setBack || s.For < 0
		d.offset.Add(int64(s.For))
	case "sync":
		if d.away {
			return errSkip
		}
		if err := d.disk.User().Sync(); err != nil {
			return err
		}
		clear(d.unsynced)
		for _, c := range w.fresh[d.n] {
			c.whole = true
		}
		w.fresh[d.n] = nil
	default:
		if d.away {
			return errSkip // what is written to the empty directory is no part of it
		}
		if w.worked == nil {
			w.worked = make(map[int]bool)
		}
		w.worked[d.n] = true
		return w.file(d, s)
	}
	return nil
}

func (w *world) members() (n int) {
	for _, d := range w.devices {
		if !d.gone.Load() {
			n++
		}
	}
	return n
}

// expel removes a device from the account, as Node.membersChanged does. What it
// alone had is lost to the others.
func (w *world) expel(d *simDevice) {
	d.gone.Store(true)
	d.left = w.count
	elsewhere := make(map[sum]bool)
	for _, o := range w.devices {
		if o == d {
			continue
		}
		for _, l := range treeOf(o.disk, ".", "", o.hashes) {
			elsewhere[l.sum] = true
		}
		w.net.Cut(d.id, o.id)
		w.net.Cut(o.id, d.id)
		w.cut[[2]int{d.n, o.n}], w.cut[[2]int{o.n, d.n}] = true, true
		if o.run != nil && !o.down {
			o.run.node.disconnected(replication.DeviceID(d.id))
		}
	}
	for h, c := range w.ledger.known {
		if !elsewhere[h] {
			c.ended = append(c.ended, fmt.Sprintf("step %d: only %s had it, which was removed", w.count, d.name()))
			w.forgot = true
		}
	}
}

// file does what programs do to files.
func (w *world) file(d *simDevice, s step) error {
	f := d.disk.User()
	switch s.Do {
	case "write": // all of a file, new or in place
		return w.put(d, f, s.A, s.Blob.bytes(), fmt.Sprintf("content %d", s.Blob.ID), s.Blob.Size)
	case "part": // the beginning of it: more is to come
		return w.put(d, f, s.A, s.Blob.bytes()[:s.Blob.Size/2], fmt.Sprintf("half of content %d", s.Blob.ID), 0)
	case "copy":
		data, err := readAll(f, s.A)
		if err != nil {
			return err
		}
		return w.put(d, f, s.B, data, "", len(data))
	case "patch": // some bytes in place
		data, err := readAll(f, s.A)
		if err != nil || len(data) == 0 {
			return errors.Join(errSkip, err)
		}
		data = slices.Clone(data)
		copy(data[int(s.N)%len(data):], fmt.Sprintf("patch %d", s.Blob.ID))
		return w.put(d, f, s.A, data, fmt.Sprintf("patch %d", s.Blob.ID), -1)
	case "append":
		data, err := readAll(f, s.A)
		if err != nil || len(data) > 1<<20 {
			return errors.Join(errSkip, err)
		}
		return w.put(d, f, s.A, append(slices.Clone(data), s.Blob.bytes()...), fmt.Sprintf("appended %d", s.Blob.ID), -1)
	case "mkdir":
		return f.Mkdir(s.A, 0o755)
	case "symlink":
		return f.Symlink(s.B, s.A)
	case "rename":
		if k := w.h.Devices[d.n]; s.Why == swapping || k.Lost > 0 || k.Late > plan.DefaultLimits().Settle || k.NoNumbers || d.ever[s.B] {
			// Seen in parts, across directories, a swap may be taken for two files that
			// were saved over each other; a rename of which the system keeps one half
			// from us, or tells it seconds later, for a deletion and a new file; one to a name that a file had before,
			// for that file saved anew, as programs do. The contents are right, but whoever
			// renames one meanwhile has it twice.
			sums := w.sumsAt(d, f, s.A)
			for _, l := range treeOf(d.disk, s.A, ".sheaf", d.hashes) {
				sums = append(sums, l.sum)
			}
			for _, h := range sums {
				if c := w.ledger.known[h]; c != nil {
					c.written++
				}
			}
		}
		old, err := f.Lstat(s.B)
		if err == nil && old.Kind == stat.Directory {
			return errSkip
		}
		from, ferr := f.Lstat(s.A)
		var lost []sum
		if err == nil && ferr == nil && from.Inode != old.Inode {
			lost = w.sumsAt(d, f, s.B)
			// The file that stood there has its content now: so programs save. Who
			// renames the other one meanwhile has that, too.
			for _, h := range w.sumsAt(d, f, s.A) {
				if c := w.ledger.known[h]; c != nil {
					c.written++
				}
			}
		}
		if err := f.Rename(s.A, s.B); err != nil {
			return err
		}
		w.ended(d, lost, fmt.Sprintf("replaced by a rename of %q to %q", s.A, s.B))
		return nil
	case "remove":
		lost := w.sumsAt(d, f, s.A)
		if err := f.Remove(s.A); err != nil {
			return err
		}
		w.ended(d, lost, fmt.Sprintf("deleted at %q", s.A))
		return nil
	case "rmdir":
		return f.RemoveDir(s.A)
	case "rmtree":
		tree := treeOf(d.disk, s.A, ".sheaf", d.hashes)
		paths := make([]string, 0, len(tree))
		for p := range tree {
			paths = append(paths, p)
		}
		slices.Sort(paths)
		slices.Reverse(paths)
		for _, p := range paths {
			if tree[p].kind == stat.Directory {
				_ = f.RemoveDir(p)
				continue
			}
			lost := w.sumsAt(d, f, p)
			if f.Remove(p) == nil {
				w.ended(d, lost, fmt.Sprintf("deleted with %q", s.A))
			}
		}
		if s.A == "." {
			return nil
		}
		return f.RemoveDir(s.A)
	case "chmod":
		w.perhapsAnew(d, f, s.A)
		mode := uint32(s.N)
		if x, err := f.Lstat(s.A); err == nil && x.Kind == stat.Directory {
			mode |= 0o700 // what nobody may enter stands still everywhere, rightly
		}
		return f.Chmod(s.A, mode)
	case "touch":
		w.perhapsAnew(d, f, s.A)
		return f.Chtimes(s.A, w.begin.UnixNano()+s.N)
	}
	return fmt.Errorf("no step is called %q", s.Do)
}

// perhapsAnew notes that a file may pass for another one with the same bytes, as one
// that was saved to keep them against what others made of it: where files have no
// numbers, who changes its mode or time does what such a save does.
func (w *world) perhapsAnew(d *simDevice, f disk.FS, p string) {
	if !w.h.Devices[d.n].NoNumbers {
		return
	}
	for _, h := range w.sumsAt(d, f, p) {
		if c := w.ledger.known[h]; c != nil {
			c.written++
		}
	}
}

// put writes a file, new or in place, as another program does: what stood there is
// knowingly overwritten. The content counts as finished once it is synced, unless
// size is zero.
func (w *world) put(d *simDevice, f disk.FS, p string, data []byte, name string, size int) error {
	lost := w.sumsAt(d, f, p)
	file, err := f.OpenWrite(p)
	if errors.Is(err, fs.ErrNotExist) {
		file, err = f.Create(p, 0o644)
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := file.Truncate(0); err != nil {
		return err
	}
	if _, err := file.WriteAt(data, 0); err != nil {
		// What is there now is what was written of it.
		if left, rerr := readAll(f, p); rerr == nil {
			w.ledger.write(d.n, w.count, left, name+" as far as there was room")
		}
		w.ended(d, lost, fmt.Sprintf("overwritten at %q", p))
		return err
	}
	s, err := file.Stat()
	if err != nil {
		return err
	}
	d.unsynced[s.Inode] = true
	w.ended(d, lost, fmt.Sprintf("overwritten at %q", p))
	c := w.ledger.write(d.n, w.count, data, name)
	if d.gone.Load() {
		c.ended = append(c.ended, fmt.Sprintf("step %d: written on %s, which is removed", w.count, d.name()))
	}
	if size != 0 && !ignored(p) {
		w.fresh[d.n] = append(w.fresh[d.n], c)
	}
	return nil
}

// sumsAt gives what the file at a path holds: nothing or one.
func (w *world) sumsAt(d *simDevice, f disk.FS, p string) []sum {
	s, err := f.Lstat(p)
	if err != nil || s.Kind != stat.File {
		return nil
	}
	data, err := readAll(f, p)
	if errors.Is(err, fs.ErrPermission) {
		if l, ok := treeOf(d.disk, path.Dir(p), "", d.hashes)[p]; ok {
			return []sum{l.sum}
		}
	}
	if err != nil {
		return nil
	}
	return []sum{sumOf(data)}
}

// ended notes what somebody has knowingly ended on a device's disk.
func (w *world) ended(d *simDevice, lost []sum, how string) {
	for _, h := range lost {
		w.ledger.end(h, fmt.Sprintf("step %d: %s on %s", w.count, how, d.name()))
		delete(d.held, h)
	}
}

// lostUnsynced notes what a power cut has cost, and what it has made of files that
// were being written: both are the disk's doing and nobody's fault.
func (w *world) lostUnsynced(d *simDevice) {
	for _, c := range w.fresh[d.n] {
		c.torn = true
		c.ended = append(c.ended, fmt.Sprintf("step %d: not synced when %s lost power", w.count, d.name()))
	}
	w.fresh[d.n] = nil
	f := d.disk.User()
	tree := treeOf(d.disk, ".", ".sheaf", d.hashes)
	for p, l := range tree {
		if l.kind != stat.File {
			continue
		}
		if c := w.ledger.known[l.sum]; c != nil && d.last[p].sum != l.sum {
			c.written++ // a name that was taken away, and not synced, is back
		}
		if s, err := f.Lstat(p); err == nil && d.unsynced[s.Inode] && w.ledger.known[l.sum] == nil {
			data, err := readAll(f, p)
			if err == nil {
				c := w.ledger.write(d.n, w.count, data, fmt.Sprintf("what a power cut left at %q", p))
				c.written = 1 << 20 // zeros are zeros everywhere
			}
		}
	}
	clear(d.unsynced)
	// What is not there any more was not there for good.
	still := make(map[sum]bool)
	for _, l := range tree {
		still[l.sum] = true
	}
	for _, l := range treeOf(d.disk, ".sheaf", "", d.hashes) {
		still[l.sum] = true
	}
	for h := range d.held {
		if !still[h] {
			delete(d.held, h)
		}
	}
}

// swapping is why names are swapped.
const swapping = "two names swapped"

// base gives a path's last name.
func base(p string) string { return path.Base(p) }

// pick draws one of a list.
func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }
