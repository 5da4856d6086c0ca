package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

func TestConnectErrors(t *testing.T) {
	t.Parallel()
	quick := fast()
	quick.Dial = time.Second
	a, b := start(t, timing(quick)), start(t)
	a.admit(b)
	stranger := PeerID(idOf(newKey(t)))

	// A port where nobody listens, and one where somebody does who says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := func(l net.Listener) string { _, p, _ := net.SplitHostPort(l.Addr().String()); return p }
	_ = gone.Close()

	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	for _, c := range []struct {
		name, addr string
		ctx        context.Context
		want       error
	}{
		{name: "no multiaddr", addr: "192.168.1.7:22000", want: ErrBadAddress},
		{name: "empty", addr: "", want: ErrBadAddress},
		{name: "no identity", addr: "/ip4/127.0.0.1/tcp/1", want: ErrBadAddress},
		{name: "identity only", addr: "/p2p/" + stranger, want: ErrBadAddress},
		{name: "unknown transport", addr: "/ip4/127.0.0.1/tcp/1/ws/p2p/" + stranger, want: ErrBadAddress},
		{name: "relay", addr: "/ip4/127.0.0.1/tcp/1/p2p/" + stranger + "/p2p-circuit/p2p/" + stranger, want: ErrBadAddress},
		{name: "RSA identity", addr: "/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", want: ErrBadAddress},
		{name: "wildcard", addr: "/ip4/0.0.0.0/tcp/1/p2p/" + stranger, want: ErrBadAddress},
		{name: "own", addr: a.addr("tcp"), want: ErrBadAddress},
		{name: "nobody listens", addr: "/ip4/127.0.0.1/tcp/" + port(gone) + "/p2p/" + stranger, want: ErrUnreachable},
		{name: "nobody listens, QUIC", addr: "/ip4/127.0.0.1/udp/" + port(gone) + "/quic-v1/p2p/" + stranger, want: ErrUnreachable},
		{name: "silent", addr: "/ip4/127.0.0.1/tcp/" + port(silent) + "/p2p/" + stranger, want: ErrUnreachable},
		{name: "given up", addr: "/ip4/127.0.0.1/tcp/" + port(silent) + "/p2p/" + PeerID(b.ID()), ctx: short, want: context.DeadlineExceeded},
		{name: "wrong identity, TCP", addr: strings.Split(b.addr("tcp"), "/p2p/")[0] + "/p2p/" + stranger, want: ErrWrongIdentity},
		{name: "wrong identity, QUIC", addr: strings.Split(b.addr("udp"), "/p2p/")[0] + "/p2p/" + stranger, want: ErrWrongIdentity},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = within(t, 20*time.Second)
			}
			_, err := a.Connect(ctx, c.addr)
			if !errors.Is(err, c.want) {
				t.Errorf("connect to %s: %v, want %v", c.addr, err, c.want)
			}
		})
	}
	if len(a.books()) != 0 {
		t.Errorf("a failed connection was remembered: %v", a.books())
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := within(t, 20*time.Second)
	if _, err := a.Open(ctx, b.ID(), "/test/unknown/1"); !errors.Is(err, ErrProtocol) {
		t.Errorf("unknown protocol: %v, want ErrProtocol", err)
	}
	nobody := idOf(newKey(t))
	if _, err := a.Open(ctx, nobody, echoProto); !errors.Is(err, ErrNotMember) {
		t.Errorf("not a member: %v, want ErrNotMember", err)
	}
	a.edit(func() { a.allowed[nobody] = true })
	if _, err := a.Open(ctx, nobody, echoProto); !errors.Is(err, ErrNoAddress) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("no address: %v, want ErrNoAddress, which is ErrUnreachable", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := a.Open(canceled, b.ID(), echoProto); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v, want context.Canceled", err)
	}
	a.stop()
	if _, err := a.Open(ctx, b.ID(), echoProto); !errors.Is(err, ErrStopped) {
		t.Errorf("open after stop: %v, want ErrStopped", err)
	}
	if _, err := a.Connect(ctx, b.addr("tcp")); !errors.Is(err, ErrStopped) {
		t.Errorf("connect after stop: %v, want ErrStopped", err)
	}
	if err := a.Run(ctx); err == nil {
		t.Error("a second Run did not fail")
	}
}

// Open dials by the book when there is no connection.
func TestOpenDialsByTheBook(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	a.admit(b)
	b.admit(a)
	a.Remember(b.ID(), []string{"rubbish", "/ip4/127.0.0.1/tcp/1/p2p/" + PeerID(a.ID()), b.addr("tcp")})
	mustEcho(t, a.Mesh, b.ID())
}

