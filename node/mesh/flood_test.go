package mesh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
)

// floodTarget is set in the process that floods: two full addresses, TCP and
// QUIC, separated by a space.
const floodTarget = "SHEAF_MESH_TEST_FLOOD"

// What the flood is made of. All of it goes to this machine, and ends.
const (
	floodConnects   = 10_000 // TCP connections; every fourth says rubbish, every tenth stays
	floodHandshakes = 200    // strangers with keys, half by TCP, half by QUIC; once in the crowd, once after it
	floodPackets    = 10_000 // UDP packets of rubbish
	floodFor        = 15 * time.Second
)

// TestFlood: ten thousand connection attempts and two hundred strangers from
// another process leave a member's session alone, and memory and goroutines
// within bounds (N8).
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	a, b := pair(t)
	mustEcho(t, a.Mesh, b.ID())
	debug.FreeOSMemory()
	before, goroutines := residentMiB(), runtime.NumGoroutine()

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*floodFor)
	defer cancel()
	flood := exec.CommandContext(ctx, self)
	flood.Env = append(os.Environ(), floodTarget+"="+b.addr("tcp")+" "+b.addr("udp"))
	var report strings.Builder
	flood.Stdout, flood.Stderr = &report, &report
	if err := flood.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- flood.Wait() }()

	var peak, slowest, most, conns = 0, time.Duration(0), 0, 0
	echoes := 0
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the flood failed: %v\n%s", err, report.String())
			}
			running = false
		default:
			begin := time.Now()
			mustEcho(t, a.Mesh, b.ID())
			slowest = max(slowest, time.Since(begin))
			peak, most = max(peak, residentMiB()), max(most, runtime.NumGoroutine())
			conns = max(conns, len(b.host.Network().Conns()))
			echoes++
		}
	}
	t.Logf("%s; %d echoes meanwhile, slowest %v; resident %d MiB, at most %d; goroutines %d, at most %d; connections at most %d",
		strings.TrimSpace(report.String()), echoes, slowest, before, peak, goroutines, most, conns)
	if !raceDetector && peak-before > 96 {
		t.Errorf("resident memory grew by %d MiB", peak-before)
	}
	if slowest > 3*time.Second {
		t.Errorf("an echo took %v", slowest)
	}
	if most-goroutines > 3000 {
		t.Errorf("goroutines grew by %d", most-goroutines)
	}
	if conns > 3 {
		t.Errorf("%d connections admitted", conns)
	}
	eventually(t, "goroutines end", func() bool { return runtime.NumGoroutine() < goroutines+20 })
	eventually(t, "every connection given back", func() bool {
		var left, half int
		rm := b.host.Network().ResourceManager()
		err := errors.Join(
			rm.ViewTransient(func(s network.ResourceScope) error { half = s.Stat().NumConnsInbound; return nil }),
			rm.ViewSystem(func(s network.ResourceScope) error { left = s.Stat().NumConnsInbound; return nil }))
		return err == nil && half == 0 && left == 1
	})
	if p := b.peer(a); !p.Connected {
		t.Error("the member's session did not survive")
	}
	b.Mesh.mu.Lock()
	defer b.Mesh.mu.Unlock()
	if len(b.Mesh.peers) != 1 {
		t.Errorf("%d peers on record, want 1", len(b.Mesh.peers))
	}
}

