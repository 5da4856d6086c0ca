package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multistream"
)

// A Stream is one ordered, reliable, mutually authenticated byte stream in
// each direction to a peer, with its own flow control. Close ends writing and
// reading and delivers what was written; Reset throws both directions away.
type Stream interface {
	io.Reader
	io.Writer
	Close() error
	CloseWrite() error
	Reset() error
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// A Handler serves one stream that peer opened. The stream is its own until it
// returns; if it has not closed the stream by then, the stream is reset. ctx
// ends when the connection under the stream does, or the mesh stops.
type Handler func(ctx context.Context, peer DeviceID, s Stream)

// Handle registers h for a protocol, in place of any handler before. Members
// reach every protocol, guests only Config.GuestProtocols while Config.Joining
// says so; who is what is asked again for each stream. Run waits for all
// handlers at its end. A handler may be called before the Event that tells of
// its peer has been received.
func (m *Mesh) Handle(protocolID string, h Handler) {
	id := protocol.ID(protocolID)
	serve := func(s network.Stream) { m.serve(s, h) }
	if slices.Contains(m.cfg.GuestProtocols, protocolID) {
		m.guestMux.AddHandler(id, func(_ protocol.ID, rwc io.ReadWriteCloser) error {
			serve(rwc.(network.Stream))
			return nil
		})
	}
	m.host.SetStreamHandler(id, serve)
}

// accept is the one door for every stream that a peer opens, of libp2p's
// protocols as of ours.
func (m *Mesh) accept(s network.Stream) {
	if !m.enter() {
		_ = s.ResetWithError(network.StreamShutdown)
		return
	}
	defer m.work.Done()
	// Between New and Run the handlers are being registered.
	select {
	case <-m.started:
	case <-m.ctx.Done():
		_ = s.ResetWithError(network.StreamShutdown)
		return
	}
	switch m.standingOf(s.Conn()) {
	case member:
		m.markServed(s.Conn())
		m.memberStreams(s)
	case guest:
		m.serveGuest(s)
	default:
		_ = s.ResetWithError(network.StreamGated)
	}
}

// serveGuest is what libp2p does for a member's stream, with a list of
// protocols that holds two.
func (m *Mesh) serveGuest(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(m.cfg.Timing.Hello))
	id, handle, err := m.guestMux.Negotiate(s)
	if err != nil || (id != helloProtocol && !m.cfg.Joining()) {
		_ = s.ResetWithError(network.StreamProtocolNegotiationFailed)
		return
	}
	if err := s.SetProtocol(id); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return
	}
	_ = s.SetDeadline(time.Time{})
	_ = handle(id, s) // handlers made by Handle return no error
}

// serve runs one handler over one stream.
func (m *Mesh) serve(s network.Stream, h Handler) {
	id, err := fromPeer(s.Conn().RemotePeer())
	ctx, ok := m.contextOf(s.Conn())
	if err != nil || !ok {
		_ = s.Reset()
		return
	}
	tracked := &trackedStream{Stream: s}
	defer func() {
		if !tracked.done.Load() {
			_ = s.Reset()
		}
	}()
	h(ctx, id, tracked)
}

// A trackedStream knows whether its user ended it.
type trackedStream struct {
	network.Stream
	done atomic.Bool
}

func (s *trackedStream) Close() error { s.done.Store(true); return s.Stream.Close() }
func (s *trackedStream) Reset() error { s.done.Store(true); return s.Stream.Reset() }

// Open opens a stream to peer, over the best connection there is (TCP before
// QUIC, direct before relayed), dialling it first when there is none. It
// returns when the peer has accepted the protocol, within ctx and at most
// Timing.Hello for that part.
//
// Errors: [ErrNotMember] unless peer is a member or protocolID is one
// of Config.GuestProtocols; [ErrProtocol] when the peer has no handler;
// [ErrRefused] when the peer holds us for no member; [ErrUnreachable]
// ([ErrNoAddress]); [ErrWrongIdentity]; [ErrLimit]; [ErrStopped]; that of ctx.
func (m *Mesh) Open(ctx context.Context, peer DeviceID, protocolID string) (Stream, error) {
	s, err := m.open(ctx, peer, protocol.ID(protocolID))
	if err != nil {
		return nil, fmt.Errorf("mesh: open %s to %s: %w", protocolID, short(peer), err)
	}
	return s, nil
}

func (m *Mesh) open(ctx context.Context, id DeviceID, proto protocol.ID) (Stream, error) {
	if !m.enter() {
		return nil, ErrStopped
	}
	defer m.work.Done()
	isMember := m.cfg.Allowed(id)
	if !isMember && !slices.Contains(m.cfg.GuestProtocols, string(proto)) {
		return nil, ErrNotMember
	}
	p, err := toPeer(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := m.joined(ctx)
	defer cancel()
	// A connection may turn out to be dead only now, or to have been closed as
	// one too many by the other side: once more, then.
	for attempt := range 2 {
		c := m.best(p)
		if c == nil {
			if c, err = m.dial(ctx, p, id, m.knownAddresses(p, id)); err != nil {
				return nil, err
			}
		}
		var s network.Stream
		if s, err = m.openWithin(ctx, c, proto); err == nil {
			return s, nil
		}
		if attempt > 0 || ctx.Err() != nil || !c.IsClosed() || errors.Is(err, ErrRefused) {
			break
		}
	}
	if errors.Is(err, ErrProtocol) && isMember && !m.isMutual(id) {
		err = fmt.Errorf("%w: %w", ErrRefused, err) // it treats us as a guest
	}
	return nil, err
}

func (m *Mesh) openWithin(ctx context.Context, c network.Conn, proto protocol.ID) (network.Stream, error) {
	limit := m.cfg.Timing.Hello
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no answer within %v", ErrUnreachable, limit))
	defer cancel()
	return openOn(ctx, c, proto)
}

// openOn opens a stream over c and waits until the other side has accepted the
// protocol, or ctx ends. The stream outlives ctx.
func openOn(ctx context.Context, c network.Conn, proto protocol.ID) (network.Stream, error) {
	s, err := c.NewStream(ctx)
	if err != nil {
		return nil, classify(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	err = s.SetProtocol(proto)
	if err == nil {
		err = multistream.SelectProtoOrFail(proto, s)
	}
	if !stop() && err == nil {
		err = ctx.Err() // it ended just now, and has reset the stream
	}
	if err != nil {
		_ = s.Reset()
		return nil, classify(ctx, err)
	}
	return s, nil
}
