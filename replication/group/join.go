package group

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// A Joiner is the joining side of /sheaf/join/1, without the bytes:
//
//	joiner                                server (inviter, any member, relay)
//	Hello     who, by which code   ->
//	          <-  Offer             the signed invite: role, whose, to what
//	  (a person says yes)
//	Claim     proof, Join          ->   checks, stores
//	          <-  Answer...         the group's statements
//	  Finish: checks them, opens the keys
//	Delivery  a grant to itself    ->   stores
//	          <-  Done
//
// At any point the server may send a Refusal instead. The caller stores its Keys
// before it sends the Hello, and what Finish gives before it sends the Delivery.
// After a failure it starts again, here or with another server, with the same
// keys and the same name: it then says the same Join again, which counts once.
type Joiner struct {
	keys   Keys
	hello  Hello
	offer  Offer
	joined Statement
	got    []Statement
	bytes  int

	code    Code // of a join
	invite  Keys
	name    string
	account ID

	paper Keys // of a recovery

	step step
}

// step is what is awaited.
type step uint8

const (
	awaitOffer step = iota
	awaitAnswer
	awaitFinish
	finished
)

var errOutOfTurn = fmt.Errorf("out of turn: %w", ErrMalformed)

// maxLogBytes bounds a log that is taken from a stranger.
const maxLogBytes = 64 << 20

// NewJoiner starts a join by a device or share code. Name is what this device is
// to be called; account is the joiner's account, for a share. ErrWrongKind for a
// relay's code, ErrName.
func NewJoiner(rand io.Reader, code Code, keys Keys, name string, account ID) (*Joiner, Hello, error) {
	if code.Kind != DeviceCode && code.Kind != ShareCode {
		return nil, Hello{}, fmt.Errorf("join: %w", &WrongKindError{Got: code.Kind, Want: DeviceCode})
	}
	if err := CheckName(name); err != nil {
		return nil, Hello{}, fmt.Errorf("join: device name: %w", err)
	}
	if code.Kind == DeviceCode {
		account = ID{}
	}
	invite, err := code.Keys()
	if err != nil {
		return nil, Hello{}, fmt.Errorf("join: %w", err)
	}
	j := &Joiner{keys: keys, code: code, invite: invite, name: name, account: account}
	j.hello = Hello{Kind: code.Kind, Group: code.Group, Invite: invite.ID(), Inviter: code.Inviter, Device: keys.ID()}
	if _, err := io.ReadFull(rand, j.hello.Nonce[:]); err != nil {
		return nil, Hello{}, fmt.Errorf("join: draw nonce: %w", err)
	}
	return j, j.hello, nil
}

// NewRecovery starts a recovery: the holder of the phrase makes a new device,
// with keys and name, an owner of the account.
func NewRecovery(rand io.Reader, paper, keys Keys, name string) (*Joiner, Hello, error) {
	if err := CheckName(name); err != nil {
		return nil, Hello{}, fmt.Errorf("recover: device name: %w", err)
	}
	j := &Joiner{keys: keys, paper: paper, name: name}
	j.hello = Hello{Paper: paper.ID(), Device: keys.ID()}
	if _, err := io.ReadFull(rand, j.hello.Nonce[:]); err != nil {
		return nil, Hello{}, fmt.Errorf("recover: draw nonce: %w", err)
	}
	return j, j.hello, nil
}

func (j *Joiner) recovers() bool { return !j.hello.Paper.IsZero() }

// Offer takes the server's offer. server is whom the channel was authenticated
// as. The Preview is for a person, the Claim to be sent once that person agrees.
// ErrProof if the offer is not what the code's maker signed.
func (j *Joiner) Offer(server DeviceID, o Offer) (Preview, Claim, error) {
	if j.step != awaitOffer {
		return Preview{}, Claim{}, errOutOfTurn
	}
	if o.Server != server {
		return Preview{}, Claim{}, fmt.Errorf("join: offer names another server: %w", ErrProof)
	}
	j.offer = o
	if j.recovers() {
		j.step = awaitAnswer
		return Preview{Role: Owner}, Claim{Proof: j.paper.Sign(claimContext, transcript(j.hello, o, StatementID{}))}, nil
	}
	invite, preview, err := j.checkInvite(o)
	if err != nil {
		return Preview{}, Claim{}, fmt.Errorf("join: %w", err)
	}
	if j.joined, err = j.join(invite, o.Join); err != nil {
		return Preview{}, Claim{}, fmt.Errorf("join: %w", err)
	}
	j.step = awaitAnswer
	proof := j.invite.Sign(claimContext, transcript(j.hello, o, j.joined.id))
	return preview, Claim{Proof: proof, Join: j.joined.raw}, nil
}

func (j *Joiner) checkInvite(o Offer) (Statement, Preview, error) {
	invite, err := ParseStatement(o.Invite)
	if err != nil {
		return Statement{}, Preview{}, err
	}
	i := invite.b.Invite
	if o.Group != j.code.Group || i == nil || invite.b.Group != j.code.Group || invite.b.Author != j.code.Inviter || i.Public.ID != j.invite.ID() {
		return Statement{}, Preview{}, fmt.Errorf("offer is not what the code is for: %w", ErrProof)
	}
	preview, ok := j.code.openPreview(i)
	if !ok {
		return Statement{}, Preview{}, fmt.Errorf("offer does not open: %w", ErrProof)
	}
	return invite, preview, nil
}

