package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"sheaf/crdt"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
)

// soak is how much longer than usual random tests run: SHEAF_SOAK, or 1.
func soak() int {
	if n, err := strconv.Atoi(os.Getenv("SHEAF_SOAK")); err == nil && n > 1 {
		return n
	}
	return 1
}

// A promise is what a device was told of one of its records.
type promise struct {
	raw      []byte
	head     seal.Header
	whole    bool      // it was shown as whole
	replaced time.Time // when something whole was first seen that replaces it
}

// A past is a history with what was promised in it.
type past struct {
	t        *testing.T
	seed     uint64
	rnd      *rand.Rand
	a        *sealtest.Account
	h        *host
	promises map[seal.Token][]*promise
	known    map[seal.Digest][]byte // all blocks that anybody has
	rotten   map[seal.Digest]bool   // lost by the shelf and not yet brought again
	counters map[byte]uint64
	images   int
	diary    []string
}

func (p *past) note(format string, args ...any) {
	p.diary = append(p.diary, fmt.Sprintf(format, args...))
}

// TestHistories: whatever happens to an archive in whatever order, and wherever it is
// cut off, it keeps what it has promised, and its books are in order.
func TestHistories(t *testing.T) {
	seeds := 10 * soak()
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inTime(t, func(t *testing.T) {
				rnd := rand.New(sealtest.Seeded(seed))
				p := &past{t: t, seed: seed, rnd: rnd, a: sealtest.NewAccount(t, seed), promises: map[seal.Token][]*promise{}, known: map[seal.Digest][]byte{}, rotten: map[seal.Digest]bool{}, counters: map[byte]uint64{}}
				p.h = openHost(t, filepath.Join(t.TempDir(), "records"), newShelf(nil), Options{Buffer: 16 << 10, Versions: 2})
				p.h.serve(t, p.a, plenty)
				defer func() { _ = p.h.Close() }()
				for range 60 {
					p.hook()
					if err := p.step(); err != nil {
						t.Fatalf("seed %d: %v\n%q", seed, err, p.diary)
					}
					if err := p.judge(p.h); err != nil {
						t.Fatalf("seed %d: %v\n%q", seed, err, p.diary)
					}
				}
				if p.images == 0 {
					t.Error("nothing was cut off")
				}
			})
		})
	}
}

// hook has the next operation cut off at one of its calls to the blockstore: not
// really, but what would then be there is judged.
func (p *past) hook() {
	at := p.rnd.IntN(6)
	cut := rand.New(rand.NewPCG(p.seed, uint64(len(p.diary))))
	p.h.shelf.hook = func() {
		if at--; at == 0 {
			p.cutOff(cut)
		}
	}
}

// cutOff judges what a power cut at this moment would leave.
func (p *past) cutOff(rnd *rand.Rand) {
	p.images++
	h := p.image(rnd)
	if err := p.judge(h); err != nil {
		p.t.Errorf("seed %d, cut off after %d steps: %v\n%q", p.seed, len(p.diary), err, p.diary)
	}
	if err := h.Close(); err != nil {
		p.t.Error(err)
	}
}

func (p *past) image(rnd *rand.Rand) *host {
	p.t.Helper()
	dir := filepath.Join(p.t.TempDir(), "records")
	image := sealtest.Must(p.h.db.Image(rnd))(p.t)
	if err := image.Write(dir); err != nil {
		p.t.Fatal(err)
	}
	return openHost(p.t, dir, newShelf(p.h.shelf.image()), p.h.o)
}

// judge holds an archive against its own books and against what was promised.
func (p *past) judge(h *host) error {
	rep, err := h.Check(context.Background(), false)
	if err != nil {
		return err
	}
	for _, d := range rep.Absent {
		if !p.rotten[d] {
			return fmt.Errorf("block %s is said to be held and is not there", cidOf(d))
		}
	}
	if len(rep.Faults) > 0 {
		return fmt.Errorf("the books: %q", rep.Faults)
	}
	for token, list := range p.promises {
		versions, err := h.Versions(p.a.ID(), sealtest.Folder, token)
		if err != nil {
			return err
		}
		for _, r := range list {
			if err := p.kept(h, r, versions); err != nil {
				return err
			}
		}
	}
	return nil
}

// kept tells whether the archive has what it has promised of one record.
func (p *past) kept(h *host, r *promise, versions []Version) error {
	there, covered := false, false
	var replaced bool
	for _, v := range versions {
		o := sealtest.Must(seal.ParseRecord(v.Record))(p.t)
		same := bytes.Equal(v.Record, r.raw)
		there = there || same
		covered = covered || o.Seen.Includes(r.head.Seen)
		if same && v.Whole && h == p.h {
			r.whole = true
		}
		replaced = replaced || !same && v.Whole && o.Seen.Includes(r.head.Seen)
	}
	if !covered {
		return fmt.Errorf("record %d by %s is gone, and nothing knows what it knew", r.head.Number, r.head.Author)
	}
	if replaced && r.replaced.IsZero() && h == p.h {
		r.replaced = time.Now()
	}
	if !r.whole || r.head.Dead || !r.replaced.IsZero() && time.Since(r.replaced) >= 30*day {
		return nil
	}
	if !there {
		return fmt.Errorf("record %d by %s is gone before its time", r.head.Number, r.head.Author)
	}
	for _, d := range r.head.Refs {
		if here, err := h.shelf.Has(context.Background(), cidOf(d)); err != nil || !here && !p.rotten[d] {
			return fmt.Errorf("record %d by %s is kept without its block %s (%w)", r.head.Number, r.head.Author, cidOf(d), err)
		}
	}
	return nil
}

