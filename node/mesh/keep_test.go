package mesh

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"pgregory.net/rapid"
)

// A peer that comes back at another port is found again: because it dials, by
// its own book, or because it is dialled, by a book that has learnt of it.
func TestReconnectAfterRestart(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"the restarted one dials", "the other dials"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			a, b := start(t, timing(fast())), start(t, timing(fast()))
			a.keepUp(b)
			b.keepUp(a)
			sub := a.Subscribe()
			defer sub.Close()
			a.Remember(b.ID(), []string{b.addr("tcp")})
			a.Refresh()
			if e := next(t, sub); e != (Event{b.ID(), true}) {
				t.Fatalf("event %+v", e)
			}
			old := b.own()
			eventually(t, "b remembers a, which dialled it", func() bool { return len(b.Addresses(a.ID())) > 0 })
			b.stop()
			if e := next(t, sub); e != (Event{b.ID(), false}) {
				t.Fatalf("event %+v", e)
			}
			again := newDevice(t, timing(fast()), func(c *Config) { c.Key = b.key })
			again.Handle(echoProto, echo)
			for _, addr := range again.own() {
				if slices.Contains(old, addr) {
					t.Skip("the system gave the same port again")
				}
			}
			again.admit(a)
			if who == "the restarted one dials" {
				again.keepUp(a)
				again.book = b.books()
			} else {
				a.Remember(b.ID(), again.own())
			}
			again.run()
			if e := next(t, sub); e != (Event{b.ID(), true}) {
				t.Fatalf("event %+v", e)
			}
			mustEcho(t, a.Mesh, again.ID())
			mustEcho(t, again.Mesh, a.ID())
		})
	}
}

// A connection that breaks without a word (here: closed under both) comes back
// by itself.
func TestReconnectAfterLoss(t *testing.T) {
	t.Parallel()
	a, b := start(t, timing(fast())), start(t, timing(fast()))
	a.keepUp(b)
	b.keepUp(a)
	a.Remember(b.ID(), b.own())
	sub := a.Subscribe()
	defer sub.Close()
	a.Refresh()
	for range 3 {
		if e := next(t, sub); e != (Event{b.ID(), true}) {
			t.Fatalf("event %+v", e)
		}
		for _, c := range a.host.Network().Conns() {
			_ = c.Close()
		}
		if e := next(t, sub); e != (Event{b.ID(), false}) {
			t.Fatalf("event %+v", e)
		}
	}
	if e := next(t, sub); e != (Event{b.ID(), true}) {
		t.Fatalf("event %+v", e)
	}
	mustEcho(t, a.Mesh, b.ID())
}

func TestRunStops(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	inHandler := make(chan struct{})
	b.Handle("/test/hold/1", func(ctx context.Context, _ DeviceID, s Stream) {
		close(inHandler)
		<-ctx.Done()
	})
	s, err := a.Open(within(t, 10*time.Second), b.ID(), "/test/hold/1")
	if err != nil {
		t.Fatal(err)
	}
	<-inHandler
	sub := b.Subscribe()
	next(t, sub)
	begin := time.Now()
	b.stop()
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if e, open := <-sub.C; open {
		t.Errorf("subscription gave %+v after the end", e)
	}
	sub.Close()
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a stream outlived the mesh at its other end")
	}
	if late := b.Subscribe(); late != nil {
		if _, open := <-late.C; open {
			t.Error("a subscription after the end gives events")
		}
	}
	b.Refresh()        // all of these are harmless now
	b.Drop(a.ID())     //
	_ = b.Peers()      //
	_ = b.Mesh.Close() //
}

