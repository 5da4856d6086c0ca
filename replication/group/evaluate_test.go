package group

import (
	"bytes"
	"testing"
)

func TestFoundedAccount(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	st := w.log("a").Evaluate()
	wantMembers(t, st, "paper a")
	ring, err := st.OpenKeys(keysOf("a"))
	w.must(err)
	if m, _ := st.Named(ring).Member(idOf("a")); m.Name != "a" || m.Role != Owner || m.Paper {
		t.Errorf("founder is %+v", m)
	}
	if m, _ := st.Named(ring).Member(idOf("paper")); m.Name != paperName || !m.Paper || m.Role != Owner {
		t.Errorf("paper device is %+v", m)
	}
	paper, err := st.OpenKeys(keysOf("paper"))
	w.must(err)
	a, p := must(ring.ChunkKey()), must(paper.ChunkKey())
	if a != p || st.NeedsEpoch() || len(st.Ungranted(idOf("a"))) > 0 {
		t.Error("keys differ or are stale")
	}
}

func TestFoundRefuses(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]Founding{
		"no paper":       {Purpose: Account, Name: "a"},
		"label":          {Purpose: Account, Name: "a", Label: "x", Paper: keysOf("paper")},
		"unnamed folder": {Purpose: Share, Name: "a"},
		"unnamed device": {Purpose: Share, Label: "x"},
		"no purpose":     {Name: "a", Label: "x"},
		"itself twice":   {Purpose: Share, Name: "a", Label: "x", Devices: []Device{device("a")}},
	} {
		if _, err := Found(seeded(name), keysOf("a"), f); err == nil {
			t.Errorf("%s: founded", name)
		}
	}
}

func TestRemoveIsStrong(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	w.admit("b", "seen", Owner)
	w.sync("a", "b")
	// Neither sees the other: a removes b, b admits c and c speaks.
	w.remove("a", "b")
	w.admit("b", "c", Owner)
	w.sync("b", "c")
	w.say("c", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "see") })
	w.sync("a", "b", "c")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "paper a seen", "b", "c")
	if _, ok := st.Member(idOf("c")); ok || !st.IsRemoved(idOf("b")) {
		t.Error("what a removed device said while it was being removed counts")
	}
	if len(st.Void) != 3 { // add and grant by b, rename by c
		t.Errorf("void: %v", st.Void)
	}
	if _, err := w.log("b").Rename(w.rand, keysOf("b"), idOf("b"), "bee"); err == nil {
		t.Error("a removed device makes statements")
	}
}

func TestDuelSeniorStands(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	w.remove("b", "a")
	w.remove("a", "b")
	w.sync("a", "b")
	for _, at := range []string{"a", "b"} {
		wantMembers(t, w.log(at).Evaluate(), "paper a", "b")
	}
	if w.log("a").Evaluate().NeedsEpoch() {
		t.Error("the senior's epoch is not current")
	}
}

func TestDuelPaperStands(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b", "paper")
	w.remove("a", "b")
	w.remove("paper", "a")
	w.sync("a", "b", "paper")
	// a's removal of b was concurrent with its own.
	wantMembers(t, w.log("b").Evaluate(), "paper b", "a")
	if _, err := w.log("b").Remove(w.rand, keysOf("b"), Departure{Device: idOf("paper")}); err == nil {
		t.Error("an owner removed the paper device")
	}
}

func TestRingOfRemovals(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.admit("a", "c", Owner)
	w.sync("a", "b", "c")
	w.remove("a", "b")
	w.remove("b", "c")
	w.remove("c", "a")
	w.sync("a", "b", "c")
	wantMembers(t, w.log("c").Evaluate(), "paper a c", "b")
}

func TestRemovedNeverReturns(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.admit("a", "c", Owner)
	w.sync("a", "b", "c")
	w.remove("a", "c")
	if _, err := w.log("a").Admit(w.rand, keysOf("a"), New{Device: device("c"), Role: Owner}); err == nil {
		t.Error("admitted a removed device")
	}
	w.sync("a", "b", "c")
	wantMembers(t, w.log("b").Evaluate(), "paper a b", "c")
}

func TestLeave(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "e", Editor)
	w.sync("a", "e")
	if said := w.remove("e", "e"); len(said) != 1 {
		t.Errorf("leaving made %v", said)
	}
	w.sync("a", "e")
	if !w.log("a").Evaluate().NeedsEpoch() {
		t.Error("no new epoch asked for after a member left")
	}
	w.rotate("a")
	if st := w.log("a").Evaluate(); st.NeedsEpoch() || opens(st, "e", st.Current) {
		t.Error("who left can open the new epoch")
	}
	_, err := w.log("a").Remove(w.rand, keysOf("a"), Departure{Device: idOf("a")})
	wantErr(t, err, ErrLastOwner)
}

