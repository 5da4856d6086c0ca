package simdisk

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"sheaf/node/disk"
)

// Events say how the system tells of changes. The zero Events are at once and
// all of them.
type Events struct {
	Late  time.Duration // the longest that one takes
	Lost  int           // of a thousand, silently
	Queue int           // as many wait at most; more are one overflow; 0: any number
	Most  int           // directories watched at most; 0: any number
}

// A queue is what a watch queue of the system is: watches by directory, events
// under the path a directory had when it was added.
type queue struct {
	d      *Disk
	events chan fsnotify.Event
	errs   chan error
	wake   chan struct{} // holds one
	ended  chan struct{}
	once   sync.Once
	done   sync.WaitGroup

	// Under d.mu.
	watches map[*inode]string
	waiting []event // by time
	told    uint64
	full    bool // an overflow is to be told
}

type event struct {
	at time.Time
	ev fsnotify.Event
}

// Watch gives a watch queue, for disk.WatchOptions. It is dead after a crash.
func (d *Disk) Watch() (disk.Notifier, <-chan fsnotify.Event, <-chan error, error) {
	q := &queue{d: d, events: make(chan fsnotify.Event), errs: make(chan error), wake: make(chan struct{}, 1), ended: make(chan struct{}), watches: make(map[*inode]string)}
	d.mu.Lock()
	d.watch = q
	d.mu.Unlock()
	q.done.Go(q.run)
	return q, q.events, q.errs, nil
}

const rootName = "/simulated"

// Add implements disk.Notifier.
func (q *queue) Add(dir string) error {
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	at, err := q.d.there(inside(dir))
	if err != nil {
		return err
	}
	if _, have := q.watches[at.n]; !have && q.d.o.Events.Most > 0 && len(q.watches) >= q.d.o.Events.Most {
		return syscall.ENOSPC
	}
	q.watches[at.n] = dir
	return nil
}

// Remove implements disk.Notifier.
func (q *queue) Remove(dir string) error {
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	for n, p := range q.watches {
		if p == dir {
			delete(q.watches, n)
			return nil
		}
	}
	return fsnotify.ErrNonExistentWatch
}

// Close implements disk.Notifier.
func (q *queue) Close() error {
	q.stop()
	q.done.Wait()
	return nil
}

func (q *queue) stop() { q.once.Do(func() { close(q.ended) }) }

func inside(dir string) string {
	if dir == rootName {
		return "."
	}
	return strings.TrimPrefix(dir, rootName+"/")
}

// run hands out what has fallen due.
func (q *queue) run() {
	for {
		q.d.mu.Lock()
		var head event
		var due <-chan time.Time
		var timer *time.Timer
		overflow := q.full
		if !overflow && len(q.waiting) > 0 {
			if head = q.waiting[0]; head.at.After(time.Now()) {
				timer = time.NewTimer(time.Until(head.at))
				due, head = timer.C, event{}
			} else {
				q.waiting = q.waiting[1:]
			}
		}
		q.full = false
		q.d.mu.Unlock()
		switch {
		case overflow:
			select {
			case q.errs <- fsnotify.ErrEventOverflow:
			case <-q.ended:
				return
			}
		case head.ev.Name != "":
			select {
			case q.events <- head.ev:
			case <-q.ended:
				return
			}
		default:
			select {
			case <-due:
			case <-q.wake:
			case <-q.ended:
				return
			}
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// tell notes that a name has a new meaning.
func (d *Disk) tell(s set) {
	q := d.watch
	if q == nil {
		return
	}
	if dir, ok := q.watches[s.dir]; ok {
		op := fsnotify.Create
		if s.to == nil {
			op = fsnotify.Remove
		}
		q.note(fsnotify.Event{Name: path.Join(dir, s.name), Op: op})
	}
}

// touched notes that what an inode holds has changed, under all its names.
func (d *Disk) touched(n *inode, op fsnotify.Op) {
	q := d.watch
	if q == nil {
		return
	}
	var names []string
	for dir, p := range q.watches {
		for name, m := range dir.names {
			if m == n {
				names = append(names, path.Join(p, name))
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		q.note(fsnotify.Event{Name: name, Op: op})
	}
}

// note queues an event, late, lost or too many as the options say.
func (q *queue) note(ev fsnotify.Event) {
	o := q.d.o.Events
	q.told++
	e := event{at: time.Now(), ev: ev}
	if o.Late > 0 {
		// What one call gives rise to comes together.
		late := rand.New(rand.NewPCG(q.d.o.Seed^0x1a7e, uint64(e.at.UnixNano())))
		e.at = e.at.Add(time.Duration(late.Int64N(int64(o.Late))))
	}
	if rand.New(rand.NewPCG(q.d.o.Seed^0x1057, q.told)).IntN(1000) < o.Lost {
		return
	}
	if k := len(q.waiting); k > 0 && q.waiting[k-1].ev == ev {
		return // as the system merges what says the same
	}
	if o.Queue > 0 && len(q.waiting) >= o.Queue {
		q.waiting, q.full = nil, true
	} else {
		// One queue: none overtakes another.
		if k := len(q.waiting); k > 0 && e.at.Before(q.waiting[k-1].at) {
			e.at = q.waiting[k-1].at
		}
		q.waiting = append(q.waiting, e)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
