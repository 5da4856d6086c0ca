// Command benchsystem measures two whole nodes on this machine against the
// budget of docs/performance.md and against cp, and prints a table.
//
//	go run ./benchsystem [-files 100000] [-only name,...] [-dir DIR] ../../bin/sheaf
//
// Both nodes run on loopback, mDNS off. Every time counts only after the two
// trees were found equal.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	files = flag.Int("files", 100_000, "files in the large tree, a hundred to a directory")
	only  = flag.String("only", "", "names of measurements, comma-separated; all if empty")
	dir   = flag.String("dir", "", "where to work (default: a temporary directory)")
	big   = flag.Int64("big", 1<<30, "bytes of the big file")
	idle  = flag.Duration("idle", 30*time.Second, "how long to watch idle nodes")
	prof  = flag.String("profile", "", "a directory for CPU profiles of both nodes while the second receives")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	sheaf, err := filepath.Abs(flag.Arg(0))
	if err != nil || flag.NArg() != 1 {
		log.Fatal("usage: benchsystem [flags] SHEAF")
	}
	work, err := os.MkdirTemp(*dir, "sheaf-bench")
	if err != nil {
		log.Fatal(err)
	}
	b := &bench{sheaf: sheaf, work: work}
	defer b.cleanup()
	fmt.Println("| what | measured | how |")
	fmt.Println("| --- | --- | --- |")
	for _, m := range []struct {
		name string
		run  func()
	}{{"big", b.bigFile}, {"many", b.manyFiles}, {"binary", b.binary}} {
		if *only == "" || slices.Contains(strings.Split(*only, ","), m.name) {
			m.run()
		}
	}
}

type bench struct {
	sheaf, work string
	nodes       []*node
}

type node struct {
	b         *bench
	home, dir string
	cmd       *exec.Cmd
}

func (b *bench) cleanup() {
	for _, n := range b.nodes {
		n.stop()
	}
	_ = os.RemoveAll(b.work)
}

func (b *bench) fail(format string, args ...any) {
	b.cleanup()
	log.Fatalf(format, args...)
}

func row(what, measured, how string) { fmt.Printf("| %s | %s | %s |\n", what, measured, how) }

func (b *bench) node(name string) *node {
	n := &node{b: b, home: filepath.Join(b.work, name+".home"), dir: filepath.Join(b.work, name)}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		b.fail("%v", err)
	}
	b.nodes = append(b.nodes, n)
	return n
}

func (n *node) run(args ...string) string {
	var out, errs bytes.Buffer
	c := exec.Command(n.b.sheaf, append([]string{"--home", n.home}, args...)...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		n.b.fail("sheaf %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String())
}

func (n *node) up() {
	c := exec.Command(n.b.sheaf, "--home", n.home, "up", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns")
	out, err := c.StdoutPipe()
	if err != nil {
		n.b.fail("%v", err)
	}
	logFile, err := os.OpenFile(n.home+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.b.fail("%v", err)
	}
	c.Stderr = logFile
	if err := c.Start(); err != nil {
		n.b.fail("%v", err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil {
		n.b.fail("%s did not come up: %v", n.home, err)
	}
	n.cmd = c
}

func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(os.Interrupt)
	_ = n.cmd.Wait()
	n.cmd = nil
}

func (n *node) wait() { n.run("wait", "--timeout", "1h") }

type status struct {
	Traffic struct {
		Sent     int64 `json:"sent_bytes"`
		Received int64 `json:"received_bytes"`
	} `json:"traffic"`
	Folders []struct {
		Files int64 `json:"files"`
	} `json:"folders"`
}

func (n *node) status() (s status) {
	if err := json.Unmarshal([]byte(n.run("status", "--json")), &s); err != nil {
		n.b.fail("%v", err)
	}
	return s
}

func (n *node) wire() int64 { s := n.status(); return s.Traffic.Sent + s.Traffic.Received }

// proc gives the CPU seconds used and the resident bytes.
func (n *node) proc() (cpu float64, rss int64) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.cmd.Process.Pid))
	if err != nil {
		n.b.fail("%v", err)
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+2:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	sys, _ := strconv.ParseFloat(f[12], 64)
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return (user + sys) / 100, pages * int64(os.Getpagesize())
}

// pair starts two nodes, the first with what its directory holds already
// taken in.
func (b *bench) pair(name string, fill func(dir string)) (x, y *node) {
	x, y = b.node(name+"-a"), b.node(name+"-b")
	fill(x.dir)
	x.run("init", "--name", "a", "--dir", x.dir)
	x.up()
	x.wait()
	code := x.run("device", "invite")
	y.run("join", code, "--name", "b", "--dir", y.dir, "--yes")
	return x, y
}

// digest is one hash over all names, kinds, modes, times and contents.
func digest(root string) (sum [32]byte, count int) {
	h := sha256.New()
	_ = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".sheaf" {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(root, p)
		info, err := e.Info()
		if err != nil || rel == "." {
			return err
		}
		fmt.Fprintf(h, "%s\x00%v\x00", rel, info.Mode())
		if info.Mode().IsRegular() {
			count++
			fmt.Fprintf(h, "%d\x00", info.ModTime().UnixNano())
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			_, err = io.Copy(h, f)
			_ = f.Close()
			return err
		}
		return nil
	})
	return [32]byte(h.Sum(nil)), count
}

func (b *bench) equal(x, y *node) int {
	dx, n := digest(x.dir)
	dy, _ := digest(y.dir)
	if dx != dy {
		b.fail("the trees are not equal: %s %s", x.dir, y.dir)
	}
	return n
}

func writeRandom(p string, n int64, seed uint64) error {
	f, err := os.Create(p)
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 1))
	buf := make([]byte, 1<<20)
	for n > 0 {
		for i := 0; i+8 <= len(buf); i += 8 {
			v := r.Uint64()
			for j := range 8 {
				buf[i+j] = byte(v >> (8 * j))
			}
		}
		k := min(n, int64(len(buf)))
		if _, err := f.Write(buf[:k]); err != nil {
			return err
		}
		n -= k
	}
	return f.Close()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
