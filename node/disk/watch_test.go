//go:build linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// seen collects what a watcher reports.
type seen struct {
	t    *testing.T
	w    *Watcher
	root string
	mu   sync.Mutex
	got  []Dirty
	wake chan struct{}
}

// watchAll runs a watcher, adding as the engine does: root at first, then
// whatever is new.
func watchAll(t *testing.T, root string) *seen {
	t.Helper()
	f, err := NewOS(root)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWatcher(f, WatchOptions{})
	s := &seen{t: t, w: w, root: root, wake: make(chan struct{}, 1)}
	s.add(".")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for list := range w.Events() {
			for _, d := range list {
				if d.Deep || d.All {
					s.add(d.Dir)
				}
			}
			s.mu.Lock()
			s.got = append(s.got, list...)
			s.mu.Unlock()
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}()
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		<-done
		_ = f.Close()
	})
	return s
}

// add watches a directory and all below, each before it is listed.
func (s *seen) add(dir string) {
	if err := s.w.Add(dir); err != nil {
		return
	}
	list, err := os.ReadDir(filepath.Join(s.root, dir))
	if err != nil {
		return
	}
	for _, e := range list {
		if e.IsDir() && e.Name() != home {
			s.add(join(dir, e.Name()))
		}
	}
}

// want waits until path (name in directory) is covered by a report.
func (s *seen) want(path string) {
	s.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		for i, d := range s.got {
			if d.covers(path) {
				s.got = slices.Delete(s.got, i, i+1)
				s.mu.Unlock()
				return
			}
		}
		s.mu.Unlock()
		select {
		case <-s.wake:
		case <-timeout:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("%s was not reported, but %+v", path, s.got)
		}
	}
}

func (d Dirty) covers(path string) bool {
	dir, name := split(path)
	switch {
	case d.All:
		return true
	case d.Deep:
		return d.Dir == dir || strings.HasPrefix(path, d.Dir+"/")
	}
	return d.Dir == dir && (d.Names == nil || slices.Contains(d.Names, name))
}

// none checks that nothing was reported for paths that do not exist (a stale
// watch would).
func (s *seen) none(prefix string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.got {
		if d.Dir == prefix || strings.HasPrefix(d.Dir, prefix+"/") {
			s.t.Errorf("a report for %s: %+v", prefix, d)
		}
	}
}

func (s *seen) forget() {
	s.mu.Lock()
	s.got = nil
	s.mu.Unlock()
}

func write(t *testing.T, root, p, content string) {
	t.Helper()
	full := filepath.Join(root, p)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchRealDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "old/sub/f", "1")
	s := watchAll(t, root)
	at := func(p string) string { return filepath.Join(root, p) }

	write(t, root, "a", "1")
	s.want("a")
	write(t, root, "old/sub/f", "2")
	s.want("old/sub/f")
	must(t, os.Chmod(at("a"), 0o600))
	s.want("a")
	must(t, os.Remove(at("a")))
	s.want("a")
	// A tree made at once, faster than anybody can add watches.
	for i := range 20 {
		write(t, root, fmt.Sprintf("new/d%d/e/f", i), "1")
	}
	for i := range 20 {
		s.want(fmt.Sprintf("new/d%d/e/f", i))
		s.mu.Lock()
		s.got = append(s.got, Dirty{Dir: "new", Deep: true}) // one report covers all
		s.mu.Unlock()
	}
	s.forget()
	write(t, root, "new/d7/e/g", "1") // by the watch that was added for it
	s.want("new/d7/e/g")

	// Renamed: reports come under the new name and not under the old.
	must(t, os.Rename(at("old"), at("moved")))
	s.want("old")
	s.want("moved/sub/f")
	s.forget()
	write(t, root, "moved/sub/f", "3")
	s.want("moved/sub/f")
	s.none("old")
	// And back, and with another in its place.
	must(t, os.Rename(at("moved"), at("old")))
	must(t, os.MkdirAll(at("moved/sub"), 0o755))
	s.want("old/sub/f")
	s.want("moved/sub/x")
	s.forget()
	write(t, root, "moved/sub/f", "4")
	s.want("moved/sub/f")
	write(t, root, "old/sub/f", "5")
	s.want("old/sub/f")
	// Removed and made again.
	must(t, os.RemoveAll(at("moved")))
	must(t, os.MkdirAll(at("moved/sub"), 0o755))
	s.want("moved/sub/x")
	s.forget()
	write(t, root, "moved/sub/again", "6")
	s.want("moved/sub/again")
	// Our own directory is nobody's business.
	must(t, os.Mkdir(at(home), 0o700))
	write(t, root, home+"/x", "1")
	write(t, root, "last", "1")
	s.want("last")
	s.none(home)
	if p := s.w.Problems(); len(p) > 0 {
		t.Errorf("problems: %v", p)
	}
}

