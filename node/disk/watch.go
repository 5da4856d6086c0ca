package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"sheaf/node/stat"
)

// A Notifier is what a watcher needs of the system: fsnotify, or a simulated one.
type Notifier interface {
	Add(path string) error
	Remove(path string) error
	Close() error
}

// A Watcher tells where a folder may have changed. It watches each directory
// that is Added and is honest about its limits: what the system does not let
// it watch is looked at every PollEvery, lost events mean everything, and
// Problems says so. It is a hint: scans are the truth.
//
// Events must be received until it is closed, which Run does when it ends.
type Watcher struct {
	fs     FS
	root   string
	n      Notifier // nil: the system gave none
	in     <-chan fsnotify.Event
	errs   <-chan error
	o      WatchOptions
	events chan []Dirty

	mu        sync.Mutex
	tree      *watched
	byFile    map[fileKey]*watched
	unwatched map[*watched]struct{} // polled instead
	overfull  bool                  // unwatched is too long: everything is polled
	problems  map[string]Problem
	close     sync.Once
}

// WatchOptions may be zero.
type WatchOptions struct {
	PollEvery time.Duration // of what cannot be watched: 1 minute
	Log       *slog.Logger
	// System gives what watches, with what it tells; default: fsnotify.
	System func() (n Notifier, events <-chan fsnotify.Event, errs <-chan error, err error)
}

// A Problem is why watching is not complete, and what a person can do.
type Problem struct {
	Text   string
	Remedy string
	At     time.Time // last
}

// watched is a directory in the tree of those with a watch, those that are
// polled, and those on the way to one.
type watched struct {
	parent *watched
	name   string
	below  map[string]*watched
	on     bool
	key    fileKey
}

type fileKey struct{ device, inode uint64 }

const (
	// maxUnwatched bounds the list of directories that are polled one by one.
	maxUnwatched = 10000
	// problemAge is how long a lost event is worth telling.
	problemAge = time.Hour
)

// NewWatcher makes a watcher of the folder in f, which must outlive it.
// Nothing is watched yet. Where the system gives no watcher at all the result
// polls everything and has a Problem.
func NewWatcher(f FS, o WatchOptions) *Watcher {
	if o.System == nil {
		o.System = system
	}
	n, events, errs, err := o.System()
	if err != nil {
		w := newWatcher(f, nil, nil, nil, o)
		w.problem("none", fmt.Sprintf("the system gives no watch queue: %v", err),
			"Raise the limit: sudo sysctl fs.inotify.max_user_instances=1024. Until then changes are found by scans.")
		return w
	}
	return newWatcher(f, n, events, errs, o)
}

// system is the real one's watch queue.
func system() (n Notifier, events <-chan fsnotify.Event, errs <-chan error, err error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, nil, err
	}
	return w, w.Events, w.Errors, nil
}

// NewUnwatched makes a watcher that asks nothing of the system, for a folder of
// which changes are to be found by scans alone. What is Added is polled.
func NewUnwatched(f FS, o WatchOptions) *Watcher { return newWatcher(f, nil, nil, nil, o) }

