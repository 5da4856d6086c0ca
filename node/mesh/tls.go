package mesh

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// anyClock makes an identity's certificate valid by every clock. It says only
// which key is whose, which no time ends: removing a device does. libp2p's own
// begin an hour before their maker's time, so that a device whose clock is
// further behind than that refuses them.
//
// Each identity needs one of its own: libp2p adds the identity's key to it.
func anyClock() libp2ptls.IdentityOption {
	return libp2ptls.WithCertTemplate(&x509.Certificate{
		// The earliest that a UTCTime can say: a clock without battery that
		// begins with 1970 may show 1969 in its time zone.
		NotBefore: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC),
		// "No well-defined expiration date", RFC 5280, 4.1.2.5.
		NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		// An issuer must have a name (4.1.2.4). This one says nothing.
		Subject: pkix.Name{SerialNumber: "1"},
	})
}

// A tlsTransport secures TCP connections as libp2p's TLS transport does, and
// speaks with it. It is here because libp2p's takes no option for its
// certificate.
type tlsTransport struct {
	self     peer.ID
	identity *libp2ptls.Identity
}

func newTLS(key ic.PrivKey) (*tlsTransport, error) {
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	identity, err := libp2ptls.NewIdentity(key, anyClock())
	if err != nil {
		return nil, err
	}
	return &tlsTransport{self, identity}, nil
}

// ID implements sec.SecureTransport.
func (t *tlsTransport) ID() protocol.ID { return libp2ptls.ID }

// SecureInbound implements sec.SecureTransport.
func (t *tlsTransport) SecureInbound(ctx context.Context, raw net.Conn, want peer.ID) (sec.SecureConn, error) {
	return t.secure(ctx, raw, want, tls.Server)
}

// SecureOutbound implements sec.SecureTransport. Whether the other side takes
// our certificate shows only when it is read from: TLS 1.3 does not wait.
func (t *tlsTransport) SecureOutbound(ctx context.Context, raw net.Conn, want peer.ID) (sec.SecureConn, error) {
	return t.secure(ctx, raw, want, tls.Client)
}

// secure shakes hands with want, or with anybody if that is empty. Without
// success raw is closed. A panic over what a peer sent as its certificate is an
// error, by libp2p; any other is not caught, as it is not in QUIC.
func (t *tlsTransport) secure(ctx context.Context, raw net.Conn, want peer.ID, side func(net.Conn, *tls.Config) *tls.Conn) (sec.SecureConn, error) {
	c, err := t.handshake(ctx, raw, want, side)
	if err != nil {
		_ = raw.Close() // what failed is said already
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

func (t *tlsTransport) handshake(ctx context.Context, raw net.Conn, want peer.ID, side func(net.Conn, *tls.Config) *tls.Conn) (*tlsConn, error) {
	config, proven := t.identity.ConfigForPeer(want)
	// What comes over the connection is agreed on by the way, which saves a
	// round trip. A server goes by its own order, while libp2p wants the
	// client's: the same as long as there is one muxer.
	config.NextProtos = append([]string{yamux.ID}, config.NextProtos...)
	c := side(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	var key ic.PubKey
	select {
	case key = <-proven:
	default:
	}
	if key == nil {
		return nil, errors.New("the peer proved no identity") // a fault in libp2p or here
	}
	remote, err := peer.IDFromPublicKey(key)
	if err != nil {
		return nil, err
	}
	out := &tlsConn{Conn: c, self: t.self, remote: remote, key: key}
	if c.ConnectionState().NegotiatedProtocol == yamux.ID {
		out.state = network.ConnectionState{StreamMultiplexer: yamux.ID, UsedEarlyMuxerNegotiation: true}
	}
	return out, nil
}

// A tlsConn is a connection and who is at its ends.
type tlsConn struct {
	*tls.Conn
	self, remote peer.ID
	key          ic.PubKey
	state        network.ConnectionState
}

// LocalPeer, RemotePeer, RemotePublicKey and ConnState implement
// network.ConnSecurity.
func (c *tlsConn) LocalPeer() peer.ID                 { return c.self }
func (c *tlsConn) RemotePeer() peer.ID                { return c.remote }
func (c *tlsConn) RemotePublicKey() ic.PubKey         { return c.key }
func (c *tlsConn) ConnState() network.ConnectionState { return c.state }
