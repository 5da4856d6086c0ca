package chunk

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	cdc "github.com/PlakarKorp/go-cdc-chunkers"
	_ "github.com/PlakarKorp/go-cdc-chunkers/chunkers/jc" // registers what is measured against
)

// BenchmarkSplit is what a scan does to content in memory: cut and hash.
func BenchmarkSplit(b *testing.B) {
	c := chunker(b, 1)
	for _, n := range []int{4 << 10, 100 << 10, 1 << 20, 16 << 20, 256 << 20} {
		data := noise(1, n)
		b.Run(fmt.Sprintf("%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Split(bytes.NewReader(data), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHash is the part of BenchmarkSplit that no chunker can save.
func BenchmarkHash(b *testing.B) {
	data := noise(1, 16<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		Sum(data)
	}
}

// An edition is two versions of something; without a first, something in
// itself.
type edition struct {
	name          string
	before, after []byte
}

// editions gives real content, as far as this machine has it: two versions of
// Go modules as tar files (the newest two that the module cache has of each),
// the Go sources, and programs with edits made to them.
func editions(b *testing.B) []edition {
	out := append([]edition(nil), fromModules(b)...)
	r := rand.New(rand.NewPCG(1, 2))
	bin := programs("/usr/bin", 200<<20)
	if len(bin) > 64<<20 {
		out = append(out,
			edition{"programs, 1 KiB at the front", bin, append(noise(1, 1024), bin...)},
			edition{"programs, 100 insertions", bin, scatter(bin, 100, r)},
			edition{"programs, 100 pages overwritten", bin, overwrite(bin, 100, r)},
			edition{"programs, parts of 1-5 MiB shuffled", bin, shuffle(bin, r)})
	}
	return out
}

func fromModules(b *testing.B) (out []edition) {
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		b.Skip("no go command")
	}
	for _, m := range []string{"tools", "sys", "text"} {
		dirs, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(cache)), "golang.org/x", m+"@*"))
		if len(dirs) >= 2 {
			out = append(out, edition{"x/" + m + ", next version", archive(dirs[len(dirs)-2]), archive(dirs[len(dirs)-1])})
		}
	}
	return out
}

func archive(dir string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return nil
		}
		name, _ := filepath.Rel(dir, p)
		if w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644}) == nil {
			_, _ = w.Write(data)
		}
		return nil
	})
	_ = w.Close()
	return out.Bytes()
}

func programs(dir string, most int) []byte {
	var out bytes.Buffer
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && out.Len() < most {
			data, _ := os.ReadFile(p)
			out.Write(data)
		}
		return nil
	})
	return out.Bytes()
}

func scatter(src []byte, n int, r *rand.Rand) []byte {
	var out []byte
	last := 0
	for i := range n {
		at := len(src)*(2*i+1)/(2*n) + r.IntN(1000)
		out = append(append(out, src[last:at]...), noise(byte(i), 100)...)
		last = at
	}
	return append(out, src[last:]...)
}

func overwrite(src []byte, n int, r *rand.Rand) []byte {
	out := bytes.Clone(src)
	for i := range n {
		copy(out[r.IntN(len(out)-4096)&^4095:], noise(byte(i), 4096))
	}
	return out
}

func shuffle(src []byte, r *rand.Rand) []byte {
	var parts [][]byte
	for o := 0; o < len(src); {
		n := min(len(src)-o, 1<<20+r.IntN(4<<20))
		parts = append(parts, src[o:o+n])
		o += n
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	return bytes.Join(parts, nil)
}

// An algorithm cuts content.
type algorithm struct {
	name string
	cut  func(data []byte, fn func(part []byte))
}

func algorithms(b *testing.B) []algorithm {
	key := [32]byte{7}
	c, err := New(key)
	if err != nil {
		b.Fatal(err)
	}
	out := []algorithm{{"chosen", func(data []byte, fn func([]byte)) {
		var offset int64
		for len(data) > 0 {
			n := c.at(offset).cut(data)
			fn(data[:n])
			data, offset = data[n:], offset+int64(n)
		}
	}}}
	for _, x := range []struct {
		name               string
		least, normal, top int
	}{
		{"kfastcdc", 64, 128, 512}, {"kfastcdc", 128, 256, 1024}, {"kfastcdc", 256, 512, 2048},
		{"fastcdc-v1.0.0", 48, 64, 256}, {"fastcdc-v1.0.0", 64, 128, 512}, {"fastcdc-v1.0.0", 120, 128, 512}, {"fastcdc-v1.0.0", 128, 256, 1024},
		{"jc-v1.0.0", 32, 64, 512}, {"jc-v1.0.0", 64, 128, 1024}, {"jc-v1.1.0", 64, 128, 512},
	} {
		out = append(out, algorithm{fmt.Sprintf("%s-%d-%d", x.name, x.least, x.normal), func(data []byte, fn func([]byte)) {
			opts := &cdc.ChunkerOpts{MinSize: x.least << 10, NormalSize: x.normal << 10, MaxSize: x.top << 10, Key: key[:]}
			k, err := cdc.NewChunker(x.name, bytes.NewReader(data), opts)
			if err != nil {
				b.Fatal(err)
			}
			for {
				part, err := k.Next()
				if len(part) > 0 {
					fn(part)
				}
				if err == io.EOF || len(part) == 0 {
					return
				}
			}
		}})
	}
	return out
}

var loadEditions = sync.OnceValue(func() func(b *testing.B) []edition {
	var once sync.Once
	var got []edition
	return func(b *testing.B) []edition {
		once.Do(func() { got = editions(b) })
		return got
	}
})

// BenchmarkAlgorithms is the choice: for each algorithm and kind of edit, how
// much of the later version is new (new-%), in KiB; the mean block; and the
// speed of cutting alone, on one core.
func BenchmarkAlgorithms(b *testing.B) {
	all := loadEditions()(b)
	if len(all) == 0 {
		b.Skip("no content to measure on")
	}
	for _, a := range algorithms(b) {
		for _, e := range all {
			b.Run(a.name+"/"+e.name, func(b *testing.B) {
				b.SetBytes(int64(len(e.after)))
				for b.Loop() {
					a.cut(e.after, func([]byte) {})
				}
				b.StopTimer()
				known := map[Hash]bool{}
				a.cut(e.before, func(p []byte) { known[Sum(p)] = true })
				fresh, blocks := 0, 0
				a.cut(e.after, func(p []byte) {
					blocks++
					if !known[Sum(p)] {
						fresh += len(p)
					}
				})
				b.ReportMetric(100*float64(fresh)/float64(len(e.after)), "new-%")
				b.ReportMetric(float64(fresh>>10), "new-KiB")
				b.ReportMetric(float64(len(e.after)/blocks>>10), "KiB/block")
			})
		}
	}
}
