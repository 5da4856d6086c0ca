package replication

import (
	"context"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Traffic counts bytes since the start, the two planes apart, and what was exchanged over
// Metered streams.
type Traffic struct{ Index, Blocks, Other Flow }

// A Flow is bytes in both directions, messages and data together, as handed
// to and taken from streams; Data is the content alone.
type Flow struct {
	Sent, Received         uint64
	SentData, ReceivedData uint64
}

// A flow is a Flow being counted.
type flow struct{ sent, received, sentData, receivedData atomic.Uint64 }

func (f *flow) get() Flow {
	return Flow{Sent: f.sent.Load(), Received: f.received.Load(), SentData: f.sentData.Load(), ReceivedData: f.receivedData.Load()}
}

// meter counts both planes, and what is on neither.
type meter struct{ index, blocks, other flow }

func (m *meter) get() Traffic {
	return Traffic{Index: m.index.get(), Blocks: m.blocks.get(), Other: m.other.get()}
}

// A limiter holds all streams of one direction together to a number of bytes
// per second. Its zero value is not usable; see newLimiter.
type limiter struct {
	bucket *rate.Limiter
	step   atomic.Int64
}

// MinLimit is the lowest limit in bytes per second: below it the keep-alives
// of many peers would not get through in time.
const MinLimit = 4 << 10

func newLimiter() *limiter {
	l := &limiter{bucket: rate.NewLimiter(rate.Inf, piece)}
	l.set(0)
	return l
}

// set takes a limit in bytes per second; zero and below is none. Waits that
// have begun go on at the old rate for at most one piece.
func (l *limiter) set(perSecond int64) {
	if perSecond <= 0 {
		l.step.Store(1 << 30)
		l.bucket.SetLimit(rate.Inf)
		return
	}
	perSecond = max(perSecond, MinLimit)
	// An eighth of a second's worth at a time keeps a low limit smooth.
	l.step.Store(min(piece, max(512, perSecond/8)))
	l.bucket.SetLimit(rate.Limit(perSecond))
}

// piece is how much may be moved under one wait.
func (l *limiter) piece() int { return int(l.step.Load()) }

// wait waits until n bytes may pass.
func (l *limiter) wait(ctx context.Context, n int) error {
	for n > 0 {
		k := min(n, piece)
		if err := l.bucket.WaitN(ctx, k); err != nil {
			return err
		}
		n -= k
	}
	return nil
}
