package group

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// say makes a statement on top of all that the log has, and gives the log with
// it. It is ErrNotAllowed if it would not count: the evaluation is the only judge
// of that.
func (l *Log) say(k Keys, b body) (Statement, *Log, error) {
	if _, err := l.member(k.ID()); err != nil {
		return Statement{}, nil, err
	}
	b.Group, b.Author, b.Seq = l.group, k.ID(), 1
	last := l.lastOf(k.ID())
	if last != nil {
		b.Seq, b.Prev = last.b.Seq+1, last.id
	}
	b.Parents = l.parents(last)
	s, err := b.sign(k)
	if err != nil {
		return Statement{}, nil, err
	}
	c, err := l.with(s)
	if errors.Is(err, ErrUnauthorized) {
		return Statement{}, nil, ErrNotAllowed
	}
	if err != nil {
		return Statement{}, nil, err
	}
	if slices.ContainsFunc(c.Evaluate().Void, func(v Voided) bool { return v.ID == s.id }) {
		return Statement{}, nil, ErrNotAllowed
	}
	return s, c, nil
}

// lastOf gives a device's last statement. Where it forked, one branch goes on.
func (l *Log) lastOf(id DeviceID) *node {
	var last *node
	for _, n := range l.nodes {
		if n.b.Author == id && (last == nil || n.b.Seq > last.b.Seq || (n.b.Seq == last.b.Seq && n.compare(last) > 0)) {
			last = n
		}
	}
	return last
}

// parents gives the heads to name: all of them, or where there are too many, the
// newest and one that sees the author's last statement.
func (l *Log) parents(last *node) []StatementID {
	heads := make([]*node, 0, len(l.heads))
	for id := range l.heads {
		heads = append(heads, l.byID[id])
	}
	slices.SortFunc(heads, func(a, b *node) int {
		if last != nil {
			if sa, sb := a == last || a.sees(last), b == last || b.sees(last); sa != sb {
				if sa {
					return -1
				}
				return 1
			}
		}
		return b.compare(a)
	})
	ids := make([]StatementID, 0, len(heads))
	for _, n := range heads[:min(len(heads), maxParents)] {
		ids = append(ids, n.id)
	}
	slices.SortFunc(ids, StatementID.compare)
	return ids
}

// member gives a member, or ErrNotMember, ErrRemoved.
func (l *Log) member(id DeviceID) (Member, error) {
	st := l.Evaluate()
	if m, ok := st.Member(id); ok {
		return m, nil
	}
	if st.IsRemoved(id) {
		return Member{}, fmt.Errorf("%w: %w", ErrNotMember, ErrRemoved)
	}
	return Member{}, ErrNotMember
}

// speaker gives the state with names and the keys, for a member that has them.
func (l *Log) speaker(k Keys) (State, Keyring, error) {
	if _, err := l.member(k.ID()); err != nil {
		return State{}, Keyring{}, err
	}
	st := l.Evaluate()
	ring, err := st.OpenKeys(k)
	if err != nil {
		return State{}, Keyring{}, err
	}
	return st.Named(ring), ring, nil
}

func (k Keyring) sealName(rand io.Reader, context, name string) (sealedName, error) {
	return sealName(rand, k.current, k.keys[k.current], context, name)
}

// load counts members and the uses that open invites have left.
func (s State) load() int {
	n := len(s.Members)
	for _, i := range s.Invites {
		if i.Status == InviteOpen {
			n += i.Uses - len(i.Claims)
		}
	}
	return n
}

func (s State) checkOwned() error {
	if !slices.ContainsFunc(s.Members, func(m Member) bool { return m.Role == Owner }) {
		return ErrLastOwner
	}
	return nil
}

// epochHeads are the epochs that no other links, the newest if there are many.
func (s State) epochHeads() []StatementID {
	linked := map[StatementID]bool{}
	for _, e := range s.epochs {
		for _, k := range e.Links {
			linked[k.Epoch] = true
		}
	}
	var out []StatementID
	for _, e := range slices.Backward(s.Epochs) {
		if !linked[e.ID] && len(out) < maxLinks {
			out = append(out, e.ID)
		}
	}
	return out
}

func ordered(cuts []Cut) []Cut {
	return slices.SortedFunc(slices.Values(cuts), func(a, b Cut) int { return bytes.Compare(a.Replica[:], b.Replica[:]) })
}
