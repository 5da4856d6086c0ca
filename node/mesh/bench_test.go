package mesh

import (
	"context"
	"io"
	"testing"
	"time"
)

// BenchmarkThroughput: one stream, 512 KiB writes, both ends in this process,
// over the transports as the mesh uses them.
func BenchmarkThroughput(b *testing.B) {
	for _, c := range []struct{ name, listen string }{
		{"tcp+tls", "/ip4/127.0.0.1/tcp/0"},
		{"quic", "/ip4/127.0.0.1/udp/0/quic-v1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			from, to := benchPair(b, c.listen)
			total := make(chan int64)
			to.Handle("/test/sink/1", func(_ context.Context, _ DeviceID, s Stream) {
				n, _ := io.Copy(io.Discard, s)
				_ = s.Close()
				total <- n
			})
			s, err := from.Open(within(b, time.Minute), to.ID(), "/test/sink/1")
			if err != nil {
				b.Fatal(err)
			}
			block := make([]byte, 512<<10)
			b.SetBytes(int64(len(block)))
			want := int64(0)
			for b.Loop() {
				if _, err := s.Write(block); err != nil {
					b.Fatal(err)
				}
				want += int64(len(block))
			}
			if err := s.CloseWrite(); err != nil {
				b.Fatal(err)
			}
			if got := <-total; got != want {
				b.Fatalf("%d bytes arrived of %d", got, want)
			}
		})
	}
}

// BenchmarkOpen: a stream opened, one byte each way, and closed.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct{ name, listen string }{
		{"tcp+tls", "/ip4/127.0.0.1/tcp/0"},
		{"quic", "/ip4/127.0.0.1/udp/0/quic-v1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			from, to := benchPair(b, c.listen)
			to.Handle(echoProto, echo)
			for b.Loop() {
				s, err := from.Open(context.Background(), to.ID(), echoProto)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = s.Write([]byte{1})
				_ = s.CloseWrite()
				if _, err := io.ReadAll(s); err != nil {
					b.Fatal(err)
				}
				_ = s.Close()
			}
		})
	}
}

// BenchmarkConnect: dial, handshake, hello, and the end of the connection.
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct{ name, listen string }{
		{"tcp+tls", "/ip4/127.0.0.1/tcp/0"},
		{"quic", "/ip4/127.0.0.1/udp/0/quic-v1"},
	} {
		b.Run(c.name, func(b *testing.B) {
			from, to := benchPair(b, c.listen)
			addr := to.Addresses()[0]
			for b.Loop() {
				from.Drop(to.ID())
				if _, err := from.Connect(context.Background(), addr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkStart: New, Run and the end.
func BenchmarkStart(b *testing.B) {
	key := newKey(b)
	for b.Loop() {
		m, err := New(Config{Key: key, Allowed: func(DeviceID) bool { return true }, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}})
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchPair(b *testing.B, listen string) (from, to *Mesh) {
	b.Helper()
	var made [2]*Mesh
	for i := range made {
		m, err := New(Config{Key: newKey(b), Listen: []string{listen}, Allowed: func(DeviceID) bool { return true }})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		b.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
		made[i] = m
	}
	if _, err := made[0].Connect(within(b, 10*time.Second), made[1].Addresses()[0]); err != nil {
		b.Fatal(err)
	}
	return made[0], made[1]
}
