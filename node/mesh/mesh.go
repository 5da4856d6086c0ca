package mesh

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multistream"
)

// An AddressBook keeps addresses across restarts. Both methods are called from
// several goroutines, and never from within one another; they should return
// quickly.
type AddressBook interface {
	// Addresses gives the multiaddrs remembered for a device, the best first.
	Addresses(DeviceID) []string
	// Remember puts addrs in the place of what was remembered for a device:
	// at most 16, without /p2p/ part.
	Remember(id DeviceID, addrs []string)
}

// Config is what a Mesh needs. Only Key and Allowed are required. The
// functions are called from many goroutines and must neither block nor call
// the Mesh.
type Config struct {
	Key    ed25519.PrivateKey // the device's identity
	Listen []string           // multiaddrs; default [DefaultListen]

	MDNS bool // look for devices on the local network, and let them look
	// Services gives the names to do so under, one for each group of devices:
	// opaque and best rotating, since everybody on the network sees them
	// ("_k3f9w1x._udp"). Asked again by Refresh and every Timing.Rediscover.
	Services func() []string

	Allowed func(DeviceID) bool // who is a member: asked at each connection and stream
	Joining func() bool         // whether an invite is open; default never
	// GuestProtocols are what may be opened to and by guests: the one for which this
	// device invites them, or for which it comes to another as one.
	GuestProtocols []string
	Known          func() []DeviceID // whom to keep connected; default nobody
	Book           AddressBook       // default: nothing is remembered

	Limits Limits
	Timing Timing
	Log    *slog.Logger     // default: nothing is logged
	Now    func() time.Time // default time.Now
	Rand   func() float64   // [0, 1), for jitter; default math/rand
}

// Timing holds how long things may take and how often they happen. The zero
// value of a field means its default.
type Timing struct {
	BackoffMin time.Duration // first wait before dialling a peer again (1 s)
	BackoffMax time.Duration // longest (2 min)
	Dial       time.Duration // one dial, all addresses (20 s)
	Hello      time.Duration // a hello, or the acceptance of a stream (10 s)
	Poll       time.Duration // looking for changes of the network and idle guests (5 s)
	Probe      time.Duration // measuring round trips (1 min)
	GuestIdle  time.Duration // a guest without a stream (30 s); also a surplus connection
	GuestMax   time.Duration // a guest at all (10 min)
	Stop       time.Duration // the end of Run (5 s)
	Rediscover time.Duration // asking Services again (1 min)
}

func (t Timing) withDefaults() Timing {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&t.BackoffMin, time.Second)
	def(&t.BackoffMax, 2*time.Minute)
	def(&t.Dial, 20*time.Second)
	def(&t.Hello, 10*time.Second)
	def(&t.Poll, 5*time.Second)
	def(&t.Probe, time.Minute)
	def(&t.GuestIdle, 30*time.Second)
	def(&t.GuestMax, 10*time.Minute)
	def(&t.Stop, 5*time.Second)
	def(&t.Rediscover, time.Minute)
	return t
}

// DefaultListen is every interface, TCP and QUIC, ports chosen by the system.
func DefaultListen() []string {
	return []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"}
}

// A Mesh is this device in the network. All methods are safe for concurrent
// use.
type Mesh struct {
	cfg  Config
	log  *slog.Logger
	self DeviceID
	gate *gate
	host *host
	keep *keeper

	memberStreams network.StreamHandler // libp2p's own, behind our door
	guestMux      *multistream.MultistreamMuxer[protocol.ID]

	ctx        context.Context // ends when the mesh stops
	cancel     context.CancelFunc
	started    chan struct{}
	wake       chan struct{}
	rediscover chan struct{}
	startOnce  sync.Once
	stopOnce   sync.Once
	stopErr    error
	work       sync.WaitGroup // everything that must end before Run does

	bookMu sync.Mutex // holds reading and writing the book together

	mu       sync.Mutex
	stopping bool
	peers    map[DeviceID]*peerState
	subs     map[*Subscription]struct{}
}

