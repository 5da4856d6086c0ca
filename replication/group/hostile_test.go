package group

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Each test here is one thing that a hostile device can do by hand and this
// package's own functions would not.

func (w *world) forge(at, name string, parents []StatementID, b body) Statement {
	w.t.Helper()
	s, ok := (&hostileWorld{world: w}).forge(w.log(at), name, parents, b)
	if !ok {
		w.t.Fatal("not forged")
	}
	return s
}

func rename(epoch StatementID, name string) body {
	return body{Rename: &renameBody{Device: idOf(name), Name: sealedName{Epoch: epoch, Box: filler(72)}}}
}

// forgeJoin makes a Join through an invite statement, claiming a public key and
// proving it with a key.
func (w *world) forgeJoin(at string, invite StatementID, public DeviceID, by Keys, name string) (Statement, bool) {
	j := &joinBody{Device: certify(keysOf(name).Device()), Public: public, Name: filler(72)}
	j.Proof = by.Sign(joinContext, j.proven(w.id, invite))
	return (&hostileWorld{world: w}).forge(w.log(at), name, []StatementID{invite}, body{Join: j})
}

func TestRemovedSpeaksOn(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.remove("a", "b")
	l := w.log("a")
	s := w.forge("a", "b", l.Heads(), body{Remove: &removeBody{Targets: []departure{{Device: idOf("a")}}}})
	w.put("a", s)
	st := l.Evaluate()
	wantMembers(t, st, "paper a", "b")
	if len(st.Void) != 1 || st.Void[0].ID != s.id || st.Void[0].Why != powerless.String() {
		t.Errorf("void: %v", st.Void)
	}
}

func TestDemotedSpeaksOn(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "o", Owner)
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.SetRole(k, idOf("o"), Editor, false, nil) })
	l := w.log("a")
	_, err := l.Rotate(w.rand, keysOf("o"))
	wantErr(t, err, ErrNotAllowed)
	_, _, err = l.Invite(w.rand, keysOf("o"), Offering{Role: Owner, Uses: 1, Expires: noon})
	wantErr(t, err, ErrNotAllowed)
	// Made by hand, the invite enters the log, and nobody enters by it.
	g := l.genesis().id
	code := keysOf("code")
	i := w.forge("a", "o", l.Heads(), body{Invite: &inviteBody{Public: certify(code.Device()), Role: Owner, Uses: 1, Expires: 1,
		Names: sealedName{Epoch: g, Box: filler(72)}, Preview: filler(8), Epoch: g, Key: filler(keyBoxSize)}})
	w.put("a", i)
	j, _ := w.forgeJoin("a", i.id, code.ID(), code, "friend")
	w.put("a", j)
	wantMembers(t, l.Evaluate(), "a o", "friend")
	if _, ok := l.Evaluate().Invite(i.id); ok || len(l.Evaluate().Void) != 2 {
		t.Errorf("void: %v", l.Evaluate().Void)
	}
}

func TestJoinWithoutTheCode(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	invite := w.all[len(w.all)-1].id
	thief, public := keysOf("thief"), must(code.Keys()).ID()
	if _, ok := w.forgeJoin("a", invite, public, thief, "thief"); ok {
		t.Error("a join passes whose proof is by another key")
	}
	s, ok := w.forgeJoin("a", invite, thief.ID(), thief, "thief")
	if !ok {
		t.Fatal("not forged")
	}
	_, err := w.log("a").Add(s)
	wantErr(t, err, ErrMalformed)
	// Nor does a Join through something else than an invite.
	s, _ = w.forgeJoin("a", w.all[0].id, thief.ID(), thief, "thief")
	_, err = w.log("a").Add(s)
	wantErr(t, err, ErrMalformed)
	wantMembers(t, w.log("a").Evaluate(), "paper a", "thief")
}

func TestSequenceMustBeSeen(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	l := w.log("a")
	g := l.genesis().id
	w.put("a", w.forge("a", "a", []StatementID{g}, rename(g, "a")))
	b := *w.forge("a", "a", l.Heads(), rename(g, "a")).b
	b.Parents = []StatementID{g} // follows what it has not seen
	_, err := l.Add(must(b.sign(keysOf("a"))))
	wantErr(t, err, ErrMalformed)
}

