package group

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestLogTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	w, other := newAccount(t), newShare(t)
	l := w.log("a")
	_, err := l.Add(other.all[0])
	wantErr(t, err, ErrForeign)
	_, err = l.Add(Statement{})
	wantErr(t, err, ErrForeign)
	h := &hostileWorld{world: w}
	g := l.Heads()
	for what, b := range map[string]body{
		"a stranger": {Grant: &grantBody{Epoch: g[0], Keys: []keyBox{{To: idOf("b"), Box: filler(keyBoxSize)}}}},
	} {
		s, _ := h.forge(l, "stranger", g, b)
		if _, err := l.Add(s); err == nil {
			t.Errorf("%s has a say", what)
		} else {
			wantErr(t, err, ErrUnauthorized)
		}
	}
	for what, b := range map[string]body{
		"an epoch unknown":      {Grant: &grantBody{Epoch: StatementID{1}, Keys: []keyBox{{To: idOf("b"), Box: filler(keyBoxSize)}}}},
		"a device unknown":      {Remove: &removeBody{Targets: []departure{{Device: idOf("b")}}}},
		"an invite unknown":     {Revoke: &revokeBody{Invite: StatementID{1}}},
		"no invite":             {Revoke: &revokeBody{Invite: g[0]}},
		"a link unknown":        {Epoch: &epochBody{Keys: []keyBox{{To: idOf("b"), Box: filler(keyBoxSize)}}, Links: []link{{Epoch: StatementID{1}, Box: filler(linkBoxSize)}}}},
		"a role in an account":  {Role: &roleBody{Device: idOf("a"), Role: Viewer}},
		"an editor in account":  {Add: &addBody{Device: certify(device("b")), Role: Editor, Name: sealedName{Epoch: g[0], Box: filler(72)}}},
		"a name without epoch":  {Rename: &renameBody{Device: idOf("a"), Name: sealedName{Epoch: StatementID{1}, Box: filler(72)}}},
		"a stranger's new name": {Rename: &renameBody{Device: idOf("b"), Name: sealedName{Epoch: g[0], Box: filler(72)}}},
	} {
		s, ok := h.forge(l, "a", g, b)
		if !ok {
			t.Fatalf("%s: not forged", what)
		}
		_, err := l.Add(s)
		wantErr(t, err, ErrMalformed)
	}
	if l.Len() != 1 {
		t.Errorf("%d statements", l.Len())
	}
	// A sequence with a gap, one that follows another's, one that is not in its past.
	first := must(l.Rename(w.rand, keysOf("a"), idOf("a"), "x"))[0]
	for _, spoil := range []func(b *body){
		func(b *body) { b.Seq = 3 }, func(b *body) { b.Seq, b.Prev = 2, first.id }, func(b *body) { b.Prev = StatementID{1} },
	} {
		b := *first.b
		spoil(&b)
		s, err := b.sign(keysOf("a"))
		w.must(err)
		_, err = l.Add(s)
		wantErr(t, err, ErrMalformed)
	}
	if _, err := l.Add(first, first); err != nil || l.Len() != 2 {
		t.Errorf("twice the same: %v", err)
	}
	if got, ok := l.Get(first.ID()); !ok || got.String() != first.String() || got.Seq() != 2 || got.Author() != idOf("a") || got.Parents()[0] != g[0] || got.Group() != l.Group() {
		t.Errorf("got %v", got)
	}
	if _, ok := l.Get(StatementID{}); ok || l.Has(StatementID{}) {
		t.Error("has what it has not")
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	for i := range 4 {
		w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), fmt.Sprint("name", i)) })
	}
	l := NewLog(w.id)
	for i := len(w.all) - 1; i > 0; i-- {
		if added, err := l.Add(w.all[i]); err != nil || len(added) > 0 {
			t.Fatalf("added %v, %v", added, err)
		}
		if m := l.Missing(); len(m) != 1 || m[0] != w.all[i-1].id {
			t.Fatalf("missing %v", m)
		}
	}
	if s := l.Evaluate(); l.Len() != 0 || len(s.Members) > 0 {
		t.Error("orphans count")
	}
	added, err := l.Add(w.all[0])
	w.must(err)
	if len(added) != len(w.all) || len(l.Missing()) > 0 || len(l.orphans) > 0 || l.orphanBytes != 0 {
		t.Errorf("%d added, %d orphans left", len(added), len(l.orphans))
	}
	for i, s := range added {
		if s.id != w.all[i].id {
			t.Error("not in an order in which they can be stored")
		}
	}
	_, err = LoadLog(w.all[1:])
	wantErr(t, err, ErrMalformed)
	_, err = LoadLog(nil)
	wantErr(t, err, ErrMalformed)
	_, err = LoadLog([]Statement{w.all[0], newShare(t).all[0]})
	wantErr(t, err, ErrForeign)
}

