package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"

	"github.com/libp2p/go-libp2p/core/connmgr"
	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// A host is libp2p's, put together by hand. libp2p.New would do, but brings
// every transport there is into the binary (WebRTC, WebTransport, WebSocket)
// and services that one then has to switch off; here one reads what there is.
//
// Relays (circuit transport), the DHT and hole punching take their place here,
// after the transports and before Listen, when they come.
type host struct {
	*basichost.BasicHost
	swarm *swarm.Swarm
	quic  *quicreuse.ConnManager
}

// newHost makes a host that does not listen yet.
func newHost(key ed25519.PrivateKey, limits Limits, gater connmgr.ConnectionGater) (_ *host, err error) {
	var undo []func() error
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	priv, err := ic.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("mesh: device key: %w", err)
	}
	self, err := peer.IDFromPrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("mesh: device key: %w", err)
	}
	manager, err := limits.manager()
	if err != nil {
		return nil, err
	}
	undo = append(undo, manager.Close)
	book, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, fmt.Errorf("mesh: peer store: %w", err)
	}
	undo = append(undo, book.Close)
	if err := errors.Join(book.AddPrivKey(self, priv), book.AddPubKey(self, priv.GetPublic())); err != nil {
		return nil, fmt.Errorf("mesh: peer store: %w", err)
	}
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(self, book, bus,
		swarm.WithResourceManager(manager),
		swarm.WithConnectionGater(gater),
		swarm.WithDialRanker(rankDials),
		// The black hole detectors forbid UDP or IPv6 after a hundred failed
		// dials and learn better only slowly: wrong for a laptop that spent
		// the night offline. Our own backoff bounds the dials.
		swarm.WithUDPBlackHoleSuccessCounter(nil),
		swarm.WithIPv6BlackHoleSuccessCounter(nil),
	)
	if err != nil {
		return nil, fmt.Errorf("mesh: swarm: %w", err)
	}
	undo = append(undo, sw.Close)

	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	tls, err := newTLS(priv)
	if err != nil {
		return nil, fmt.Errorf("mesh: TLS: %w", err)
	}
	nse, err := noise.New(noise.ID, priv, muxers)
	if err != nil {
		return nil, fmt.Errorf("mesh: Noise: %w", err)
	}
	up, err := upgrader.New([]sec.SecureTransport{tls, nse}, muxers, nil, manager, gater,
		upgrader.WithAcceptTimeout(limits.acceptWithin))
	if err != nil {
		return nil, fmt.Errorf("mesh: upgrader: %w", err)
	}
	// Without port reuse each dial has a port of its own. With it, two devices
	// that dial each other within a round trip meet in one TCP connection that
	// both believe to have opened (simultaneous open), and the handshake fails.
	tcpt, err := tcp.NewTCPTransport(up, manager, nil, tcp.DisableReuseport())
	if err != nil {
		return nil, fmt.Errorf("mesh: TCP: %w", err)
	}
	conns, err := newQUICManager(key, manager)
	if err != nil {
		return nil, err
	}
	undo = append(undo, conns.Close)
	quict, err := libp2pquic.NewTransport(priv, conns, nil, gater, manager, libp2pquic.WithTLSIdentityOption(anyClock()))
	if err != nil {
		return nil, fmt.Errorf("mesh: QUIC: %w", err)
	}
	for _, t := range []transport.Transport{tcpt, quict} {
		if err := sw.AddTransport(t); err != nil {
			return nil, fmt.Errorf("mesh: transport: %w", err)
		}
	}
	bh, err := basichost.NewHost(sw, &basichost.HostOpts{
		EventBus:     bus,
		UserAgent:    "sheaf",
		AddrsFactory: publicOnly,
	})
	if err != nil {
		return nil, fmt.Errorf("mesh: host: %w", err)
	}
	return &host{BasicHost: bh, swarm: sw, quic: conns}, nil
}

// publicOnly is what libp2p's identify may tell: it tells everybody the same,
// so addresses of private networks travel by hello.go instead, which knows
// whom it talks to.
func publicOnly(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		if usable(a) && !isLocal(a) {
			out = append(out, a)
		}
	}
	return out
}

// newQUICManager makes the shared UDP sockets. The keys for stateless resets
// and address tokens follow from the device key, so that they outlive a
// restart and a peer learns at once that its old connection is gone.
func newQUICManager(key ed25519.PrivateKey, manager network.ResourceManager) (*quicreuse.ConnManager, error) {
	var reset quic.StatelessResetKey
	var token quic.TokenGeneratorKey
	for info, out := range map[string][]byte{
		"sheaf mesh quic stateless reset": reset[:],
		"sheaf mesh quic address token":   token[:],
	} {
		derived, err := hkdf.Key(sha256.New, key.Seed(), nil, info, len(out))
		if err != nil {
			return nil, fmt.Errorf("mesh: QUIC keys: %w", err)
		}
		copy(out, derived)
	}
	m, err := quicreuse.NewConnManager(reset, token,
		quicreuse.ConnContext(func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			// Counted before the handshake, as for TCP: a flood is refused
			// while it is cheap.
			addr, err := quicreuse.ToQuicMultiaddr(info.RemoteAddr, quic.Version1)
			if err != nil {
				addr = nil
			}
			scope, err := manager.OpenConnection(network.DirInbound, false, addr)
			if err != nil {
				return ctx, err
			}
			ctx = network.WithConnManagementScope(ctx, scope)
			context.AfterFunc(ctx, scope.Done)
			return ctx, nil
		}),
		quicreuse.VerifySourceAddress(func(addr net.Addr) bool { return manager.VerifySourceAddress(addr) }),
	)
	if err != nil {
		return nil, fmt.Errorf("mesh: QUIC sockets: %w", err)
	}
	return m, nil
}

// Close ends everything the host runs.
func (h *host) Close() error {
	return errors.Join(h.BasicHost.Close(), h.quic.Close())
}