func TestForeignStatements(t *testing.T) {
	t.Parallel()
	w, other := newAccount(t), newShare(t)
	w.logs["b"] = other.log("a")
	said := must(other.log("a").Rename(w.rand, keysOf("a"), idOf("a"), "x"))
	_, err := w.log("a").Add(said...)
	wantErr(t, err, ErrForeign)
	if len(w.log("a").Missing()) > 0 {
		t.Error("waits for another group's statements")
	}
}

func TestOnlyDeterministicEncodings(t *testing.T) {
	t.Parallel()
	good := EncodeMessage(Refusal{Why: 1}) // {7: {0: 1}}
	if _, err := DecodeMessage(good); err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"a number longer than need be": {0xa1, 7, 0xa1, 0, 0x18, 1}, "more behind it": append(slices.Clone(good), 0),
		"an entry unknown": {0xa1, 7, 0xa2, 0, 1, 5, 1}, "an entry twice": {0xa1, 7, 0xa2, 0, 1, 0, 1}, "no end": {0xbf, 7, 0xa1, 0, 1, 0xff},
		"two messages": {0xa2, 6, 0xa0, 7, 0xa1, 0, 1}, "no message": {0xa0}, "nothing": {}, "a tag": {0xc1, 0xa1, 7, 0xa1, 0, 1},
		"a bignum": {0xa1, 7, 0xa1, 0, 0xc2, 0x41, 1}, "null": {0xf6}, "a null part": {0xa1, 7, 0xf6}, "large": make([]byte, MaxMessage+1),
	} {
		_, err := DecodeMessage(b)
		if err == nil {
			t.Errorf("took %s", what)
			continue
		}
		wantErr(t, err, ErrMalformed)
	}
}

// TestGrantAhead: a member grants a device keys before it has joined. That does
// not confirm a claim that it had not seen.
func TestGrantAhead(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "v", Viewer)
	code := w.invite("a", oneOwner)
	invite := w.all[len(w.all)-1].id
	g := w.log("a").genesis().id
	w.put("a", w.forge("a", "v", w.log("a").Heads(), body{Grant: &grantBody{Epoch: g, Keys: []keyBox{{To: idOf("thief"), Box: filler(keyBoxSize)}}}}))
	k := must(code.Keys())
	for _, name := range []string{"guest", "thief"} {
		s, _ := w.forgeJoin("a", invite, k.ID(), k, name)
		w.put("a", s)
	}
	wantMembers(t, w.log("a").Evaluate(), "a v", "guest", "thief")
	// Nor do claimants confirm each other.
	l := w.log("a")
	for _, pair := range [][2]string{{"guest", "thief"}, {"thief", "guest"}} {
		w.put("a", w.forge("a", pair[0], l.Heads(), body{Grant: &grantBody{Epoch: g, Keys: []keyBox{{To: idOf(pair[1]), Box: filler(keyBoxSize)}}}}))
	}
	wantMembers(t, l.Evaluate(), "a v", "guest", "thief")
}

// TestInviterRemoved: who made a code knows it. Once that device is removed, no
// epoch is sealed to the code.
func TestInviterRemoved(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	code := w.invite("b", oneOwner)
	w.sync("a", "b")
	w.remove("a", "b")
	st := w.log("a").Evaluate()
	ring, _ := st.OpenKeys(must(code.Keys()))
	if v := st.Invites[0]; v.Status != InviteClosed || ring.Has(st.Current) || st.NeedsEpoch() {
		t.Errorf("invite is %s, opens the current epoch: %v", v.Status, ring.Has(st.Current))
	}
}

// TestClaimThroughAnotherInvite: the conversation is about a good code, the Join
// goes through one that has expired.
func TestClaimThroughAnotherInvite(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	expired := w.invite("a", Offering{Role: Owner, Uses: 1, Expires: noon.Add(-time.Hour)})
	old := w.all[len(w.all)-1]
	code := w.invite("a", oneOwner)
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	a, offer, err := NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
	w.must(err)
	other, _, err := NewJoiner(w.rand, expired, keysOf("phone"), "phone", ID{})
	w.must(err)
	join, err := other.join(old, nil)
	w.must(err)
	_, _, err = a.Claim(Claim{Join: join.raw, Proof: j.invite.Sign(claimContext, transcript(hello, offer, join.id))}, noon)
	wantErr(t, err, ErrProof)
}

