package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxAddresses bounds how many addresses of one device are remembered, told or
// dialled at a time. A laptop with two networks, both address families and
// both transports has eight.
const maxAddresses = 16

// A Path says how the bytes of a connection travel.
type Path string

// The paths.
const (
	PathNone    Path = ""        // not connected
	PathLAN     Path = "lan"     // to a loopback, link-local or private address
	PathDirect  Path = "direct"  // to a public address, nobody in between
	PathRelayed Path = "relayed" // through a relay
)

// pathOf judges a connection by the address of its other end.
func pathOf(remote ma.Multiaddr) Path {
	switch {
	case isRelayed(remote):
		return PathRelayed
	case isLocal(remote):
		return PathLAN
	}
	return PathDirect
}

func isRelayed(a ma.Multiaddr) bool { return has(a, ma.P_CIRCUIT) }

// isLocal tells whether a is an address on this machine or in a private
// network. The zone of a link-local IPv6 address makes it local too.
func isLocal(a ma.Multiaddr) bool {
	ip, ok := ipOf(a)
	return ok && (ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || isSharedSpace(ip))
}

// isSharedSpace: 100.64.0.0/10 (RFC 6598) is what carriers and overlay networks
// hand out; it means nothing outside them.
func isSharedSpace(ip netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(ip)
}

func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	raw, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}

func has(a ma.Multiaddr, code int) bool {
	found := false
	ma.ForEach(a, func(c ma.Component) bool {
		found = c.Protocol().Code == code
		return !found
	})
	return found
}

func isTCP(a ma.Multiaddr) bool  { return has(a, ma.P_TCP) }
func isQUIC(a ma.Multiaddr) bool { return has(a, ma.P_QUIC_V1) }

// usable tells whether a is of a kind that this mesh can dial.
func usable(a ma.Multiaddr) bool {
	if a == nil || isRelayed(a) {
		return false
	}
	for _, code := range []int{ma.P_WS, ma.P_WSS, ma.P_WEBTRANSPORT, ma.P_WEBRTC_DIRECT} {
		if has(a, code) {
			return false
		}
	}
	if ip, ok := ipOf(a); ok {
		// fe80::1 means nothing without the interface to reach it by, and that
		// each device names for itself.
		zoneless := ip.Is6() && ip.IsLinkLocalUnicast() && !has(a, ma.P_IP6ZONE)
		if ip.IsUnspecified() || ip.IsMulticast() || zoneless {
			return false
		}
	}
	return isTCP(a) || isQUIC(a)
}

// tellable gives those of own that the other end of a connection to remote may
// learn: all of them on this machine, all but the loopback ones in a private
// network, only public ones elsewhere. The same filter judges what the other
// end tells: a peer on the public network cannot send us dialling around in
// ours.
func tellable(addrs []ma.Multiaddr, remote ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range addrs {
		switch ip, ok := ipOf(a); {
		case !usable(a), len(out) == maxAddresses:
		case !ok: // a DNS name: public by nature
			out = append(out, a)
		case isRelayed(remote) || !isLocal(remote):
			if !isLocal(a) {
				out = append(out, a)
			}
		case ip.IsLoopback():
			if here, ok := ipOf(remote); ok && here.IsLoopback() {
				out = append(out, a)
			}
		default:
			out = append(out, a)
		}
	}
	return out
}

// parseTarget reads a full address, ".../p2p/ID".
func parseTarget(text string) (peer.ID, DeviceID, ma.Multiaddr, error) {
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return "", DeviceID{}, nil, fmt.Errorf("%w: %w", ErrBadAddress, err)
	}
	id, err := fromPeer(info.ID)
	if err != nil {
		return "", DeviceID{}, nil, fmt.Errorf("%w: %w", ErrBadAddress, err)
	}
	if len(info.Addrs) != 1 || !usable(info.Addrs[0]) {
		return "", DeviceID{}, nil, fmt.Errorf("%w: need one TCP or QUIC address followed by /p2p/ID", ErrBadAddress)
	}
	return info.ID, id, info.Addrs[0], nil
}

// parseKnown reads the remembered addresses of p, with or without their /p2p/
// part, and leaves out what is of no use or of another peer: a book may be old,
// or edited.
func parseKnown(p peer.ID, texts []string) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, text := range texts {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue
		}
		transport, id := peer.SplitAddr(a)
		if transport == nil || (id != "" && id != p) || !usable(transport) {
			continue
		}
		if out = append(out, transport); len(out) == maxAddresses {
			break
		}
	}
	return out
}

// mergeAddresses puts fresh before old, each address once, at most
// [maxAddresses].
func mergeAddresses(fresh, old []string) []string {
	out := make([]string, 0, maxAddresses)
	for _, list := range [][]string{fresh, old} {
		for _, a := range list {
			if len(out) < maxAddresses && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func texts(addrs []ma.Multiaddr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
