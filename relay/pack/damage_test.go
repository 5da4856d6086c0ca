package pack

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// copyDisk copies a disk as it is seen, as after a crash of the process.
func copyDisk(d *memDisk) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := newMemDisk()
	for name, f := range d.names {
		c.names[name] = &memFile{data: slices.Clone(f.data), saved: slices.Clone(f.data), dirty: make(map[int]bool)}
	}
	c.kept = maps.Clone(c.names)
	return c
}

func packNames(d *memDisk) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(d.names)), func(n string) bool { return !strings.HasSuffix(n, packSuffix) })
}

// A span is where in which file a record is.
type span struct {
	name     string
	from, to int64
}

// filled makes a disk with some packs, and tells which blocks are held and which
// were deleted, and where the record is that says so.
func filled(t *testing.T, closed bool) (d *memDisk, held, gone map[cid.Cid]span) {
	t.Helper()
	d = newMemDisk()
	s := openMem(t, d, Options{PackSize: 9000})
	rnd := seeded(1)
	l := &ledger{held: make(map[uint64]bool), busy: make(map[uint64]bool)}
	for range 60 {
		must(t, l.act(t.Context(), s, rnd, 3))
	}
	held, gone = make(map[cid.Cid]span), make(map[cid.Cid]span)
	for id := s.next(0); id != 0; id = s.next(id) {
		rows, _, err := s.rows(id)
		must(t, err)
		for _, e := range rows {
			at := span{s.packs[id].name(), int64(e.offset), e.end()}
			if _, _, live := s.liveAt(id, e); live {
				held[e.digest.cid()] = at
			}
			if _, _, there := s.table.get(e.digest); e.kind == kindGone && !there {
				gone[e.digest.cid()] = at
			}
		}
	}
	if closed {
		must(t, s.Close())
	}
	return copyDisk(d), held, gone
}

// harm damages one pack, and tells where.
func harm(d *memDisk, rnd *rand.Rand) (span, string) {
	names := packNames(d)
	name := names[rnd.IntN(len(names))]
	data := d.names[name].data
	at := rnd.IntN(len(data))
	switch rnd.IntN(4) {
	case 0, 1:
		data[at] ^= 1 << rnd.IntN(8)
		return span{name, int64(at), int64(at + 1)}, "a bit flipped"
	case 2:
		at -= at % sector
		end := min(at+sector, len(data))
		clear(data[at:end])
		return span{name, int64(at), int64(end)}, "a sector zeroed"
	default:
		end := min(at+1+rnd.IntN(1000), len(data))
		for i := at; i < end; i++ {
			data[i] = byte(rnd.Uint32())
		}
		return span{name, int64(at), int64(end)}, "overwritten"
	}
}

func (a span) meets(b span) bool { return a.name == b.name && a.from < b.to && b.from < a.to }

// TestDamage: whatever happens to a pack, what is served verifies, blocks that were
// not hit are there, what was deleted does not come back unless its
// tombstone was hit, and what was lost can be put again.
func TestDamage(t *testing.T) {
	t.Parallel()
	lost, healed := 0, 0
	for _, closed := range []bool{true, false} {
		whole, held, gone := filled(t, closed)
		for seed := range uint64(150 * soak()) {
			rnd := seeded(seed)
			d := copyDisk(whole)
			hit, what := harm(d, rnd)
			where := fmt.Sprintf("closed %v, seed %d, %s %s at %d", closed, seed, hit.name, what, hit.from)
			s, err := open(t.Context(), "mem", d, Options{PackSize: 9000, MinFree: -1})
			if err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			if rnd.IntN(2) == 0 {
				_, err := s.Scrub(t.Context(), 0, nil)
				must(t, err)
			}
			if rnd.IntN(2) == 0 {
				_, err := s.Compact(t.Context())
				must(t, err)
			}
			for c, at := range held {
				_, err := s.Get(t.Context(), c)
				if err == nil {
					err = holds(s, c, true)
				} else if at.meets(hit) && ipld.IsNotFound(err) {
					lost++
					err = holds(s, c, false)
				}
				if err != nil {
					t.Fatalf("%s: block at %+v: %v", where, at, err)
				}
			}
			for c, at := range gone {
				if has, err := s.Has(t.Context(), c); err != nil || has && !at.meets(hit) {
					t.Fatalf("%s: what was deleted at %+v is there, %v", where, at, err)
				}
			}
			if err := recount(s); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			for n := range uint64(20) {
				if _, ok := held[small(n).Cid()]; ok {
					must(t, s.Put(t.Context(), small(n)))
					healed++
				}
			}
			must(t, s.Close())
			s, err = open(t.Context(), "mem", d, Options{PackSize: 9000, MinFree: -1})
			must(t, err)
			for c := range held {
				if err := holds(s, c, true); err != nil {
					t.Fatalf("%s: put again: %v", where, err)
				}
			}
			must(t, s.Close())
		}
	}
	if lost == 0 {
		t.Error("nothing was ever hit")
	}
	t.Logf("%d blocks lost, %d put again", lost, healed)
}

