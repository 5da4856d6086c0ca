package disk

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// play feeds changes at given times and gives what is reported, and when.
func play(q *quiet, until time.Duration, changes map[time.Duration]func(now time.Time)) (out []string) {
	for at := time.Duration(0); at <= until; at += 10 * time.Millisecond {
		if c := changes[at]; c != nil {
			c(t0.Add(at))
		}
		due, _ := q.pop(t0.Add(at))
		for _, d := range due {
			out = append(out, fmt.Sprintf("%v %s%v deep=%v all=%v", at, d.Dir, d.Names, d.Deep, d.All))
		}
	}
	return out
}

func TestQuietReportsAfterAMoment(t *testing.T) {
	t.Parallel()
	q := newQuiet()
	got := play(q, time.Second, map[time.Duration]func(time.Time){
		0:                      func(now time.Time) { q.note(now, "d", "b"); q.note(now, ".", "x") },
		100 * time.Millisecond: func(now time.Time) { q.note(now, "d", "a") },
		150 * time.Millisecond: func(now time.Time) { q.deep(now, "d/new") },
	})
	want := []string{"200ms .[x] deep=false all=false", "200ms d[b] deep=false all=false", "300ms d[a] deep=false all=false", "350ms d/new[] deep=true all=false"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if play(q, 10*time.Second, nil); len(q.dirs) != 0 || q.names != 0 {
		t.Errorf("remembers %v", q.dirs)
	}
}

// A file that is written without pause is reported all the same, at the cap.
func TestQuietCap(t *testing.T) {
	t.Parallel()
	q := newQuiet()
	changes := map[time.Duration]func(time.Time){}
	for at := time.Duration(0); at < time.Minute; at += 100 * time.Millisecond {
		changes[at] = func(now time.Time) { q.note(now, ".", "log") }
	}
	got := play(q, time.Minute, changes)
	if len(got) != 5 && len(got) != 6 {
		t.Errorf("%d reports in a minute: %q", len(got), got)
	}
}

// A file saved every 300 ms is quiet each time, and reported ever more seldom.
func TestQuietGrowsWithTheRate(t *testing.T) {
	t.Parallel()
	q := newQuiet()
	changes := map[time.Duration]func(time.Time){}
	for at := time.Duration(0); at < 2*time.Minute; at += 300 * time.Millisecond {
		changes[at] = func(now time.Time) { q.note(now, ".", "log") }
	}
	got := play(q, 2*time.Minute, changes)
	if len(got) < 8 || len(got) > 16 {
		t.Errorf("%d reports of 400 saves: %q", len(got), got)
	}
	// After a rest it is quick again.
	now := t0.Add(20 * time.Minute)
	q.note(now, ".", "log")
	if due, _ := q.pop(now.Add(quietMin)); len(due) != 1 {
		t.Error("still slow after a rest")
	}
}

// Memory stays bounded, and what is collapsed is still covered.
func TestQuietStorm(t *testing.T) {
	t.Parallel()
	q := newQuiet()
	for i := range 100_000 {
		q.note(t0, "one", fmt.Sprint(i))
		if q.names > maxNames {
			t.Fatalf("%d names", q.names)
		}
	}
	if due, _ := q.pop(t0.Add(time.Second)); len(due) != 1 || due[0].Dir != "one" || due[0].Names != nil || due[0].All {
		t.Fatalf("%+v", due)
	}
	for i := range 100_000 {
		q.note(t0, fmt.Sprint("d", i%20_000), fmt.Sprint(i))
		if q.names > maxAllNames || len(q.dirs) > maxDirs {
			t.Fatalf("%d names in %d directories", q.names, len(q.dirs))
		}
	}
	if due, _ := q.pop(t0.Add(time.Second)); len(due) != 1 || !due[0].All {
		t.Fatalf("%d reports", len(due))
	}
}

// Whatever happens when: each change is covered by a report that comes after
// it and within the cap, and nothing is reported that did not change.
func TestQuietCoversEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		q := newQuiet()
		now := t0
		type change struct{ dir, name string }
		open := map[change]time.Time{} // first unreported
		ever := map[string]bool{}
		report := func() {
			due, next := q.pop(now)
			for _, d := range due {
				if !d.All && !ever[d.Dir] {
					rt.Fatalf("%s was reported and never changed", d.Dir)
				}
				for c := range open {
					if d.All || d.Dir == c.dir && (len(d.Names) == 0 || slices.Contains(d.Names, c.name)) {
						delete(open, c)
					}
				}
			}
			for c, at := range open {
				if now.Sub(at) > quietMax {
					rt.Fatalf("%v changed %v ago", c, now.Sub(at))
				}
			}
			if len(open) > 0 && (next.IsZero() || next.After(now.Add(quietMax))) {
				rt.Fatalf("asks again at %v with %d open", next, len(open))
			}
		}
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 50, 199, 300, 2000}).Draw(rt, "ms")) * time.Millisecond)
			report()
			dir := rapid.SampledFrom([]string{".", "a", "a/b"}).Draw(rt, "dir")
			c := change{dir, rapid.SampledFrom([]string{"x", "y", ""}).Draw(rt, "name")}
			switch {
			case rapid.IntRange(0, 30).Draw(rt, "what") == 0:
				q.everything(now)
			case c.name == "":
				q.deep(now, dir)
			default:
				q.note(now, dir, c.name)
			}
			ever[dir] = true
			if _, known := open[c]; !known {
				open[c] = now
			}
		}
		for range 30 {
			now = now.Add(500 * time.Millisecond)
			report()
		}
		if len(open) > 0 {
			rt.Fatalf("never reported: %v", open)
		}
		for range 100 {
			now = now.Add(time.Second)
			report()
		}
		if len(q.dirs) > 0 || q.names != 0 {
			rt.Fatalf("remembers %d directories, %d names", len(q.dirs), q.names)
		}
	})
}
