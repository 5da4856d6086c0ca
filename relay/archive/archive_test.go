package archive

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sheaf/crdt"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
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

// serving runs a test with an archive that serves an account.
func serving(t *testing.T, fn func(t *testing.T, a *sealtest.Account, h *host)) {
	inTime(t, func(t *testing.T) {
		a := sealtest.NewAccount(t, 1)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		fn(t, a, h)
	})
}

func TestUpload(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Laptop.Content(t, "one", "two")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		h.give(t, Taken, r)
		h.give(t, Known, r)
		wanted := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 10))(t)
		if len(wanted) != 2 || !slices.Contains(wanted, s.Refs[0].Digest) || !slices.Contains(wanted, s.Refs[1].Digest) {
			t.Fatalf("wanted are %v", wanted)
		}
		if rest := sealtest.Must(h.Wanted(a.ID(), wanted[0], 10))(t); !slices.Equal(rest, wanted[1:]) {
			t.Errorf("after the first of them: %v", rest)
		}
		held := a.Laptop.Content(t, "never heard of").Refs[0].Digest
		if lacks := sealtest.Must(h.Lacks(a.ID(), []seal.Digest{held, s.Refs[1].Digest, s.Refs[0].Digest}))(t); !slices.Equal(lacks, []seal.Digest{s.Refs[1].Digest, s.Refs[0].Digest}) {
			t.Errorf("of those asked about %v are lacking", lacks)
		}
		if err := h.bring(a, []byte("whatever"), s.Bytes[0]); !errors.Is(err, ErrUnwanted) {
			t.Errorf("a block that nobody waits for: %v", err)
		}
		h.sound(t)
		if v := sealtest.Must(h.Versions(a.ID(), sealtest.Folder, r.Token))(t); len(v) != 1 || v[0].Whole {
			t.Errorf("half uploaded it is %+v", v)
		}
		h.put(t, a, s.Bytes[1])
		if lacks := sealtest.Must(h.Lacks(a.ID(), []seal.Digest{s.Refs[1].Digest, s.Refs[0].Digest}))(t); len(lacks) != 0 {
			t.Errorf("all that is lacking is there, but %v", lacks)
		}
		if v := sealtest.Must(h.Versions(a.ID(), sealtest.Folder, r.Token))(t); len(v) != 1 || !v[0].Whole {
			t.Errorf("uploaded it is %+v", v)
		}
		if err := h.bring(a, s.Bytes...); !errors.Is(err, ErrUnwanted) {
			t.Errorf("blocks that are held: %v", err)
		}
		h.reopen(t)
		h.sound(t)
		if got := h.shown(t, a.Phone); !slices.Equal(got, []string{"f[0100000000000000:1]"}) {
			t.Errorf("another device reads %q", got)
		}
		if !h.holds(t, s, 0) || !h.holds(t, s, 1) {
			t.Error("blocks are not held")
		}
		if u := h.Usages(); len(u) != 1 || u[0].Bytes != uint64(len(s.Bytes[0])+len(s.Bytes[1])) || u[0].Records != 1 {
			t.Errorf("use is %+v", u)
		}
	})
}

