package group

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The properties here are about what hostile devices can bring about: they say
// whatever the shape of statements allows, on top of whatever they like, not only
// what this package's functions would make for them.

// cast are the devices that play. "a" founds.
var cast = []string{"a", "b", "c", "d", "e"}

// A hostile world makes statements without asking whether they are allowed.
type hostileWorld struct {
	*world
	rt     *rapid.T
	invite map[StatementID]string // whose keys a code yields
	n      int
}

// boxes are filler for sealed keys: evaluation does not open them.
func filler(n int) []byte { return make([]byte, n) }

// forge signs a body on top of parents of the caller's choice, with the author's
// own sequence as it sees it. It gives no statement where the shape forbids one.
func (h *hostileWorld) forge(l *Log, name string, parents []StatementID, b body) (Statement, bool) {
	k := keysOf(name)
	b.Group, b.Author, b.Seq = l.group, k.ID(), 1
	b.Parents = slices.Clone(parents)
	slices.SortFunc(b.Parents, StatementID.compare)
	b.Parents = slices.Compact(b.Parents)
	for _, n := range l.nodes {
		seen := slices.Contains(b.Parents, n.id) || slices.ContainsFunc(b.Parents, func(p StatementID) bool { return l.byID[p].sees(n) })
		if n.b.Author == k.ID() && seen && n.b.Seq >= b.Seq {
			b.Seq, b.Prev = n.b.Seq+1, n.id
		}
	}
	s, err := b.sign(k)
	return s, err == nil
}

// draw makes a random body for a device to say.
func (h *hostileWorld) draw(l *Log, account ID) body {
	h.n++
	genesis := l.genesis().id
	who := func(label string) DeviceID { return idOf(rapid.SampledFrom(cast).Draw(h.rt, label)) }
	role := rapid.SampledFrom([]Role{Viewer, Editor, Owner}).Draw(h.rt, "role")
	may := role == Editor && rapid.Bool().Draw(h.rt, "may invite")
	switch rapid.IntRange(0, 7).Draw(h.rt, "kind") {
	case 0:
		d := keysOf(rapid.SampledFrom(cast).Draw(h.rt, "whom")).Device()
		return body{Add: &addBody{Device: certify(d), Role: role, MayInvite: may, Account: account, Name: sealedName{Epoch: genesis, Box: filler(72)}}}
	case 1:
		code := fmt.Sprintf("code %d", h.n)
		return body{Invite: &inviteBody{Public: certify(keysOf(code).Device()), Role: role, MayInvite: may, Uses: 1, Expires: 1,
			Names: sealedName{Epoch: genesis, Box: filler(72)}, Preview: filler(8), Epoch: genesis, Key: filler(keyBoxSize)}}
	case 2, 3:
		r := &removeBody{Targets: []departure{{Device: who("removed")}}}
		if rapid.Bool().Draw(h.rt, "two") {
			if d := who("removed, too"); d != r.Targets[0].Device {
				r.Targets = append(r.Targets, departure{Device: d})
				slices.SortFunc(r.Targets, func(a, b departure) int { return a.Device.compare(b.Device) })
			}
		}
		return body{Remove: r}
	case 4:
		return body{Role: &roleBody{Device: who("of role"), Role: role, MayInvite: may}}
	case 5:
		invites := []StatementID{genesis}
		for _, n := range l.nodes {
			if n.b.Invite != nil {
				invites = append(invites, n.id)
			}
		}
		return body{Revoke: &revokeBody{Invite: rapid.SampledFrom(invites).Draw(h.rt, "revoked")}}
	case 6:
		return body{Grant: &grantBody{Epoch: genesis, Keys: []keyBox{{To: who("granted"), Box: filler(keyBoxSize)}}}}
	default:
		return body{Epoch: &epochBody{Keys: []keyBox{{To: who("epoch for"), Box: filler(keyBoxSize)}}}}
	}
}

// join makes name say a Join through the i'th code, which everybody has.
func (h *hostileWorld) join(l *Log, name string, account ID) (Statement, bool) {
	var invites []*node
	for _, n := range l.nodes {
		if n.b.Invite != nil && h.invite[n.id] != "" {
			invites = append(invites, n)
		}
	}
	if len(invites) == 0 {
		return Statement{}, false
	}
	i := rapid.SampledFrom(invites).Draw(h.rt, "invite")
	code := keysOf(h.invite[i.id])
	j := &joinBody{Device: certify(keysOf(name).Device()), Public: code.ID(), Name: filler(72), Account: account}
	j.Proof = code.Sign(joinContext, j.proven(l.group, i.id))
	return h.forge(l, name, []StatementID{i.id}, body{Join: j})
}

