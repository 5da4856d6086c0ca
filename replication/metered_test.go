package replication

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

type pipeEnd struct{ net.Conn }

func (p pipeEnd) CloseWrite() error { return p.Close() }
func (p pipeEnd) Reset() error      { return p.Close() }

// TestMetered: what passes over a metered stream is counted and held to the limits, and a
// deadline is for each piece of it, not for a message: a slow line is no broken one.
func TestMetered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := NewFetcher(FetcherConfig{})
		near, far := net.Pipe()
		s := f.Metered(t.Context(), pipeEnd{near})
		const total = 10 * piece
		done := make(chan time.Duration, 1)
		go func() {
			begun := time.Now()
			buf := make([]byte, piece)
			for range 10 {
				time.Sleep(time.Second)
				if _, err := io.ReadFull(far, buf); err != nil {
					t.Error(err)
				}
			}
			done <- time.Since(begun)
		}()
		if err := s.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Write(make([]byte, total)); n != total || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		if took := <-done; took < 10*time.Second {
			t.Errorf("the reader took %v", took)
		}
		if sent := f.Traffic().Other.Sent; sent != total {
			t.Errorf("%d bytes are counted, of %d", sent, total)
		}
		// One who reads nothing at all is given up.
		if err := s.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(make([]byte, total)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("to one who does not read: %v", err)
		}
		// Held to the limit, both ways.
		f.SetLimits(2*piece, 2*piece)
		go func() { _, _ = io.CopyN(far, zeros{}, total) }()
		begun := time.Now()
		if _, err := io.ReadFull(s, make([]byte, total)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("%d bytes at %d a second took %v", total, 2*piece, took)
		}
		if got := f.Traffic().Other.Received; got != total {
			t.Errorf("%d bytes are counted as received", got)
		}
		_, _ = near.Close(), far.Close()
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
