package simnet

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// A Host is a device on the network. Connected and Disconnected are called one at
// a time, in the order of events, on one goroutine of the network; each call of
// Serve has a goroutine of its own. None may call Leave or Network.Close, which
// wait for them.
type Host interface {
	// Connected tells that Open reaches the peer. Each side is told at its own
	// moment, and a stream may come in earlier. It may be told again, without
	// Disconnected in between, for a second connection.
	Connected(peer ID)
	// Disconnected tells that the last connection to the peer is lost, and with it
	// every stream. It is not told to one who leaves.
	Disconnected(peer ID)
	// Serve has a stream that the peer opened. It is the host's until Serve returns,
	// and is then reset unless it has been closed. ctx ends when this side loses the
	// connection, or leaves.
	Serve(ctx context.Context, peer ID, protocol string, s *Stream)
}

// A Port is a host on the network, from Join to Leave. Its methods are safe for
// concurrent use.
type Port struct {
	n       *Network
	id      ID
	host    Host
	ctx     context.Context
	cancel  context.CancelFunc
	left    bool
	news    []news
	told    sync.Cond
	running sync.WaitGroup
}

// news is what a host is to be told.
type news struct {
	peer ID
	up   bool
}

// Join brings a device up. It gets connected to all that are up and that it
// reaches and is reached by. No two may be up under one ID, and none after Close:
// it panics.
func (n *Network) Join(id ID, h Host) *Port {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		panic("simnet: Join after Close")
	case n.ports[id] != nil:
		panic("simnet: " + id.String() + " has joined already")
	}
	p := &Port{n: n, id: id, host: h}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.told.L = &n.mu
	n.ports[id] = p
	now := n.now()
	n.logf(now, "%s joins", id)
	p.running.Go(p.tellAll)
	for other := range n.ports {
		if other != id {
			n.pair(id, other).tend(now)
		}
	}
	return p
}

// Leave takes the device down, at once, as a crash or a stop does. Its streams are
// reset on this side, and calls of Open fail. The others find out by seed: a word
// gets to them, or nothing does and they know within Options.DeadAfter. Leave
// returns when the host's callbacks and Serve calls have returned. It may be
// called again.
func (p *Port) Leave() {
	p.n.mu.Lock()
	p.down(p.n.now())
	p.n.mu.Unlock()
	p.running.Wait()
}

func (p *Port) down(now instant) {
	n := p.n
	if p.left {
		return
	}
	p.left = true
	p.told.Broadcast()
	p.cancel()
	delete(n.ports, p.id)
	n.logf(now, "%s leaves", p.id)
	for _, pr := range n.pairsOf(p.id) {
		for _, c := range slices.Clone(pr.conns) {
			for _, e := range c.ends {
				if e.port != p || e.dead {
					continue
				}
				silent := mix(e.key, forSilence)%2 == 0
				e.die(now, silent)
				if silent {
					e.far().meet(now + 1 + upTo(n.o.DeadAfter, mix(e.key, forNotice)))
				}
			}
		}
	}
}

// best gives the end on which to open a stream to a peer: of the newest
// connection. Nil: there is none.
func (p *Port) best(peer ID) *end {
	conns := p.n.pair(p.id, peer).conns
	for _, c := range slices.Backward(conns) {
		for _, e := range c.ends {
			if e.port == p && e.up && !e.dead {
				return e
			}
		}
	}
	return nil
}

// Open opens a stream to a peer, over the newest connection. It takes a round trip:
// it returns when the peer has the stream. Errors: [ErrNotConnected], at once;
// [ErrReset], when the connection is lost on the way; that of ctx.
func (p *Port) Open(ctx context.Context, peer ID, protocol string) (*Stream, error) {
	s, err := p.open(ctx, peer, protocol)
	if err != nil {
		return nil, fmt.Errorf("open %s to %s: %w", protocol, peer, err)
	}
	return s, nil
}

func (p *Port) open(ctx context.Context, peer ID, protocol string) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := p.n
	n.mu.Lock()
	e := p.best(peer)
	if e == nil {
		n.mu.Unlock()
		return nil, ErrNotConnected
	}
	s := e.stream(protocol)
	s.out.mark(n.now(), markOpen)
	answered := s.answered
	n.mu.Unlock()
	select {
	case <-answered:
	case <-ctx.Done():
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case s.accepted:
		return s, nil
	case s.closed:
		return nil, ErrReset
	}
	s.reset()
	return nil, ctx.Err()
}

// tell has the host told, in order. The caller holds n.mu.
func (p *Port) tell(x news) {
	if !p.left {
		p.news = append(p.news, x)
		p.told.Broadcast()
	}
}

func (p *Port) tellAll() {
	p.n.mu.Lock()
	defer p.n.mu.Unlock()
	for {
		for len(p.news) == 0 && !p.left {
			p.told.Wait()
		}
		if p.left {
			return
		}
		x := p.news[0]
		p.news = p.news[1:]
		p.n.mu.Unlock()
		if x.up {
			p.host.Connected(x.peer)
		} else {
			p.host.Disconnected(x.peer)
		}
		p.n.mu.Lock()
	}
}
