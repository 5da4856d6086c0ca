package group

import (
	"errors"
	"testing"
	"time"
)

// invite has a member make an invite.
func (w *world) invite(by string, o Offering) Code {
	w.t.Helper()
	var code Code
	w.say(by, func(l *Log, k Keys) ([]Statement, error) {
		s, c, err := l.Invite(w.rand, k, o)
		code = c
		return s, err
	})
	// As a person would pass it on.
	return must(ParseCode(code.URL(), code.Kind))
}

var oneOwner = Offering{Role: Owner, Uses: 1, Expires: noon.Add(time.Hour), Addresses: []string{"/ip4/192.0.2.7/tcp/4001"}}

// host serves joins from a device's log; name "relay" has no keys.
func (w *world) host(name, remote string) Host {
	h := Host{Self: idOf(name), Remote: idOf(remote), Log: w.log(name)}
	if name != "relay" {
		k := keysOf(name)
		h.Keys = &k
	}
	return h
}

// claim runs a join up to where the server has judged the claim; store tells
// whether the server keeps what it should.
func (w *world) claim(j *Joiner, hello Hello, server string, now time.Time, store bool) ([]Answer, *Admission, Preview, error) {
	w.t.Helper()
	host := w.host(server, "")
	host.Remote = hello.Device
	a, offer, err := NewAdmission(w.rand, host, throughCodec(w.t, hello), now)
	if err != nil {
		return nil, nil, Preview{}, throughCodec(w.t, Refuse(err)).Err()
	}
	preview, claim, err := j.Offer(host.Self, throughCodec(w.t, offer))
	if err != nil {
		return nil, nil, Preview{}, err
	}
	said, answers, err := a.Claim(throughCodec(w.t, claim), now)
	if err != nil {
		return nil, nil, Preview{}, throughCodec(w.t, Refuse(err)).Err()
	}
	if store {
		w.put(server, said...)
	}
	return answers, a, preview, nil
}

// finish runs the rest.
func (w *world) finish(j *Joiner, a *Admission, answers []Answer, server, name string) (Joined, error) {
	w.t.Helper()
	for i, answer := range answers {
		more, err := j.Answer(throughCodec(w.t, answer))
		if err != nil {
			return Joined{}, err
		}
		if more != (i < len(answers)-1) {
			w.t.Fatal("more answers to come, or not")
		}
	}
	joined, d, err := j.Finish(w.rand)
	if err != nil {
		return Joined{}, err
	}
	said, err := a.Deliver(throughCodec(w.t, d))
	w.must(err)
	w.put(server, said...)
	throughCodec(w.t, Done{})
	w.logs[name] = joined.Log
	return joined, nil
}

// join runs a whole join.
func (w *world) join(code Code, server, name string, now time.Time) (Joined, Preview, error) {
	w.t.Helper()
	j, hello, err := NewJoiner(w.rand, code, keysOf(name), name, ID{9})
	w.must(err)
	answers, a, preview, err := w.claim(j, hello, server, now, true)
	if err != nil {
		return Joined{}, Preview{}, err
	}
	joined, err := w.finish(j, a, answers, server, name)
	return joined, preview, err
}

func TestJoin(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"a", "b", "relay"} {
		t.Run("served by "+server, func(t *testing.T) {
			t.Parallel()
			w := newAccount(t)
			w.admit("a", "b", Owner)
			code := w.invite("a", oneOwner)
			w.sync("a", "b", "relay")
			joined, preview, err := w.join(code, server, "phone", noon)
			w.must(err)
			if preview.Inviter != "a" || preview.Role != Owner || preview.Label != "" || preview.Expires != oneOwner.Expires.Unix() || preview.Uses != 1 {
				t.Errorf("preview: %+v", preview)
			}
			if !joined.Keyed || (server == "relay") != (len(joined.New) == 1) {
				t.Errorf("keyed %v, new %v", joined.Keyed, joined.New)
			}
			w.sync("a", "b", "relay", "phone")
			st := w.log("a").Evaluate()
			wantMembers(t, st, "paper a b phone")
			ring := must(st.OpenKeys(keysOf("b")))
			if m, _ := st.Named(ring).Member(idOf("phone")); m.Name != "phone" || m.Role != Owner || m.Invite.IsZero() || !m.Account.IsZero() {
				t.Errorf("joined as %+v", m)
			}
			phone := must(w.log("phone").Evaluate().OpenKeys(keysOf("phone")))
			if must(phone.ChunkKey()) != must(ring.ChunkKey()) || phone.Current() != ring.Current() {
				t.Error("keys differ")
			}
			if v := st.Invites[0]; v.Status != InviteUsed || len(v.Claims) != 1 || v.Claims[0] != idOf("phone") || len(st.Alarms)+len(st.Void) > 0 {
				t.Errorf("invite: %+v, alarms %v", v, st.Alarms)
			}
			// It speaks for itself at once.
			w.say("phone", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "my phone") })
		})
	}
}

