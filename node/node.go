package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	mathrand "math/rand/v2"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/config"
	"sheaf/node/disk"
	"sheaf/node/mesh"
	"sheaf/node/plan"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/wire"
)

// Options say how a node runs. What is empty comes from the configuration.
type Options struct {
	Home    string
	Listen  []string // multiaddrs
	NoMDNS  bool
	API     string // 127.0.0.1:PORT for the API on TCP
	Version string
	Log     *slog.Logger
}

// A Node is one running device. It implements api.Node.
type Node struct {
	home    home
	cfg     config.Config
	o       Options
	log     *slog.Logger
	started time.Time

	account     *account
	db          *store.Store
	mesh        *mesh.Mesh
	fetcher     *replication.Fetcher
	chunker     *chunk.Chunker
	folders     []*Folder // on this device's disks, in step with its other devices'
	stored      []*Folder // the account's, on no disk
	books       *relayBooks
	relayBlocks *relayBlocks
	changelog   *changeLog
	events      *eventLog
	book        *addressBook
	replicas    *replicaNames
	joins       *joinLimit

	// What sessions need of the account and the mesh, which a simulation has
	// others for.
	opener     replication.Opener
	authority  replication.Authority
	timing     replication.Timing
	deviceName func(replication.DeviceID) string
	greet      func(ctx context.Context, peer replication.DeviceID) // on each connection, beside its session

	relaysFolder, backupsFolder, archiveFolder *Folder // of stored

	begun chan *ownBackup // to be run by runBackups

	stop chan bool     // restart?
	said chan struct{} // a person's word is to be passed on; holds one

	describing sync.Mutex // held while desc is changed and written
	desc       description

	mu       sync.Mutex // never held over a write to the disk, which may take a minute
	sessions map[replication.DeviceID]*peerSession
	seen     map[replication.DeviceID]time.Time // when a peer was last connected
	problems map[string]api.Problem             // of the node as a whole
	leaving  map[mesh.DeviceID]chan struct{}    // being removed: closed when they have heard of it
	relayIDs []mesh.DeviceID                    // of the relays that the account uses
	links    map[mesh.DeviceID]*relayLink
	backups  []*ownBackup             // of directories of this device
	mirrors  map[crdt.EntryID]*Folder // of other devices' backups, by what stands for each among the backups
	parting  []*Folder                // of backups that were removed: relays are to hear of it
}

var _ api.Node = (*Node)(nil)

// Open opens a device's home for running. Only one process may have it open
// (api.LockHome). Whoever opened a node must Run it, which also closes it.
func Open(_ context.Context, o Options) (n *Node, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h, desc, err := openHome(o.Home)
	if errors.Is(err, errNoHome) {
		return nil, api.Errorf(api.ErrUsage, "run `sheaf init` for a first device, or `sheaf join CODE` for one more", "there is no device in %s", o.Home)
	}
	if err != nil {
		return nil, err
	}
	cfg, err := config.Read(o.Home)
	if err != nil {
		return nil, err
	}
	n = &Node{
		home: h, cfg: cfg, o: o, log: o.Log, started: time.Now(), desc: desc,
		begun: make(chan *ownBackup), links: make(map[mesh.DeviceID]*relayLink), mirrors: make(map[crdt.EntryID]*Folder),
		stop: make(chan bool, 1), said: make(chan struct{}, 1), leaving: make(map[mesh.DeviceID]chan struct{}), events: newEventLog(), joins: newJoinLimit(), problems: make(map[string]api.Problem),
		sessions: make(map[replication.DeviceID]*peerSession), seen: make(map[replication.DeviceID]time.Time),
	}
	if n.account, err = openAccount(h, n.log); err != nil {
		return nil, err
	}
	if n.book, err = openAddressBook(h); err != nil {
		return nil, err
	}
	if _, serr := os.Lstat(h.path(indexDir)); errors.Is(serr, fs.ErrNotExist) {
		// Said before there is one again: after a crash it would not be missed.
		if err = n.indexLost(); err != nil {
			return nil, err
		}
	}
	if n.db, err = store.Open(h.path(indexDir), store.Options{Logger: n.log}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = n.db.Close()
		}
	}()
	n.changelog = &changeLog{db: n.db, space: "log"}
	if n.replicas, err = openReplicaNames(n.db); err != nil {
		return nil, err
	}
	if err = n.recovered(n.db.Recovery()); err != nil {
		return nil, err
	}
	n.books, n.relayBlocks = newRelayBooks(n.db, n.started), newRelayBlocks(n)
	if err = n.openStored(); err != nil {
		return nil, err
	}
	if err = n.openMesh(); err != nil {
		return nil, err
	}
	n.fetcher = replication.NewFetcher(replication.FetcherConfig{
		Opener: n.opener,
		Changed: func(id crdt.FolderID) {
			if f := n.folder(id); f != nil {
				f.sources.Add(1)
				f.kick()
			}
		},
		Bad: n.violation, Log: n.log,
	})
	n.fetcher.SetLimits(cfg.Limits.Upload, cfg.Limits.Download)
	if err = n.openFolders(); err != nil {
		_ = n.mesh.Close()
		return nil, err
	}
	return n, nil
}