// TestHalfUploadReplacesNothing: a device that dies in the middle of an upload has not
// taken away what was there before.
func TestHalfUploadReplacesNothing(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		first, second, third := a.Laptop.Content(t, "first"), a.Laptop.Content(t, "second"), a.Laptop.Content(t, "third")
		e1, e2, e3 := sealtest.File("f", first, false, sealtest.Dot(1, 1)), sealtest.File("f", second, false, sealtest.Dot(1, 2)), sealtest.File("f", third, false, sealtest.Dot(1, 3))
		r1, _ := a.Laptop.Record(t, e1, first)
		r2, _ := a.Laptop.Record(t, e2, second)
		r3, _ := a.Laptop.Record(t, e3, third)
		h.give(t, Taken, r1)
		h.put(t, a, first.Bytes...)
		h.give(t, Taken, r2)
		time.Sleep(400 * day)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e1); current != 2 || past != 0 || !h.holds(t, first, 0) {
			t.Fatalf("with the second on its way: %d current, %d past", current, past)
		}
		// The third takes the place of the second, which will not come any more.
		h.give(t, Taken, r3)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e1); current != 2 || past != 0 {
			t.Errorf("with the third on its way: %d current, %d past", current, past)
		}
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 9))(t); !slices.Equal(w, []seal.Digest{third.Refs[0].Digest}) {
			t.Errorf("wanted are %v", w)
		}
		h.put(t, a, third.Bytes...)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e1); current != 1 || past != 1 {
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
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s, other := a.Laptop.Content(t, "shared", "own"), a.Laptop.Content(t, "shared")
		e := sealtest.File("f", s, false, sealtest.Dot(1, 1))
		r1, _ := a.Laptop.Record(t, e, s)
		r2, _ := a.Laptop.Record(t, sealtest.File("g", other, false, sealtest.Dot(1, 2)), other)
		dead, _ := a.Phone.Record(t, sealtest.File("f", s, true, sealtest.Dot(1, 1), sealtest.Dot(2, 1)), s)
		h.give(t, Taken, r1, r2)
		h.put(t, a, s.Bytes...)
		h.give(t, Taken, dead)
		h.sound(t)
		time.Sleep(30*day - time.Second)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 1 || !h.holds(t, s, 1) {
			t.Fatalf("a second before its time: %d current, %d past", current, past)
		}
		time.Sleep(time.Second)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 0 {
			t.Errorf("at its time: %d current, %d past", current, past)
		}
		if h.holds(t, s, 1) || !h.holds(t, s, 0) {
			t.Error("at its time its own block is there, or the shared one is not")
		}
		if got := h.shown(t, a.Laptop); len(got) != 2 || got[1] != "f[0100000000000000:1 0200000000000000:1] dead" {
			t.Errorf("others do not hear of the deletion: %q", got)
		}
		if u := h.Usages()[0]; u.Bytes != uint64(len(other.Bytes[0])) || u.Records != 2 {
			t.Errorf("use is %+v", u)
		}
		// The file comes back.
		again, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 3), sealtest.Dot(2, 1)), s)
		h.give(t, Taken, again)
		h.put(t, a, s.Bytes[1])
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 0 || !h.holds(t, s, 1) {
			t.Errorf("back again: %d current, %d past", current, past)
		}
	})
}

// TestVersions: all for 30 days, then the last five for as long as the file lives.
func TestVersions(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		var all []sealtest.Content
		var e crdt.Entry
		for i := range 10 {
			s := a.Laptop.Content(t, fmt.Sprint("version ", i))
			e = sealtest.File("f", s, false, sealtest.Dot(1, uint64(i+1)))
			r, _ := a.Laptop.Record(t, e, s)
			h.give(t, Taken, r)
			h.put(t, a, s.Bytes...)
			all = append(all, s)
			time.Sleep(day)
			h.tendAll(t)
		}
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 9 {
			t.Errorf("after ten days %d current, %d past", current, past)
		}
		time.Sleep(400 * day)
		h.tendAll(t)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 5 {
			t.Errorf("after a year %d current, %d past", current, past)
		}
		for i, s := range all {
			if h.holds(t, s, 0) != (i >= 4) {
				t.Errorf("version %d is held: %v", i, h.holds(t, s, 0))
			}
		}
		s := a.Laptop.Content(t, "one more")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 99)), s)
		h.give(t, Taken, r)
		h.put(t, a, s.Bytes...)
		h.tendAll(t)
		h.sound(t)
		if _, past := h.versions(t, a.Laptop, e); past != 5 || h.holds(t, all[4], 0) {
			t.Errorf("with one more %d past, the sixth is held: %v", past, h.holds(t, all[4], 0))
		}
	})
}

