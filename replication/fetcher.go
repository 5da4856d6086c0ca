package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// A Want is a block, or with List the encoded block list of a content, of a
// folder.
type Want struct {
	Folder   crdt.FolderID
	Block    chunk.Block
	List     bool
	Content  crdt.ContentHash // of the list wanted
	Priority int64            // smaller first; equal ones in the order of Fetch
}

// FetcherConfig is what a Fetcher works with. Changed, Bad, Log and Pace may be nil.
type FetcherConfig struct {
	Opener Opener
	// Changed is told that a folder may have found a new source: a peer came or
	// has more than before. What failed with ErrNoSource is worth asking for
	// again. It must not block.
	Changed func(crdt.FolderID)
	// Bad is told that a peer gave wrong bytes twice, the second time although
	// it was asked to verify them first, or broke the protocol (then Folder is
	// zero). The peer is asked for nothing more of that folder, or of any, until
	// Readmit. It must not block.
	Bad    func(*Violation)
	Log    *slog.Logger
	Timing Timing
	// Pace is called whenever the goroutine that asks a peer was woken. A
	// simulation gives each a moment of its own there, so that of two runs all
	// happens alike.
	Pace func(ctx context.Context, peer DeviceID)
}

// A Fetcher brings blocks from all connected peers, for all sessions of a
// node. Sessions tell it which peer shares which folder. All methods are safe
// for concurrent use.
//
// It asks every peer for as much as its window allows, most urgent first, so
// each gives as fast as it can. When nothing is left to ask of a peer that is
// done, it takes over the last blocks of those that are not.
type Fetcher struct {
	cfg      FetcherConfig
	log      *slog.Logger
	meter    meter
	up, down *limiter

	mu      sync.Mutex
	ctx     context.Context // of Run; nil before and after
	stopped bool
	running sync.WaitGroup // one for each remote being run
	tasks   map[key]*task
	order   uint64
	remotes map[DeviceID]*remote
	aside   map[asideKey]bool
	failed  []failure
	wake    chan struct{} // holds one: failed is not empty, or ticks are needed
	ticking bool
}

type asideKey struct {
	peer   DeviceID
	folder crdt.FolderID
}

// A key is what makes two wants the same.
type key struct {
	folder crdt.FolderID
	hash   chunk.Hash
	size   uint32
	list   bool
}

func (w Want) key() key {
	if w.List {
		return key{folder: w.Folder, hash: chunk.Hash(w.Content), list: true}
	}
	return key{folder: w.Folder, hash: w.Block.Hash, size: w.Block.Size}
}

// A task is one thing being fetched, for all who want it.
type task struct {
	key      key
	priority int64
	order    uint64
	waiters  []*waiter
	at       []place // with which peers it stands how
	over     bool
}

// A place is how a task stands with one peer.
type place struct {
	r      *remote
	queued bool
	asked  *ask
	verify bool // the peer gave wrong bytes once
}

type waiter struct {
	deliver func([]byte, error)
	stop    func() bool // ends the watch over the caller's context
}

// A failure is waiters to be told an error.
type failure struct {
	waiters []*waiter
	err     error
}

// NewFetcher makes a Fetcher. Wants are taken from the start and worked on
// while Run runs.
func NewFetcher(cfg FetcherConfig) *Fetcher {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing = cfg.Timing.withDefaults()
	return &Fetcher{cfg: cfg, log: cfg.Log, up: newLimiter(), down: newLimiter(),
		tasks: map[key]*task{}, remotes: map[DeviceID]*remote{}, aside: map[asideKey]bool{}, wake: make(chan struct{}, 1)}
}

// SetLimits limits the block plane of the whole node, in bytes per second;
// zero is no limit, and no limit is lower than MinLimit. The index plane is
// never limited.
func (f *Fetcher) SetLimits(up, down int64) {
	f.up.set(up)
	f.down.set(down)
}

// Traffic counts all bytes of all sessions.
func (f *Fetcher) Traffic() Traffic { return f.meter.get() }

// Fetch asks for a block or a list. deliver is called exactly once, on another
// goroutine and possibly at once with other wants' (two for each peer), with the bytes, which have the hash wanted and are valid during
// the call only, or with an error: ErrNoSource, ErrStopped or ctx's. While it
// runs, the peer that gave the bytes waits, so it should do no more than take
// them to where they belong.
//
// Equal wants under way are fetched once, at the most urgent one's priority. A
// want costs some 300 bytes until it is delivered; the caller bounds how many
// there are.
func (f *Fetcher) Fetch(ctx context.Context, want Want, deliver func(data []byte, err error)) {
	w := &waiter{deliver: deliver}
	k := want.key()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stopped:
		go deliver(nil, ErrStopped) // nobody is left to tell it
		return
	case !k.list && (k.size == 0 || k.size > chunk.MaxBlock):
		f.fail([]*waiter{w}, fmt.Errorf("fetch a block of %d bytes: no block has that size", k.size))
		return
	}
	t := f.tasks[k]
	if t == nil {
		f.order++
		t = &task{key: k, priority: want.Priority, order: f.order}
		f.tasks[k] = t
	}
	t.waiters = append(t.waiters, w)
	w.stop = context.AfterFunc(ctx, func() { f.give(t, w, ctx.Err()) })
	if want.Priority < t.priority {
		t.priority = want.Priority
		for i := range t.at {
			t.at[i].queued = false // the item under the old priority is void
		}
	}
	f.offer(t)
}

