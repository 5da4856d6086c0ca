package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/replication/group"
)

// JoinOptions say what Join makes, and by which code.
type JoinOptions struct {
	Home    string
	Name    string
	Dir     string
	Code    string
	Timeout time.Duration
	// Confirm is asked once it is known whose account it is, before anything
	// that joins is sent; nil says yes.
	Confirm func(inviter, what string) bool
	Log     *slog.Logger
}

// JoinResult is what Join made.
type JoinResult struct {
	Device  string
	Account string
	Inviter string
}

// Join makes this device one more of an account, by a code of one of its
// devices, which must be running and reachable. A Join that fails or is
// interrupted can be done again with the same code: it counts once.
func Join(ctx context.Context, o JoinOptions) (JoinResult, error) {
	if err := checkSetup(o.Name, o.Home, o.Dir); err != nil {
		return JoinResult{}, err
	}
	code, err := group.ParseCode(o.Code, group.DeviceCode)
	if err != nil {
		return JoinResult{}, codeError(err)
	}
	h, err := makeHome(o.Home)
	if err != nil {
		return JoinResult{}, setupError(err)
	}
	keys, err := h.joinerKeys()
	if err != nil {
		return JoinResult{}, err
	}
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	a := asking{
		log: o.Log, home: h, keys: keys, doors: doorsOf(code.Addresses, mesh.DeviceID(code.Inviter)), confirm: o.Confirm,
		begin: func() (*group.Joiner, group.Hello, error) {
			return group.NewJoiner(rand.Reader, code, keys, o.Name, group.ID{})
		},
	}
	joined, preview, err := a.claim(ctx)
	if err != nil {
		return JoinResult{}, err
	}
	if err := h.write(statementsFile, encodeStatements(joined.Log.Statements()), 0o600); err != nil {
		return JoinResult{}, err
	}
	d := description{Name: o.Name, Relays: relaysAmong(a.doors, joined.Log)}
	if err := h.settle(d, joined.Log.Group(), o.Dir, true); err != nil {
		return JoinResult{}, setupError(err)
	}
	return JoinResult{Device: keys.ID().String(), Account: joined.Log.Group().String(), Inviter: preview.Inviter}, nil
}

