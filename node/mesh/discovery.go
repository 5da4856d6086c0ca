package mesh

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	libp2phost "github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	ma "github.com/multiformats/go-multiaddr"
)

// maxServices bounds the names announced at once: each has sockets of its own.
const maxServices = 16

// A sighter announces this device on the local network under one service name
// and calls back for others that do.
type sighter interface {
	Start() error
	Close() error
}

// discover announces and looks for devices on the local network until ctx
// ends. It starts anew when the network or the names change, since an
// announcement carries the addresses of its beginning. A network that does not
// let it is a warning: devices with known addresses connect all the same.
func (m *Mesh) discover(ctx context.Context, announce func(service string) sighter) {
	var names []string
	running := map[string]sighter{}
	stop := func() {
		for name, s := range running {
			if err := s.Close(); err != nil {
				m.log.Debug("end local discovery", "error", err)
			}
			delete(running, name)
		}
	}
	defer stop()
	warned := false
	retry := time.NewTimer(0)
	defer retry.Stop()
	force := true
	for {
		want := slices.Clone(m.cfg.Services())
		slices.Sort(want)
		want = slices.Compact(want)
		want = want[:min(len(want), maxServices)]
		if force || !slices.Equal(want, names) || len(running) < len(want) {
			stop()
			names = want
			for _, name := range names {
				s := announce(name)
				if err := s.Start(); err != nil {
					if !warned {
						m.log.Warn("devices on the local network cannot find each other by themselves (mDNS): join a network, "+
							"allow UDP port 5353 in the firewall, or connect by address", "error", err)
						warned = true
					}
					continue
				}
				warned = false
				running[name] = s
			}
		}
		retry.Reset(m.cfg.Timing.Rediscover)
		force = false
		select {
		case <-ctx.Done():
			return
		case <-m.rediscover:
			force = true
		case <-retry.C: // names may have been rotated
		}
	}
}

// newMDNS makes libp2p's mDNS with our own idea of which addresses we have:
// the host's is up to a minute old.
func (m *Mesh) newMDNS(service string) sighter {
	return mdns.NewMdnsService(mdnsHost{m.host.BasicHost, m}, service, sightings{m})
}

// sightings receives libp2p's sightings, each in a goroutine of libp2p's own.
type sightings struct{ m *Mesh }

// HandlePeerFound takes in one sighting.
func (s sightings) HandlePeerFound(info peer.AddrInfo) { s.m.sighted(info, localNets()) }

// sighted takes in that somebody on the local network claims to be the peer of
// info and to be found at its addresses. Anybody there can claim that, so it is
// believed only so far as to dial addresses of this very network, now and then;
// who answers must prove to be the peer.
func (m *Mesh) sighted(info peer.AddrInfo, nets []netip.Prefix) {
	id, err := fromPeer(info.ID)
	if err != nil || id == m.self || !m.enter() {
		return
	}
	defer m.work.Done()
	if !m.cfg.Allowed(id) {
		return
	}
	var addrs []ma.Multiaddr
	for _, a := range info.Addrs {
		if usable(a) && onLink(a, nets) && len(addrs) < maxAddresses {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return
	}
	m.mu.Lock()
	ps := m.peers[id]
	if ps == nil {
		ps = &peerState{id: id}
		m.peers[id] = ps
	}
	ps.sighted = addrs
	linked := len(ps.links) > 0
	m.mu.Unlock()
	if !linked {
		m.log.Debug("sighted on the local network", "peer", short(id))
		m.keep.hint(id, m.cfg.Now())
		m.wakeUp()
	}
}

// onLink tells whether a belongs to a network this machine is in.
func onLink(a ma.Multiaddr, nets []netip.Prefix) bool {
	ip, ok := ipOf(a)
	return ok && (ip.IsLinkLocalUnicast() || slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(ip.WithZone("")) }))
}

// localNets gives the networks this machine is in.
func localNets() []netip.Prefix {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// An mdnsHost is the host with fresh addresses, and none of the loopback.
type mdnsHost struct {
	libp2phost.Host
	m *Mesh
}

// Network gives the network with those addresses.
func (h mdnsHost) Network() network.Network { return mdnsNetwork{h.Host.Network(), h.m} }

type mdnsNetwork struct {
	network.Network
	m *Mesh
}

// InterfaceListenAddresses gives the addresses to announce.
func (n mdnsNetwork) InterfaceListenAddresses() ([]ma.Multiaddr, error) {
	return slices.DeleteFunc(n.m.listening(), func(a ma.Multiaddr) bool {
		ip, ok := ipOf(a)
		return !ok || ip.IsLoopback()
	}), nil
}
