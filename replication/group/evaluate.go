package group

import (
	"cmp"
	"slices"
)

// A verdict is what the evaluation has found about a statement.
type verdict uint8

const (
	open      verdict = iota
	counts            // it has effect
	overruled         // voided by a Remove, SetRole or Revoke that its author had not seen
	outranked         // lost to a senior's in a ring of such
	powerless         // its author had no right to it, all things counted
	overdrawn         // a Join beyond what its invite allows
)

// An evaluation finds out which statements of a log count.
//
// Two relations decide. A statement rests on those in its past that say what its
// author is (and a Join on its invite). It is opposed by the strong ones (Remove,
// SetRole, Revoke) that void it if they count, all of them concurrent with it. It
// counts if what it rests on gives its author the right to it and nothing that
// opposes it counts. Resting goes back in the graph only, but opposing may go in
// a ring; rings are found as strongly connected components (Tarjan 1972) and
// opened at the most senior author's strong statement: see ring.
type evaluation struct {
	log      *Log
	order    []*node
	verdicts []verdict // by node.index

	removes map[DeviceID][]*node    // by target
	revokes map[StatementID][]*node // by invite
	joins   map[StatementID][]*node // by invite
	grants  map[DeviceID][]*node    // by recipient

	claims   map[StatementID][]DeviceID // by invite: who claimed it, whatever became of that
	expelled map[StatementID][]*node    // by invite: removals of such
}

// evaluate gives a verdict on every statement of the log.
func evaluate(l *Log) *evaluation {
	e := &evaluation{
		log: l, order: l.ordered(), verdicts: make([]verdict, len(l.nodes)),
		removes: map[DeviceID][]*node{}, revokes: map[StatementID][]*node{},
		joins: map[StatementID][]*node{}, grants: map[DeviceID][]*node{},
		claims: map[StatementID][]DeviceID{}, expelled: map[StatementID][]*node{},
	}
	for _, n := range e.order {
		switch b := n.b; {
		case b.Remove != nil:
			for _, t := range b.Remove.Targets {
				e.removes[t.Device] = append(e.removes[t.Device], n)
			}
		case b.Revoke != nil:
			e.revokes[b.Revoke.Invite] = append(e.revokes[b.Revoke.Invite], n)
		case b.Join != nil:
			e.joins[b.Parents[0]] = append(e.joins[b.Parents[0]], n)
		case b.Grant != nil:
			for _, k := range b.Grant.Keys {
				e.grants[k.To] = append(e.grants[k.To], n)
			}
		}
	}
	e.indexClaims()
	e.resolve(e.order)
	return e
}

func (e *evaluation) indexClaims() {
	for invite, joins := range e.joins {
		seen := map[DeviceID]bool{}
		removals := map[*node]bool{}
		for _, j := range joins {
			if seen[j.b.Author] {
				continue
			}
			seen[j.b.Author] = true
			e.claims[invite] = append(e.claims[invite], j.b.Author)
			for _, r := range e.removes[j.b.Author] {
				if !removals[r] {
					removals[r] = true
					e.expelled[invite] = append(e.expelled[invite], r)
				}
			}
		}
	}
}

func (e *evaluation) counts(n *node) bool { return e.verdicts[n.index] == counts }

// opponents are the statements that void n if they count.
func (e *evaluation) opponents(n *node) []*node {
	switch b := n.b; {
	case b.Genesis != nil:
		return nil
	case b.Join != nil:
		return e.againstJoin(n)
	default:
		return e.againstAuthor(nil, n, n)
	}
}

// againstJoin: a Join rests on the joiner's keys, the inviter's word and the
// secrecy of the code, which a removed inviter and a removed guest still know.
func (e *evaluation) againstJoin(n *node) []*node {
	invite := e.log.inviteOf(n)
	out := appendConcurrent(nil, n, e.expelled[invite.id]) // n's author is among them
	out = appendConcurrent(out, n, e.revokes[invite.id])
	return e.againstAuthor(out, n, invite)
}

