package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// history is a node's memory of events, as Node.Events describes it.
type history struct {
	mu     sync.Mutex
	first  uint64 // ID of events[0]
	events []Event
	asked  []uint64
	wake   chan struct{}
}

func (h *history) happen(types ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range types {
		id := h.first + uint64(len(h.events))
		h.events = append(h.events, Event{ID: id, Type: t, At: day1, Data: json.RawMessage(`{"path":"a\nb"}`)})
	}
	close(h.wake)
	h.wake = make(chan struct{})
}

// after gives the events after an ID, and what to wait for when there are none.
func (h *history) after(id uint64) ([]Event, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id < h.first {
		return h.events, h.wake
	}
	return h.events[min(id+1-h.first, uint64(len(h.events))):], h.wake
}

// Events is Node's.
func (h *history) Events(ctx context.Context, after uint64) (<-chan Event, error) {
	h.mu.Lock()
	h.asked = append(h.asked, after)
	if after == 0 {
		after = h.first + uint64(len(h.events)) - 1
	}
	h.mu.Unlock()
	ch := make(chan Event)
	go func() {
		defer close(ch)
		for {
			events, wake := h.after(after)
			for _, e := range events {
				select {
				case ch <- e:
					after = e.ID
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-wake:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, nil
}

type eventful struct {
	*fakeNode
	*history
}

// Events is Node's.
func (e eventful) Events(ctx context.Context, after uint64) (<-chan Event, error) {
	return e.history.Events(ctx, after)
}

// TestEventsGoOn: whoever comes back with the last ID misses nothing and gets
// nothing twice.
func TestEventsGoOn(t *testing.T) {
	t.Parallel()
	h := &history{first: 1, wake: make(chan struct{})}
	h.happen(EventState)
	home, _ := serve(t, eventful{newFake(), h}, Options{}, "")
	c := client(t, home)
	var last uint64
	var got []string
	collect := func(after uint64, n int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ch, err := c.Events(ctx, after)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			e, open := <-ch
			if !open {
				t.Fatal("the stream ended early")
			}
			if e.ID != last+1 && last != 0 {
				t.Errorf("event %d came after %d", e.ID, last)
			}
			if string(e.Data) != `{"path":"a\nb"}` || !e.At.Equal(day1) {
				t.Errorf("event arrived as %+v", e)
			}
			last = e.ID
			got = append(got, e.Type)
		}
		cancel()
		for range ch { // closed by Events when ctx has ended
		}
	}
	collect(0, 0) // nothing of before
	last = 1
	h.happen(EventPeer, EventTransfer, EventConflict)
	collect(1, 2)
	h.happen(EventHold) // while nobody listens
	collect(last, 2)
	if want := "peer transfer conflict hold"; strings.Join(got, " ") != want {
		t.Errorf("events were %q, want %q", got, want)
	}
}

// TestEventsAsBrowsersSeeThem: the form of the stream, byte by byte.
func TestEventsAsBrowsersSeeThem(t *testing.T) {
	t.Parallel()
	h := &history{first: 7, wake: make(chan struct{})}
	h.happen(EventState, EventPeer)
	_, l := serve(t, eventful{newFake(), h}, Options{Token: rightToken}, "127.0.0.1:0")
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.TCPAddr()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+right)
	req.Header.Set("Last-Event-ID", "7")
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("content type %q", ct)
	}
	want := []string{
		"retry: 1000", "",
		"id: 8", "event: peer", `data: {"id":8,"type":"peer","at":"2026-11-01T12:00:00Z","data":{"path":"a\nb"}}`, "",
	}
	lines := bufio.NewScanner(resp.Body)
	for _, w := range want {
		if !lines.Scan() || lines.Text() != w {
			t.Fatalf("line is %q, want %q", lines.Text(), w)
		}
	}
}

func TestEventsRefused(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.err = Errorf(ErrRefused, "r", "m")
	home, _ := serve(t, f, Options{}, "")
	if _, err := client(t, home).Events(t.Context(), 0); !errors.Is(err, ErrRefused) {
		t.Errorf("error is %v", err)
	}
}

// TestEventsEndWithTheNode: a stream ends when the node closes it, and when the
// server stops.
func TestEventsEndWithTheNode(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.events = func(context.Context) chan Event {
		ch := make(chan Event, 1)
		ch <- Event{ID: 1, Type: EventGap}
		close(ch)
		return ch
	}
	home, _ := serve(t, f, Options{}, "")
	ch, err := client(t, home).Events(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-ch; e.Type != EventGap || e.Data != nil {
		t.Errorf("event is %+v", e)
	}
	if _, open := <-ch; open {
		t.Error("the stream goes on")
	}
}
