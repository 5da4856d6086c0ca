package node

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

// A blob is a file's content as a step names it: the same ID and size are the same
// bytes, everywhere and always.
type blob struct {
	ID   uint32 `json:"id"`
	Size int    `json:"size"`
}

func (b blob) bytes() []byte {
	data := make([]byte, b.Size)
	src := rand.NewChaCha8([32]byte{byte(b.ID), byte(b.ID >> 8), byte(b.ID >> 16), byte(b.ID >> 24), 0xb1})
	_, _ = src.Read(data)
	// Whoever reads a failure wants to see which one it is.
	copy(data, fmt.Sprintf("content %d\n", b.ID))
	return data
}

// A sum stands for some bytes.
type sum [8]byte

func sumOf(data []byte) sum {
	h := sha256.Sum256(data)
	return sum(h[:8])
}

// A ledger follows contents through a history, from what people did and from what
// the disks show, and never by what the programs say: what was written, and by
// whom; what was knowingly overwritten or deleted, by someone on whose disk it was.
type ledger struct {
	known   map[sum]*content
	chunker *chunk.Chunker
}

// content is what the ledger knows of some bytes.
type content struct {
	name    string
	whole   bool     // finished, and synced by who wrote it: it may not be lost
	written int      // times that somebody made a file of it
	ended   []string // by whom and how it was knowingly ended
	by      int      // the device that wrote it first
	torn    bool     // a power cut took it from who wrote it
	hash    crdt.ContentHash
	step    int
}

func newLedger(c *chunk.Chunker) *ledger {
	return &ledger{known: make(map[sum]*content), chunker: c}
}

// contentHash is what an index calls some bytes.
func (l *ledger) contentHash(data []byte) crdt.ContentHash {
	if len(data) <= chunk.MinBlock {
		return crdt.ContentHash(chunk.Sum(data))
	}
	_, list, err := l.chunker.Split(bytes.NewReader(data), func(chunk.Block, []byte) error { return nil })
	if err != nil {
		return crdt.ContentHash{}
	}
	return list.Content()
}

func (l *ledger) write(dev, step int, data []byte, name string) *content {
	h := sumOf(data)
	c := l.known[h]
	if c == nil {
		c = &content{name: name, by: dev, step: step, hash: l.contentHash(data)}
		l.known[h] = c
	}
	c.written++
	return c
}

func (l *ledger) end(h sum, how string) {
	if c := l.known[h]; c != nil && len(c.ended) < 4 {
		c.ended = append(c.ended, how)
	}
}

func (l *ledger) name(h sum) string {
	if c := l.known[h]; c != nil {
		return c.name
	}
	return fmt.Sprintf("unknown bytes %x", h)
}

// A leaf is one name of a tree.
type leaf struct {
	kind   stat.Kind
	mode   uint32
	mtime  int64
	sum    sum
	target string
	size   int64
}

// A hasher remembers what files hold, by the version of their data.
type hasher map[uint64]sum

// ignored tells which of the names that occur are ignored by default: they stay
// where they are.
func ignored(p string) bool { return strings.HasPrefix(path.Base(p), ".~lock.") }

// treeOf reads all below a directory, but what lies in skip.
func treeOf(d *simdisk.Disk, top, skip string, h hasher) map[string]leaf {
	out := make(map[string]leaf)
	d.Walk(top, func(p string, s stat.Stat, data []byte, version uint64, target string) {
		if skip != "" && (p == skip || strings.HasPrefix(p, skip+"/") || ignored(p)) {
			return
		}
		l := leaf{kind: s.Kind, mode: s.Mode, mtime: s.Modified, size: s.Size, target: target}
		switch s.Kind {
		case stat.Directory:
			l.mtime = 0
		case stat.File:
			var ok bool
			if l.sum, ok = h[version]; !ok {
				l.sum = sumOf(data)
				h[version] = l.sum
			}
		}
		out[p] = l
	})
	return out
}

func readAll(fs disk.FS, p string) ([]byte, error) {
	f, err := fs.Open(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, s.Size)
	n, err := f.ReadAt(data, 0)
	if err == io.EOF {
		err = nil
	}
	return data[:n], err
}

// drawTree writes a tree down for a person.
func (l *ledger) drawTree(tree map[string]leaf) string {
	paths := make([]string, 0, len(tree))
	for p := range tree {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, p := range paths {
		x := tree[p]
		switch x.kind {
		case stat.Directory:
			fmt.Fprintf(&b, "    %q/ %o\n", p, x.mode)
		case stat.Symlink:
			fmt.Fprintf(&b, "    %q -> %q\n", p, x.target)
		default:
			fmt.Fprintf(&b, "    %q %o %s\n", p, x.mode, l.name(x.sum))
		}
	}
	return b.String()
}

// A seeded is an io.Reader of random bytes by seed.
func seededReader(parts ...uint64) io.Reader {
	var key [32]byte
	for i, p := range parts {
		binary.LittleEndian.PutUint64(key[8*(i%4):], p^binary.LittleEndian.Uint64(key[8*(i%4):])*31)
	}
	return rand.NewChaCha8(key)
}
