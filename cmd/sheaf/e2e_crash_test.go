//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Both sides are killed at random moments of an initial sync. What arrives is
// the same to the last attribute, and nothing else arrives.
func TestKilledDuringInitialSync(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := newDevice(t, "laptop"), newDevice(t, "phone")
	if soaking() {
		root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
		must(t, err)
		copyTree(t, strings.TrimSpace(string(root)), a.dir)
	} else {
		a.fill(rnd, 2000)
	}
	must(t, os.WriteFile(a.path("big"), bytesOf(rnd, sized(40, 1024)<<20), 0o600))
	must(t, os.Symlink("big", a.path("link")))
	want := a.all()
	a.run("init", "--name", a.name, "--dir", a.dir)
	a.up()
	b.join(a)
	if !soaking() {
		b.run("config", "set", "limits.download", "12MiB") // long enough to be hit
	}
	b.up()
	// Each is killed and started again as often; then they are left alone.
	kills := sized(3, 5)
	order := make([]*device, 0, 2*kills)
	for range kills {
		order = append(order, a, b)
	}
	rnd.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for i, d := range order {
		pause(rnd, time.Duration(sized(700, 4000))*time.Millisecond)
		t.Logf("kill %d: %s, when phone has %d of %d entries", i+1, d.name, len(b.all()), len(want))
		d.kill()
		d.up()
	}
	b.run("config", "set", "limits.download", "0")
	alike(t, a, b)
	a.holds(want)
	b.holds(want)
	untouched(t, a, b)
}

// pause lets a random time pass, at most so long, so that what comes next hits
// the program anywhere.
func pause(rnd *rand.Rand, most time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(most)))) }

// Both are killed while both change the same folder: no file is lost, none
// doubled, and what each wrote last is what all have.
func TestKilledWhileBothWrite(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	rounds := sized(4, 40)
	for round := range rounds {
		for i, d := range []*device{a, b} {
			for k := range 60 {
				// Names of its own, and some renamed and removed again.
				p := fmt.Sprintf("of-%s/%d/%d", d.name, k%5, rnd.IntN(40))
				switch rnd.IntN(5) {
				case 0:
					if d.has(p) {
						must(t, os.Rename(d.path(p), d.path(fmt.Sprintf("of-%s/moved-%d-%d", d.name, round, k))))
					}
				case 1:
					_ = os.Remove(d.path(p))
				default:
					d.put(p, fmt.Sprintf("%d %d %d %d", round, i, k, rnd.Uint64()))
				}
			}
		}
		victim := []*device{a, b}[rnd.IntN(2)]
		pause(rnd, 400*time.Millisecond)
		victim.kill()
		victim.up()
	}
	wantA, wantB := below(a.all(), "of-"+a.name), below(b.all(), "of-"+b.name)
	end := alike(t, a, b)
	for _, of := range []struct {
		d    *device
		want map[string]string
	}{{a, wantA}, {b, wantB}} {
		if diff := differences(of.want, below(end, "of-"+of.d.name)); diff != "" {
			t.Errorf("what %s wrote was changed by the other:\n%s", of.d.name, diff)
		}
	}
	for _, d := range []*device{a, b} {
		if n := d.folder().Conflicts; n > 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
		clean(t, d)
	}
}

// What a transfer has built goes when nobody wants it any more: after a crash in
// its middle, and while it runs.
func TestAbandonedTransfer(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	b.run("config", "set", "limits.download", "2MiB")
	building := func() int {
		list, err := os.ReadDir(b.path(".sheaf/tmp"))
		must(t, err)
		return len(list)
	}
	a.put("big", string(bytesOf(rnd, 24<<20)))
	until(t, "the phone builds the file", func() bool { return building() > 0 })
	b.kill()
	a.put("big", string(bytesOf(rnd, 20<<20)))
	a.put("after", "after")
	b.up()
	until(t, "the phone builds the new content alone", func() bool { return b.has("after") && building() == 1 })
	// And now while it runs.
	a.put("big", "short")
	a.run("wait", "--timeout", patience().String())
	alike(t, a, b)
	clean(t, b)
}
