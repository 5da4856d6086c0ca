//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A cable joins two devices that have networks of their own, and can be cut.
type cable struct {
	t   *testing.T
	end string // the network namespace of one end, in which the cut is made
}

var cables atomic.Int32

// wired gives two devices that are not started, each in a network namespace of
// its own, joined by a cable. It skips the test where it may not make those.
func wired(t *testing.T, name1, name2 string) (a, b *device, c *cable) {
	t.Helper()
	a, b = newDevice(t, name1), newDevice(t, name2)
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need iproute2")
	}
	stem := fmt.Sprintf("sheaf-%d-%d", os.Getpid(), cables.Add(1))
	for i, d := range []*device{a, b} {
		d.netns = fmt.Sprintf("%s-%d", stem, i)
		if out, err := exec.Command("ip", "netns", "add", d.netns).CombinedOutput(); err != nil {
			t.Skipf("network namespaces cannot be made here: %s", out)
		}
		t.Cleanup(func() {
			d.kill()
			ip(t, "netns", "del", d.netns)
		})
		d.listen = fmt.Sprintf("/ip4/10.77.0.%d/tcp/0", i+1)
	}
	ip(t, "link", "add", "cable", "netns", a.netns, "type", "veth", "peer", "name", "cable", "netns", b.netns)
	for i, d := range []*device{a, b} {
		ip(t, "-n", d.netns, "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "cable")
		ip(t, "-n", d.netns, "link", "set", "lo", "up")
		ip(t, "-n", d.netns, "link", "set", "cable", "up")
	}
	return a, b, &cable{t, a.netns}
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (c *cable) cut()    { ip(c.t, "-n", c.end, "link", "set", "cable", "down") }
func (c *cable) mended() { ip(c.t, "-n", c.end, "link", "set", "cable", "up") }

// startIn starts a command in a network namespace: of the thread that starts it,
// which is not used again.
func startIn(netns string, c *exec.Cmd) error {
	if netns == "" {
		return c.Start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = c.Start()
		}
		done <- err
	}()
	return <-done
}

// The whole table through two running processes while the network between them
// is cut.
func TestTableNetworkCut(t *testing.T) {
	t.Parallel()
	list := readHistories(t, "testdata/histories/table.txt")
	a, b, cable := wired(t, "laptop", "phone")
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	b.up()
	b.connected(a)
	startAll(list, a)
	settle(t, a, b)
	cable.cut()
	apart(list, a, b)
	for _, d := range []*device{a, b} {
		// Each has seen and recorded all its own.
		until(t, d.name+" has looked at its disk", func() bool { s := d.status().State; return s == "idle" })
	}
	cable.mended()
	settle(t, a, b)
	checkAll(t, list, a, b)
}
