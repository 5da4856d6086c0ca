package node

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"sheaf/node/api"
)

// An eventLog holds the last events and gives them to who listens. Safe for
// concurrent use.
type eventLog struct {
	mu     sync.Mutex
	events []api.Event // the last maxEvents
	next   uint64
	ears   map[chan api.Event]bool
	closed bool
}

const (
	maxEvents = 1000
	earBuffer = 256 // a receiver that is further behind is let go
)

func newEventLog() *eventLog {
	// IDs rise by time, so that one of an earlier run is not taken for one of this.
	return &eventLog{next: uint64(time.Now().UnixMicro()), ears: make(map[chan api.Event]bool)} //nolint:gosec // after 1970
}

func (l *eventLog) add(kind string, data any) {
	raw, err := json.Marshal(data)
	if err != nil || string(raw) == "null" {
		raw = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.next++
	e := api.Event{ID: l.next, Type: kind, At: time.Now().UTC(), Data: raw}
	l.events = append(l.events, e)
	if len(l.events) > maxEvents {
		l.events = append([]api.Event(nil), l.events[len(l.events)-maxEvents/2:]...)
	}
	for ear := range l.ears {
		select {
		case ear <- e:
		default:
			delete(l.ears, ear)
			close(ear)
		}
	}
}

// listen gives the events after an ID, see api.Node.
func (l *eventLog) listen(ctx context.Context, after uint64) <-chan api.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	ear := make(chan api.Event, earBuffer+maxEvents)
	if l.closed {
		close(ear)
		return ear
	}
	if after != 0 {
		if after < l.next && (len(l.events) == 0 || l.events[0].ID > after+1) {
			ear <- api.Event{ID: after + 1, Type: api.EventGap, At: time.Now().UTC()}
		}
		for _, e := range l.events {
			if e.ID > after {
				ear <- e
			}
		}
	}
	l.ears[ear] = true
	context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ears[ear] {
			delete(l.ears, ear)
			close(ear)
		}
	})
	return ear
}

func (l *eventLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for ear := range l.ears {
		delete(l.ears, ear)
		close(ear)
	}
}
