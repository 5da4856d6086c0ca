package simdisk

import (
	"maps"
	"slices"
	"time"

	"sheaf/node/stat"
)

// A change is names that got a new meaning in one step.
type change struct{ sets []set }

// A set is one name and what it leads to then; nil for nothing.
type set struct {
	dir  *inode
	name string
	to   *inode
}

// log does a change of names and remembers it for a crash.
func (d *Disk) log(sets ...set) {
	now := d.now()
	for _, s := range sets {
		apply(s, s.dir.names)
		if s.to != nil && s.to.kind == stat.Directory {
			s.to.parent = s.dir
		}
		s.dir.modified, s.dir.changed = now, now
		d.tell(s)
	}
	d.journal = append(d.journal, change{sets})
}

func apply(s set, names map[string]*inode) {
	if s.to == nil {
		delete(names, s.name)
	} else {
		names[s.name] = s.to
	}
}

// harden makes the first n changes of the journal durable.
func (d *Disk) harden(n int) {
	for _, c := range d.journal[:n] {
		for _, s := range c.sets {
			if d.base[s.dir] == nil {
				d.base[s.dir] = make(map[string]*inode)
			}
			apply(s, d.base[s.dir])
		}
	}
	d.journal = slices.Clone(d.journal[n:])
}

// touching gives how much of the journal must be durable for all names in dir to
// be.
func (d *Disk) touching(dir *inode) int {
	for i := len(d.journal); i > 0; i-- {
		if slices.ContainsFunc(d.journal[i-1].sets, func(s set) bool { return s.dir == dir }) {
			return i
		}
	}
	return 0
}

func (n *inode) sync() {
	n.synced = slices.Clone(n.data)
	if n.synced == nil {
		n.synced = []byte{}
	}
	n.attrs, n.dirtied = attrs{n.mode, n.modified}, time.Time{}
}

// Writeback is how long a disk keeps what nobody has synced to itself: then it
// writes it by itself. Real ones take half a minute to ten.
const Writeback = 5 * time.Minute

// writeBack does what the system would have done by now.
func (n *inode) writeBack() {
	if !n.dirtied.IsZero() && time.Since(n.dirtied) > Writeback {
		n.sync()
	}
}

// syncAll makes everything durable.
func (d *Disk) syncAll() {
	d.harden(len(d.journal))
	walk(d.root, ".", func(_ string, n *inode) { n.sync() })
}

// page is how much of a file a disk writes or loses as a whole.
const page = 4 << 10

// Crash is a power cut. Names are as they were after some change that is not
// before the last one synced; of each file's bytes what was not synced is kept,
// lost, or kept in part. What was opened before is dead; Open gives the disk as it
// is after the machine has started again.
func (d *Disk) Crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
	d.harden(d.rnd.IntN(len(d.journal) + 1))
	d.journal = nil
	// The names that are left, and what they lead to.
	seen := make(map[*inode]bool)
	var restore func(n, parent *inode)
	restore = func(n, parent *inode) {
		if n.kind == stat.Directory {
			n.parent = parent
		} else if seen[n] {
			n.links++
			return
		}
		seen[n] = true
		n.links, n.open = 1, 0
		d.tear(n)
		if n.kind != stat.Directory {
			return
		}
		n.names = maps.Clone(d.base[n])
		if n.names == nil {
			n.names = make(map[string]*inode)
		}
		for _, name := range slices.Sorted(maps.Keys(n.names)) {
			restore(n.names[name], n)
		}
	}
	restore(d.root, nil)
	d.used = 0
	for n := range seen {
		d.used += int64(len(n.data))
	}
	maps.DeleteFunc(d.base, func(n *inode, _ map[string]*inode) bool { return !seen[n] })
	d.free = nil
}

// tear decides what of an inode's content and attributes has come to the disk.
func (d *Disk) tear(n *inode) {
	n.writeBack()
	if d.rnd.IntN(2) == 0 && n.attrs != (attrs{}) {
		n.mode, n.modified = n.attrs.mode, n.attrs.modified
	}
	if n.kind == stat.File && !slices.Equal(n.data, n.synced) {
		d.version++
		n.version = d.version
		switch d.rnd.IntN(4) {
		case 0: // all of it
		case 1: // nothing of it
			n.data = slices.Clone(n.synced)
		case 2: // the length, but not all bytes: zeros, or what was there before
			torn := make([]byte, len(n.data))
			copy(torn, n.synced)
			for at := 0; at < len(torn); at += page {
				if d.rnd.IntN(2) == 0 {
					end := min(at+page, len(torn))
					copy(torn[at:end], n.data[at:end])
				}
			}
			n.data = torn
		case 3: // the beginning
			n.data = n.data[:d.rnd.IntN(len(n.data)+1)]
		}
	}
	n.sync()
}
