package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"sheaf/node/mesh"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// The protocols by which devices come to hold the same statements, and by which
// a new one joins.
const (
	groupsProtocol = "/sheaf/groups/1"
	joinProtocol   = "/sheaf/join/1"
)

// messageTimeout is how long one message of these protocols may take.
const messageTimeout = 20 * time.Second

// A talk is one stream of such a protocol: messages, each with a deadline.
type talk struct {
	s mesh.Stream
	r *bufio.Reader
}

func newTalk(s mesh.Stream) *talk { return &talk{s: s, r: bufio.NewReader(s)} }

func (t *talk) say(m group.Message) error {
	if err := t.s.SetWriteDeadline(time.Now().Add(messageTimeout)); err != nil {
		return err
	}
	return wire.WriteMsg(t.s, group.EncodeMessage(m), group.MaxMessage+16)
}

func (t *talk) hear() (group.Message, error) {
	if err := t.s.SetReadDeadline(time.Now().Add(messageTimeout)); err != nil {
		return nil, err
	}
	var raw []byte
	if err := wire.ReadMsg(t.r, &raw, group.MaxMessage+16); err != nil {
		return nil, err
	}
	return group.DecodeMessage(raw)
}

// exchangeStatements brings this device and a peer to hold the same statements:
// each says what it has and sends what the other lacks.
func (n *Node) exchangeStatements(ctx context.Context, peer mesh.DeviceID) {
	s, err := n.mesh.Open(ctx, peer, groupsProtocol)
	if err != nil {
		n.log.Debug("exchange statements", "err", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	t := newTalk(s)
	_, err = n.converse(t)
	if err != nil {
		_ = s.Reset()
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			n.log.Debug("exchange statements", "device", n.account.name(peer), "err", err)
		}
		return
	}
	_ = s.Close()
}

// serveGroups is the other side of exchangeStatements: both sides do the same.
func (n *Node) serveGroups(_ context.Context, peer mesh.DeviceID, s mesh.Stream) {
	if n.isRelay(peer) {
		_ = s.Reset() // what a relay is told it is told as one
		return
	}
	if _, err := n.converse(newTalk(s)); err != nil {
		n.log.Debug("exchange statements", "device", n.account.name(peer), "err", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

// converse says what we have, hears what the other has, sends what it lacks and
// takes what we lack. Sending and hearing go on at once, so that neither waits
// for the other to read. news tells that there was something to send: that the
// other has heard it only the next conversation shows.
func (n *Node) converse(t *talk) (news bool, err error) {
	var tell group.Heads
	n.account.view(func(l *group.Log) { tell = l.Tell() })
	if err := t.say(tell); err != nil {
		return false, err
	}
	m, err := t.hear()
	if err != nil {
		return false, err
	}
	theirs, ok := m.(group.Heads)
	if !ok {
		return false, fmt.Errorf("statements were to be told of first: %w", group.ErrMalformed)
	}
	var batches []group.Batch
	n.account.view(func(l *group.Log) {
		batches, err = l.Lacking(theirs)
		if news = len(batches) > 0; err == nil && !news {
			batches = []group.Batch{{Group: l.Group()}}
		}
	})
	if err != nil {
		return false, err
	}
	said := make(chan error, 1)
	go func() {
		for _, b := range batches {
			if err := t.say(b); err != nil {
				said <- err
				return
			}
		}
		said <- t.s.CloseWrite()
	}()
	err = n.hearBatches(t)
	if err != nil {
		_ = t.s.Reset() // ends the saying too
	}
	return news, errors.Join(err, <-said)
}

// maxBatches bounds one exchange.
const maxBatches = 10_000

func (n *Node) hearBatches(t *talk) error {
	for range maxBatches {
		m, err := t.hear()
		if err != nil {
			return err
		}
		b, ok := m.(group.Batch)
		if !ok {
			return fmt.Errorf("statements were to follow: %w", group.ErrMalformed)
		}
		if _, err := n.account.takeBatch(b); err != nil {
			n.log.Warn("statements refused", "err", err)
		}
		if !b.More {
			return nil
		}
	}
	return fmt.Errorf("statements without end: %w", group.ErrMalformed)
}

// takeBatch adds the statements of a batch, and gives those that were new.
func (a *account) takeBatch(b group.Batch) ([]group.Statement, error) {
	var list []group.Statement
	var bad error
	for _, raw := range b.Statements {
		s, err := group.ParseStatement(raw)
		if err != nil {
			bad = err
			continue
		}
		list = append(list, s)
	}
	added, err := a.take(list)
	return added, errors.Join(bad, err)
}

// farewellTime is how long a device that is being removed may take to hear of
// it. Nothing else is said to it meanwhile.
const farewellTime = 2 * time.Second

// farewell prepares to tell a device that it is removed. The function that it
// gives is called when that is so (or not): it says it, and lets go.
func (n *Node) farewell(ctx context.Context, peer mesh.DeviceID) func(removed bool) {
	opening, cancel := context.WithTimeout(ctx, farewellTime)
	defer cancel()
	s, err := n.mesh.Open(opening, peer, groupsProtocol)
	if err != nil {
		return func(bool) {} // not connected: it finds out by being refused
	}
	heard := make(chan struct{})
	n.mu.Lock()
	n.leaving[peer] = heard
	n.mu.Unlock()
	return func(removed bool) {
		defer func() {
			n.mu.Lock()
			delete(n.leaving, peer)
			n.mu.Unlock()
			close(heard)
			if removed {
				n.mesh.Drop(peer)
			}
		}()
		if !removed {
			_ = s.Reset()
			return
		}
		ctx, cancel := context.WithTimeout(ctx, farewellTime)
		defer cancel()
		// Until it has heard of it, or lets go itself: what is on its way when a
		// connection is closed is lost, and of two connections one may be closed at
		// this very moment, as one too many.
		for news, err := n.tell(ctx, s); news || err != nil; news, err = n.tell(ctx, s) {
			n.log.Debug("tell a device that it is removed", "err", err)
			if s, err = n.mesh.Open(ctx, peer, groupsProtocol); err != nil {
				return
			}
		}
	}
}

// tell has one conversation, within ctx.
func (n *Node) tell(ctx context.Context, s mesh.Stream) (news bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if news, err = n.converse(newTalk(s)); err != nil {
		_ = s.Reset()
		return news, err
	}
	return news, s.Close()
}

// admits tells whether a device may connect: a member, and for a moment one that is
// just being removed, so that it can be told. Nothing else is said to it.
func (n *Node) admits(id mesh.DeviceID) bool {
	if n.account.member(id) || n.isRelay(id) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leaving[id] != nil
}

// tend makes the statements that the state of things asks of this device
// without a person: new keys after a removal, keys for who has none.
func (n *Node) tend() error {
	return n.account.say(func(l *group.Log, k group.Keys) ([]group.Statement, error) { return l.Tend(rand.Reader, k) })
}