// TestFalseClock: no clock shortens what is kept: neither one that leaps while the
// archive runs nor one that did while it was off.
func TestFalseClock(t *testing.T) {
	inTime(t, func(t *testing.T) {
		a := sealtest.NewAccount(t, 1)
		var leap time.Duration
		h := newHost(t, Options{Now: func() time.Time { return time.Now().Add(leap) }})
		defer func() { _ = h.Close() }()
		h.serve(t, a, plenty)
		s := a.Laptop.Content(t, "deleted")
		live, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		dead, _ := a.Laptop.Record(t, sealtest.File("f", s, true, sealtest.Dot(1, 2)), s)
		h.give(t, Taken, live)
		h.put(t, a, s.Bytes...)
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
			h.open(t)
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
		a, stranger := sealtest.NewAccount(t, 1), sealtest.NewAccount(t, 2)
		h := newHost(t, Options{})
		defer func() { _ = h.Close() }()
		s, big := a.Laptop.Content(t, "small"), a.Laptop.Content(t, "also small", "and more")
		h.serve(t, a, Limit{Bytes: uint64(len(s.Bytes[0])), Records: 2})
		r1, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		r2, _ := a.Laptop.Record(t, sealtest.File("g", big, false, sealtest.Dot(1, 2)), big)
		r3, _ := a.Laptop.Record(t, sealtest.File("h", s, false, sealtest.Dot(1, 3)), s)
		foreign, _ := stranger.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		h.give(t, Taken, r1, r2)
		for what, c := range map[string]struct {
			r    *seal.Record
			want error
		}{"a third record": {r3, ErrQuota}, "another group's": {foreign, ErrNotHosted}} {
			if got := sealtest.Must(h.Take(t.Context(), []*seal.Record{c.r}))(t)[0]; got.Outcome != Refused || !errors.Is(got.Err, c.want) {
				t.Errorf("%s: %+v", what, got)
			}
		}
		h.put(t, a, s.Bytes...)
		if err := h.bring(a, big.Bytes...); !errors.Is(err, ErrQuota) {
			t.Errorf("more than the quota: %v", err)
		}
		h.sound(t)
		if err := h.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		h.put(t, a, big.Bytes...)
		h.reopen(t)
		h.sound(t)
		if u := h.Usages()[0]; u.Limit != plenty || u.Records != 2 {
			t.Errorf("use is %+v", u)
		}
		if err := h.bring(stranger, big.Bytes...); !errors.Is(err, ErrNotHosted) {
			t.Errorf("another group's blocks: %v", err)
		}
	})
}

// TestRemovedDevice: what a removed device uploads is set aside, what it had uploaded
// stays.
func TestRemovedDevice(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Phone.Content(t, "before")
		before, _ := a.Phone.Record(t, sealtest.File("f", s, false, sealtest.Dot(2, 1)), s)
		after, _ := a.Phone.Record(t, sealtest.File("f", s, true, sealtest.Dot(2, 2)), s)
		h.give(t, Taken, before)
		h.put(t, a, s.Bytes...)
		cuts := []group.Cut{{Replica: crdt.ReplicaID{2}, Counter: 1}, {Replica: seal.UploadReplica(sealtest.Folder, a.Phone.Keys.ID()), Counter: 1}}
		list := a.RemovePhone(t, cuts...)
		if added := sealtest.Must(h.Hear(a.ID(), list))(t); len(added) == 0 {
			t.Fatal("no statement was new")
		}
		h.give(t, Aside, after)
		h.give(t, Aside, after)
		h.reopen(t)
		h.sound(t)
		if got := h.shown(t, a.Laptop); !slices.Equal(got, []string{"f[0200000000000000:1]"}) {
			t.Errorf("shown is %q", got)
		}
		if aside := sealtest.Must(h.SetAside(a.ID(), 10))(t); len(aside) != 1 {
			t.Errorf("%d are set aside", len(aside))
		}
		head := sealtest.Must(a.Phone.Box.SealHead(sealtest.Seeded(3), a.Phone.Keys, seal.Head{Folder: sealtest.Folder, Number: 1}))(t)
		if err := h.TakeHead(head); !errors.Is(err, seal.ErrNotWriter) {
			t.Errorf("the head of a removed device: %v", err)
		}
	})
}

func TestHeads(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		head := func(number, last uint64) *seal.Head {
			return sealtest.Must(a.Laptop.Box.SealHead(sealtest.Seeded(number), a.Laptop.Keys, seal.Head{Folder: sealtest.Folder, Number: number, Last: last}))(t)
		}
		for _, c := range []struct {
			h    *seal.Head
			want error
		}{{head(1, 5), nil}, {head(3, 9), nil}, {head(2, 7), seal.ErrRolledBack}, {head(3, 9), nil}, {head(3, 8), seal.ErrForked}} {
			if err := h.TakeHead(c.h); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("head %d: %v, not %v", c.h.Number, err, c.want)
			}
		}
		if got := sealtest.Must(h.Heads(a.ID(), sealtest.Folder))(t); len(got) != 1 || sealtest.Must(seal.ParseHead(got[0]))(t).Number != 3 {
			t.Errorf("%d heads", len(got))
		}
	})
}

