package plan

import (
	"fmt"
	"maps"
	"slices"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// memDisk is a disk in memory, with inodes, so that files have an identity apart
// from their names. Inode numbers are used again, as real disks do.
type memDisk struct {
	w      *world
	root   *inode
	stage  map[crdt.EntryID]*inode
	trash  []string // contents
	unused []uint64
	next   uint64

	coarse bool // times of two seconds, no modes (FAT)
	noBorn bool // no birth times
}

type inode struct {
	ino   uint64
	born  int64
	kind  stat.Kind
	data  string // a file's bytes, a link's target
	mode  uint32
	mtime int64
	ctime int64
	links uint32
	kids  map[string]*inode
}

func newMemDisk(w *world) *memDisk {
	d := &memDisk{w: w, stage: make(map[crdt.EntryID]*inode)}
	d.root = d.inode(stat.Directory, "")
	return d
}

func (d *memDisk) inode(kind stat.Kind, data string) *inode {
	ino := d.next + 1
	if n := len(d.unused); n > 0 {
		ino, d.unused = d.unused[n-1], d.unused[:n-1]
	} else {
		d.next++
	}
	now := d.w.tick()
	n := &inode{ino: ino, born: now, kind: kind, data: data, mtime: now, ctime: now, mode: 0o644}
	if kind == stat.Directory {
		n.kids, n.mode, n.links = make(map[string]*inode), 0o755, 1
	}
	return n
}

func (d *memDisk) stat(n *inode) stat.Stat {
	if n == nil {
		return stat.Stat{}
	}
	s := stat.Stat{Kind: n.kind, Mode: n.mode, Size: int64(len(n.data)), Modified: n.mtime, Changed: n.ctime, Born: n.born, Inode: n.ino, Device: 1, Links: n.links}
	if d.coarse {
		s.Mode, s.Modified = 0o777, s.Modified-mod(s.Modified, 2e9)
	}
	if d.noBorn {
		s.Born = 0
	}
	return s
}

// put gives an inode a name; what had it is dropped.
func (d *memDisk) put(dir *inode, name string, n *inode) {
	d.drop(dir, name)
	dir.kids[name] = n
	n.links++
	n.ctime = d.w.tick()
}

// take takes a name away and gives what had it.
func (d *memDisk) take(dir *inode, name string) *inode {
	n := dir.kids[name]
	delete(dir.kids, name)
	n.links--
	return n
}

// drop removes a name with all below it for good.
func (d *memDisk) drop(dir *inode, name string) {
	n := dir.kids[name]
	if n == nil {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(n.kids)) {
		d.drop(n, k)
	}
	delete(dir.kids, name)
	n.links--
	if n.links == 0 || n.kind == stat.Directory {
		d.unused = append(d.unused, n.ino)
	}
}

// place names a name in a directory of a disk.
type place struct {
	dir  *inode
	name string
}

func (p place) inode() *inode { return p.dir.kids[p.name] }

// places gives all names on the disk, parents first, in order.
func (d *memDisk) places() []place {
	var out []place
	var walk func(*inode)
	walk = func(dir *inode) {
		for _, name := range slices.Sorted(maps.Keys(dir.kids)) {
			out = append(out, place{dir, name})
			walk(dir.kids[name])
		}
	}
	walk(d.root)
	return out
}

// dirs gives all directories, the root first.
func (d *memDisk) dirs() []*inode {
	out := []*inode{d.root}
	for _, p := range d.places() {
		if p.inode().kind == stat.Directory {
			out = append(out, p.inode())
		}
	}
	return out
}

func (n *inode) contains(other *inode) bool {
	if n == other {
		return true
	}
	for _, k := range n.kids {
		if k.contains(other) {
			return true
		}
	}
	return false
}

// tree gives path -> what stands there, for comparisons.
func (d *memDisk) tree(attrs bool) map[string]string {
	out := make(map[string]string)
	var walk func(*inode, string)
	walk = func(dir *inode, prefix string) {
		for name, n := range dir.kids {
			out[prefix+name] = describe(crdtKind(n.kind), n.data, n.mode, n.mtime, attrs)
			walk(n, prefix+name+"/")
		}
	}
	walk(d.root, "")
	return out
}

func crdtKind(k stat.Kind) crdt.Kind { return kindOf(k) }

func describe(kind crdt.Kind, data string, mode uint32, mtime int64, attrs bool) string {
	switch {
	case kind == crdt.Symlink:
		return "-> " + data
	case kind == crdt.Directory && attrs:
		return fmt.Sprintf("dir %o", mode)
	case kind == crdt.Directory:
		return "dir"
	case attrs:
		return fmt.Sprintf("%q %o %d", data, mode, mtime)
	}
	return fmt.Sprintf("%q", data)
}

// holds tells whether a content is anywhere on the disk, the trash included.
func (d *memDisk) holds(data string) bool {
	found := slices.Contains(d.trash, data)
	var look func(*inode)
	look = func(n *inode) {
		found = found || n.kind == stat.File && n.data == data
		for _, k := range n.kids {
			look(k)
		}
	}
	look(d.root)
	for _, n := range d.stage {
		look(n)
	}
	return found
}