func TestJoinShare(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	code := w.invite("a", Offering{Role: Editor, MayInvite: true, Uses: 2, Expires: noon.Add(time.Hour)})
	if code.Kind != ShareCode {
		t.Fatal("kind of code")
	}
	_, preview, err := w.join(code, "a", "guest", noon)
	w.must(err)
	if preview.Label != "Holiday" || preview.Inviter != "a" || preview.Role != Editor {
		t.Errorf("preview: %+v", preview)
	}
	st := w.log("a").Evaluate()
	if m, _ := st.Member(idOf("guest")); m.Role != Editor || !m.MayInvite || m.Account != (ID{9}) || st.Invites[0].Status != InviteOpen {
		t.Errorf("guest: %+v", m)
	}
	// The guest invites on, within its rights, and serves the join itself.
	friend := w.invite("guest", Offering{Role: Viewer, Uses: 1, Expires: noon.Add(time.Hour)})
	_, _, err = w.join(friend, "guest", "friend", noon)
	w.must(err)
	w.sync("a", "guest", "friend")
	wantMembers(t, w.log("a").Evaluate(), "a guest friend")
}

func TestRefusedCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		do   func(w *world, code *Code) // before the attempt
		now  time.Time
		want error
	}{
		{"expired", func(*world, *Code) {}, noon.Add(time.Hour), ErrExpired},
		{"revoked", func(w *world, _ *Code) {
			w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Revoke(w.rand, k, l.Evaluate().Invites[0].ID) })
		}, noon, ErrRevoked},
		{"used", func(w *world, code *Code) {
			_, _, err := w.join(*code, "a", "other", noon)
			w.must(err)
		}, noon, ErrUsed},
		{"inviter removed", func(w *world, _ *Code) { w.sync("a", "b"); w.remove("b", "a"); w.sync("a", "b") }, noon, ErrRevoked},
		{"other secret", func(_ *world, code *Code) { code.secret[0] ^= 1 }, noon, ErrWrongCode},
		{"other inviter", func(_ *world, code *Code) { code.Inviter = idOf("b") }, noon, ErrWrongCode},
		{"other group", func(_ *world, code *Code) { code.Group[0] ^= 1 }, noon, ErrWrongCode},
		{"other kind", func(_ *world, code *Code) { code.Kind = ShareCode }, noon, ErrWrongKind},
		{"removed device", func(w *world, _ *Code) { w.admit("a", "phone", Owner); w.remove("a", "phone") }, noon, ErrRemoved},
		{"a member", func(w *world, _ *Code) { w.admit("a", "phone", Owner) }, noon, ErrAlreadyMember},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w := newAccount(t)
			w.admit("a", "b", Owner)
			code := w.invite("a", oneOwner)
			c.do(w, &code)
			before := w.log("a").Len()
			_, _, err := w.join(code, "a", "phone", c.now)
			wantErr(t, err, c.want)
			if w.log("a").Len() != before {
				t.Error("a refused join left something behind")
			}
		})
	}
	_, _, err := NewJoiner(seeded("x"), testCode(RelayCode), keysOf("phone"), "phone", ID{})
	wantErr(t, err, ErrWrongKind)
	_, _, err = NewJoiner(seeded("x"), testCode(DeviceCode), keysOf("phone"), "\n", ID{})
	wantErr(t, err, ErrName)
}

// TestJoinAgain: the answer is lost, and the joiner asks again, at the same
// server and at one that knows nothing of it. It joins once.
func TestJoinAgain(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	w.sync("a", "relay")
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	_, _, _, err = w.claim(j, hello, "relay", noon, true)
	w.must(err)
	// Even after the invite has expired.
	_, _, err = w.join(code, "relay", "phone", noon.Add(time.Hour))
	w.must(err)
	delete(w.logs, "phone")
	_, _, err = w.join(code, "a", "phone", noon)
	w.must(err)
	// Under another name, where it is known: the first join stands.
	j, hello, err = NewJoiner(w.rand, code, keysOf("phone"), "other name", ID{})
	w.must(err)
	answers, a, _, err := w.claim(j, hello, "relay", noon, true)
	w.must(err)
	_, err = w.finish(j, a, answers, "relay", "phone")
	w.must(err)
	w.sync("a", "relay", "phone")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "paper a phone")
	if len(st.Alarms) > 0 || len(st.Invites[0].Claims) != 1 {
		t.Errorf("alarms %v, claims %v", st.Alarms, st.Invites[0].Claims)
	}
}