// A directory renamed while its new name is added before the old one's event
// has been seen: the system would go on reporting the old path.
func TestWatchAddUnderNewNameFirst(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, root, "old/sub/f", "1")
	f, err := NewOS(root)
	must(t, err)
	defer func() { _ = f.Close() }()
	w := NewWatcher(f, WatchOptions{})
	for _, d := range []string{".", "old", "old/sub"} {
		must(t, w.Add(d))
	}
	must(t, os.Rename(filepath.Join(root, "old"), filepath.Join(root, "moved")))
	for _, d := range []string{"moved", "moved/sub"} { // a scan comes along
		must(t, w.Add(d))
	}
	write(t, root, "moved/sub/f", "2")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }()
	found := false
	for list := range w.Events() {
		for _, d := range list {
			if strings.HasPrefix(d.Dir, "old/") {
				t.Errorf("reported %+v", d)
			}
			if d.covers("moved/sub/f") {
				found = true
				cancel()
			}
		}
	}
	<-ran
	if !found {
		t.Error("not reported")
	}
}

// fake is a system's watcher without the system.
type fake struct {
	rest    []Dirty // reported together with the one that within gave
	mu      sync.Mutex
	limit   int
	watches map[string]bool
	events  chan fsnotify.Event
	errs    chan error
}

func (f *fake) Add(p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.watches[p] && len(f.watches) >= f.limit {
		return &os.PathError{Op: "add", Path: p, Err: syscall.ENOSPC}
	}
	f.watches[p] = true
	return nil
}

func (f *fake) Remove(p string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.watches[p] {
		return fsnotify.ErrNonExistentWatch
	}
	delete(f.watches, p)
	return nil
}

func (f *fake) Close() error { return nil }

// inBubble runs a watcher over a fake system in virtual time.
func inBubble(t *testing.T, limit int, test func(t *testing.T, root string, w *Watcher, f *fake)) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		fsys, err := NewOS(root)
		must(t, err)
		defer func() { _ = fsys.Close() }()
		f := &fake{limit: limit, watches: map[string]bool{}, events: make(chan fsnotify.Event), errs: make(chan error)}
		w := newWatcher(fsys, f, f.events, f.errs, WatchOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- w.Run(ctx) }()
		defer func() {
			cancel()
			<-ran
		}()
		test(t, root, w, f)
	})
}

// within takes a report that comes in the time given, or none.
func within(w *Watcher, f *fake, d time.Duration) (Dirty, bool) {
	if len(f.rest) > 0 {
		got := f.rest[0]
		f.rest = f.rest[1:]
		return got, true
	}
	select {
	case got := <-w.Events():
		f.rest = got[1:]
		return got[0], true
	case <-time.After(d):
		return Dirty{}, false
	}
}

func TestWatchOverflowIsEverything(t *testing.T) {
	t.Parallel()
	inBubble(t, 100, func(t *testing.T, root string, w *Watcher, f *fake) {
		f.errs <- fsnotify.ErrEventOverflow
		if d, ok := within(w, f, time.Second); !ok || !d.All {
			t.Fatalf("%+v %v", d, ok)
		}
		if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].Remedy, "fs.inotify.max_queued_events") {
			t.Errorf("%+v", p)
		}
		time.Sleep(2 * time.Hour)
		if p := w.Problems(); len(p) != 0 {
			t.Errorf("%+v", p)
		}
		// An unknown error loses as much; a watch dropped twice loses nothing.
		f.errs <- errors.New("read: strange")
		if d, ok := within(w, f, time.Second); !ok || !d.All {
			t.Fatalf("%+v %v", d, ok)
		}
		f.errs <- syscall.EINVAL
		if d, ok := within(w, f, time.Minute); ok {
			t.Fatalf("%+v", d)
		}
	})
}