// TestPages: the references of a large file stand on pages, which are uploaded as
// blocks are.
func TestPages(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		var plain []string
		for i := range 700 {
			plain = append(plain, fmt.Sprint("block ", i%600)) // some of them twice
		}
		s := a.Laptop.Content(t, plain...)
		pieces, data := seal.Pieces(s.List)
		refs, bytes := []seal.Ref(nil), [][]byte(nil)
		for i, p := range pieces {
			b, ref, err := a.Laptop.Box.SealBlock(nil, data[i], p)
			if err != nil {
				t.Fatal(err)
			}
			refs, bytes = append(refs, ref), append(bytes, b)
		}
		e := sealtest.File("large", s, false, sealtest.Dot(1, 1))
		up := sealtest.Content{List: s.List, Refs: append(refs, s.Refs...), Bytes: append(bytes, s.Bytes...)}
		r, pages := a.Laptop.Record(t, e, up)
		h.give(t, Taken, r)
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 9))(t); !slices.Equal(w, r.Pages) {
			t.Fatalf("first the page is wanted, not %v", w)
		}
		h.put(t, a, pages...)
		h.sound(t)
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 1000))(t); len(w) != 600+len(pieces) {
			t.Errorf("then %d blocks are wanted", len(w))
		}
		h.put(t, a, up.Bytes[:600+len(pieces)]...)
		h.sound(t)
		if v := sealtest.Must(h.Versions(a.ID(), sealtest.Folder, r.Token))(t); !v[0].Whole {
			t.Error("with all blocks it is not whole")
		}
		// Another version with the same pages' blocks finds the page here.
		again, _ := a.Laptop.Record(t, sealtest.File("copy", s, false, sealtest.Dot(1, 2)), up)
		h.give(t, Taken, again)
		if v := sealtest.Must(h.Versions(a.ID(), sealtest.Folder, again.Token))(t); !v[0].Whole {
			t.Error("a copy is not whole at once")
		}
		h.sound(t)
		for _, name := range []string{"large", "copy"} {
			gone, _ := a.Laptop.Record(t, sealtest.File(name, up, true, sealtest.Dot(1, 5)), sealtest.Content{List: s.List, Refs: up.Refs})
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

// TestPageLost: of a record whose page of references is gone, nothing stays behind when
// the record goes.
func TestPageLost(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		var plain []string
		for i := range 600 {
			plain = append(plain, fmt.Sprint("block ", i))
		}
		s := a.Laptop.Content(t, plain...)
		pieces, data := seal.Pieces(s.List)
		up := sealtest.Content{List: s.List}
		for i, p := range pieces {
			b, ref, err := a.Laptop.Box.SealBlock(nil, data[i], p)
			if err != nil {
				t.Fatal(err)
			}
			up.Refs, up.Bytes = append(up.Refs, ref), append(up.Bytes, b)
		}
		up.Refs, up.Bytes = append(up.Refs, s.Refs...), append(up.Bytes, s.Bytes...)
		r, pages := a.Laptop.Record(t, sealtest.File("large", s, false, sealtest.Dot(1, 1)), up)
		h.give(t, Taken, r)
		h.put(t, a, pages...)
		h.put(t, a, up.Bytes[:10]...)
		if err := h.shelf.DeleteBlock(t.Context(), cidOf(r.Pages[0])); err != nil {
			t.Fatal(err)
		}
		small := a.Laptop.Content(t, "small")
		next, _ := a.Laptop.Record(t, sealtest.File("large", small, false, sealtest.Dot(1, 2)), small)
		h.give(t, Taken, next)
		h.put(t, a, small.Bytes...)
		h.tendAll(t)
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != uint64(len(small.Bytes[0])) {
			t.Errorf("%d bytes are held", u.Bytes)
		}
	})
}

