package simdisk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"sheaf/node/disk"
	"sheaf/node/stat"
)

// ErrCrashed is what every call gives after the crash of the disk it was opened
// on.
var ErrCrashed = errors.New("the simulated machine has crashed")

// Options say what kind of disk it is. The zero Options are those of a good one:
// exact times, identity of files, exchange and hard links, names that are what
// they are.
type Options struct {
	Seed  uint64
	Now   func() time.Time // default: a clock of its own that moves by a microsecond a call
	Grain time.Duration    // of all times kept; default 1 ns
	Size  int64            // of the disk in bytes; 0: no end to it

	NoBirth      bool // no birth times
	NoNumbers    bool // nor inode numbers, change times or links: as the system tells of files on Windows
	NoExchange   bool
	NoLinks      bool // no hard links
	ReuseInodes  bool // a new file takes the number that was freed last
	FoldCase     bool // names that differ in case alone are one
	FoldForm     bool // names that differ in Unicode form alone are one
	StoreForm    bool // and are kept in form D, as some disks do
	RootReadable bool // permissions do not count, as for root

	Events Events

	// Trace, if not nil, is told of each call when it has been done, with its
	// second path where it has one. It must not call the disk.
	Trace func(user bool, op, path, to string, err error)
}

// A Disk is one file system on one simulated machine. Its methods are safe for
// concurrent use.
type Disk struct {
	o Options

	mu      sync.Mutex
	rnd     *rand.Rand
	clock   time.Time
	epoch   int // counts crashes: what was opened in an earlier one is dead
	calls   int
	root    *inode
	free    []uint64 // inode numbers to be used again
	next    uint64
	used    int64
	gone    bool   // another directory is at the root's path
	other   *inode // the root of the disk that is not mounted; nil: there is none
	journal []change
	base    map[*inode]map[string]*inode // names as after the part of the journal that is dropped
	hook    func(call int, op, path string) error
	watch   *queue // what tells the newest watcher; nil: there is none
	version uint64 // the last one given
}

// device is the number of every simulated disk: two of them never meet.
const device = 0x51

// An inode is a file, directory or link.
type inode struct {
	number                  uint64
	kind                    stat.Kind
	mode                    uint32
	modified, changed, born int64
	links                   uint32
	target                  string
	data                    []byte
	synced                  []byte            // as of the last sync; nil: never
	attrs                   attrs             // likewise
	dirtied                 time.Time         // of the first change of data since then; zero: none
	names                   map[string]*inode // of a directory
	parent                  *inode            // of a directory
	open                    int
	locked                  int    // by a file opened after as many crashes, counted from 1; 0: not
	version                 uint64 // another one after each change of data
	lists                   uint64 // times listed: each gives the names in another order
}

// attrs are what a sync of a file makes durable beside its bytes.
type attrs struct {
	mode     uint32
	modified int64
}

// New makes an empty disk.
func New(o Options) *Disk {
	if o.Grain <= 0 {
		o.Grain = 1
	}
	d := &Disk{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 0xd15c)), clock: time.Unix(1_700_000_000, 0), next: 2}
	d.root = d.newInode(stat.Directory, 0o755)
	d.root.attrs = attrs{d.root.mode, d.root.modified}
	d.base = map[*inode]map[string]*inode{d.root: {}}
	return d
}

// Open gives the disk as a folder's file system. It is dead after the next crash.
func (d *Disk) Open() disk.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &simFS{d: d, epoch: d.epoch}
}

// User gives the disk as the programs of its owner see it: like Open, but not
// counted and not told to Before.
func (d *Disk) User() disk.FS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &simFS{d: d, epoch: d.epoch, user: true}
}

// Kill ends whatever has the disk open, as kill -9 does: its calls fail from now
// on. Nothing of what is on the disk is lost.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.die()
	walk(d.root, ".", func(_ string, n *inode) { n.open = 0 })
}

// die ends what has the disk open.
func (d *Disk) die() {
	d.epoch++
	d.hook = nil
	if d.watch != nil {
		d.watch.stop()
		d.watch = nil
	}
}

