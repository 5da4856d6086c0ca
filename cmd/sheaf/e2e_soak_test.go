//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// soakFor gives how long a soak lasts (SHEAF_SOAK_FOR=5m), and skips the test
// where none is asked for. See .ci/soak.
func soakFor(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("SHEAF_SOAK_FOR")
	if s == "" {
		t.Skip("make soak runs it")
	}
	d, err := time.ParseDuration(s)
	must(t, err)
	return d
}

// unlimited gives two devices that hold nothing, running and connected.
func unlimited(t *testing.T) (a, b *device) {
	t.Helper()
	a, b = newDevice(t, "laptop"), newDevice(t, "phone")
	a.run("init", "--name", a.name, "--dir", a.dir)
	configure := func(d *device) {
		d.run("config", "set", "hold.entries", "1000000000")
		d.run("config", "set", "hold.percent", "100")
		d.run("config", "set", "trash.max", "1GiB")
	}
	configure(a)
	a.up()
	b.join(a)
	configure(b)
	b.up()
	b.connected(a)
	return a, b
}

// A writer does what programs do to files, at random, below a directory, and
// keeps the whole at a size.
type writer struct {
	t     *testing.T
	rnd   *rand.Rand
	root  string
	names []string
	sizes map[string]int
	total int
	made  int
}

const mostKept = 384 << 20

func newWriter(t *testing.T, rnd *rand.Rand, root string) *writer {
	t.Helper()
	must(t, os.MkdirAll(root, 0o755))
	return &writer{t: t, rnd: rnd, root: root, sizes: make(map[string]int)}
}

func (w *writer) newName() string {
	w.made++
	return filepath.Join(w.root, fmt.Sprintf("d%d/s%d/f%06d", w.rnd.IntN(9), w.rnd.IntN(5), w.made))
}

// step does one thing and gives how many bytes it wrote.
func (w *writer) step() int {
	size := 1 << (10 + w.rnd.IntN(13)) // 1 KiB to 4 MiB
	size += w.rnd.IntN(size)
	if len(w.names) < 20 {
		return w.write(w.newName(), size)
	}
	i := w.rnd.IntN(len(w.names))
	p := w.names[i]
	kind := w.rnd.IntN(100)
	switch {
	case w.total > mostKept || kind < 8:
		must(w.t, os.Remove(p))
		w.names = slices.Delete(w.names, i, i+1)
		w.total -= w.sizes[p]
		delete(w.sizes, p)
		return 0
	case kind < 16:
		to := w.newName()
		must(w.t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(w.t, os.Rename(p, to))
		w.names[i], w.sizes[to] = to, w.sizes[p]
		delete(w.sizes, p)
		return 0
	case kind < 40: // in place
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		must(w.t, err)
		at := w.rnd.IntN(w.sizes[p])
		n := min(size, w.sizes[p]-at)
		_, err = f.WriteAt(bytesOf(w.rnd, n), int64(at))
		must(w.t, err)
		must(w.t, f.Close())
		return n
	case kind < 50: // by rename
		data := bytesOf(w.rnd, size)
		must(w.t, os.WriteFile(p+".new", data, 0o600))
		must(w.t, os.Rename(p+".new", p))
		w.total += size - w.sizes[p]
		w.sizes[p] = size
		return size
	}
	return w.write(w.newName(), size)
}

func (w *writer) write(p string, size int) int {
	must(w.t, os.MkdirAll(filepath.Dir(p), 0o755))
	must(w.t, os.WriteFile(p, bytesOf(w.rnd, size), 0o600))
	w.names = append(w.names, p)
	w.sizes[p] = size
	w.total += size
	return size
}

// rss gives the resident memory of a device's process, in bytes.
func (d *device) rss() (n int64) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n << 10
}

// Random writes at 20 MiB/s leave both sides equal and memory flat.
func TestSoakWrites(t *testing.T) {
	last := soakFor(t)
	rnd := seeded(t)
	a, b := unlimited(t)
	const rate = 20 << 20
	began := time.Now()
	stop := make(chan struct{})
	samples := make(map[string][]int64)
	var sampler sync.WaitGroup
	sampler.Go(func() {
		tick := time.NewTicker(min(5*time.Second, last/12))
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			for _, d := range []*device{a, b} {
				samples[d.name] = append(samples[d.name], d.rss())
			}
		}
	})
	w := newWriter(t, rnd, a.path("busy"))
	written, steps := 0, 0
	for time.Since(began) < last {
		written += w.step()
		steps++
		if ahead := time.Duration(float64(written)/rate*float64(time.Second)) - time.Since(began); ahead > 0 {
			time.Sleep(ahead) // the rate
		}
	}
	took := time.Since(began)
	close(stop)
	sampler.Wait()
	t.Logf("%d changes, %d MiB in %s: %.1f MiB/s; %d files, %d MiB at the end", steps, written>>20, took.Round(time.Second), float64(written)/took.Seconds()/(1<<20), len(w.names), w.total>>20)
	end := time.Now()
	tree := alikeWithin(t, 15*time.Minute, a, b)
	t.Logf("in step %s after the last write", time.Since(end).Round(time.Millisecond))
	if files(tree) != len(w.names) {
		t.Errorf("%d files, should be %d", files(tree), len(w.names))
	}
	for _, d := range []*device{a, b} {
		if n := d.folder().Conflicts; n > 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
		clean(t, d)
		flat(t, d.name, samples[d.name])
	}
}

