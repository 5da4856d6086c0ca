package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sheaf/crdt"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// inTime runs a test on virtual time.
func inTime(t *testing.T, fn func(t *testing.T)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fn(t)
		// The database's pool ends by itself, a second after its database was closed.
		time.Sleep(time.Minute)
	})
}

func TestUpload(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "one", "two")
		r, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		h.give(t, Taken, r)
		h.give(t, Known, r)
		wanted := must(h.Wanted(a.log.Group(), seal.Digest{}, 10))(t)
		if len(wanted) != 2 || !slices.Contains(wanted, s.refs[0].Digest) || !slices.Contains(wanted, s.refs[1].Digest) {
			t.Fatalf("wanted are %v", wanted)
		}
		if rest := must(h.Wanted(a.log.Group(), wanted[0], 10))(t); !slices.Equal(rest, wanted[1:]) {
			t.Errorf("after the first of them: %v", rest)
		}
		if err := h.Put(t.Context(), a.log.Group(), [][]byte{[]byte("whatever"), s.bytes[0]}); !errors.Is(err, ErrUnwanted) {
			t.Errorf("a block that nobody waits for: %v", err)
		}
		h.sound(t)
		if v := must(h.Versions(a.log.Group(), folder, r.Token))(t); len(v) != 1 || v[0].Whole {
			t.Errorf("half uploaded it is %+v", v)
		}
		h.put(t, a, s.bytes[1])
		if v := must(h.Versions(a.log.Group(), folder, r.Token))(t); len(v) != 1 || !v[0].Whole {
			t.Errorf("uploaded it is %+v", v)
		}
		if err := h.Put(t.Context(), a.log.Group(), s.bytes); !errors.Is(err, ErrUnwanted) {
			t.Errorf("blocks that are held: %v", err)
		}
		h = h.reopen(t)
		h.sound(t)
		if got := h.shown(t, a.phone); !slices.Equal(got, []string{"f[0100000000000000:1]"}) {
			t.Errorf("another device reads %q", got)
		}
		if !h.holds(t, s, 0) || !h.holds(t, s, 1) {
			t.Error("blocks are not held")
		}
		if u := h.Usages(); len(u) != 1 || u[0].Bytes != uint64(len(s.bytes[0])+len(s.bytes[1])) || u[0].Records != 1 {
			t.Errorf("use is %+v", u)
		}
	})
}

// TestHalfUploadReplacesNothing: a device that dies in the middle of an upload has not
// taken away what was there before.
func TestHalfUploadReplacesNothing(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		first, second, third := a.laptop.content(t, "first"), a.laptop.content(t, "second"), a.laptop.content(t, "third")
		e1, e2, e3 := file("f", first, false, dot(1, 1)), file("f", second, false, dot(1, 2)), file("f", third, false, dot(1, 3))
		r1, _ := a.laptop.record(t, e1, first)
		r2, _ := a.laptop.record(t, e2, second)
		r3, _ := a.laptop.record(t, e3, third)
		h.give(t, Taken, r1)
		h.put(t, a, first.bytes...)
		h.give(t, Taken, r2)
		time.Sleep(400 * day)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e1); current != 2 || past != 0 || !h.holds(t, first, 0) {
			t.Fatalf("with the second on its way: %d current, %d past", current, past)
		}
		// The third takes the place of the second, which will not come any more.
		h.give(t, Taken, r3)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e1); current != 2 || past != 0 {
			t.Errorf("with the third on its way: %d current, %d past", current, past)
		}
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 9))(t); !slices.Equal(w, []seal.Digest{third.refs[0].Digest}) {
			t.Errorf("wanted are %v", w)
		}
		h.put(t, a, third.bytes...)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e1); current != 1 || past != 1 {
			t.Errorf("with the third there: %d current, %d past", current, past)
		}
		h.give(t, Known, r1, r2)
		time.Sleep(29 * day)
		h.tendAll(t)
		if !h.holds(t, first, 0) {
			t.Error("what was replaced 29 days ago is gone")
		}
	})
}

