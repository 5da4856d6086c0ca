package pack

import "sync"

// handles are the open files that blocks are read from: at most limit at a time,
// the one that was used longest ago is closed for another. Whoever wants one more
// than that waits. It is safe for concurrent use; no lock is held while a file is
// opened or read.
type handles struct {
	fs    fileSystem
	limit int

	mu      sync.Mutex
	freed   *sync.Cond // a handle has no user any more
	open    map[uint32]*handle
	removed map[uint32]bool
	clock   uint64
}

type handle struct {
	file
	once sync.Once
	err  error // of opening
	refs int
	used uint64
}

func newHandles(fs fileSystem, limit int) *handles {
	h := &handles{fs: fs, limit: limit, open: make(map[uint32]*handle), removed: make(map[uint32]bool)}
	h.freed = sync.NewCond(&h.mu)
	return h
}

// use calls fn with a pack's file. errGone if the pack has been removed.
func (h *handles) use(p *pack, fn func(file) error) error {
	x, idle, err := h.acquire(p.id)
	if idle != nil && idle.file != nil {
		_ = idle.file.Close() // only read from
	}
	if err != nil {
		return err
	}
	defer h.release(p.id, x)
	x.once.Do(func() { x.file, x.err = h.fs.Open(p.name()) })
	if x.err != nil {
		return x.err
	}
	return fn(x.file)
}

// acquire gives the handle of a pack, to be opened and released, and one that must be closed for it.
func (h *handles) acquire(id uint32) (x, idle *handle, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		if h.removed[id] {
			return nil, nil, errGone
		}
		if x = h.open[id]; x != nil {
			break
		}
		if len(h.open) >= h.limit {
			var oldest uint32
			for other, y := range h.open {
				if y.refs == 0 && (idle == nil || y.used < idle.used) {
					oldest, idle = other, y
				}
			}
			if idle == nil {
				h.freed.Wait()
				continue
			}
			delete(h.open, oldest)
		}
		x = new(handle)
		h.open[id] = x
		break
	}
	h.clock++
	x.refs++
	x.used = h.clock
	return x, idle, nil
}

func (h *handles) release(id uint32, x *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x.refs--
	if x.err != nil && h.open[id] == x {
		delete(h.open, id) // the next one tries again
	}
	if x.refs == 0 {
		h.freed.Broadcast()
	}
}

// remove closes a pack's file once nobody reads it, for ever.
func (h *handles) remove(id uint32) {
	h.mu.Lock()
	h.removed[id] = true
	x := h.open[id]
	for x != nil && x.refs > 0 {
		h.freed.Wait()
	}
	delete(h.open, id)
	h.mu.Unlock()
	if x != nil && x.file != nil {
		_ = x.file.Close()
	}
}

// close closes all. Nobody may be reading any more.
func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, x := range h.open {
		if x.file != nil {
			_ = x.file.Close()
		}
		delete(h.open, id)
	}
}
