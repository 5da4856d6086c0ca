package group

import "time"

// A Limit holds back who asks too often. It counts by source (such as an IP
// address, which is dearer to come by than a device key) and over all. It is not
// safe for concurrent use.
type Limit struct {
	every   time.Duration
	burst   int
	total   bucket
	sources map[string]*bucket
}

// Bounds of a Limit: how many sources it tells apart, and how many times a
// source's share all of them may have together.
const (
	maxSources  = 4096
	totalFactor = 32
)

// bucket is a token bucket: it holds burst tokens and gains one every so often.
type bucket struct {
	tokens float64
	at     time.Time
}

// NewLimit allows a source burst attempts at once and one more every so often.
func NewLimit(every time.Duration, burst int) *Limit {
	return &Limit{every: every, burst: burst, total: bucket{tokens: float64(burst * totalFactor)}, sources: map[string]*bucket{}}
}

// Allow counts an attempt at time now: nil, or ErrRateLimited.
func (l *Limit) Allow(source string, now time.Time) error {
	b := l.sources[source]
	if b == nil {
		if len(l.sources) >= maxSources {
			l.forget(now)
		}
		if len(l.sources) >= maxSources {
			return ErrRateLimited
		}
		b = &bucket{tokens: float64(l.burst), at: now}
		l.sources[source] = b
	}
	b.fill(now, l.every, l.burst)
	l.total.fill(now, l.every/totalFactor, l.burst*totalFactor)
	if b.tokens < 1 || l.total.tokens < 1 {
		return ErrRateLimited
	}
	b.tokens--
	l.total.tokens--
	return nil
}

// forget drops the sources that are back at their full share.
func (l *Limit) forget(now time.Time) {
	for s, b := range l.sources {
		if b.fill(now, l.every, l.burst); b.tokens >= float64(l.burst) {
			delete(l.sources, s)
		}
	}
}

func (b *bucket) fill(now time.Time, every time.Duration, burst int) {
	if !b.at.IsZero() && now.After(b.at) {
		b.tokens = min(float64(burst), b.tokens+float64(now.Sub(b.at))/float64(every))
	}
	if b.at.IsZero() || now.After(b.at) {
		b.at = now
	}
}
