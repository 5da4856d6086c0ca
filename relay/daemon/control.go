package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/replication/seal"
)

// A Status is how a relay is.
type Status struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"` // peer ID
	Version   string    `json:"version"`
	Started   time.Time `json:"started_at"`
	Addresses []string  `json:"addresses"`
	Connected int       `json:"connected"` // devices
	Groups    int       `json:"groups"`
	Blocks    int       `json:"blocks"`
	DiskBytes int64     `json:"disk_bytes"`
	Retention string    `json:"retention"`
	Versions  int       `json:"versions"`
}

// A Group is what one group keeps at a relay.
type Group struct {
	ID         string `json:"id"`
	Devices    int    `json:"devices"`
	UsedBytes  uint64 `json:"used_bytes"`
	QuotaBytes uint64 `json:"quota_bytes"`
	Records    uint64 `json:"records"`
}

// An InviteRequest says what a code is good for.
type InviteRequest struct {
	Quota   int64         `json:"quota_bytes"`
	Uses    int           `json:"uses"`
	Expires time.Duration `json:"expires"` // nanoseconds
}

// A Collected is what a collection freed.
type Collected struct {
	Purged     int   `json:"purged"`
	FreedBytes int64 `json:"freed_bytes"`
	DiskBytes  int64 `json:"disk_bytes"` // of the packs, after it
}

// A Control is what the person who runs a relay can ask of it and say to it: the same
// whether the relay runs, and is asked over its socket, or not, and its home is opened.
type Control interface {
	Status(ctx context.Context) (Status, error)
	Groups(ctx context.Context) ([]Group, error)
	Invite(ctx context.Context, o InviteRequest) (string, error)
	Check(ctx context.Context, repair bool) (CheckReport, error)
	Collect(ctx context.Context) (Collected, error)
}

// A CheckReport is what Check found: all but the counts ought to be zero and empty.
type CheckReport = checkReport

var (
	_ Control = (*Relay)(nil)
	_ Control = (*Client)(nil)
)

// addresses gives where the relay can be reached, those of this machine alone last.
func (r *Relay) addresses() []string {
	if r.mesh != nil {
		return r.mesh.Addresses()
	}
	var out []string
	for _, a := range r.cfg.Listen {
		out = append(out, a+"/p2p/"+mesh.PeerID(mesh.DeviceID(r.keys.ID())))
	}
	return out
}

// Status implements Control.
func (r *Relay) Status(context.Context) (Status, error) {
	st := r.packs.Stats()
	s := Status{
		Name: r.cfg.Name, ID: mesh.PeerID(mesh.DeviceID(r.keys.ID())), Version: r.o.Version, Started: r.started.UTC(), Addresses: r.addresses(),
		Groups: len(r.archive.Usages()), Blocks: st.Blocks, DiskBytes: st.DiskBytes, Retention: Keys()[3].get(&r.cfg), Versions: r.cfg.Versions,
	}
	if r.mesh != nil {
		for _, p := range r.mesh.Peers() {
			if p.Connected {
				s.Connected++
			}
		}
	}
	return s, nil
}

