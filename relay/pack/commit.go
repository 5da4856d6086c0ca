package pack

import (
	"context"
	"fmt"
	"runtime"
)

// What is to be appended, and when.
type action uint8

const (
	put     action = iota // a block, unless it is there
	remove                // a tombstone, if the block is there
	move                  // a block, if it is there at from
	giveUp                // a tombstone, if the block is there at from
	keep                  // a tombstone, unless the block is there
	closeIt               // no record: close the active pack if less than half of it is live
)

type op struct {
	do     action
	digest digest
	data   []byte
	from   place
}

// A request is what one caller waits for.
type request struct {
	ops   []op
	taken bool // guarded by Store.queue
	done  chan struct{}
	err   error // once done is closed
	wrote int64 // bytes appended for it, likewise
}

// submit has ops appended, and returns when they are durable. When ctx ends first they
// have not been done: what is being written already is waited for, since its bytes are the caller's.
func (s *Store) submit(ctx context.Context, ops []op) (wrote int64, err error) {
	if err := s.Err(); err != nil {
		return 0, err
	}
	r := &request{ops: ops, done: make(chan struct{})}
	s.queue.Lock()
	if s.queue.closed {
		s.queue.Unlock()
		return 0, ErrClosed
	}
	s.queue.waiting = append(s.queue.waiting, r)
	s.queue.Unlock()
	s.poke()
	select {
	case <-r.done:
		return r.wrote, r.err
	case <-ctx.Done():
	}
	s.queue.Lock()
	if !r.taken {
		for i, x := range s.queue.waiting {
			if x == r {
				s.queue.waiting = append(s.queue.waiting[:i], s.queue.waiting[i+1:]...)
				break
			}
		}
		s.queue.Unlock()
		return 0, ctx.Err()
	}
	s.queue.Unlock()
	<-r.done
	return r.wrote, r.err
}

// poke wakes the goroutine that appends.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run appends what is asked for until the store is closed.
func (s *Store) run() {
	defer close(s.stopped)
	for range s.wake {
		s.gather()
		s.queue.Lock()
		requests, closed := s.queue.waiting, s.queue.closed
		s.queue.waiting = nil
		for _, r := range requests {
			r.taken = true
		}
		s.queue.Unlock()
		if len(requests) > 0 {
			s.commit(requests)
		}
		if closed {
			s.finish()
			return
		}
	}
}

// gather lets those run who were let go by the last sync and come with their next
// block, for as long as some do: else one would get a sync for himself, and the others
// wait for it. It sleeps not, and ends at once when nobody comes.
func (s *Store) gather() {
	for last := -1; ; {
		s.queue.Lock()
		n := len(s.queue.waiting)
		s.queue.Unlock()
		if n <= last {
			return
		}
		last = n
		runtime.Gosched()
	}
}

// A group is what becomes durable by one sync.
type group struct {
	changes []change
	latest  map[digest]place // of changes; the zero place: gone
	free    int64            // bytes that blocks may still take
}

type change struct {
	pack *pack
	entry
}

// commit appends what the requests ask for, syncs, and lets their callers go.
func (s *Store) commit(requests []*request) {
	g := &group{latest: make(map[digest]place), free: s.room()}
	err := s.Err()
	for _, r := range requests {
		for _, o := range r.ops {
			var n int64
			if err == nil {
				n, r.err = s.do(g, o)
				r.wrote += n
			}
			if r.err != nil {
				break
			}
		}
		if err == nil {
			err = s.Err()
		}
	}
	if err == nil {
		err = s.sync()
	}
	if err == nil {
		s.mu.Lock()
		for _, c := range g.changes {
			s.apply(c.pack, c.entry)
		}
		s.mu.Unlock()
	}
	for _, r := range requests {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
}

// room is how many bytes blocks may take.
func (s *Store) room() int64 {
	if s.o.MinFree < 0 {
		return 1 << 62
	}
	free, err := s.fs.Free()
	if err != nil {
		s.log.Warn("cannot tell how much of the disk is free", "err", err)
		return 1 << 62
	}
	return free - s.o.MinFree
}

// do appends what one op asks for, if anything, and tells how much that was.
func (s *Store) do(g *group, o op) (int64, error) {
	at, doubted, ok := s.table.get(o.digest)
	if p, changed := g.latest[o.digest]; changed {
		at, doubted, ok = p, false, p != place{}
	}
	k := kindGone
	switch o.do {
	case put:
		if ok && !doubted {
			return 0, nil // durable already, or with this group
		}
		if int64(len(o.data))+recordHeader > g.free {
			return 0, fmt.Errorf("put block %s: %w", o.digest.cid(), ErrNoSpace)
		}
		g.free -= int64(len(o.data)) + recordHeader
		k = kindBlock
	case move:
		if !ok || at != o.from {
			return 0, nil
		}
		k = kindBlock
	case remove:
		if !ok {
			return 0, nil
		}
	case giveUp:
		if !ok || at != o.from {
			return 0, nil
		}
	case keep:
		if ok {
			return 0, nil
		}
	case closeIt:
		return 0, s.closeActive()
	}
	p, e, err := s.append(k, o.digest, o.data)
	if err != nil {
		return 0, err
	}
	g.changes = append(g.changes, change{p, e})
	g.latest[o.digest] = place{}
	if k == kindBlock {
		g.latest[o.digest] = place{p.id, e.offset, e.length}
	}
	return e.size(), nil
}
