package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sheaf/node/config"
)

// maxAnswer bounds what Client reads of one answer.
const maxAnswer = 256 << 20

// errNoSocket says that a home has no socket.
var errNoSocket = errors.New("there is no socket")

// A Client asks the node of a home over its socket. It is itself a Node: what
// goes in and what comes out, errors with kind, code, message and remedy
// included, is the same on both ends. It may be used from many goroutines.
type Client struct {
	home string
	http *http.Client
}

var _ Node = (*Client)(nil)

// NewClient makes a client for the node of a home. It does not connect yet.
func NewClient(home string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return DialSocket(ctx, home) }
	return &Client{home: home, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 2}}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Instance gives a name that is another one each time the node starts.
func (c *Client) Instance(ctx context.Context) (string, error) {
	resp, err := c.send(ctx, http.MethodGet, healthPath, nil, nil)
	if err != nil {
		return "", err
	}
	defer drain(resp)
	return resp.Header.Get(instanceHeader), nil
}

// Status is Node's.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return fetch[Status](ctx, c, "/status", nil)
}

// Wait is Node's. ctx's deadline goes to the node, which then can name what is
// still open.
func (c *Client) Wait(ctx context.Context, o WaitOptions) error {
	req := waitRequest{Relay: o.Relay}
	if deadline, ok := ctx.Deadline(); ok {
		req.Timeout = max(1, time.Until(deadline).Milliseconds())
		// The node answers at the deadline: hear it out.
		late, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(5*time.Second))
		defer cancel()
		caller := ctx
		stop := context.AfterFunc(caller, func() {
			if errors.Is(caller.Err(), context.Canceled) {
				cancel()
			}
		})
		defer stop()
		ctx = late
	}
	return c.post(ctx, "/wait", req)
}

// Addresses is Node's.
func (c *Client) Addresses(ctx context.Context) ([]string, error) {
	return fetch[[]string](ctx, c, "/addresses", nil)
}

// Connect is Node's.
func (c *Client) Connect(ctx context.Context, addr string) (Peer, error) {
	return call[Peer](ctx, c, http.MethodPost, "/peers", peerRequest{addr})
}

// Devices is Node's.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	return fetch[[]Device](ctx, c, "/devices", nil)
}

// InviteDevice is Node's. The wire counts whole seconds: less than one is one.
func (c *Client) InviteDevice(ctx context.Context, expires time.Duration) (Invitation, error) {
	seconds := int64(expires / time.Second)
	if expires > 0 {
		seconds = max(1, seconds)
	}
	return call[Invitation](ctx, c, http.MethodPost, "/devices/invitations", inviteRequest{seconds})
}

// RenameDevice is Node's.
func (c *Client) RenameDevice(ctx context.Context, name, newName string) error {
	return c.tell(ctx, http.MethodPatch, "/devices/"+url.PathEscape(name), renameRequest{newName})
}

// RemoveDevice is Node's.
func (c *Client) RemoveDevice(ctx context.Context, name string) error {
	return c.tell(ctx, http.MethodDelete, "/devices/"+url.PathEscape(name), nil)
}

// Pause is Node's.
func (c *Client) Pause(ctx context.Context, folder string) error {
	return c.post(ctx, "/pause", folderRequest{folder})
}

// Resume is Node's.
func (c *Client) Resume(ctx context.Context, folder string) error {
	return c.post(ctx, "/resume", folderRequest{folder})
}

