package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/simdisk"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/simnet"
	"sheaf/replication/wire"
)

// simFolder is the folder that all devices of a simulation share.
var simFolder = crdt.FolderID{0x5e, 0xaf}

// A simDevice is one device of a simulation: a disk and a database that outlive
// it, and the node that runs on them or does not.
type simDevice struct {
	w    *world
	n    int
	id   simnet.ID
	disk *simdisk.Disk
	db   *simdisk.Database
	dir  string

	offset  atomic.Int64 // of its clock, in nanoseconds
	lives   uint64       // times started
	boots   int          // times that its machine went down
	setBack bool         // its clock was
	standing
	words    map[string]bool // that it has heard
	said     []word          // the same, in order
	restored []sum           // from its trash
	last     map[string]leaf // its tree after the last step
	stuck    map[string]bool // paths of what its disk cannot have under its new name
	away     bool            // its disk is not mounted
	left     int             // the step at which it was removed
	gone     atomic.Bool     // no longer a member

	// unsynced are the files that its user has written and not synced, by inode.
	unsynced map[uint64]bool
	hashes   hasher
	ever     map[string]bool // names that there ever were in its tree
	held     map[sum]bool    // contents seen in its tree and not taken away by its own user
	images   []simdisk.Image // of its database, to go back to

	run   *simRun
	image simdisk.Image // what its crash left of the database
	down  bool          // crashed, and not yet taken down
}

// A simRun is a node while it runs.
type simRun struct {
	node   *Node
	folder *Folder
	port   atomic.Pointer[simnet.Port]
	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup
	peers  sync.WaitGroup
}

func (d *simDevice) name() string { return fmt.Sprintf("dev%d", d.n) }

func (d *simDevice) now() time.Time { return time.Now().Add(time.Duration(d.offset.Load())) }

// start starts the node.
func (d *simDevice) start() error {
	d.lives++
	rnd := seededReader(d.w.h.Seed, uint64(d.n), d.lives)
	s, err := store.Open(d.dir, store.Options{Now: d.now, Rand: rnd, Files: d.db.Files, WriteBuffer: 128 << 10, Logger: d.w.log.With("device", d.name())})
	if err != nil {
		return err
	}
	if k := s.Recovery().Kind; (k == store.Rebuilt || k == store.Fresh) && !d.Fresh && d.w.others(d) {
		d.Fresh, d.Lost = true, d.now().UnixNano()
	}
	index, err := s.Folder(simFolder)
	if err != nil {
		_ = s.Close()
		return err
	}
	log := d.w.log.With("device", d.name())
	ctx, cancel := context.WithCancel(context.Background())
	r := &simRun{ctx: ctx, cancel: cancel}
	n := &Node{
		o: Options{Version: "simulated"}, log: log, db: s, events: newEventLog(), problems: make(map[string]api.Problem),
		sessions: make(map[replication.DeviceID]*peerSession), seen: make(map[replication.DeviceID]time.Time),
		changelog:  &changeLog{db: s, space: "log"},
		deviceName: func(p replication.DeviceID) string { return fmt.Sprintf("dev%d", p[0]) },
		greet:      d.greet,
	}
	n.opener, n.authority = simOpener{r}, simAuthority{d.w}
	n.timing.Jitter = func(pause time.Duration) time.Duration { return pause }
	n.fetcher = replication.NewFetcher(replication.FetcherConfig{
		Opener: n.opener, Log: log, Timing: n.timing,
		Pace: func(ctx context.Context, peer replication.DeviceID) { d.pace(ctx, "ask "+peer.String()) },
		Changed: func(crdt.FolderID) {
			n.folders[0].sources.Add(1)
			n.folders[0].kick()
		},
		Bad: func(v *replication.Violation) { d.w.fail("%s: %v", d.name(), v) },
	})
	limits := plan.DefaultLimits()
	limits.Window = massWindow
	limits.Entries, limits.Share, limits.Emptied = d.w.h.Hold, 0.5, d.w.h.Hold
	f := newFolder(folderDescription{Name: "Sync", Path: "/simulated", Fresh: d.Fresh, Lost: d.Lost, Paused: d.Paused}, simFolder, index, folderOptions{
		open:    func(string) (disk.FS, error) { return d.disk.Open(), nil },
		watcher: d.watcher, hashers: 1, watch: d.w.h.Devices[d.n].Watch,
		author: d.name(), chunker: d.w.chunker, fetch: n.fetcher.Fetch, limits: limits,
		disk:  disk.Options{Device: d.name(), Log: log, Floor: -1, Writers: 1, Now: d.now, Rand: seededReader(d.w.h.Seed, uint64(d.n), d.lives, 7)},
		large: 4 << 10, scan: d.w.h.Scan, rehash: 60 * 24 * time.Hour, keep: 30 * 24 * time.Hour, keepMost: func(string) int64 { return 1 << 50 },
		clock: d.now, log: log, event: n.event, deviceOf: func(crdt.ReplicaID) string { return "" }, learn: func([]crdt.Entry) {},
		remember: func(s standing) error { d.standing = s; return nil },
		word:     func(wd word) error { d.say(wd); return nil },
		boot:     fmt.Sprint(d.boots),
		pace:     func(ctx context.Context, who string) { d.pace(ctx, who) },
	})
	f.db, f.log = s, n.changelog
	n.folders = []*Folder{f}
	for _, wd := range d.said {
		f.hearWord(wd)
	}
	r.node, r.folder = n, f
	d.run = r
	r.group.Go(func() { _ = n.fetcher.Run(ctx) })
	r.group.Go(func() { _ = f.Run(ctx) })
	r.port.Store(d.w.net.Join(d.id, simHost{d, r}))
	return nil
}