// againstAuthor adds what n had not seen and what takes from the author of what
// the right to say it: its removal, or a role that does not allow it.
func (e *evaluation) againstAuthor(out []*node, n, what *node) []*node {
	author := what.b.Author
	out = appendConcurrent(out, n, e.removes[author])
	for _, r := range e.log.roles[author] {
		allowed := slices.ContainsFunc(e.log.admits[author], func(a *node) bool {
			_, st := e.log.admission(a, author)
			st.role, st.mayInvite = r.b.Role.Role, r.b.Role.MayInvite
			return what.sees(a) && e.log.allows(st, what)
		})
		if !allowed {
			out = appendConcurrent(out, n, []*node{r})
		}
	}
	return out
}

func appendConcurrent(out []*node, n *node, ms []*node) []*node {
	for _, m := range ms {
		if concurrent(n, m) {
			out = append(out, m)
		}
	}
	return out
}

// foundations are the statements in n's past that its author's right rests on.
func (e *evaluation) foundations(n *node) []*node {
	if n.b.Genesis != nil {
		return nil
	}
	if n.b.Join != nil {
		return []*node{e.log.inviteOf(n)}
	}
	var out []*node
	for _, about := range [][]*node{e.log.admits[n.b.Author], e.log.roles[n.b.Author], e.removes[n.b.Author]} {
		for _, m := range about {
			if n.sees(m) {
				out = append(out, m)
			}
		}
	}
	return out
}

// resolve gives verdicts on a set whose members depend, outside of it, only on
// statements that have theirs.
func (e *evaluation) resolve(set []*node) {
	for _, part := range e.components(set) {
		if len(part) == 1 {
			e.decide(part[0])
			continue
		}
		losers := e.ring(part)
		for _, n := range losers {
			e.verdicts[n.index] = outranked
		}
		e.resolve(slices.DeleteFunc(part, func(n *node) bool { return e.verdicts[n.index] != open }))
	}
}

// ring opens a ring: of the strong statements in it, that of the most senior
// author stands, and those that oppose it, or what it rests on, lose. There is
// always such a loser: going from the winner round the ring, the way leads down
// through what it rests on until it first crosses to an opponent, and that is one.
func (e *evaluation) ring(part []*node) []*node {
	strong := slices.DeleteFunc(slices.Clone(part), func(n *node) bool { return !n.strong() })
	winner := slices.MinFunc(strong, func(a, b *node) int {
		return cmp.Or(e.seniority(a).compare(e.seniority(b)), a.compare(b))
	})
	var losers []*node
	rests := map[*node]bool{}
	var down func(n *node)
	down = func(n *node) {
		if rests[n] || !slices.Contains(part, n) {
			return
		}
		rests[n] = true
		for _, o := range e.opponents(n) {
			if slices.Contains(strong, o) && !slices.Contains(losers, o) {
				losers = append(losers, o)
			}
		}
		for _, f := range e.foundations(n) {
			down(f)
		}
	}
	down(winner)
	return losers
}

func (n *node) strong() bool { return n.b.Remove != nil || n.b.Role != nil || n.b.Revoke != nil }

// A seniority is a device's place in the order of joining: paper devices first,
// then by the statement that admitted it, then by its place in that.
type seniority struct {
	paper bool
	by    *node
	place int
}

func (s seniority) compare(t seniority) int {
	if s.paper != t.paper {
		if s.paper {
			return -1
		}
		return 1
	}
	return cmp.Or(s.by.compare(t.by), cmp.Compare(s.place, t.place))
}

// seniority gives that of n's author, by the first statement that admitted it as
// far as n sees. It rests on the graph alone, not on verdicts.
func (e *evaluation) seniority(n *node) seniority {
	return e.seniorityOf(n.b.Author, func(a *node) bool { return n.sees(a) })
}

func (e *evaluation) seniorityOf(id DeviceID, considered func(*node) bool) seniority {
	var first seniority
	for _, a := range e.log.admits[id] {
		if !considered(a) {
			continue
		}
		_, st := e.log.admission(a, id)
		s := seniority{paper: st.paper, by: a, place: slices.Index(a.admitted(), id)}
		if first.by == nil || s.compare(first) < 0 {
			first = s
		}
	}
	return first
}

