package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// A tcpStream is a Stream over a TCP connection, with TLS on top or not.
type tcpStream struct {
	net.Conn
	tcp *net.TCPConn
}

func (s tcpStream) CloseWrite() error {
	if c, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
func (s tcpStream) Reset() error {
	_ = s.tcp.SetLinger(0)
	return s.tcp.Close()
}

// tcpPair gives both ends of a connection over loopback.
func tcpPair(b testing.TB, cert *tls.Certificate) (near, far Stream) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	type accepted struct {
		c   net.Conn
		err error
	}
	ch := make(chan accepted, 1)
	go func() {
		c, err := l.Accept()
		ch <- accepted{c, err}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	a := <-ch
	if a.err != nil {
		b.Fatal(a.err)
	}
	n, f := tcpStream{c, c.(*net.TCPConn)}, tcpStream{a.c, a.c.(*net.TCPConn)}
	if cert == nil {
		return n, f
	}
	n.Conn = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	server := tls.Server(a.c, &tls.Config{Certificates: []tls.Certificate{*cert}})
	f.Conn = server
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := n.Conn.(*tls.Conn).Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return n, f
}

func certificate(b testing.TB) *tls.Certificate {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		b.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// carriers are the streams that the benchmarks run over.
func carriers(b *testing.B, run func(b *testing.B, open func() (near, far Stream))) {
	cert := certificate(b)
	for _, c := range []struct {
		name string
		open func() (Stream, Stream)
	}{
		{"memory", func() (Stream, Stream) { near, far := newStreams(link{}, link{}); return near, far }},
		{"tcp", func() (Stream, Stream) { return tcpPair(b, nil) }},
		{"tls", func() (Stream, Stream) { return tcpPair(b, cert) }},
	} {
		b.Run(c.name, func(b *testing.B) { run(b, c.open) })
	}
}

// An openerFunc is an Opener.
type openerFunc func() Stream

func (f openerFunc) Open(context.Context, DeviceID, string) (Stream, error) { return f(), nil }

// A synthetic Source gives one block over and over under many names: reading
// costs a copy and no disk.
type synthetic struct{ blocks map[chunk.Hash][]byte }

func (s synthetic) ReadBlock(_ context.Context, _ crdt.FolderID, b chunk.Block, _ bool, dst []byte) ([]byte, error) {
	return append(dst, s.blocks[b.Hash]...), nil
}
func (synthetic) ReadList(context.Context, crdt.FolderID, crdt.ContentHash) ([]byte, error) {
	return nil, ErrNotHere
}

const benchTotal = 256 << 20

// BenchmarkBareStream is the floor: the same bytes over the same streams with
// nothing around them.
func BenchmarkBareStream(b *testing.B) {
	carriers(b, func(b *testing.B, open func() (Stream, Stream)) {
		b.SetBytes(benchTotal)
		buf := make([]byte, 256<<10)
		began := cpuTime()
		for b.Loop() {
			near, far := open()
			go func() {
				for range benchTotal / len(buf) {
					if _, err := far.Write(buf); err != nil {
						return
					}
				}
				_ = far.CloseWrite()
			}()
			if n, err := io.Copy(io.Discard, near); n != benchTotal {
				b.Fatal(n, err)
			}
			_ = near.Reset()
			_ = far.Reset()
		}
		reportCPU(b, began, benchTotal)
	})
}

// reportCPU reports the processor time of both ends per GiB.
func reportCPU(b *testing.B, began time.Duration, perLoop int) {
	b.ReportMetric((cpuTime()-began).Seconds()/(float64(b.N)*float64(perLoop)/(1<<30)), "cpu-s/GiB")
}

// BenchmarkBlocks is the block plane from one peer, verified, into nothing.
func BenchmarkBlocks(b *testing.B) {
	for _, size := range []int{4 << 10, 160 << 10, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			carriers(b, func(b *testing.B, open func() (Stream, Stream)) { benchBlocks(b, size, open) })
		})
	}
}

func benchBlocks(b *testing.B, size int, open func() (Stream, Stream)) {
	total := benchTotal
	if size < 64<<10 {
		total /= 8
	}
	src := synthetic{map[chunk.Hash][]byte{}}
	var wants []Want
	for i, data := range blocksOf(1, total/size, size) {
		h := chunk.Sum(data)
		src.blocks[h] = data
		wants = append(wants, Want{Folder: testFolder, Block: chunk.Block{Hash: h, Size: uint32(size)}, Priority: int64(i)})
	}
	server := NewSession(Config{Authority: &rights{}, Source: src, Fetcher: NewFetcher(FetcherConfig{})})
	server.SetFolders([]Folder{{Index: newIndex(testFolder, 'x')}})
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	f := NewFetcher(FetcherConfig{Opener: openerFunc(func() Stream {
		near, far := open()
		running.Go(func() { _ = server.ServeBlocks(ctx, far) })
		return near
	})})
	running.Go(func() { _ = f.Run(ctx) })
	f.share(DeviceID{1}, testFolder, 1)
	b.SetBytes(int64(total))
	b.ReportAllocs()
	began := cpuTime()
	for b.Loop() {
		var left sync.WaitGroup
		left.Add(len(wants))
		for _, w := range wants {
			f.Fetch(ctx, w, func(_ []byte, err error) {
				if err != nil {
					b.Error(err)
				}
				left.Done()
			})
		}
		left.Wait()
	}
	b.ReportMetric(float64(b.N)*float64(len(wants))/b.Elapsed().Seconds(), "blocks/s")
	reportCPU(b, began, total)
	cancel()
	running.Wait()
}

// BenchmarkIndex is 10,000 new files from one index to another over a stream
// in memory; what it costs beside the two indexes themselves.
func BenchmarkIndex(b *testing.B) {
	n := newNetwork(b)
	src := n.device('a', quick())
	src.index.fill(b, "x", 10000)
	b.ReportAllocs()
	for b.Loop() {
		dst := n.device('b', quick())
		n.connect(src, dst)
		want := src.index.Seq()
		for dst.index.Seq() < want {
			if err := dst.index.Wait(b.Context(), dst.index.Seq(), dst.index.Progress()); err != nil {
				b.Fatal(err)
			}
		}
		n.disconnect(src, dst)
		dst.stop()
		dst.running.Wait()
	}
	b.ReportMetric(float64(src.sessionsBytes())/float64(b.N)/10000, "wire-bytes/file")
	b.ReportMetric(float64(b.N)*10000/b.Elapsed().Seconds(), "files/s")
}

func (d *device) sessionsBytes() uint64 { return d.fetcher.Traffic().Index.Sent }