// New makes a Mesh and listens. Streams of peers wait until Run, so that
// handlers can be registered in between. A Mesh whose Run is not called must be
// closed by Close. It fails when the key is no Ed25519 key, an address is
// malformed, or none of them can be listened at; one of several that fails is
// logged as a warning.
func New(cfg Config) (*Mesh, error) {
	if len(cfg.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("mesh: the device key is not an Ed25519 private key")
	}
	if cfg.Allowed == nil {
		return nil, errors.New("mesh: Config.Allowed is missing")
	}
	cfg = withDefaults(cfg)
	listen := make([]ma.Multiaddr, len(cfg.Listen))
	for i, text := range cfg.Listen {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("mesh: listen address %.200q: %w: %w", text, ErrBadAddress, err)
		}
		listen[i] = a
	}
	m := &Mesh{
		cfg:        cfg,
		log:        cfg.Log,
		keep:       newKeeper(cfg.Timing.BackoffMin, cfg.Timing.BackoffMax, cfg.Rand),
		guestMux:   multistream.NewMultistreamMuxer[protocol.ID](),
		started:    make(chan struct{}),
		wake:       make(chan struct{}, 1),
		rediscover: make(chan struct{}, 1),
		peers:      make(map[DeviceID]*peerState),
		subs:       make(map[*Subscription]struct{}),
	}
	copy(m.self[:], cfg.Key.Public().(ed25519.PublicKey))
	m.gate = &gate{allowed: cfg.Allowed, joining: cfg.Joining, guests: m.countGuests, limit: cfg.Limits.Guests, asked: make(map[peer.ID]int)}
	h, err := newHost(cfg.Key, cfg.Limits, m.gate)
	if err != nil {
		return nil, err
	}
	m.host = h
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.memberStreams = h.swarm.StreamHandler()
	h.Network().SetStreamHandler(m.accept)
	h.Network().Notify(m.notifiee())
	h.SetStreamHandler(helloProtocol, m.serveHello)
	m.guestMux.AddHandler(helloProtocol, func(_ protocol.ID, rwc io.ReadWriteCloser) error {
		m.serveHello(rwc.(network.Stream))
		return nil
	})
	h.Start()
	if err := m.listen(listen); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

func withDefaults(cfg Config) Config {
	if len(cfg.Listen) == 0 {
		cfg.Listen = DefaultListen()
	}
	if cfg.Services == nil {
		cfg.Services = func() []string { return nil }
	}
	if cfg.Joining == nil {
		cfg.Joining = func() bool { return false }
	}
	if cfg.Known == nil {
		cfg.Known = func() []DeviceID { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Float64
	}
	cfg.Log = cfg.Log.With("component", "mesh")
	cfg.Timing = cfg.Timing.withDefaults()
	cfg.Limits = cfg.Limits.withDefaults()
	return cfg
}

func (m *Mesh) listen(addrs []ma.Multiaddr) error {
	var errs []error
	for _, a := range addrs {
		if err := m.host.swarm.AddListenAddr(a); err != nil {
			errs = append(errs, fmt.Errorf("mesh: listen at %s: %w", a, err))
		}
	}
	if len(errs) == len(addrs) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		m.log.Warn("not listening at one of the addresses", "error", err)
	}
	return nil
}

// ID is this device.
func (m *Mesh) ID() DeviceID { return m.self }

// Addresses gives where this device can be dialled as far as it knows itself,
// with /p2p/ part, those of this machine alone last: what to put into an
// invite, or to pass to Connect.
func (m *Mesh) Addresses() []string {
	var out, loopback []string
	for _, a := range m.listening() {
		text := a.String() + "/p2p/" + PeerID(m.self)
		if ip, ok := ipOf(a); ok && ip.IsLoopback() {
			loopback = append(loopback, text)
		} else {
			out = append(out, text)
		}
	}
	return append(out, loopback...)
}

// Run keeps the device connected until ctx ends (or Close is called), and then
// ends everything: connections, handlers, subscriptions. It returns nil after
// an orderly end, and an error when something was still running Timing.Stop
// later (a handler that does not heed its context). It can be called once.
func (m *Mesh) Run(ctx context.Context) error {
	first := false
	m.startOnce.Do(func() { first = true })
	if !first {
		return errors.New("mesh: Run called twice")
	}
	ctx, cancel := m.joined(ctx)
	defer cancel()
	m.spawn(func() { m.loop(ctx) })
	if m.cfg.MDNS {
		m.spawn(func() { m.discover(ctx, m.newMDNS) })
	}
	close(m.started)
	<-ctx.Done()
	return m.Close()
}

// Close ends the mesh as the end of Run's context does. It may be called more
// than once.
func (m *Mesh) Close() error {
	m.stopOnce.Do(func() { m.stopErr = m.stop() })
	return m.stopErr
}

func (m *Mesh) stop() error {
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	m.cancel()
	done := make(chan error, 1)
	go func() {
		err := m.host.Close()
		m.work.Wait()
		done <- err
	}()
	late := time.NewTimer(m.cfg.Timing.Stop)
	defer late.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("mesh: stop: %w", err)
		}
		return nil
	case <-late.C:
		return fmt.Errorf("mesh: stop: a handler is still running after %v", m.cfg.Timing.Stop)
	}
}

// enter counts the caller as work that the end must wait for. It fails once
// the end has begun; otherwise the caller must call m.work.Done.
func (m *Mesh) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return false
	}
	m.work.Add(1)
	return true
}

// spawn runs f in a goroutine that the end waits for, unless it has begun.
func (m *Mesh) spawn(f func()) {
	if !m.enter() {
		return
	}
	go func() {
		defer m.work.Done()
		f()
	}()
}
