package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxEvent bounds one event: the longest holds a Status.
const maxEvent = 16 << 20

// Events is Node's. The channel is also closed when the connection breaks: call
// again with the ID of the last event to go on.
func (c *Client) Events(ctx context.Context, after uint64) (<-chan Event, error) {
	header := http.Header{}
	if after > 0 {
		header.Set("Last-Event-ID", strconv.FormatUint(after, 10))
	}
	resp, err := c.send(ctx, http.MethodGet, prefix+"/events", header, nil)
	if err != nil {
		return nil, err
	}
	events := make(chan Event)
	// The goroutine ends with ctx, which breaks the read, or with the stream.
	go func() {
		defer close(events)
		defer func() { _ = resp.Body.Close() }()
		readEvents(ctx, resp.Body, events)
	}()
	return events, nil
}

// readEvents reads a stream as this package's server writes it: the data of
// each event is in one line and holds all of it.
func readEvents(ctx context.Context, r io.Reader, events chan<- Event) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue // id and event repeat what is in the data; the rest is comment
		}
		var e Event
		if json.Unmarshal([]byte(data), &e) != nil {
			return
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return
		}
	}
}
