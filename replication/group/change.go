package group

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A New member is a device that an owner, or a member for its own account's
// devices, admits without an invite.
type New struct {
	Device    Device // with its Name
	Role      Role
	MayInvite bool
	Account   ID
}

// Admit adds a device and seals the current key to it: [Add, Grant].
func (l *Log) Admit(rand io.Reader, k Keys, m New) ([]Statement, error) {
	st, ring, err := l.speaker(k)
	if err != nil {
		return nil, fmt.Errorf("add device: %w", err)
	}
	if err := CheckName(m.Device.Name); err != nil {
		return nil, fmt.Errorf("add device: name: %w", err)
	}
	if st.IsRemoved(m.Device.ID) {
		return nil, fmt.Errorf("add device: %w", ErrRemoved)
	}
	if st.load()+1 > MaxMembers {
		return nil, fmt.Errorf("add device: %w", ErrTooMany)
	}
	name, err := ring.sealName(rand, nameContext+m.Device.ID.Hex(), m.Device.Name)
	if err != nil {
		return nil, fmt.Errorf("add device: %w", err)
	}
	add, c, err := l.say(k, body{Add: &addBody{Device: certify(m.Device), Name: name, Role: m.Role, MayInvite: m.MayInvite, Account: m.Account}})
	if err != nil {
		return nil, fmt.Errorf("add device: %w", err)
	}
	grant, err := c.Grant(k, m.Device.ID)
	if err != nil {
		return nil, fmt.Errorf("add device: %w", err)
	}
	return append([]Statement{add}, grant...), nil
}

// ReplacePhrase puts a new recovery phrase in the place of the old one, which is
// needed for it and opens nothing that comes after: [Add, Grant, Remove, Epoch].
func (l *Log) ReplacePhrase(rand io.Reader, old, paper Keys) ([]Statement, error) {
	_, ring, err := l.speaker(old)
	if err != nil {
		return nil, fmt.Errorf("replace phrase: %w", err)
	}
	d := paper.Device()
	name, err := ring.sealName(rand, nameContext+d.ID.Hex(), paperName)
	if err != nil {
		return nil, fmt.Errorf("replace phrase: %w", err)
	}
	add, c, err := l.say(old, body{Add: &addBody{Device: certify(d), Name: name, Role: Owner,
		Consent: paper.Sign(consentContext, paperConsent(l.group, old.ID(), d.ID))}})
	if err != nil {
		return nil, fmt.Errorf("replace phrase: %w", err)
	}
	out := []Statement{add}
	for _, step := range []func() ([]Statement, error){
		func() ([]Statement, error) { return c.Grant(old, d.ID) },
		func() ([]Statement, error) { return c.Remove(rand, old, Departure{Device: old.ID()}) },
		func() ([]Statement, error) { return c.Rotate(rand, paper) },
	} {
		said, err := step()
		if err != nil {
			return nil, fmt.Errorf("replace phrase: %w", err)
		}
		if c, err = c.with(said...); err != nil {
			return nil, fmt.Errorf("replace phrase: %w", err)
		}
		out = append(out, said...)
	}
	return out, nil
}

// An Offering says what an invite offers.
type Offering struct {
	Role      Role // in an Account: Owner
	MayInvite bool
	Uses      int
	Expires   time.Time
	Addresses []string // multiaddrs at which to ask: relays first, then this device
}

// Invite makes an invite and its code: [Invite]. Whoever has the code can join
// until it expires, is used up or revoked.
func (l *Log) Invite(rand io.Reader, k Keys, o Offering) ([]Statement, Code, error) {
	st, ring, err := l.speaker(k)
	if err != nil {
		return nil, Code{}, fmt.Errorf("invite: %w", err)
	}
	if o.Uses < 1 || o.Uses > maxUses {
		return nil, Code{}, fmt.Errorf("invite: %d uses, at most %d: %w", o.Uses, maxUses, ErrMalformed)
	}
	if st.load()+o.Uses > MaxMembers {
		return nil, Code{}, fmt.Errorf("invite: %w", ErrTooMany)
	}
	kind := ShareCode
	if st.Purpose == Account {
		kind = DeviceCode
	}
	code, err := NewCode(rand, kind, l.group, k.ID(), o.Addresses)
	if err != nil {
		return nil, Code{}, fmt.Errorf("invite: %w", err)
	}
	i, err := code.body(rand, st, ring, k.ID())
	if err != nil {
		return nil, Code{}, fmt.Errorf("invite: %w", err)
	}
	i.Role, i.MayInvite, i.Uses, i.Expires = o.Role, o.MayInvite, uint32(o.Uses), o.Expires.Unix() //nolint:gosec // bounded above
	s, _, err := l.say(k, body{Invite: i})
	if err != nil {
		return nil, Code{}, fmt.Errorf("invite: %w", err)
	}
	return []Statement{s}, code, nil
}