func newWatcher(f FS, n Notifier, in <-chan fsnotify.Event, errs <-chan error, o WatchOptions) *Watcher {
	if o.PollEvery <= 0 {
		o.PollEvery = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	root, err := filepath.Abs(f.Name())
	if err != nil {
		root = filepath.Clean(f.Name())
	}
	return &Watcher{fs: f, root: root, n: n, in: in, errs: errs, o: o, events: make(chan []Dirty),
		tree: &watched{}, byFile: map[fileKey]*watched{}, unwatched: map[*watched]struct{}{}, problems: map[string]Problem{}}
}

// Events gives what may have changed, directories before those below them, as
// much at a time as has come up. It is closed when Run ends.
func (w *Watcher) Events() <-chan []Dirty { return w.events }

// Problems gives what keeps the watcher from seeing everything now, or in the
// last hour; empty when all is well.
func (w *Watcher) Problems() []Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Problem
	for kind, p := range w.problems {
		if kind == "overflow" && time.Since(p.At) > problemAge {
			delete(w.problems, kind)
			continue
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	return list
}

// problem notes one. The caller need not hold w.mu.
func (w *Watcher) problem(kind, text, remedy string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problemLocked(kind, text, remedy)
}

func (w *Watcher) problemLocked(kind, text, remedy string) {
	if _, known := w.problems[kind]; !known {
		w.o.Log.Warn("watching is incomplete", "problem", text, "remedy", remedy)
	}
	w.problems[kind] = Problem{text, remedy, time.Now()}
}

// abs gives the system's path of a directory.
func (w *Watcher) abs(dir string) string {
	if dir == "." {
		return w.root
	}
	return w.root + string(filepath.Separator) + filepath.FromSlash(dir)
}

// rel is the reverse of abs.
func (w *Watcher) rel(abs string) (string, bool) {
	if abs == w.root {
		return ".", true
	}
	rest, ok := strings.CutPrefix(abs, strings.TrimSuffix(w.root, string(filepath.Separator))+string(filepath.Separator))
	return filepath.ToSlash(rest), ok && rest != ""
}

// Add watches one directory, not those below it. Call it before listing the
// directory: what changes after the listing is then reported. Adding again is
// right whenever a directory is listed, and mends a lost watch. A directory
// that the system has no watch left for is polled, without an error.
func (w *Watcher) Add(dir string) error {
	if err := checkPath(dir); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.add(dir); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	return nil
}

func (w *Watcher) add(dir string) error {
	s, err := w.fs.Lstat(dir)
	if err != nil {
		return err
	}
	if s.Kind != stat.Directory {
		return ErrNotDirectory
	}
	key := fileKey{s.Device, s.Inode}
	// The system knows a watch by the directory, the library by the path it
	// was added with: under a new path it would go on reporting the old one.
	if have := w.byFile[key]; have != nil && s.Inode != 0 && have.path() != dir {
		w.drop(have)
	}
	at := w.find(dir)
	if at != nil && at.on && at.key != key {
		w.drop(at)
	}
	if w.n == nil {
		return nil
	}
	switch err := w.n.Add(w.abs(dir)); {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fsnotify.ErrClosed):
		return err
	default:
		w.refuse(dir, err)
		return nil
	}
	at = w.make(dir)
	at.on, at.key = true, key
	delete(w.unwatched, at)
	if s.Inode != 0 {
		w.byFile[key] = at
	}
	w.fits()
	return nil
}

// fits takes back that there are too many directories, when there are not.
func (w *Watcher) fits() {
	if len(w.unwatched) == 0 && !w.overfull {
		delete(w.problems, "limit")
	}
}

// refuse notes a directory that cannot be watched.
func (w *Watcher) refuse(dir string, err error) {
	if len(w.unwatched) < maxUnwatched {
		w.unwatched[w.make(dir)] = struct{}{}
	} else {
		w.overfull = true
	}
	n := fmt.Sprint(len(w.unwatched))
	if w.overfull {
		n = "more than " + n
	}
	text := fmt.Sprintf("%s directories cannot be watched: %v", n, err)
	remedy := "They are looked at every " + w.o.PollEvery.String() + " instead."
	if errors.Is(err, syscall.ENOSPC) {
		text = n + " directories are above the system's limit of watches"
		remedy = "Raise it: sudo sysctl fs.inotify.max_user_watches=1048576. " + remedy
	}
	w.problemLocked("limit", text, remedy)
}

// Remove ends the watch of a directory and of all below it.
func (w *Watcher) Remove(dir string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forget(dir)
}

// forget drops what is known of dir and below; true if anything was watched.
func (w *Watcher) forget(dir string) bool {
	at := w.find(dir)
	if at != nil {
		w.drop(at)
	}
	return at != nil
}

func (at *watched) path() string {
	if at.parent == nil {
		return "."
	}
	return join(at.parent.path(), at.name)
}

func (w *Watcher) find(dir string) *watched {
	at := w.tree
	if dir == "." {
		return at
	}
	for name := range strings.SplitSeq(dir, "/") {
		if at = at.below[name]; at == nil {
			return nil
		}
	}
	return at
}

func (w *Watcher) make(dir string) *watched {
	at := w.tree
	if dir == "." {
		return at
	}
	for name := range strings.SplitSeq(dir, "/") {
		next := at.below[name]
		if next == nil {
			next = &watched{parent: at, name: name}
			if at.below == nil {
				at.below = map[string]*watched{}
			}
			at.below[name] = next
		}
		at = next
	}
	return at
}

// drop ends the watches of a subtree and takes it out of the tree.
func (w *Watcher) drop(at *watched) {
	w.unwatch(at, at.path())
	if at.parent != nil {
		delete(at.parent.below, at.name)
	}
	at.below = nil
	w.fits()
}

func (w *Watcher) unwatch(at *watched, path string) {
	for name, b := range at.below {
		w.unwatch(b, join(path, name))
	}
	delete(w.unwatched, at)
	if !at.on {
		return
	}
	at.on = false
	if w.byFile[at.key] == at {
		delete(w.byFile, at.key)
	}
	if w.n != nil {
		// The system may have dropped it itself.
		_ = w.n.Remove(w.abs(path))
	}
}

// Close frees what the watcher holds; Run does it when it ends, so this is for
// one that was never run.
func (w *Watcher) Close() error {
	var err error
	w.close.Do(func() {
		if w.n != nil {
			err = w.n.Close()
		}
	})
	return err
}

// Run watches until ctx ends, and gives its error.
func (w *Watcher) Run(ctx context.Context) error {
	defer close(w.events)
	defer func() { _ = w.Close() }()
	q := newQuiet()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	poll := time.NewTicker(w.o.PollEvery)
	defer poll.Stop()
	in, errs := w.in, w.errs
	var wake time.Time // when alarm rings; zero: not set
	set := func(at time.Time) {
		if at.IsZero() {
			return
		}
		if wake.IsZero() || at.Before(wake) {
			wake = at
			// Not at every event of a storm.
			alarm.Reset(max(time.Until(at), quietMin/10))
		}
	}
	var queue []Dirty
	for round := 1; ; {
		var out chan<- []Dirty
		if len(queue) > 0 {
			out = w.events
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case out <- queue:
			queue = nil
			set(time.Now())
		case ev, ok := <-in:
			if !ok {
				return fmt.Errorf("watch %s: the system closed the queue", w.root)
			}
			now := time.Now()
			w.handle(q, now, ev)
			set(now.Add(quietMin))
		case err, ok := <-errs:
			if !ok {
				errs = nil
				break
			}
			now := time.Now()
			w.lost(q, now, err)
			set(now.Add(quietMin))
		case <-alarm.C:
			wake = time.Time{}
			if len(queue) == 0 {
				var next time.Time
				queue, next = q.pop(time.Now())
				set(next)
			}
		case <-poll.C:
			now := time.Now()
			w.poll(q, now, round)
			round++
			set(now.Add(quietMin))
		}
	}
}

// handle takes one event of the system into account.
func (w *Watcher) handle(q *quiet, now time.Time, ev fsnotify.Event) {
	path, ok := w.rel(ev.Name)
	if !ok {
		return
	}
	gone := ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename)
	if path == "." {
		if gone {
			w.mu.Lock()
			w.forget(".")
			w.mu.Unlock()
			q.everything(now)
		}
		return
	}
	if path == home || strings.HasPrefix(path, home+"/") {
		return
	}
	dir, name := split(path)
	q.note(now, dir, name)
	dropped := false
	if gone {
		// Renamed with all below it, or removed: either way the watches there
		// no longer belong to these paths.
		w.mu.Lock()
		dropped = w.forget(path)
		w.mu.Unlock()
	}
	if ev.Has(fsnotify.Create) || dropped {
		// Also when something is there again: its watches went with the old.
		if s, err := w.fs.Lstat(path); err == nil && s.Kind == stat.Directory {
			q.deep(now, path)
		}
	}
}

