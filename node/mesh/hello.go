package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// helloProtocol is the first exchange over a new connection, made by the side
// that dialled, and repeated by either to measure the round trip and when
// something has changed. Each side sends one greeting: whether it holds the
// other for a member, and, to a member, the addresses at which it can be
// reached, as far as they mean anything to the other end ([tellable]).
//
// It is how both sides know that they agree to be connected, and how private
// addresses travel without being in what libp2p's identify tells everybody.
const helloProtocol protocol.ID = "/sheaf/hello/1"

// Bounds of a greeting. An address with a DNS name may be long.
const (
	maxAddressBytes  = 320
	maxGreetingBytes = 2 + maxAddresses*(2+maxAddressBytes)
)

// A greeting is one side's part of a hello.
//
//	byte 0      flags: bit 0, the receiver is a member in the sender's eyes;
//	            other bits are ignored, for the use of later versions
//	byte 1      number of addresses, at most 16
//	then each   two bytes length (big endian, at most 320), multiaddr in binary
type greeting struct {
	member bool
	addrs  []ma.Multiaddr
}

var errGreeting = errors.New("malformed greeting")

func (g greeting) encode() []byte {
	out := []byte{0, 0}
	if g.member {
		out[0] |= 1
	}
	for _, a := range g.addrs {
		raw := a.Bytes()
		if len(raw) > maxAddressBytes || int(out[1]) == maxAddresses {
			continue
		}
		out[1]++
		out = append(out, byte(len(raw)>>8), byte(len(raw)))
		out = append(out, raw...)
	}
	return out
}

// decodeGreeting reads a whole greeting. An address of a kind unknown here is
// left out: the sender may be newer. What follows the last is ignored likewise.
func decodeGreeting(raw []byte) (greeting, error) {
	if len(raw) < 2 || len(raw) > maxGreetingBytes || raw[1] > maxAddresses {
		return greeting{}, errGreeting
	}
	g := greeting{member: raw[0]&1 != 0}
	count, rest := int(raw[1]), raw[2:]
	for range count {
		if len(rest) < 2 {
			return greeting{}, errGreeting
		}
		size := int(rest[0])<<8 | int(rest[1])
		if rest = rest[2:]; size > maxAddressBytes || size > len(rest) {
			return greeting{}, errGreeting
		}
		if a, err := ma.NewMultiaddrBytes(rest[:size]); err == nil && len(a) > 0 {
			g.addrs = append(g.addrs, a)
		}
		rest = rest[size:]
	}
	return g, nil
}

func readGreeting(r io.Reader) (greeting, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxGreetingBytes+1))
	if err != nil {
		return greeting{}, err
	}
	return decodeGreeting(raw)
}

// greetingFor says what the other end of c may know.
func (m *Mesh) greetingFor(c network.Conn) greeting {
	if m.standingOf(c) != member {
		return greeting{}
	}
	return greeting{member: true, addrs: tellable(m.listening(), c.RemoteMultiaddr())}
}

// hello greets the other end of c within limit, and takes in what it answers.
func (m *Mesh) hello(ctx context.Context, c network.Conn, limit time.Duration) (greeting, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w: no answer within %v", ErrUnreachable, limit))
	defer cancel()
	s, err := openOn(ctx, c, helloProtocol)
	if err != nil {
		return greeting{}, fmt.Errorf("hello: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	// The round trip is that of the greeting; the stream's own is over.
	start := time.Now()
	_, err = s.Write(m.greetingFor(c).encode())
	if err == nil {
		err = s.CloseWrite()
	}
	var reply greeting
	if err == nil {
		reply, err = readGreeting(s)
	}
	if err != nil {
		_ = s.Reset() // it is done with, whatever the state of it
		return greeting{}, fmt.Errorf("hello: %w", classify(ctx, err))
	}
	rtt := time.Since(start)
	_ = s.Close() // all has been read
	m.greeted(c, reply, rtt)
	return reply, nil
}

// serveHello answers a hello.
func (m *Mesh) serveHello(s network.Stream) {
	_ = s.SetDeadline(time.Now().Add(m.cfg.Timing.Hello))
	theirs, err := readGreeting(s)
	if err != nil {
		_ = s.Reset()
		return
	}
	// Taken in before it is answered: who has the answer may at once open
	// streams here, and finds this side ready.
	m.greeted(s.Conn(), theirs, 0)
	if _, err := s.Write(m.greetingFor(s.Conn()).encode()); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
	// Who was dialled has not measured the round trip yet.
	if c := s.Conn(); theirs.member && m.standingOf(c) == member && m.rttOf(c) == 0 {
		m.spawn(func() {
			if _, err := m.hello(m.ctx, c, m.cfg.Timing.Hello); err != nil {
				m.log.Debug("hello in return", "error", err)
			}
		})
	}
}
