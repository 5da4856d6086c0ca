package mesh

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
)

func libp2pKey(t *testing.T, key ed25519.PrivateKey) ic.PrivKey {
	t.Helper()
	k, err := ic.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ours is a device's TLS transport.
func ours(t *testing.T) *tlsTransport {
	t.Helper()
	s, err := newTLS(libp2pKey(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// libp2ps is that of libp2p, and whose it is.
func libp2ps(t *testing.T, muxers ...protocol.ID) (sec.SecureTransport, peer.ID) {
	t.Helper()
	key := libp2pKey(t, newKey(t))
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var list []upgrader.StreamMuxer
	for _, m := range muxers {
		list = append(list, upgrader.StreamMuxer{ID: m})
	}
	s, err := libp2ptls.New(libp2ptls.ID, key, list)
	if err != nil {
		t.Fatal(err)
	}
	return s, id
}

// An end is one of a connection in memory, and what became of its handshake.
type end struct {
	raw net.Conn
	sec.SecureConn
	err error
}

// shake lets two shake hands. A client that is through reads a byte, for what a
// server thinks of it, and a server that is through writes one.
func shake(from, to sec.SecureTransport, wantTo, wantFrom peer.ID) (client, server end) {
	client.raw, server.raw = net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.SecureConn, server.err = to.SecureInbound(context.Background(), server.raw, wantFrom)
		if server.err == nil {
			_, server.err = server.Write([]byte{1})
		}
	}()
	client.SecureConn, client.err = from.SecureOutbound(context.Background(), client.raw, wantTo)
	if client.err == nil {
		_, client.err = io.ReadFull(client, make([]byte, 1))
	}
	<-done
	_, _ = client.raw.Close(), server.raw.Close()
	return client, server
}

// presented gives the certificate that a device shows to whoever dials it.
func presented(t *testing.T, addr string) (shown *x509.Certificate) {
	t.Helper()
	identity, err := libp2ptls.NewIdentity(libp2pKey(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	config, _ := identity.ConfigForPeer("")
	verify := config.VerifyPeerCertificate
	config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) error {
		if shown, err = x509.ParseCertificate(raw[0]); err != nil {
			return err
		}
		return verify(raw, chains)
	}
	ctx := within(t, 10*time.Second)
	at := func(transport int) string {
		ip, err1 := ma.StringCast(addr).ValueForProtocol(ma.P_IP4)
		port, err2 := ma.StringCast(addr).ValueForProtocol(transport)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return net.JoinHostPort(ip, port)
	}
	if isQUIC(ma.StringCast(addr)) {
		c, err := quic.DialAddr(ctx, at(ma.P_UDP), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.CloseWithError(0, "")
		return shown
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", at(ma.P_TCP))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := multistream.SelectProtoOrFail[protocol.ID](libp2ptls.ID, c); err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(c, config).HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	return shown
}

// The years that the clock of a device may show.
var years = []int{1970, 1980, 2000, 2026, 2049, 2050, 2106, 2262, 2500, 9999}

func TestCertificateHoldsAtAnyTime(t *testing.T) {
	t.Parallel()
	d := start(t)
	seen := map[string]bool{}
	for _, kind := range []string{"tcp", "udp"} {
		cert := presented(t, d.addr(kind))
		seen[string(cert.Raw)] = true
		roots := x509.NewCertPool()
		roots.AddCert(cert)
		for _, y := range years {
			at := time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC)
			if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at}); err != nil {
				t.Errorf("%s, %d: %v", kind, y, err)
			}
		}
		if _, err := libp2ptls.PubKeyFromCertChain([]*x509.Certificate{cert}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		// An identity's own: a template that served two would bring the proof of
		// both.
		if n := len(cert.Extensions); n != 1 {
			t.Errorf("%s: %d extensions, want the proof of the key alone", kind, n)
		}
	}
	if len(seen) != 2 {
		t.Error("TCP and QUIC show one certificate")
	}
}

// Handshakes by a clock that goes on from the year 2000 to 2240 (virtual time ends
// with 2262), with the certificates of devices that started then, and of one that
// started by another clock: that of the machine on which this runs.
func TestHandshakeAtAnyTime(t *testing.T) {
	now := ours(t)
	synctest.Test(t, func(t *testing.T) {
		devices := []*tlsTransport{now}
		for range 4 {
			devices = append(devices, ours(t))
			for _, from := range devices {
				for _, to := range devices {
					if c, s := shake(from, to, to.self, ""); c.err != nil || s.err != nil {
						t.Fatalf("in %d: %v, %v", time.Now().Year(), c.err, s.err)
					}
				}
			}
			time.Sleep(80 * 365 * 24 * time.Hour)
		}
	})
}

// libp2p's own TLS transport and ours take each other for one of their kind.
func TestTLSWithLibp2ps(t *testing.T) {
	t.Parallel()
	early := network.ConnectionState{StreamMultiplexer: yamux.ID, UsedEarlyMuxerNegotiation: true}
	for _, c := range []struct {
		name   string
		muxers []protocol.ID // of libp2p's
		want   network.ConnectionState
	}{
		{"the same muxer", []protocol.ID{yamux.ID}, early},
		{"more muxers", []protocol.ID{"/other/1", yamux.ID}, early},
		{"none of ours", []protocol.ID{"/other/1"}, network.ConnectionState{}},
		{"muxer not agreed on by the way", nil, network.ConnectionState{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			we := ours(t)
			they, id := libp2ps(t, c.muxers...)
			if we.ID() != they.ID() {
				t.Errorf("called %s and %s", we.ID(), they.ID())
			}
			for _, x := range []struct {
				from, to         sec.SecureTransport
				fromPeer, toPeer peer.ID
			}{{we, they, we.self, id}, {they, we, id, we.self}} {
				client, server := shake(x.from, x.to, x.toPeer, "")
				if client.err != nil || server.err != nil {
					t.Fatal(client.err, server.err)
				}
				for _, e := range []struct {
					end
					local, remote peer.ID
				}{{client, x.fromPeer, x.toPeer}, {server, x.toPeer, x.fromPeer}} {
					if e.LocalPeer() != e.local || e.RemotePeer() != e.remote || !e.remote.MatchesPublicKey(e.RemotePublicKey()) {
						t.Errorf("between %s and %s, should be %s and %s", e.LocalPeer(), e.RemotePeer(), e.local, e.remote)
					}
					if e.ConnState() != c.want {
						t.Errorf("agreed on %+v, want %+v", e.ConnState(), c.want)
					}
				}
			}
		})
	}
}

// Who is not who was asked for is refused, by either side.
func TestTLSWrongPeer(t *testing.T) {
	t.Parallel()
	a, b, other := ours(t), ours(t), ours(t)
	var wrong sec.ErrPeerIDMismatch
	client, server := shake(a, b, other.self, "")
	if !errors.As(client.err, &wrong) || wrong.Expected != other.self || wrong.Actual != b.self {
		t.Errorf("dialled another: %v", client.err)
	}
	if server.err == nil {
		t.Error("whoever was not asked for heard nothing of it")
	}
	client, server = shake(a, b, b.self, other.self)
	if !errors.As(server.err, &wrong) || wrong.Expected != other.self || wrong.Actual != a.self {
		t.Errorf("dialled by another: %v", server.err)
	}
	if client.err == nil {
		t.Error("whoever was not expected heard nothing of it")
	}
}

// A handshake with somebody who says nothing, or nothing of sense, ends with its
// context or at once, and with it the connection.
func TestTLSHandshakeEnds(t *testing.T) {
	for _, inbound := range []bool{true, false} {
		for said, want := range map[string]error{"": context.DeadlineExceeded, "GET / HTTP/1.1\r\n\r\n": nil} {
			synctest.Test(t, func(t *testing.T) {
				d := ours(t)
				raw, other := net.Pipe()
				go func() {
					// As much as is taken: a pipe has no buffer.
					go func() { _, _ = io.Copy(io.Discard, other) }()
					_, _ = other.Write([]byte(said))
				}()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				secure := d.SecureOutbound
				if inbound {
					secure = d.SecureInbound
				}
				c, err := secure(ctx, raw, "")
				if c != nil || err == nil || want != nil && !errors.Is(err, want) {
					t.Errorf("inbound %t, %q: %v, %v", inbound, said, c, err)
				}
				if took := time.Since(began); took > time.Minute || want == nil && took > 0 {
					t.Errorf("inbound %t, %q: took %s", inbound, said, took)
				}
				if _, err := raw.Write([]byte{1}); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("inbound %t, %q: the connection is open: %v", inbound, said, err)
				}
				_ = other.Close()
			})
		}
	}
}
