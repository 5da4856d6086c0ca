package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// A relayInfo is a relay that the account uses, as the folder of relays names it.
type relayInfo struct {
	entry     crdt.EntryID
	name      string
	id        mesh.DeviceID
	addresses []string // multiaddrs, each ending in /p2p/ID
}

// relayTarget writes where a relay is reached as the target of a link.
func relayTarget(addresses []string) string {
	target := ""
	for _, a := range addresses {
		if len(target)+1+len(a) > crdt.MaxTarget {
			break
		}
		target = strings.TrimPrefix(target+" "+a, " ")
	}
	return target
}

// relayOf reads an entry of the folder of relays; false for one that is none.
func relayOf(name string, e crdt.Entry) (relayInfo, bool) {
	r := relayInfo{entry: e.ID, name: name}
	v := e.Shown()
	if e.Kind != crdt.Symlink || v == nil {
		return r, false
	}
	for a := range strings.FieldsSeq(v.Target) {
		_, text, ok := strings.Cut(a, "/p2p/")
		id, err := mesh.ParsePeerID(text)
		if !ok || err != nil || r.id != (mesh.DeviceID{}) && id != r.id {
			continue
		}
		r.id = id
		r.addresses = append(r.addresses, a)
	}
	return r, len(r.addresses) > 0
}

// relayList gives the relays that the account uses, by name.
func (n *Node) relayList() (list []relayInfo, err error) {
	err = n.relaysFolder.index.Read(func(r *store.Reader) error {
		for after, more := "", true; more; {
			page, next, err := r.Children(crdt.Root, after, walkChunk)
			if err != nil {
				return err
			}
			after, more = next, next != ""
			for _, c := range page {
				e, ok, err := r.Entry(c.ID)
				if err != nil {
					return err
				}
				if !ok {
					continue
				}
				// The same relay under two names, added on two devices apart, is one.
				info, ok := relayOf(c.Shown, e)
				if ok && !slices.ContainsFunc(list, func(x relayInfo) bool { return x.id == info.id }) {
					list = append(list, info)
				}
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b relayInfo) int { return strings.Compare(a.name, b.name) })
	return list, err
}

// knownRelays gives the relays to keep connected, and is asked often.
func (n *Node) knownRelays() []mesh.DeviceID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.relayIDs)
}

func (n *Node) isRelay(id mesh.DeviceID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.relayIDs, id)
}

// noteRelays takes in what the folder of relays says now, and gives the relays.
func (n *Node) noteRelays() ([]relayInfo, error) {
	list, err := n.relayList()
	if err != nil {
		return nil, err
	}
	if list, err = n.namedRelays(list); err != nil {
		return nil, err
	}
	ids := make([]mesh.DeviceID, len(list))
	for i, r := range list {
		ids[i] = r.id
		if len(n.book.Addresses(r.id)) == 0 {
			n.book.Remember(r.id, withoutPeer(r.addresses))
		}
	}
	n.mu.Lock()
	moved := !slices.Equal(ids, n.relayIDs)
	n.relayIDs = ids
	n.mu.Unlock()
	if moved {
		n.mesh.Refresh()
	}
	return list, nil
}

// namedRelays adds the relays that were named when the device was set up, until the
// account's own list has come.
func (n *Node) namedRelays(list []relayInfo) ([]relayInfo, error) {
	n.describing.Lock()
	defer n.describing.Unlock()
	switch {
	case len(n.desc.Relays) == 0:
		return list, nil
	case len(list) > 0:
		desc := n.desc
		desc.Relays = nil
		if err := n.home.describe(desc); err != nil {
			return nil, err
		}
		n.desc.Relays = nil
		return list, nil
	}
	for _, d := range doorsOf(n.desc.Relays, mesh.DeviceID{}) {
		at := slices.IndexFunc(list, func(r relayInfo) bool { return r.id == d.id })
		if at < 0 {
			at = len(list)
			list = append(list, relayInfo{name: "relay", id: d.id})
		}
		list[at].addresses = append(list[at].addresses, d.address)
	}
	return list, nil
}

