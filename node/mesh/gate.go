package mesh

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// standing is what a peer is to this device right now.
type standing uint8

const (
	stranger standing = iota // refused
	guest                    // hello and the join protocol only
	member                   // every protocol
)

// A gate judges connections. It asks Config.Allowed and Config.Joining anew
// each time, holds no membership of its own, and knows only whom this device
// is about to dial on a caller's word.
//
// Strangers are turned away after the connection is secured and multiplexed,
// one step later than they could be: only there can the refusal carry a code
// (network.ConnGated), by which the other side tells "you are no member here"
// from a dead address. They get no stream either way.
type gate struct {
	allowed func(DeviceID) bool
	joining func() bool
	guests  func() int // inbound guest connections open now
	limit   int

	mu    sync.Mutex
	asked map[peer.ID]int // dials under way on a caller's word
}

var _ connmgr.ConnectionGater = (*gate)(nil)

// standing judges a peer for a connection that dir opened.
func (g *gate) standing(p peer.ID, dir network.Direction) standing {
	id, err := fromPeer(p)
	switch {
	case err != nil:
		return stranger
	case g.allowed(id):
		return member
	case dir == network.DirOutbound && g.isAsked(p):
		return guest
	case dir == network.DirInbound && g.joining():
		return guest
	}
	return stranger
}

// ask lets p be dialled, whoever it is, until the returned function is called.
func (g *gate) ask(p peer.ID) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[p]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.asked[p]--; g.asked[p] == 0 {
			delete(g.asked, p)
		}
	}
}

func (g *gate) isAsked(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[p] > 0
}

// InterceptPeerDial admits dials to members and to whom a caller named.
func (g *gate) InterceptPeerDial(p peer.ID) bool {
	return g.standing(p, network.DirOutbound) != stranger
}

// InterceptAddrDial admits addresses of the transports there are.
func (g *gate) InterceptAddrDial(_ peer.ID, a ma.Multiaddr) bool { return usable(a) }

// InterceptAccept admits all: nobody is known yet, and the resource manager
// bounds how many there are.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured admits peers with an Ed25519 key.
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	_, err := fromPeer(p)
	return err == nil
}

// InterceptUpgraded admits members, and guests while there is room for them.
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	dir := c.Stat().Direction
	switch g.standing(c.RemotePeer(), dir) {
	case member:
		return true, 0
	case guest:
		return dir == network.DirOutbound || g.guests() < g.limit, 0
	}
	return false, 0
}
