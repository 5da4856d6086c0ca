package relay

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal/sealtest"
	"sheaf/replication/wire"
)

// codes are the invites of a relay, in memory.
type codes struct {
	mu    sync.Mutex
	known map[group.DeviceID]*codeUse
	fail  error // what Use fails with, once
}

type codeUse struct {
	uses    int
	expires time.Time
	groups  map[group.ID]bool
}

func (c *codes) Look(code group.DeviceID, id group.ID, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.known[code]
	switch {
	case u == nil:
		return ErrUnknownCode
	case u.groups[id]:
		return nil
	case len(u.groups) >= u.uses:
		return ErrUsed
	case now.After(u.expires):
		return ErrExpired
	}
	return nil
}

func (c *codes) Use(code group.DeviceID, id group.ID, now time.Time) (archive.Limit, error) {
	if err := c.Look(code, id, now); err != nil {
		return archive.Limit{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fail; err != nil {
		c.fail = nil
		return archive.Limit{}, err
	}
	c.known[code].groups[id] = true
	return plenty, nil
}

var relayID = group.DeviceID{9, 9}

// give makes a code.
func (c *codes) give(t *testing.T, uses int, expires time.Time) group.Code {
	t.Helper()
	code := sealtest.Must(group.NewCode(sealtest.Seeded(uint64(len(c.known)+50)), group.RelayCode, group.ID{}, relayID, []string{"/ip4/192.0.2.1/tcp/1"}))(t)
	keys := sealtest.Must(code.Keys())(t)
	c.known[keys.ID()] = &codeUse{uses: uses, expires: expires, groups: make(map[group.ID]bool)}
	return code
}

// A guest opens streams of the host and join protocols as one device.
type guest struct {
	w    *relayWorld
	peer group.DeviceID
	host *HostService
	join *JoinService
}

func (g guest) Open(_ context.Context, _ replication.DeviceID, protocol string) (replication.Stream, error) {
	near, far := streams()
	g.w.running.Go(func() {
		switch protocol {
		case wire.HostProtocol:
			_ = g.host.Serve(context.Background(), g.peer, far)
		case JoinProtocol:
			g.join.Serve(context.Background(), g.peer, far)
		}
		_ = far.Close()
	})
	return near, nil
}

// TestClaim: who has a code, and belongs to the group, gets room; nobody else does.
func TestClaim(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a, b := sealtest.NewAccount(t, 1), sealtest.NewAccount(t, 2)
		c := &codes{known: make(map[group.DeviceID]*codeUse)}
		hosted := 0
		s := &HostService{Self: relayID, Archive: w.archive, Invites: c, Name: "nas", Program: "test", Log: slog.New(slog.DiscardHandler), Hosted: func(group.ID) { hosted++ }}
		code := c.give(t, 1, time.Now().Add(time.Hour))
		claim := func(a *sealtest.Account, d *sealtest.Device, as group.DeviceID, code group.Code) (deposit.Hosting, error) {
			return deposit.Claim(ctx, guest{w: w, peer: as, host: s}, code, d.Keys.ID(), a.ID(), a.Log)
		}
		// The relay's own trouble counts nothing.
		c.fail = errors.New("the disk is full")
		if _, err := claim(a, a.Laptop, a.Laptop.Keys.ID(), code); !refused(err, wire.CodeFailed) {
			t.Errorf("with a full disk: %v", err)
		}
		got, err := claim(a, a.Laptop, a.Laptop.Keys.ID(), code)
		if err != nil || got.Name != "nas" || got.Bytes != plenty.Bytes || hosted != 1 {
			t.Fatalf("%+v, %v, hosted %d", got, err, hosted)
		}
		if st := sealtest.Must(w.archive.Group(a.ID()))(t); len(st.Members) != 3 {
			t.Errorf("the relay knows of %d members", len(st.Members))
		}
		// Again, and by another device of the account: it counts once.
		for _, d := range []*sealtest.Device{a.Laptop, a.Phone} {
			if _, err := claim(a, d, d.Keys.ID(), code); err != nil {
				t.Errorf("again: %v", err)
			}
		}
		expired, other := c.give(t, 5, time.Now().Add(-time.Second)), c.give(t, 5, time.Now().Add(time.Hour))
		unknown := sealtest.Must(group.NewCode(sealtest.Seeded(3), group.RelayCode, group.ID{}, relayID, nil))(t)
		stranger := group.DeviceID{77}
		for name, x := range map[string]struct {
			account *sealtest.Account
			device  *sealtest.Device
			as      group.DeviceID
			code    group.Code
			want    string
		}{
			"used by another":      {b, b.Laptop, b.Laptop.Keys.ID(), code, wire.CodeUsed},
			"expired":              {b, b.Laptop, b.Laptop.Keys.ID(), expired, wire.CodeExpired},
			"unknown":              {b, b.Laptop, b.Laptop.Keys.ID(), unknown, wire.CodeUnknownCode},
			"proof for another":    {b, b.Laptop, stranger, other, wire.CodeBad},
			"another's statements": {&sealtest.Account{Log: a.Log, Laptop: b.Laptop}, b.Laptop, b.Laptop.Keys.ID(), other, wire.CodeNotMember},
		} {
			if _, err := claim(x.account, x.device, x.as, x.code); !refused(err, x.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if w.archive.Knows(b.ID()) || hosted != 3 {
			t.Errorf("hosted %d times; a refused group is known: %v", hosted, w.archive.Knows(b.ID()))
		}
		// Guessing is held back.
		for range 2 * claimBurst {
			_, err = claim(b, b.Laptop, b.Laptop.Keys.ID(), unknown)
		}
		if !refused(err, wire.CodeRateLimited) {
			t.Errorf("after many attempts: %v", err)
		}
	})
}

// TestBadClaims: what is no claim is refused or ends the stream, and nothing hangs.
func TestBadClaims(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		c := &codes{known: make(map[group.DeviceID]*codeUse)}
		s := &HostService{Self: relayID, Archive: w.archive, Invites: c, Log: slog.New(slog.DiscardHandler)}
		code := c.give(t, 1, time.Now().Add(time.Hour))
		keys := sealtest.Must(code.Keys())(t)
		peer := a.Laptop.Keys.ID()
		public := keys.ID()
		sig := keys.Sign(wire.HostMessage(relayID, peer, wire.ID(a.ID())))
		good := &wire.HostUp{Claim: &wire.HostClaim{Version: wire.Version, Group: wire.ID(a.ID()), Code: public[:], Proof: sig[:]}}
		old := &wire.HostUp{Claim: &wire.HostClaim{Version: 77, Group: wire.ID(a.ID()), Code: public[:], Proof: sig[:]}}
		said := func(list ...[]byte) *wire.HostUp {
			return &wire.HostUp{Said: &wire.HostSaid{Statements: list, Last: true}}
		}
		foreign := sealtest.NewAccount(t, 2).Log.Statements()[0].Encode()
		for name, x := range map[string]struct {
			send []*wire.HostUp
			want string
		}{
			"statements first":     {[]*wire.HostUp{said()}, wire.CodeBad},
			"another version":      {[]*wire.HostUp{old}, wire.CodeVersion},
			"a claim twice":        {[]*wire.HostUp{good, good}, wire.CodeBad},
			"no statements":        {[]*wire.HostUp{good, said()}, wire.CodeBad},
			"none that parses":     {[]*wire.HostUp{good, said([]byte{1, 2, 3})}, wire.CodeBad},
			"of another group":     {[]*wire.HostUp{good, said(foreign)}, wire.CodeBad},
			"nothing":              {[]*wire.HostUp{{}}, wire.CodeBad},
			"gone after its claim": {[]*wire.HostUp{good}, ""},
		} {
			near, far := streams()
			w.running.Go(func() { _ = s.Serve(context.Background(), peer, far); _ = far.Close() })
			r := bufio.NewReader(near)
			var down wire.HostDown
			for _, up := range x.send {
				if err := wire.WriteMsg(near, up, wire.MaxHost); err != nil {
					break
				}
				down = wire.HostDown{}
				if err := wire.ReadMsg(r, &down, wire.MaxHost); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			switch {
			case x.want == "" && down.GoOn == nil, x.want != "" && (down.Refusal == nil || down.Refusal.Code != x.want):
				t.Errorf("%s: answered %+v", name, down.Refusal)
			}
			_ = near.Close()
		}
		if w.archive.Knows(a.ID()) {
			t.Error("the group is known")
		}
	})
}

// said and hear are a device's side of the join protocol.
func sayTo(s replication.Stream, m group.Message) error {
	return wire.WriteMsg(s, group.EncodeMessage(m), group.MaxMessage+16)
}

func hearFrom(t *testing.T, r *bufio.Reader) group.Message {
	t.Helper()
	var raw []byte
	if err := wire.ReadMsg(r, &raw, group.MaxMessage+16); err != nil {
		t.Fatal(err)
	}
	return sealtest.Must(group.DecodeMessage(raw))(t)
}

// joinAt goes through the join protocol at a relay.
func joinAt(t *testing.T, g guest, j *group.Joiner, hello group.Hello) (group.Joined, error) {
	t.Helper()
	s := sealtest.Must(g.Open(t.Context(), replication.DeviceID(relayID), JoinProtocol))(t)
	defer func() { _ = s.Close() }()
	r := bufio.NewReader(s)
	if err := sayTo(s, hello); err != nil {
		t.Fatal(err)
	}
	m := hearFrom(t, r)
	if no, ok := m.(group.Refusal); ok {
		return group.Joined{}, no.Err()
	}
	_, claim, err := j.Offer(relayID, m.(group.Offer))
	if err != nil {
		t.Fatal(err)
	}
	if err := sayTo(s, claim); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		m := hearFrom(t, r)
		if no, ok := m.(group.Refusal); ok {
			return group.Joined{}, no.Err()
		}
		more = sealtest.Must(j.Answer(m.(group.Answer)))(t)
	}
	joined, delivery, err := j.Finish(sealtest.Seeded(5))
	if err != nil {
		return joined, err
	}
	if err := sayTo(s, delivery); err != nil {
		t.Fatal(err)
	}
	if _, ok := hearFrom(t, r).(group.Done); !ok {
		t.Error("it was not done")
	}
	return joined, nil
}