// A handler that does not heed its context does not hold Run for ever, and is
// reported.
func TestRunReportsAStuckHandler(t *testing.T) {
	t.Parallel()
	release, ended := make(chan struct{}), make(chan struct{})
	b := newDevice(t, func(c *Config) { c.Timing.Stop = 200 * time.Millisecond })
	b.Handle(echoProto, func(context.Context, DeviceID, Stream) {
		defer close(ended)
		<-release
	})
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- b.Run(ctx) }()
	a := start(t)
	a.admit(b)
	b.admit(a)
	if _, err := a.Connect(within(t, 10*time.Second), b.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(within(t, 10*time.Second), b.ID(), echoProto); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-result:
		if err == nil || !strings.Contains(err.Error(), "still running") {
			t.Errorf("Run: %v, want a report of the handler", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Run did not return")
	}
	close(release)
	<-ended
}

func TestNewRefusesBadConfigs(t *testing.T) {
	t.Parallel()
	ok := func() Config {
		return Config{Key: newKey(t), Listen: tcpOnly, Allowed: func(DeviceID) bool { return false }}
	}
	for name, edit := range map[string]func(*Config){
		"no key":         func(c *Config) { c.Key = nil },
		"no Allowed":     func(c *Config) { c.Allowed = nil },
		"no multiaddr":   func(c *Config) { c.Listen = []string{"localhost:22000"} },
		"nowhere to be":  func(c *Config) { c.Listen = []string{"/ip4/192.0.2.1/tcp/0"} },
		"no transport":   func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/tcp/0/ws"} },
		"several, no ok": func(c *Config) { c.Listen = []string{"/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/udp/0/quic-v1"} },
	} {
		cfg := ok()
		edit(&cfg)
		if m, err := New(cfg); err == nil {
			_ = m.Close()
			t.Errorf("%s: New did not fail", name)
		}
	}
	cfg := ok()
	cfg.Listen = append(cfg.Listen, "/ip4/192.0.2.1/tcp/0")
	m, err := New(cfg)
	if err != nil {
		t.Fatalf("one address of two: %v", err)
	}
	if len(m.Addresses()) != 1 {
		t.Errorf("addresses %v, want one", m.Addresses())
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// Between New and Run streams wait for their handlers.
func TestStreamsWaitForRun(t *testing.T) {
	t.Parallel()
	a, b := start(t), newDevice(t)
	a.admit(b)
	b.admit(a)
	a.Remember(b.ID(), b.own())
	result := make(chan error, 1)
	go func() { result <- tryEcho(t, a.Mesh, b.ID()) }()
	eventually(t, "a connection", func() bool { return len(b.host.Network().Conns()) > 0 })
	b.Handle(echoProto, echo)
	b.run()
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestKeeperBacksOff(t *testing.T) {
	t.Parallel()
	k := newKeeper(time.Second, 2*time.Minute, func() float64 { return 0.999999 })
	id := DeviceID{1}
	never := func(DeviceID) bool { return false }
	now := time.Unix(1e9, 0)
	var waits []time.Duration
	for range 10 {
		dial, _ := k.due(now, []DeviceID{id}, never)
		if len(dial) != 1 {
			t.Fatalf("not due at %v", now)
		}
		if again, _ := k.due(now, []DeviceID{id}, never); len(again) != 0 {
			t.Fatal("due while being dialled")
		}
		k.failed(id, now)
		_, next := k.due(now, []DeviceID{id}, never)
		waits = append(waits, next.Sub(now).Round(time.Second))
		now = next
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 120, 120, 120}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}

	// News of the peer make it due; more news within ten seconds do not.
	k.hint(id, now)
	if dial, _ := k.due(now, []DeviceID{id}, never); len(dial) != 1 {
		t.Error("a hint did not make it due")
	}
	k.failed(id, now)
	k.hint(id, now.Add(hintGap/2))
	if dial, _ := k.due(now.Add(time.Millisecond), []DeviceID{id}, never); len(dial) != 0 {
		t.Error("a second hint made it due")
	}
	k.reset(now)
	if dial, _ := k.due(now, []DeviceID{id}, never); len(dial) != 1 {
		t.Error("a reset did not make it due")
	}

	// A connection that does not last is no success.
	for range 5 {
		k.reached(id)
		k.lost(id, now, time.Second)
		_, next := k.due(now, []DeviceID{id}, never)
		now = next
		k.due(now, []DeviceID{id}, never)
	}
	k.reached(id)
	k.lost(id, now, time.Second)
	if _, next := k.due(now, []DeviceID{id}, never); next.Sub(now) < 10*time.Second {
		t.Errorf("a peer that hangs up is dialled again after %v", next.Sub(now))
	}
	k.due(now.Add(time.Hour), []DeviceID{id}, never)
	k.reached(id)
	k.lost(id, now, time.Hour)
	if _, next := k.due(now, []DeviceID{id}, never); next.Sub(now) > time.Second {
		t.Errorf("after a long connection the first retry comes after %v", next.Sub(now))
	}
	// Who is no longer wanted is forgotten.
	k.due(now, nil, never)
	if len(k.peers) != 0 {
		t.Errorf("still %d peers", len(k.peers))
	}
}

// Whatever happens in whatever order: no peer is dialled twice at once, none
// that is connected is dialled, no wait is longer than the longest, and a peer
// that is wanted and idle always becomes due.
func TestKeeperProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		k := newKeeper(time.Second, 2*time.Minute, r.Float64)
		now := time.Unix(1e9, 0)
		ids := []DeviceID{{1}, {2}, {3}}
		dialling, connected := map[DeviceID]bool{}, map[DeviceID]bool{}
		isConnected := func(id DeviceID) bool { return connected[id] }
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "peer")
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Minute)).Draw(rt, "wait")))
			switch rapid.SampledFrom([]string{"due", "fail", "reach", "accept", "lose", "hint", "reset"}).Draw(rt, "step") {
			case "fail":
				if dialling[id] {
					k.failed(id, now)
					dialling[id] = false
				}
			case "reach":
				if dialling[id] {
					k.reached(id)
					dialling[id], connected[id] = false, true
				}
			case "accept": // it dialled us
				k.reached(id)
				dialling[id], connected[id] = false, true
			case "lose":
				if connected[id] {
					connected[id] = false
					k.lost(id, now, time.Duration(rapid.Int64Range(0, int64(2*steady)).Draw(rt, "lasted")))
				}
			case "hint":
				k.hint(id, now)
			case "reset":
				k.reset(now)
			}
			dial, next := k.due(now, ids, isConnected)
			for _, d := range dial {
				if dialling[d] || connected[d] {
					rt.Fatalf("dials %x, dialling %v, connected %v", d[0], dialling[d], connected[d])
				}
				dialling[d] = true
			}
			if !next.IsZero() && (next.Before(now) || next.Sub(now) > 2*time.Minute) {
				rt.Fatalf("next in %v", next.Sub(now))
			}
			for _, d := range ids {
				if !dialling[d] && !connected[d] && next.IsZero() {
					rt.Fatalf("%x is never due", d[0])
				}
			}
		}
	})
}