// TestLost: a block that was lost is asked for again, and its file stays what it was.
func TestLost(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Laptop.Content(t, "one", "two")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		h.give(t, Taken, r)
		h.put(t, a, s.Bytes...)
		if err := h.shelf.DeleteBlock(t.Context(), cidOf(s.Refs[0].Digest)); err != nil {
			t.Fatal(err)
		}
		if rep := sealtest.Must(h.Check(t.Context(), true))(t); len(rep.Absent) != 1 {
			t.Fatalf("the check finds %+v", rep)
		}
		h.sound(t)
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 9))(t); !slices.Equal(w, []seal.Digest{s.Refs[0].Digest}) {
			t.Errorf("wanted are %v", w)
		}
		h.put(t, a, s.Bytes[0])
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != uint64(len(s.Bytes[0])+len(s.Bytes[1])) {
			t.Errorf("use is %+v", u)
		}
	})
}

// TestTakenBack: a deletion that was taken back leaves no version of its own, and one
// whose content never came goes like any other.
func TestTakenBack(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Laptop.Content(t, "one")
		e := sealtest.File("f", s, false, sealtest.Dot(1, 1))
		r1, _ := a.Laptop.Record(t, e, s)
		r2, _ := a.Laptop.Record(t, sealtest.File("f", s, true, sealtest.Dot(1, 2)), s)
		r3, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 3)), s)
		h.give(t, Taken, r1)
		h.put(t, a, s.Bytes...)
		h.give(t, Taken, r2, r3)
		h.sound(t)
		if current, past := h.versions(t, a.Laptop, e); current != 1 || past != 1 {
			t.Errorf("%d current, %d past", current, past)
		}
		never := a.Laptop.Content(t, "never uploaded")
		r4, _ := a.Laptop.Record(t, sealtest.File("g", never, true, sealtest.Dot(1, 4)), never)
		h.give(t, Taken, r4)
		time.Sleep(31 * day)
		h.tendAll(t)
		h.sound(t)
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 9))(t); len(w) != 0 {
			t.Errorf("wanted are %v", w)
		}
	})
}

// TestSameBlockTwice: one block that two devices bring at once counts once.
func TestSameBlockTwice(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Laptop.Content(t, "one")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		h.give(t, Taken, r)
		calls := 0
		h.shelf.hook = func() {
			if calls++; calls == 2 {
				h.put(t, a, s.Bytes...)
			}
		}
		h.put(t, a, s.Bytes...)
		h.sound(t)
		if u := h.Usages()[0]; u.Bytes != uint64(len(s.Bytes[0])) {
			t.Errorf("it counts as %d bytes, and has %d", u.Bytes, len(s.Bytes[0]))
		}
	})
}

// TestTwoPuts: while one device's block is stored, another has brought the same one, the
// record has gone, and the block has been collected. It is not held then.
func TestTwoPuts(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s, none := a.Laptop.Content(t, "one"), sealtest.Content{}
		r1, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		r2, _ := a.Laptop.Record(t, sealtest.File("f", none, true, sealtest.Dot(1, 2)), none)
		r3, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 3)), s)
		h.give(t, Taken, r1)
		calls := 0
		h.shelf.hook = func() {
			if calls++; calls != 2 { // the block is stored, and nothing said of it
				return
			}
			h.put(t, a, s.Bytes...)
			h.give(t, Taken, r2)
			time.Sleep(31 * day)
			h.tendAll(t)
		}
		h.put(t, a, s.Bytes...)
		if calls < 4 {
			t.Fatal("nothing came between")
		}
		h.sound(t)
		h.give(t, Taken, r3)
		if w := sealtest.Must(h.Wanted(a.ID(), seal.Digest{}, 9))(t); len(w) != 1 {
			t.Errorf("the block is said to be held: wanted are %v", w)
		}
	})
}

// TestFailedStore: blocks that could not be stored are still wanted.
func TestFailedStore(t *testing.T) {
	serving(t, func(t *testing.T, a *sealtest.Account, h *host) {
		s := a.Laptop.Content(t, "one")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		h.give(t, Taken, r)
		h.shelf.fail = errors.New("no space left")
		if err := h.bring(a, s.Bytes...); !errors.Is(err, h.shelf.fail) {
			t.Errorf("a full disk: %v", err)
		}
		h.shelf.fail = nil
		h.sound(t)
		h.put(t, a, s.Bytes...)
	})
}