// TestClaimIsNotCountedUnstored: the server fails to store a claim and adds
// nothing: the use is still there.
func TestClaimIsNotCountedUnstored(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	_, _, _, err = w.claim(j, hello, "a", noon, false)
	w.must(err)
	_, _, err = w.join(code, "a", "tablet", noon)
	w.must(err)
	wantMembers(t, w.log("a").Evaluate(), "paper a tablet")
}

// TestDoubleClaim: a code for one is claimed at two places.
func TestDoubleClaim(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	w.logs["relay2"] = must(LoadLog(w.log("a").Statements()))
	w.sync("a", "relay")
	_, _, err := w.join(code, "relay", "phone", noon)
	w.must(err)
	j, hello, err := NewJoiner(w.rand, code, keysOf("thief"), "thief", ID{})
	w.must(err)
	a, offer, err := NewAdmission(w.rand, Host{Self: idOf("relay2"), Remote: idOf("thief"), Log: w.log("relay2")}, hello, noon)
	w.must(err)
	_, claim, err := j.Offer(idOf("relay2"), offer)
	w.must(err)
	said, answers, err := a.Claim(claim, noon)
	w.must(err)
	w.put("relay2", said...)
	_, err = w.finish(j, a, answers, "relay2", "thief")
	w.must(err)
	// They meet: an alarm, neither is in, and the key they have is stale.
	w.sync("a", "relay", "relay2", "phone", "thief")
	for _, at := range []string{"a", "phone", "relay2"} {
		st := w.log(at).Evaluate()
		wantMembers(t, st, "paper a", "phone", "thief")
		if len(st.Alarms) != 1 || st.Alarms[0].Kind != DoubleClaim || len(st.Alarms[0].Devices) != 2 || st.Alarms[0].Settled {
			t.Fatalf("alarms: %+v", st.Alarms)
		}
		if !st.NeedsEpoch() || st.Invites[0].Status != InviteOverdrawn {
			t.Error("the invite is still good, or the key is thought safe")
		}
	}
	_, _, err = w.join(code, "relay", "third", noon)
	wantErr(t, err, ErrUsed)
	// A person says which one is theirs.
	w.rotate("a")
	if st := w.log("a").Evaluate(); opens(st, "thief", st.Current) || opens(st, "phone", st.Current) || st.NeedsEpoch() {
		t.Error("who is not in opens the new epoch")
	}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Confirm(k, idOf("phone")) })
	w.remove("a", "thief")
	w.sync("a", "relay", "phone", "thief")
	st := w.log("phone").Evaluate()
	wantMembers(t, st, "paper a phone", "thief")
	if st.NeedsEpoch() || opens(st, "thief", st.Current) || !opens(st, "phone", st.Current) || !st.Alarms[0].Settled {
		t.Errorf("after the decision: stale %v, alarms %v", st.NeedsEpoch(), st.Alarms)
	}
}

// TestLateClaimPushesNobodyOut: long after a join, the code's thief brings about
// a claim of its own.
func TestLateClaimPushesNobodyOut(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	early := must(LoadLog(w.log("a").Statements()))
	_, _, err := w.join(code, "a", "phone", noon)
	w.must(err)
	w.logs["relay"] = early
	_, _, err = w.join(code, "relay", "thief", noon)
	w.must(err)
	w.sync("a", "relay", "phone", "thief")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "paper a phone", "thief")
	if len(st.Alarms) != 1 || !st.NeedsEpoch() {
		t.Errorf("alarms %v, stale %v", st.Alarms, st.NeedsEpoch())
	}
	_, err = w.log("a").Confirm(keysOf("a"), idOf("nobody"))
	wantErr(t, err, ErrUnknownDevice)
}

