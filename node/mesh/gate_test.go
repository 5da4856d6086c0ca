package mesh

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// probe is a bare libp2p host that follows none of our rules.
func probe(t *testing.T) *host {
	t.Helper()
	all := &gate{allowed: func(DeviceID) bool { return true }, joining: func() bool { return true }, asked: map[peer.ID]int{}}
	h, err := newHost(newKey(t), Limits{}.withDefaults(), all)
	if err != nil {
		t.Fatal(err)
	}
	h.Start()
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// dialRaw connects a probe to a device; the connection may be closed already.
func dialRaw(t *testing.T, h *host, addr string) (network.Conn, error) {
	t.Helper()
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		t.Fatal(err)
	}
	h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	return h.swarm.DialPeer(within(t, 10*time.Second), info.ID)
}

// speaks tries to open a protocol over c.
func speaks(t *testing.T, c network.Conn, proto protocol.ID) error {
	t.Helper()
	s, err := openOn(within(t, 10*time.Second), c, proto)
	if err != nil {
		return err
	}
	return s.Reset()
}

func TestStrangerGetsNothing(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "udp"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			b.Handle(joinProto, echo)

			// One of us, who is no member: told so.
			a := start(t)
			a.admit(b)
			_, err := a.Connect(within(t, 10*time.Second), b.addr(kind))
			if !errors.Is(err, ErrRefused) {
				t.Errorf("connect by a stranger: %v, want ErrRefused", err)
			}
			if len(a.books()) != 0 || len(b.books()) != 0 {
				t.Errorf("something was remembered: %v, %v", a.books(), b.books())
			}

			// One who does not care to be told.
			h := probe(t)
			identified, err := h.EventBus().Subscribe([]any{new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerIdentificationFailed)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = identified.Close() }()
			c, err := dialRaw(t, h, b.addr(kind))
			if err == nil {
				for _, proto := range []protocol.ID{identify.ID, helloProtocol, joinProto, echoProto} {
					if err := speaks(t, c, proto); err == nil {
						t.Errorf("a stranger opened %s", proto)
					}
				}
				select {
				case e := <-identified.Out():
					if _, bad := e.(event.EvtPeerIdentificationCompleted); bad {
						t.Errorf("a stranger was told who we are: %+v", e)
					}
				case <-time.After(10 * time.Second):
					t.Error("identify did not end")
				}
			}
			p, _ := toPeer(b.ID())
			if protos, _ := h.Peerstore().GetProtocols(p); len(protos) > 0 {
				t.Errorf("a stranger knows the protocols %v", protos)
			}
			eventually(t, "no connection left", func() bool { return len(b.host.Network().Conns()) == 0 })
			b.Mesh.mu.Lock()
			defer b.Mesh.mu.Unlock()
			if len(b.peers) != 0 {
				t.Errorf("a stranger left a trace: %v", b.peers)
			}
		})
	}
}

func TestForeignKeysAreRefused(t *testing.T) {
	t.Parallel()
	key, _, err := ic.GenerateECDSAKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{allowed: func(DeviceID) bool { return true }, joining: func() bool { return true }, asked: map[peer.ID]int{}}
	if g.InterceptSecured(network.DirInbound, p, nil) || g.InterceptPeerDial(p) {
		t.Error("an ECDSA key passed the gate")
	}
	if _, err := ParsePeerID(p.String()); !errors.Is(err, ErrBadAddress) {
		t.Errorf("ParsePeerID of an ECDSA key: %v, want ErrBadAddress", err)
	}
}

