package mesh

import "sync"

// An Event tells that a peer has become connected or ceased to be. For each
// peer they alternate, beginning with Connected, however many connections
// there are under it.
type Event struct {
	Peer      DeviceID
	Connected bool
}

// A Subscription delivers events in order on C until it is closed or the mesh
// stops; then C is closed. It begins with one event for each peer connected
// already. A slow reader delays nobody and loses nothing that matters: at most
// two events wait for each peer, and of a connection that came and went unseen
// neither half is told.
type Subscription struct {
	C <-chan Event

	mesh  *Mesh
	stop  chan struct{}
	ready chan struct{}
	once  sync.Once

	mu      sync.Mutex
	pending []Event
}

// Subscribe begins a subscription. Close it when it is no longer read.
func (m *Mesh) Subscribe() *Subscription {
	out := make(chan Event)
	s := &Subscription{C: out, mesh: m, stop: make(chan struct{}), ready: make(chan struct{}, 1)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		close(out)
		return s
	}
	for _, ps := range m.peers {
		if ps.online {
			s.push(Event{Peer: ps.id, Connected: true})
		}
	}
	m.subs[s] = struct{}{}
	m.work.Add(1) // stopping is false, and m.mu held: as enter does
	go func() {
		defer m.work.Done()
		s.deliver(out)
	}()
	return s
}

// Close ends the subscription. Events not yet received are dropped.
func (s *Subscription) Close() {
	s.once.Do(func() {
		close(s.stop)
		s.mesh.mu.Lock()
		defer s.mesh.mu.Unlock()
		delete(s.mesh.subs, s)
	})
}

func (s *Subscription) push(e Event) {
	s.mu.Lock()
	s.pending = coalesce(s.pending, e)
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// coalesce adds e to the events that wait, or cancels it with the one it
// undoes: a peer that came and went again unseen. One that went and came back
// stays as two, since its streams are new.
func coalesce(pending []Event, e Event) []Event {
	if !e.Connected {
		for i := len(pending) - 1; i >= 0; i-- {
			if pending[i].Peer == e.Peer && pending[i].Connected {
				return append(pending[:i:i], pending[i+1:]...)
			}
		}
	}
	return append(pending, e)
}

func (s *Subscription) deliver(out chan<- Event) {
	defer close(out)
	for {
		s.mu.Lock()
		var next Event
		waiting := len(s.pending) > 0
		if waiting {
			next, s.pending = s.pending[0], s.pending[1:]
		}
		s.mu.Unlock()
		if !waiting {
			select {
			case <-s.ready:
			case <-s.stop:
				return
			case <-s.mesh.ctx.Done():
				return
			}
			continue
		}
		select {
		case out <- next:
		case <-s.stop:
			return
		case <-s.mesh.ctx.Done():
			return
		}
	}
}