// play has the devices named say things, on top of heads or of a random past,
// and gives the log of all.
func (h *hostileWorld) play(l *Log, steps int, players []string) []Statement {
	var said []Statement
	for range steps {
		name := rapid.SampledFrom(players).Draw(h.rt, "who")
		parents := l.Heads()
		if rapid.Bool().Draw(h.rt, "back-dated") {
			ids := make([]StatementID, 0, len(l.nodes))
			for _, n := range l.nodes {
				ids = append(ids, n.id)
			}
			parents = rapid.SliceOfN(rapid.SampledFrom(ids), 1, 3).Draw(h.rt, "parents")
		}
		account := ID{byte(rapid.IntRange(1, 2).Draw(h.rt, "account"))}
		var s Statement
		var ok bool
		if rapid.IntRange(0, 3).Draw(h.rt, "joins") == 0 {
			s, ok = h.join(l, name, account)
		} else {
			b := h.draw(l, account)
			if s, ok = h.forge(l, name, parents, b); ok && b.Invite != nil {
				h.invite[s.id] = fmt.Sprintf("code %d", h.n)
			}
		}
		if !ok {
			continue
		}
		if added, _ := l.Add(s); len(added) > 0 {
			said = append(said, added...)
		}
	}
	return said
}

// founded gives a share in which "a" is the owner and the others have the roles
// given. Many cases start from it.
func founded(t testing.TB, roles map[string]New) *world {
	t.Helper()
	w := newShare(t)
	for _, name := range cast {
		if m, ok := roles[name]; ok {
			w.say("a", func(l *Log, k Keys) ([]Statement, error) {
				m.Device = device(name)
				return l.Admit(w.rand, k, m)
			})
		}
	}
	return w
}

// hostile starts a case from a world.
func hostile(rt *rapid.T, w *world) *hostileWorld {
	c := &world{t: w.t, rand: seeded("case"), id: w.id, logs: map[string]*Log{"a": must(LoadLog(w.all))}}
	return &hostileWorld{world: c, rt: rt, invite: map[StatementID]string{}}
}

// everybodyOwns is the wildest group: each of the cast but "e" decides.
var everybodyOwns = map[string]New{"b": {Role: Owner}, "c": {Role: Owner}, "d": {Role: Owner}}

func TestAnyOrderSameState(t *testing.T) {
	t.Parallel()
	w := founded(t, everybodyOwns)
	rapid.Check(t, func(rt *rapid.T) {
		h := hostile(rt, w)
		l := h.log("a")
		h.play(l, rapid.IntRange(1, 14).Draw(rt, "steps"), cast)
		want := dump(l.Evaluate())
		other := NewLog(l.group)
		for _, s := range rapid.Permutation(l.Statements()).Draw(rt, "order") {
			if _, err := other.Add(s); err != nil {
				rt.Fatal(err)
			}
		}
		if got := dump(other.Evaluate()); got != want {
			rt.Fatalf("one order:\n%s\nanother:\n%s", want, got)
		}
		if !slices.Equal(other.Heads(), l.Heads()) || len(other.Missing()) > 0 {
			rt.Fatal("heads differ")
		}
	})
}

// TestNobodyRisesByItself: whatever all others say, together and with every code
// that any of them makes, the one owner stays the only owner, a viewer's devices
// stay viewers, and strangers whom no editor let in stay out.
func TestNobodyRisesByItself(t *testing.T) {
	t.Parallel()
	viewers := founded(t, map[string]New{"b": {Role: Viewer, Account: ID{1}}, "c": {Role: Viewer, Account: ID{2}}})
	mixed := founded(t, map[string]New{"b": {Role: Viewer, Account: ID{1}}, "c": {Role: Editor, MayInvite: true, Account: ID{2}}})
	rapid.Check(t, func(rt *rapid.T) {
		w, editors := viewers, rapid.Bool().Draw(rt, "with editors")
		if editors {
			w = mixed
		}
		h := hostile(rt, w)
		l := h.log("a")
		h.play(l, rapid.IntRange(1, 16).Draw(rt, "steps"), cast[1:])
		st := l.Evaluate()
		for _, m := range st.Members {
			if m.Role == Owner && m.ID != idOf("a") {
				rt.Fatalf("%s became an owner", m.ID)
			}
			if st.CanWrite(m.ID) && m.ID != idOf("a") && !editors {
				rt.Fatalf("%s may write", m.ID)
			}
		}
		if m, _ := st.Member(idOf("b")); m.Role > Viewer {
			rt.Fatal("the viewer rose")
		}
		if _, ok := st.Member(idOf("a")); !ok || st.Current != l.genesis().id {
			rt.Fatal("the owner was removed, or its key replaced")
		}
	})
}