// recovered prepares for an index that had to be begun anew: what others know
// is taken in before anything on this disk is recorded.
func (n *Node) recovered(r store.Recovery) error {
	if r.Kind != store.Rebuilt && r.Kind != store.Fresh {
		return nil
	}
	if r.Kind == store.Rebuilt {
		n.log.Error("index set aside", "reason", r.Reason, "aside", r.Aside)
		n.problem("index", "the index database was damaged, and set aside as "+r.Aside, "nothing to do: it is built anew from the disk and the other devices, and nothing is deleted meanwhile")
	}
	return n.indexLost()
}

// indexLost notes that nothing is known of what the folders had in step.
func (n *Node) indexLost() error {
	if len(n.account.others()) == 0 {
		return nil
	}
	for i := range n.desc.Folders {
		// One that has joined and met nobody yet has had nothing in step.
		if d := &n.desc.Folders[i]; !d.Fresh && d.Kind == syncName {
			d.Fresh, d.Lost = true, time.Now().UnixNano()
		}
	}
	return n.home.describe(n.desc)
}

func (n *Node) openMesh() (err error) {
	listen := n.o.Listen
	if len(listen) == 0 {
		listen = n.cfg.Listen
	}
	n.mesh, err = n.listenAt(mesh.Config{
		Key:  n.account.keys.SigningKey(),
		MDNS: n.cfg.MDNS && !n.o.NoMDNS, Services: n.services,
		Allowed: n.admits, Joining: n.account.inviting, GuestProtocols: []string{joinProtocol, wire.HostProtocol},
		Known: func() []mesh.DeviceID { return append(n.account.others(), n.knownRelays()...) }, Book: n.book, Log: n.log,
	}, listen)
	if err != nil {
		return api.Errorf(api.ErrFailed, "give other addresses with --listen, or see what uses these", "cannot listen: %w", err)
	}
	n.opener, n.authority = opener{n.mesh}, authority{n.account, n}
	n.deviceName = func(peer replication.DeviceID) string { return n.account.name(mesh.DeviceID(peer)) }
	n.greet = func(ctx context.Context, peer replication.DeviceID) {
		n.exchangeStatements(ctx, mesh.DeviceID(peer))
		n.sayWords(ctx, mesh.DeviceID(peer))
	}
	n.mesh.Handle(wire.IndexProtocol, func(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) { n.serveIndex(ctx, peer, s) })
	n.mesh.Handle(wire.BlocksProtocol, func(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) { n.serveBlocks(ctx, peer, s) })
	n.mesh.Handle(groupsProtocol, n.serveGroups)
	n.mesh.Handle(joinProtocol, n.serveJoin)
	n.mesh.Handle(wordProtocol, n.serveWords)
	return nil
}

func (n *Node) openFolders() error {
	chunker, err := n.account.chunker()
	if err != nil {
		return api.Errorf(api.ErrFailed, "start another device of the account and let them connect; if that does not help, remove this device there and join anew", "%w", err)
	}
	n.chunker = chunker
	for _, d := range n.desc.Folders {
		f, err := n.newDiskFolder(d)
		if err != nil {
			return err
		}
		switch d.Kind {
		case backupKind:
			n.backups = append(n.backups, newBackup(f, d))
		case partedKind:
			if f, err = n.newStored(f.id, f.name); err != nil {
				return err
			}
			n.parting = append(n.parting, f)
		default:
			n.folders = append(n.folders, f)
		}
	}
	words, err := n.words()
	if err != nil {
		return err
	}
	for _, w := range words {
		if f := n.folder(w.Folder); f != nil {
			f.hearWord(w)
		}
	}
	return nil
}