func TestLookout(t *testing.T) {
	t.Parallel()
	home, away := []netip.Addr{netip.MustParseAddr("192.168.1.2")}, []netip.Addr{netip.MustParseAddr("10.0.0.9")}
	at := time.Unix(1e9, 0)
	l := newLookout(at, home)
	step := func(d time.Duration, addrs []netip.Addr, want string) {
		t.Helper()
		at = at.Add(d)
		if got := l.look(at, addrs, 5*time.Second); got != want {
			t.Errorf("after %v with %v: %q, want %q", d, addrs, got, want)
		}
	}
	step(5*time.Second, home, "")
	step(7*time.Second, home, "") // a busy machine
	step(5*time.Second, away, "interface addresses")
	step(5*time.Second, away, "")
	step(8*time.Hour, away, "woken up")
	step(5*time.Second, away, "")
	step(5*time.Second, nil, "") // the system does not tell
	step(-time.Hour, away, "")   // the clock was set back
	step(5*time.Second, away, "")
}

// When an address of this machine is gone, connections from it are dead; the
// others are asked whether they live.
func TestNetworkChangeClosesDeadConnections(t *testing.T) {
	t.Parallel()
	a, b := start(t, timing(fast())), start(t, timing(fast()))
	a.keepUp(b)
	b.keepUp(a)
	a.Remember(b.ID(), b.own())
	sub := a.Subscribe()
	defer sub.Close()
	a.Refresh()
	next(t, sub)
	a.networkChanged(time.Now(), interfaceAddrs())
	mustEcho(t, a.Mesh, b.ID())
	select {
	case e := <-sub.C:
		t.Fatalf("a living connection was closed: %+v", e)
	default:
	}
	a.networkChanged(time.Now(), nil) // no address left
	if e := next(t, sub); e != (Event{b.ID(), false}) {
		t.Errorf("event %+v", e)
	}
	if e := next(t, sub); e != (Event{b.ID(), true}) {
		t.Errorf("event %+v", e)
	}
}