// A Departure says which device to remove, and up to where its changes count:
// for each of its replicas, the last counter that this device has accepted. A
// replica that is not named counts for nothing.
type Departure struct {
	Device DeviceID
	Cuts   []Cut
}

// Remove removes devices for ever and makes a new epoch without them: [Remove,
// Epoch]. A member that leaves by removing itself makes none, as it would know
// the key: State.NeedsEpoch then asks an owner to.
func (l *Log) Remove(rand io.Reader, k Keys, targets ...Departure) ([]Statement, error) {
	if _, err := l.member(k.ID()); err != nil {
		return nil, fmt.Errorf("remove device: %w", err)
	}
	r := &removeBody{}
	leaves := false
	for _, t := range targets {
		if len(l.admits[t.Device]) == 0 {
			return nil, fmt.Errorf("remove device %s: %w", t.Device, ErrUnknownDevice)
		}
		r.Targets = append(r.Targets, departure{Device: t.Device, Cuts: ordered(t.Cuts)})
		leaves = leaves || t.Device == k.ID()
	}
	slices.SortFunc(r.Targets, func(a, b departure) int { return a.Device.compare(b.Device) })
	s, c, err := l.say(k, body{Remove: r})
	if err != nil {
		return nil, fmt.Errorf("remove device: %w", err)
	}
	if err := c.Evaluate().checkOwned(); err != nil {
		return nil, fmt.Errorf("remove device: %w", err)
	}
	if leaves {
		return []Statement{s}, nil
	}
	epoch, err := c.Rotate(rand, k)
	if err != nil {
		return nil, fmt.Errorf("remove device: %w", err)
	}
	return append([]Statement{s}, epoch...), nil
}

// SetRole changes what a member may do: [SetRole]. For a Viewer, cuts say up to
// where the changes it made before count, as in a Departure. The group's keys
// stay: a viewer reads.
func (l *Log) SetRole(k Keys, device DeviceID, role Role, mayInvite bool, cuts []Cut) ([]Statement, error) {
	if _, err := l.member(k.ID()); err != nil {
		return nil, fmt.Errorf("change role: %w", err)
	}
	if _, err := l.member(device); err != nil {
		return nil, fmt.Errorf("change role: %w", ErrUnknownDevice)
	}
	s, c, err := l.say(k, body{Role: &roleBody{Device: device, Role: role, MayInvite: mayInvite, Cuts: ordered(cuts)}})
	if err != nil {
		return nil, fmt.Errorf("change role: %w", err)
	}
	if err := c.Evaluate().checkOwned(); err != nil {
		return nil, fmt.Errorf("change role: %w", err)
	}
	return []Statement{s}, nil
}

// Rename names a device: [Rename]. Everybody names itself, an owner anybody.
func (l *Log) Rename(rand io.Reader, k Keys, device DeviceID, name string) ([]Statement, error) {
	_, ring, err := l.speaker(k)
	if err != nil {
		return nil, fmt.Errorf("rename device: %w", err)
	}
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("rename device: %w", err)
	}
	if _, err := l.member(device); err != nil {
		return nil, fmt.Errorf("rename device: %w", ErrUnknownDevice)
	}
	sealed, err := ring.sealName(rand, nameContext+device.Hex(), name)
	if err != nil {
		return nil, fmt.Errorf("rename device: %w", err)
	}
	s, _, err := l.say(k, body{Rename: &renameBody{Device: device, Name: sealed}})
	if err != nil {
		return nil, fmt.Errorf("rename device: %w", err)
	}
	return []Statement{s}, nil
}