// List is Node's.
func (c *Client) List(ctx context.Context, path string, recursive bool, page Page) (Listing, error) {
	q := url.Values{}
	if recursive {
		q.Set("recursive", "true")
	}
	if page.After != "" {
		q.Set("after", page.After)
	}
	if page.Limit > 0 {
		q.Set("limit", strconv.Itoa(page.Limit))
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return fetch[Listing](ctx, c, "/tree/"+strings.Join(segments, "/"), q)
}

// Conflicts is Node's.
func (c *Client) Conflicts(ctx context.Context) ([]Conflict, error) {
	return fetch[[]Conflict](ctx, c, "/conflicts", nil)
}

// ResolveConflict is Node's.
func (c *Client) ResolveConflict(ctx context.Context, path string, keep Keep) error {
	return c.post(ctx, "/conflicts/resolve", resolveRequest{path, keep})
}

// Trash is Node's.
func (c *Client) Trash(ctx context.Context) ([]TrashItem, error) {
	return fetch[[]TrashItem](ctx, c, "/trash", nil)
}

// RestoreTrash is Node's.
func (c *Client) RestoreTrash(ctx context.Context, ids []string, to string) ([]string, error) {
	a, err := call[restoreAnswer](ctx, c, http.MethodPost, "/trash/restore", restoreRequest{ids, to})
	return a.Paths, err
}

// EmptyTrash is Node's.
func (c *Client) EmptyTrash(ctx context.Context, ids []string) (int, int64, error) {
	a, err := call[emptyAnswer](ctx, c, http.MethodPost, "/trash/empty", emptyRequest{IDs: ids, All: len(ids) == 0})
	return a.Items, a.Bytes, err
}

// Relays is Node's.
func (c *Client) Relays(ctx context.Context) ([]Relay, error) {
	return fetch[[]Relay](ctx, c, "/relays", nil)
}

// AddRelay is Node's.
func (c *Client) AddRelay(ctx context.Context, code string) (Relay, error) {
	return call[Relay](ctx, c, http.MethodPost, "/relays", codeRequest{code})
}

// RemoveRelay is Node's.
func (c *Client) RemoveRelay(ctx context.Context, name string) error {
	return c.tell(ctx, http.MethodDelete, "/relays/"+url.PathEscape(name), nil)
}

// Backups is Node's.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	return fetch[[]Backup](ctx, c, "/backups", nil)
}

// AddBackup is Node's.
func (c *Client) AddBackup(ctx context.Context, dir, name string) (Backup, error) {
	return call[Backup](ctx, c, http.MethodPost, "/backups", backupRequest{dir, name})
}

// RemoveBackup is Node's.
func (c *Client) RemoveBackup(ctx context.Context, name string, keep bool) error {
	q := url.Values{"name": {name}}
	if keep {
		q.Set("keep", "true")
	}
	return c.tell(ctx, http.MethodDelete, "/backups?"+q.Encode(), nil)
}

// History is Node's.
func (c *Client) History(ctx context.Context, path string) ([]Version, error) {
	return fetch[[]Version](ctx, c, "/history", url.Values{"path": {path}})
}

// Restore is Node's.
func (c *Client) Restore(ctx context.Context, o RestoreOptions) (Restored, error) {
	return call[Restored](ctx, c, http.MethodPost, "/restore", keptRequest(o))
}

// Copy is Node's.
func (c *Client) Copy(ctx context.Context, from []string, to string, move bool) (Copied, error) {
	path := "/copy"
	if move {
		path = "/move"
	}
	return call[Copied](ctx, c, http.MethodPost, path, copyRequest{from, to})
}

// Remove is Node's.
func (c *Client) Remove(ctx context.Context, path string, recursive bool) error {
	q := url.Values{"path": {path}}
	if recursive {
		q.Set("recursive", "true")
	}
	return c.tell(ctx, http.MethodDelete, "/content?"+q.Encode(), nil)
}

// Why is Node's.
func (c *Client) Why(ctx context.Context, path string) (Why, error) {
	return fetch[Why](ctx, c, "/why", url.Values{"path": {path}})
}

// Holds is Node's.
func (c *Client) Holds(ctx context.Context) ([]Hold, error) {
	return fetch[[]Hold](ctx, c, "/holds", nil)
}

// ReleaseHold is Node's.
func (c *Client) ReleaseHold(ctx context.Context, id string) error {
	return c.post(ctx, "/holds/"+url.PathEscape(id)+"/release", nil)
}

