package replication

import (
	"cmp"
	"context"
	"slices"
	"time"

	"sheaf/crdt"
)

// A remote is one peer as a Fetcher sees it. Its fields are guarded by the
// Fetcher's mu.
type remote struct {
	f       *Fetcher
	peer    DeviceID
	cancel  context.CancelFunc // of its goroutine; nil before Run
	wake    chan struct{}      // holds one: there may be something to send
	shares  map[crdt.FolderID]*share
	queue   queue
	window  window
	next    uint64          // number of the next request
	asks    map[uint64]*ask // under way, those withdrawn too
	cancels []uint64        // withdrawn, to be told

	inFlight int64     // bytes asked for and not answered
	helped   time.Time // when taking over was last considered
}

// A share is a folder that the peer shares with us.
type share struct {
	uses   int // publications that vouch for it: two while one replaces the other
	have   uint64
	absent map[key]struct{} // what it has said is not there, at this have
}

// maxAbsent bounds what is remembered of a peer's denials. Forgetting one
// costs asking once more.
const maxAbsent = 64 << 10

// An ask is a task asked of one peer.
type ask struct {
	r         *remote
	t         *task
	number    uint64
	size      int64 // bytes expected, some more for the request itself
	at        time.Time
	have      uint64 // the peer's Progress.Have when it was asked
	verify    bool
	withdrawn bool
	announced bool // its answer is being read or delivered
}

// What an ask counts beyond its block, and what a list of unknown length counts.
const (
	askBytes  = 64
	listBytes = 64 << 10
	maxAsks   = 8192 // asks under way at one peer
)

// share says that the peer shares the folder from now on. Each call is paired
// with one of unshare.
func (f *Fetcher) share(peer DeviceID, folder crdt.FolderID, have uint64) {
	f.mu.Lock()
	r := f.remotes[peer]
	if r == nil {
		r = &remote{f: f, peer: peer, wake: make(chan struct{}, 1), shares: map[crdt.FolderID]*share{}, window: newWindow(), asks: map[uint64]*ask{}}
		f.remotes[peer] = r
		if f.ctx != nil && !f.stopped {
			r.start()
		}
	}
	s := r.shares[folder]
	if s == nil {
		s = &share{absent: map[key]struct{}{}}
		r.shares[folder] = s
	}
	s.uses++
	s.have = have
	clear(s.absent)
	f.reoffer(r, folder)
	f.mu.Unlock()
	f.tellChanged(folder)
}

// reoffer gives r every task of the folder that it may have. Callers hold mu.
func (f *Fetcher) reoffer(r *remote, folder crdt.FolderID) {
	for k, t := range f.tasks {
		if k.folder == folder && r.may(k) && t.copies() == 0 {
			r.enqueue(t)
		}
	}
}

// unshare takes back one share. When it was the last of the folder, what only
// this peer could have had fails; of the last folder, the stream ends.
func (f *Fetcher) unshare(peer DeviceID, folder crdt.FolderID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.remotes[peer]
	if r == nil || r.shares[folder] == nil {
		return
	}
	if r.shares[folder].uses--; r.shares[folder].uses > 0 {
		return
	}
	delete(r.shares, folder)
	if len(r.shares) == 0 {
		delete(f.remotes, peer)
		if r.cancel != nil {
			r.cancel()
		}
		r.drop()
	}
	for k, t := range f.tasks {
		if len(r.shares) == 0 {
			t.leave(r)
		}
		if k.folder == folder {
			f.offer(t)
		}
	}
}

// moved takes the peer's Progress.Have.
func (f *Fetcher) moved(peer DeviceID, folder crdt.FolderID, have uint64) {
	f.again(peer, folder, func(s *share) bool {
		same := s.have == have
		s.have = have
		return !same
	})
}

// recheck makes nothing of what the peer denied count any more.
func (f *Fetcher) recheck(peer DeviceID, folder crdt.FolderID) {
	f.again(peer, folder, func(*share) bool { return true })
}

func (f *Fetcher) again(peer DeviceID, folder crdt.FolderID, news func(*share) bool) {
	f.mu.Lock()
	r := f.remotes[peer]
	if r == nil || r.shares[folder] == nil || !news(r.shares[folder]) {
		f.mu.Unlock()
		return
	}
	s := r.shares[folder]
	for k := range s.absent {
		if t := f.tasks[k]; t != nil && t.copies() == 0 && !f.aside[asideKey{peer, folder}] {
			r.enqueue(t)
		}
	}
	clear(s.absent)
	f.mu.Unlock()
	f.tellChanged(folder)
}

func (f *Fetcher) tellChanged(folder crdt.FolderID) {
	if f.cfg.Changed != nil {
		f.cfg.Changed(folder)
	}
}

// start runs r. Callers hold mu.
func (r *remote) start() {
	ctx, cancel := context.WithCancel(r.f.ctx)
	r.cancel = cancel
	r.f.running.Go(func() {
		defer cancel()
		r.run(ctx)
	})
}

