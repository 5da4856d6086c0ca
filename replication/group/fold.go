package group

import (
	"maps"
	"slices"
	"time"
)

// Evaluate gives what the log's statements come to. It is a pure function of
// their set. The empty log has the zero State.
func (l *Log) Evaluate() State {
	if s := l.state.Load(); s != nil {
		return *s
	}
	s := new(State)
	if len(l.nodes) > 0 {
		*s = evaluate(l).state()
	}
	l.state.Store(s)
	return *s
}

// state folds the statements that count into a State.
func (e *evaluation) state() State {
	g := e.log.genesis()
	s := State{
		Group: e.log.group, Purpose: e.log.purpose(), label: g.b.Genesis.Label,
		writers: map[DeviceID]bool{}, cuts: map[DeviceID]map[[8]byte]uint64{}, replicas: map[[8]byte]uint64{},
		epochs: map[StatementID]*epochBody{}, keys: map[DeviceID][]offeredKey{}, names: map[DeviceID]nameSource{},
		granted: map[DeviceID][]DeviceID{},
	}
	s.label.Epoch = g.id
	e.foldDevices(&s)
	e.foldInvites(&s)
	e.foldNames(&s)
	e.foldEpochs(&s)
	e.foldAlarms(&s)
	for _, n := range e.order {
		if !e.counts(n) {
			s.Void = append(s.Void, Voided{ID: n.id, Kind: n.Kind(), Author: n.b.Author, Why: e.verdicts[n.index].String()})
		}
	}
	return s
}

// String says why, for people.
func (v verdict) String() string {
	switch v {
	case counts:
		return "counts"
	case overruled:
		return "its author was being removed, or the invite withdrawn"
	case outranked:
		return "a senior device's removal stands against it"
	case powerless:
		return "its author had no right to it"
	case overdrawn:
		return "the invite was claimed too often, and nobody confirmed this one"
	}
	return "undecided"
}

func anywhere(*node) bool { return true }

// foldDevices finds members, removed devices, and up to where whose changes
// count.
func (e *evaluation) foldDevices(s *State) {
	type ranked struct {
		Member
		rank seniority
	}
	var members []ranked
	for id, admits := range e.log.admits {
		// A device may be removed whose admission does not count: one of several
		// that claimed a code.
		if r := least(e.removes[id], e.counts, (*node).compare); r != nil {
			c, _ := e.log.admission(least(admits, anywhere, (*node).compare), id)
			s.Removed = append(s.Removed, Departed{Device: c.device(), By: r.b.Author, Cuts: e.cutsOf(id)})
			s.cut(id, e.cutsOf(id))
			continue
		}
		first := least(admits, e.counts, (*node).compare)
		if first == nil {
			continue
		}
		c, _ := e.log.admission(first, id)
		st := e.standing(id, anywhere)
		m := Member{Device: c.device(), Role: st.role, MayInvite: st.mayInvite, Account: st.account, Paper: st.paper, Joined: first.id}
		if first.b.Join != nil {
			m.Invite = first.b.Parents[0]
		}
		members = append(members, ranked{m, e.seniorityOf(id, e.counts)})
		s.writers[id] = st.role >= Editor
		if st.role == Viewer {
			s.cut(id, e.demotionCuts(id))
		}
	}
	slices.SortFunc(members, func(a, b ranked) int { return a.rank.compare(b.rank) })
	for _, m := range members {
		s.Members = append(s.Members, m.Member)
	}
	slices.SortFunc(s.Removed, func(a, b Departed) int {
		ra, rb := least(e.removes[a.ID], e.counts, (*node).compare), least(e.removes[b.ID], e.counts, (*node).compare)
		if c := ra.compare(rb); c != 0 {
			return c
		}
		return a.ID.compare(b.ID)
	})
}

// cutsOf merges the cuts of all removals of a device that count. An owner that
// accepted more has seen more: the greater counter holds.
func (e *evaluation) cutsOf(id DeviceID) []Cut {
	merged := map[[8]byte]uint64{}
	for _, r := range e.removes[id] {
		if !e.counts(r) {
			continue
		}
		for _, t := range r.b.Remove.Targets {
			for _, c := range t.Cuts {
				if t.Device == id {
					merged[c.Replica] = max(merged[c.Replica], c.Counter)
				}
			}
		}
	}
	return sortedCuts(merged)
}

// demotionCuts gives the cuts of the change of role that made a device a viewer.
func (e *evaluation) demotionCuts(id DeviceID) []Cut {
	last := least(e.log.roles[id], e.counts, func(a, b *node) int { return b.compare(a) })
	if last == nil {
		return nil
	}
	return last.b.Role.Cuts
}

func (s *State) cut(id DeviceID, cuts []Cut) {
	s.cuts[id] = map[[8]byte]uint64{}
	for _, c := range cuts {
		s.cuts[id][c.Replica] = c.Counter
		s.replicas[c.Replica] = max(s.replicas[c.Replica], c.Counter)
	}
}

// foldInvites finds the invites that count and what they are good for.
func (e *evaluation) foldInvites(s *State) {
	for _, n := range e.order {
		if n.b.Invite == nil || !e.counts(n) {
			continue
		}
		i := n.b.Invite
		v := Invitation{
			ID: n.id, Public: i.Public.ID, By: n.b.Author, Role: i.Role, MayInvite: i.MayInvite, Uses: int(i.Uses),
			Expires: time.Unix(i.Expires, 0).UTC(), Claims: e.claims[n.id], Status: InviteOpen,
			seal: i.Public.device(),
		}
		removed := func(id DeviceID) bool { return slices.ContainsFunc(e.removes[id], e.counts) }
		st := e.standing(n.b.Author, anywhere)
		switch {
		case len(v.Claims) > v.Uses:
			v.Status = InviteOverdrawn
		case slices.ContainsFunc(e.revokes[n.id], e.counts), !e.log.allows(st, n), slices.ContainsFunc(v.Claims, removed):
			v.Status = InviteClosed
		case len(v.Claims) == v.Uses:
			v.Status = InviteUsed
		}
		s.Invites = append(s.Invites, v)
	}
}

// foldAlarms finds forks and double claims.
func (e *evaluation) foldAlarms(s *State) {
	type place struct {
		author DeviceID
		seq    uint64
	}
	said := map[place][]StatementID{}
	for _, n := range e.order {
		p := place{n.b.Author, n.b.Seq}
		said[p] = append(said[p], n.id)
	}
	for _, n := range e.order {
		if ids := said[place{n.b.Author, n.b.Seq}]; len(ids) > 1 && ids[0] == n.id {
			s.Alarms = append(s.Alarms, Alarm{Kind: Fork, Devices: []DeviceID{n.b.Author}, Statements: ids, Settled: s.IsRemoved(n.b.Author)})
		}
		if n.b.Invite == nil {
			continue
		}
		if claims := e.claims[n.id]; len(claims) > int(n.b.Invite.Uses) {
			a := Alarm{Kind: DoubleClaim, Invite: n.id, Devices: claims, Settled: true}
			for _, j := range e.joins[n.id] {
				a.Statements = append(a.Statements, j.id)
				a.Settled = a.Settled && (e.confirmed(n, j) || s.IsRemoved(j.b.Author))
			}
			s.Alarms = append(s.Alarms, a)
		}
	}
}

func sortedCuts(m map[[8]byte]uint64) []Cut {
	var out []Cut
	for _, r := range slices.SortedFunc(maps.Keys(m), func(a, b [8]byte) int { return slices.Compare(a[:], b[:]) }) {
		out = append(out, Cut{Replica: r, Counter: m[r]})
	}
	return out
}
