//go:build linux && amd64

package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"sheaf/node/api"
)

// clockOf gives the time of day as a running device has it.
func (d *device) clockOf() time.Time {
	d.t.Helper()
	for _, c := range ask[[]api.Check](d, "doctor") {
		if c.Name == "clock" {
			for _, word := range strings.Fields(c.What) {
				if at, err := time.Parse(time.RFC3339, word); err == nil {
					return at
				}
			}
		}
	}
	d.t.Fatal("doctor does not give the time")
	return time.Time{}
}

const year = 365 * 24 * time.Hour

// P12: the clock of one side is set back a day and forward ten years while it runs.
// Nothing depends on it but the times that people are shown: edits of both arrive
// in the order in which people saw them, an edit that has seen another is newer
// whatever the clocks say, conflicts keep both, and nothing in the trash is thrown
// away before its time by the clock as it was.
func TestClockSetWhileItRuns(t *testing.T) {
	t.Parallel()
	a, b := first(t, "laptop"), newDevice(t, "phone")
	clock := misset(t, b, 0)
	b.join(a)
	b.up()
	b.connected(a)
	a.put("file", "first")
	name := "moved"
	a.put(name, "content of what is moved")
	a.put("trashed", "to be trashed")
	alike(t, a, b)
	must(t, os.Remove(a.path("trashed")))
	alike(t, a, b)
	for round, offset := range []time.Duration{-24 * time.Hour, 10 * year} {
		must(t, clock.set(offset))
		until(t, "its clock is set", func() bool {
			d := time.Until(b.clockOf()) - offset
			return d > -time.Minute && d < time.Minute
		})
		for i, d := range []*device{b, a, b} { // each has seen what the last one did
			want := fmt.Sprintf("round %d, edit %d, by %s", round, i, d.name)
			d.put("file", want)
			d.put(fmt.Sprintf("new %d %d", round, i), want)
			// What is decided by who is later, where nothing else decides.
			moved, mode := fmt.Sprintf("moved %d %d", round, i), os.FileMode(0o600+i)
			must(t, os.Rename(d.path(name), d.path(moved)))
			must(t, os.Chmod(d.path(moved), mode))
			name = moved
			end := alike(t, a, b)
			if want := fmt.Sprintf(" %04o ", mode); !strings.Contains(end[moved], want) {
				t.Fatalf("clock %s: what was renamed and changed last is not: %s", offset, show(a.tree(".")))
			}
			if a.get("file") != want || b.get("file") != want {
				t.Fatalf("clock %s: the file is %q and %q, should be %q", offset, a.get("file"), b.get("file"), want)
			}
		}
		must(t, os.Remove(b.path(fmt.Sprintf("new %d 0", round))))
		must(t, os.Remove(a.path(fmt.Sprintf("new %d 1", round))))
		if end := alike(t, a, b); files(end) != 3+round {
			t.Errorf("clock %s: there is %s", offset, show(b.tree(".")))
		}
		// They meet anew, the one begun by this clock, the other by that.
		a.down()
		a.up()
		a.connected(b)
		a.put("file", "met anew")
		b.put("file2", "met anew")
		if end := alike(t, a, b); b.get("file") != "met anew" || a.get("file2") != "met anew" {
			t.Fatalf("clock %s: after they met anew there is %s", offset, show(end))
		}
		must(t, os.Remove(b.path("file2")))
		alike(t, a, b)
	}
	must(t, clock.set(-24*time.Hour))
	conflict(t, a, b, "both")
	if in := trashed(b); in["/Sync/trashed"] != 1 {
		t.Errorf("what was deleted before is no longer in the trash: %v", in)
	}
}

// wrong gives how wrong a clock can be.
func wrong() map[string]time.Duration {
	return map[string]time.Duration{
		"half an hour ahead": time.Hour / 2,
		"a day behind":       -24 * time.Hour,
		"ten years ahead":    10 * year,
		"new year 1970":      time.Until(time.Unix(0, 0)), // without its battery
	}
}

// A device whose clock is wrong from its start on finds the others, and is in step
// with them.
func TestClockWrongFromTheStart(t *testing.T) {
	t.Parallel()
	for name, offset := range wrong() {
		for _, listen := range []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"} {
			t.Run(name+strings.ReplaceAll(listen, "/", " "), func(t *testing.T) {
				t.Parallel()
				a, b := newDevice(t, "laptop"), newDevice(t, "phone")
				a.listen, b.listen = listen, listen
				a.run("init", "--name", a.name, "--dir", a.dir)
				a.up()
				b.join(a)
				misset(t, b, offset)
				b.up()
				b.connected(a)
				a.put("file", "of the laptop")
				b.put("file2", "of the phone")
				alike(t, a, b)
				b.put("file", "edited on the phone")
				alike(t, a, b)
				a.put("file", "edited on the laptop")
				end := alike(t, a, b)
				if a.get("file") != "edited on the laptop" || files(end) != 2 {
					t.Errorf("there is %s", show(a.tree(".")))
				}
				// And when the other meets it anew.
				a.down()
				a.up()
				a.connected(b)
				a.put("file", "edited on the laptop again")
				alike(t, a, b)
				// And when it lets in a third.
				c := newDevice(t, "tablet")
				c.listen = listen
				c.join(b)
				c.up()
				c.connected(b)
				c.put("file3", "of the tablet")
				alike(t, a, b, c)
				peaceful(t, a, b, c)
			})
		}
	}
}

// What a person lets happen on one device happens on the others, whatever their
// clocks say of when that was.
func TestClockWrongAndAWord(t *testing.T) {
	t.Parallel()
	for name, offset := range wrong() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := first(t, "laptop"), newDevice(t, "phone")
			b.join(a)
			misset(t, b, offset)
			b.up()
			b.connected(a)
			for _, d := range []*device{a, b} {
				dir := "of the " + d.name
				for i := range 70 {
					d.put(fmt.Sprintf("%s/%d", dir, i), "content")
				}
				d.put("stays", d.name)
				alike(t, a, b)
				must(t, os.RemoveAll(d.path(dir)))
				d.run("hold", "release", d.held(70).ID)
				d.free()
				if end := alike(t, a, b); files(end) != 1 {
					t.Errorf("released on the %s, there is %s", d.name, show(end))
				}
			}
		})
	}
}