func TestGateJudges(t *testing.T) {
	t.Parallel()
	one, two := idOf(newKey(t)), idOf(newKey(t))
	known, _ := toPeer(one)
	unknown, _ := toPeer(two)
	var joining bool
	var guests int
	g := &gate{
		allowed: func(id DeviceID) bool { return id == one },
		joining: func() bool { return joining },
		guests:  func() int { return guests },
		limit:   2,
		asked:   map[peer.ID]int{},
	}
	in, out := network.DirInbound, network.DirOutbound
	expect := func(when string, p peer.ID, dir network.Direction, want bool) {
		t.Helper()
		if got, _ := g.InterceptUpgraded(fakeConn{peer: p, dir: dir}); got != want {
			t.Errorf("%s: admitted %v, want %v", when, got, want)
		}
		if dir == out && g.InterceptPeerDial(p) != want {
			t.Errorf("%s: dialled %v, want %v", when, !want, want)
		}
	}
	expect("member calls", known, in, true)
	expect("member is called", known, out, true)
	expect("stranger calls", unknown, in, false)
	expect("stranger is called", unknown, out, false)
	joining = true
	expect("guest calls", unknown, in, true)
	expect("stranger is called while an invite is open", unknown, out, false)
	guests = 2
	expect("one guest too many", unknown, in, false)
	expect("member calls a full house", known, in, true)
	joining = false
	one1, two2 := g.ask(unknown), g.ask(unknown)
	expect("asked for", unknown, out, true)
	expect("asked for, but calls itself", unknown, in, false)
	one1()
	expect("still asked for", unknown, out, true)
	two2()
	expect("no longer asked for", unknown, out, false)
	if len(g.asked) != 0 {
		t.Errorf("the gate keeps %v", g.asked)
	}
}

// A fakeConn is what is looked at to judge a connection.
type fakeConn struct {
	network.Conn
	peer   peer.ID
	dir    network.Direction
	remote ma.Multiaddr
}

func (c fakeConn) RemoteMultiaddr() ma.Multiaddr      { return c.remote }
func (c fakeConn) ConnState() network.ConnectionState { return network.ConnectionState{} }

func (c fakeConn) RemotePeer() peer.ID { return c.peer }
func (c fakeConn) Stat() network.ConnStats {
	return network.ConnStats{Stats: network.Stats{Direction: c.dir}}
}

// Who hangs up without a word after the handshake has refused us too: the code
// that says so is easily lost.
func TestHangingUpIsRefusing(t *testing.T) {
	t.Parallel()
	h := probe(t)
	var calls atomic.Int32
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		calls.Add(1)
		_ = c.Close()
	}})
	if err := h.Network().Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
		t.Fatal(err)
	}
	a := start(t)
	_, err := a.Connect(within(t, 10*time.Second), h.Network().ListenAddresses()[0].String()+"/p2p/"+h.ID().String())
	if !errors.Is(err, ErrRefused) {
		t.Errorf("connect: %v, want ErrRefused", err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("called %d times, want twice before it is believed", n)
	}
}