func TestOrphansAreBounded(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	l := NewLog(w.id)
	h := &hostileWorld{world: w}
	box := keyBox{To: idOf("b"), Box: filler(keyBoxSize)}
	for i := range maxOrphans + 10 {
		s, _ := h.forge(l, "a", []StatementID{{byte(i), byte(i >> 8), 1}}, body{Grant: &grantBody{Epoch: StatementID{1}, Keys: []keyBox{box}}})
		if _, err := l.Add(s, s); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.orphans) != maxOrphans || len(l.orphanQueue) != maxOrphans || len(l.Missing()) != maxOrphans {
		t.Errorf("%d orphans, %d queued", len(l.orphans), len(l.orphanQueue))
	}
}

// TestExchange: two logs that have grown apart come together in one exchange
// each way, and then have nothing more to say.
func TestExchange(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	for _, n := range []string{"b", "c"} {
		w.admit("a", n, Owner)
	}
	w.sync("a", "b", "c")
	base := w.log("a").Statements()
	rapid.Check(t, func(rt *rapid.T) {
		c := &world{t: t, rand: seeded("exchange"), id: w.id, logs: map[string]*Log{}, all: slices.Clone(base)}
		names := []string{"a", "b", "c"}
		for _, n := range names {
			c.logs[n] = must(LoadLog(base))
		}
		for i := range rapid.IntRange(0, 20).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "who")
			if rapid.IntRange(0, 3).Draw(rt, "exchange") == 0 {
				exchange(t, c.log(rapid.SampledFrom(names).Draw(rt, "from")), c.log(name))
				continue
			}
			c.put(name, c.forge(name, name, c.log(name).Heads(), rename(c.log(name).genesis().id, cast[i%3])))
		}
		exchange(t, c.log("a"), c.log("b"))
		exchange(t, c.log("b"), c.log("a"))
		if !slices.Equal(c.log("a").Heads(), c.log("b").Heads()) || c.log("a").Len() != c.log("b").Len() {
			rt.Fatal("they differ after an exchange")
		}
		for _, pair := range [][2]string{{"a", "b"}, {"b", "a"}} {
			if b, err := c.log(pair[0]).Lacking(c.log(pair[1]).Tell()); err != nil || len(b) > 0 {
				rt.Fatalf("more to say: %v, %v", b, err)
			}
		}
	})
}

func TestExchangeWithStrangers(t *testing.T) {
	t.Parallel()
	w, other := newAccount(t), newShare(t)
	_, err := w.log("a").Lacking(other.log("a").Tell())
	wantErr(t, err, ErrForeign)
	_, err = w.log("a").Take(Batch{Group: other.id})
	wantErr(t, err, ErrForeign)
	s := must(w.log("a").Rename(w.rand, keysOf("a"), idOf("a"), "x"))
	b := w.log("a").Batch(s...)[0]
	b.Statements = append([][]byte{{1}, other.all[0].raw}, b.Statements...)
	added, err := w.log("a").Take(b)
	wantErr(t, err, ErrMalformed)
	wantErr(t, err, ErrForeign)
	if len(added) != 1 || added[0].id != s[0].id {
		t.Errorf("added %v", added)
	}
}

// TestPages: a log larger than a message travels in several, each within bounds.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	h := &hostileWorld{world: w}
	l := w.log("a")
	var keys []keyBox
	for i := range MaxMembers {
		keys = append(keys, keyBox{To: DeviceID{byte(i >> 8), byte(i)}, Box: filler(keyBoxSize)})
	}
	for range 5 {
		s, ok := h.forge(l, "a", l.Heads(), body{Epoch: &epochBody{Keys: keys}})
		if !ok {
			t.Fatal("an epoch of MaxMembers does not fit")
		}
		w.put("a", s)
	}
	fresh := NewLog(w.id)
	batches := must(l.Lacking(fresh.Tell()))
	if len(batches) != 5 {
		t.Errorf("%d batches", len(batches))
	}
	for i, b := range batches {
		if n := len(EncodeMessage(b)); n > MaxMessage {
			t.Errorf("message of %d bytes", n)
		}
		if b.More != (i < len(batches)-1) {
			t.Error("more to come, or not")
		}
		if _, err := fresh.Take(throughCodec(t, b)); err != nil {
			t.Fatal(err)
		}
	}
	if fresh.Len() != l.Len() {
		t.Error("something is lacking")
	}
}