// A sighting on the local network is dialled if it is of a member and of this
// network, and only now and then however many come.
func TestSightings(t *testing.T) {
	t.Parallel()
	slow := fast()
	slow.BackoffMin, slow.BackoffMax = time.Hour, time.Hour
	a, b := start(t, timing(slow)), start(t)
	a.keepUp(b)
	b.admit(a)
	a.Refresh() // no address: the next try is in half an hour at the earliest
	p, _ := toPeer(b.ID())
	sub := a.Subscribe()
	defer sub.Close()
	loop := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	parse := func(texts ...string) (out []ma.Multiaddr) {
		for _, s := range texts {
			out = append(out, ma.StringCast(strings.Split(s, "/p2p/")[0]))
		}
		return out
	}

	stranger, _ := toPeer(idOf(newKey(t)))
	a.sighted(peer.AddrInfo{ID: stranger, Addrs: parse(b.own()...)}, loop)
	a.sighted(peer.AddrInfo{ID: p, Addrs: parse("/ip4/198.51.100.7/tcp/443", "/ip4/127.0.0.1/tcp/443/ws")}, loop)
	a.Mesh.mu.Lock()
	if len(a.peers) != 0 {
		t.Errorf("believed: %v", a.peers)
	}
	a.Mesh.mu.Unlock()

	a.sighted(peer.AddrInfo{ID: p, Addrs: parse(b.own()...)}, loop)
	if e := next(t, sub); e != (Event{b.ID(), true}) {
		t.Fatalf("event %+v", e)
	}
	mustEcho(t, a.Mesh, b.ID())
}

type fakeSighter struct {
	fail         error
	started, end chan<- string
	name         string
}

func (f fakeSighter) Start() error {
	if f.fail == nil {
		f.started <- f.name
	}
	return f.fail
}

func (f fakeSighter) Close() error { f.end <- f.name; return nil }

func TestDiscoveryFollowsNamesAndNetwork(t *testing.T) {
	t.Parallel()
	names := make(chan []string, 1)
	names <- []string{"_a._udp", "_b._udp", "_a._udp"}
	current := func() []string { n := <-names; names <- n; return n }
	d := newDevice(t, func(c *Config) { c.Services = current })
	started, ended := make(chan string, 20), make(chan string, 20)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.discover(ctx, func(name string) sighter { return fakeSighter{started: started, end: ended, name: name} })
	}()
	expect := func(ch chan string, want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case s := <-ch:
				got = append(got, s)
			case <-time.After(10 * time.Second):
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	expect(started, "_a._udp", "_b._udp")
	d.networkChanged(time.Now(), interfaceAddrs()) // announced anew with new addresses
	expect(ended, "_a._udp", "_b._udp")
	expect(started, "_a._udp", "_b._udp")
	<-names
	names <- []string{"_c._udp"} // rotated
	d.Refresh()
	expect(ended, "_a._udp", "_b._udp")
	expect(started, "_c._udp")
	cancel()
	<-done
	expect(ended, "_c._udp")
}

