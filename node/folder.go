package node

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
)

// A Folder keeps one directory of this device's disk in step with its index.
//
// One goroutine, in Run, sees and changes the disk and decides; all fields
// under "control" are its own. Hashing of large files and transfers run beside
// it and hand their results back through channels.
type Folder struct {
	id    crdt.FolderID
	name  string // "Sync": the first element of its paths in the tree
	root  string // on this disk
	index *store.Folder
	db    *store.Store
	log   *changeLog
	o     folderOptions

	stored bool    // no disk shows it: see stored.go
	mirror *mirror // it is the backup of a folder on another device; else nil
	source bool    // its directory is backed up: it is read, and nothing is written to it

	kicked   chan struct{}              // the index has moved, or something may be possible now
	sources  atomic.Uint64              // times that peers came or told of more
	calls    chan func(context.Context) // to be run by the control goroutine
	ready    chan *transfer             // transfers that have ended
	hashed   chan hashResult            // large files that have been hashed
	rejudge  atomic.Bool                // incoming changes are to be judged anew
	watching atomic.Pointer[disk.Watcher]
	trashed  trashIndex
	serving  atomic.Pointer[disk.Folder] // the disk, for who serves blocks from it

	// Control.
	disk       *disk.Folder
	gateNext   time.Time // when what is held is looked at again
	watcher    *disk.Watcher
	dirty      dirtySet
	stack      []deepDir  // directories of a scan still to be listed
	backlog    []sighting // seen, still to be read and recorded
	scan       scanState
	gone       map[crdt.EntryID]goneEntry
	goneBy     map[crdt.ContentHash]map[crdt.EntryID]bool
	heldEdits  map[crdt.EntryID]string // rewritten here and held: where
	undoing    *undoing
	postponed  map[string]waiting      // by path: sightings that wait for a name to be free
	unread     map[string]crdt.EntryID // by path: renamed to there, and not read since
	skips      map[string]bool         // paths that cannot sync, and are reported
	rules      stat.Stat               // the ignore file as last heeded
	heeded     bool                    // rules is set
	scans      uint64                  // full scans ended, over restarts of the folder
	heal       map[crdt.EntryID]string // rotten, to be fetched anew: where
	tally      plan.Tally              // taken away here lately
	taken      plan.Tally              // taken away by others lately
	judged     uint64                  // the index's number when incoming changes were last judged
	hashing    map[string]hashResult   // by path: being hashed (zero stat) or done
	transfers  map[crdt.EntryID]*transfer
	inFlight   inFlight
	landed     []*transfer // ready, not yet committed
	trashClock trashClock
	deleted    deletedAt // while a folder whose index was lost is scanned for the first time
	crashed    bool      // the machine went down while the folder ran; not changed while it is served
	sweep      bool      // temporary files may have been left that nobody wants
	temps      int       // temporary files seen by the last sweep, and kept
	committed  time.Time // when the last commit ended
	blocked    map[crdt.EntryID]blockage
	wants      map[crdt.EntryID]want // what keeps it from being as the index shows it
	page       uint64                // where the next look at what is behind goes on
	holds      holds

	mu         sync.Mutex
	shown      folderStatus
	problems   map[string]api.Problem // by path
	fresh      bool
	lost       int64 // see lostAt
	paused     bool
	have       uint64
	news       map[crdt.EntryID]struct{} // changed by what came in since control last looked
	allNews    bool                      // more than are noted were
	settled    uint64                    // our sequence number up to which the disk shows everything
	peers      map[replication.DeviceID]peerState
	shownHolds []api.Hold
	let        map[crdt.EntryID]bool // incoming changes that a person has let happen
	changed    chan struct{}         // closed and replaced whenever shown, peers or have move
}