// may tells whether the peer may have what k names.
func (r *remote) may(k key) bool {
	s := r.shares[k.folder]
	if s == nil || r.f.aside[asideKey{r.peer, k.folder}] {
		return false
	}
	_, absent := s.absent[k]
	return !absent
}

func (r *remote) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// enqueue puts t into r's queue if it is not there.
func (r *remote) enqueue(t *task) {
	p := t.place(r)
	if p.queued || p.asked != nil {
		return
	}
	p.queued = true
	r.queue.push(t)
	r.nudge()
}

// take gives what is to be asked of the peer now, within its window.
func (r *remote) take(now time.Time) (asks []*ask, cancels []uint64) {
	cancels, r.cancels = r.cancels, nil
	for {
		if r.inFlight >= r.window.size || len(r.asks) >= maxAsks {
			if len(r.queue.items) > 0 {
				r.window.full()
			}
			return asks, cancels
		}
		it, ok := r.queue.pop()
		if !ok {
			return r.takeOver(now, asks), cancels
		}
		t := it.t
		if t.over || it.priority != t.priority {
			continue
		}
		p := t.place(r)
		if !p.queued {
			continue
		}
		p.queued = false
		// What another peer has been asked meanwhile is put back if that fails.
		if t.copies() > 0 || !r.may(t.key) {
			continue
		}
		asks = append(asks, r.ask(t, now))
	}
}

// ask notes that the peer is asked for t.
func (r *remote) ask(t *task, now time.Time) *ask {
	size := int64(t.key.size)
	if t.key.list {
		size = listBytes
	}
	p := t.place(r)
	a := &ask{r: r, t: t, number: r.next, size: size + askBytes, at: now, verify: p.verify}
	if s := r.shares[t.key.folder]; s != nil {
		a.have = s.have
	}
	r.next++
	p.asked, p.queued = a, false
	r.asks[a.number] = a
	r.window.asked(now, r.inFlight)
	r.inFlight += a.size
	if len(r.f.remotes) > 1 && !r.f.ticking {
		r.f.nudge()
	}
	return a
}

// settle notes that a is answered or will never be.
func (r *remote) settle(a *ask) {
	delete(r.asks, a.number)
	r.inFlight -= a.size
	if !a.withdrawn && !a.t.over {
		a.t.place(r).asked = nil
	}
}

// withdraw notes that a is no longer wanted. It counts until the peer answers.
func (r *remote) withdraw(a *ask) {
	if a.withdrawn {
		return
	}
	a.withdrawn = true
	r.cancels = append(r.cancels, a.number)
	r.nudge()
}

// drop notes that nothing asked will be answered any more: the stream ended.
func (r *remote) drop() {
	asks := make([]*ask, 0, len(r.asks))
	for _, a := range r.asks {
		asks = append(asks, a)
	}
	slices.SortFunc(asks, func(a, b *ask) int { return cmp.Compare(a.number, b.number) })
	for _, a := range asks {
		r.settle(a)
	}
	r.cancels = nil
	r.window.began = time.Time{}
	for _, a := range asks {
		if !a.withdrawn {
			r.f.offer(a.t)
		}
	}
}

// When a peer with nothing left to do takes over from another: when that would
// take the other stealFactor times as long as it would take this one, and some
// more; a peer that has never answered counts as slow after unproven.
const (
	stealFactor = 2
	stealMargin = 100 * time.Millisecond
	unproven    = time.Second
	helpEvery   = 20 * time.Millisecond
	maxCopies   = 2
)

// takeOver adds to asks some that other, slower peers have been asked: those
// they would come to last.
func (r *remote) takeOver(now time.Time, asks []*ask) []*ask {
	if len(r.f.remotes) < 2 || now.Sub(r.helped) < helpEvery {
		return asks
	}
	r.helped = now
	for _, o := range r.f.remotes {
		if o == r || len(o.asks) == 0 {
			continue
		}
		late := make([]*ask, 0, len(o.asks))
		for _, a := range o.asks {
			if !a.withdrawn && a.t.copies() < maxCopies && r.may(a.t.key) {
				late = append(late, a)
			}
		}
		slices.SortFunc(late, func(a, b *ask) int { return cmp.Compare(b.number, a.number) })
		left := o.inFlight
		for _, a := range late {
			if r.inFlight >= r.window.size || !slower(o, left, a, r, now) {
				break
			}
			left -= a.size
			asks = append(asks, r.ask(a.t, now))
		}
	}
	return asks
}

// slower tells whether o, with left bytes to go until it has answered a, would
// take so much longer than r would that asking r as well is worth it.
func slower(o *remote, left int64, a *ask, r *remote, now time.Time) bool {
	waited := now.Sub(a.at)
	if r.window.rate == 0 {
		return waited > unproven
	}
	mine := time.Duration(float64(r.inFlight+a.size) / r.window.rate * float64(time.Second))
	if o.window.rate == 0 {
		return waited > unproven+stealFactor*mine
	}
	theirs := time.Duration(float64(left) / o.window.rate * float64(time.Second))
	// A peer that has stalled does not know its own rate any more.
	theirs = max(theirs, waited/2)
	return theirs > stealFactor*mine+stealMargin
}