// join makes the Join, or takes it again if this device had said it before.
func (j *Joiner) join(invite Statement, before []byte) (Statement, error) {
	if len(before) > 0 {
		s, err := ParseStatement(before)
		if err != nil {
			return Statement{}, err
		}
		if s.b.Author != j.keys.ID() || s.b.Join == nil || s.b.Parents[0] != invite.id {
			return Statement{}, fmt.Errorf("offer of another's join: %w", ErrProof)
		}
		return s, nil
	}
	b := &joinBody{Device: certify(j.keys.Device()), Public: j.invite.ID(), Account: j.account,
		Name: sealJoinName(j.code.key("names"), j.keys.ID(), j.name)}
	b.Proof = j.invite.Sign(joinContext, b.proven(j.code.Group, invite.id))
	return (&body{Group: j.code.Group, Author: j.keys.ID(), Seq: 1, Parents: []StatementID{invite.id}, Join: b}).sign(j.keys)
}

// transcript is what a claim's proof signs: all that both sides said. It binds
// the proof to both devices, so that a server cannot use it elsewhere.
func transcript(h Hello, o Offer, join StatementID) []byte {
	return slices.Concat(marshal(h), marshal(o), join[:])
}

// Answer takes one of the server's answers and tells whether more are to come.
func (j *Joiner) Answer(a Answer) (more bool, err error) {
	if j.step != awaitAnswer {
		return false, errOutOfTurn
	}
	for _, raw := range a.Statements {
		j.bytes += len(raw)
	}
	if j.bytes > maxLogBytes || len(j.got)+len(a.Statements) > MaxStatements {
		return false, fmt.Errorf("join: %w", ErrFull)
	}
	statements, err := parseAll(a.Statements)
	if err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	j.got = append(j.got, statements...)
	if !a.More {
		j.step = awaitFinish
	}
	return a.More, nil
}

// Joined is what a join came to.
type Joined struct {
	Log *Log        // of the group, this device's own statements included
	New []Statement // those of them that the server has not; to be delivered
	// Keyed tells whether this device can open the group's current key. If not,
	// the group went on since the invite was made, and a member has to come by
	// and grant it.
	Keyed bool
}

// Finish checks what the server answered and makes this device's first
// statements. ErrProof if the statements are not those of the group that the
// code (or the phrase) names; ErrUsed if others claimed the same code and nobody
// has confirmed this device yet.
func (j *Joiner) Finish(rand io.Reader) (Joined, Delivery, error) {
	if j.step != awaitFinish {
		return Joined{}, Delivery{}, errOutOfTurn
	}
	l, err := LoadLog(j.got)
	if err != nil {
		return Joined{}, Delivery{}, fmt.Errorf("join: %w: %w", ErrProof, err)
	}
	if l.group != j.offer.Group {
		return Joined{}, Delivery{}, fmt.Errorf("join: statements of another group: %w", ErrProof)
	}
	finish := j.finishJoin
	if j.recovers() {
		finish = j.finishRecovery
	}
	out, err := finish(rand, l)
	if err != nil {
		return Joined{}, Delivery{}, err
	}
	j.step = finished
	var d Delivery
	for _, s := range out.New {
		d.Statements = append(d.Statements, s.raw)
	}
	return out, d, nil
}

func (j *Joiner) finishJoin(_ io.Reader, l *Log) (Joined, error) {
	if !l.Has(j.joined.id) {
		return Joined{}, fmt.Errorf("join: answer lacks this device: %w", ErrProof)
	}
	st := l.Evaluate()
	if (st.Purpose == Account) != (j.code.Kind == DeviceCode) {
		return Joined{}, fmt.Errorf("join: group of another purpose: %w", ErrProof)
	}
	m, ok := st.Member(j.keys.ID())
	if !ok {
		return Joined{}, fmt.Errorf("join: %w", refusalOf(st, j.joined.id))
	}
	if _, err := st.OpenKeys(j.keys); err == nil {
		return Joined{Log: l, Keyed: true}, nil
	}
	// The key in the invite, or in a later epoch or grant to it: sealed to this
	// device, it stands in the log for good.
	ring, err := st.OpenKeys(j.invite)
	if errors.Is(err, ErrNoKey) {
		return Joined{Log: l}, nil
	}
	if err != nil {
		return Joined{}, fmt.Errorf("join: %w", err)
	}
	grant, err := l.grantBy(j.keys, ring, []Device{m.Device})
	if err != nil {
		return Joined{}, fmt.Errorf("join: %w", err)
	}
	if l, err = l.with(grant...); err != nil {
		return Joined{}, fmt.Errorf("join: %w", err)
	}
	return Joined{Log: l, New: grant, Keyed: true}, nil
}

// refusalOf tells why a Join does not count.
func refusalOf(st State, join StatementID) error {
	for _, a := range st.Alarms {
		if a.Kind == DoubleClaim && slices.Contains(a.Statements, join) {
			return ErrUsed
		}
	}
	return ErrRevoked
}

func (j *Joiner) finishRecovery(rand io.Reader, l *Log) (Joined, error) {
	st := l.Evaluate()
	// A paper device's membership carries its own consent: nobody else can found
	// an account around a phrase.
	if m, ok := st.Member(j.paper.ID()); !ok || !m.Paper || st.Purpose != Account {
		return Joined{}, fmt.Errorf("recover: not the account of this phrase: %w", ErrProof)
	}
	if _, ok := st.Member(j.keys.ID()); ok { // an earlier attempt got this far
		_, err := st.OpenKeys(j.keys)
		return Joined{Log: l, Keyed: err == nil}, nil
	}
	d := j.keys.Device()
	d.Name = j.name
	said, err := l.Admit(rand, j.paper, New{Device: d, Role: Owner})
	if err != nil {
		return Joined{}, fmt.Errorf("recover: %w", err)
	}
	if l, err = l.with(said...); err != nil {
		return Joined{}, fmt.Errorf("recover: %w", err)
	}
	return Joined{Log: l, New: said, Keyed: true}, nil
}