// Groups implements Control.
func (r *Relay) Groups(context.Context) ([]Group, error) {
	out := []Group{}
	for _, u := range r.archive.Usages() {
		state, err := r.archive.Group(u.Group)
		if err != nil {
			return nil, err
		}
		g := Group{ID: u.Group.String(), UsedBytes: u.Bytes, QuotaBytes: u.Limit.Bytes, Records: u.Records}
		for _, m := range state.Members {
			if !m.Paper {
				g.Devices++
			}
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b Group) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

// maxCodeAddresses is how many addresses a code names.
const maxCodeAddresses = 8

// Invite implements Control. It gives the text of a code.
func (r *Relay) Invite(_ context.Context, o InviteRequest) (string, error) {
	if o.Quota < 1<<20 || o.Uses < 1 || o.Uses > 10_000 || o.Expires <= 0 {
		return "", api.Errorf(api.ErrUsage, "give at least 1MiB, from 1 to 10000 uses, and a time", "a code for %d bytes, %d uses, %v is of no use", o.Quota, o.Uses, o.Expires)
	}
	addresses := r.addresses()
	if r.mesh == nil {
		// What "all interfaces" are is known only while it runs.
		for _, a := range addresses {
			if strings.HasPrefix(a, "/ip4/0.0.0.0/") || strings.HasPrefix(a, "/ip6/::/") || strings.Contains(a, "/tcp/0/") || strings.Contains(a, "/udp/0/") {
				return "", api.Errorf(api.ErrNotRunning, "start it with `sheaf-relay run`, and ask again", "where the relay is reached is known only while it runs")
			}
		}
	}
	code, err := r.invites.make(r.keys.ID(), addresses[:min(len(addresses), maxCodeAddresses)], uint64(o.Quota), o.Uses, time.Now().Add(o.Expires)) //nolint:gosec // above zero
	if err != nil {
		return "", err
	}
	return code.Text(), nil
}

// Check implements Control.
func (r *Relay) Check(ctx context.Context, repair bool) (CheckReport, error) {
	return r.check(ctx, repair)
}

// Collect implements Control.
func (r *Relay) Collect(ctx context.Context) (out Collected, err error) {
	if out.Purged, err = r.archive.Tend(ctx); err != nil {
		return out, err
	}
	out.FreedBytes, err = r.collect(ctx)
	out.DiskBytes = r.packs.Stats().DiskBytes
	return out, err
}

// lost says that blocks are gone or broken: devices are asked for them again.
func (r *Relay) lost(lists ...[]cid.Cid) error {
	for _, list := range lists {
		for _, c := range list {
			h, err := multihash.Decode(c.Hash())
			if err != nil || len(h.Digest) != len(seal.Digest{}) {
				continue // none of the archive's
			}
			r.log.Error("a block is broken", "block", c)
			if err := r.archive.Lost(seal.Digest(h.Digest)); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxControl bounds a request and an answer.
const maxControl = 64 << 20

// control answers at the socket until ctx ends.
func (r *Relay) control(ctx context.Context, socket net.Listener) error {
	mux := http.NewServeMux()
	handle(mux, "/status", func(ctx context.Context, _ struct{}) (Status, error) { return r.Status(ctx) })
	handle(mux, "/groups", func(ctx context.Context, _ struct{}) ([]Group, error) { return r.Groups(ctx) })
	handle(mux, "/invite", r.Invite)
	handle(mux, "/check", r.Check)
	handle(mux, "/gc", func(ctx context.Context, _ struct{}) (Collected, error) { return r.Collect(ctx) })
	// For who runs it, as the socket is.
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan error, 1)
	go func() { done <- server.Serve(socket) }()
	<-ctx.Done()
	// What runs ends with ctx.
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := server.Shutdown(late)
	if err != nil {
		err = server.Close()
	}
	if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// A failure is an error as it goes over the socket.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

var failureKinds = map[string]error{"usage": api.ErrUsage, "conflict": api.ErrConflict, "not running": api.ErrNotRunning, "failed": api.ErrFailed}

func handle[I, O any](mux *http.ServeMux, path string, fn func(context.Context, I) (O, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
		var in I
		var out any
		err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<20)).Decode(&in)
		if err == nil {
			out, err = fn(req.Context(), in)
		}
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusConflict)
			out = failureOf(err)
		}
		_ = json.NewEncoder(w).Encode(out) // who asked may be gone
	})
}

func failureOf(err error) failure {
	f := failure{Kind: "failed", Message: err.Error()}
	var e *api.Error
	if errors.As(err, &e) {
		f.Message, f.Remedy = e.Message, e.Remedy
	}
	for name, kind := range failureKinds {
		if errors.Is(err, kind) {
			f.Kind = name
		}
	}
	return f
}

// A Client asks a running relay.
type Client struct{ http *http.Client }

// NewClient gives a client for the relay of a home.
func NewClient(home string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return api.DialSocket(ctx, home) }
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func ask[O any](ctx context.Context, c *Client, path string, in any) (out O, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("ask the relay: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://relay"+path, strings.NewReader(string(body)))
	if err != nil {
		return out, fmt.Errorf("ask the relay: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if isDown(err) {
			return out, api.Errorf(api.ErrNotRunning, "start it with `sheaf-relay run`", "the relay is not running")
		}
		return out, fmt.Errorf("ask the relay: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	d := json.NewDecoder(io.LimitReader(resp.Body, maxControl))
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := d.Decode(&f); err != nil {
			return out, fmt.Errorf("ask the relay: it answered %s", resp.Status)
		}
		kind := failureKinds[f.Kind]
		if kind == nil {
			kind = api.ErrFailed
		}
		return out, &api.Error{Kind: kind, Message: f.Message, Remedy: f.Remedy}
	}
	if err := d.Decode(&out); err != nil {
		return out, fmt.Errorf("read the relay's answer: %w", err)
	}
	return out, nil
}

// isDown tells whether nobody answers at the socket.
func isDown(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || api.IsNoSocket(err)
}

// Status implements Control.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, "/status", struct{}{})
}

// Groups implements Control.
func (c *Client) Groups(ctx context.Context) ([]Group, error) {
	return ask[[]Group](ctx, c, "/groups", struct{}{})
}

// Invite implements Control.
func (c *Client) Invite(ctx context.Context, o InviteRequest) (string, error) {
	return ask[string](ctx, c, "/invite", o)
}

// Check implements Control.
func (c *Client) Check(ctx context.Context, repair bool) (CheckReport, error) {
	return ask[CheckReport](ctx, c, "/check", repair)
}

// Collect implements Control.
func (c *Client) Collect(ctx context.Context) (Collected, error) {
	return ask[Collected](ctx, c, "/gc", struct{}{})
}
