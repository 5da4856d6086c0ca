package group

import (
	"fmt"
	"slices"
)

// A standing is what a device is in a group at some point.
type standing struct {
	role      Role // 0: no member
	mayInvite bool
	account   ID
	paper     bool
}

// admitted are the devices that a statement admits.
func (n *node) admitted() []DeviceID {
	switch b := n.b; {
	case b.Genesis != nil:
		ids := make([]DeviceID, 0, len(b.Genesis.Founders))
		for _, f := range b.Genesis.Founders {
			ids = append(ids, f.Device.ID)
		}
		return ids
	case b.Add != nil:
		return []DeviceID{b.Add.Device.ID}
	case b.Join != nil:
		return []DeviceID{b.Join.Device.ID}
	}
	return nil
}

// admission gives what a statement makes of a device that it admits.
func (l *Log) admission(n *node, id DeviceID) (certificate, standing) {
	switch b := n.b; {
	case b.Genesis != nil:
		for _, f := range b.Genesis.Founders {
			if f.Device.ID == id {
				return f.Device, standing{role: Owner, account: b.Genesis.Account, paper: f.Paper}
			}
		}
	case b.Add != nil:
		a := b.Add
		return a.Device, standing{role: a.Role, mayInvite: a.MayInvite, account: a.Account, paper: a.paper()}
	case b.Join != nil:
		if i := l.inviteOf(n); i != nil {
			return b.Join.Device, standing{role: i.b.Invite.Role, mayInvite: i.b.Invite.MayInvite, account: b.Join.Account}
		}
	}
	return certificate{}, standing{}
}

// inviteOf gives the Invite that a Join goes through: its only parent.
func (l *Log) inviteOf(join *node) *node {
	if i := l.byID[join.b.Parents[0]]; i != nil && i.b.Invite != nil {
		return i
	}
	return nil
}

func (l *Log) genesis() *node { return l.nodes[0] } // nothing else enters an empty log

func (l *Log) purpose() Purpose { return l.genesis().b.Genesis.Purpose }

// paper tells whether a device is a paper device as far as n's author could
// know.
func (l *Log) paper(n *node, id DeviceID) bool {
	return slices.ContainsFunc(l.admits[id], func(a *node) bool {
		_, st := l.admission(a, id)
		return n.sees(a) && st.paper
	})
}

// allows tells whether a member of that standing may make statement n, removals
// apart.
func (l *Log) allows(st standing, n *node) bool {
	owner, author := st.role == Owner, n.b.Author
	switch b := n.b; {
	case st.role == 0:
		return false
	case b.Add != nil:
		a := b.Add
		if a.paper() {
			return st.paper
		}
		if owner {
			return true
		}
		return a.Role == st.role && (st.mayInvite || !a.MayInvite) && !a.Account.IsZero() && a.Account == st.account
	case b.Invite != nil:
		return owner || (st.mayInvite && b.Invite.Role <= Editor && !b.Invite.MayInvite)
	case b.Remove != nil:
		return !slices.ContainsFunc(b.Remove.Targets, func(t departure) bool {
			return t.Device != author && (!owner || l.paper(n, t.Device))
		})
	case b.Role != nil:
		return owner && (b.Role.Device == author || !l.paper(n, b.Role.Device))
	case b.Rename != nil:
		return owner || b.Rename.Device == author
	case b.Revoke != nil:
		return owner || l.byID[b.Revoke.Invite].b.Author == author
	case b.Epoch != nil:
		return owner
	case b.Grant != nil:
		return true
	}
	return false
}

// justified tells whether n may enter the log: what it speaks of is in its past,
// and somebody in its past had given its author the right to say it, be that
// right taken back or not. That depends on n and its past alone, so every log
// takes the same. It keeps out strangers and members who say what they never
// might; whether a statement counts is for the evaluation.
func (l *Log) justified(n *node) error {
	b := n.b
	if b.Genesis != nil {
		if len(l.nodes) > 0 {
			return ErrForeign
		}
		return nil
	}
	if b.Seq > 1 {
		prev := l.byID[b.Prev]
		if prev == nil || !n.sees(prev) || prev.b.Author != b.Author || prev.b.Seq != b.Seq-1 {
			return fmt.Errorf("does not follow its author's statement before: %w", ErrMalformed)
		}
	}
	if err := l.checkReferences(n); err != nil {
		return err
	}
	if b.Join != nil {
		return nil
	}
	if !slices.ContainsFunc(l.standings(n), func(st standing) bool { return l.allows(st, n) }) {
		return ErrUnauthorized
	}
	return nil
}

// standings gives all that n's author had ever been made in n's past.
func (l *Log) standings(n *node) []standing {
	var out []standing
	for _, a := range l.admits[n.b.Author] {
		if !n.sees(a) {
			continue
		}
		_, st := l.admission(a, n.b.Author)
		out = append(out, st)
		for _, r := range l.roles[n.b.Author] {
			if n.sees(r) {
				st.role, st.mayInvite = r.b.Role.Role, r.b.Role.MayInvite
				out = append(out, st)
			}
		}
	}
	return out
}

// checkReferences tells whether what n speaks of is in its past and fits the
// group's purpose.
func (l *Log) checkReferences(n *node) error {
	account := l.purpose() == Account
	fits, known := true, true
	switch b := n.b; {
	case b.Add != nil:
		fits = (!account && !b.Add.paper()) || (account && b.Add.Role == Owner && b.Add.Account.IsZero())
		known = l.isEpoch(n, b.Add.Name.Epoch)
	case b.Invite != nil:
		fits = !account || b.Invite.Role == Owner
		known = l.isEpoch(n, b.Invite.Epoch) && l.isEpoch(n, b.Invite.Names.Epoch)
	case b.Join != nil:
		i := l.inviteOf(n)
		known = i != nil && i.b.Invite.Public.ID == b.Join.Public
		fits = !account || b.Join.Account.IsZero()
	case b.Remove != nil:
		for _, t := range b.Remove.Targets {
			known = known && l.isDevice(n, t.Device)
		}
	case b.Role != nil:
		fits, known = !account, l.isDevice(n, b.Role.Device)
	case b.Rename != nil:
		known = l.isDevice(n, b.Rename.Device) && l.isEpoch(n, b.Rename.Name.Epoch)
	case b.Revoke != nil:
		i := l.byID[b.Revoke.Invite]
		known = i != nil && n.sees(i) && i.b.Invite != nil
	case b.Epoch != nil:
		for _, k := range b.Epoch.Links {
			known = known && l.isEpoch(n, k.Epoch)
		}
	case b.Grant != nil:
		known = l.isEpoch(n, b.Grant.Epoch)
	}
	if !known {
		return fmt.Errorf("speaks of what its author had not seen: %w", ErrMalformed)
	}
	if !fits {
		return fmt.Errorf("does not fit a group of this purpose: %w", ErrMalformed)
	}
	return nil
}

func (l *Log) isDevice(n *node, id DeviceID) bool { return slices.ContainsFunc(l.admits[id], n.sees) }

func (l *Log) isEpoch(n *node, id StatementID) bool {
	e := l.byID[id]
	return e != nil && n.sees(e) && e.epoch() != nil
}

// epoch gives the epoch that a statement opens, if it does.
func (n *node) epoch() *epochBody {
	if n.b.Genesis != nil {
		return &n.b.Genesis.Epoch
	}
	return n.b.Epoch
}