// TestRemovedGuestKnowsTheCode: a code for many is dead once one who knew it was
// removed, and no later epoch is sealed to it.
func TestRemovedGuestKnowsTheCode(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	code := w.invite("a", Offering{Role: Editor, Uses: 5, Expires: noon.Add(time.Hour)})
	early := must(LoadLog(w.log("a").Statements()))
	for _, guest := range []string{"guest", "rogue"} {
		_, _, err := w.join(code, "a", guest, noon)
		w.must(err)
	}
	w.remove("a", "rogue")
	_, _, err := w.join(code, "a", "rogue again", noon)
	wantErr(t, err, ErrRevoked)
	w.logs["relay"] = early
	_, _, err = w.join(code, "relay", "rogue again", noon)
	w.must(err)
	w.sync("a", "relay", "guest", "rogue again")
	st := w.log("guest").Evaluate()
	wantMembers(t, st, "a guest", "rogue", "rogue again")
	if ring, _ := st.OpenKeys(must(code.Keys())); ring.Has(st.Current) || st.NeedsEpoch() {
		t.Error("the code opens the new epoch")
	}
}

// TestRevokeIsStrong: a claim that the revoker had not seen is void; one that it
// had stands.
func TestRevokeIsStrong(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	code := w.invite("a", Offering{Role: Viewer, Uses: 5, Expires: noon.Add(time.Hour)})
	_, _, err := w.join(code, "a", "early", noon)
	w.must(err)
	w.sync("a", "relay")
	_, _, err = w.join(code, "relay", "late", noon)
	w.must(err)
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Revoke(w.rand, k, l.Evaluate().Invites[0].ID) })
	w.sync("a", "relay")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "a early", "late")
	if ring, _ := st.OpenKeys(must(code.Keys())); ring.Has(st.Current) || st.NeedsEpoch() {
		t.Error("the revoked code opens the current epoch")
	}
	_, err = w.log("a").Revoke(w.rand, keysOf("a"), StatementID{1})
	wantErr(t, err, ErrUnknownInvite)
}

// TestKeyMovesOn: between invite and join there is a new epoch. It is sealed to
// the code, so a join works while everybody else is away.
func TestKeyMovesOn(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	code := w.invite("a", oneOwner)
	w.remove("a", "b")
	w.sync("a", "relay")
	joined, _, err := w.join(code, "relay", "phone", noon)
	w.must(err)
	if !joined.Keyed {
		t.Error("joined without the key")
	}
	// An epoch by one who did not know of the invite: a member has to grant.
	w = newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	code = w.invite("a", oneOwner)
	w.rotate("b")
	w.rotate("b")
	w.sync("a", "b", "relay")
	if got := w.log("b").Evaluate().Ungranted(idOf("b")); len(got) != 1 || got[0] != must(code.Keys()).ID() {
		t.Fatalf("ungranted: %v", got)
	}
	joined, _, err = w.join(code, "relay", "phone", noon)
	w.must(err)
	if joined.Keyed {
		t.Fatal("it has a key that nobody sealed to it")
	}
	w.sync("a", "b", "relay", "phone")
	w.say("b", func(l *Log, k Keys) ([]Statement, error) { return l.Grant(k, l.Evaluate().Ungranted(k.ID())...) })
	w.sync("b", "phone")
	if _, err := w.log("phone").Evaluate().OpenKeys(keysOf("phone")); err != nil {
		t.Error(err)
	}
}