// TestRetention: what is deleted goes after 30 days with its blocks, but for those that
// something else refers to; the relay does that alone.
func TestRetention(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s, other := a.laptop.content(t, "shared", "own"), a.laptop.content(t, "shared")
		e := file("f", s, false, dot(1, 1))
		r1, _ := a.laptop.record(t, e, s)
		r2, _ := a.laptop.record(t, file("g", other, false, dot(1, 2)), other)
		dead, _ := a.phone.record(t, file("f", s, true, dot(1, 1), dot(2, 1)), s)
		h.give(t, Taken, r1, r2)
		h.put(t, a, s.bytes...)
		h.give(t, Taken, dead)
		h.sound(t)
		time.Sleep(30*day - time.Second)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 1 || !h.holds(t, s, 1) {
			t.Fatalf("a second before its time: %d current, %d past", current, past)
		}
		time.Sleep(time.Second)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 0 {
			t.Errorf("at its time: %d current, %d past", current, past)
		}
		if h.holds(t, s, 1) || !h.holds(t, s, 0) {
			t.Error("at its time its own block is there, or the shared one is not")
		}
		if got := h.shown(t, a.laptop); len(got) != 2 || got[1] != "f[0100000000000000:1 0200000000000000:1] dead" {
			t.Errorf("others do not hear of the deletion: %q", got)
		}
		if u := h.Usages()[0]; u.Bytes != uint64(len(other.bytes[0])) || u.Records != 2 {
			t.Errorf("use is %+v", u)
		}
		// The file comes back.
		again, _ := a.laptop.record(t, file("f", s, false, dot(1, 3), dot(2, 1)), s)
		h.give(t, Taken, again)
		h.put(t, a, s.bytes[1])
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 0 || !h.holds(t, s, 1) {
			t.Errorf("back again: %d current, %d past", current, past)
		}
	})
}

// TestVersions: all for 30 days, then the last five for as long as the file lives.
func TestVersions(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		var all []sealed
		var e crdt.Entry
		for i := range 10 {
			s := a.laptop.content(t, fmt.Sprint("version ", i))
			e = file("f", s, false, dot(1, uint64(i+1)))
			r, _ := a.laptop.record(t, e, s)
			h.give(t, Taken, r)
			h.put(t, a, s.bytes...)
			all = append(all, s)
			time.Sleep(day)
			h.tendAll(t)
		}
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 9 {
			t.Errorf("after ten days %d current, %d past", current, past)
		}
		time.Sleep(400 * day)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 5 {
			t.Errorf("after a year %d current, %d past", current, past)
		}
		for i, s := range all {
			if h.holds(t, s, 0) != (i >= 4) {
				t.Errorf("version %d is held: %v", i, h.holds(t, s, 0))
			}
		}
		s := a.laptop.content(t, "one more")
		r, _ := a.laptop.record(t, file("f", s, false, dot(1, 99)), s)
		h.give(t, Taken, r)
		h.put(t, a, s.bytes...)
		h.tendAll(t)
		h.sound(t)
		if _, past := h.versions(t, a.laptop, e); past != 5 || h.holds(t, all[4], 0) {
			t.Errorf("with one more %d past, the sixth is held: %v", past, h.holds(t, all[4], 0))
		}
	})
}

