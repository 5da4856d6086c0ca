package replication

import (
	"context"
	"sync/atomic"
	"time"
)

// Metered gives a stream whose bytes are counted, and held to the limits, with those of
// all sessions: for what a node exchanges with others than its peers. ctx ends waiting.
//
// A deadline that is set for both directions counts anew with each piece that passes: a
// slow line, or a low limit, is no broken one.
func (f *Fetcher) Metered(ctx context.Context, s Stream) Stream {
	return &metered{Stream: s, ctx: ctx, f: f}
}

type metered struct {
	Stream
	ctx      context.Context
	f        *Fetcher
	patience atomic.Int64 // nanoseconds; 0: none was set
}

func (m *metered) SetDeadline(t time.Time) error {
	d := int64(0)
	if !t.IsZero() {
		d = max(1, int64(time.Until(t)))
	}
	m.patience.Store(d)
	return m.Stream.SetDeadline(t)
}

// renew puts a deadline off.
func (m *metered) renew(set func(time.Time) error) error {
	d := time.Duration(m.patience.Load())
	if d == 0 {
		return nil
	}
	return set(time.Now().Add(d))
}

func (m *metered) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), m.f.up.piece(), piece)
		if err := m.f.up.wait(m.ctx, k); err != nil {
			return n, err
		}
		if err := m.renew(m.SetWriteDeadline); err != nil {
			return n, err
		}
		w, err := m.Stream.Write(p[:k])
		m.f.meter.other.sent.Add(uint64(w)) //nolint:gosec // a count
		n += w
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func (m *metered) Read(p []byte) (n int, err error) {
	if err := m.renew(m.SetReadDeadline); err != nil {
		return 0, err
	}
	n, err = m.Stream.Read(p[:min(len(p), m.f.down.piece(), piece)])
	m.f.meter.other.received.Add(uint64(n)) //nolint:gosec // a count
	if n > 0 {
		if werr := m.f.down.wait(m.ctx, n); werr != nil && err == nil {
			err = werr
		}
	}
	return n, err
}