func bytesOf(n int64) string         { return fmt.Sprintf("%.2f MB", float64(n)/1e6) }

func (b *bench) bigFile() {
	x, y := b.pair("big", func(dir string) {
		if err := writeRandom(filepath.Join(dir, "big"), *big, 7); err != nil {
			b.fail("%v", err)
		}
	})
	var cps []time.Duration
	for range 3 {
		cps = append(cps, b.copyTree(x.dir, true))
	}
	cp := median(cps)
	start := time.Now()
	y.up()
	profiled := b.profile(x, y)
	y.wait()
	took := time.Since(start)
	profiled()
	b.equal(x, y)
	row("one big file, "+bytesOf(*big), fmt.Sprintf("%s, %.0f MB/s; %.2f x cp and sync", seconds(took), float64(*big)/1e6/took.Seconds(), took.Seconds()/cp.Seconds()),
		"start of the second node to in step; cp -r and sync "+seconds(cp))
	// 1 KiB inserted at the front.
	before := x.wire()
	old, err := os.Open(filepath.Join(x.dir, "big"))
	if err != nil {
		b.fail("%v", err)
	}
	next, err := os.Create(filepath.Join(x.dir, ".new"))
	if err != nil {
		b.fail("%v", err)
	}
	_, err = next.Write(bytes.Repeat([]byte("x"), 1<<10))
	if err == nil {
		_, err = io.Copy(next, old)
	}
	_ = old.Close()
	if cerr := next.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		b.fail("%v", err)
	}
	start = time.Now()
	if err := os.Rename(filepath.Join(x.dir, ".new"), filepath.Join(x.dir, "big")); err != nil {
		b.fail("%v", err)
	}
	x.wait()
	took = time.Since(start)
	b.equal(x, y)
	row("1 KiB inserted at its front", fmt.Sprintf("%s on the wire, %s", bytesOf(x.wire()-before), seconds(took)), "budget 2 MiB")
	x.stop()
	y.stop()
}

// fillMany makes the tree of the rivals' measurements: log-normal sizes around
// 2 KiB, 64 B to 16 KiB, a hundred files to a directory.
func (b *bench) fillMany(dir string) {
	r := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 16<<10)
	for i := range *files {
		d := filepath.Join(dir, "tree", fmt.Sprintf("d%04d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(d, 0o755); err != nil {
				b.fail("%v", err)
			}
		}
		n := int(math.Exp(r.NormFloat64()*0.8+math.Log(2<<10)))
		n = max(64, min(n, len(buf)))
		for j := range n {
			buf[j] = byte(r.Uint32())
		}
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("f%06d.dat", i)), buf[:n], 0o644); err != nil {
			b.fail("%v", err)
		}
	}
}

// copyTree is the floor: cp -r and, with sync, sync.
func (b *bench) copyTree(from string, sync bool) time.Duration {
	to := filepath.Join(b.work, "copy")
	start := time.Now()
	if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
		b.fail("cp: %v: %s", err, out)
	}
	if sync {
		if err := exec.Command("sync", "-f", to).Run(); err != nil {
			b.fail("sync: %v", err)
		}
	}
	took := time.Since(start)
	_ = os.RemoveAll(to)
	return took
}

// profile takes CPU profiles of nodes until what it gives is called.
func (b *bench) profile(nodes ...*node) (stop func()) {
	if *prof == "" {
		return func() {}
	}
	const seconds = 5
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, n := range nodes {
		group.Go(func() {
			c := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(n.home, "sheaf.sock"))
			}}}
			for i := 0; ctx.Err() == nil; i++ {
				resp, err := c.Get(fmt.Sprintf("http://sheaf/debug/pprof/profile?seconds=%d", seconds))
				if err != nil {
					log.Printf("profile: %v", err)
					return
				}
				data, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err == nil {
					err = os.WriteFile(filepath.Join(*prof, fmt.Sprintf("%s-%d.pprof", filepath.Base(n.dir), i)), data, 0o644)
				}
				if err != nil {
					log.Printf("profile: %v", err)
					return
				}
			}
		})
	}
	return func() { cancel(); group.Wait() }
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