// TestManyHeads: more heads than a statement may name as parents.
func TestManyHeads(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	h := &hostileWorld{world: w}
	l := w.log("a")
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "x") })
	mine := l.Heads()
	for i := range maxParents + 20 {
		g := &grantBody{Epoch: l.genesis().id, Keys: []keyBox{{To: DeviceID{byte(i), byte(i >> 8)}, Box: filler(keyBoxSize)}}}
		s, _ := h.forge(l, "paper", w.all[:1][0].ids(), body{Grant: g})
		w.put("a", s)
	}
	s := w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "y") })[0]
	if len(s.b.Parents) != maxParents || s.b.Prev != mine[0] || s.Seq() != 3 {
		t.Errorf("%d parents, follows %s", len(s.b.Parents), s.b.Prev)
	}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "z") })
	if len(l.Heads()) != 1 {
		t.Errorf("%d heads left", len(l.Heads()))
	}
	if n := len(l.Evaluate().Alarms); n != 1 {
		t.Errorf("%d alarms", n)
	}
}

func (s Statement) ids() []StatementID { return []StatementID{s.id} }

// TestBuildersLeaveTheLogAlone: what was not stored was not said.
func TestBuildersLeaveTheLogAlone(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	l := w.log("a")
	w.admit("a", "b", Owner)
	before := dump(l.Evaluate())
	must(l.Remove(w.rand, keysOf("a"), Departure{Device: idOf("b")}))
	must(l.Admit(w.rand, keysOf("a"), New{Device: device("c"), Role: Owner}))
	if _, _, err := l.Invite(w.rand, keysOf("a"), oneOwner); err != nil {
		t.Fatal(err)
	}
	if dump(l.Evaluate()) != before || dump(must(LoadLog(l.Statements())).Evaluate()) != before {
		t.Error("the log changed")
	}
}

func TestStrings(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		Genesis.String(): "genesis", Grant.String(): "grant", SetRole.String(): "role", Kind(99).String(): "kind(99)",
		Owner.String(): "owner", Role(9).String(): "role(9)", Account.String(): "account", Purpose(9).String(): "purpose(9)",
		InviteOpen.String(): "open", InviteUsed.String(): "used", InviteClosed.String(): "closed", InviteOverdrawn.String(): "overdrawn",
		Fork.String(): "fork", DoubleClaim.String(): "double claim", Statement{}.String(): "no statement",
		(StatementID{0xab}).String(): "ab00000000000000", (ID{1}).String(): "01000000000000000000000000000000", DeviceID{}.String(): "aaaa-aaaa-aaaa",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, r := range []Role{Viewer, Editor, Owner} {
		if got, err := ParseRole(r.String()); err != nil || got != r {
			t.Error(err)
		}
	}
	if _, err := ParseRole("boss"); err == nil {
		t.Error("a boss")
	}
}

// BenchmarkEvaluate evaluates a long-lived group: 200 devices that came and 100
// of them that went.
func BenchmarkEvaluate(b *testing.B) {
	w := newShare(b)
	h := &hostileWorld{world: w}
	l := w.log("a")
	e := l.genesis().id
	say := func(x body) {
		s, ok := h.forge(l, "a", l.Heads(), x)
		if !ok {
			b.Fatal("not forged")
		}
		w.put("a", s)
	}
	for i := range 200 {
		d := device(fmt.Sprint("device ", i))
		say(body{Add: &addBody{Device: certify(d), Role: Editor, Name: sealedName{Epoch: e, Box: filler(72)}}})
		say(body{Grant: &grantBody{Epoch: e, Keys: []keyBox{{To: d.ID, Box: filler(keyBoxSize)}}}})
		if i%2 == 0 {
			say(body{Remove: &removeBody{Targets: []departure{{Device: d.ID}}}})
		}
	}
	b.Run("evaluate", func(b *testing.B) {
		for b.Loop() {
			l.state.Store(nil)
			l.Evaluate()
		}
	})
	b.Run("parse and load", func(b *testing.B) {
		for b.Loop() {
			var ss []Statement
			for _, s := range w.all {
				ss = append(ss, must(ParseStatement(s.raw)))
			}
			must(LoadLog(ss))
		}
	})
	b.Logf("%d statements", l.Len())
}