// TestHostileServer: offers and answers that are not by the code's group.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	w, other := newAccount(t), newShare(t)
	code := w.invite("a", oneOwner)
	other.invite("a", Offering{Role: Owner, Uses: 1, Expires: noon})
	start := func() (*Joiner, *Admission, Offer) {
		j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
		w.must(err)
		a, o, err := NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
		w.must(err)
		return j, a, o
	}
	for what, spoil := range map[string]func(o *Offer){
		"another server":  func(o *Offer) { o.Server = idOf("b") },
		"another group":   func(o *Offer) { o.Group[0] ^= 1 },
		"another invite":  func(o *Offer) { o.Invite = other.all[len(other.all)-1].raw },
		"no invite":       func(o *Offer) { o.Invite = nil },
		"not an invite":   func(o *Offer) { o.Invite = w.all[0].raw },
		"another's join":  func(o *Offer) { o.Join = w.all[0].raw },
		"no join at all":  func(o *Offer) { o.Join = []byte{1} },
		"a spoilt invite": func(o *Offer) { o.Invite = append([]byte(nil), o.Invite...); o.Invite[len(o.Invite)-1] ^= 1 },
	} {
		j, _, o := start()
		spoil(&o)
		if _, _, err := j.Offer(idOf("a"), o); err == nil {
			t.Errorf("took an offer of %s", what)
		}
	}
	answer := func(statements ...Statement) error {
		j, _, o := start()
		if _, _, err := j.Offer(idOf("a"), o); err != nil {
			t.Fatal(err)
		}
		var a Answer
		for _, s := range statements {
			a.Statements = append(a.Statements, s.raw)
		}
		if _, err := j.Answer(a); err != nil {
			return err
		}
		_, _, err := j.Finish(w.rand)
		return err
	}
	wantErr(t, answer(), ErrProof)
	wantErr(t, answer(w.all...), ErrProof)        // without the join
	wantErr(t, answer(other.all...), ErrProof)    // of another group
	wantErr(t, answer(w.all[1:]...), ErrProof)    // without its beginning
	wantErr(t, answer(Statement{}), ErrMalformed) // no statement

	// Out of turn.
	j, a, o := start()
	_, err := j.Answer(Answer{})
	wantErr(t, err, ErrMalformed)
	_, _, err = j.Finish(w.rand)
	wantErr(t, err, ErrMalformed)
	_, err = a.Deliver(Delivery{})
	wantErr(t, err, ErrMalformed)
	_, claim, err := j.Offer(idOf("a"), o)
	w.must(err)
	_, _, err = j.Offer(idOf("a"), o)
	wantErr(t, err, ErrMalformed)
	_, _, err = a.Claim(claim, noon)
	w.must(err)
	_, _, err = a.Claim(claim, noon)
	wantErr(t, err, ErrMalformed)
}

// TestHostileJoiner: claims without the code.
func TestHostileJoiner(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	j, hello, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
	w.must(err)
	_, _, err = NewAdmission(w.rand, w.host("a", "b"), hello, noon) // the channel says "b"
	wantErr(t, err, ErrProof)
	a, offer, err := NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
	w.must(err)
	_, claim, err := j.Offer(idOf("a"), offer)
	w.must(err)
	again, _, err := NewAdmission(w.rand, w.host("a", "phone"), hello, noon)
	w.must(err)
	_, _, err = again.Claim(claim, noon) // replayed to another conversation
	wantErr(t, err, ErrProof)
	spoilt := claim
	spoilt.Proof[0] ^= 1
	_, _, err = a.Claim(spoilt, noon)
	wantErr(t, err, ErrProof)
	spoilt = claim
	spoilt.Join = []byte{1}
	_, _, err = a.Claim(spoilt, noon)
	wantErr(t, err, ErrProof)
	spoilt.Join = w.all[0].raw
	_, _, err = a.Claim(spoilt, noon)
	wantErr(t, err, ErrProof)
	_, _, err = a.Claim(claim, noon.Add(2*time.Hour)) // took its time
	wantErr(t, err, ErrExpired)
	said, _, err := a.Claim(claim, noon)
	w.must(err)
	w.put("a", said...)
	// What it delivers must be its own.
	_, err = a.Deliver(Delivery{Statements: [][]byte{w.all[0].raw}})
	wantErr(t, err, ErrProof)
	_, err = a.Deliver(Delivery{Statements: make([][]byte, maxDelivery+1)})
	wantErr(t, err, ErrMalformed)
	_, err = a.Deliver(Delivery{Statements: [][]byte{{1}}})
	wantErr(t, err, ErrMalformed)
}