// joinerKeys gives the keys of an earlier attempt, so that the same device asks
// again, or new ones.
func (h home) joinerKeys() (group.Keys, error) {
	data, err := h.read(keysFile)
	if err == nil {
		return group.ParseKeys(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return group.Keys{}, err
	}
	keys, err := group.GenerateKeys(rand.Reader)
	if err != nil {
		return group.Keys{}, err
	}
	return keys, h.write(keysFile, keys.Marshal(), 0o600)
}

// A door is where a device may ask to be let in: at the inviter, or at a relay that holds
// the account's statements.
type door struct {
	address string // ends in /p2p/ID
	id      mesh.DeviceID
}

// doorsOf gives the doors at addresses; one that names nobody is other's.
func doorsOf(addresses []string, other mesh.DeviceID) (doors []door) {
	for _, a := range addresses {
		_, text, ok := strings.Cut(a, "/p2p/")
		if !ok {
			doors = append(doors, door{a + "/p2p/" + mesh.PeerID(other), other})
			continue
		}
		if id, err := mesh.ParsePeerID(text); err == nil {
			doors = append(doors, door{a, id})
		}
	}
	return doors
}

// relaysAmong gives the addresses of doors that are no members of the account: relays.
func relaysAmong(doors []door, log *group.Log) (list []string) {
	state := log.Evaluate()
	for _, d := range doors {
		if _, member := state.Member(group.DeviceID(d.id)); !member {
			list = append(list, d.address)
		}
	}
	return list
}

// An asking is a device that asks to be let into an account.
type asking struct {
	log     *slog.Logger
	home    home
	keys    group.Keys
	doors   []door
	confirm func(inviter, what string) bool // nil: yes
	begin   func() (*group.Joiner, group.Hello, error)
}

// claim talks to who is at the doors until one has let this device in.
func (a *asking) claim(ctx context.Context) (joined group.Joined, preview group.Preview, err error) {
	book, err := openAddressBook(a.home)
	if err != nil {
		return joined, preview, err
	}
	m, err := mesh.New(mesh.Config{
		Key: a.keys.SigningKey(), GuestProtocols: []string{joinProtocol}, Book: book, Log: a.log,
		Allowed: func(id mesh.DeviceID) bool {
			return slices.ContainsFunc(a.doors, func(d door) bool { return d.id == id })
		},
	})
	if err != nil {
		return joined, preview, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	wait.Go(func() { _ = m.Run(running) })
	defer wait.Wait()
	defer stop()
	for {
		var last error
		for _, d := range a.doors {
			joined, preview, err = a.claimAt(ctx, m, d)
			var again unreachableError
			if err == nil || !errors.As(err, &again) {
				return joined, preview, err
			}
			last = errors.Join(last, again.err)
		}
		if len(a.doors) == 0 {
			return joined, preview, api.Errorf(api.ErrUsage, "have a new code made", "the code names no address")
		}
		pause := time.NewTimer(500 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return joined, preview, api.Errorf(api.ErrTimeout, "see that the inviting device, or a relay of the account, runs and can be reached from here, then try again", "nobody who could let this device in was reached: %w", last)
		}
	}
}

// unreachableError says that nobody was reached this time.
type unreachableError struct{ err error }

func (e unreachableError) Error() string { return e.err.Error() }

// claimAt asks at one door.
func (a *asking) claimAt(ctx context.Context, m *mesh.Mesh, d door) (joined group.Joined, preview group.Preview, err error) {
	if _, err := m.Connect(ctx, d.address); err != nil {
		return joined, preview, unreachableError{err}
	}
	s, err := m.Open(ctx, d.id, joinProtocol)
	switch {
	case errors.Is(err, mesh.ErrRefused), errors.Is(err, mesh.ErrProtocol):
		return joined, preview, api.Errorf(api.ErrRefused, "ask for a new code", "the inviting device expects nobody: the code was used, has expired or was revoked")
	case err != nil:
		return joined, preview, unreachableError{err}
	}
	defer func() { _ = s.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	t := newTalk(s)
	j, hello, err := a.begin()
	if err != nil {
		return joined, preview, codeError(err)
	}
	if err := t.say(hello); err != nil {
		return joined, preview, unreachableError{err}
	}
	offer, err := hearAs[group.Offer](t)
	if err != nil {
		return joined, preview, err
	}
	preview, proof, err := j.Offer(group.DeviceID(d.id), offer)
	if err != nil {
		return joined, preview, codeError(err)
	}
	if a.confirm != nil && !a.confirm(preview.Inviter, "one person's devices") {
		return joined, preview, api.Errorf(api.ErrRefused, "run it again to join", "not joined")
	}
	if err := t.say(proof); err != nil {
		return joined, preview, unreachableError{err}
	}
	for more := true; more; {
		answer, err := hearAs[group.Answer](t)
		if err != nil {
			return joined, preview, err
		}
		if more, err = j.Answer(answer); err != nil {
			return joined, preview, codeError(err)
		}
	}
	joined, delivery, err := j.Finish(rand.Reader)
	if err != nil {
		return joined, preview, codeError(err)
	}
	// Kept before it is delivered: what others hold of us, we hold.
	if err := a.home.write(statementsFile, encodeStatements(joined.Log.Statements()), 0o600); err != nil {
		return joined, preview, err
	}
	if err := t.say(delivery); err != nil {
		return joined, preview, unreachableError{err}
	}
	if _, err := hearAs[group.Done](t); err != nil {
		return joined, preview, err
	}
	if !joined.Keyed {
		return joined, preview, api.Errorf(api.ErrRefused, "ask for a new code", "the account has new keys since this code was made")
	}
	return joined, preview, nil
}

// hearAs hears a message of one kind; a refusal is an error for a person.
func hearAs[M group.Message](t *talk) (M, error) {
	var none M
	m, err := t.hear()
	if err != nil {
		return none, unreachableError{err}
	}
	switch m := m.(type) {
	case M:
		return m, nil
	case group.Refusal:
		return none, codeError(m.Err())
	}
	return none, fmt.Errorf("the other side spoke out of turn: %w", group.ErrMalformed)
}

// codeError gives what can be wrong with a code its one clear message.
func codeError(err error) error {
	say := func(kind error, code, what, remedy string) error {
		return &api.Error{Kind: kind, Code: code, Message: what, Remedy: remedy, Cause: err}
	}
	switch {
	case errors.Is(err, group.ErrWrongKind):
		return say(api.ErrUsage, "wrong-code-kind", err.Error(), "use a code from `sheaf device invite`")
	case errors.Is(err, group.ErrMistyped):
		return say(api.ErrUsage, "mistyped-code", "the code is mistyped or incomplete", "copy it whole, or have a new one made with `sheaf device invite`")
	case errors.Is(err, group.ErrWrongCode):
		return say(api.ErrRefused, "unknown-code", "the inviting device does not know this code", "have a new one made with `sheaf device invite`")
	case errors.Is(err, group.ErrExpired):
		return say(api.ErrRefused, "invite-expired", "the invite has expired", "have a new one made with `sheaf device invite`")
	case errors.Is(err, group.ErrUsed):
		return say(api.ErrRefused, "invite-used", "the invite has been used already", "have a new one made with `sheaf device invite`, one for each device")
	case errors.Is(err, group.ErrRevoked):
		return say(api.ErrRefused, "invite-revoked", "the invite was revoked", "have a new one made with `sheaf device invite`")
	case errors.Is(err, group.ErrAlreadyMember):
		return say(api.ErrConflict, "already-member", "this device belongs to the account already", "see `sheaf status`")
	case errors.Is(err, group.ErrTooMany):
		return say(api.ErrRefused, "account-full", "the account has as many devices as it can have", "remove one with `sheaf device remove`")
	case errors.Is(err, group.ErrRateLimited):
		return say(api.ErrRefused, "rate-limited", "too many attempts at the inviting device", "wait a minute and try again")
	case errors.Is(err, group.ErrRemoved):
		return say(api.ErrRefused, "removed", "this device was removed from the account", "join with a new --home")
	case errors.Is(err, group.ErrName):
		return say(api.ErrUsage, "name", err.Error(), "give a short name, such as --name laptop")
	case errors.Is(err, group.ErrProof):
		return say(api.ErrRefused, "proof", "the other side could not prove what the code says of it", "have a new code made, and see that nobody is in between")
	}
	return err
}

// serveJoin lets in who has a code of ours.
func (n *Node) serveJoin(_ context.Context, peer mesh.DeviceID, s mesh.Stream) {
	t := newTalk(s)
	if err := n.admit(t, peer); err != nil {
		n.log.Info("a device did not join", "err", err)
		_ = t.say(group.Refuse(err))
		_ = s.CloseWrite()
		// The refusal must arrive before the stream goes.
		_, _ = t.hear()
		_ = s.Close()
		return
	}
	_ = s.Close()
}

func (n *Node) admit(t *talk, peer mesh.DeviceID) error {
	if err := n.joins.allow(time.Now()); err != nil {
		return err
	}
	m, err := t.hear()
	if err != nil {
		return err
	}
	hello, ok := m.(group.Hello)
	if !ok {
		return group.ErrMalformed
	}
	var a *group.Admission
	var offer group.Offer
	n.account.view(func(l *group.Log) {
		host := group.Host{Self: n.account.keys.ID(), Remote: group.DeviceID(peer), Log: l, Keys: &n.account.keys}
		a, offer, err = group.NewAdmission(rand.Reader, host, hello, time.Now())
	})
	if err != nil {
		return err
	}
	if err := t.say(offer); err != nil {
		return err
	}
	if err := t.s.SetReadDeadline(time.Now().Add(confirmTimeout)); err != nil {
		return err
	}
	if m, err = t.hearSlowly(confirmTimeout); err != nil {
		return err
	}
	c, ok := m.(group.Claim)
	if !ok {
		return group.ErrMalformed
	}
	// Counted durably before it is answered.
	var answers []group.Answer
	err = n.account.say(func(*group.Log, group.Keys) (list []group.Statement, err error) {
		list, answers, err = a.Claim(c, time.Now())
		return list, err
	})
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if err := t.say(answer); err != nil {
			return err
		}
	}
	if m, err = t.hear(); err != nil {
		return err
	}
	d, ok := m.(group.Delivery)
	if !ok {
		return group.ErrMalformed
	}
	if err := n.account.say(func(*group.Log, group.Keys) ([]group.Statement, error) { return a.Deliver(d) }); err != nil {
		return err
	}
	n.log.Info("a device joined", "device", n.account.name(peer))
	n.event(api.EventInvite, api.Device{Name: n.account.name(peer), ID: mesh.PeerID(peer), Connected: true, Joined: time.Now().UTC()})
	return t.say(group.Done{})
}

// confirmTimeout is how long a person has to say yes.
const confirmTimeout = 5 * time.Minute

// hearSlowly is hear for an answer that a person gives.
func (t *talk) hearSlowly(d time.Duration) (group.Message, error) {
	if err := t.s.SetReadDeadline(time.Now().Add(d)); err != nil {
		return nil, err
	}
	if _, err := t.r.Peek(1); err != nil {
		return nil, err
	}
	return t.hear()
}

// joinLimit bounds how often strangers may try. All attempts count together:
// guessing is out of reach anyway (128 bits), this is about load.
type joinLimit struct {
	mu    sync.Mutex
	limit *group.Limit
}

func newJoinLimit() *joinLimit { return &joinLimit{limit: group.NewLimit(2*time.Second, 10)} }

func (j *joinLimit) allow(now time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.limit.Allow("join", now)
}