// TestFalseClock: no clock shortens what is kept: neither one that leaps while the
// archive runs nor one that did while it was off.
func TestFalseClock(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		var leap time.Duration
		h := newHost(t, Options{Now: func() time.Time { return time.Now().Add(leap) }})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "deleted")
		live, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		dead, _ := a.laptop.record(t, file("f", s, true, dot(1, 2)), s)
		h.give(t, Taken, live)
		h.put(t, a, s.bytes...)
		h.give(t, Taken, dead)
		for _, leap = range []time.Duration{10 * 365 * day, -20 * 365 * day, 40 * 365 * day} {
			h.tendAll(t)
			if !h.holds(t, s, 0) {
				t.Fatalf("a clock that leapt by %v has emptied the trash", leap)
			}
		}
		for _, set := range []time.Duration{90 * 365 * day, -20 * 365 * day, 80 * 365 * day} {
			// While the archive was off.
			leap = 0
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			leap = set
			h = openHost(t, h.dir, h.shelf, h.o)
			h.tendAll(t)
			if !h.holds(t, s, 0) {
				t.Fatalf("a clock that was set by %v has emptied the trash", set)
			}
		}
		// That has made it believe two days; the rest it waits for.
		time.Sleep(26 * day)
		h.tendAll(t)
		if !h.holds(t, s, 0) {
			t.Fatal("gone too early")
		}
		time.Sleep(4 * day)
		h.tendAll(t)
		if h.holds(t, s, 0) {
			t.Error("after 30 days it is still there")
		}
	})
}

func TestLimits(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a, stranger := newAccount(t, 1), newAccount(t, 2)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		s, big := a.laptop.content(t, "small"), a.laptop.content(t, "also small", "and more")
		h.serve(t, a, Limit{Bytes: uint64(len(s.bytes[0])), Records: 2})
		r1, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		r2, _ := a.laptop.record(t, file("g", big, false, dot(1, 2)), big)
		r3, _ := a.laptop.record(t, file("h", s, false, dot(1, 3)), s)
		foreign, _ := stranger.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		h.give(t, Taken, r1, r2)
		for what, c := range map[string]struct {
			r    *seal.Record
			want error
		}{"a third record": {r3, ErrQuota}, "another group's": {foreign, ErrNotHosted}} {
			if got := must(h.Take(t.Context(), []*seal.Record{c.r}))(t)[0]; got.Outcome != Refused || !errors.Is(got.Err, c.want) {
				t.Errorf("%s: %+v", what, got)
			}
		}
		h.put(t, a, s.bytes...)
		if err := h.Put(t.Context(), a.log.Group(), big.bytes); !errors.Is(err, ErrQuota) {
			t.Errorf("more than the quota: %v", err)
		}
		h.sound(t)
		if err := h.Host(a.log.Group(), plenty); err != nil {
			t.Fatal(err)
		}
		h.put(t, a, big.bytes...)
		h = h.reopen(t)
		h.sound(t)
		if u := h.Usages()[0]; u.Limit != plenty || u.Records != 2 {
			t.Errorf("use is %+v", u)
		}
		if err := h.Put(t.Context(), stranger.log.Group(), big.bytes); !errors.Is(err, ErrNotHosted) {
			t.Errorf("another group's blocks: %v", err)
		}
	})
}

// TestRemovedDevice: what a removed device uploads is set aside, what it had uploaded
// stays.
func TestRemovedDevice(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.phone.content(t, "before")
		before, _ := a.phone.record(t, file("f", s, false, dot(2, 1)), s)
		after, _ := a.phone.record(t, file("f", s, true, dot(2, 2)), s)
		h.give(t, Taken, before)
		h.put(t, a, s.bytes...)
		cuts := []group.Cut{{Replica: crdt.ReplicaID{2}, Counter: 1}, {Replica: seal.UploadReplica(folder, a.phone.keys.ID()), Counter: 1}}
		list := must(a.log.Remove(seeded(9), a.laptop.keys, group.Departure{Device: a.phone.keys.ID(), Cuts: cuts}))(t)
		if added := must(h.Hear(a.log.Group(), list))(t); len(added) == 0 {
			t.Fatal("no statement was new")
		}
		h.give(t, Aside, after)
		h.give(t, Aside, after)
		h = h.reopen(t)
		h.sound(t)
		if got := h.shown(t, a.laptop); !slices.Equal(got, []string{"f[0200000000000000:1]"}) {
			t.Errorf("shown is %q", got)
		}
		if aside := must(h.SetAside(a.log.Group(), 10))(t); len(aside) != 1 {
			t.Errorf("%d are set aside", len(aside))
		}
		head := must(a.phone.box.SealHead(seeded(3), a.phone.keys, seal.Head{Folder: folder, Number: 1}))(t)
		if err := h.TakeHead(head); !errors.Is(err, seal.ErrNotWriter) {
			t.Errorf("the head of a removed device: %v", err)
		}
	})
}

