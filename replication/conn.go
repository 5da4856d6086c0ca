package replication

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sheaf/replication/wire"
)

// A conn is a Stream with a deadline for every step, counted and, on the block
// plane, limited.
//
// Progress is what keeps a conn alive: each read must bring a byte within
// Silence, and each piece written must leave within Write. A long message over
// a slow line is no fault.
type conn struct {
	ctx    context.Context
	s      Stream
	r      *bufio.Reader
	timing Timing
	flows  []*flow  // each counts every byte
	in     *limiter // nil: unlimited
	out    *limiter
	stop   func() bool

	writing gate // held while a message is written
	began   time.Time
	wrote   atomic.Int64 // when, since it began: the time of day may be set meanwhile
}

// A gate is a mutex for what may take long: to be held over I/O. Waiting at a
// channel, unlike at a mutex, lets testing/synctest move the clock on.
type gate chan struct{}

func newGate() gate { return make(gate, 1) }

func (g gate) lock()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

// piece is the most written under one deadline.
const piece = 64 << 10

// newConn wraps s. When ctx ends, s is reset. readBuffer is the size of the
// read buffer: small where many idle streams are expected.
func newConn(ctx context.Context, s Stream, t Timing, readBuffer int, flows ...*flow) *conn {
	c := &conn{ctx: ctx, s: s, timing: t, flows: flows, writing: newGate(), began: time.Now()}
	c.r = bufio.NewReaderSize(reader{c}, readBuffer)
	c.stop = context.AfterFunc(ctx, func() { _ = s.Reset() })
	return c
}

// together runs what reads and what writes until all have ended. The first
// error calls cancel, which must end the conn's ctx so that the stream is reset
// and the others wake, and is returned.
func together(cancel context.CancelFunc, fns ...func() error) error {
	var (
		running sync.WaitGroup
		once    sync.Once
		first   error
	)
	for _, fn := range fns {
		running.Go(func() {
			if err := fn(); err != nil {
				// Kept before cancel makes others fail of it.
				once.Do(func() { first = err })
				cancel()
			}
		})
	}
	running.Wait()
	return first
}

// finish ends the stream: in order after a clean end, else by reset.
func (c *conn) finish(err error) {
	if c.stop(); err == nil {
		_ = c.s.Close()
		return
	}
	_ = c.s.Reset()
}

// reader is the unbuffered reading side of a conn.
type reader struct{ c *conn }

// Read reads what is there, within Silence.
func (r reader) Read(p []byte) (int, error) {
	c := r.c
	if c.in != nil {
		p = p[:min(len(p), c.in.piece())]
	}
	if err := c.s.SetReadDeadline(time.Now().Add(c.timing.Silence)); err != nil {
		return 0, err
	}
	n, err := c.s.Read(p)
	for _, f := range c.flows {
		f.received.Add(uint64(n))
	}
	if c.in != nil && n > 0 {
		if lerr := c.in.wait(c.ctx, n); lerr != nil && err == nil {
			err = lerr
		}
	}
	return n, err
}

// Write writes p in pieces. Callers hold writing, or
// are the only ones to write.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, piece)
		if c.out != nil {
			n = min(n, c.out.piece())
			if err := c.out.wait(c.ctx, n); err != nil {
				return done, err
			}
		}
		if err := c.s.SetWriteDeadline(time.Now().Add(c.timing.Write)); err != nil {
			return done, err
		}
		n, err := c.s.Write(p[done : done+n])
		done += n
		for _, f := range c.flows {
			f.sent.Add(uint64(n))
		}
		if err != nil {
			return done, err
		}
	}
	c.wrote.Store(int64(time.Since(c.began)))
	return done, nil
}

// send writes one message.
func (c *conn) send(v any, limit int) error {
	c.writing.lock()
	defer c.writing.unlock()
	return wire.WriteMsg(c, v, limit)
}

// keepAlive sends ping whenever nothing else has been sent for KeepAlive,
// until ctx ends or a write fails.
func (c *conn) keepAlive(ctx context.Context, ping any, limit int) error {
	t := time.NewTimer(c.timing.KeepAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		quiet := time.Since(c.began) - time.Duration(c.wrote.Load())
		if quiet >= c.timing.KeepAlive {
			if err := c.send(ping, limit); err != nil {
				return err
			}
			quiet = 0
		}
		t.Reset(c.timing.KeepAlive - quiet)
	}
}

// isTimeout tells whether err is a deadline that passed.
func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}