// TestOfferByAnother: a member passes the code's invite off as its own, with a
// role of its own.
func TestOfferByAnother(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.say("a", func(l *Log, k Keys) ([]Statement, error) {
		return l.Admit(w.rand, k, New{Device: device("e"), Role: Editor, MayInvite: true})
	})
	code := w.invite("a", oneOwner)
	mine := *w.all[len(w.all)-1].b.Invite
	mine.Role = Viewer
	copied := w.forge("a", "e", w.log("a").Heads(), body{Invite: &mine})
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	_, _, err = j.Offer(idOf("a"), Offer{Group: w.id, Server: idOf("a"), Invite: copied.raw})
	wantErr(t, err, ErrProof)
	// A server that holds both offers the one that the code means.
	w.put("a", copied)
	_, o, err := NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
	w.must(err)
	_, _, err = j.Offer(idOf("a"), o)
	w.must(err)
}

// TestDeviceCodeForAShare: a code that says "device" and leads into a share.
func TestDeviceCodeForAShare(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	st := w.log("a").Evaluate()
	ring := must(st.OpenKeys(keysOf("a")))
	code := must(NewCode(w.rand, DeviceCode, w.id, idOf("a"), nil))
	i := must(code.body(w.rand, st.Named(ring), ring, idOf("a")))
	i.Role, i.Uses, i.Expires = Viewer, 1, noon.Unix()+1
	w.put("a", w.forge("a", "a", w.log("a").Heads(), body{Invite: i}))
	invite := w.all[len(w.all)-1]
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	_, _, err = NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
	wantErr(t, err, ErrWrongKind)
	_, _, err = j.Offer(idOf("a"), Offer{Group: w.id, Server: idOf("a"), Invite: invite.raw})
	w.must(err)
	w.put("a", j.joined)
	a := Answer{}
	for _, s := range w.log("a").Statements() {
		a.Statements = append(a.Statements, s.raw)
	}
	_, err = j.Answer(a)
	w.must(err)
	_, _, err = j.Finish(w.rand)
	wantErr(t, err, ErrProof)
}

// TestRecoveryIntoATrap: a server answers a recovery with a group that holds the
// phrase's device, but is not its account.
func TestRecoveryIntoATrap(t *testing.T) {
	t.Parallel()
	paper := device("paper")
	for what, trap := range map[string]*world{
		"a share":         newWorld(t, Founding{Purpose: Share, Name: "a", Label: "trap", Devices: []Device{paper}}),
		"another account": newWorld(t, Founding{Purpose: Account, Name: "a", Paper: keysOf("its paper"), Devices: []Device{paper}}),
	} {
		j, _, err := NewRecovery(trap.rand, keysOf("paper"), keysOf("new"), "new")
		trap.must(err)
		_, _, err = j.Offer(idOf("relay"), Offer{Group: trap.id, Server: idOf("relay")})
		trap.must(err)
		_, err = j.Answer(Answer{Statements: [][]byte{trap.all[0].raw}})
		trap.must(err)
		if _, _, err = j.Finish(trap.rand); err == nil {
			t.Errorf("recovered into %s", what)
			continue
		}
		wantErr(t, err, ErrProof)
	}
}

// TestExchangeIsCheap: with much in common, little travels.
func TestExchangeIsCheap(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	g := w.log("a").genesis().id
	for range 100 {
		w.put("a", w.forge("a", "a", w.log("a").Heads(), rename(g, "a")))
	}
	w.sync("a", "b")
	for i := range 5 {
		w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), fmt.Sprint("a", i)) })
		w.say("b", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), fmt.Sprint("b", i)) })
	}
	b := must(w.log("a").Lacking(w.log("b").Tell()))
	if len(b) != 1 || len(b[0].Statements) > 12 {
		t.Errorf("%d statements travel instead of 5", len(b[0].Statements))
	}
}
