package mesh

import (
	"cmp"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// How long a class of addresses waits for the better ones before it. A dial
// that fails lets the next class start at once, so a wait is lost only to
// addresses that do not answer at all.
const (
	stagger   = 250 * time.Millisecond // RFC 8305, section 5
	quicAfter = 500 * time.Millisecond // bulk over TCP with TLS is three times as fast as over QUIC: worth two staggers
)

// rankDials orders addresses for dialling: TCP before QUIC, near before far,
// relays last. Within a class all start together, and the first to finish its
// handshake wins. It replaces libp2p's ranker, which prefers QUIC.
func rankDials(addrs []ma.Multiaddr) []network.AddrDelay {
	out := make([]network.AddrDelay, 0, len(addrs))
	tcp := slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return isTCP(a) && !isRelayed(a) })
	near := slices.ContainsFunc(addrs, func(a ma.Multiaddr) bool { return isLocal(a) && !isRelayed(a) })
	for _, a := range addrs {
		var wait time.Duration
		if near && !isLocal(a) {
			wait += stagger
		}
		if tcp && !isTCP(a) {
			wait += quicAfter
		}
		if isRelayed(a) {
			wait = stagger + quicAfter
		}
		out = append(out, network.AddrDelay{Addr: a, Delay: wait})
	}
	slices.SortStableFunc(out, func(a, b network.AddrDelay) int { return cmp.Compare(a.Delay, b.Delay) })
	// Identify may have stored hundreds of addresses that a hostile member
	// claims as its own; a dial tries the best few.
	return out[:min(len(out), 2*maxAddresses)]
}