func withoutPeer(addresses []string) (out []string) {
	for _, a := range addresses {
		a, _, _ = strings.Cut(a, "/p2p/")
		out = append(out, a)
	}
	return out
}

// AddRelay implements api.Node: it claims room on a relay by a code, and has all the
// account's devices use it.
func (n *Node) AddRelay(ctx context.Context, text string) (api.Relay, error) {
	code, err := group.ParseCode(text, group.RelayCode)
	if err != nil {
		return api.Relay{}, relayCodeError(err)
	}
	id := mesh.DeviceID(code.Inviter)
	addresses, err := n.connectRelay(ctx, code)
	if err != nil {
		return api.Relay{}, err
	}
	state, _ := n.account.snapshot()
	hosting, err := deposit.Claim(ctx, n.opener, code, n.account.keys.ID(), state.Group, relayLog{n.account})
	if err != nil {
		return api.Relay{}, claimError(err)
	}
	name := relayName(hosting.Name)
	if err := n.relaysFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
		return putRelay(tx, rec, id, name, addresses)
	}); err != nil {
		return api.Relay{}, err
	}
	if _, err := n.noteRelays(); err != nil {
		return api.Relay{}, err
	}
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	if l != nil { // it was there, and there may be more room now
		l.again()
	}
	n.log.Info("relay added", "relay", name)
	return n.relayStatus(id)
}

// connectRelay connects to a relay at the addresses of a code, and gives those, the one
// that answered first.
func (n *Node) connectRelay(ctx context.Context, code group.Code) ([]string, error) {
	suffix := "/p2p/" + mesh.PeerID(mesh.DeviceID(code.Inviter))
	var all []string
	for _, a := range code.Addresses {
		if !strings.Contains(a, "/p2p/") {
			a += suffix
		}
		all = append(all, a)
	}
	var errs []error
	for i, a := range all {
		if _, err := n.mesh.Connect(ctx, a); err != nil {
			errs = append(errs, err)
			continue
		}
		all[0], all[i] = all[i], all[0]
		return all, nil
	}
	if len(all) == 0 {
		errs = append(errs, errors.New("the code names no address"))
	}
	return nil, api.Errorf(api.ErrFailed, "see that the relay runs and that its port can be reached from here, then try again with the same code", "the relay was not reached: %w", errors.Join(errs...))
}

// putRelay records a relay; one that is there already is only said where to be reached.
func putRelay(tx *store.Tx, rec *crdt.Recorder, id mesh.DeviceID, name string, addresses []string) error {
	target := relayTarget(addresses)
	content := crdt.Content{Hash: sha256.Sum256([]byte(target)), Size: int64(len(target)), Target: target}
	page, _, err := tx.Children(crdt.Root, "", walkChunk)
	if err != nil {
		return err
	}
	taken := make(map[string]bool)
	for _, c := range page {
		taken[c.Shown] = true
		e, ok, err := tx.Entry(c.ID)
		if err != nil {
			return err
		}
		if info, is := relayOf(c.Shown, e); ok && is && info.id == id {
			return rec.Edit(c.ID, content, e.Mode())
		}
	}
	at := name
	for i := 2; taken[at]; i++ {
		at = fmt.Sprintf("%s-%d", name, i)
	}
	_, err = rec.Create(crdt.Location{Name: at}, crdt.Symlink, content, 0o777)
	return err
}

// relayName makes what a relay calls itself a name of the tree.
func relayName(said string) string {
	if group.CheckName(said) != nil || crdt.ValidName(said) != nil {
		return "relay"
	}
	return said
}