// decide gives the verdict on a statement when all that it depends on has one.
func (e *evaluation) decide(n *node) {
	switch {
	case n.b.Genesis != nil:
		e.verdicts[n.index] = counts
	case slices.ContainsFunc(e.opponents(n), e.counts):
		e.verdicts[n.index] = overruled
	case n.b.Join != nil && !e.counts(e.log.inviteOf(n)):
		e.verdicts[n.index] = powerless
	case n.b.Join != nil && e.overdrawn(n):
		e.verdicts[n.index] = overdrawn
	case n.b.Join == nil && !e.log.allows(e.standingAt(n), n):
		e.verdicts[n.index] = powerless
	default:
		e.verdicts[n.index] = counts
	}
}

// standingAt is what n's author was where it said n.
func (e *evaluation) standingAt(n *node) standing {
	return e.standing(n.b.Author, n.sees)
}

// standing is what the statements that count, of those considered, make of a
// device: the first admission, the last change of role, no removal.
func (e *evaluation) standing(id DeviceID, considered func(*node) bool) standing {
	with := func(m *node) bool { return considered(m) && e.counts(m) }
	if slices.ContainsFunc(e.removes[id], with) {
		return standing{}
	}
	first := least(e.log.admits[id], with, (*node).compare)
	if first == nil {
		return standing{}
	}
	_, st := e.log.admission(first, id)
	if last := least(e.log.roles[id], with, func(a, b *node) int { return b.compare(a) }); last != nil {
		st.role, st.mayInvite = last.b.Role.Role, last.b.Role.MayInvite
	}
	return st
}

func least(ns []*node, with func(*node) bool, compare func(a, b *node) int) *node {
	var out *node
	for _, n := range ns {
		if with(n) && (out == nil || compare(n, out) < 0) {
			out = n
		}
	}
	return out
}

// overdrawn tells whether a Join goes beyond what its invite allows: more devices
// claimed it than have uses, and nobody who was there before has granted this one
// keys. It rests on the graph alone: who is first cannot be told, as each
// claimant may have been the only one where it asked, and a claimant must not be
// able to push another out.
func (e *evaluation) overdrawn(join *node) bool {
	invite := e.log.inviteOf(join)
	return len(e.claims[invite.id]) > int(invite.b.Invite.Uses) && !e.confirmed(invite, join)
}

func (e *evaluation) confirmed(invite, join *node) bool {
	return slices.ContainsFunc(e.grants[join.b.Author], func(g *node) bool {
		return g.sees(join) && slices.ContainsFunc(e.log.admits[g.b.Author], invite.sees)
	})
}

// components gives the strongly connected components of a set of open
// statements, each after those that it depends on.
func (e *evaluation) components(set []*node) [][]*node {
	t := tarjan{e: e, in: make(map[*node]bool, len(set)), number: make(map[*node]int, len(set)), low: make(map[*node]int, len(set)), onStack: map[*node]bool{}}
	for _, n := range set {
		t.in[n] = true
	}
	for _, n := range set {
		if t.number[n] == 0 {
			t.visit(n)
		}
	}
	return t.out
}

type tarjan struct {
	e           *evaluation
	in, onStack map[*node]bool
	number, low map[*node]int // from 1
	stack       []*node
	out         [][]*node
}

func (t *tarjan) visit(n *node) {
	t.number[n] = len(t.number) + 1
	t.low[n] = t.number[n]
	t.stack = append(t.stack, n)
	t.onStack[n] = true
	for _, deps := range [][]*node{t.e.foundations(n), t.e.opponents(n)} {
		for _, m := range deps {
			switch {
			case !t.in[m]:
			case t.number[m] == 0:
				t.visit(m)
				t.low[n] = min(t.low[n], t.low[m])
			case t.onStack[m]:
				t.low[n] = min(t.low[n], t.number[m])
			}
		}
	}
	if t.low[n] != t.number[n] {
		return
	}
	i := len(t.stack) - 1
	for t.stack[i] != n {
		i--
	}
	part := slices.Clone(t.stack[i:])
	t.stack = t.stack[:i]
	for _, m := range part {
		t.onStack[m] = false
	}
	slices.SortFunc(part, (*node).compare)
	t.out = append(t.out, part)
}