func TestRecovery(t *testing.T) {
	t.Parallel()
	phrase := must(NewPhrase(seeded("recovery")))
	paper := must(PhraseKeys(phrase))
	w := newWorld(t, Founding{Purpose: Account, Name: "a", Paper: paper})
	w.sync("a", "relay")
	recover := func(paper Keys, name string, log *Log) (Joined, error) {
		j, hello, err := NewRecovery(w.rand, paper, keysOf(name), name)
		w.must(err)
		a, offer, err := NewAdmission(w.rand, Host{Self: idOf("relay"), Remote: idOf(name), Log: log}, throughCodec(t, hello), noon)
		if err != nil {
			return Joined{}, err
		}
		_, claim, err := j.Offer(idOf("relay"), throughCodec(t, offer))
		w.must(err)
		said, answers, err := a.Claim(throughCodec(t, claim), noon)
		if err != nil || len(said) > 0 {
			return Joined{}, errors.Join(err, errors.New("stored something"))
		}
		if log != w.log("relay") {
			_, err := j.Answer(answers[0])
			w.must(err)
			joined, _, err := j.Finish(w.rand)
			return joined, err
		}
		return w.finish(j, a, answers, "relay", name)
	}
	joined, err := recover(paper, "new", w.log("relay"))
	w.must(err)
	if !joined.Keyed || len(joined.New) != 2 {
		t.Errorf("keyed %v, new %v", joined.Keyed, joined.New)
	}
	w.sync("a", "relay", "new")
	st := w.log("a").Evaluate()
	if len(st.Members) != 3 || st.Members[2].ID != idOf("new") || st.Named(must(st.OpenKeys(keysOf("a")))).Members[2].Name != "new" {
		t.Errorf("members: %v", st.Members)
	}
	// Asking again changes nothing.
	if joined, err := recover(paper, "new", w.log("relay")); err != nil || len(joined.New) > 0 || !joined.Keyed {
		t.Errorf("again: %v, %v", joined.New, err)
	}
	// Another phrase is none of this account's; an owner's key is no phrase.
	for _, other := range []Keys{keysOf("paper"), keysOf("a")} {
		_, err := recover(other, "newer", w.log("relay"))
		wantErr(t, err, ErrWrongCode)
	}
	// Nobody founds an account around a phrase without it: a genesis that names
	// the paper device lacks its consent.
	b := *w.all[0].b
	g := *b.Genesis
	b.Genesis = &g
	b.Author, g.Founders = idOf("thief"), append([]founder{{Device: certify(device("thief")), Name: g.Label}}, g.Founders[1:]...)
	_, err = b.sign(keysOf("thief"))
	wantErr(t, err, ErrSignature)
	// A share in which the phrase's device is a member is not its account.
	share := newWorld(t, Founding{Purpose: Share, Name: "a", Label: "trap", Devices: []Device{{ID: paper.ID(), Seal: paper.Device().Seal, Proof: paper.Device().Proof, Name: "p"}}})
	_, err = recover(paper, "newer", share.log("a"))
	wantErr(t, err, ErrWrongCode)
	// A claim by who has not the phrase.
	_, hello, err := NewRecovery(w.rand, paper, keysOf("newer"), "newer")
	w.must(err)
	a, _, err := NewAdmission(w.rand, Host{Self: idOf("relay"), Remote: idOf("newer"), Log: w.log("relay")}, hello, noon)
	w.must(err)
	_, _, err = a.Claim(Claim{}, noon)
	wantErr(t, err, ErrProof)
	_, _, err = NewRecovery(w.rand, paper, keysOf("x"), "")
	wantErr(t, err, ErrName)
}

func TestRefusalsTravel(t *testing.T) {
	t.Parallel()
	for _, err := range []error{ErrWrongCode, ErrExpired, ErrUsed, ErrRevoked, ErrWrongKind, ErrRateLimited, ErrRemoved, ErrProof, ErrTooMany, ErrAlreadyMember} {
		if got := throughCodec(t, Refuse(errors.Join(errors.New("x"), err))).Err(); got != err {
			t.Errorf("%v arrives as %v", err, got)
		}
	}
	wantErr(t, Refuse(errors.New("disk full")).Err(), ErrProof)
	wantErr(t, Refusal{Why: 99}.Err(), ErrProof)
}

func TestLimit(t *testing.T) {
	t.Parallel()
	l := NewLimit(time.Minute, 3)
	for i := range 5 {
		if err := l.Allow("x", noon); (err == nil) != (i < 3) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
	if err := l.Allow("y", noon); err != nil {
		t.Error("another source is held back")
	}
	if err := l.Allow("x", noon.Add(time.Minute)); err != nil {
		t.Error("still held back after a minute")
	}
	wantErr(t, l.Allow("x", noon.Add(time.Minute)), ErrRateLimited)
	wantErr(t, l.Allow("x", noon), ErrRateLimited) // a clock that goes back gives nothing
	// Many sources together are held back, too, in bounded room.
	allowed := 0
	for i := range 2 * maxSources {
		if l.Allow(string(rune(i)), noon.Add(time.Minute)) == nil {
			allowed++
		}
	}
	if allowed > 3*totalFactor || len(l.sources) > maxSources {
		t.Errorf("%d attempts allowed, %d sources kept", allowed, len(l.sources))
	}
	if err := l.Allow("new", noon.Add(time.Hour)); err != nil {
		t.Errorf("after an hour: %v", err)
	}
}
