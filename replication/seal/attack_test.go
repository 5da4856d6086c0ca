package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"sheaf/crdt"
	"sheaf/replication/group"
)

// TestAttackRecords: a relay can change nothing in a record, nor make one of its own
// (X7 to X9: metadata, injection, framing).
func TestAttackRecords(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	now := box.Epoch()
	seal := func(name string, number uint64) *Record {
		r, _, err := box.SealRecord(seeded(number), a.keys, Draft{Folder: folder, Number: number, Entry: fileOf(name, listOf(2)), List: listOf(2), Refs: refsTo(2, now)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r, other := seal("f", 1), seal("g", 2)
	for i := range r.raw {
		bad := bytes.Clone(r.raw)
		bad[i] ^= 4
		if got, err := ParseRecord(bad); err == nil {
			t.Errorf("byte %d: taken as %+v", i, got.Header)
		} else if !errors.Is(err, ErrMalformed) && !errors.Is(err, group.ErrSignature) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for n := range r.raw {
		if _, err := ParseRecord(r.raw[:n]); err == nil {
			t.Errorf("the first %d bytes are a record", n)
		}
	}
	// One who may sign, a relay that has got hold of a device's keys but not of the
	// group's, cannot put another box, token, vector or blocks to it.
	for what, change := range map[string]func(h *Header) []byte{
		"another box":     func(*Header) []byte { return other.box },
		"another token":   func(h *Header) []byte { h.Token = other.Token; return r.box },
		"another folder":  func(h *Header) []byte { h.Folder[0]++; return r.box },
		"another vector":  func(h *Header) []byte { h.Seen = h.Seen.With(crdt.Dot{Counter: 9}); return r.box },
		"dead":            func(h *Header) []byte { h.Dead = true; return r.box },
		"other blocks":    func(h *Header) []byte { h.Refs = []Digest{h.Refs[1], h.Refs[0]}; return r.box },
		"another number":  func(h *Header) []byte { h.Number++; return r.box },
		"a cut box":       func(*Header) []byte { return r.box[:20] },
		"another epoch":   func(h *Header) []byte { h.Epoch[0]++; return r.box },
		"another group":   func(h *Header) []byte { h.Group[0]++; return r.box },
		"nothing in it":   func(*Header) []byte { return nil },
		"one block fewer": func(h *Header) []byte { h.Refs = h.Refs[:1]; return r.box },
	} {
		h := r.Header
		bad := change(&h)
		if o, err := box.Open(resign(t, a.keys, h, bad)); !errors.Is(err, ErrOpen) && !errors.Is(err, group.ErrNoKey) {
			t.Errorf("%s: opened as %+v, %v", what, o, err)
		}
	}
	b := a.admit(t, 2)
	h := r.Header
	h.Author = b.keys.ID()
	if _, err := b.box(t).Open(resign(t, b.keys, h, r.box)); !errors.Is(err, ErrOpen) {
		t.Errorf("a record under another's name: %v", err)
	}
}

// TestLyingMember: a member that seals what does not fit together is found out before
// anything is taken in (X16).
func TestLyingMember(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	now := box.Epoch()
	good := fileOf("f", listOf(3))
	body := func(change func(b *bodyItems)) []byte {
		b := bodyItems{Entry: good.Encode(nil), List: listOf(3).Encode()}
		change(&b)
		return encode(b)
	}
	for what, payload := range map[string][]byte{
		"as it should be":     body(func(*bodyItems) {}),
		"no entry":            body(func(b *bodyItems) { b.Entry = nil }),
		"a list of another":   body(func(b *bodyItems) { b.List = listOf(2).Encode() }),
		"no list":             body(func(b *bodyItems) { b.List = nil }),
		"list and pieces":     body(func(b *bodyItems) { b.Pieces, b.Length = make([]byte, 32), 20<<10 }),
		"pieces of no length": body(func(b *bodyItems) { b.List, b.Pieces = nil, make([]byte, 32) }),
		"pieces without end":  body(func(b *bodyItems) { b.List, b.Pieces, b.Length = nil, make([]byte, 32), 1<<62 }),
		"runs too long": body(func(b *bodyItems) {
			b.Epochs = []epochRun{{Epoch: now, Count: 1 << 63}, {Epoch: now, Count: 1<<63 + 3}}
		}),
		"runs too short":    body(func(b *bodyItems) { b.Epochs = []epochRun{{Epoch: now, Count: 2}} }),
		"an empty run":      body(func(b *bodyItems) { b.Epochs = []epochRun{{Epoch: now}, {Epoch: now, Count: 3}} }),
		"no CBOR":           []byte("no CBOR"),
		"an array too long": {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		h := Header{Group: a.log.Group(), Folder: folder, Token: box.Token(folder, good.ID), Epoch: now, Author: a.keys.ID(), Number: 1, Seen: good.Seen}
		for _, r := range refsTo(3, now) {
			h.Refs = append(h.Refs, r.Digest)
		}
		_, err := box.Open(resign(t, a.keys, h, sealRaw(t, box, h, payload)))
		if what == "as it should be" {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		} else if !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLyingHeader: what a member says to the relay in the clear is what it says to the
// readers.
func TestLyingHeader(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	good := fileOf("f", listOf(3))
	payload := encode(bodyItems{Entry: good.Encode(nil), List: listOf(3).Encode()})
	for what, change := range map[string]func(h *Header){
		"as it should be":  func(*Header) {},
		"another token":    func(h *Header) { h.Token[0]++ },
		"another folder":   func(h *Header) { h.Folder[0]++ },
		"another vector":   func(h *Header) { h.Seen = h.Seen.With(crdt.Dot{Counter: 9}) },
		"dead":             func(h *Header) { h.Dead = true },
		"one block fewer":  func(h *Header) { h.Refs = h.Refs[:2] },
		"one block more":   func(h *Header) { h.Refs = append(h.Refs, Digest{}) },
		"none, but a page": func(h *Header) { h.Refs, h.Pages = nil, []Digest{{}} },
	} {
		h := Header{Group: a.log.Group(), Folder: folder, Token: box.Token(folder, good.ID), Epoch: box.Epoch(), Author: a.keys.ID(), Number: 1, Seen: good.Seen}
		for _, r := range refsTo(3, box.Epoch()) {
			h.Refs = append(h.Refs, r.Digest)
		}
		change(&h)
		_, err := box.Open(resign(t, a.keys, h, sealRaw(t, box, h, payload)))
		if (what == "as it should be") != (err == nil) || err != nil && !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestLyingBlock: a member that seals other bytes with a block's key is found out by
// the block's hash: AES-GCM alone does not commit to a key or its bytes.
func TestLyingBlock(t *testing.T) {
	t.Parallel()
	box := found(t, 1).box(t)
	plain := []byte("what the entry names")
	keys := must(box.keys(box.Epoch()))(t)
	aead := must(blockAEAD(keys, blockOf(plain).Hash))(t)
	nonce := make([]byte, blockNonce)
	lie := func(kind byte, payload []byte) []byte {
		return aead.Seal(bytes.Clone(nonce), nonce, appendFrame(nil, kind, payload), nil)
	}
	bomb := box.compress.EncodeAll(make([]byte, 64<<20), nil)
	for what, c := range map[string]struct {
		sealed []byte
		good   bool
	}{
		"the bytes":              {lie(plainBytes, plain), true},
		"the bytes, compressed":  {lie(zstdBytes, box.compress.EncodeAll(plain, nil)), true},
		"others":                 {lie(plainBytes, []byte("what the entry NAMES")), false},
		"others, compressed":     {lie(zstdBytes, box.compress.EncodeAll([]byte("what the entry NAMES"), nil)), false},
		"of a kind not known":    {lie(9, plain), false},
		"what expands for ever":  {lie(zstdBytes, bomb), false},
		"what is not compressed": {lie(zstdBytes, plain), false},
	} {
		got, err := box.OpenBlock(nil, c.sealed, box.Epoch(), blockOf(plain))
		if c.good != (err == nil) || c.good != bytes.Equal(got, plain) || err != nil && !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
}

// TestFewerBlocks: an entry whose number of blocks is not that of its list.
func TestFewerBlocks(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	e := fileOf("f", listOf(3))
	e.Last.Blocks = 2
	h := Header{Group: a.log.Group(), Folder: folder, Token: box.Token(folder, e.ID), Epoch: box.Epoch(), Author: a.keys.ID(), Number: 1, Seen: e.Seen, Refs: []Digest{{1}, {2}}}
	payload := encode(bodyItems{Entry: e.Encode(nil), List: listOf(3).Encode()})
	if _, err := box.Open(resign(t, a.keys, h, sealRaw(t, box, h, payload))); !errors.Is(err, ErrOpen) {
		t.Errorf("opened: %v", err)
	}
}

// TestOneForm: what is signed and what is framed has one form.
func TestOneForm(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	r, _, err := a.box(t).SealRecord(seeded(1), a.keys, Draft{Folder: folder, Number: 1, Entry: fileOf("f", nil)})
	if err != nil {
		t.Fatal(err)
	}
	long := &Record{head: slices.Concat(r.head[:1], []byte{0x18, 0x01}, r.head[2:]), box: r.box}
	long.sig = a.keys.Sign(recordContext, long.signed())
	if _, err := ParseRecord(encode(recordItems{Header: long.head, Box: long.box, Sig: long.sig})); !errors.Is(err, ErrMalformed) {
		t.Errorf("a header in a longer form: %v", err)
	}
	frame := appendFrame(nil, plainBytes, []byte("payload"))
	if _, _, ok := openFrame(frame); !ok {
		t.Error("a frame does not open")
	}
	if _, _, ok := openFrame(append(frame, make([]byte, 16)...)); ok {
		t.Error("a frame with more padding opens")
	}
	frame[len(frame)-1] = 1
	if _, _, ok := openFrame(frame); ok {
		t.Error("a frame with something in its padding opens")
	}
}

func TestReplaces(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	r1, r2 := crdt.ReplicaID{1}, crdt.ReplicaID{2}
	seal := func(name string, dots ...crdt.Dot) *Record {
		r, _, err := box.SealRecord(seeded(1), a.keys, Draft{Folder: folder, Number: 1, Entry: fileOf(name, nil, dots...)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first, second := seal("f", crdt.Dot{Replica: r1, Counter: 1}), seal("f", crdt.Dot{Replica: r1, Counter: 2})
	beside, both := seal("f", crdt.Dot{Replica: r2, Counter: 1}), seal("f", crdt.Dot{Replica: r1, Counter: 2}, crdt.Dot{Replica: r2, Counter: 1})
	other := seal("g", crdt.Dot{Replica: r1, Counter: 9}, crdt.Dot{Replica: r2, Counter: 9})
	for _, c := range []struct {
		what string
		a, b *Record
		want bool
	}{
		{"a later one", second, first, true}, {"an earlier one", first, second, false}, {"itself", first, first, true},
		{"a concurrent one", beside, second, false}, {"the merged one", both, second, true}, {"the merged one", both, beside, true},
		{"another entry's", other, first, false},
	} {
		if got := c.a.Replaces(c.b); got != c.want {
			t.Errorf("%s replaces: %v", c.what, got)
		}
	}
}

// TestJudge: whose records count, before and after a removal (X15, X17, X20).
func TestJudge(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	phone := a.admit(t, 2)
	old := phone.box(t)
	replica := crdt.ReplicaID{7}
	seal := func(p *party, box *Box, number, counter uint64) *Record {
		r, _, err := box.SealRecord(seeded(number), p.keys, Draft{Folder: folder, Number: number, Entry: fileOf("f", nil, crdt.Dot{Replica: replica, Counter: counter})})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r3, r4, later := seal(phone, old, 3, 3), seal(phone, old, 4, 4), seal(phone, old, 3, 9)
	state := a.state()
	for _, r := range []*Record{r3, r4, later} {
		if err := Judge(&state, &r.Header); err != nil {
			t.Error(err)
		}
	}
	a.remove(t, phone, group.Cut{Replica: replica, Counter: 4}, group.Cut{Replica: UploadReplica(folder, phone.keys.ID()), Counter: 3})
	state = a.state()
	own := seal(a, a.box(t), 1, 4)
	backdated := seal(a, a.box(t), 2, 9)
	stranger := found(t, 3)
	foreign := seal(stranger, stranger.box(t), 1, 1)
	unknown := own.Header
	unknown.Epoch[0]++
	nobody := own.Header
	nobody.Author[0]++
	for _, c := range []struct {
		what string
		h    *Header
		want error
	}{
		{"what it had uploaded before", &r3.Header, nil}, {"what it uploads after", &r4.Header, ErrCutOff}, {"under an old number, a later change", &later.Header, ErrCutOff},
		{"another's, with its earlier changes", &own.Header, nil}, {"another's, with its later changes", &backdated.Header, ErrCutOff},
		{"another group's", &foreign.Header, ErrForeign}, {"an epoch nobody heard of", &unknown, ErrUnknown}, {"an author nobody heard of", &nobody, ErrUnknown},
	} {
		if err := Judge(&state, c.h); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, not %v", c.what, err, c.want)
		}
	}
	// The removed device opens nothing that is sealed from then on; the others open all.
	if _, err := old.Open(own); !errors.Is(err, group.ErrNoKey) {
		t.Errorf("a removed device opens what came after: %v", err)
	}
	phone.take(t, a.log.Statements())
	if _, err := phone.box2(t).Open(own); !errors.Is(err, group.ErrNoKey) {
		t.Errorf("and with the statements as well: %v", err)
	}
	if _, err := a.box(t).Open(r3); err != nil {
		t.Errorf("what the removed device had uploaded does not open: %v", err)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	box := a.box(t)
	rnd := seeded(4)
	var marks []Sum
	for i := range 100 {
		marks = append(marks, must(box.Mark(box.Epoch(), Token{byte(i)}, crdt.VersionVector{{Counter: 1}}))(t))
	}
	var whole Sum
	for _, m := range marks {
		whole = whole.Add(m)
	}
	for range 20 {
		order := slices.Clone(marks)
		for i := range order {
			j := int(rnd.Uint64() % uint64(i+1))
			order[i], order[j] = order[j], order[i]
		}
		var s Sum
		for _, m := range order {
			s = s.Add(m)
		}
		if s != whole {
			t.Fatal("the order matters")
		}
		for _, m := range order[1:] {
			s = s.Remove(m)
		}
		if s != order[0] {
			t.Fatal("what is taken out is not out")
		}
	}
	a.take(t, must(a.log.Rotate(seeded(5), a.keys))(t))
	if next := a.box(t); must(next.Mark(next.Epoch(), Token{1}, crdt.VersionVector{{Counter: 1}}))(t) == marks[1] {
		t.Error("one mark in two epochs")
	}
}

// TestHeads: a relay that goes back, and an author whose keys are in two hands, are
// noticed (X12, X18).
func TestHeads(t *testing.T) {
	t.Parallel()
	a := found(t, 1)
	phone := a.admit(t, 2)
	box, other := a.box(t), phone.box(t)
	seal := func(number, last uint64, sum Sum) *Head {
		return must(box.SealHead(seeded(number), a.keys, Head{Folder: folder, Number: number, Last: last, Sum: sum}))(t)
	}
	first, second, twin, back := seal(1, 10, Sum{1}), seal(2, 20, Sum{2}), seal(2, 20, Sum{3}), seal(3, 15, Sum{4})
	got, err := other.OpenHead(second.Encode())
	if err != nil || got.Sum != (Sum{2}) || got.Last != 20 || got.Number != 2 || got.Author != a.keys.ID() {
		t.Fatalf("opened as %+v, %v", got, err)
	}
	if bytes.Contains(second.Encode(), second.Sum[:]) {
		t.Error("the sum can be read")
	}
	for _, c := range []struct {
		what        string
		next, known *Head
		want        error
	}{
		{"the next", second, first, nil}, {"the same", second, second, nil}, {"the one before", first, second, ErrRolledBack},
		{"another under one number", twin, second, ErrForked}, {"one that has uploaded less", back, second, ErrRolledBack},
	} {
		if err := c.next.Follows(c.known); !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
			t.Errorf("%s: %v, not %v", c.what, err, c.want)
		}
	}
	raw := second.Encode()
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 2
		if h, err := other.OpenHead(bad); err == nil {
			t.Errorf("byte %d: opened as %+v", i, h)
		}
	}
	if _, err := found(t, 9).box(t).OpenHead(raw); !errors.Is(err, ErrOpen) {
		t.Errorf("another group opens it: %v", err)
	}
	if h := must(ParseHead(raw))(t); h.Sum != (Sum{}) {
		t.Error("without a key the sum is read")
	}
}

// TestSizesTellLittle: files of one class of sizes are sealed to one size, whatever is
// in them (X29).
func TestSizesTellLittle(t *testing.T) {
	t.Parallel()
	box := found(t, 1).box(t)
	rnd := seeded(8)
	sizes := map[int]int{}
	for size := 100_001; size < 102_000; size += 53 {
		plain := make([]byte, size)
		_, _ = rnd.Read(plain)
		sealed, _, err := box.SealBlock(nil, plain, blockOf(plain))
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(sealed)]++
	}
	if len(sizes) > 2 {
		t.Errorf("sizes within 2 %% are told apart: %v", sizes)
	}
	records := map[int]int{}
	for n := range 60 {
		r, _, err := box.SealRecord(seeded(uint64(n)), found(t, 1).keys, Draft{Folder: folder, Number: 5, Entry: fileOf(fmt.Sprintf("%0*d", n+1, 0), nil)})
		if err != nil {
			t.Fatal(err)
		}
		records[len(r.Encode())]++
	}
	if len(records) > 2 {
		t.Errorf("names of up to 60 bytes are told apart by the sizes %v", records)
	}
}