// TestWhatRolesAllow is the table of security.md for a share.
func TestWhatRolesAllow(t *testing.T) {
	t.Parallel()
	type try func(w *world, l *Log, k Keys) error
	admit := func(role Role, may bool, account ID) try {
		return func(w *world, l *Log, k Keys) error {
			_, err := l.Admit(w.rand, k, New{Device: device("new"), Role: role, MayInvite: may, Account: account})
			return err
		}
	}
	invite := func(role Role, may bool) try {
		return func(w *world, l *Log, k Keys) error {
			_, _, err := l.Invite(w.rand, k, Offering{Role: role, MayInvite: may, Uses: 1, Expires: noon})
			return err
		}
	}
	own, other := ID{7}, ID{8}
	for _, c := range []struct {
		what string
		do   try
		may  string // of: owner, inviting editor, editor, viewer
	}{
		{"admit an owner", admit(Owner, false, own), "o---"},
		{"admit an editor of another account", admit(Editor, false, other), "o---"},
		{"admit an editor of the own account", admit(Editor, false, own), "oie-"},
		{"admit an inviting editor of the own account", admit(Editor, true, own), "oi--"},
		{"admit a viewer of the own account", admit(Viewer, false, own), "o--v"},
		{"admit a viewer of no account", admit(Viewer, false, ID{}), "o---"},
		{"invite an owner", invite(Owner, false), "o---"},
		{"invite an inviting editor", invite(Editor, true), "o---"},
		{"invite an editor", invite(Editor, false), "oi--"},
		{"invite a viewer", invite(Viewer, false), "oi--"},
		{"remove another", func(w *world, l *Log, k Keys) error {
			_, err := l.Remove(w.rand, k, Departure{Device: idOf("x")})
			return err
		}, "o---"},
		{"leave", func(w *world, l *Log, k Keys) error {
			_, err := l.Remove(w.rand, k, Departure{Device: k.ID()})
			return err
		}, "oiev"},
		{"change a role", func(_ *world, l *Log, k Keys) error {
			_, err := l.SetRole(k, idOf("x"), Editor, false, nil)
			return err
		}, "o---"},
		{"make oneself an owner", func(_ *world, l *Log, k Keys) error {
			_, err := l.SetRole(k, k.ID(), Owner, false, nil)
			return err
		}, "o---"},
		{"rename oneself", func(w *world, l *Log, k Keys) error {
			_, err := l.Rename(w.rand, k, k.ID(), "me")
			return err
		}, "oiev"},
		{"rename another", func(w *world, l *Log, k Keys) error {
			_, err := l.Rename(w.rand, k, idOf("x"), "you")
			return err
		}, "o---"},
		{"make an epoch", func(w *world, l *Log, k Keys) error {
			_, err := l.Rotate(w.rand, k)
			return err
		}, "o---"},
		{"grant a key", func(_ *world, l *Log, k Keys) error {
			_, err := l.Grant(k, idOf("x"))
			return err
		}, "oiev"},
		{"revoke another's invite", func(w *world, l *Log, k Keys) error {
			_, err := l.Revoke(w.rand, k, l.Evaluate().Invites[0].ID)
			return err
		}, "o---"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			w := newShare(t)
			for name, m := range map[string]New{
				"o": {Role: Owner, Account: own}, "i": {Role: Editor, MayInvite: true, Account: own}, "e": {Role: Editor, Account: own},
				"v": {Role: Viewer, Account: own}, "x": {Role: Viewer},
			} {
				w.say("a", func(l *Log, k Keys) ([]Statement, error) {
					m.Device = device(name)
					return l.Admit(w.rand, k, m)
				})
			}
			w.say("a", func(l *Log, k Keys) ([]Statement, error) {
				s, _, err := l.Invite(w.rand, k, Offering{Role: Viewer, Uses: 1, Expires: noon})
				return s, err
			})
			for i, who := range []string{"o", "i", "e", "v"} {
				err := c.do(w, w.log("a"), keysOf(who))
				if may := c.may[i] != '-'; may != (err == nil) {
					t.Errorf("%s may %v: %v", who, may, err)
				}
				if c.may[i] == '-' {
					wantErr(t, err, ErrNotAllowed)
				}
			}
			wantErr(t, c.do(w, w.log("a"), keysOf("stranger")), ErrNotMember)
		})
	}
}