func TestWatchLimitMeansPolling(t *testing.T) {
	t.Parallel()
	inBubble(t, 3, func(t *testing.T, root string, w *Watcher, f *fake) {
		dirs := []string{"."}
		for i := range 5 {
			d := fmt.Sprint("d", i)
			must(t, os.Mkdir(filepath.Join(root, d), 0o755))
			dirs = append(dirs, d)
		}
		for _, d := range dirs {
			must(t, w.Add(d))
		}
		p := w.Problems()
		if len(p) != 1 || !strings.Contains(p[0].Text, "3 directories") || !strings.Contains(p[0].Remedy, "fs.inotify.max_user_watches") {
			t.Fatalf("%+v", p)
		}
		polled := map[string]int{}
		for range 6 {
			d, ok := within(w, f, 2*time.Minute)
			if !ok || d.Names != nil || d.All {
				t.Fatalf("%+v %v", d, ok)
			}
			polled[d.Dir]++
		}
		if len(polled) != 3 || polled["d2"] != 2 || polled["d3"] != 2 || polled["d4"] != 2 {
			t.Errorf("%v", polled)
		}
		// One goes away, and the limit is raised.
		must(t, os.Remove(filepath.Join(root, "d3")))
		f.mu.Lock()
		f.limit = 100
		f.mu.Unlock()
		time.Sleep(3 * time.Minute)
		for {
			if _, ok := within(w, f, time.Second); !ok {
				break
			}
		}
		if d, ok := within(w, f, 10*time.Minute); ok {
			t.Errorf("still polls %+v", d)
		}
		if p := w.Problems(); len(p) != 0 {
			t.Errorf("%+v", p)
		}
		if !f.watches[filepath.Join(root, "d4")] || f.watches[filepath.Join(root, "d3")] {
			t.Errorf("%v", f.watches)
		}
	})
}

func TestWatchRootGone(t *testing.T) {
	t.Parallel()
	inBubble(t, 100, func(t *testing.T, root string, w *Watcher, f *fake) {
		must(t, w.Add("."))
		must(t, os.Rename(root, root+".away"))
		if d, ok := within(w, f, 2*time.Minute); !ok || !d.All {
			t.Fatalf("%+v %v", d, ok)
		}
		if p := w.Problems(); len(p) != 1 || !strings.Contains(p[0].Text, "root") {
			t.Errorf("%+v", p)
		}
		must(t, os.Rename(root+".away", root))
	})
}

// A storm that nobody receives costs bounded memory, and ends in a report.
func TestWatchStormWithSlowReader(t *testing.T) {
	t.Parallel()
	inBubble(t, 100, func(t *testing.T, root string, w *Watcher, f *fake) {
		for i := range 50_000 {
			f.events <- fsnotify.Event{Name: fmt.Sprintf("%s/d%d/f%d", root, i%300, i), Op: fsnotify.Write}
			if i%1000 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		got := map[string]bool{}
		n := 0
		for !got["."] {
			d, ok := within(w, f, time.Minute)
			if !ok {
				break
			}
			if n++; d.All {
				got["."] = true
			}
			got[d.Dir] = true
		}
		if !got["."] && len(got) < 300 {
			t.Errorf("%d of 300 directories covered in %d reports", len(got), n)
		}
	})
}

// Without any watcher from the system everything is polled, and said.
func TestWatchWithoutSystem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys, err := NewOS(t.TempDir())
		must(t, err)
		defer func() { _ = fsys.Close() }()
		w := newWatcher(fsys, nil, nil, nil, WatchOptions{})
		must(t, w.Add("."))
		ctx, cancel := context.WithCancel(context.Background())
		ran := make(chan error, 1)
		go func() { ran <- w.Run(ctx) }()
		if d, ok := within(w, new(fake), time.Hour); !ok || !d.All {
			t.Errorf("%+v %v", d, ok)
		}
		cancel()
		<-ran
	})
}