func TestHeads(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		head := func(number, last uint64) *seal.Head {
			return must(a.laptop.box.SealHead(seeded(number), a.laptop.keys, seal.Head{Folder: folder, Number: number, Last: last}))(t)
		}
		for _, c := range []struct {
			h    *seal.Head
			want error
		}{{head(1, 5), nil}, {head(3, 9), nil}, {head(2, 7), seal.ErrRolledBack}, {head(3, 9), nil}, {head(3, 8), seal.ErrForked}} {
			if err := h.TakeHead(c.h); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("head %d: %v, not %v", c.h.Number, err, c.want)
			}
		}
		if got := must(h.Heads(a.log.Group(), folder))(t); len(got) != 1 || must(seal.ParseHead(got[0]))(t).Number != 3 {
			t.Errorf("%d heads", len(got))
		}
	})
}

// TestPages: the references of a large file stand on pages, which are uploaded as
// blocks are.
func TestPages(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		var plain []string
		for i := range 700 {
			plain = append(plain, fmt.Sprint("block ", i%600)) // some of them twice
		}
		s := a.laptop.content(t, plain...)
		pieces, data := seal.Pieces(s.list)
		refs, bytes := []seal.Ref(nil), [][]byte(nil)
		for i, p := range pieces {
			b, ref, err := a.laptop.box.SealBlock(nil, data[i], p)
			if err != nil {
				t.Fatal(err)
			}
			refs, bytes = append(refs, ref), append(bytes, b)
		}
		e := file("large", s, false, dot(1, 1))
		up := sealed{list: s.list, refs: append(refs, s.refs...), bytes: append(bytes, s.bytes...)}
		r, pages := a.laptop.record(t, e, up)
		h.give(t, Taken, r)
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 9))(t); !slices.Equal(w, r.Pages) {
			t.Fatalf("first the page is wanted, not %v", w)
		}
		h.put(t, a, pages...)
		h.sound(t)
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 1000))(t); len(w) != 600+len(pieces) {
			t.Errorf("then %d blocks are wanted", len(w))
		}
		h.put(t, a, up.bytes[:600+len(pieces)]...)
		h.sound(t)
		if v := must(h.Versions(a.log.Group(), folder, r.Token))(t); !v[0].Whole {
			t.Error("with all blocks it is not whole")
		}
		// Another version with the same pages' blocks finds the page here.
		again, _ := a.laptop.record(t, file("copy", s, false, dot(1, 2)), up)
		h.give(t, Taken, again)
		if v := must(h.Versions(a.log.Group(), folder, again.Token))(t); !v[0].Whole {
			t.Error("a copy is not whole at once")
		}
		h.sound(t)
		for _, name := range []string{"large", "copy"} {
			gone, _ := a.laptop.record(t, file(name, up, true, dot(1, 5)), sealed{list: s.list, refs: up.refs})
			h.give(t, Taken, gone)
		}
		time.Sleep(31 * day)
		h.tendAll(t)
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != 0 || len(h.shelf.image()) != 0 {
			t.Errorf("after both were deleted %d bytes in %d blocks are held", u.Bytes, len(h.shelf.image()))
		}
	})
}

