package mesh

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// A Peer is a device as the mesh sees it.
type Peer struct {
	ID        DeviceID
	Connected bool          // both sides hold each other for members, and a connection is open
	Path      Path          // of the best connection; PathNone without one
	Transport string        // "tcp+tls", "tcp+noise" or "quic"; empty without a connection
	RTT       time.Duration // the last measured round trip; 0 before the first
	Addrs     []string      // where it can be dialled, the address it was dialled at first
	Since     time.Time     // when it became connected, or ceased to be; zero if it never was
}

// A link is one open connection.
type link struct {
	conn   network.Conn
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	opened time.Time
	heard  bool // a greeting has come over it
	served bool // a stream of it was served as a member's
}

// A peerState is what is known of one peer, member or not.
type peerState struct {
	id      DeviceID
	links   []*link
	mutual  bool      // it holds us for a member, by its last greeting
	online  bool      // announced as connected
	since   time.Time // of the last change of online
	rtt     time.Duration
	told    []string // addresses it told of itself
	sighted []ma.Multiaddr
}

// notifiee is what libp2p tells of connections. libp2p calls connected before
// the first stream of a connection, and disconnected once after it.
func (m *Mesh) notifiee() *network.NotifyBundle {
	return &network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { m.connected(c) },
		DisconnectedF: func(_ network.Network, c network.Conn) { m.disconnected(c) },
	}
}