func (b *bench) manyFiles() {
	start := time.Now()
	x, y := b.pair("many", b.fillMany)
	took := time.Since(start)
	row("first scan", seconds(took), "includes making the tree and setting up; two devices")
	cp := b.copyTree(x.dir, true)
	xc, _ := x.proc()
	start = time.Now()
	y.up()
	profiled := b.profile(x, y)
	y.wait()
	took = time.Since(start)
	profiled()
	xd, _ := x.proc()
	yd, yr := y.proc()
	n := b.equal(x, y)
	row(fmt.Sprintf("%d small files", n), fmt.Sprintf("%s; %.2f x cp and sync", seconds(took), took.Seconds()/cp.Seconds()),
		fmt.Sprintf("cp -r and sync %s; CPU %.1f + %.1f s; receiver's memory %s; budget 2.5 x", seconds(cp), xd-xc, yd, bytesOf(yr)))
	b.indexSize(y, n)
	b.idleCost(x, y)
	b.smallChanges(x, y)
	b.renameAll(x, y)
	b.restart(y)
	x.stop()
	y.stop()
}

func (b *bench) indexSize(y *node, n int) {
	y.run("restart")
	var size int64
	_ = filepath.WalkDir(filepath.Join(y.home, "index"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	y.wait()
	row("index on disk", fmt.Sprintf("%d bytes a file", size/int64(max(1, n))), "all tables, not compacted; budget 400 (compacted: go test ./node/store -run Budget -v)")
}

func (b *bench) idleCost(x, y *node) {
	x.wait()
	y.wait()
	xc, _ := x.proc()
	yc, _ := y.proc()
	time.Sleep(*idle)
	xd, xr := x.proc()
	yd, yr := y.proc()
	row("idle, in step", fmt.Sprintf("%.2f %% and %.2f %% of a core; resident %s and %s", (xd-xc)/idle.Seconds()*100, (yd-yc)/idle.Seconds()*100, bytesOf(xr), bytesOf(yr)),
		idle.String()+"; budget 0.2 %, 80 MiB")
}

func (b *bench) smallChanges(x, y *node) {
	var times []time.Duration
	for i := range 40 {
		name := fmt.Sprintf("small-%d", i)
		text := []byte(strings.Repeat(strconv.Itoa(i), 200))
		start := time.Now()
		if err := os.WriteFile(filepath.Join(x.dir, name), text, 0o644); err != nil {
			b.fail("%v", err)
		}
		for {
			got, err := os.ReadFile(filepath.Join(y.dir, name))
			if err == nil && bytes.Equal(got, text) {
				break
			}
			if time.Since(start) > time.Minute {
				b.fail("a small file did not arrive in a minute")
			}
			time.Sleep(time.Millisecond)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	row("new small file, disk to peer's disk", fmt.Sprintf("median %d ms, 95 %% %d ms", times[len(times)/2].Milliseconds(), times[len(times)*95/100].Milliseconds()), "40 one after the other; budget 300 and 600 ms")
}

func (b *bench) renameAll(x, y *node) {
	x.wait()
	y.wait()
	before := x.wire()
	start := time.Now()
	if err := os.Rename(filepath.Join(x.dir, "tree"), filepath.Join(x.dir, "renamed")); err != nil {
		b.fail("%v", err)
	}
	for {
		if _, err := os.Lstat(filepath.Join(y.dir, "renamed")); err == nil {
			break
		}
		if time.Since(start) > time.Minute {
			b.fail("the rename did not arrive in a minute")
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	x.wait()
	b.equal(x, y)
	row("rename of the directory with all files", fmt.Sprintf("%s, %d bytes on the wire", seconds(took), x.wire()-before), "until the peer's disk shows it; budget 1 s, 10 KB")
}

func (b *bench) restart(y *node) {
	var walks []time.Duration
	for range 3 {
		start := time.Now()
		_ = filepath.WalkDir(y.dir, func(p string, e fs.DirEntry, err error) error {
			if err == nil {
				_, err = e.Info()
			}
			return err
		})
		walks = append(walks, time.Since(start))
	}
	walk := median(walks)
	y.stop()
	start := time.Now()
	y.up()
	ready := time.Since(start)
	y.wait()
	took := time.Since(start)
	row("restart, all unchanged", fmt.Sprintf("ready after %s, in step after %s", seconds(ready), seconds(took)), fmt.Sprintf("%.1f x a stat walk (%s); wait itself scans once more; budget 2 x", took.Seconds()/walk.Seconds(), seconds(walk)))
}

func (b *bench) binary() {
	info, err := os.Stat(b.sheaf)
	if err != nil {
		b.fail("%v", err)
	}
	row("binary", bytesOf(info.Size()), "one file, no cgo; budget 45 MB")
}
