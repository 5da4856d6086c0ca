//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sheaf/node/api"
)

// A weather is what a line does to what goes over it, each way.
type weather struct {
	delay time.Duration // each way
	loss  float64       // of all packets, the part that is lost
	rate  int           // bits a second; 0 for as fast as it goes
}

// netem makes a cable such a line, by the kernel's own means (tc netem). It says no
// where the kernel has none.
func (w weather) netem(a, b *device) bool {
	args := []string{"netem", "delay", w.delay.String(), "limit", "10000"}
	if w.loss > 0 {
		args = append(args, "loss", fmt.Sprintf("%f%%", 100*w.loss))
	}
	if w.rate > 0 {
		args = append(args, "rate", fmt.Sprintf("%dbit", w.rate))
	}
	for _, d := range []*device{a, b} {
		tc := append([]string{"-n", d.netns, "qdisc", "add", "dev", "cable", "root"}, args...)
		if out, err := exec.Command("tc", tc...).CombinedOutput(); err != nil { //nolint:gosec // our own arguments
			d.t.Logf("no netem here (%s): the line is made in this process", strings.TrimSpace(string(out)))
			return false
		}
	}
	return true
}

// weathered gives two devices that are not started, each in a network of its own,
// with a line between them on which the weather is so. Where the kernel has netem,
// it is a cable with that; elsewhere two tunnels, whose packets this process
// carries, with the same delay, loss and rate.
func weathered(t *testing.T, w weather) (a, b *device) {
	t.Helper()
	a, b, _ = wired(t, "laptop", "phone")
	if !w.netem(a, b) {
		w.tunnel(t, a, b)
	}
	return a, b
}

// tunnel joins two network namespaces by a line in this process.
func (w weather) tunnel(t *testing.T, a, b *device) {
	t.Helper()
	ends := make([]*os.File, 2)
	for i, d := range []*device{a, b} {
		f, err := tun(d.netns, "line")
		if err != nil {
			t.Skipf("no tunnel can be made here, and the kernel has no netem: %v", err)
		}
		t.Cleanup(func() { _ = f.Close() })
		ends[i] = f
		ip(t, "-n", d.netns, "addr", "add", fmt.Sprintf("10.78.0.%d/24", i+1), "dev", "line")
		ip(t, "-n", d.netns, "link", "set", "line", "up")
		ip(t, "-n", d.netns, "link", "set", "cable", "down")
		d.listen = fmt.Sprintf("/ip4/10.78.0.%d/tcp/0", i+1)
	}
	var running sync.WaitGroup
	for i := range ends {
		running.Go(func() { w.carry(ends[i], ends[1-i]) })
	}
	t.Cleanup(func() { // before the ends are closed: last in, first out
		for _, f := range ends {
			_ = f.Close()
		}
		running.Wait()
	})
}

// carry brings packets from one end to the other until the ends are closed.
func (w weather) carry(from, to *os.File) {
	type packet struct {
		at   time.Time
		data []byte
	}
	queue := make(chan packet, 1000) // as a router has
	var sender sync.WaitGroup
	sender.Go(func() {
		for p := range queue {
			time.Sleep(time.Until(p.at)) // the way it has to go
			_, _ = to.Write(p.data)
		}
	})
	defer sender.Wait()
	defer close(queue)
	free := time.Now() // when the line can take the next one
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if rand.Float64() < w.loss { //nolint:gosec // weather
			continue
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		if w.rate > 0 {
			free = free.Add(time.Duration(n) * 8 * time.Second / time.Duration(w.rate))
		}
		select {
		case queue <- packet{free.Add(w.delay), append([]byte(nil), buf[:n]...)}:
		default: // the router's queue is full
		}
	}
}

// tun makes a tunnel's end in a network namespace: packets that go there come out
// of the file.
func tun(netns, name string) (*os.File, error) {
	type answer struct {
		f   *os.File
		err error
	}
	done := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() answer {
			ns, err := unix.Open("/run/netns/"+netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return answer{nil, err}
			}
			err = unix.Setns(ns, unix.CLONE_NEWNET)
			_ = unix.Close(ns)
			if err != nil {
				return answer{nil, err}
			}
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return answer{nil, err}
			}
			var request struct {
				name  [unix.IFNAMSIZ]byte
				flags uint16
				_     [22]byte
			}
			copy(request.name[:], name)
			request.flags = unix.IFF_TUN | unix.IFF_NO_PI
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 { //nolint:gosec // the way to ask for it
				_ = unix.Close(fd)
				return answer{nil, errno}
			}
			return answer{os.NewFile(uintptr(fd), "tun"), nil}
		}()
	}()
	got := <-done
	return got.f, got.err
}

