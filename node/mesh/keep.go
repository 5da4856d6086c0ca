package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxDials bounds the dials that run at once.
const maxDials = 8

// loop keeps the peers of Config.Known connected and the connections in order,
// until ctx ends. It is the only one to decide on dials; the dials themselves
// run beside it.
func (m *Mesh) loop(ctx context.Context) {
	slots := make(chan struct{}, maxDials)
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := newLookout(m.cfg.Now(), interfaceAddrs())
	var nextPoll time.Time
	nextProbe := m.cfg.Now().Add(m.cfg.Timing.Probe)
	for {
		now := m.cfg.Now()
		if !now.Before(nextPoll) {
			nextPoll = now.Add(m.cfg.Timing.Poll)
			if why := look.look(now, interfaceAddrs(), m.cfg.Timing.Poll); why != "" {
				m.log.Info("network changed, reconnecting", "reason", why)
				m.networkChanged(now, look.current)
				nextProbe = now.Add(m.cfg.Timing.Probe)
			}
			m.sweep(now)
		}
		if !now.Before(nextProbe) {
			nextProbe = now.Add(m.cfg.Timing.Probe)
			m.probeAll(false)
		}
		dial, nextDial := m.keep.due(now, m.wanted(), m.hasLink)
		for _, id := range dial {
			m.spawn(func() { m.keepOne(ctx, id, slots) })
		}
		next := nextPoll
		if nextProbe.Before(next) {
			next = nextProbe
		}
		if !nextDial.IsZero() && nextDial.Before(next) {
			next = nextDial
		}
		timer.Reset(max(0, next.Sub(m.cfg.Now())))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-m.wake:
		}
	}
}

// wanted gives the members that should be connected.
func (m *Mesh) wanted() []DeviceID {
	return slices.DeleteFunc(slices.Clone(m.cfg.Known()), func(id DeviceID) bool {
		return id == m.self || !m.cfg.Allowed(id)
	})
}

func (m *Mesh) hasLink(id DeviceID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	ps := m.peers[id]
	return ps != nil && len(ps.links) > 0
}

// keepOne dials one peer.
func (m *Mesh) keepOne(ctx context.Context, id DeviceID, slots chan struct{}) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return
	}
	p, err := toPeer(id)
	if err == nil {
		_, err = m.dial(ctx, p, id, m.knownAddresses(p, id))
	}
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		m.keep.reached(id)
		return
	}
	failures := m.keep.failed(id, m.cfg.Now())
	m.wakeUp()
	if failures == 1 && (errors.Is(err, ErrRefused) || errors.Is(err, ErrWrongIdentity)) {
		m.log.Warn("peer not connected", "peer", short(id), "reason", reason(err))
		return
	}
	m.log.Debug("peer not connected", "peer", short(id), "reason", reason(err), "failures", failures, "error", err)
}

// reason is the sentinel of an error: what a log may say without addresses.
func reason(err error) string {
	for _, sentinel := range []error{ErrRefused, ErrWrongIdentity, ErrNotMember, ErrNoAddress, ErrUnreachable} {
		if errors.Is(err, sentinel) {
			return sentinel.Error()
		}
	}
	return "other"
}

// networkChanged acts on new interface addresses, or on having slept: what
// hangs on an address that is gone is dead, the rest must prove itself, and
// everybody is worth a dial.
func (m *Mesh) networkChanged(now time.Time, here []netip.Addr) {
	for _, c := range m.host.Network().Conns() {
		if ip, ok := ipOf(c.LocalMultiaddr()); ok && !ip.IsUnspecified() && !slices.Contains(here, ip.WithZone("")) {
			_ = c.CloseWithError(network.ConnNoError) // nobody is there to hear it
		}
	}
	m.keep.reset(now)
	m.probeAll(true)
	select {
	case m.rediscover <- struct{}{}:
	default:
	}
}

// probeAll greets every connected peer, which measures the round trip and
// brings addresses up to date. An urgent probe closes a connection that does
// not answer soon; another leaves that to the keep-alives of TCP and QUIC,
// because a saturated line answers late.
func (m *Mesh) probeAll(urgent bool) {
	limit := m.cfg.Timing.Hello
	if urgent {
		limit /= 2
	}
	m.mu.Lock()
	var conns []network.Conn
	for _, ps := range m.peers {
		for _, l := range ps.links {
			conns = append(conns, l.conn)
		}
	}
	m.mu.Unlock()
	for _, c := range conns {
		if m.standingOf(c) != member {
			continue
		}
		m.spawn(func() {
			_, err := m.hello(m.ctx, c, limit)
			if err != nil && urgent && m.ctx.Err() == nil {
				m.log.Debug("connection did not survive", "error", err)
				_ = c.CloseWithError(network.ConnProtocolNegotiationFailed)
			}
		})
	}
}