// newDiskFolder makes the folder that a description is of.
func (n *Node) newDiskFolder(d folderDescription) (*Folder, error) {
	raw, err := hex.DecodeString(d.ID)
	if err != nil || len(raw) != len(crdt.FolderID{}) {
		return nil, fmt.Errorf("read %s: folder ID %q is none", n.home.path(deviceFile), d.ID)
	}
	id := crdt.FolderID(raw)
	index, err := n.db.Folder(id)
	if err != nil {
		return nil, err
	}
	limits := plan.DefaultLimits()
	limits.Window = massWindow
	limits.Entries, limits.Share = n.cfg.Hold.Entries, float64(n.cfg.Hold.Percent)/100
	f := newFolder(d, id, index, folderOptions{
		open: disk.NewOS, watcher: n.watcher, hashers: runtime.GOMAXPROCS(0), boot: bootID(), author: n.desc.Name, chunker: n.chunker, fetch: n.relayBlocks.fetch, limits: limits,
		disk:  disk.Options{Device: n.desc.Name, Holder: n.holder(), Log: n.log, Floor: n.floor(d.Path)},
		large: largeFile, scan: n.cfg.Scan.Interval, rehash: n.cfg.Scan.Rehash, watch: n.cfg.Watch, keep: n.cfg.Trash.Keep, keepMost: n.trashMost,
		clock: time.Now, log: n.log, event: n.event, deviceOf: n.replicas.name, learn: n.replicas.learn,
		remember: func(s standing) error { return n.rememberFolder(d.ID, s) },
		word:     n.spread,
	})
	f.db, f.log = n.db, n.changelog
	n.replicas.own(index.Replica(), n.desc.Name)
	return f, nil
}

// holder says who this is, for a node that is refused a folder of ours.
func (n *Node) holder() string {
	return fmt.Sprintf("device %s, process %d, home %s", n.desc.Name, os.Getpid(), n.home.dir)
}

// watcher makes what tells of changes on a folder's disk.
func (n *Node) watcher(fs disk.FS) *disk.Watcher {
	o := disk.WatchOptions{Log: n.log}
	if !n.cfg.Watch {
		return disk.NewUnwatched(fs, o)
	}
	return disk.NewWatcher(fs, o)
}

// spread keeps a person's word and has it told to all peers. It is called by a
// folder's control goroutine, which does not wait for them.
func (n *Node) spread(w word) error {
	if _, err := n.keepWord(w); err != nil {
		return err
	}
	select {
	case n.said <- struct{}{}:
	default: // it is being told already, and is told again after
	}
	return nil
}

// massWindow is what counts as one go in a mass change: long enough that a slow
// deletion or encryption adds up, short enough that a day's work does not.
const massWindow = 10 * time.Minute

// Run runs the node until ctx ends or Stop is called, and calls ready once it
// serves. It returns nil after a clean stop, api.ErrRestart when it is to be
// started again.
func (n *Node) Run(ctx context.Context, ready func()) (err error) {
	defer func() {
		err = errors.Join(err, n.changelog.flush(), n.db.Close())
	}()
	apiAddr := n.o.API
	if apiAddr == "" {
		apiAddr = n.cfg.API.Address
	}
	doors, err := api.Listen(n.home.dir, apiAddr)
	if err != nil {
		_ = n.mesh.Close()
		return err
	}
	server := api.NewServer(n, api.Options{Version: n.o.Version, Token: func() (string, error) { return api.Token(n.home.dir) }, Log: n.log})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(ctx, doors) })
	group.Go(func() error { return n.fetcher.Run(ctx) })
	group.Go(func() error { return n.runPeers(ctx) })
	group.Go(func() error { return n.mesh.Run(ctx) })
	group.Go(func() error { return n.housekeep(ctx) })
	group.Go(func() error { return n.runBackups(ctx) })
	group.Go(func() error { return n.runRelays(ctx) })
	group.Go(func() error { return n.relayBlocks.run(ctx) })
	for _, f := range n.folders {
		group.Go(func() error { return f.Run(ctx) })
	}
	restart := false
	group.Go(func() error {
		select {
		case restart = <-n.stop:
			cancel()
		case <-ctx.Done():
		}
		return nil
	})
	ready()
	err = group.Wait()
	n.events.close()
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		return err
	case restart:
		return api.ErrRestart
	}
	return nil
}

