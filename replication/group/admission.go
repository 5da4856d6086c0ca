package group

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// A Host is who serves a join: any member, or a relay that holds the group's
// statements.
type Host struct {
	Self   DeviceID // as the channel shows this side
	Remote DeviceID // as the channel authenticated the other side
	Log    *Log
	Keys   *Keys // a member's, to grant the joiner the key; nil at a relay
}

// An Admission is the serving side of /sheaf/join/1: see Joiner. It only reads
// the Log. The caller holds a lock on that from Claim until it has stored and
// added what Claim returned (that is what counts the uses), and only then sends
// the answers; likewise for Deliver. If storing fails it adds and sends nothing.
type Admission struct {
	host  Host
	hello Hello
	offer Offer
	done  bool // the claim was good
}

// NewAdmission judges a Hello at time now. Errors are for Refuse: ErrWrongCode,
// ErrWrongKind, ErrExpired, ErrUsed, ErrRevoked, ErrRemoved, ErrProof.
func NewAdmission(rand io.Reader, host Host, h Hello, now time.Time) (*Admission, Offer, error) {
	if h.Device != host.Remote {
		return nil, Offer{}, fmt.Errorf("admit: hello names another device: %w", ErrProof)
	}
	a := &Admission{host: host, hello: h, offer: Offer{Group: host.Log.Group(), Server: host.Self}}
	if _, err := io.ReadFull(rand, a.offer.Nonce[:]); err != nil {
		return nil, Offer{}, fmt.Errorf("admit: draw nonce: %w", err)
	}
	invite, err := a.judge(now)
	if err != nil {
		return nil, Offer{}, fmt.Errorf("admit %s: %w", h.Device, err)
	}
	if invite != nil {
		a.offer.Invite = invite.raw
		if m, ok := host.Log.Evaluate().Member(h.Device); ok {
			a.offer.Join = host.Log.byID[m.Joined].raw
		}
	}
	return a, a.offer, nil
}

// judge tells whether the Hello may go on as things stand, and by which invite
// (none for a recovery).
func (a *Admission) judge(now time.Time) (*node, error) {
	l, h := a.host.Log, a.hello
	st := l.Evaluate()
	if st.IsRemoved(h.Device) {
		return nil, ErrRemoved
	}
	if !h.Paper.IsZero() {
		if m, ok := st.Member(h.Paper); !ok || !m.Paper {
			return nil, ErrWrongCode
		}
		return nil, nil
	}
	if h.Group != l.group {
		return nil, ErrWrongCode
	}
	if (h.Kind == DeviceCode) != (st.Purpose == Account) || (h.Kind == ShareCode) != (st.Purpose == Share) {
		return nil, &WrongKindError{Got: h.Kind, Want: map[Purpose]CodeKind{Account: DeviceCode, Share: ShareCode}[st.Purpose]}
	}
	invite := l.findInvite(h.Invite, h.Inviter)
	if invite == nil {
		return nil, ErrWrongCode
	}
	v, ok := st.Invite(invite.id)
	m, member := st.Member(h.Device)
	switch {
	case member && m.Invite == invite.id:
		return invite, nil // asks again, after a failure on its side
	case member:
		return nil, ErrAlreadyMember
	case !ok || v.Status == InviteClosed:
		return nil, ErrRevoked
	case v.Status != InviteOpen:
		return nil, ErrUsed
	case !now.Before(v.Expires):
		return nil, ErrExpired
	case len(st.Members) >= MaxMembers:
		return nil, ErrTooMany
	}
	return invite, nil
}

func (l *Log) findInvite(public, inviter DeviceID) *node {
	for _, n := range l.nodes {
		if n.b.Invite != nil && n.b.Invite.Public.ID == public && n.b.Author == inviter {
			return n
		}
	}
	return nil
}

// Claim judges a Claim at time now. It gives the statements to store and add (the
// Join; from a member a Grant, too; nothing new if this device had joined before)
// and the answers to send once that is done. Errors are for Refuse.
func (a *Admission) Claim(c Claim, now time.Time) ([]Statement, []Answer, error) {
	if a.done {
		return nil, nil, errOutOfTurn
	}
	store, l, err := a.claim(c, now)
	if err != nil {
		return nil, nil, fmt.Errorf("admit %s: %w", a.hello.Device, err)
	}
	a.done = true
	var answers []Answer
	for _, p := range pages(l.Statements()) {
		answers = append(answers, Answer{Statements: p, More: true})
	}
	answers[len(answers)-1].More = false
	return store, answers, nil
}

func (a *Admission) claim(c Claim, now time.Time) ([]Statement, *Log, error) {
	l := a.host.Log
	invite, err := a.judge(now)
	if err != nil {
		return nil, nil, err
	}
	if invite == nil {
		if !a.hello.Paper.Verify(claimContext, transcript(a.hello, a.offer, StatementID{}), c.Proof) || len(c.Join) > 0 {
			return nil, nil, ErrProof
		}
		return nil, l, nil
	}
	join, err := ParseStatement(c.Join)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if join.b.Join == nil || join.b.Author != a.hello.Device || join.b.Parents[0] != invite.id ||
		!a.hello.Invite.Verify(claimContext, transcript(a.hello, a.offer, join.id), c.Proof) {
		return nil, nil, ErrProof
	}
	if m, ok := l.Evaluate().Member(a.hello.Device); ok && m.Joined != join.id {
		return nil, nil, ErrAlreadyMember
	}
	var store []Statement
	if !l.Has(join.id) {
		store = append(store, join)
	}
	if l, err = l.with(join); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if _, ok := l.Evaluate().Member(a.hello.Device); !ok {
		return nil, nil, refusalOf(l.Evaluate(), join.id)
	}
	if len(store) == 0 || a.host.Keys == nil {
		return store, l, nil
	}
	// A member confirms the join by granting the key. If it cannot (its own key
	// is on the way), the joiner helps itself from the invite.
	grant, err := l.Grant(*a.host.Keys, a.hello.Device)
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrNotMember) {
		return store, l, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if l, err = l.with(grant...); err != nil {
		return nil, nil, err
	}
	return append(store, grant...), l, nil
}

// maxDelivery is how many statements a joiner has to say at first.
const maxDelivery = 8

// Deliver judges what the joiner said on joining and gives what is to be stored
// and added. After that the caller answers Done.
func (a *Admission) Deliver(d Delivery) ([]Statement, error) {
	if !a.done {
		return nil, errOutOfTurn
	}
	if len(d.Statements) > maxDelivery {
		return nil, fmt.Errorf("admit: %d statements delivered: %w", len(d.Statements), ErrMalformed)
	}
	statements, err := parseAll(d.Statements)
	if err != nil {
		return nil, fmt.Errorf("admit: delivery: %w", err)
	}
	author := a.hello.Device
	if !a.hello.Paper.IsZero() {
		author = a.hello.Paper
	}
	l := a.host.Log
	var store []Statement
	for _, s := range statements {
		if s.b.Author != author || s.Group() != l.group {
			return nil, fmt.Errorf("admit: delivery of another's %s: %w", s.Kind(), ErrProof)
		}
		if l.Has(s.id) {
			continue
		}
		if l, err = l.with(s); err != nil {
			return nil, fmt.Errorf("admit: delivery: %w", err)
		}
		if !l.Has(s.id) {
			return nil, fmt.Errorf("admit: delivery builds on what is not here: %w", ErrMalformed)
		}
		store = append(store, s)
	}
	return store, nil
}