// TestJoinAtRelay: a code and a phrase let a device in while no other is there; a code
// once, and nobody whose code or phrase is another's.
func TestJoinAtRelay(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		rnd := sealtest.Seeded(31)
		laptop := sealtest.Must(group.GenerateKeys(rnd))(t)
		phrase := sealtest.Must(group.NewPhrase(rnd))(t)
		paper := sealtest.Must(group.PhraseKeys(phrase))(t)
		log := sealtest.Must(group.LoadLog(sealtest.Must(group.Found(rnd, laptop, group.Founding{Purpose: group.Account, Name: "laptop", Paper: paper}))(t)))(t)
		invite, code, err := log.Invite(rnd, laptop, group.Offering{Role: group.Owner, Uses: 1, Expires: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		sealtest.Must(log.Add(invite...))(t)
		if err := w.archive.Host(log.Group(), plenty); err != nil {
			t.Fatal(err)
		}
		sealtest.Must(w.archive.Hear(log.Group(), log.Statements()))(t)
		heard := 0
		s := &JoinService{Self: relayID, Archive: w.archive, Log: slog.New(slog.DiscardHandler), Heard: func(group.ID) { heard++ }}
		join := func(keys group.Keys, begin func(keys group.Keys) (*group.Joiner, group.Hello, error)) (group.Joined, error) {
			t.Helper()
			j, hello, err := begin(keys)
			if err != nil {
				t.Fatal(err)
			}
			return joinAt(t, guest{w: w, peer: keys.ID(), join: s}, j, hello)
		}
		byCode := func(keys group.Keys) (*group.Joiner, group.Hello, error) {
			return group.NewJoiner(rnd, code, keys, "phone", group.ID{})
		}
		byPhrase := func(keys group.Keys) (*group.Joiner, group.Hello, error) {
			return group.NewRecovery(rnd, paper, keys, "new")
		}
		phone, second, fresh := sealtest.Must(group.GenerateKeys(rnd))(t), sealtest.Must(group.GenerateKeys(rnd))(t), sealtest.Must(group.GenerateKeys(rnd))(t)
		for range 2 { // who asks again, having heard no end of it, is let in once
			joined, err := join(phone, byCode)
			if err != nil || !joined.Keyed {
				t.Fatalf("by code: %+v, %v", joined, err)
			}
		}
		if _, err := join(second, byCode); !errors.Is(err, group.ErrUsed) {
			t.Errorf("by a code that was used: %v", err)
		}
		joined, err := join(fresh, byPhrase)
		if err != nil || !joined.Keyed {
			t.Fatalf("by phrase: %v", err)
		}
		st := sealtest.Must(w.archive.Group(log.Group()))(t)
		for _, id := range []group.DeviceID{phone.ID(), fresh.ID()} {
			if _, ok := st.Member(id); !ok {
				t.Errorf("%s is no member there", id)
			}
		}
		if _, ok := st.Member(second.ID()); ok || heard < 2 {
			t.Errorf("who was refused is a member: %v; heard %d", ok, heard)
		}
		other := sealtest.Must(group.PhraseKeys(sealtest.Must(group.NewPhrase(rnd))(t)))(t)
		if _, err := join(second, func(keys group.Keys) (*group.Joiner, group.Hello, error) {
			return group.NewRecovery(rnd, other, keys, "thief")
		}); !errors.Is(err, group.ErrWrongCode) {
			t.Errorf("by another phrase: %v", err)
		}
	})
}