// TestLostFooter: it is made anew, and the next start is quick again.
func TestLostFooter(t *testing.T) {
	t.Parallel()
	d, held, _ := filled(t, true)
	names := packNames(d)
	for i, name := range names {
		f := d.names[name]
		if i%2 == 0 {
			f.data[len(f.data)-20] ^= 1
		} else {
			f.resize(len(f.data) - 7)
		}
	}
	s := openMem(t, d, Options{PackSize: 9000})
	if r := s.Recovery(); len(r.Rebuilt) != len(names)-1 {
		t.Errorf("of %d packs: %+v", len(names), r)
	}
	for c := range held {
		must(t, holds(s, c, true))
	}
	must(t, s.Close())
	s = openMem(t, d, Options{PackSize: 9000})
	if r := s.Recovery(); len(r.Rebuilt) > 0 || len(r.Damaged) > 0 || r.Cut > 0 {
		t.Errorf("then: %+v", r)
	}
	// Lost while it is open: the scrub mends it.
	f := d.names[names[0]]
	f.data[len(f.data)-10] ^= 1
	r, err := s.Scrub(t.Context(), 0, nil)
	must(t, err)
	if len(r.Footers) != 1 || len(r.Broken) > 0 {
		t.Errorf("scrub: %+v", r)
	}
	must(t, recount(s))
}

// TestTornTail: a tail of every length is cut, and no more than it.
func TestTornTail(t *testing.T) {
	t.Parallel()
	d := newMemDisk()
	s := openMem(t, d, Options{})
	var ends []int64
	for n := range uint64(3) {
		must(t, s.Put(t.Context(), blockOf(n, 700)))
		ends = append(ends, s.active.end)
	}
	for size := int64(0); size <= ends[2]; size += 13 {
		torn := copyDisk(d)
		torn.names[packNames(torn)[0]].resize(int(size))
		s := openMem(t, torn, Options{})
		last := int64(packHeader)
		for n, end := range ends {
			must(t, holds(s, blockOf(uint64(n), 700).Cid(), end <= size))
			if end <= size {
				last = end
			}
		}
		if cut := s.Recovery().Cut; cut != max(size-last, 0) || len(s.Recovery().Damaged) > 0 {
			t.Fatalf("%d bytes of %v: %+v", size, ends, s.Recovery())
		}
		must(t, s.Put(t.Context(), blockOf(2, 700)))
		must(t, s.Close())
		s = openMem(t, torn, Options{})
		must(t, holds(s, blockOf(2, 700).Cid(), true))
	}
}