// TestRemovedHasNoSay: an owner removes devices; whatever those say on top of
// anything but that, nothing changes for those who remain.
func TestRemovedHasNoSay(t *testing.T) {
	t.Parallel()
	w := founded(t, map[string]New{"b": {Role: Owner}, "c": {Role: Editor, MayInvite: true}, "d": {Role: Viewer}})
	rapid.Check(t, func(rt *rapid.T) {
		h := hostile(rt, w)
		l := h.log("a")
		bad := []string{"c", "d"}
		if rapid.Bool().Draw(rt, "before") {
			h.play(l, 4, bad)
		}
		past := must(LoadLog(l.Statements()))
		r, err := l.Remove(h.rand, keysOf("a"), Departure{Device: idOf("c")}, Departure{Device: idOf("d")})
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := l.Add(r...); err != nil {
			rt.Fatal(err)
		}
		want := l.Evaluate()
		// The removed know no "e"; with it they may do as they like among themselves.
		said := h.play(past, rapid.IntRange(1, 12).Draw(rt, "steps"), append(bad, "e"))
		if _, err := l.Add(said...); err != nil {
			rt.Fatal(err)
		}
		got := l.Evaluate()
		if fmt.Sprint(memberIDs(got)) != fmt.Sprint(memberIDs(want)) || got.Current != want.Current {
			rt.Fatalf("members were %v, are %v; epoch %s, %s", memberIDs(want), memberIDs(got), want.Current, got.Current)
		}
	})
}

func memberIDs(s State) []string {
	var out []string
	for _, m := range s.Members {
		out = append(out, m.ID.String()+" "+m.Role.String())
	}
	return out
}

// TestDuellingRemovals: owners who know nothing of each other's removals remove
// each other at random. The most senior of those who act stays unless a removal
// outside of any ring hits it; at least one owner always stays; all agree.
func TestDuellingRemovals(t *testing.T) {
	t.Parallel()
	w := founded(t, everybodyOwns)
	rapid.Check(t, func(rt *rapid.T) {
		h := hostile(rt, w)
		l := h.log("a")
		owners := cast[:4]
		heads := l.Heads()
		ringed := map[string]string{}
		for _, by := range owners {
			victim := rapid.SampledFrom(owners).Draw(rt, by+" removes")
			if victim == by || !rapid.Bool().Draw(rt, by+" acts") {
				continue
			}
			s, ok := h.forge(l, by, heads, body{Remove: &removeBody{Targets: []departure{{Device: idOf(victim)}}}})
			if !ok {
				rt.Fatal("cannot forge")
			}
			if _, err := l.Add(s); err != nil {
				rt.Fatal(err)
			}
			ringed[by] = victim
		}
		st := l.Evaluate()
		if len(st.Members) == 0 {
			rt.Fatal("nobody is left")
		}
		for senior, victim := range ringed {
			if ringed[victim] != senior || slices.Index(owners, senior) > slices.Index(owners, victim) {
				continue
			}
			// A pair against each other, senior first: unless somebody else removed
			// the senior, it stands.
			other := false
			for by, v := range ringed {
				other = other || (v == senior && by != victim)
			}
			_, stays := st.Member(idOf(senior))
			_, loser := st.Member(idOf(victim))
			if !other && (!stays || loser) {
				rt.Fatalf("%s against %s: stays %v, loser stays %v", senior, victim, stays, loser)
			}
		}
	})
}

// TestPaperStays: no device but the paper device itself removes or demotes it.
func TestPaperStays(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.admit("a", "c", Owner)
	rapid.Check(t, func(rt *rapid.T) {
		h := hostile(rt, w)
		l := h.log("a")
		paper := &removeBody{Targets: []departure{{Device: idOf("paper")}}}
		for _, by := range []string{"a", "b", "c"} {
			if s, ok := h.forge(l, by, l.Heads(), body{Remove: paper}); !ok {
				rt.Fatal("cannot forge")
			} else if _, err := l.Add(s); err == nil {
				rt.Fatal("removal of the paper device entered the log")
			}
		}
		h.play(l, rapid.IntRange(1, 10).Draw(rt, "steps"), cast)
		if m, ok := l.Evaluate().Member(idOf("paper")); !ok || !m.Paper || m.Role != Owner || l.Evaluate().Members[0].ID != m.ID {
			rt.Fatal("the paper device lost its place")
		}
	})
}

// TestVerdictsAreStable checks the evaluation against its own definition, with
// no regard to how it was found: each verdict follows from those it depends on,
// and who lost in a ring was opposed to the end by nobody junior.
func TestVerdictsAreStable(t *testing.T) {
	t.Parallel()
	w := founded(t, everybodyOwns)
	rapid.Check(t, func(rt *rapid.T) {
		h := hostile(rt, w)
		l := h.log("a")
		h.play(l, rapid.IntRange(4, 20).Draw(rt, "steps"), cast)
		e := evaluate(l)
		for _, n := range l.nodes {
			got := e.verdicts[n.index]
			opposed := slices.ContainsFunc(e.opponents(n), e.counts)
			switch {
			case got == open:
				rt.Fatalf("%s has no verdict", n)
			case got == counts && opposed:
				rt.Fatalf("%s counts although opposed", n)
			case got == counts && n.b.Genesis == nil && n.b.Join == nil && !l.allows(e.standingAt(n), n):
				rt.Fatalf("%s counts without a right", n)
			case got == overruled && !opposed:
				rt.Fatalf("%s is overruled by nothing", n)
			case got == outranked && !n.strong():
				rt.Fatalf("%s lost in a ring but is not strong", n)
			}
		}
	})
}