// runFlood is the other process.
func runFlood(target string) error {
	tcpAddr, quicAddr, _ := strings.Cut(target, " ")
	ctx, cancel := context.WithTimeout(context.Background(), floodFor)
	defer cancel()
	hostPort := func(full string) string {
		part := strings.Split(full, "/")
		return net.JoinHostPort(part[2], part[4])
	}
	if !strings.HasPrefix(tcpAddr, "/ip4/127.0.0.1/") || !strings.HasPrefix(quicAddr, "/ip4/127.0.0.1/") {
		return fmt.Errorf("refusing to flood %s", target)
	}
	var opened, failed, secured, packets atomic.Int64
	var parts sync.WaitGroup
	var mu sync.Mutex
	var held []net.Conn

	jobs := make(chan int)
	for range 100 {
		parts.Go(func() {
			for i := range jobs {
				c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", hostPort(tcpAddr))
				if err != nil {
					failed.Add(1)
					continue
				}
				opened.Add(1)
				if i%4 == 0 {
					_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
				}
				if i%10 == 0 {
					mu.Lock()
					if len(held) < 500 {
						held, c = append(held, c), nil
					}
					mu.Unlock()
				}
				if c != nil {
					_ = c.Close()
				}
			}
		})
	}
	parts.Go(func() {
		defer close(jobs)
		for i := range floodConnects {
			select {
			case jobs <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	parts.Go(func() {
		c, err := net.Dial("udp", hostPort(quicAddr))
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		// An Initial packet by its header (RFC 9000, section 17.2.2), rubbish
		// by its content: the listener sets up a connection to find out.
		junk := make([]byte, 1200)
		copy(junk, []byte{0xc3, 0, 0, 0, 1, 8, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 0x44, 0x9e})
		for i := range floodPackets {
			junk[6], junk[7] = byte(i), byte(i>>8)
			if _, err := c.Write(junk); err == nil && ctx.Err() == nil {
				packets.Add(1)
			}
		}
	})
	strangers := func() {
		var dials sync.WaitGroup
		defer dials.Wait()
		for w := range 4 {
			dials.Go(func() {
				for i := range floodHandshakes / 4 {
					if ctx.Err() != nil {
						return
					}
					if err := strangerDial(ctx, []string{tcpAddr, quicAddr}[(i+w)%2]); err == nil {
						secured.Add(1)
					}
				}
			})
		}
	}
	parts.Go(strangers)
	parts.Wait()
	for _, c := range held {
		_ = c.Close()
	}
	strangers() // and when there is room for them
	fmt.Printf("flood: %d TCP connections (%d failed, %d held), %d of %d handshakes, %d UDP packets\n",
		opened.Load(), failed.Load(), len(held), secured.Load(), 2*floodHandshakes, packets.Load())
	return nil
}

// strangerDial dials with a new key and waits to be thrown out.
func strangerDial(ctx context.Context, addr string) error {
	all := &gate{allowed: func(DeviceID) bool { return true }, joining: func() bool { return true }, asked: map[peer.ID]int{}}
	h, err := newHost(newKey(&testing.T{}), Limits{}.withDefaults(), all)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	h.Start()
	info, err := peer.AddrInfoFromString(addr)
	if err != nil {
		return err
	}
	h.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := h.swarm.DialPeer(ctx, info.ID)
	if err != nil {
		return err
	}
	_, err = openOn(ctx, c, identifyID)
	if err == nil {
		return errors.New("got a stream")
	}
	_ = c.CloseWithError(network.ConnNoError)
	return nil
}

const identifyID = "/ipfs/id/1.0.0"

// residentMiB is the resident memory of this process where the system tells,
// else what Go has from the system.
func residentMiB() int {
	if f, err := os.Open("/proc/self/status"); err == nil {
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			if kb, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
				n, _ := strconv.Atoi(strings.Fields(kb)[0])
				return n / 1024
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.Sys >> 20)
}

// Connections from one address are bounded in number and in pace.
func TestOneAddressIsBounded(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*Limits){
		"number": func(l *Limits) { l.SubnetConns = 2 },
		"pace":   func(l *Limits) { l.SubnetBurst, l.SubnetRate = 2, 0.001 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, func(c *Config) {
				c.Limits.loopbackToo = true
				edit(&c.Limits)
			})
			b.edit(func() { b.joining = true })
			for i := range 4 {
				a := start(t)
				_, err := a.Connect(within(t, 10*time.Second), b.addr("tcp"))
				if i < 2 && err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				if i >= 2 && !errors.Is(err, ErrUnreachable) {
					t.Errorf("connection %d: %v, want ErrUnreachable", i, err)
				}
			}
		})
	}
}

// As many idle streams as a peer may have cost little, one more is refused by
// a typed error, and those there are go on working (N9).
func TestIdleStreams(t *testing.T) {
	a, b := pair(t, func(c *Config) { c.Timing.Hello = 5 * time.Second })
	b.Handle("/test/idle/1", func(ctx context.Context, _ DeviceID, s Stream) {
		if _, err := s.Read(make([]byte, 1)); err == nil {
			_, _ = s.Write([]byte{1})
			_ = s.Close()
		}
	})
	const bulk = 480
	debug.FreeOSMemory()
	before := residentMiB()
	var all []Stream
	var err error
	for range 600 {
		var s Stream
		if s, err = a.Open(within(t, 20*time.Second), b.ID(), "/test/idle/1"); err != nil {
			break
		}
		all = append(all, s)
	}
	grown := residentMiB() - before
	t.Logf("%d idle streams, both ends: %d MiB", len(all), grown)
	if len(all) < bulk || len(all) > 512 {
		t.Errorf("%d streams, want about 512", len(all))
	}
	if !errors.Is(err, ErrLimit) && !errors.Is(err, ErrRefused) {
		t.Errorf("one stream too many: %v, want ErrLimit or ErrRefused", err)
	}
	if !raceDetector && grown > 48 {
		t.Errorf("%d idle streams cost %d MiB", len(all), grown)
	}
	for i, s := range all {
		if _, err := s.Write([]byte{1}); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		_ = s.Close()
	}
	eventually(t, "streams given back", func() bool { return tryEcho(t, a.Mesh, b.ID()) == nil })
}
