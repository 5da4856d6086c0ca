package mesh

import (
	"context"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
)

// Connect dials the device at addr, a multiaddr that ends in /p2p/ID, and
// returns when that device has proved its identity and admitted us. The
// address is remembered in Config.Book then. With a connection open already it
// only asks whether that is alive.
//
// The device need not be a member: naming it is leave enough to dial it. Until
// Config.Allowed admits it, it is a guest here (nothing but [Mesh.Open] with
// Config.GuestProtocols reaches it), and the connection is closed when it has
// been idle for Timing.GuestIdle.
//
// Errors: [ErrBadAddress] (also for our own address), [ErrUnreachable],
// [ErrWrongIdentity], [ErrRefused], [ErrStopped], that of ctx.
func (m *Mesh) Connect(ctx context.Context, addr string) (DeviceID, error) {
	id, err := m.connect(ctx, addr)
	if err != nil {
		return DeviceID{}, fmt.Errorf("mesh: connect to %.200q: %w", addr, err)
	}
	return id, nil
}

func (m *Mesh) connect(ctx context.Context, addr string) (DeviceID, error) {
	p, id, a, err := parseTarget(addr)
	if err != nil {
		return id, err
	}
	if id == m.self {
		return id, fmt.Errorf("%w: it is this device's own", ErrBadAddress)
	}
	if !m.enter() {
		return id, ErrStopped
	}
	defer m.work.Done()
	ctx, cancel := m.joined(ctx)
	defer cancel()
	done := m.gate.ask(p)
	defer done()
	c, err := m.dial(ctx, p, id, []ma.Multiaddr{a})
	if err != nil {
		return id, err
	}
	if c.Stat().Direction == network.DirOutbound {
		fresh := []string{c.RemoteMultiaddr().String()}
		if _, isIP := ipOf(a); !isIP { // a name outlives the address behind it
			fresh = mergeAddresses([]string{a.String()}, fresh)
		}
		m.remember(id, fresh)
	}
	return id, nil
}

// dial brings about a connection to p and says hello over it.
func (m *Mesh) dial(ctx context.Context, p peer.ID, id DeviceID, addrs []ma.Multiaddr) (network.Conn, error) {
	if len(addrs) == 0 {
		return nil, ErrNoAddress
	}
	c, err := m.dialOnce(ctx, p, addrs)
	if errors.Is(err, errHungUp) {
		// The code that says why may be lost with a connection that ends while
		// we still write to it. Twice in a row is no accident.
		if c, err = m.dialOnce(ctx, p, addrs); errors.Is(err, errHungUp) {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if err != nil {
		return nil, err
	}
	m.log.Debug("dialled", "peer", short(id), "transport", transportOf(c))
	return c, nil
}

// errHungUp: the peer proved its identity and ended the connection before
// anything was said, giving no reason that we got to know.
var errHungUp = errors.New("connection ended right after the handshake")

func (m *Mesh) dialOnce(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) (network.Conn, error) {
	limit := m.cfg.Timing.Dial
	dialCtx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no answer within %v", ErrUnreachable, limit))
	defer cancel()
	// These addresses, and none that libp2p has from elsewhere: one that does
	// not answer would hide what the others say.
	m.host.Peerstore().ClearAddrs(p)
	m.host.Peerstore().AddAddrs(p, addrs, peerstore.TempAddrTTL)
	m.host.swarm.Backoff().Clear(p) // when to dial is decided in keep.go, or by a person
	c, err := m.host.swarm.DialPeer(dialCtx, p)
	if err != nil {
		return nil, classify(dialCtx, err)
	}
	if _, err := m.hello(ctx, c, m.cfg.Timing.Hello); err != nil {
		switch {
		case ctx.Err() != nil: // the caller ran out of time; the connection may be good
		case !errors.Is(err, ErrRefused) && (c.IsClosed() || errors.As(err, new(*network.ConnError))):
			err = fmt.Errorf("%w: %w", errHungUp, err)
		default:
			_ = c.CloseWithError(network.ConnProtocolNegotiationFailed)
		}
		return nil, err
	}
	return c, nil
}

// knownAddresses gives where id may be found: what was seen on the local
// network first, then what it told of itself, then the book.
func (m *Mesh) knownAddresses(p peer.ID, id DeviceID) []ma.Multiaddr {
	var sighted, told []string
	m.mu.Lock()
	if ps := m.peers[id]; ps != nil {
		sighted, told = texts(ps.sighted), ps.told
	}
	m.mu.Unlock()
	var book []string
	if m.cfg.Book != nil {
		book = m.cfg.Book.Addresses(id)
	}
	return parseKnown(p, mergeAddresses(sighted, mergeAddresses(told, book)))
}

// Drop closes all connections to peer at once, which resets their streams. It
// is for a device that has just been removed: while Config.Allowed still admits
// the peer, it may come back.
func (m *Mesh) Drop(id DeviceID) {
	p, err := toPeer(id)
	if err != nil {
		return
	}
	m.closeAll(m.host.Network().ConnsToPeer(p))
}

// closeAll tells the other ends that they are no longer welcome.
func (m *Mesh) closeAll(conns []network.Conn) {
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.CloseWithError(network.ConnGated))
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Debug("close connections", "error", err)
	}
}

// joined derives a context that also ends when the mesh stops.
func (m *Mesh) joined(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(m.ctx, func() { cancel(ErrStopped) })
	return ctx, func() { stop(); cancel(nil) }
}