func (p *past) step() error {
	ctx := context.Background()
	switch n := p.rnd.IntN(20); {
	case n < 7:
		return p.give()
	case n < 12:
		return p.put()
	case n < 14:
		d := time.Duration(p.rnd.Int64N(int64(20 * day)))
		p.note("sleep %v", d)
		time.Sleep(d)
	case n < 15:
		p.note("tend")
		_, err := p.h.Tend(ctx)
		return err
	case n < 17:
		p.note("tend and collect")
		_, err1 := p.h.Tend(ctx)
		_, err2 := p.h.Collect(ctx)
		return errors.Join(err1, err2)
	case n < 18:
		p.note("reopen")
		p.h.reopen(p.t)
	case n < 19:
		p.note("power cut")
		h := p.image(p.rnd)
		_ = p.h.Close()
		p.h = h
	default:
		return p.rot()
	}
	return nil
}

// give hands in one or two records, new or old.
func (p *past) give() error {
	var records []*seal.Record
	for range 1 + p.rnd.IntN(2) {
		if len(p.promises) > 0 && p.rnd.IntN(8) == 0 {
			list := p.promises[slices.Sorted(tokensOf(p.promises))[p.rnd.IntN(len(p.promises))].token()]
			records = append(records, sealtest.Must(seal.ParseRecord(list[p.rnd.IntN(len(list))].raw))(p.t))
			continue
		}
		records = append(records, p.draw())
	}
	takings, err := p.h.Take(context.Background(), records)
	if err != nil {
		return err
	}
	for i, r := range records {
		p.note("give %x %v dead %v, of %d blocks: outcome %d", r.Token[:2], r.Seen, r.Dead, len(r.Refs), takings[i].Outcome)
		switch takings[i].Outcome {
		case Taken:
			p.promises[r.Token] = append(p.promises[r.Token], &promise{raw: r.Encode(), head: r.Header})
		case Known:
		default:
			return fmt.Errorf("a good record: %w", takings[i].Err)
		}
	}
	return nil
}

// draw makes a record on top of some of those there are of its entry.
func (p *past) draw() *seal.Record {
	d, replica := p.a.Laptop, byte(1)
	if p.rnd.IntN(2) == 0 {
		d, replica = p.a.Phone, 2
	}
	name := string(rune('a' + p.rnd.IntN(4)))
	token := d.Box.Token(sealtest.Folder, sealtest.File(name, sealtest.Content{}, false, sealtest.Dot(1, 1)).ID)
	var seen crdt.VersionVector
	for _, r := range p.promises[token] {
		if p.rnd.IntN(3) > 0 {
			seen = seen.Merge(r.head.Seen)
		}
	}
	p.counters[replica]++
	seen = seen.With(sealtest.Dot(replica, p.counters[replica]))
	var plain []string
	for range p.rnd.IntN(4) {
		plain = append(plain, fmt.Sprint("block ", p.rnd.IntN(8)))
	}
	s := d.Content(p.t, plain...)
	for i, r := range s.Refs {
		p.known[r.Digest] = s.Bytes[i]
	}
	r, _ := d.Record(p.t, sealtest.File(name, s, p.rnd.IntN(4) == 0, seen...), s)
	return r
}

// put brings some of the wanted blocks.
func (p *past) put() error {
	wanted := sealtest.Must(p.h.Wanted(p.a.ID(), seal.Digest{}, 100))(p.t)
	var data [][]byte
	for _, d := range wanted {
		if p.rnd.IntN(3) > 0 {
			data = append(data, p.known[d])
		}
	}
	p.note("put %d of %d", len(data), len(wanted))
	if err := p.h.bring(p.a, data...); err != nil {
		return err
	}
	for _, b := range data {
		for d, known := range p.known {
			if bytes.Equal(b, known) {
				delete(p.rotten, d)
			}
		}
	}
	return nil
}

// rot has the shelf lose a block, and the archive notice.
func (p *past) rot() error {
	p.h.shelf.hook = func() {}
	all := slices.SortedFunc(maps.Keys(p.h.shelf.image()), func(a, b cid.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
	if len(all) == 0 {
		return nil
	}
	c := all[p.rnd.IntN(len(all))]
	d, _ := digestOf(c)
	p.note("rot")
	p.rotten[d] = true
	if err := p.h.shelf.DeleteBlock(context.Background(), c); err != nil {
		return err
	}
	if p.rnd.IntN(2) == 0 {
		_, err := p.h.Check(context.Background(), true)
		return err
	}
	return p.h.Lost(d)
}

// tokensOf gives tokens in an order that is the same in each run.
func tokensOf(m map[seal.Token][]*promise) func(yield func(tokenText) bool) {
	return func(yield func(tokenText) bool) {
		for k := range m {
			if !yield(tokenText(k[:])) {
				return
			}
		}
	}
}

type tokenText string

func (t tokenText) token() seal.Token { return seal.Token([]byte(t)) }
