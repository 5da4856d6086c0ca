package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/boxo/blockstore"
)

// A Store keeps blocks. It is safe for concurrent use. See the package's description.
type Store struct {
	dir  string
	o    Options
	log  *slog.Logger
	fs   fileSystem
	lock io.Closer

	table    *table
	handles  *handles
	recovery Recovery

	mu     sync.RWMutex // guards packs, what is in them, active and last
	packs  map[uint32]*pack
	active *pack  // nil: none yet
	last   uint32 // highest number of a pack so far

	// Of the goroutine that appends alone.
	file    file   // of the active pack; nil until something is appended
	dirty   bool   // it has bytes that are not synced
	newName bool   // its name is not synced
	buf     []byte // a record

	queue struct {
		sync.Mutex
		waiting []*request
		closed  bool
	}
	wake    chan struct{}
	stopped chan struct{} // closed when the goroutine has ended

	ending context.Context // done when Close begins: long work stops
	end    context.CancelFunc
	use    sync.RWMutex // held for reading by whoever uses files, for writing by Close

	failure struct {
		sync.Mutex
		err error
	}
	compacting  chan struct{} // holds one while Compact runs, or a footer is written anew
	scrubbing   chan struct{} // holds one while Scrub runs
	quarantined sync.Mutex    // one at a time writes there
}

var (
	_ blockstore.Blockstore           = (*Store)(nil)
	_ blockstore.Viewer               = (*Store)(nil)
	_ blockstore.AllKeysChanWithErrer = (*Store)(nil)
)

// Options of a store. The zero value will do.
type Options struct {
	// PackSize is how large a pack grows, in bytes: at most 64 MiB, which is the
	// default. A pack holds one block at least.
	PackSize int64
	// MinFree is how many bytes Put leaves free on the disk, so that deleting and
	// compaction, which need some, work on a disk that is full. 0: 128 MiB; negative: none.
	MinFree int64
	// OpenFiles is how many packs are kept open for reading. 0: 128.
	OpenFiles int
	// Log takes what an operator should know. nil: nothing is logged.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.PackSize <= 0 || o.PackSize > maxPack {
		o.PackSize = maxPack
	}
	if o.MinFree == 0 {
		o.MinFree = 2 * maxPack
	}
	if o.OpenFiles <= 0 {
		o.OpenFiles = 128
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Open opens the store in dir, or makes one. ErrLocked if another process has it
// open, a FormatError if a newer Sheaf wrote it. What it found that is not as it was left
// is in Recovery.
func Open(ctx context.Context, dir string, o Options) (*Store, error) {
	files := osFiles{dir}
	_, err := os.Stat(dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err = files.MakeDir("."); err == nil && isNew {
		err = syncDir(filepath.Dir(dir))
	}
	if err != nil {
		return nil, fmt.Errorf("make the block store %s: %w", dir, err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("lock the block store: %w", err)
	}
	s, err := open(ctx, dir, files, o)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return s, nil
}

// open opens the store on a file system that nobody else uses.
func open(ctx context.Context, dir string, files fileSystem, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{
		dir: dir, o: o, log: o.Log.With("store", dir), fs: files,
		table: newTable(), handles: newHandles(files, o.OpenFiles), packs: make(map[uint32]*pack),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}),
		compacting: make(chan struct{}, 1), scrubbing: make(chan struct{}, 1),
	}
	if err := s.load(ctx); err != nil {
		s.handles.close()
		return nil, fmt.Errorf("open the block store %s: %w", dir, err)
	}
	s.ending, s.end = context.WithCancel(context.WithoutCancel(ctx))
	go s.run()
	return s, nil
}

// Close waits for what is being written and read, writes what makes the next Open
// quick, and closes the store. Calls that come later get ErrClosed.
func (s *Store) Close() error {
	s.queue.Lock()
	was := s.queue.closed
	s.queue.closed = true
	s.queue.Unlock()
	if was {
		<-s.stopped
		return nil
	}
	s.end()
	s.poke()
	<-s.stopped
	s.use.Lock() // for good: whoever reads has ended
	defer s.use.Unlock()
	s.handles.close()
	if s.lock == nil {
		return nil
	}
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("unlock the block store %s: %w", s.dir, err)
	}
	return nil
}

// enter is called before the files are used, and leave afterwards; Close waits.
func (s *Store) enter() error {
	s.use.RLock()
	if s.ending.Err() != nil {
		s.use.RUnlock()
		return ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.use.RUnlock() }

// fail makes the store take no more writes, and gives the error for those who wait.
func (s *Store) fail(doing string, err error) error {
	s.failure.Lock()
	defer s.failure.Unlock()
	err = fmt.Errorf("%s: %w: %w", doing, ErrFailed, err)
	if s.failure.err == nil {
		s.failure.err = err
		s.log.Error("the block store takes no more writes", "err", err)
	}
	return err
}

// Err is nil while the store takes writes, and says afterwards why it does not: an ErrFailed.
func (s *Store) Err() error {
	s.failure.Lock()
	defer s.failure.Unlock()
	return s.failure.err
}

// Stats are what a store holds.
type Stats struct {
	Packs     int   // files
	Blocks    int   // that are live
	LiveBytes int64 // of their records: 48 bytes more a block than the block has
	DeadBytes int64 // of records that nobody needs: what Compact could free
	DiskBytes int64 // of the packs, footers included
}

// Stats tells what is held now.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Packs: len(s.packs)}
	for _, p := range s.packs {
		st.Blocks += p.count
		st.LiveBytes += p.live
		st.DeadBytes += p.dead()
		st.DiskBytes += p.size
	}
	return st
}

// Recovery tells what Open found.
func (s *Store) Recovery() Recovery { return s.recovery }

// pack gives the pack of a number, nil if it has been removed.
func (s *Store) pack(id uint32) *pack {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.packs[id]
}

// readPack calls fn with the file of a pack; errGone if it has been removed.
func (s *Store) readPack(id uint32, fn func(*pack, file) error) error {
	p := s.pack(id)
	if p == nil {
		return errGone
	}
	return s.handles.use(p, func(f file) error { return fn(p, f) })
}