// sweep closes connections that have no reason to be: of those who are no
// longer members, of guests who do nothing, and those that never said hello; and
// surplus ones.
func (m *Mesh) sweep(now time.Time) {
	type judged struct {
		link
		several bool // it is not the only one to its peer
	}
	var links []judged
	m.mu.Lock()
	for _, ps := range m.peers {
		for _, l := range ps.links {
			links = append(links, judged{*l, len(ps.links) > 1})
		}
	}
	m.mu.Unlock()
	var leave []network.Conn
	for _, l := range links {
		age, idle := now.Sub(l.opened), len(l.conn.GetStreams()) == 0
		is := m.standingOf(l.conn)
		switch {
		case is == member && !l.heard && age > 2*m.cfg.Timing.Hello:
			leave = append(leave, l.conn)
		case is == member:
			if l.several && idle && age > m.cfg.Timing.GuestIdle && m.surplus(l.conn) {
				_ = l.conn.CloseWithError(network.ConnSupplanted)
			}
		case l.served: // as a member: it may hold streams that only members may
			leave = append(leave, l.conn)
		case age > m.cfg.Timing.GuestMax, idle && (is == stranger || age > m.cfg.Timing.GuestIdle):
			// The last stream of a guest may end in peace, though the invite
			// has been closed by it.
			leave = append(leave, l.conn)
		}
	}
	m.closeAll(leave)
}

// surplus tells whether c is one of several connections to its peer, not the
// one that is used, and ours to close: only the side with the smaller ID closes
// any, so that the two cannot close each other's choice.
func (m *Mesh) surplus(c network.Conn) bool {
	return c.LocalPeer() < c.RemotePeer() && m.best(c.RemotePeer()) != c
}

// Refresh takes in a change of what Config.Allowed, Joining, Known or Services
// say: connections of those no longer admitted are closed, guests that have
// become members are greeted as such, and peers not connected are dialled now.
// Without it the same happens within Timing.Poll, dials by their backoff.
func (m *Mesh) Refresh() {
	if !m.enter() {
		return
	}
	defer m.work.Done()
	now := m.cfg.Now()
	m.sweep(now)
	m.mu.Lock()
	var news []network.Conn
	for _, ps := range m.peers {
		for _, l := range ps.links {
			if !ps.online {
				news = append(news, l.conn)
			}
		}
	}
	m.mu.Unlock()
	for _, c := range news {
		if m.standingOf(c) == member {
			m.spawn(func() {
				if _, err := m.hello(m.ctx, c, m.cfg.Timing.Hello); err != nil {
					m.log.Debug("greeting a new member", "error", err)
				}
			})
		}
	}
	m.keep.reset(now)
	m.wakeUp()
	select {
	case m.rediscover <- struct{}{}:
	default:
	}
}

// wakeUp makes the loop look again.
func (m *Mesh) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// A lookout notices that the network may have changed: by the addresses of the
// interfaces, and by the wall clock having gone on while this process did not
// (suspended), as no system call tells on every system.
type lookout struct {
	last    time.Time
	current []netip.Addr
}

func newLookout(now time.Time, addrs []netip.Addr) *lookout {
	return &lookout{last: now.Round(0), current: addrs}
}

// sleepSlack is how late a look may be before it counts as having slept.
const sleepSlack = 20 * time.Second

// look gives the reason for which the network may have changed since the last
// look, empty for none. A wall clock that is set forward looks like sleep,
// which costs one probe.
func (l *lookout) look(now time.Time, addrs []netip.Addr, every time.Duration) string {
	wall := now.Round(0) // without the monotonic clock, which may stand still in sleep
	slept := wall.Sub(l.last) > every+sleepSlack
	changed := addrs != nil && !slices.Equal(addrs, l.current)
	l.last = wall
	if changed {
		l.current = addrs
		return "interface addresses"
	}
	if slept {
		return "woken up"
	}
	return ""
}

// interfaceAddrs gives the addresses of this machine, sorted; nil when the
// system does not tell.
func interfaceAddrs() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	out := make([]netip.Addr, 0, len(nets))
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			out = append(out, p.Addr().Unmap().WithZone(""))
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// listening gives the addresses at which this device listens, wildcards
// replaced by the interfaces' addresses.
func (m *Mesh) listening() []ma.Multiaddr {
	own := m.host.Network().ListenAddresses()
	if ifaces, err := manet.InterfaceMultiaddrs(); err == nil {
		if resolved, err := manet.ResolveUnspecifiedAddresses(own, ifaces); err == nil {
			own = resolved
		}
	}
	return slices.DeleteFunc(own, func(a ma.Multiaddr) bool { return !usable(a) })
}