// folderOptions is what a folder needs of its node.
type folderOptions struct {
	open     func(root string) (disk.FS, error)
	watcher  func(disk.FS) *disk.Watcher
	hashers  int // files hashed side by side
	author   string
	chunker  *chunk.Chunker
	fetch    func(ctx context.Context, want replication.Want, deliver func([]byte, error))
	limits   plan.Limits
	disk     disk.Options
	large    int64         // bytes from which a file is hashed beside the control goroutine
	scan     time.Duration // between full scans
	rehash   time.Duration // in which every file is read again; 0: never
	watch    bool          // be told of changes by the system
	keep     time.Duration // of the trash
	keepMost func(dir string) int64
	learn    func([]crdt.Entry) // the names in versions
	boot     string             // names this start of the machine; see bootID
	// clock is the wall clock, for what is compared with times of files or kept for
	// longer than this process lives; it may be set at any time. What is to happen
	// when goes by time.Now, which then holds still.
	clock    func() time.Time
	log      *slog.Logger
	event    func(kind string, data any)
	word     func(w word) error          // passes on a person's word
	remember func(standing) error        // keeps these in the device's description
	deviceOf func(crdt.ReplicaID) string // the name of the device whose replica it is, "" if not known
	// pace, if not nil, is called before each piece of work, with who does it. A
	// simulation gives each a moment of its own there, so that of two runs all
	// happens alike.
	pace func(ctx context.Context, who string)
}

// folderStatus is what the control goroutine last said of itself.
type folderStatus struct {
	state   api.State
	rounds  uint64 // full scans ended
	scans   uint64 // and over restarts of the folder
	quiet   bool   // nothing left to scan, hash, record, fetch or apply
	failure error  // why the folder is stopped
	behind  int64
	needed  int64 // bytes
	seq     uint64
}

// settleDelay is how long a path must have been left alone before it is read.
const settleDelay = 150 * time.Millisecond

// goneDelay is how long a name must have been gone before its deletion is
// recorded: programs save by deleting and creating.
const goneDelay = 2 * time.Second

// commitEvery is how long finished files wait for others while more are begun.
const commitEvery = 300 * time.Millisecond

// retryDelay is how long a stopped folder waits before it looks again.
const retryDelay = 3 * time.Second

var errStopped = errors.New("the folder is stopped")

func newFolder(d folderDescription, id crdt.FolderID, index *store.Folder, o folderOptions) *Folder {
	return &Folder{
		id: id, name: d.Name, root: d.Path, index: index, o: o,
		kicked:   make(chan struct{}, 1),
		calls:    make(chan func(context.Context)),
		ready:    make(chan *transfer),
		hashed:   make(chan hashResult),
		problems: make(map[string]api.Problem),
		peers:    make(map[replication.DeviceID]peerState),
		let:      make(map[crdt.EntryID]bool),
		changed:  make(chan struct{}),
		fresh:    d.Fresh,
		lost:     d.Lost,
		paused:   d.Paused,
		shown:    folderStatus{state: api.Scanning},
	}
}

// Run keeps the folder in step until ctx ends. A folder whose disk is not
// there, is another one, or fails, is stopped with its reason in the status
// and looked for again; nothing is ever read from it as deleted meanwhile.
func (f *Folder) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		f.mu.Lock()
		said := f.shown.failure
		f.mu.Unlock()
		if said == nil || said.Error() != err.Error() { // not every few seconds, while another node serves it
			f.o.log.Error("folder stopped", "folder", f.name, "err", err)
		}
		f.publish(func(s *folderStatus) { s.state, s.failure, s.quiet = api.Failing, err, false })
		retry := time.NewTimer(retryDelay)
		for waiting := true; waiting; {
			select {
			case <-retry.C:
				waiting = false
			case call := <-f.calls:
				call(ctx)
			case <-ctx.Done():
				waiting = false
			}
		}
		retry.Stop()
	}
	return nil
}

// serve opens the disk and runs until ctx ends or the disk fails.
func (f *Folder) serve(ctx context.Context) (err error) {
	fs, err := f.o.open(f.root)
	if errors.Is(err, iofs.ErrNotExist) {
		return &disk.RootError{Is: disk.ErrRootGone, Root: f.root, Detail: err.Error(), Remedy: "Mount the disk again, or put the directory back. Nothing is deleted meanwhile."}
	}
	if err != nil {
		return err
	}
	defer func() {
		if cerr := fs.Close(); err == nil {
			err = cerr
		}
	}()
	if f.disk, err = disk.Open(fs, f.id, f.o.disk); err != nil {
		return err
	}
	defer func() {
		if cerr := f.disk.Close(); err == nil {
			err = cerr
		}
		f.disk = nil
	}()
	f.watcher = f.o.watcher(fs)
	f.serving.Store(f.disk)
	f.watching.Store(f.watcher)
	defer f.watching.Store(nil)
	defer f.serving.Store(nil)
	f.progress() // who was told "not here" while the disk was away asks again
	if err := f.beginRun(); err != nil {
		return err
	}
	defer f.endRun()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.watcher.Run(ctx) })
	group.Go(func() error { return f.control(ctx) })
	if !f.source { // what rots there is a version like any other, and those before it are kept
		group.Go(func() error { return f.scrub(ctx, f.o.rehash) })
	}
	return group.Wait()
}

