package mesh

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits bound what the network can make this device spend. The zero value of
// a field means its default, which suits a personal device; a relay needs more
// connections.
type Limits struct {
	Conns       int     // connections in all (512); three quarters of them may be inbound
	Handshakes  int     // inbound connections whose peer has not yet proved who it is (128)
	Guests      int     // inbound connections of peers that are no members, while an invite is open (16)
	PeerConns   int     // connections with one peer (8)
	Streams     int     // streams in all (4,096)
	PeerStreams int     // streams with one peer (512)
	Memory      int64   // bytes of stream windows in all (512 MiB)
	PeerMemory  int64   // bytes of stream windows of one peer (160 MiB)
	SubnetConns int     // connections from one IPv4 address or IPv6 /56 (32): less than Handshakes, so that one address cannot take them all
	SubnetRate  float64 // new connections a second from one IPv4 address or IPv6 /56 (2),
	SubnetBurst int     // after so many at once (64)

	loopbackToo  bool // count the connections of this machine as well (tests)
	acceptWithin time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Conns, 512)
	def(&l.Handshakes, 128)
	def(&l.Guests, 16)
	def(&l.PeerConns, 8)
	def(&l.Streams, 4096)
	def(&l.PeerStreams, 512)
	def(&l.SubnetConns, 32)
	def(&l.SubnetBurst, 64)
	if l.Memory <= 0 {
		l.Memory = 512 << 20
	}
	if l.PeerMemory <= 0 {
		l.PeerMemory = 160 << 20
	}
	if l.SubnetRate <= 0 {
		l.SubnetRate = 2
	}
	if l.acceptWithin <= 0 {
		l.acceptWithin = 10 * time.Second
	}
	return l
}

// config gives libp2p's form of the limits. Every scope is bounded here: what
// is not named falls back to libp2p's defaults, which scale with the memory of
// the machine, and none does that matters.
//
// The memory counted is that of stream windows, which is what a peer that sends
// and is not read can make us hold: yamux starts a stream with 256 KiB (so 512
// streams are 128 MiB), and takes up to 16 MiB when the round trip asks for it
// and the limit leaves it.
func (l Limits) config() rcmgr.ConcreteLimitConfig {
	n := func(v int) rcmgr.LimitVal { return rcmgr.LimitVal(v) }
	b := func(v int64) rcmgr.LimitVal64 { return rcmgr.LimitVal64(v) }
	perPeer := rcmgr.ResourceLimits{
		Conns: n(l.PeerConns), ConnsInbound: n(l.PeerConns), ConnsOutbound: n(l.PeerConns), FD: n(l.PeerConns),
		Streams: n(l.PeerStreams), StreamsInbound: n(l.PeerStreams), StreamsOutbound: n(l.PeerStreams),
		Memory: b(l.PeerMemory),
	}
	anyStreams := rcmgr.ResourceLimits{
		Streams: n(l.Streams), StreamsInbound: n(l.Streams), StreamsOutbound: n(l.Streams), Memory: b(l.Memory),
		Conns: rcmgr.BlockAllLimit, ConnsInbound: rcmgr.BlockAllLimit, ConnsOutbound: rcmgr.BlockAllLimit, FD: rcmgr.BlockAllLimit,
	}
	return rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: n(l.Conns), ConnsInbound: n(l.Conns * 3 / 4), ConnsOutbound: n(l.Conns), FD: n(l.Conns),
			Streams: n(l.Streams), StreamsInbound: n(l.Streams), StreamsOutbound: n(l.Streams),
			Memory: b(l.Memory),
		},
		// A flood may fill the inbound half; dialling out still has its own.
		Transient: rcmgr.ResourceLimits{
			Conns: n(2 * l.Handshakes), ConnsInbound: n(l.Handshakes), ConnsOutbound: n(2 * l.Handshakes), FD: n(2 * l.Handshakes),
			Streams: n(1024), StreamsInbound: n(512), StreamsOutbound: n(1024),
			Memory: b(64 << 20),
		},
		PeerDefault: perPeer,
		Conn:        rcmgr.ResourceLimits{Conns: 1, ConnsInbound: 1, ConnsOutbound: 1, FD: 1, Memory: b(l.PeerMemory)},
		Stream:      rcmgr.ResourceLimits{Streams: 1, StreamsInbound: 1, StreamsOutbound: 1, Memory: b(32 << 20)},
		// One protocol, and one peer in it, may use what the peer may use.
		ServiceDefault: anyStreams, ProtocolDefault: anyStreams,
		ServicePeerDefault: perPeer, ProtocolPeerDefault: perPeer,
	}.Build(rcmgr.DefaultLimits.Scale(l.Memory, l.Conns))
}

// manager makes the resource manager that holds a host to the limits.
func (l Limits) manager() (network.ResourceManager, error) {
	loop4, loop6 := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")
	perAddress := rate.Limit{RPS: l.SubnetRate, Burst: l.SubnetBurst}
	pace := &rate.Limiter{
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perAddress}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perAddress}},
			GracePeriod:      time.Minute,
		},
	}
	var free4, free6 []rcmgr.NetworkPrefixLimit
	if l.loopbackToo {
		free4, free6 = []rcmgr.NetworkPrefixLimit{}, []rcmgr.NetworkPrefixLimit{}
	} else {
		// Who is on this machine can do worse than connect, and several
		// devices on one machine are how people try the product out.
		free4 = []rcmgr.NetworkPrefixLimit{{Network: loop4, ConnCount: l.Conns}}
		free6 = []rcmgr.NetworkPrefixLimit{{Network: loop6, ConnCount: l.Conns}}
		pace.NetworkPrefixLimits = []rate.PrefixLimit{{Prefix: loop4}, {Prefix: loop6}}
	}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(l.config()),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: l.SubnetConns}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: l.SubnetConns}}),
		rcmgr.WithNetworkPrefixLimit(free4, free6),
		rcmgr.WithConnRateLimiters(pace),
		rcmgr.WithMetricsDisabled(),
	)
	if err != nil {
		return nil, fmt.Errorf("mesh: resource limits: %w", err)
	}
	return m, nil
}