// housekeep does what is due every now and then.
func (n *Node) housekeep(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	// Not all devices at one moment: what one has done the others need not.
	tending := time.NewTicker(20*time.Second + mathrand.N(20*time.Second))
	defer tending.Stop()
	for {
		select {
		case <-tending.C:
			if err := n.tend(); err != nil {
				n.log.Debug("tend the account", "err", err)
			}
		case <-tick.C:
			if err := n.changelog.flush(); err != nil {
				return err
			}
			if err := n.replicas.flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// folder gives a folder that this device shares with its others, by its ID; nil for
// none.
func (n *Node) folder(id crdt.FolderID) *Folder {
	for _, list := range [][]*Folder{n.folders, n.stored} {
		for _, f := range list {
			if f.id == id {
				return f
			}
		}
	}
	return nil
}

func (n *Node) clock() time.Time { return time.Now() }

func (n *Node) rememberFolder(id string, s standing) error {
	n.describing.Lock()
	defer n.describing.Unlock()
	for i := range n.desc.Folders {
		if d := &n.desc.Folders[i]; d.ID == id {
			d.Fresh, d.Lost, d.Paused = s.Fresh, s.Lost, s.Paused
		}
	}
	return n.home.describe(n.desc)
}

// services gives the names under which this device looks for others in the local
// network: derived from the account, so that no stranger learns of whom. The name is
// the same at all times: one that changed with the month would keep devices apart
// whose clocks are, and hide nothing, since each device's ID is announced with it.
func (n *Node) services() []string {
	state, _ := n.account.snapshot()
	tag := state.FolderID("mdns")
	return []string{"_" + hex.EncodeToString(tag[:8]) + "._udp"}
}

// floor gives the free space to keep on a folder's disk, in bytes.
func (n *Node) floor(dir string) int64 {
	if n.cfg.Free.Floor == (config.Amount{}) {
		return 0 // the disk's own rule
	}
	return n.cfg.Free.Floor.Of(diskSize(dir))
}

// trashMost gives the most bytes that a folder's trash may hold.
func (n *Node) trashMost(dir string) int64 { return n.cfg.Trash.Max.Of(diskSize(dir)) }

func diskSize(dir string) int64 {
	root, err := disk.NewOS(dir)
	if err != nil {
		return 0
	}
	defer func() { _ = root.Close() }()
	_, total, err := root.Space()
	if err != nil {
		return 0
	}
	return total
}

// problem notes what is wrong with the node as a whole.
func (n *Node) problem(key, what, remedy string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.problems[key] = api.Problem{What: what, Remedy: remedy}
}

// violation reports a peer that broke the rules.
func (n *Node) violation(v *replication.Violation) {
	name := n.deviceName(v.Peer)
	n.log.Error("a device broke the rules", "device", name, "err", v.Err)
	n.problem("violation/"+v.Peer.String(), fmt.Sprintf("%s sent what it must not: %v", name, v.Err), "update Sheaf there; if it goes on, `sheaf device remove "+name+"`")
}

// opener opens streams to peers for the sessions.
type opener struct{ m *mesh.Mesh }

func (o opener) Open(ctx context.Context, peer replication.DeviceID, protocol string) (replication.Stream, error) {
	return o.m.Open(ctx, mesh.DeviceID(peer), protocol)
}

// authority lets the account's devices read and write its folders.
type authority struct {
	a *account
	n *Node
}

func (a authority) May(peer replication.DeviceID, folder crdt.FolderID) (read, write bool) {
	ok := a.a.member(mesh.DeviceID(peer)) && a.n.folder(folder) != nil
	return ok, ok
}