// RevertHold is Node's.
func (c *Client) RevertHold(ctx context.Context, id string) error {
	return c.post(ctx, "/holds/"+url.PathEscape(id)+"/revert", nil)
}

// Log is Node's.
func (c *Client) Log(ctx context.Context, path string, limit int) ([]ChangeSet, error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if path != "" {
		q.Set("path", path)
	}
	return fetch[[]ChangeSet](ctx, c, "/log", q)
}

// Doctor is Node's.
func (c *Client) Doctor(ctx context.Context, deep bool) ([]Check, error) {
	q := url.Values{}
	if deep {
		q.Set("deep", "true")
	}
	return fetch[[]Check](ctx, c, "/doctor", q)
}

// Config is Node's.
func (c *Client) Config(ctx context.Context) ([]config.Value, error) {
	return fetch[[]config.Value](ctx, c, "/config", nil)
}

// SetConfig is Node's.
func (c *Client) SetConfig(ctx context.Context, key, value string) error {
	return c.tell(ctx, http.MethodPut, "/config/"+url.PathEscape(key), settingRequest{value})
}

// Stop is Node's.
func (c *Client) Stop(ctx context.Context, restart bool) error {
	return c.post(ctx, "/stop", stopRequest{restart})
}

// fetch asks for something.
func fetch[T any](ctx context.Context, c *Client, path string, q url.Values) (T, error) {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return call[T](ctx, c, http.MethodGet, path, nil)
}

// call sends a request and reads the answer.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	resp, err := c.send(ctx, method, prefix+path, nil, body)
	if err != nil {
		return out, err
	}
	defer drain(resp)
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&out); err != nil {
		return out, c.lost(ctx, err)
	}
	return out, nil
}

// tell sends a request that is answered by its status alone.
func (c *Client) tell(ctx context.Context, method, path string, body any) error {
	resp, err := c.send(ctx, method, prefix+path, nil, body)
	if err != nil {
		return err
	}
	drain(resp)
	return nil
}

func (c *Client) post(ctx context.Context, path string, body any) error {
	return c.tell(ctx, http.MethodPost, path, body)
}

// send sends a request and turns all that is no success into an *Error.
func (c *Client) send(ctx context.Context, method, path string, header http.Header, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, content)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if header != nil {
		req.Header = header
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer drain(resp)
	var p problemDetails
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&p); err != nil || p.Detail == "" {
		return nil, Errorf(ErrFailed, "node and program may be of different releases: `sheaf restart`", "the node answered %s", resp.Status)
	}
	return nil, errorOf(resp.StatusCode, p)
}

// lost tells why there is no answer.
func (c *Client) lost(ctx context.Context, err error) error {
	var dial *net.OpError
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Kind: ErrTimeout, Message: "the node did not answer in time", Remedy: "try again with a longer --timeout", Cause: err}
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errNoSocket) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
		e := &Error{Kind: ErrNotRunning, Message: "no node is running for " + c.home, Remedy: "start it with `sheaf up`", Cause: err}
		if _, err := os.Stat(c.home); errors.Is(err, fs.ErrNotExist) {
			e.Remedy = "set this device up with `sheaf init` or `sheaf join`, then start it with `sheaf up`"
		}
		return e
	case errors.As(err, &dial) && dial.Op == "dial":
		return &Error{Kind: ErrFailed, Message: "the node's socket cannot be opened: " + dial.Err.Error(), Remedy: "run this as the user the node runs as", Cause: err}
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return &Error{Kind: ErrNotRunning, Message: "the node stopped before it had answered", Remedy: "start it with `sheaf up`", Cause: err}
	}
	return &Error{Kind: ErrFailed, Message: "the node's answer cannot be read: " + err.Error(), Remedy: "node and program may be of different releases: `sheaf restart`", Cause: err}
}

// drain ends with a response so that its connection can serve again.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxBody)
	_ = resp.Body.Close()
}