// Revoke withdraws an invite: joins through it that this device has not seen are
// void. [Revoke], and by an owner [Revoke, Epoch], as the code opened the current
// key; else State.NeedsEpoch asks an owner to.
func (l *Log) Revoke(rand io.Reader, k Keys, invite StatementID) ([]Statement, error) {
	m, err := l.member(k.ID())
	if err != nil {
		return nil, fmt.Errorf("revoke invite: %w", err)
	}
	if _, ok := l.Evaluate().Invite(invite); !ok {
		return nil, fmt.Errorf("revoke invite: %w", ErrUnknownInvite)
	}
	s, c, err := l.say(k, body{Revoke: &revokeBody{Invite: invite}})
	if err != nil {
		return nil, fmt.Errorf("revoke invite: %w", err)
	}
	if m.Role != Owner {
		return []Statement{s}, nil
	}
	epoch, err := c.Rotate(rand, k)
	if err != nil {
		return nil, fmt.Errorf("revoke invite: %w", err)
	}
	return append([]Statement{s}, epoch...), nil
}

// Rotate makes a new epoch, sealed to all members and open invites: [Epoch].
// Only an owner does.
func (l *Log) Rotate(rand io.Reader, k Keys) ([]Statement, error) {
	st := l.Evaluate()
	// What the author cannot open it cannot link; that must not stop a removal.
	ring, err := st.OpenKeys(k)
	if err != nil && !errors.Is(err, ErrNoKey) {
		return nil, fmt.Errorf("new epoch: %w", err)
	}
	e, _, err := newEpoch(rand, st.recipients(), ring, st.epochHeads())
	if err != nil {
		return nil, fmt.Errorf("new epoch: %w", err)
	}
	s, _, err := l.say(k, body{Epoch: &e})
	if err != nil {
		return nil, fmt.Errorf("new epoch: %w", err)
	}
	return []Statement{s}, nil
}

// Grant seals the current epoch's key to members or open invites (by the public
// half of their code's key) that State.Ungranted names: [Grant]. Any member can.
func (l *Log) Grant(k Keys, to ...DeviceID) ([]Statement, error) {
	var devices []Device
	for _, d := range l.Evaluate().recipients() {
		if slices.Contains(to, d.ID) {
			devices = append(devices, d)
		}
	}
	return l.grant(k, devices)
}

// Tend makes what the state of things asks of this device without a person: an
// owner's new epoch where State.NeedsEpoch, the key for those whom
// State.Ungranted names. nil if there is nothing to do or nothing that this
// device can do. To be called when statements came, best after a short random
// while: that several devices do the same is harmless, but not free. Devices
// that tend and exchange come to rest.
func (l *Log) Tend(rand io.Reader, k Keys) ([]Statement, error) {
	st := l.Evaluate()
	m, ok := st.Member(k.ID())
	if !ok {
		return nil, nil
	}
	if m.Role == Owner && st.NeedsEpoch() {
		return l.Rotate(rand, k)
	}
	lacking := st.Ungranted(k.ID())
	if len(lacking) == 0 {
		return nil, nil
	}
	said, err := l.Grant(k, lacking...)
	// Without the key there is nothing to grant; a device whose sealing key is of
	// no use cannot be helped.
	if errors.Is(err, ErrNoKey) || errors.Is(err, ErrUnknownDevice) {
		return nil, nil
	}
	return said, err
}

// Confirm lets a device in that claimed an invite which others claimed, too:
// [Grant]. A person decides that, who knows whose device it is; the others are
// best removed.
func (l *Log) Confirm(k Keys, device DeviceID) ([]Statement, error) {
	for _, n := range l.admits[device] {
		if n.b.Join != nil {
			c, _ := l.admission(n, device)
			return l.grant(k, []Device{c.device()})
		}
	}
	return nil, fmt.Errorf("confirm device: %w", ErrUnknownDevice)
}

func (l *Log) grant(k Keys, devices []Device) ([]Statement, error) {
	_, ring, err := l.speaker(k)
	if err != nil {
		return nil, fmt.Errorf("grant key: %w", err)
	}
	return l.grantBy(k, ring, devices)
}

// grantBy grants from a keyring that k may not be able to open for itself yet.
func (l *Log) grantBy(k Keys, ring Keyring, devices []Device) ([]Statement, error) {
	st := l.Evaluate()
	keys := sealKeys(ring.keys[st.Current], devices)
	if len(keys) == 0 {
		return nil, fmt.Errorf("grant key: %w", ErrUnknownDevice)
	}
	s, _, err := l.say(k, body{Grant: &grantBody{Epoch: st.Current, Keys: keys}})
	if err != nil {
		return nil, fmt.Errorf("grant key: %w", err)
	}
	return []Statement{s}, nil
}