// control is the folder's loop. It owns all state under "Control".
func (f *Folder) control(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := &errgroup.Group{}
	defer func() {
		// Workers end with ctx; their last results are dropped, for what they
		// fetched is in temporary files and what they hashed is hashed again.
		cancel()
		_ = workers.Wait()
		for _, t := range f.transfers {
			t.close()
		}
	}()
	f.dirty, f.stack, f.backlog = dirtySet{}, nil, nil
	f.scan = scanState{}
	f.gone = make(map[crdt.EntryID]goneEntry)
	f.goneBy = make(map[crdt.ContentHash]map[crdt.EntryID]bool)
	f.heldEdits = make(map[crdt.EntryID]string)
	f.heal = make(map[crdt.EntryID]string)
	f.postponed, f.unread = make(map[string]waiting), make(map[string]crdt.EntryID)
	f.skips, f.heeded = make(map[string]bool), false
	f.hashing = make(map[string]hashResult)
	f.transfers = make(map[crdt.EntryID]*transfer)
	f.inFlight = inFlight{}
	f.landed, f.sweep, f.deleted = nil, true, nil
	f.blocked, f.wants = make(map[crdt.EntryID]blockage), make(map[crdt.EntryID]want)
	w := &work{ctx: ctx, group: workers}
	if err := f.putBack(ctx); err != nil {
		return err
	}
	if err := f.loadHolds(); err != nil {
		return err
	}
	f.clockLeapt()
	f.startScan()
	hourly := time.NewTicker(f.o.scan)
	defer hourly.Stop()
	trash := time.NewTicker(time.Hour)
	defer trash.Stop()
	for ctx.Err() == nil {
		f.pace(ctx, "control")
		if err := f.takeIn(ctx, hourly.C, trash.C); err != nil {
			return err
		}
		busy, wake, err := f.step(w)
		if err != nil {
			return err
		}
		if busy {
			continue
		}
		var due <-chan time.Time
		var timer *time.Timer
		if !wake.IsZero() {
			timer = time.NewTimer(max(time.Millisecond, time.Until(wake)))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case list := <-f.watcher.Events():
			f.noticed(list)
		case <-f.kicked:
			f.unblock()
		case t := <-f.ready:
			f.landed = append(f.landed, t)
		case h := <-f.hashed:
			f.hashedOne(h)
		case call := <-f.calls:
			call(ctx)
		case <-hourly.C:
			f.rescan()
		case <-trash.C:
			if err := f.tidy(); err != nil {
				return err
			}
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
	return ctx.Err()
}

// takeIn takes in all that has come in already, so that the next step does what
// there is to do for all of it.
func (f *Folder) takeIn(ctx context.Context, hourly, trash <-chan time.Time) error {
	for more := true; more; {
		more = false
		select {
		case list, ok := <-f.watcher.Events():
			f.noticed(list)
			more = ok
		default:
		}
		select {
		case <-f.kicked:
			f.unblock()
			more = true
		default:
		}
		select {
		case t := <-f.ready:
			f.landed = append(f.landed, t)
			more = true
		default:
		}
		select {
		case h := <-f.hashed:
			f.hashedOne(h)
			more = true
		default:
		}
		select {
		case call := <-f.calls:
			call(ctx)
			more = true
		default:
		}
		select {
		case <-hourly:
			f.rescan()
			more = true
		default:
		}
		select {
		case <-trash:
			if err := f.tidy(); err != nil {
				return err
			}
			more = true
		default:
		}
	}
	return nil
}

// rescan begins the scan that is due every now and then.
func (f *Folder) rescan() {
	f.startScan()
	f.forgetHashes()
}

// tidy lets go of what has been kept for long enough.
func (f *Folder) tidy() error {
	leapt := f.clockLeapt()
	f.expireTrash(leapt)
	if leapt {
		return nil
	}
	return f.forgetEnded()
}

func (f *Folder) pace(ctx context.Context, who string) {
	if f.o.pace != nil {
		f.o.pace(ctx, who)
	}
}

// work is what the control goroutine hands to its workers.
type work struct {
	ctx   context.Context
	group *errgroup.Group
}

// step does a bounded piece of whatever is to be done. busy tells that there is
// more at once; wake, unless zero, when to look again.
func (f *Folder) step(w *work) (busy bool, wake time.Time, err error) {
	soonest := func(t time.Time, ok bool) {
		switch {
		case !ok:
		case !t.After(time.Now()):
			busy = true // it is due, and may have come up just now
		case wake.IsZero() || t.Before(wake):
			wake = t
		}
	}
	recording := !f.isFresh()
	applying := recording && !f.isPaused() && !f.source
	if recording {
		if err := f.rebuilding(w.ctx); err != nil {
			return false, wake, err
		}
		more, err := f.observe(w)
		if err != nil {
			return false, wake, err
		}
		busy = busy || more
		again, err := f.recordGone(w.ctx)
		if err != nil {
			return false, wake, err
		}
		soonest(again, !again.IsZero())
		soonest(f.dirty.next())
		f.forgetHashes()
		soonest(f.hashesDue())
		again = f.undo()
		soonest(again, !again.IsZero())
	}
	if applying {
		planning := false
		// What is on the disk is recorded before anything is done to it: while
		// the first scan runs, what is only on the disk is not yet known.
		if f.scan.rounds > 0 {
			more, again, err := f.materialise(w)
			if err != nil {
				return false, wake, err
			}
			if err := f.healSome(w); err != nil {
				return false, wake, err
			}
			planning = more
			busy = busy || more
			soonest(again, !again.IsZero())
		}
		// A group commit costs two syncs, however many files are in it: while
		// there are more to be begun they are gathered for a moment.
		if !planning || time.Since(f.committed) > commitEvery {
			under := len(f.transfers)
			if err := f.commit(w.ctx); err != nil {
				return false, wake, err
			}
			f.committed = time.Now()
			// What was refused can be begun, and what another transfer of the same
			// entry, no longer wanted, stood in the way of.
			busy = busy || len(f.transfers) < under
		}
		if behind, _ := f.index.BehindCount(); f.scan.rounds > 0 && (f.sweep || f.temps > 0 && behind == 0) {
			if err := f.sweepTemps(); err != nil {
				return false, wake, err
			}
		}
	}
	f.report(busy)
	return busy, wake, nil
}

// noticed takes in what the watcher saw.
func (f *Folder) noticed(list []disk.Dirty) {
	for _, d := range list {
		switch {
		case d.All:
			f.startScan()
		case d.Deep:
			f.stack = append(f.stack, deepDir{path: d.Dir})
		case len(d.Names) == 0:
			f.dirty.addDir(d.Dir, false, time.Time{})
		default:
			for _, name := range d.Names {
				f.dirty.addName(d.Dir, name, time.Time{})
			}
		}
	}
}

// hashedOne takes in that a large file has been read.
func (f *Folder) hashedOne(h hashResult) {
	h.done = time.Now()
	f.hashing[h.path] = h
	f.dirty.addPath(h.path, time.Time{})
}

// kick makes the control goroutine look again. Any goroutine may call it.
func (f *Folder) kick() {
	select {
	case f.kicked <- struct{}{}:
	default:
	}
}

// do runs fn in the control goroutine and waits for it. fn gets errStopped
// where the folder's disk is not usable.
func (f *Folder) do(ctx context.Context, fn func(ctx context.Context) error) error {
	done := make(chan error, 1)
	call := func(inner context.Context) {
		if f.disk == nil {
			done <- fmt.Errorf("%s: %w", f.name, errStopped)
			return
		}
		done <- fn(inner)
	}
	select {
	case f.calls <- call:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish changes what is shown to others and wakes who waits for it.
func (f *Folder) publish(change func(*folderStatus)) {
	f.mu.Lock()
	before := f.shown
	change(&f.shown)
	moved := before != f.shown
	if moved {
		f.announceLocked()
	}
	f.mu.Unlock()
	if before.state != f.shown.state {
		f.o.event(api.EventState, nil)
	}
}

func (f *Folder) announceLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Folder) isFresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh
}

func (f *Folder) standingLocked() standing { return standing{f.fresh, f.lost, f.paused} }

func (f *Folder) isPaused() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paused
}

// treePath gives a path of this folder as it stands in the one tree.
func (f *Folder) treePath(p string) string { return path.Join("/", f.name, p) }