func TestDemotion(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "o", Owner)
	w.sync("a", "o")
	replica, later := [8]byte{1}, [8]byte{2}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) {
		return l.SetRole(k, idOf("o"), Viewer, false, []Cut{{replica, 10}})
	})
	w.admit("o", "friend", Editor) // while it was being demoted
	w.say("o", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "oh") })
	w.sync("a", "o")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "a o", "friend")
	ring := must(st.OpenKeys(keysOf("a")))
	if m, _ := st.Named(ring).Member(idOf("o")); m.Role != Viewer || m.Name != "oh" {
		t.Errorf("demoted device is %+v", m)
	}
	for _, c := range []struct {
		replica [8]byte
		counter uint64
		want    bool
	}{{replica, 10, true}, {replica, 11, false}, {later, 1, false}} {
		if got := st.AcceptsFrom(idOf("o"), c.replica, c.counter); got != c.want {
			t.Errorf("accepts %v: %v", c, got)
		}
	}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.SetRole(k, idOf("o"), Editor, false, nil) })
	if st := w.log("a").Evaluate(); !st.AcceptsFrom(idOf("o"), replica, 11) || !st.CanWrite(idOf("o")) {
		t.Error("promoted again, it cannot write")
	}
	_, err := w.log("a").SetRole(keysOf("a"), idOf("a"), Viewer, false, nil)
	wantErr(t, err, ErrLastOwner)
}

func TestCuts(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.admit("a", "c", Owner)
	w.sync("a", "b", "c")
	r1, r2, r3 := [8]byte{1}, [8]byte{2}, [8]byte{3}
	cut := func(by string, cuts ...Cut) {
		w.say(by, func(l *Log, k Keys) ([]Statement, error) {
			return l.Remove(w.rand, k, Departure{Device: idOf("c"), Cuts: cuts})
		})
	}
	cut("a", Cut{r2, 5}, Cut{r1, 10})
	cut("b", Cut{r1, 12})
	w.sync("a", "b")
	st := w.log("b").Evaluate()
	for _, c := range []struct {
		author  string
		replica [8]byte
		counter uint64
		want    bool
	}{
		{"c", r1, 12, true}, {"c", r1, 13, false}, {"c", r2, 5, true}, {"c", r2, 6, false}, {"c", r3, 1, false},
		{"a", r3, 1, true}, {"a", r1, 13, false}, {"stranger", r3, 1, false},
	} {
		if got := st.AcceptsFrom(idOf(c.author), c.replica, c.counter); got != c.want {
			t.Errorf("%s %x:%d accepted: %v", c.author, c.replica, c.counter, got)
		}
	}
	if !st.Accepts(r3, 99) || !st.Accepts(r1, 12) || st.Accepts(r1, 13) {
		t.Error("cuts by replica alone")
	}
	if len(st.Removed) != 1 || len(st.Removed[0].Cuts) != 2 {
		t.Errorf("removed: %+v", st.Removed)
	}
}

func TestForkAlarms(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	other := must(LoadLog(w.log("b").Statements())) // b's disk was copied
	w.say("b", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "one") })
	w.put("a", must(other.Rename(w.rand, keysOf("b"), idOf("b"), "two"))...)
	w.sync("a", "b")
	st := w.log("a").Evaluate()
	if len(st.Alarms) != 1 || st.Alarms[0].Kind != Fork || st.Alarms[0].Devices[0] != idOf("b") || len(st.Alarms[0].Statements) != 2 || st.Alarms[0].Settled {
		t.Fatalf("alarms: %+v", st.Alarms)
	}
	// b can go on, and removing it settles the matter.
	w.say("b", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "three") })
	w.sync("a", "b")
	w.remove("a", "b")
	if st := w.log("a").Evaluate(); len(st.Alarms) != 1 || !st.Alarms[0].Settled {
		t.Errorf("alarms: %+v", st.Alarms)
	}
}

func TestReplacePhrase(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.sync("a", "paper")
	w.say("paper", func(l *Log, k Keys) ([]Statement, error) { return l.ReplacePhrase(w.rand, k, keysOf("paper2")) })
	w.sync("a", "paper")
	st := w.log("a").Evaluate()
	wantMembers(t, st, "paper2 a", "paper")
	m, _ := st.Member(idOf("paper2"))
	if !m.Paper || st.Members[0].ID != m.ID || st.NeedsEpoch() {
		t.Errorf("new paper device: %+v, stale %v", m, st.NeedsEpoch())
	}
	if opens(st, "paper", st.Current) || !opens(st, "paper2", st.Epochs[0].ID) || !opens(st, "a", st.Current) {
		t.Error("keys after a new phrase")
	}
	if _, err := w.log("a").ReplacePhrase(w.rand, keysOf("a"), keysOf("paper3")); err == nil {
		t.Error("an owner made a paper device")
	}
}

func TestFolderIDs(t *testing.T) {
	t.Parallel()
	a, b := newAccount(t).log("a").Evaluate(), newShare(t).log("a").Evaluate()
	ids := [][16]byte{a.FolderID("sync"), a.FolderID("archive"), b.FolderID("sync")}
	if ids[0] == ids[1] || ids[0] == ids[2] || ids[0] != a.FolderID("sync") || bytes.Equal(ids[0][:], make([]byte, 16)) {
		t.Errorf("folder IDs: %x", ids)
	}
}