// TestQuarantine: a broken block is kept aside and said to be gone, also after a
// restart, until it is put again.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{})
	for n := range uint64(4) {
		must(t, s.Put(ctx, blockOf(n, 1000)))
	}
	flip := func(n uint64) {
		dg, _ := digestOf(blockOf(n, 1000).Cid())
		at, _, _ := s.table.get(dg)
		d.mu.Lock()
		d.names[s.pack(at.pack).name()].data[at.offset+recordHeader+500] ^= 4
		d.mu.Unlock()
	}
	flip(1)
	flip(2)
	var corrupt *CorruptError
	if _, err := s.Get(ctx, blockOf(1, 1000).Cid()); !errors.As(err, &corrupt) || !ipld.IsNotFound(err) {
		t.Errorf("a broken block gave %v", err)
	}
	r, err := s.Scrub(ctx, 1<<20, nil)
	must(t, err)
	if len(r.Broken) != 1 || r.Broken[0] != blockOf(2, 1000).Cid() || r.Blocks != 3 {
		t.Errorf("%+v", r)
	}
	kept := 0
	d.mu.Lock()
	for name, f := range d.names {
		if strings.HasPrefix(name, quarantineDir) && len(f.saved) == 1000 {
			kept++
		}
	}
	d.mu.Unlock()
	if kept != 2 {
		t.Errorf("%d blocks are in quarantine", kept)
	}
	must(t, s.Close())
	s = openMem(t, d, Options{})
	must(t, holds(s, blockOf(1, 1000).Cid(), false))
	must(t, s.Put(ctx, blockOf(1, 1000)))
	must(t, s.Close())
	s = openMem(t, d, Options{})
	must(t, holds(s, blockOf(1, 1000).Cid(), true))
	must(t, holds(s, blockOf(2, 1000).Cid(), false))
	must(t, recount(s))
}

// refuse makes the disk give nothing of a file; "" ends it.
func (d *memDisk) refuse(file string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = func(op, name string) error {
		if op == "read" && name == file {
			return syscall.EIO
		}
		return nil
	}
}

// TestUnreadable: a block that the disk does not give counts as not there until it
// does, or until it is put again; and its pack stays when it is compacted.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newMemDisk()
	s := openMem(t, d, Options{PackSize: 8000})
	for n := range uint64(8) {
		must(t, s.Put(ctx, blockOf(n, 1500)))
	}
	for n := uint64(1); n < 4; n++ {
		must(t, s.DeleteBlock(ctx, blockOf(n, 1500).Cid()))
	}
	first, c := packNames(d)[0], blockOf(0, 1500).Cid()
	for range 2 {
		d.refuse(first)
		if _, err := s.Get(ctx, c); !errors.Is(err, syscall.EIO) {
			t.Errorf("get gave %v", err)
		}
		if has, _ := s.Has(ctx, c); has {
			t.Error("what cannot be read is said to be there")
		}
		d.refuse("")
		_, err := s.Get(ctx, c)
		must(t, errors.Join(err, holds(s, c, true)))
	}
	dg, _ := digestOf(c)
	at, _, _ := s.table.get(dg)
	d.refuse(first)
	_, _ = s.Get(ctx, c)
	must(t, s.Put(ctx, blockOf(0, 1500)))
	must(t, holds(s, c, true))
	if now, _, _ := s.table.get(dg); now == at {
		t.Error("it was not written again")
	}
}

// TestUnreadablePack: a pack that the disk does not give keeps the store from
// nothing else, is left as it is, and counts again when the disk gives it.
func TestUnreadablePack(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		d, held, gone := filled(t, closed)
		names := packNames(d)
		for i := range names {
			d := copyDisk(d)
			name := names[i]
			d.refuse(name)
			s := openMem(t, d, Options{PackSize: 9000})
			for c, at := range held {
				if at.name != name {
					must(t, holds(s, c, true))
				}
			}
			if len(s.Recovery().Damaged) == 0 {
				t.Errorf("%s cannot be read, and nothing was said", name)
			}
			_, err := s.Scrub(t.Context(), 0, nil)
			must(t, err)
			d.refuse("")
			_, err = s.Compact(t.Context())
			must(t, errors.Join(err, s.Close()))
			s = openMem(t, d, Options{PackSize: 9000})
			for c := range held {
				must(t, holds(s, c, true))
			}
			for c := range gone {
				must(t, holds(s, c, false))
			}
			must(t, errors.Join(recount(s), s.Close()))
		}
	}
}