// RemoveRelay implements api.Node. What the relay keeps stays there.
func (n *Node) RemoveRelay(_ context.Context, name string) error {
	list, err := n.relayList()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(list, func(r relayInfo) bool { return r.name == name || mesh.PeerID(r.id) == name })
	if at < 0 {
		return api.Errorf(api.ErrNotFound, "see `sheaf relay list`", "there is no relay %q", name)
	}
	id := list[at].id
	err = n.relaysFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
		page, _, err := tx.Children(crdt.Root, "", walkChunk)
		if err != nil {
			return err
		}
		for _, c := range page {
			e, ok, err := tx.Entry(c.ID)
			if err != nil {
				return err
			}
			if info, is := relayOf(c.Shown, e); ok && is && info.id == id {
				if err := rec.Remove(c.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = n.noteRelays()
	n.mesh.Drop(id)
	return err
}

// Relays implements api.Node.
func (n *Node) Relays(context.Context) ([]api.Relay, error) {
	list, err := n.relayList()
	if err != nil {
		return nil, err
	}
	out := make([]api.Relay, 0, len(list))
	for _, r := range list {
		s, err := n.relayStatus(r.id)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// relayStatus describes a relay.
func (n *Node) relayStatus(id mesh.DeviceID) (api.Relay, error) {
	list, err := n.relayList()
	if err != nil {
		return api.Relay{}, err
	}
	at := slices.IndexFunc(list, func(r relayInfo) bool { return r.id == id })
	if at < 0 {
		return api.Relay{}, api.Errorf(api.ErrNotFound, "see `sheaf relay list`", "that relay is not one of this account's")
	}
	out := api.Relay{Name: list[at].name, ID: mesh.PeerID(id), Problems: []api.Problem{}}
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	if l != nil {
		l.describe(&out)
	}
	return out, nil
}

// relayCodeError gives what can be wrong with a relay's code its one clear message.
func relayCodeError(err error) error {
	const remedy = "use a code from `sheaf-relay invite`"
	switch {
	case errors.Is(err, group.ErrWrongKind):
		return &api.Error{Kind: api.ErrUsage, Code: "wrong-code-kind", Message: err.Error(), Remedy: remedy, Cause: err}
	case errors.Is(err, group.ErrMistyped):
		return &api.Error{Kind: api.ErrUsage, Code: "mistyped-code", Message: "the code is mistyped or incomplete", Remedy: "copy it whole, or have a new one made with `sheaf-relay invite`", Cause: err}
	}
	return err
}

// claimError says why a relay does not take this account.
func claimError(err error) error {
	var r *deposit.RefusedError
	if !errors.As(err, &r) {
		return api.Errorf(api.ErrFailed, "try again with the same code", "the relay did not answer as it should: %w", err)
	}
	const another = "have a new code made with `sheaf-relay invite`"
	say := func(code, what, remedy string) error {
		return &api.Error{Kind: api.ErrRefused, Code: code, Message: what, Remedy: remedy, Cause: err}
	}
	switch r.Code {
	case "unknown-code":
		return say("unknown-code", "the relay does not know this code", another)
	case "expired":
		return say("invite-expired", "the code has expired", another)
	case "used":
		return say("invite-used", "the code has been used already", another+", one for each account")
	case "revoked":
		return say("invite-revoked", "the code was revoked", another)
	case "rate-limited":
		return say("rate-limited", "too many attempts at the relay", "wait a minute and try again")
	case wire.CodeNotMember:
		return say("removed", "the relay holds this device for none of the account's", "see `sheaf device list`")
	}
	return say("refused", r.Error(), another)
}

// openArchive opens a stream to a relay's archive: held to the limits of traffic, as what
// peers exchange.
func (n *Node) openArchive(ctx context.Context, id mesh.DeviceID) (*deposit.Client, error) {
	state, _ := n.account.snapshot()
	return deposit.Open(ctx, meteredOpener{n}, replication.DeviceID(id), state.Group, "sheaf "+n.o.Version)
}

type meteredOpener struct{ n *Node }

func (o meteredOpener) Open(ctx context.Context, peer replication.DeviceID, protocol string) (replication.Stream, error) {
	s, err := o.n.opener.Open(ctx, peer, protocol)
	if err != nil {
		return nil, err
	}
	return o.n.fetcher.Metered(ctx, s), nil
}
