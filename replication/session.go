package replication

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/replication/wire"
)

// Config is what a Session works with. Violation and Log may be nil.
type Config struct {
	Peer      DeviceID
	Store     StoreID // of our own indexes
	Program   string  // our name and version, told to the peer for messages to people
	Opener    Opener
	Source    Source
	Authority Authority
	Fetcher   *Fetcher
	// Violation is told, once each, what the peer sent and must not. Called on
	// the session's goroutines; it must not block.
	Violation func(*Violation)
	Log       *slog.Logger
	Timing    Timing
}

// A Folder is what a session needs of a folder.
type Folder struct {
	Index Index
	// Paused keeps the folder silent: nothing of it is sent or taken.
	Paused bool
}

// A Session joins this node to one connected peer for all folders that both
// may know. Its methods are safe for concurrent use.
type Session struct {
	cfg   Config
	log   *slog.Logger
	meter meter

	ended context.Context // ends with Run
	end   context.CancelFunc

	mu      sync.Mutex
	folders map[crdt.FolderID]*folder
	changed chan struct{} // closed and replaced when folders change
	serving *publisher    // answers the peer's newest index stream
	streams int           // block streams being served
}

// A folder is what a session keeps of a folder for as long as it has it.
type folder struct {
	Folder
	id crdt.FolderID
	// echo remembers what the peer sent, which needs no sending back.
	echo echo
	// bad is set when the peer broke the rules: it is not listened to again.
	bad error
}

// NewSession makes a session. It does nothing until Run or a Serve method is
// called.
func NewSession(cfg Config) *Session {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Timing = cfg.Timing.withDefaults()
	s := &Session{cfg: cfg, log: cfg.Log.With("peer", cfg.Peer), folders: map[crdt.FolderID]*folder{}, changed: make(chan struct{})}
	s.ended, s.end = context.WithCancel(context.Background())
	return s
}

// SetFolders says which folders there are from now on, whoever may see them.
// Nothing that happens later is sent or taken for others; calls of a removed
// Index that are under way may still finish. Setting the same again asks the Authority anew.
// A folder that was removed or paused and comes back is taken up afresh, also
// after a Violation.
func (s *Session) SetFolders(folders []Folder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[crdt.FolderID]*folder, len(folders))
	for _, f := range folders {
		id := f.Index.ID()
		if old := s.folders[id]; old != nil && old.Folder == f {
			next[id] = old
			continue
		}
		next[id] = &folder{Folder: f, id: id}
	}
	s.folders = next
	close(s.changed)
	s.changed = make(chan struct{})
}

// open gives the folders that are to run, and a channel that is closed when
// that may have changed.
func (s *Session) open() (map[crdt.FolderID]*folder, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[crdt.FolderID]*folder, len(s.folders))
	for id, f := range s.folders {
		if !f.Paused {
			out[id] = f
		}
	}
	return out, s.changed
}

// served gives the folder if it is open now.
func (s *Session) served(id crdt.FolderID) (*folder, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.folders[id]
	return f, ok && !f.Paused
}

// current tells whether f is open now. Asked before each step, it makes
// SetFolders hold for all that happens after it, though goroutines end later.
func (s *Session) current(f *folder) bool {
	now, ok := s.served(f.id)
	return ok && now == f
}

// Traffic counts this session's bytes; on the block plane those it served.
func (s *Session) Traffic() Traffic { return s.meter.get() }

// Run subscribes to the peer's indexes, again after every break, until ctx
// ends (nil), which it should when the peer is disconnected, or the peer speaks another version (*wire.VersionError) or
// breaks the framing of the stream (*Violation): then trying again is for
// another connection. When Run ends, so does all that the session serves.
func (s *Session) Run(ctx context.Context) error {
	defer s.end()
	pause := s.cfg.Timing.Retry
	for {
		began := time.Now()
		err := s.subscribeOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var version *wire.VersionError
		if errors.As(err, &version) {
			return err
		}
		if v := s.violation(crdt.FolderID{}, err); v != nil {
			return v
		}
		if time.Since(began) > s.cfg.Timing.RetryMax {
			pause = s.cfg.Timing.Retry
		}
		s.log.Info("index stream ended, trying again", "error", err, "pause", pause)
		if !sleep(ctx, s.cfg.Timing.Jitter(pause)) {
			return nil
		}
		pause = min(2*pause, s.cfg.Timing.RetryMax)
	}
}

// violation gives err as a reported Violation if it is one of the peer's
// making, else nil.
func (s *Session) violation(id crdt.FolderID, err error) *Violation {
	var (
		v      *Violation
		batch  *crdt.BatchError
		format *wire.FormatError
		size   *wire.SizeError
	)
	switch {
	case errors.As(err, &v): // reported where it was found
		return v
	case errors.As(err, &batch), errors.As(err, &format), errors.As(err, &size):
	case id != (crdt.FolderID{}) && errors.Is(err, ErrForbidden):
	default:
		return nil
	}
	v = &Violation{Peer: s.cfg.Peer, Folder: id, Err: err}
	s.log.Warn("the peer broke the rules", "folder", id, "error", err)
	if s.cfg.Violation != nil {
		s.cfg.Violation(v)
	}
	return v
}

// both gives a context that ends with ctx or with Run.
func (s *Session) both(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ended, cancel)
	return ctx, func() { stop(); cancel() }
}

// sleep waits for d or until ctx ends, and tells which (false).
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// jitter spreads d over 75 to 125 %, so that peers that lost each other at
// one moment do not come back at one. Nothing but load depends on it.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// ended by the peer in order, which is a reason to open anew like any other.
var errClosed = errors.New("closed by the peer")

// clean turns the end of a stream between messages into errClosed.
func clean(err error) error {
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	return err
}