// lost takes an error of the system's queue into account.
func (w *Watcher) lost(q *quiet, now time.Time, err error) {
	switch {
	case err == nil, errors.Is(err, syscall.EINVAL), errors.Is(err, fsnotify.ErrNonExistentWatch):
		// A watch was dropped twice, by us and by the system.
		return
	case errors.Is(err, fsnotify.ErrEventOverflow):
		w.problem("overflow", "more changed at once than the system's queue holds; everything was scanned instead",
			"If this happens often: sudo sysctl fs.inotify.max_queued_events=131072.")
	default:
		w.problem("overflow", fmt.Sprintf("changes were missed: %v; everything was scanned instead", err), "")
	}
	q.everything(now)
}

// allRounds is how many polls pass between scans of everything, when that is
// what polling has come to.
const allRounds = 10

// poll looks after what is not watched.
func (w *Watcher) poll(q *quiet, now time.Time, round int) {
	if err := w.fs.Check(); err != nil {
		w.problem("root", fmt.Sprintf("the folder's root cannot be found: %v", err), "Mount the disk again, or point the folder to where its files are now.")
		q.everything(now)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.problems, "root")
	if w.n == nil || w.overfull {
		if round%allRounds == 0 {
			w.overfull = false // the scan adds again, and finds out
			q.everything(now)
		}
		return
	}
	full := false
	for at := range w.unwatched {
		dir := at.path()
		if !full {
			if err := w.add(dir); err != nil {
				w.drop(at) // it is gone
			}
			_, full = w.unwatched[at]
		}
		q.note(now, dir)
	}
}