func (m *Mesh) connected(c network.Conn) {
	id, err := fromPeer(c.RemotePeer())
	if err != nil {
		return // the gate let none such pass
	}
	ctx, cancel := context.WithCancel(m.ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	ps := m.peers[id]
	if ps == nil {
		ps = &peerState{id: id}
		m.peers[id] = ps
	}
	ps.links = append(ps.links, &link{conn: c, ctx: ctx, cancel: cancel, opened: m.cfg.Now()})
	m.log.Debug("connection open", "peer", short(id), "direction", c.Stat().Direction, "transport", transportOf(c), "path", pathOf(c.RemoteMultiaddr()))
}

func (m *Mesh) disconnected(c network.Conn) {
	id, err := fromPeer(c.RemotePeer())
	if err != nil {
		return
	}
	now := m.cfg.Now()
	m.mu.Lock()
	ps := m.peers[id]
	if ps == nil {
		m.mu.Unlock()
		return
	}
	var lasted time.Duration
	ps.links = slices.DeleteFunc(ps.links, func(l *link) bool {
		if l.conn != c {
			return false
		}
		l.cancel()
		lasted = now.Sub(l.opened)
		return true
	})
	gone := len(ps.links) == 0
	if gone {
		ps.mutual = false
		m.setOnline(ps, false, now)
		if ps.since.IsZero() && len(ps.sighted) == 0 {
			delete(m.peers, id) // it never was a peer: leaves no trace
		}
	}
	m.mu.Unlock()
	m.log.Debug("connection closed", "peer", short(id), "transport", transportOf(c))
	if gone {
		m.keep.lost(id, now, lasted)
		m.wakeUp()
	}
}

// greeted takes in what the other end of c said of itself.
func (m *Mesh) greeted(c network.Conn, g greeting, rtt time.Duration) {
	id, err := fromPeer(c.RemotePeer())
	if err != nil {
		return
	}
	allowed := m.cfg.Allowed(id)
	now := m.cfg.Now()
	var remember []string
	m.mu.Lock()
	ps, via := m.peers[id], m.link(c)
	if via == nil {
		m.mu.Unlock()
		return // closed in the meantime
	}
	via.heard = true
	if rtt > 0 {
		ps.rtt = rtt
	}
	ps.mutual = g.member
	if ps.mutual && allowed {
		ps.told = texts(tellable(g.addrs, c.RemoteMultiaddr()))
		remember = ps.told
		if c.Stat().Direction == network.DirOutbound {
			remember = mergeAddresses([]string{c.RemoteMultiaddr().String()}, ps.told)
		}
	}
	m.setOnline(ps, ps.mutual && allowed, now)
	m.mu.Unlock()
	if len(remember) > 0 {
		m.remember(id, remember)
	}
}

// setOnline announces a change, once. The caller holds m.mu.
func (m *Mesh) setOnline(ps *peerState, online bool, now time.Time) {
	if ps.online == online {
		return
	}
	ps.online, ps.since = online, now
	if online {
		m.keep.reached(ps.id)
		m.log.Info("peer connected", "peer", short(ps.id))
	} else {
		m.log.Info("peer disconnected", "peer", short(ps.id))
	}
	for s := range m.subs {
		s.push(Event{Peer: ps.id, Connected: online})
	}
}

// remember puts fresh addresses before those in the book, if that changes it.
func (m *Mesh) remember(id DeviceID, fresh []string) {
	if m.cfg.Book == nil {
		return
	}
	m.bookMu.Lock()
	defer m.bookMu.Unlock()
	old := m.cfg.Book.Addresses(id)
	if merged := mergeAddresses(fresh, old); !slices.Equal(merged, old) {
		m.cfg.Book.Remember(id, merged)
	}
}

// standingOf judges the other end of an open connection, now.
func (m *Mesh) standingOf(c network.Conn) standing {
	id, err := fromPeer(c.RemotePeer())
	switch {
	case err != nil:
		return stranger
	case m.cfg.Allowed(id):
		return member
	case c.Stat().Direction == network.DirOutbound, m.cfg.Joining():
		return guest
	}
	return stranger
}

func (m *Mesh) isMutual(id DeviceID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ps := m.peers[id]
	return ps != nil && ps.mutual
}

func (m *Mesh) rttOf(c network.Conn) time.Duration {
	id, err := fromPeer(c.RemotePeer())
	if err != nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ps := m.peers[id]; ps != nil {
		return ps.rtt
	}
	return 0
}

// markServed records that a stream of c is served as a member's.
func (m *Mesh) markServed(c network.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.link(c); l != nil {
		l.served = true
	}
}

// link finds the link of c; nil if it is closed. The caller holds m.mu.
func (m *Mesh) link(c network.Conn) *link {
	id, err := fromPeer(c.RemotePeer())
	if err != nil || m.peers[id] == nil {
		return nil
	}
	for _, l := range m.peers[id].links {
		if l.conn == c {
			return l
		}
	}
	return nil
}

// contextOf gives the context that ends with c.
func (m *Mesh) contextOf(c network.Conn) (context.Context, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.link(c)
	if l == nil {
		return nil, false
	}
	return l.ctx, true
}

// countGuests counts the inbound connections of peers that are no members.
func (m *Mesh) countGuests() int {
	m.mu.Lock()
	inbound := make(map[DeviceID]int, len(m.peers))
	for id, ps := range m.peers {
		for _, l := range ps.links {
			if l.conn.Stat().Direction == network.DirInbound {
				inbound[id]++
			}
		}
	}
	m.mu.Unlock()
	guests := 0
	for id, n := range inbound {
		if !m.cfg.Allowed(id) {
			guests += n
		}
	}
	return guests
}

// best gives the connection to p on which to open a stream, nil for none.
func (m *Mesh) best(p peer.ID) network.Conn {
	var open []network.Conn
	for _, c := range m.host.Network().ConnsToPeer(p) {
		if !c.IsClosed() {
			open = append(open, c)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return slices.MinFunc(open, compareConns)
}

// compareConns orders connections to one peer, the best first: direct before
// relayed, TCP before QUIC, then the one dialled by the smaller peer ID, so
// that both ends come to the same; the newest of those.
func compareConns(a, b network.Conn) int {
	rank := func(c network.Conn) int {
		n := 0
		if c.Stat().Limited || isRelayed(c.RemoteMultiaddr()) {
			n += 4
		}
		if !isTCP(c.RemoteMultiaddr()) {
			n += 2
		}
		dialledHere := c.Stat().Direction == network.DirOutbound
		if dialledHere != (bytes.Compare([]byte(c.LocalPeer()), []byte(c.RemotePeer())) < 0) {
			n++
		}
		return n
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Stat().Opened.Compare(a.Stat().Opened))
}

func transportOf(c network.Conn) string {
	if isQUIC(c.RemoteMultiaddr()) {
		return "quic"
	}
	if c.ConnState().Security == "/noise" {
		return "tcp+noise"
	}
	return "tcp+tls"
}

// Peers gives the members that are connected and those of Config.Known, sorted
// by ID.
func (m *Mesh) Peers() []Peer {
	known := m.cfg.Known()
	wanted := make(map[DeviceID]bool, len(known))
	for _, id := range known {
		wanted[id] = id != m.self
	}
	m.mu.Lock()
	states := make(map[DeviceID]Peer)
	for id, ps := range m.peers {
		if ps.online || wanted[id] {
			states[id] = Peer{ID: id, Connected: ps.online, RTT: ps.rtt, Since: ps.since}
		}
	}
	m.mu.Unlock()
	for id, want := range wanted {
		if _, ok := states[id]; want && !ok {
			states[id] = Peer{ID: id}
		}
	}
	out := make([]Peer, 0, len(states))
	for id, v := range states {
		p, err := toPeer(id)
		if err != nil {
			continue
		}
		addrs := texts(m.knownAddresses(p, id))
		if c := m.best(p); c != nil && v.Connected {
			v.Path, v.Transport = pathOf(c.RemoteMultiaddr()), transportOf(c)
			if c.Stat().Direction == network.DirOutbound { // else its port is of the moment
				addrs = mergeAddresses([]string{c.RemoteMultiaddr().String()}, addrs)
			}
		}
		v.Addrs = addrs
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}
