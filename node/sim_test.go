package node

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var (
	simHistories = flag.Int("histories", 150, "simulated histories to run")
	simSeed      = flag.Uint64("seed", 1, "seed of the first history; 0: one by the clock")
	simReplay    = flag.String("replay", "", "file with a history to run again, as a failure gives it")
	simLogFile   = flag.String("simlog", "", "file for the log of what is run")
	simBackups   = flag.Bool("backups", false, "have databases set back to before a file was edited, and it edited again")
	simShrink    = flag.Int("shrink", 400, "runs that a failing history is cut down with")
)

// TestSim has random histories happen to whole devices, and holds the end of each
// against the oracles. A failure prints its seed and the shortest history found
// that still fails; -histories 1 -seed N runs a seed again, -replay FILE a history.
func TestSim(t *testing.T) {
	if *simReplay != "" {
		replay(t, *simReplay)
		return
	}
	first := *simSeed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	log, closeLog := simLog(t)
	defer closeLog()
	var done, failed, most atomic.Int64
	began := time.Now()
	t.Run("histories", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for failed.Load() < 3 {
					n := done.Add(1) - 1
					if n >= int64(*simHistories) {
						return
					}
					seed := first + uint64(n)
					h := newHistory(seed)
					v := simulate(t, h, log)
					for m := most.Load(); v.work > m && !most.CompareAndSwap(m, v.work); m = most.Load() {
					}
					if v.faults != nil {
						failed.Add(1)
						t.Error(explain(t, n+1, seed, h, v))
					}
				}
			})
		}
	})
	if !t.Failed() {
		took := time.Since(began)
		t.Logf("%d histories from seed %d, of at most %d pieces of work, in %v: %.1f a second", *simHistories, first, most.Load(), took.Round(time.Millisecond), float64(*simHistories)/took.Seconds())
	}
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// simLog gives the log that was asked for.
func simLog(t *testing.T) (log *slog.Logger, done func()) {
	if *simLogFile == "" {
		return quietLog(), func() {}
	}
	out, err := os.Create(*simLogFile)
	if err != nil {
		t.Fatal(err)
	}
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})), func() { _ = out.Close() }
}

// explain cuts a failing history down and says what happened.
func explain(t *testing.T, n int64, seed uint64, h history, v verdict) string {
	h.Steps = v.steps
	var b strings.Builder
	fmt.Fprintf(&b, "history %d, seed %d: %s\n", n, seed, strings.Join(v.faults, "\n\t"))
	if *simShrink == 0 {
		return b.String()
	}
	short, sv := shrink(t, h, *simShrink)
	if sv.faults == nil {
		fmt.Fprintf(&b, "the same steps written down do not fail again; all %d of them:\n%s\n", len(v.steps), strings.Join(v.diary, "\n"))
		return b.String()
	}
	data, err := json.MarshalIndent(short, "", " ")
	if err != nil {
		return err.Error()
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("sheaf-history-%d.json", seed))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		file = err.Error()
	}
	fmt.Fprintf(&b, "cut down from %d steps to %d (-replay %s):\n%s\n", len(h.Steps), len(short.Steps), file, strings.Join(sv.diary, "\n"))
	fmt.Fprintf(&b, "which fails with: %s", strings.Join(sv.faults, "\n\t"))
	return b.String()
}

// shrink looks for the shortest history that still fails, within some runs.
func shrink(t *testing.T, h history, runs int) (history, verdict) {
	v := simulate(t, h, quietLog())
	if v.faults == nil {
		return h, v
	}
	kind := faultKind(v)
	try := func(c history) bool {
		if runs--; runs < 0 {
			return false
		}
		if cv := simulate(t, c, quietLog()); cv.faults != nil && faultKind(cv) == kind {
			h, v = c, cv
			return true
		}
		return false
	}
	// Steps, in pieces that get smaller.
	for size := max(1, len(h.Steps)/2); ; size = max(1, size/2) {
		again := false
		for at := len(h.Steps) - size; at >= 0; at = min(at-size, len(h.Steps)-size) {
			c := h
			c.Steps = slices.Delete(slices.Clone(h.Steps), at, at+size)
			again = try(c) || again
		}
		if size == 1 && !again || runs < 0 {
			break
		}
	}
	// Devices that nothing happens on.
	for n := len(h.Devices) - 1; n >= 2; n-- {
		if !slices.ContainsFunc(h.Steps, func(s step) bool { return (s.On == n || s.Peer == n) && s.Do != "start" }) && n == len(h.Devices)-1 {
			c := h
			c.Devices = slices.Clone(h.Devices[:n])
			c.Steps = slices.DeleteFunc(slices.Clone(h.Steps), func(s step) bool { return s.On == n })
			try(c)
		}
	}
	// What the devices run on.
	for n := range h.Devices {
		for _, simpler := range []func(*simKind){
			func(k *simKind) { *k = simKind{Watch: true, Latency: time.Millisecond} },
			func(k *simKind) { k.Late, k.Lost, k.Queue, k.Most = 0, 0, 0, 0 },
			func(k *simKind) { k.Grain = 0 }, func(k *simKind) { k.NoBirth = false }, func(k *simKind) { k.Reuse = false },
			func(k *simKind) { k.NoExchange, k.NoLinks = false, false }, func(k *simKind) { k.Rate = 0 },
		} {
			c := h
			c.Devices = slices.Clone(h.Devices)
			simpler(&c.Devices[n])
			if c.Devices[n] != h.Devices[n] {
				try(c)
			}
		}
	}
	// Times.
	for i := range h.Steps {
		for _, wait := range []time.Duration{0, time.Second, 10 * time.Second, time.Minute} {
			if h.Steps[i].Wait > wait {
				c := h
				c.Steps = slices.Clone(h.Steps)
				c.Steps[i].Wait = wait
				if try(c) {
					break
				}
			}
		}
	}
	return h, v
}

// faultKind is which oracle spoke first: cutting down must not lead to another.
func faultKind(v verdict) string {
	kind, _, _ := strings.Cut(v.faults[0], ":")
	return kind
}

func replay(t *testing.T, file string) {
	h := readHistory(t, file)
	log, closeLog := simLog(t)
	defer closeLog()
	v := simulate(t, h, log)
	t.Logf("trace %s\n%s", v.trace, strings.Join(v.diary, "\n"))
	for _, f := range v.faults {
		t.Error(f)
	}
}

func readHistory(t *testing.T, file string) (h history) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &h); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return h
}

// TestSimRepeats: two runs of one seed are the same to the byte, or a failure could
// not be looked into.
func TestSimRepeats(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		a, b := simulate(t, newHistory(seed), quietLog()), simulate(t, newHistory(seed), quietLog())
		if a.trace != b.trace {
			for i := range min(len(a.diary), len(b.diary)) {
				if a.diary[i] != b.diary[i] {
					t.Errorf("seed %d, line %d:\n%s\nand\n%s", seed, i, a.diary[i], b.diary[i])
					break
				}
			}
		}
	}
}

// TestFoundHistories runs the histories again that have shown a fault, each cut down
// to what it needs: see docs/faults-found.md.
func TestFoundHistories(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/histories/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			v := simulate(t, readHistory(t, file), quietLog())
			if v.faults != nil {
				t.Errorf("%s\nwith:\n%s", strings.Join(v.faults, "\n"), strings.Join(v.diary, "\n"))
			}
		})
	}
}
