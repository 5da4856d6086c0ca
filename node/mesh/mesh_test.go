package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(floodTarget); target != "" {
		if err := runFlood(target); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// Protocols of the tests.
const (
	echoProto = "/test/echo/1"
	joinProto = "/sheaf/join/1"
)

// A device is a Mesh with a world of its own that a test can change.
type device struct {
	*Mesh
	t   *testing.T
	key ed25519.PrivateKey

	mu      sync.Mutex
	allowed map[DeviceID]bool
	known   []DeviceID
	joining bool
	book    map[DeviceID][]string

	cancel context.CancelFunc
	ended  chan error
}

var (
	tcpOnly  = []string{"/ip4/127.0.0.1/tcp/0"}
	bothKind = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// idOf is the device of a key.
func idOf(key ed25519.PrivateKey) (id DeviceID) {
	copy(id[:], key.Public().(ed25519.PublicKey))
	return id
}

// fast is a Timing for tests that wait for something to happen by itself.
func fast() Timing {
	return Timing{BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond, Poll: 50 * time.Millisecond, Dial: 5 * time.Second, Hello: 5 * time.Second}
}

// newDevice makes a device that does not run yet.
func newDevice(t *testing.T, edit ...func(*Config)) *device {
	t.Helper()
	d := &device{t: t, allowed: map[DeviceID]bool{}, book: map[DeviceID][]string{}}
	cfg := Config{
		Key:    newKey(t),
		Listen: bothKind,
		Allowed: func(id DeviceID) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.allowed[id]
		},
		Joining: func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.joining
		},
		GuestProtocols: []string{joinProto},
		Known: func() []DeviceID {
			d.mu.Lock()
			defer d.mu.Unlock()
			return slices.Clone(d.known)
		},
		Book: d,
	}
	for _, e := range edit {
		e(&cfg)
	}
	d.key = cfg.Key
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d.Mesh = m
	t.Cleanup(func() { _ = m.Close() })
	return d
}

// start makes a device that runs and echoes until the test ends.
func start(t *testing.T, edit ...func(*Config)) *device {
	t.Helper()
	d := newDevice(t, edit...)
	d.Handle(echoProto, echo)
	d.run()
	return d
}

func (d *device) run() {
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.ended = cancel, make(chan error, 1)
	go func() { d.ended <- d.Run(ctx) }()
	d.t.Cleanup(d.stop)
}

// stop ends the device and waits for it. It may be called again.
func (d *device) stop() {
	d.cancel()
	if err, ok := <-d.ended; ok {
		close(d.ended)
		if err != nil {
			d.t.Errorf("Run: %v", err)
		}
	}
}

func (d *device) edit(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *device) admit(others ...*device) {
	d.edit(func() {
		for _, o := range others {
			d.allowed[o.ID()] = true
		}
	})
}

func (d *device) expel(o *device) { d.edit(func() { delete(d.allowed, o.ID()) }) }

// keep makes others members that are kept connected.
func (d *device) keepUp(others ...*device) {
	d.admit(others...)
	d.edit(func() {
		for _, o := range others {
			d.known = append(d.known, o.ID())
		}
	})
}

// Addresses and Remember make the device its own address book; the Mesh's
// method of the same name is called own.
func (d *device) own() []string { return d.Mesh.Addresses() }

func (d *device) Addresses(id DeviceID) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.book[id])
}

func (d *device) Remember(id DeviceID, addrs []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.book[id] = slices.Clone(addrs)
}

func (d *device) books() map[DeviceID][]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.book)
}

// addr gives the own address of a kind ("tcp", "udp").
func (d *device) addr(kind string) string {
	d.t.Helper()
	for _, a := range d.own() {
		if strings.Contains(a, "/"+kind+"/") {
			return a
		}
	}
	d.t.Fatalf("no %s address among %v", kind, d.own())
	return ""
}

func (d *device) peer(o *device) Peer {
	for _, p := range d.Peers() {
		if p.ID == o.ID() {
			return p
		}
	}
	return Peer{}
}

func echo(_ context.Context, _ DeviceID, s Stream) {
	if _, err := io.Copy(s, s); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok, looking often: the events it waits for are those
// of another process's kernel.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("never: %s", what)
		}
	}
}

// mustEcho sends random bytes to peer and back.
func mustEcho(t testing.TB, from *Mesh, to DeviceID) {
	t.Helper()
	if err := tryEcho(t, from, to); err != nil {
		t.Fatal(err)
	}
}

func tryEcho(t testing.TB, from *Mesh, to DeviceID) error {
	t.Helper()
	s, err := from.Open(within(t, 10*time.Second), to, echoProto)
	if err != nil {
		return err
	}
	sent := make([]byte, 1+rand.IntN(100_000))
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	go func() {
		_, _ = s.Write(sent)
		_ = s.CloseWrite()
	}()
	got, err := io.ReadAll(s)
	if err == nil && !bytes.Equal(got, sent) {
		err = errors.New("echo differs")
	}
	return errors.Join(err, s.Close())
}

// pair is two devices that are members of each other, a connected to b.
func pair(t *testing.T, edit ...func(*Config)) (a, b *device) {
	t.Helper()
	a, b = start(t, edit...), start(t, edit...)
	a.admit(b)
	b.admit(a)
	if _, err := a.Connect(within(t, 10*time.Second), b.addr("tcp")); err != nil {
		t.Fatal(err)
	}
	return a, b
}

func listenAt(addrs []string) func(*Config) { return func(c *Config) { c.Listen = addrs } }
func timing(t Timing) func(*Config)         { return func(c *Config) { c.Timing = t } }

func TestConnectAndEcho(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"tcp", "udp"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a, b := start(t), start(t)
			a.admit(b)
			b.admit(a)
			id, err := a.Connect(within(t, 10*time.Second), b.addr(kind))
			if err != nil {
				t.Fatal(err)
			}
			if id != b.ID() {
				t.Fatalf("connected to %x, want %x", id, b.ID())
			}
			mustEcho(t, a.Mesh, b.ID())
			mustEcho(t, b.Mesh, a.ID())
			p := a.peer(b)
			want := map[string]string{"tcp": "tcp+tls", "udp": "quic"}[kind]
			if !p.Connected || p.Transport != want || p.Path != PathLAN || p.RTT <= 0 || p.RTT > time.Second || p.Since.IsZero() {
				t.Errorf("peer: %+v, want connected by %s", p, want)
			}
			if q := b.peer(a); !q.Connected {
				t.Errorf("b does not count a as connected: %+v", q)
			}
			eventually(t, "a round trip measured by who was dialled", func() bool { return b.peer(a).RTT > 0 })
			// Both know each other's addresses now, of both kinds, though only
			// a dialled and only one kind.
			for _, x := range []struct{ at, of *device }{{a, b}, {b, a}} {
				eventually(t, "addresses of both kinds in the book", func() bool {
					book := x.at.Addresses(x.of.ID())
					return slices.ContainsFunc(book, func(s string) bool { return strings.Contains(s, "/tcp/") }) &&
						slices.ContainsFunc(book, func(s string) bool { return strings.Contains(s, "/quic-v1") }) &&
						!slices.ContainsFunc(book, func(s string) bool { return strings.Contains(s, "/p2p/") })
				})
			}
			if got := strings.Split(a.Addresses(b.ID())[0], "/p2p/")[0]; got != strings.Split(b.addr(kind), "/p2p/")[0] {
				t.Errorf("first in the book is %s, want the address that worked", got)
			}
		})
	}
}