func TestDiscoveryFailureIsAWarning(t *testing.T) {
	t.Parallel()
	log, lines := recorder()
	d := newDevice(t, func(c *Config) {
		c.Log = log
		c.Services = func() []string { return []string{"_a._udp"} }
		c.Timing.Rediscover = 10 * time.Millisecond
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	tries := make(chan struct{}, 100)
	go func() {
		defer close(done)
		d.discover(ctx, func(string) sighter {
			tries <- struct{}{}
			return fakeSighter{fail: errors.New("no multicast")}
		})
	}()
	for range 3 {
		<-tries
	}
	cancel()
	<-done
	if got := lines("WARN"); len(got) != 1 || !strings.Contains(got[0], "5353") {
		t.Errorf("warnings %q, want one with the remedy", got)
	}
}

// What anybody who connects learns by libp2p's own identify has no address of
// a private network; a member on the same network learns those by hello.
func TestIdentifyTellsNoPrivateAddress(t *testing.T) {
	t.Parallel()
	b := start(t, listenAt([]string{"/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1"}))
	h := probe(t)
	self, err := fromPeer(h.ID())
	if err != nil {
		t.Fatal(err)
	}
	b.edit(func() { b.allowed[self] = true })
	c, err := dialRaw(t, h, b.addr("tcp"))
	if err != nil {
		t.Fatal(err)
	}
	h.IDService().IdentifyConn(c)
	if protos, err := h.Peerstore().GetProtocols(c.RemotePeer()); err != nil || len(protos) == 0 {
		t.Fatalf("identify told nothing at all: %v, %v", protos, err)
	}
	for _, a := range h.Peerstore().Addrs(c.RemotePeer()) {
		if isLocal(a) && !a.Equal(c.RemoteMultiaddr()) {
			t.Errorf("identify told %s", a)
		}
	}
	_ = c.CloseWithError(network.ConnNoError)
}

// What a greeting tells and what it is believed depends on the path: nothing
// of a private network crosses a public one, in either direction, and a guest
// is told no address at all.
func TestGreetingsKeepNetworksApart(t *testing.T) {
	t.Parallel()
	b := newDevice(t, listenAt([]string{"/ip4/0.0.0.0/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}))
	id := idOf(newKey(t))
	p, _ := toPeer(id)
	far := &fakeConn{peer: p, dir: network.DirInbound, remote: ma.StringCast("/ip4/203.0.113.5/tcp/9")}
	near := &fakeConn{peer: p, dir: network.DirInbound, remote: ma.StringCast("/ip4/127.0.0.1/tcp/9")}
	if g := b.greetingFor(near); g.member || len(g.addrs) > 0 {
		t.Errorf("a stranger is told %+v", g)
	}
	b.edit(func() { b.allowed[id] = true })
	if g := b.greetingFor(near); !g.member || !slices.ContainsFunc(g.addrs, isLocal) {
		t.Errorf("a member on this machine is told %+v", g)
	}
	if g := b.greetingFor(far); !g.member || slices.ContainsFunc(g.addrs, isLocal) {
		t.Errorf("a member far away is told %+v", g)
	}
	b.connected(far)
	b.greeted(far, greeting{member: true, addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.168.1.1/tcp/80"), ma.StringCast("/ip4/203.0.113.5/tcp/7")}}, 0)
	if got := b.Addresses(id); !slices.Equal(got, []string{"/ip4/203.0.113.5/tcp/7"}) {
		t.Errorf("believed from far away: %v", got)
	}
	b.disconnected(far)
}

func TestHandlerContextEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	in, out := make(chan struct{}), make(chan struct{})
	b.Handle("/test/hold/1", func(ctx context.Context, _ DeviceID, _ Stream) {
		close(in)
		<-ctx.Done()
		close(out)
	})
	if _, err := a.Open(within(t, 10*time.Second), b.ID(), "/test/hold/1"); err != nil {
		t.Fatal(err)
	}
	<-in
	b.Drop(a.ID())
	select {
	case <-out:
	case <-time.After(10 * time.Second):
		t.Error("a handler's context outlived its connection")
	}
}