// Calls gives how many calls the file systems of this disk have had.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Before has fn called before each call, with its number (from 1), its name and
// its first path. An error is the call's, which then does nothing; fn may be the
// one to crash the disk. It must not call the FS.
func (d *Disk) Before(fn func(call int, op, path string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hook = fn
}

// SetGone puts another directory at the root's path, or the right one again: a
// disk that is not mounted.
func (d *Disk) SetGone(gone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gone = gone
}

// SetRoom leaves so many bytes on the disk; a negative number ends its being full.
func (d *Disk) SetRoom(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.o.Size = 0; bytes >= 0 {
		d.o.Size = max(1, d.used+bytes)
	}
}

// Swap puts another disk, an empty one, at the root's path, as when the first is not
// mounted; or the first one again. What is open stays open on the one it was opened
// on. No crash may come while they are swapped.
func (d *Disk) Swap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncAll()
	if d.other == nil {
		d.other = d.newInode(stat.Directory, 0o755)
		d.other.attrs = attrs{d.other.mode, d.other.modified}
		d.base[d.other] = make(map[string]*inode)
	}
	d.root, d.other = d.other, d.root
}

func (d *Disk) now() int64 {
	t := d.clock
	if d.o.Now != nil {
		t = d.o.Now()
	} else {
		d.clock = t.Add(time.Microsecond)
	}
	return d.coarse(t.UnixNano())
}

// coarse cuts a time to what the disk keeps.
func (d *Disk) coarse(ns int64) int64 {
	g := int64(d.o.Grain)
	q := ns / g
	if ns%g < 0 {
		q--
	}
	return q * g
}

func (d *Disk) newInode(kind stat.Kind, mode uint32) *inode {
	n := &inode{kind: kind, mode: mode, links: 1}
	if k := len(d.free); k > 0 && d.o.ReuseInodes {
		n.number, d.free = d.free[k-1], d.free[:k-1]
	} else {
		n.number = d.next
		d.next++
	}
	n.modified = d.now()
	n.changed = n.modified
	if !d.o.NoBirth {
		n.born = n.modified
	}
	if kind == stat.Directory {
		n.names = make(map[string]*inode)
	}
	return n
}

// stat gives what lstat says of an inode.
func (d *Disk) stat(n *inode) stat.Stat {
	s := stat.Stat{
		Kind: n.kind, Mode: n.mode, Modified: n.modified, Changed: n.changed, Born: n.born,
		Inode: n.number, Device: device, Links: n.links, Size: int64(len(n.data)),
	}
	switch n.kind {
	case stat.Directory:
		s.Size, s.Links = 0, 1
	case stat.Symlink:
		s.Size, s.Mode = int64(len(n.target)), 0o777
	}
	return s
}

// unlinked takes a name from an inode, and the inode from the disk with its last.
func (d *Disk) unlinked(n *inode) {
	if n.links--; n.links == 0 {
		d.released(n)
	}
	n.changed = d.now()
}

// released frees an inode that has neither name nor opener.
func (d *Disk) released(n *inode) {
	if n.links == 0 && n.open == 0 {
		d.used -= int64(len(n.data))
		d.free = append(d.free, n.number)
	}
}

// grow judges and counts a change of a file's length.
func (d *Disk) grow(by int64) error {
	if by > 0 && d.o.Size > 0 && d.used+by > d.o.Size {
		return disk.ErrNoSpace
	}
	d.used += by
	return nil
}

// Walk gives fn all that is below a directory, top itself left out, as it is at one
// moment. data is not to be kept; version is another one whenever it is other data,
// also where no time shows it. fn must not call the disk.
func (d *Disk) Walk(top string, fn func(path string, s stat.Stat, data []byte, version uint64, target string)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, err := d.there(top)
	if err != nil || at.n.kind != stat.Directory {
		return
	}
	walk(at.n, top, func(p string, n *inode) {
		if p != top {
			fn(p, d.stat(n), n.data, n.version, n.target)
		}
	})
}

// String draws the tree, for tests that fail.
func (d *Disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := ""
	walk(d.root, ".", func(p string, n *inode) {
		switch n.kind {
		case stat.File:
			out += fmt.Sprintf("%s %o %d bytes\n", p, n.mode, len(n.data))
		case stat.Symlink:
			out += fmt.Sprintf("%s -> %s\n", p, n.target)
		default:
			out += fmt.Sprintf("%s/ %o\n", p, n.mode)
		}
	})
	return out
}
