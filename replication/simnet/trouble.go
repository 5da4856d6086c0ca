package simnet

import "time"

const (
	// abrupt is how long it takes at most until both sides know of a Break.
	abrupt = time.Millisecond
	// overlap is how long at most the first of two connections lives on.
	overlap = 5 * time.Second
)

// Break loses all connections between two devices: within a millisecond, each side
// at its own moment, their streams are reset and the hosts are told. They connect
// again after a while, if they reach each other.
func (n *Network) Break(a, b ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	n.logf(now, "%s - %s broken", a, b)
	for _, c := range n.pair(a, b).conns {
		for _, e := range c.ends {
			e.meet(now + 1 + upTo(abrupt, mix(e.key, forNotice)))
		}
	}
}

// Twice has two connected devices connect once more, as when each dials the other
// at the same time. Streams opened after a side has it are of the new connection;
// the old one, with its streams, lives on for up to 5 s more, and then dies on one
// side, which tells the other. Nothing happens if the two are not connected or a
// direction between them is cut.
func (n *Network) Twice(a, b ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	pr, now := n.pair(a, b), n.now()
	if pr.cut() || len(pr.conns) == 0 {
		return
	}
	old := pr.conns[len(pr.conns)-1]
	for _, e := range old.ends {
		if e.dead || !e.up {
			return
		}
	}
	n.logf(now, "%s - %s connect twice", a, b)
	pr.dial(now).instead = old
}
