package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
)

// seeded is a source of bytes that are the same in each run.
func seeded(n uint64) *rand.ChaCha8 {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n)
	return rand.NewChaCha8(seed)
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// A party is a device with its account's statements.
type party struct {
	keys group.Keys
	log  *group.Log
}

func (p *party) state() group.State { return p.log.Evaluate() }

func (p *party) box(t testing.TB) *Box {
	t.Helper()
	ring, err := p.state().OpenKeys(p.keys)
	if err != nil && !errors.Is(err, group.ErrNoKey) {
		t.Fatal(err)
	}
	b := must(NewBox(p.log.Group(), ring))(t)
	t.Cleanup(b.Close)
	return b
}

// found founds an account on one device.
func found(t testing.TB, seed uint64) *party {
	t.Helper()
	rnd := seeded(seed)
	keys := must(group.GenerateKeys(rnd))(t)
	paper := must(group.GenerateKeys(rnd))(t)
	list := must(group.Found(rnd, keys, group.Founding{Purpose: group.Account, Name: "laptop", Paper: paper}))(t)
	return &party{keys, must(group.LoadLog(list))(t)}
}

// take gives p statements.
func (p *party) take(t testing.TB, list []group.Statement) {
	t.Helper()
	must(p.log.Add(list...))(t)
}

// admit adds a device to p's account; both know.
func (p *party) admit(t testing.TB, seed uint64) *party {
	t.Helper()
	rnd := seeded(seed)
	keys := must(group.GenerateKeys(rnd))(t)
	d := keys.Device()
	d.Name = "phone"
	p.take(t, must(p.log.Admit(rnd, p.keys, group.New{Device: d, Role: group.Owner}))(t))
	return &party{keys, must(group.LoadLog(p.log.Statements()))(t)}
}

// remove removes a device, letting stand what cuts name.
func (p *party) remove(t testing.TB, q *party, cuts ...group.Cut) {
	t.Helper()
	p.take(t, must(p.log.Remove(seeded(99), p.keys, group.Departure{Device: q.keys.ID(), Cuts: cuts}))(t))
}

var folder = crdt.FolderID{1, 2, 3}

// blockOf names bytes.
func blockOf(b []byte) chunk.Block { return chunk.Block{Hash: chunk.Sum(b), Size: uint32(len(b))} }

// fileOf makes the entry of a file whose blocks these are.
func fileOf(name string, list chunk.List, seen ...crdt.Dot) crdt.Entry {
	if len(seen) == 0 {
		seen = []crdt.Dot{{Replica: crdt.ReplicaID{7}, Counter: 1}}
	}
	last := seen[len(seen)-1]
	stamp := crdt.Stamp{Count: 1, Time: 1_700_000_000_000, Replica: last.Replica}
	at := crdt.Location{Name: name}
	v := &crdt.Version{Stamp: stamp, Author: "laptop", Content: crdt.ContentHash(list.Content()), Size: list.Size(), Blocks: uint32(len(list)), MTime: 1}
	return crdt.Entry{
		ID: crdt.NewEntryID(folder, crdt.Root, crdt.File, name, nil), Kind: crdt.File,
		Place: crdt.Place{Stamp: stamp, Location: at, From: at}, Attrs: crdt.Attrs{Stamp: stamp, Mode: 0o644},
		Live: []crdt.Facet{{Dot: last, Version: v}}, Last: v, Seen: crdt.VersionVector(seen),
	}
}

// refsTo invents where blocks are.
func refsTo(n int, epochs ...group.StatementID) (refs []Ref) {
	for i := range n {
		refs = append(refs, Ref{Digest: sha256.Sum256(fmt.Append(nil, i)), Epoch: epochs[i*len(epochs)/n]})
	}
	return refs
}

// listOf invents a block list.
func listOf(n int) (list chunk.List) {
	for i := range n {
		list = append(list, chunk.Block{Hash: chunk.Sum(fmt.Append(nil, "block", i)), Size: uint32(128<<10 + i)})
	}
	return list
}

