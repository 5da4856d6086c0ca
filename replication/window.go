package replication

import "time"

// A window decides how many bytes to have asked of one peer at once. It is
// pure but for the times it is given.
//
// It measures in rounds, each a window's worth of answers. While the window
// was what held the peer back and a round was faster than any before, it
// doubles, as a TCP sender's slow start does; a round that is not, leaves it.
// Every few rounds it tries again, since paths change. What would take more
// than maxRound to come is too much: it would delay what is wanted sooner, and
// is hard to take over when the peer stalls.
type window struct {
	size int64   // bytes
	rate float64 // bytes per second, smoothed; 0 before the first round

	best    float64 // rate of the fastest round since the last try
	began   time.Time
	bytes   int64
	limited bool // the window was full at some time in this round
	flat    int  // rounds without gain
}

// Bounds of windows.
const (
	firstWindow = 1 << 20
	leastWindow = 128 << 10
	mostWindow  = 32 << 20
	leastRound  = 20 * time.Millisecond // shorter ones measure noise
	maxRound    = 2 * time.Second
	retryRounds = 16
	gain        = 1.15
)

func newWindow() window { return window{size: firstWindow} }

// asked is called when something is asked for: it begins a round if nothing
// was under way, so that idle time does not count.
func (w *window) asked(now time.Time, inFlight int64) {
	if inFlight == 0 {
		w.began, w.bytes, w.limited = now, 0, false
	}
}

// full is called when more is wanted than the window lets be asked for.
func (w *window) full() { w.limited = true }

// answered takes n bytes of answers.
func (w *window) answered(now time.Time, n int64) {
	w.bytes += n
	took := now.Sub(w.began)
	if (w.bytes < w.size || took < leastRound) && took < maxRound {
		return
	}
	rate := float64(w.bytes) / took.Seconds()
	if w.rate == 0 {
		w.rate = rate
	}
	w.rate += (rate - w.rate) * 0.4
	switch {
	case w.limited && rate > w.best*gain:
		w.best, w.flat = rate, 0
		w.size = min(2*w.size, mostWindow)
	case w.limited:
		if w.flat++; w.flat >= retryRounds {
			w.best, w.flat = rate, 0
			w.size = min(w.size+w.size/4, mostWindow)
		}
	}
	if bound := int64(w.rate * maxRound.Seconds()); w.size > bound {
		w.size = max(bound, leastWindow)
	}
	w.began, w.bytes, w.limited = now, 0, false
}
