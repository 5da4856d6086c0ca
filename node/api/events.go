package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	// heartbeat is how often a quiet stream says that it lives, so that both
	// ends notice when the other has gone.
	heartbeat = 20 * time.Second
	// eventWrite is how long a receiver may take for what it was sent.
	eventWrite = 10 * time.Second
)

type eventsQuery struct {
	LastEventID string `header:"Last-Event-ID" doc:"The last event received: the stream goes on after it"`
	After       uint64 `query:"after" doc:"The same, for those who cannot set a header"`
}

// registerEvents puts the stream of events on the API.
func (s *Server) registerEvents(api huma.API) {
	op := s.operation(api, http.MethodGet, "/events", "events", "What happens, as server-sent events")
	schemas := api.OpenAPI().Components.Schemas
	data := []*huma.Schema{}
	for _, t := range []reflect.Type{
		reflect.TypeFor[Status](), reflect.TypeFor[Folder](), reflect.TypeFor[Transfer](), reflect.TypeFor[Peer](),
		reflect.TypeFor[Conflict](), reflect.TypeFor[Hold](), reflect.TypeFor[Problem](), reflect.TypeFor[Device](),
	} {
		data = append(data, schemas.Schema(t, true, t.Name()))
	}
	op.Responses["200"] = &huma.Response{
		Description: "Each event has the event's ID as id, its type as event, and as data the object below. " +
			"After an event of type gap some were lost: ask for the state anew.",
		Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{
			Type: huma.TypeObject,
			Properties: map[string]*huma.Schema{
				"id":   {Type: huma.TypeInteger},
				"type": {Type: huma.TypeString, Enum: []any{EventGap, EventState, EventTransfer, EventPeer, EventConflict, EventHold, EventProblem, EventInvite}},
				"at":   {Type: huma.TypeString, Format: "date-time"},
				"data": {AnyOf: data},
			},
			Required: []string{"id", "type", "at"},
		}}},
	}
	huma.Register(api, op, func(ctx context.Context, q *eventsQuery) (*huma.StreamResponse, error) {
		after := q.After
		if q.LastEventID != "" {
			id, err := strconv.ParseUint(q.LastEventID, 10, 64)
			if err != nil {
				return nil, s.problem(ctx, "events", Errorf(ErrUsage, "send the id of the last event as it came", "Last-Event-ID is not a number"))
			}
			after = id
		}
		ctx, cancel := context.WithCancel(ctx)
		events, err := s.node.Events(ctx, after)
		if err != nil {
			cancel()
			return nil, s.problem(ctx, "events", err)
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			defer func() {
				cancel()
				for range events { // so that the node's sender never waits for us
				}
			}()
			_, w := humago.Unwrap(c)
			if err := stream(ctx, w, events); err != nil {
				s.log.Debug("event stream ended", "err", err)
			}
		}}, nil
	})
}

// stream writes events until there are no more or the receiver has gone.
func stream(ctx context.Context, w http.ResponseWriter, events <-chan Event) error {
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		if err := rc.SetWriteDeadline(time.Now().Add(eventWrite)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return rc.Flush()
	}
	// What Sheaf and a browser do when the stream breaks: try again in a second.
	if err := send("retry: 1000\n\n"); err != nil {
		return err
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case e, open := <-events:
			if !open {
				return nil
			}
			data, err := json.Marshal(e) // one line: JSON has no bare line ends
			if err != nil {
				return err
			}
			if err := send("id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, data); err != nil {
				return err
			}
		case <-beat.C:
			if err := send(": still here\n\n"); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}