func TestPadding(t *testing.T) {
	t.Parallel()
	last, sizes := 0, make(map[int]bool)
	for n := range 1 << 20 {
		p := padded(n)
		if p < n || p < last || p > minPadded && float64(p) > 1.12*float64(n) {
			t.Fatalf("%d is padded to %d, and %d to %d", n-1, last, n, p)
		}
		last = p
		sizes[p] = true
	}
	if len(sizes) > 300 {
		t.Errorf("%d sizes up to 1 MiB can be told apart", len(sizes))
	}
	if p := padded(9); p != minPadded {
		t.Errorf("9 bytes are padded to %d", p)
	}
	for n, want := range map[int]int{257: 272, 1000: 1024, 1025: 1088, 8<<20 + 5: 8<<20 + 256<<10} {
		if p := padded(n); p != want {
			t.Errorf("%d bytes are padded to %d, not %d", n, p, want)
		}
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	b := a.admit(t, 2)
	box, other := a.box(t), b.box(t)
	rnd := seeded(3)
	for _, size := range []int{1, 2, 250, 251, 252, 4096, 100_000, chunk.MaxBlock} {
		noise, text := make([]byte, size), bytes.Repeat([]byte("all work and no play "), size/21+1)[:size]
		_, _ = rnd.Read(noise)
		for name, plain := range map[string][]byte{"noise": noise, "text": text} {
			sealed, ref, err := box.SealBlock([]byte("before"), plain, blockOf(plain))
			if err != nil {
				t.Fatal(err)
			}
			if string(sealed[:6]) != "before" {
				t.Fatal("what stood before the block is gone")
			}
			sealed = sealed[6:]
			if len(sealed) > MaxSealed || ref.Digest != sha256.Sum256(sealed) || name == "text" && size > 4000 && len(sealed) > size/4 {
				t.Errorf("%d bytes of %s became %d", size, name, len(sealed))
			}
			if size > 8 && bytes.Contains(sealed, plain[:8]) {
				t.Errorf("%d bytes of %s can be read", size, name)
			}
			twin, twinRef, err := other.SealBlock(nil, plain, blockOf(plain))
			if err != nil || twinRef != ref || !bytes.Equal(twin, sealed) {
				t.Errorf("another device seals %d bytes of %s otherwise: %v", size, name, err)
			}
			got, err := other.OpenBlock(nil, sealed, ref.Epoch, blockOf(plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes of %s do not open: %v", size, name, err)
			}
		}
	}
	if _, _, err := box.SealBlock(nil, []byte("new"), blockOf([]byte("old"))); !errors.Is(err, ErrChanged) {
		t.Errorf("bytes of another block are sealed: %v", err)
	}
}

// TestAttackBlocks: whatever a relay does to a block, what comes out is the block or
// an error (X5, X6: malleable content, swapped, dropped or cut blocks).
func TestAttackBlocks(t *testing.T) {
	t.Parallel()
	box := found(t, 1).box(t)
	plain := bytes.Repeat([]byte("sheaf "), 100)
	sealed, ref, err := box.SealBlock(nil, plain, blockOf(plain))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, sealed []byte, block chunk.Block) {
		t.Helper()
		if got, err := box.OpenBlock(nil, sealed, ref.Epoch, block); !errors.Is(err, ErrOpen) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		refused(fmt.Sprint("byte ", i), bad, blockOf(plain))
	}
	for n := range sealed {
		refused(fmt.Sprint("cut at ", n), sealed[:n], blockOf(plain))
	}
	refused("longer", append(bytes.Clone(sealed), 0), blockOf(plain))
	refused("huge", make([]byte, MaxSealed+1), blockOf(plain))
	other := []byte("another block")
	swapped, _, err := box.SealBlock(nil, other, blockOf(other))
	if err != nil {
		t.Fatal(err)
	}
	refused("another block", swapped, blockOf(plain))
	short := blockOf(plain)
	short.Size--
	refused("a size that it has not", sealed, short)
}

// TestBlocksAcrossGroups: equal bytes have nothing in common in two groups, nor in two
// epochs (X28).
func TestBlocksAcrossGroups(t *testing.T) {
	t.Parallel()
	a, b := found(t, 1), found(t, 2)
	plain := bytes.Repeat([]byte{0}, 5000)
	one, first, err1 := a.box(t).SealBlock(nil, plain, blockOf(plain))
	two, second, err2 := b.box(t).SealBlock(nil, plain, blockOf(plain))
	a.take(t, must(a.log.Rotate(seeded(5), a.keys))(t))
	three, third, err3 := a.box(t).SealBlock(nil, plain, blockOf(plain))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if first.Digest == second.Digest || first.Digest == third.Digest || bytes.Equal(one[:12], two[:12]) || bytes.Equal(one[:12], three[:12]) {
		t.Error("equal bytes can be told in another group or epoch")
	}
	if got, err := a.box(t).OpenBlock(nil, one, first.Epoch, blockOf(plain)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("what was sealed in an earlier epoch does not open: %v", err)
	}
	if _, err := a.box(t).OpenBlock(nil, two, second.Epoch, blockOf(plain)); !errors.Is(err, group.ErrNoKey) {
		t.Errorf("another group's block: %v", err)
	}
}

// TestOtherCompressor: two results of compressing the same bytes are sealed under
// different nonces, for the key is the same.
func TestOtherCompressor(t *testing.T) {
	t.Parallel()
	box := found(t, 1).box(t)
	plain := bytes.Repeat([]byte("the same bytes "), 1000)
	kinds := map[string]bool{}
	for _, level := range []int{1, 3} {
		other := found(t, 1).box(t)
		if level == 3 {
			other.compress = slowCompressor(t)
		}
		other.ring, other.epochs = box.ring, box.epochs
		sealed, ref, err := other.SealBlock(nil, plain, blockOf(plain))
		if err != nil {
			t.Fatal(err)
		}
		kinds[string(sealed[:blockNonce])] = true
		if got, err := box.OpenBlock(nil, sealed, ref.Epoch, blockOf(plain)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("what another compressor made does not open: %v", err)
		}
	}
	if len(kinds) != 2 {
		t.Error("one nonce for two plaintexts")
	}
}

// deadOf is an entry that was deleted.
func deadOf(e crdt.Entry) crdt.Entry {
	e.Live = nil
	return e
}

func TestRecords(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	old := a.state().Current
	a.take(t, must(a.log.Rotate(seeded(5), a.keys))(t))
	b := a.admit(t, 2)
	box, other := a.box(t), b.box(t)
	now := box.Epoch()
	dead := deadOf(fileOf("deleted", listOf(1)))
	dir := fileOf("directory", nil)
	dir.ID, dir.Kind, dir.Last, dir.Live[0].Version = crdt.NewEntryID(folder, crdt.Root, crdt.Directory, "directory", nil), crdt.Directory, nil, nil
	dir.Attrs.Mode = 0o755
	for name, d := range map[string]Draft{
		"empty":         {Entry: fileOf("empty", nil)},
		"directory":     {Entry: dir},
		"one block":     {Entry: fileOf("one", listOf(1)), Refs: refsTo(1, now)},
		"deleted":       {Entry: dead, Refs: refsTo(1, old)},
		"deleted blind": {Entry: deadOf(fileOf("blind", listOf(700)))},
		"two epochs":    {Entry: fileOf("two", listOf(7)), List: listOf(7), Refs: refsTo(7, old, now)},
		"many blocks":   {Entry: fileOf("many", listOf(400)), List: listOf(400), Refs: refsTo(400, now)},
		"in pieces":     {Entry: fileOf("pieces", listOf(500)), List: listOf(500), Refs: refsTo(501, now)},
		"on a page":     {Entry: fileOf("page", listOf(600)), List: listOf(600), Refs: refsTo(601, old, now, old)},
		"on many pages": {Entry: fileOf("pages", listOf(150_000)), List: listOf(150_000), Refs: refsTo(150_002, now)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d.Folder, d.Number = folder, 42
			r, pages, err := box.SealRecord(seeded(9), a.keys, d)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseRecord(bytes.Clone(r.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			if got.Author != a.keys.ID() || got.Number != 42 || got.Folder != folder || got.Dead != !d.Entry.IsLive() || got.Token != other.Token(folder, d.Entry.ID) {
				t.Errorf("the header is %+v", got.Header)
			}
			if bytes.Contains(r.Encode(), []byte(d.Entry.Place.Name)) || bytes.Contains(r.Encode(), d.Entry.ID[:]) {
				t.Error("the record tells the name or the ID")
			}
			o, err := other.Open(got)
			if err != nil {
				t.Fatal(err)
			}
			if !o.Entry.Equal(d.Entry) {
				t.Errorf("opened it is %+v", o.Entry)
			}
			if refs, err := o.Refs(got, pages...); err != nil || !slices.Equal(refs, d.Refs) {
				t.Errorf("%d references, not %d: %v", len(refs), len(d.Refs), err)
			}
			list := o.List
			if pieces, data := Pieces(d.List); len(pieces) > 0 {
				if !slices.Equal(o.Pieces, pieces) {
					t.Error("the pieces are not those that were sealed")
				}
				list = must(o.Join(data...))(t)
				data[0][5] ^= 1
				if _, err := o.Join(data...); !errors.Is(err, ErrOpen) {
					t.Errorf("a list from other pieces: %v", err)
				}
			}
			if len(d.List) > 0 && !slices.Equal(list, d.List) {
				t.Error("the list is not the file's")
			}
			if len(pages) > 0 {
				pages[0][0] ^= 1
				if _, err := o.Refs(got, pages...); !errors.Is(err, ErrOpen) {
					t.Errorf("references on another page: %v", err)
				}
			}
			if len(r.Encode()) > MaxRecord/4 {
				t.Errorf("%d bytes", len(r.Encode()))
			}
		})
	}
}

// TestDraftsThatDoNotFit: a record never names other blocks than the entry's.
func TestDraftsThatDoNotFit(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	now := box.Epoch()
	for name, d := range map[string]Draft{
		"no references":   {Number: 1, Entry: fileOf("f", listOf(1))},
		"too many":        {Number: 1, Entry: fileOf("f", listOf(1)), Refs: refsTo(2, now)},
		"no list":         {Number: 1, Entry: fileOf("f", listOf(3)), Refs: refsTo(3, now)},
		"another list":    {Number: 1, Entry: fileOf("f", listOf(3)), List: append(listOf(2), listOf(1)...), Refs: refsTo(3, now)},
		"half deleted":    {Number: 1, Entry: deadOf(fileOf("f", listOf(3))), List: listOf(3)},
		"no number":       {Entry: fileOf("f", nil)},
		"pieces unstored": {Number: 1, Entry: fileOf("f", listOf(500)), List: listOf(500), Refs: refsTo(500, now)},
	} {
		if _, _, err := box.SealRecord(seeded(9), a.keys, d); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