// pace gives a piece of work a moment that nothing else has.
func (d *simDevice) pace(ctx context.Context, who string) {
	if d.w.paces.Add(1) == endless {
		d.w.fail("storm: no end to it: %d pieces of work", endless)
		close(d.w.over)
	}
	// By who and when alone: a count would depend on who came first of those that
	// were woken by one thing.
	h := sumOf([]byte(who))
	rnd := rand.New(rand.NewPCG(d.w.h.Seed^uint64(d.n)<<32^binary.LittleEndian.Uint64(h[:]), uint64(time.Since(d.w.begin))))
	d.w.moment(ctx, time.Duration(rnd.Int64N(int64(200*time.Microsecond))))
}

func (d *simDevice) watcher(fs disk.FS) *disk.Watcher {
	o := disk.WatchOptions{Log: slog.New(slog.DiscardHandler)}
	if !d.w.h.Devices[d.n].Watch {
		return disk.NewUnwatched(fs, o)
	}
	o.System = d.disk.Watch
	return disk.NewWatcher(fs, o)
}

// stop stops the node in order, or takes down what is left of one that crashed.
func (d *simDevice) stop() error {
	r := d.run
	if r == nil {
		return nil
	}
	r.cancel()
	r.port.Load().Leave()
	r.peers.Wait()
	r.group.Wait()
	err := r.node.db.Close()
	r.node.events.close()
	d.run = nil
	if d.down {
		d.down = false
		err = d.image.Write(d.dir)
		d.image = nil
	}
	return err
}

// crash ends the node where it stands: the machine (power), or the process alone.
// It may be called from within a call on the disk; stop then does the rest.
func (d *simDevice) crash(power bool) {
	if d.run == nil || d.down {
		return
	}
	d.down = true
	var rnd *rand.Rand
	if power {
		rnd = rand.New(rand.NewPCG(d.w.h.Seed, d.lives<<8|uint64(d.n)))
	}
	var err error
	if d.image, err = d.db.Image(rnd); err != nil {
		d.w.fail("image of the database: %v", err)
	}
	// From this moment on nothing of it gets out.
	for _, o := range d.w.devices {
		if o != d {
			d.w.net.Cut(d.id, o.id)
		}
	}
	if power {
		d.boots++
		d.disk.Crash()
	} else {
		d.disk.Kill()
	}
}

// dirOf is where a device's database is.
func dirOf(base string, n int) string { return filepath.Join(base, fmt.Sprint(n), "index") }

// simHost tells a device of its connections.
type simHost struct {
	d *simDevice
	r *simRun
}

func (h simHost) Connected(peer simnet.ID) {
	if h.r.ctx.Err() == nil {
		h.r.node.connected(h.r.ctx, &h.r.peers, replication.DeviceID(peer))
	}
}

func (h simHost) Disconnected(peer simnet.ID) { h.r.node.disconnected(replication.DeviceID(peer)) }

func (h simHost) Serve(ctx context.Context, peer simnet.ID, protocol string, s *simnet.Stream) {
	switch protocol {
	case wire.IndexProtocol:
		h.r.node.serveIndex(ctx, replication.DeviceID(peer), s)
	case wire.BlocksProtocol:
		h.r.node.serveBlocks(ctx, replication.DeviceID(peer), s)
	}
}

type simOpener struct{ r *simRun }

func (o simOpener) Open(ctx context.Context, peer replication.DeviceID, protocol string) (replication.Stream, error) {
	return o.r.port.Load().Open(ctx, simnet.ID(peer), protocol)
}

// simAuthority lets members read and write.
type simAuthority struct{ w *world }

func (a simAuthority) May(peer replication.DeviceID, _ crdt.FolderID) (read, write bool) {
	ok := !a.w.devices[peer[0]].gone.Load()
	return ok, ok
}
