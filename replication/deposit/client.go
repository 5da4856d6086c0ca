package deposit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// patience is how long an answer may take: the relay holds some back for half a
// minute, and a slow line needs time for a large one.
const patience = 3 * time.Minute

// A RefusedError is what a relay says when it does not do what it is asked. The stream
// goes on.
type RefusedError struct {
	Code string // of the wire package's codes, or another of a newer relay
	Text string // for people
}

// Error says what the relay says.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the relay refuses (%s): %s", e.Code, e.Text)
}

// A Welcome is what a relay says that it keeps of the group.
type Welcome struct {
	Store     replication.StoreID // its numbers mean something in this one only
	Bytes     uint64
	MostBytes uint64
	Records   uint64
	Program   string        // for people
	Retention time.Duration // how long it keeps what was deleted
}

// A Client is one stream to a relay's archive, for one group.
type Client struct {
	relay   replication.DeviceID
	group   group.ID
	program string

	mu      sync.Mutex
	welcome Welcome
	stream  replication.Stream
	r       *bufio.Reader
	broken  error
}

// Open opens a stream to a relay's archive. A *RefusedError says that the relay does
// not serve the group, or not to this device.
func Open(ctx context.Context, o replication.Opener, relay replication.DeviceID, id group.ID, program string) (*Client, error) {
	s, err := o.Open(ctx, relay, wire.ArchiveProtocol)
	if err != nil {
		return nil, fmt.Errorf("open the archive of relay %s: %w", relay, err)
	}
	c := &Client{relay: relay, group: id, program: program, stream: s, r: bufio.NewReader(s)}
	down, err := c.ask(ctx, &wire.ArchiveUp{Open: &wire.ArchiveOpen{Version: wire.Version, Group: wire.ID(id), Program: program}})
	if err == nil && down.Welcome == nil {
		err = c.violation(errAnswer)
	}
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("open the archive of relay %s: %w", relay, err)
	}
	c.welcome = welcomeOf(down.Welcome)
	return c, nil
}

// Welcome is what the relay said when the stream was opened, or Renew last asked.
func (c *Client) Welcome() Welcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.welcome
}

// Close ends the stream.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil
	}
	c.broken = replication.ErrStopped
	return c.stream.Close()
}

var errAnswer = errors.New("the answer is to another question")

// violation ends the stream, for the relay has broken the protocol.
func (c *Client) violation(err error) error {
	v := &replication.Violation{Peer: c.relay, Err: err}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakLocked(v)
	return v
}

func (c *Client) breakLocked(err error) {
	if c.broken == nil {
		c.broken = err
		_ = c.stream.Reset()
	}
}

// ask sends a request and reads its answer. Whatever goes wrong but a refusal ends the
// stream: where it stands is not known then.
func (c *Client) ask(ctx context.Context, up *wire.ArchiveUp) (*wire.ArchiveDown, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil, c.broken
	}
	stop := context.AfterFunc(ctx, func() { _ = c.stream.Reset() })
	defer stop()
	var down wire.ArchiveDown
	err := c.stream.SetDeadline(time.Now().Add(patience))
	if err == nil {
		err = wire.WriteMsg(c.stream, up, wire.MaxArchiveUp)
	}
	if err == nil {
		err = wire.ReadMsg(c.r, &down, wire.MaxArchiveDown)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		var format *wire.FormatError
		var size *wire.SizeError
		if errors.As(err, &format) || errors.As(err, &size) {
			err = &replication.Violation{Peer: c.relay, Err: err}
		}
		c.breakLocked(err)
		return nil, err
	}
	if r := down.Refusal; r != nil {
		return nil, &RefusedError{Code: r.Code, Text: r.Text}
	}
	return &down, nil
}

// A Log is what an exchange of statements needs of a group's log: group.Log under its
// owner's lock.
type Log interface {
	Tell() group.Heads
	Lacking(h group.Heads) ([]group.Batch, error)
	Take(b group.Batch) ([]group.Statement, error) // gives those that were new
}

// maxRounds is how many messages each way an exchange of statements takes at most: the
// largest log fits into fewer.
const maxRounds = 64

// Exchange brings this device and the relay to hold the same statements of the group.
func (c *Client) Exchange(ctx context.Context, log Log) error {
	for range maxRounds {
		more, err := c.exchangeOnce(ctx, log)
		if err != nil {
			return fmt.Errorf("exchange statements with relay %s: %w", c.relay, err)
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("exchange statements with relay %s: %w", c.relay, c.violation(errors.New("it does not take in what it is told")))
}

// exchangeOnce tells whether anything was moved.
func (c *Client) exchangeOnce(ctx context.Context, log Log) (moved bool, err error) {
	down, err := c.ask(ctx, &wire.ArchiveUp{Say: &wire.ArchiveSay{Messages: [][]byte{group.EncodeMessage(log.Tell())}}})
	if err != nil {
		return false, err
	}
	if down.Said == nil {
		return false, c.violation(errAnswer)
	}
	var theirs *group.Heads
	for _, raw := range down.Said.Messages {
		m, err := group.DecodeMessage(raw)
		if err != nil {
			return false, c.violation(err)
		}
		switch m := m.(type) {
		case group.Heads:
			theirs = &m
		case group.Batch:
			added, err := log.Take(m)
			if err != nil {
				return false, c.violation(err)
			}
			moved = moved || len(added) > 0
		default:
			return false, c.violation(errAnswer)
		}
	}
	if theirs == nil {
		return false, c.violation(errors.New("it does not say which statements it has"))
	}
	lacking, err := log.Lacking(*theirs)
	if err != nil {
		return false, err
	}
	up, size := &wire.ArchiveSay{}, 0
	for _, b := range lacking {
		enc := group.EncodeMessage(b)
		if size += len(enc); size > wire.MaxArchiveData || len(up.Messages) == wire.MaxSaid {
			break
		}
		up.Messages = append(up.Messages, enc)
	}
	if len(up.Messages) == 0 {
		return moved, nil
	}
	down, err = c.ask(ctx, &wire.ArchiveUp{Say: up})
	if err != nil {
		return false, err
	}
	if down.Said == nil {
		return false, c.violation(errAnswer)
	}
	return true, nil
}

// digests writes addresses as they are sent.
func digests(list []seal.Digest) []byte {
	b := make([]byte, 0, len(list)*sha256.Size)
	for _, d := range list {
		b = append(b, d[:]...)
	}
	return b
}

// folderOf is how a folder is named on the wire.
func folderOf(f crdt.FolderID) wire.ID { return wire.ID(f) }

// Renew asks the relay anew what it keeps of the group: see Welcome.
func (c *Client) Renew(ctx context.Context) error {
	down, err := c.ask(ctx, &wire.ArchiveUp{Open: &wire.ArchiveOpen{Version: wire.Version, Group: wire.ID(c.group), Program: c.program}})
	if err != nil {
		return fmt.Errorf("ask what relay %s keeps: %w", c.relay, err)
	}
	if down.Welcome == nil {
		return c.violation(errAnswer)
	}
	w := welcomeOf(down.Welcome)
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.Store != c.welcome.Store {
		err := &replication.Violation{Peer: c.relay, Err: errors.New("it has become another archive while a stream was open")}
		c.breakLocked(err)
		return err
	}
	c.welcome = w
	return nil
}

func welcomeOf(w *wire.ArchiveWelcome) Welcome {
	return Welcome{Store: replication.StoreID(w.Store), Bytes: w.Bytes, MostBytes: w.MostBytes, Records: w.Records, Program: w.Program, Retention: time.Duration(w.Retention) * time.Millisecond}
}