// give tells one waiter an error, if it still waits.
func (f *Fetcher) give(t *task, w *waiter, err error) {
	f.mu.Lock()
	found := false
	for i, x := range t.waiters {
		if x == w {
			t.waiters = append(t.waiters[:i], t.waiters[i+1:]...)
			found = true
			break
		}
	}
	if found && len(t.waiters) == 0 {
		f.forget(t)
	}
	f.mu.Unlock()
	if found {
		w.deliver(nil, err)
	}
}

// forget takes t out of everything. What is under way is withdrawn.
func (f *Fetcher) forget(t *task) {
	t.over = true
	if f.tasks[t.key] == t {
		delete(f.tasks, t.key)
	}
	for _, p := range t.at {
		if p.asked != nil {
			p.r.withdraw(p.asked)
		}
	}
	t.at = nil
}

// fail has waiters told err by Run's goroutine. Callers hold mu.
func (f *Fetcher) fail(ws []*waiter, err error) {
	f.failed = append(f.failed, failure{ws, err})
	f.nudge()
}

func (f *Fetcher) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// offer puts t into the queues of all peers that may have it, unless somebody
// has been asked, and fails it if there is none.
func (f *Fetcher) offer(t *task) {
	if t.over {
		return
	}
	for i := range t.at {
		if t.at[i].asked != nil {
			return
		}
	}
	some := false
	for _, r := range f.remotes {
		if r.may(t.key) {
			some = true
			r.enqueue(t)
		}
	}
	if !some {
		ws := t.waiters
		t.waiters = nil
		f.forget(t)
		f.fail(ws, ErrNoSource)
	}
}

// place gives how t stands with r, making it if need be. The pointer holds
// until the next call.
func (t *task) place(r *remote) *place {
	for i := range t.at {
		if t.at[i].r == r {
			return &t.at[i]
		}
	}
	t.at = append(t.at, place{r: r})
	return &t.at[len(t.at)-1]
}

// leave forgets how t stands with r.
func (t *task) leave(r *remote) {
	t.at = slices.DeleteFunc(t.at, func(p place) bool { return p.r == r })
}

// copies is how many peers have been asked.
func (t *task) copies() (n int) {
	for i := range t.at {
		if t.at[i].asked != nil {
			n++
		}
	}
	return n
}

// tick is how often stalled peers are looked for while two or more are at work.
const tick = 250 * time.Millisecond

// Run works until ctx ends. Then every want not yet delivered fails with
// ErrStopped, and all goroutines have ended when it returns. It may be run
// once.
func (f *Fetcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	if f.ctx != nil || f.stopped {
		f.mu.Unlock()
		return errors.New("the fetcher has been run before")
	}
	f.ctx = ctx
	for _, r := range f.remotes {
		r.start()
	}
	f.mu.Unlock()

	timer := time.NewTimer(tick)
	defer timer.Stop()
	for ctx.Err() == nil {
		var ticks <-chan time.Time
		if f.work() {
			timer.Reset(tick)
			ticks = timer.C
		}
		select {
		case <-f.wake:
		case <-ticks:
		case <-ctx.Done():
		}
	}

	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.running.Wait()
	f.mu.Lock()
	for _, t := range f.tasks {
		f.failed = append(f.failed, failure{t.waiters, ErrStopped})
		t.waiters = nil
		f.forget(t)
	}
	f.mu.Unlock()
	f.work()
	return nil
}

// work tells failures, wakes peers that could help others, and tells whether
// there may be such soon.
func (f *Fetcher) work() bool {
	f.mu.Lock()
	failed := f.failed
	f.failed = nil
	busy, idle := 0, 0
	for _, r := range f.remotes {
		if len(r.asks) > 0 {
			busy++
		}
		if r.inFlight < r.window.size && len(r.queue.items) == 0 {
			idle++
		}
	}
	f.ticking = busy > 0 && len(f.remotes) > 1
	ticking := f.ticking
	if ticking && idle > 0 {
		for _, r := range f.remotes {
			r.nudge()
		}
	}
	f.mu.Unlock()
	for _, x := range failed {
		for _, w := range x.waiters {
			if w.stop != nil {
				w.stop()
			}
			w.deliver(nil, x.err)
		}
	}
	return ticking
}