// flat demands that memory did not grow: the last third of the samples is no
// more than half and 30 MiB above the first.
func flat(t *testing.T, name string, samples []int64) {
	t.Helper()
	var text []string
	for _, s := range samples {
		text = append(text, fmt.Sprint(s>>20))
	}
	t.Logf("memory of %s in MiB: %s", name, strings.Join(text, " "))
	third := len(samples) / 3
	if third == 0 {
		t.Fatal("too few samples")
	}
	first, last := median(samples[:third]), median(samples[len(samples)-third:])
	if last > first*3/2+30<<20 {
		t.Errorf("the memory of %s grew from %d MiB to %d MiB", name, first>>20, last>>20)
	}
}

func median(list []int64) int64 {
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

// soakKills gives how many kills a soak makes (SHEAF_SOAK_KILLS=500), or as many as
// fit into the time of a soak.
func soakKills(t *testing.T) (kills int, last time.Duration) {
	t.Helper()
	s := os.Getenv("SHEAF_SOAK_KILLS")
	if s == "" {
		return 0, soakFor(t)
	}
	_, err := fmt.Sscan(s, &kills)
	must(t, err)
	return kills, 0
}

// Q3: both write without a pause, below directories of their own, while one or the
// other is killed at random moments, and started again, hundreds of times. In the
// end both disks hold, by the hashes of their contents, what each wrote last, and
// nothing else.
func TestSoakKills(t *testing.T) {
	want, last := soakKills(t)
	rnd := seeded(t)
	a, b := unlimited(t)
	devices := []*device{a, b}
	began := time.Now()
	stop := make(chan struct{})
	var writing sync.WaitGroup
	var written [2]int64
	for i, d := range devices {
		w := newWriter(t, rand.New(rand.NewPCG(rnd.Uint64(), 0)), d.path("of-"+d.name)) //nolint:gosec // not a secret
		writing.Go(func() {
			const rate = 4 << 20
			for start := time.Now(); ; {
				select {
				case <-stop:
					return
				default:
				}
				written[i] += int64(w.step())
				if ahead := time.Duration(float64(written[i])/rate*float64(time.Second)) - time.Since(start); ahead > 0 {
					time.Sleep(ahead) // the rate
				}
			}
		})
	}
	kills := map[string]int{}
	total := func() int { return kills[a.name] + kills[b.name] }
	for want > 0 && total() < want || want == 0 && time.Since(began) < last {
		pause(rnd, 1500*time.Millisecond)
		d := devices[rnd.IntN(2)]
		d.kill()
		if rnd.IntN(10) == 0 { // both at once
			other := devices[0]
			if other == d {
				other = devices[1]
			}
			other.kill()
			other.up()
			kills[other.name]++
		}
		d.up()
		kills[d.name]++
		if total()%50 == 0 {
			t.Logf("%d kills in %s", total(), time.Since(began).Round(time.Second))
		}
	}
	close(stop)
	writing.Wait()
	took := time.Since(began)
	b.connected(a)
	wrote := [2]map[string]string{below(a.all(), "of-"+a.name), below(b.all(), "of-"+b.name)}
	tree := alikeWithin(t, 15*time.Minute, a, b)
	for i, d := range devices {
		if diff := differences(wrote[i], below(tree, "of-"+d.name)); diff != "" {
			t.Errorf("what %s wrote came out otherwise:\n%s", d.name, diff)
		}
		if n := d.folder().Conflicts; n > 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
		clean(t, d)
	}
	t.Logf("%d kills of %s and %d of %s in %s, under %.1f MiB/s of writes on %s; %d entries in the end, all as they were written",
		kills[a.name], a.name, kills[b.name], b.name, took.Round(time.Second), float64(written[0]+written[1])/took.Seconds()/(1<<20), diskKind(t, a.dir), len(tree))
}

// diskKind names the file system that a directory is on.
func diskKind(t *testing.T, dir string) string {
	t.Helper()
	var s unix.Statfs_t
	must(t, unix.Statfs(dir, &s))
	kinds := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs, which is no disk", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}
	if kind, ok := kinds[int64(s.Type)]; ok { //nolint:unconvert // of another width elsewhere
		return kind
	}
	return fmt.Sprintf("a file system of kind %#x", s.Type)
}