func TestTCPIsPreferredToQUIC(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	a.admit(b)
	b.admit(a)
	a.Remember(b.ID(), []string{b.addr("udp"), b.addr("tcp")})
	mustEcho(t, a.Mesh, b.ID())
	if got := a.peer(b).Transport; got != "tcp+tls" {
		t.Errorf("with both addresses: %s, want tcp+tls", got)
	}

	// With both connections open, streams go over TCP.
	c, d := start(t), start(t)
	c.admit(d)
	d.admit(c)
	if !twoConnections(t, c, d, "udp", "tcp") {
		t.Skip("dials from both sides never crossed")
	}
	for _, x := range []struct{ from, to *device }{{c, d}, {d, c}} {
		s, err := x.from.open(within(t, 10*time.Second), x.to.ID(), echoProto)
		if err != nil {
			t.Fatal(err)
		}
		if via := s.(network.Stream).Conn(); !isTCP(via.RemoteMultiaddr()) {
			t.Errorf("stream over %s, want TCP", via.RemoteMultiaddr())
		}
		_ = s.Reset()
		if got := x.from.peer(x.to).Transport; got != "tcp+tls" {
			t.Errorf("with both connections: %s, want tcp+tls", got)
		}
	}
}

// Both sides dialling at once end in one session: one event each, and streams
// work both ways and go on working.
func TestSimultaneousDial(t *testing.T) {
	t.Parallel()
	for range 10 {
		a, b := start(t), start(t)
		a.admit(b)
		b.admit(a)
		subA, subB := a.Subscribe(), b.Subscribe()
		var both sync.WaitGroup
		for _, x := range []struct{ from, to *device }{{a, b}, {b, a}} {
			both.Go(func() {
				if _, err := x.from.Connect(within(t, 10*time.Second), x.to.addr("tcp")); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if e := next(t, subA); e != (Event{b.ID(), true}) {
			t.Errorf("a: %+v", e)
		}
		if e := next(t, subB); e != (Event{a.ID(), true}) {
			t.Errorf("b: %+v", e)
		}
		for range 3 {
			mustEcho(t, a.Mesh, b.ID())
			mustEcho(t, b.Mesh, a.ID())
		}
		select {
		case e := <-subA.C:
			t.Errorf("a: a second event %+v", e)
		case e := <-subB.C:
			t.Errorf("b: a second event %+v", e)
		default:
		}
		subA.Close()
		subB.Close()
		a.stop()
		b.stop()
	}
}

// A surplus connection is closed by and by, by one side, and the session does
// not notice.
func TestSurplusConnectionIsClosed(t *testing.T) {
	t.Parallel()
	quick := fast()
	quick.GuestIdle = 200 * time.Millisecond
	a, b := start(t, timing(quick)), start(t, timing(quick))
	a.admit(b)
	b.admit(a)
	if !twoConnections(t, a, b, "tcp", "tcp") {
		t.Skip("dials from both sides never crossed")
	}
	sub := a.Subscribe()
	defer sub.Close()
	next(t, sub)
	p, _ := toPeer(b.ID())
	eventually(t, "one connection left", func() bool { return len(a.host.Network().ConnsToPeer(p)) == 1 })
	mustEcho(t, a.Mesh, b.ID())
	mustEcho(t, b.Mesh, a.ID())
	select {
	case e := <-sub.C:
		t.Errorf("the session noticed: %+v", e)
	default:
	}
}

// twoConnections dials from both sides at once, a by one transport and b by the
// other, until both dials made a connection.
func twoConnections(t *testing.T, a, b *device, byA, byB string) bool {
	t.Helper()
	p, _ := toPeer(b.ID())
	for range 50 {
		var both sync.WaitGroup
		both.Go(func() { _, _ = a.Connect(within(t, 10*time.Second), b.addr(byA)) })
		both.Go(func() { _, _ = b.Connect(within(t, 10*time.Second), a.addr(byB)) })
		both.Wait()
		if len(a.host.Network().ConnsToPeer(p)) == 2 {
			return true
		}
		a.Drop(b.ID())
		b.Drop(a.ID())
	}
	return false
}

// A stream's close delivers what was written; a handler that forgets its
// stream does not leak it.
func TestStreamEnds(t *testing.T) {
	t.Parallel()
	a, b := start(t), start(t)
	a.admit(b)
	b.admit(a)
	big := strings.Repeat("bytes ", 200_000)
	b.Handle("/test/give/1", func(_ context.Context, _ DeviceID, s Stream) {
		_, _ = io.WriteString(s, big)
		_ = s.Close()
	})
	b.Handle("/test/forget/1", func(_ context.Context, _ DeviceID, s Stream) { _, _ = s.Read(make([]byte, 1)) })
	if _, err := a.Connect(within(t, 10*time.Second), b.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	s, err := a.Open(within(t, 10*time.Second), b.ID(), "/test/give/1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != big {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(big))
	}
	_ = s.Close()
	if s, err = a.Open(within(t, 10*time.Second), b.ID(), "/test/forget/1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("read from a forgotten stream: %v, want a reset", err)
	}
	eventually(t, "no stream left", func() bool {
		n := 0
		for _, c := range b.host.Network().Conns() {
			n += len(c.GetStreams())
		}
		return n == 0
	})
}