// TestLost: a block that was lost is asked for again, and its file stays what it was.
func TestLost(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "one", "two")
		r, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		h.give(t, Taken, r)
		h.put(t, a, s.bytes...)
		if err := h.shelf.DeleteBlock(t.Context(), cidOf(s.refs[0].Digest)); err != nil {
			t.Fatal(err)
		}
		if rep := must(h.Check(t.Context(), true))(t); len(rep.Absent) != 1 {
			t.Fatalf("the check finds %+v", rep)
		}
		h.sound(t)
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 9))(t); !slices.Equal(w, []seal.Digest{s.refs[0].Digest}) {
			t.Errorf("wanted are %v", w)
		}
		h.put(t, a, s.bytes[0])
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != uint64(len(s.bytes[0])+len(s.bytes[1])) {
			t.Errorf("use is %+v", u)
		}
	})
}

// TestTakenBack: a deletion that was taken back leaves no version of its own, and one
// whose content never came goes like any other.
func TestTakenBack(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "one")
		e := file("f", s, false, dot(1, 1))
		r1, _ := a.laptop.record(t, e, s)
		r2, _ := a.laptop.record(t, file("f", s, true, dot(1, 2)), s)
		r3, _ := a.laptop.record(t, file("f", s, false, dot(1, 3)), s)
		h.give(t, Taken, r1)
		h.put(t, a, s.bytes...)
		h.give(t, Taken, r2, r3)
		h.sound(t)
		if current, past := h.versions(t, a.laptop, e); current != 1 || past != 1 {
			t.Errorf("%d current, %d past", current, past)
		}
		never := a.laptop.content(t, "never uploaded")
		r4, _ := a.laptop.record(t, file("g", never, true, dot(1, 4)), never)
		h.give(t, Taken, r4)
		time.Sleep(31 * day)
		h.tendAll(t)
		h.sound(t)
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 9))(t); len(w) != 0 {
			t.Errorf("wanted are %v", w)
		}
	})
}

// TestSameBlockTwice: one block that two devices bring at once counts once.
func TestSameBlockTwice(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "one")
		r, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		h.give(t, Taken, r)
		calls := 0
		h.shelf.hook = func() {
			if calls++; calls == 2 {
				h.put(t, a, s.bytes...)
			}
		}
		h.put(t, a, s.bytes...)
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != uint64(len(s.bytes[0])) {
			t.Errorf("it counts as %d bytes, and has %d", u.Bytes, len(s.bytes[0]))
		}
	})
}

// TestTwoPuts: while one device's block is stored, another has brought the same one, the
// record has gone, and the block has been collected. It is not held then.
func TestTwoPuts(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s, none := a.laptop.content(t, "one"), sealed{}
		r1, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		r2, _ := a.laptop.record(t, file("f", none, true, dot(1, 2)), none)
		r3, _ := a.laptop.record(t, file("f", s, false, dot(1, 3)), s)
		h.give(t, Taken, r1)
		calls := 0
		h.shelf.hook = func() {
			if calls++; calls != 2 { // the block is stored, and nothing said of it
				return
			}
			h.put(t, a, s.bytes...)
			h.give(t, Taken, r2)
			time.Sleep(31 * day)
			h.tendAll(t)
		}
		h.put(t, a, s.bytes...)
		if calls < 4 {
			t.Fatal("nothing came between")
		}
		h.sound(t)
		h.give(t, Taken, r3)
		if w := must(h.Wanted(a.log.Group(), seal.Digest{}, 9))(t); len(w) != 1 {
			t.Errorf("the block is said to be held: wanted are %v", w)
		}
	})
}

// TestFailedStore: blocks that could not be stored are still wanted.
func TestFailedStore(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := newAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.laptop.content(t, "one")
		r, _ := a.laptop.record(t, file("f", s, false, dot(1, 1)), s)
		h.give(t, Taken, r)
		h.shelf.fail = errors.New("no space left")
		if err := h.Put(context.Background(), a.log.Group(), s.bytes); !errors.Is(err, h.shelf.fail) {
			t.Errorf("a full disk: %v", err)
		}
		h.shelf.fail = nil
		h.sound(t)
		h.put(t, a, s.bytes...)
	})
}