// overLine starts two devices over a line, has both change some, and demands that
// they end alike, and how much it takes at the most.
func overLine(t *testing.T, w weather, bigger int, most time.Duration) {
	rnd := seeded(t)
	a, b := weathered(t, w)
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.fill(rnd, 40)
	must(t, os.WriteFile(a.path("big"), bytesOf(rnd, bigger), 0o600))
	a.up()
	b.join(a)
	b.up()
	b.connected(a)
	began := time.Now()
	alikeWithin(t, most, a, b)
	took := time.Since(began)
	t.Logf("first sync: %s, there and back %.0f ms", took.Round(time.Millisecond), b.status().Peers[0].RTT)
	// The line must be such a line, or the test shows nothing.
	if rtt := b.status().Peers[0].RTT; rtt < float64(2*w.delay.Milliseconds())*0.9 {
		t.Errorf("there and back takes %.1f ms on a line of %s each way", rtt, w.delay)
	}
	if w.rate > 0 && took < time.Duration(float64(bigger)*8/float64(w.rate)*0.9*float64(time.Second)) {
		t.Errorf("%d bytes came in %s over a line of %d bits a second", bigger, took, w.rate)
	}
	began = time.Now()
	b.put("small", "by the other")
	b.do(".", "mv d01 renamed")
	must(t, os.Remove(a.path("d02/e2/file-00002")))
	conflicting := "edited at the same time"
	a.put(conflicting, "on the one")
	b.put(conflicting, "on the other")
	end := alikeWithin(t, most, a, b)
	t.Logf("changes of both: %s", time.Since(began).Round(time.Millisecond))
	if files(end) != 40+1+1-1+2 || a.get("small") != "by the other" || !a.has("renamed") {
		t.Errorf("there is %s", show(below(end, "renamed")))
	}
	clean(t, a)
	clean(t, b)
}

// 200 ms there and back and every thirty-third packet lost, each way.
func TestLineWithDelayAndLoss(t *testing.T) {
	t.Parallel()
	overLine(t, weather{delay: 100 * time.Millisecond, loss: 0.03}, sized(1, 8)<<20, 5*patience())
}

// A line of 1 Mbit/s, with the 20 ms that such a line has.
func TestLineOfOneMegabit(t *testing.T) {
	t.Parallel()
	overLine(t, weather{delay: 10 * time.Millisecond, rate: 1_000_000}, sized(1, 8)<<20, 5*patience())
}

// transferring gives two devices on a cable with a big file on its way, some of
// which has arrived.
func transferring(t *testing.T) (a, b *device, c *cable, size int64) {
	t.Helper()
	rnd := seeded(t)
	a, b, c = wired(t, "laptop", "phone")
	for _, d := range []*device{a, b} {
		d.listen = "/ip4/0.0.0.0/tcp/0"
	}
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	b.run("config", "set", "limits.download", "4MiB")
	b.up()
	b.connected(a)
	a.fill(rnd, 100)
	alike(t, a, b)
	size = 24 << 20
	must(t, os.WriteFile(a.path("big"), bytesOf(rnd, int(size)), 0o600))
	until(t, "it is on its way", func() bool { return b.received() > 4<<20 })
	return a, b, c, size
}

// arrives demands that the transfer goes on to its end, without the most of it
// coming twice.
func arrives(t *testing.T, a, b *device, size int64) {
	t.Helper()
	b.run("config", "set", "limits.download", "0")
	alikeWithin(t, 3*patience(), a, b)
	if got := b.received(); got > size*3/2 {
		t.Errorf("%d bytes were received for %d", got, size)
	}
	untouched(t, a, b)
}

// seen tells whether a device counts another as connected.
func (d *device) seen(other *device) bool {
	for _, p := range ask[api.Status](d, "status").Peers {
		if p.Name == other.name {
			return p.Connected
		}
	}
	return false
}

// The link goes down and up during a transfer: for a moment, in which the
// connection lives on; and for so long that both count the other as gone.
func TestLinkDownAndUp(t *testing.T) {
	t.Parallel()
	a, b, cable, size := transferring(t)
	for range 3 {
		before := b.received()
		cable.cut()
		cable.mended()
		until(t, "it goes on", func() bool { n := b.received(); return n > before+256<<10 })
	}
	cable.cut()
	within(t, 3*patience(), "each counts the other as gone", func() bool { return !a.seen(b) && !b.seen(a) })
	a.put("meanwhile", "by the one")
	b.put("meanwhile2", "by the other")
	cable.mended()
	within(t, 3*patience(), "they find each other", func() bool { return a.seen(b) && b.seen(a) })
	arrives(t, a, b, size)
	if b.get("meanwhile") != "by the one" || a.get("meanwhile2") != "by the other" {
		t.Error("what was done while the link was down did not arrive")
	}
}

// The address of one side changes in mid-transfer, as when a laptop goes to another
// network: the other is found under its own, and the transfer goes on.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	for i, name := range []string{"of the one that sends", "of the one that receives"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, _, size := transferring(t)
			d := []*device{a, b}[i]
			before := b.received()
			ip(t, "-n", d.netns, "addr", "del", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "cable") // and with it all of that network
			ip(t, "-n", d.netns, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+11), "dev", "cable")
			began := time.Now()
			within(t, 3*patience(), "it goes on", func() bool { return b.received() > before+2<<20 })
			t.Logf("it went on after %s", time.Since(began).Round(time.Millisecond))
			arrives(t, a, b, size)
			address := netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 11)}) //nolint:gosec // small
			if out := d.run("address"); !strings.Contains(out, address.String()) {
				t.Errorf("its address is not %s: %s", address, out)
			}
		})
	}
}