// While an invite is open a stranger may join and do nothing else, and the
// joiner reaches the inviter though that is no member of anything of its own.
func TestJoiningLetsOnlyTheJoinProtocolThrough(t *testing.T) {
	t.Parallel()
	inviter, joiner := start(t), start(t)
	served := make(chan DeviceID, 1)
	inviter.Handle(joinProto, func(ctx context.Context, p DeviceID, s Stream) {
		served <- p
		echo(ctx, p, s)
	})
	inviter.edit(func() { inviter.joining = true })

	if _, err := joiner.Connect(within(t, 10*time.Second), inviter.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	if got := joiner.Addresses(inviter.ID()); len(got) != 1 {
		t.Errorf("the joiner remembers %v, want the address it used", got)
	}
	if len(inviter.books()) != 0 {
		t.Errorf("the inviter remembers a guest: %v", inviter.books())
	}
	if _, err := joiner.Open(within(t, 10*time.Second), inviter.ID(), echoProto); !errors.Is(err, ErrNotMember) {
		t.Errorf("open another protocol to a non-member: %v, want ErrNotMember", err)
	}
	s, err := joiner.Open(within(t, 10*time.Second), inviter.ID(), joinProto)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-served; got != joiner.ID() {
		t.Errorf("join handler got peer %x, want %x", got, joiner.ID())
	}
	if _, err := s.Write([]byte("me")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "me" {
		t.Errorf("join stream: %q, %v", got, err)
	}
	_ = s.Close()

	// A joiner that holds the inviter for a member is told that it is none.
	joiner.admit(inviter)
	if _, err := joiner.Open(within(t, 10*time.Second), inviter.ID(), echoProto); !errors.Is(err, ErrRefused) {
		t.Errorf("open another protocol as a guest: %v, want ErrRefused", err)
	}
	// However often it says hello.
	if _, err := joiner.Connect(within(t, 10*time.Second), inviter.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	// Nor does the inviter get to a join handler of a joiner with no invite open.
	joiner.expel(inviter)
	joiner.Handle(joinProto, echo)
	if _, err := inviter.Open(within(t, 10*time.Second), joiner.ID(), joinProto); err == nil {
		t.Error("the inviter joined the joiner")
	}
	for _, d := range []*device{inviter, joiner} {
		if n := len(d.Peers()); n != 0 {
			t.Errorf("a guest counts among the peers: %v", d.Peers())
		}
	}

	// Raw, against the rules: not a word more.
	h := probe(t)
	c, err := dialRaw(t, h, inviter.addr("udp"))
	if err != nil {
		t.Fatal(err)
	}
	for _, proto := range []protocol.ID{identify.ID, identify.IDPush, echoProto} {
		var no multistream.ErrNotSupported[protocol.ID]
		if err := speaks(t, c, proto); !errors.As(err, &no) {
			t.Errorf("guest opens %s: %v, want not supported", proto, err)
		}
	}
	if err := speaks(t, c, joinProto); err != nil {
		t.Errorf("guest opens the join protocol: %v", err)
	}
	<-served

	// The invite is used up: even the guest that is in gets nothing more.
	inviter.edit(func() { inviter.joining = false })
	if err := speaks(t, c, joinProto); err == nil {
		t.Error("guest joined after the invite was closed")
	}
}

func TestGuestBecomesMember(t *testing.T) {
	t.Parallel()
	inviter, joiner := start(t), start(t)
	inviter.edit(func() { inviter.joining = true })
	if _, err := joiner.Connect(within(t, 10*time.Second), inviter.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	atInviter, atJoiner := inviter.Subscribe(), joiner.Subscribe()
	defer atInviter.Close()
	defer atJoiner.Close()

	inviter.edit(func() { inviter.joining = false })
	inviter.admit(joiner)
	inviter.Refresh() // the inviter commits first; the joiner does not know yet
	joiner.admit(inviter)
	joiner.Refresh()
	for _, x := range []struct {
		sub  *Subscription
		peer DeviceID
	}{{atInviter, joiner.ID()}, {atJoiner, inviter.ID()}} {
		if e := next(t, x.sub); e != (Event{Peer: x.peer, Connected: true}) {
			t.Errorf("event %+v, want %x connected", e, x.peer)
		}
	}
	mustEcho(t, inviter.Mesh, joiner.ID())
	mustEcho(t, joiner.Mesh, inviter.ID())
	if n := len(joiner.host.Network().Conns()); n != 1 {
		t.Errorf("%d connections, want the one it was a guest on", n)
	}
}

func TestGuestsAreBounded(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *Config) {
		c.Limits.Guests = 2
		c.Timing.GuestIdle = 300 * time.Millisecond
		c.Timing.Poll = 50 * time.Millisecond
	})
	b.edit(func() { b.joining = true })
	refused := 0
	for range 4 {
		a := start(t)
		if _, err := a.Connect(within(t, 10*time.Second), b.addr("tcp")); errors.Is(err, ErrRefused) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused != 2 {
		t.Errorf("%d of 4 guests refused, want 2", refused)
	}
	// Who does nothing makes room.
	eventually(t, "idle guests are shown out without a trace", func() bool {
		b.Mesh.mu.Lock()
		defer b.Mesh.mu.Unlock()
		return len(b.host.Network().Conns()) == 0 && len(b.peers) == 0
	})
	a := start(t)
	if _, err := a.Connect(within(t, 10*time.Second), b.addr("tcp")); err != nil {
		t.Errorf("a guest after the others left: %v", err)
	}
}

func TestDropCutsAtOnce(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	sub := a.Subscribe()
	defer sub.Close()
	if e := next(t, sub); !e.Connected {
		t.Fatalf("event %+v, want connected", e)
	}
	s, err := a.Open(within(t, 10*time.Second), b.ID(), echoProto)
	if err != nil {
		t.Fatal(err)
	}
	a.expel(b)
	a.Drop(b.ID())
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read from a stream of a dropped peer: %v, want an error", err)
	}
	if e := next(t, sub); e != (Event{Peer: b.ID()}) {
		t.Errorf("event %+v, want disconnected", e)
	}
	if _, err := a.Open(within(t, 10*time.Second), b.ID(), echoProto); !errors.Is(err, ErrNotMember) {
		t.Errorf("open to a removed device: %v, want ErrNotMember", err)
	}
	if _, err := b.Connect(within(t, 10*time.Second), a.addr("tcp")); !errors.Is(err, ErrRefused) {
		t.Errorf("removed device connects: %v, want ErrRefused", err)
	}
}

// Membership is asked at each stream: a removal bites though nobody calls Drop
// or Refresh, and even while an invite is open.
func TestRemovalBitesByItself(t *testing.T) {
	t.Parallel()
	a, b := pair(t, timing(fast()))
	mustEcho(t, b.Mesh, a.ID())
	s, err := b.Open(within(t, 10*time.Second), a.ID(), echoProto)
	if err != nil {
		t.Fatal(err)
	}
	a.edit(func() { a.joining = true })
	a.expel(b)
	if err := tryEcho(t, b.Mesh, a.ID()); err == nil {
		t.Error("a removed device was served")
	}
	// The stream it still held is cut by the next sweep.
	_ = s.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "deadline") {
		t.Errorf("a removed device keeps its stream: %v", err)
	}
	eventually(t, "not among the peers", func() bool { return !slices.ContainsFunc(a.Peers(), func(p Peer) bool { return p.Connected }) })
}

// The stream by which the last use of an invite is made ends in peace; then the
// guest is shown out.
func TestJoinStreamOutlivesItsInvite(t *testing.T) {
	t.Parallel()
	inviter, joiner := start(t, timing(fast())), start(t)
	inviter.edit(func() { inviter.joining = true })
	closed, finish := make(chan struct{}), make(chan struct{})
	inviter.Handle(joinProto, func(_ context.Context, _ DeviceID, s Stream) {
		inviter.edit(func() { inviter.joining = false })
		close(closed)
		<-finish
		_, _ = io.WriteString(s, "welcome")
		_ = s.Close()
	})
	if _, err := joiner.Connect(within(t, 10*time.Second), inviter.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	s, err := joiner.Open(within(t, 10*time.Second), inviter.ID(), joinProto)
	if err != nil {
		t.Fatal(err)
	}
	<-closed
	inviter.Refresh()
	inviter.sweep(time.Now())
	close(finish)
	if got, err := io.ReadAll(s); err != nil || string(got) != "welcome" {
		t.Errorf("join stream: %q, %v", got, err)
	}
	_ = s.Close()
	eventually(t, "the guest is shown out", func() bool { return len(inviter.host.Network().Conns()) == 0 })
}

// A member's device that connects and never says hello is no peer, and does
// not stay.
func TestSilentMemberDoesNotStay(t *testing.T) {
	t.Parallel()
	quick := fast()
	quick.Hello = 200 * time.Millisecond
	b := start(t, timing(quick))
	h := probe(t)
	self, err := fromPeer(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	b.edit(func() { b.allowed[self] = true })
	if _, err := dialRaw(t, h, b.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connection", func() bool { return len(b.host.Network().Conns()) == 1 })
	if got := b.Peers(); len(got) != 0 {
		t.Errorf("peers %+v before a hello", got)
	}
	eventually(t, "no connection", func() bool { return len(b.host.Network().Conns()) == 0 })
}

func next(t *testing.T, s *Subscription) Event {
	t.Helper()
	select {
	case e, ok := <-s.C:
		if !ok {
			t.Fatal("subscription ended")
		}
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return Event{}
}
