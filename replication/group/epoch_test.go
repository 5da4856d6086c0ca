package group

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestRemovedCannotOpenNewEpoch(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.admit("a", "c", Owner)
	w.sync("a", "b", "c", "paper")
	old := w.log("a").Evaluate().Current
	w.remove("a", "b")
	w.sync("a", "b", "c", "paper")
	st := w.log("b").Evaluate()
	if st.Current == old || st.NeedsEpoch() {
		t.Fatal("a removal without a new epoch")
	}
	for name, want := range map[string]bool{"a": true, "b": false, "c": true, "paper": true, "stranger": false} {
		if got := opens(st, name, st.Current); got != want {
			t.Errorf("%s opens the new epoch: %v", name, got)
		}
	}
	_, err := st.OpenKeys(keysOf("b"))
	wantErr(t, err, ErrNoKey)
	if !opens(st, "b", old) || opens(st, "stranger", old) {
		t.Error("who opens the old epoch changed")
	}
	// The key for chunks stays for ever, the others change.
	before, after := must(must(LoadLog(w.all[:1])).Evaluate().OpenKeys(keysOf("a"))), must(st.OpenKeys(keysOf("c")))
	if must(before.ChunkKey()) != must(after.ChunkKey()) || must(before.TokenKey()) != must(after.TokenKey()) {
		t.Error("key for chunks or tokens changed")
	}
	if must(before.BlockKey(before.Current())) == must(after.BlockKey(after.Current())) {
		t.Error("key for blocks did not change")
	}
	if must(before.BlockKey(before.Current())) != must(after.BlockKey(before.Current())) {
		t.Error("key for old blocks changed")
	}
}

// TestCatchUp: a device that was away while the group went through many epochs
// opens them all, from whichever are sealed to it.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "away", Owner)
	for i := range 5 {
		name := fmt.Sprint("guest", i)
		w.admit("a", name, Owner)
		w.remove("a", name)
	}
	w.admit("a", "late", Owner)
	st := w.log("a").Evaluate()
	if len(st.Epochs) != 6 {
		t.Fatalf("%d epochs", len(st.Epochs))
	}
	for _, name := range []string{"away", "late", "paper"} {
		ring, err := st.OpenKeys(keysOf(name))
		w.must(err)
		for _, e := range st.Epochs {
			if !ring.Has(e.ID) {
				t.Errorf("%s lacks epoch %s", name, e.ID)
			}
		}
	}
	// A guest has the epochs of its time and none after.
	ring, _ := st.OpenKeys(keysOf("guest2"))
	for i, e := range st.Epochs {
		if ring.Has(e.ID) != (i <= 2) {
			t.Errorf("guest2 opens epoch %d: %v", i, ring.Has(e.ID))
		}
	}
}

// TestRemovalsMeet: two owners remove one device each; neither's epoch is closed
// to both. The state says so until an owner has made one that is.
func TestRemovalsMeet(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	for _, n := range []string{"b", "c", "d"} {
		w.admit("a", n, Owner)
	}
	w.sync("a", "b", "c", "d")
	w.remove("a", "c")
	w.remove("b", "d")
	w.sync("a", "b", "c", "d")
	st := w.log("b").Evaluate()
	wantMembers(t, st, "paper a b", "c", "d")
	if !st.NeedsEpoch() {
		t.Fatal("an epoch that a removed device can open passes for good")
	}
	w.rotate("b")
	w.sync("a", "b", "c", "d")
	st = w.log("a").Evaluate()
	if st.NeedsEpoch() || opens(st, "c", st.Current) || opens(st, "d", st.Current) {
		t.Error("the new epoch is not closed")
	}
	ring := must(st.OpenKeys(keysOf("a")))
	for _, e := range st.Epochs {
		if !ring.Has(e.ID) {
			t.Errorf("a lacks epoch %s", e.ID)
		}
	}
}

// TestEpochOfRemovedIsVoid: a device that is being removed makes an epoch of its
// own. It is never current, but what was written under it can be read.
func TestEpochOfRemovedIsVoid(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	for range 5 { // deeper than a's
		w.rotate("b")
	}
	w.remove("a", "b")
	w.sync("a", "b")
	st := w.log("a").Evaluate()
	i := slices.IndexFunc(st.Epochs, func(e EpochInfo) bool { return e.ID == st.Current })
	if st.Epochs[i].By != idOf("a") || st.Epochs[i].Void || st.NeedsEpoch() {
		t.Errorf("current epoch is by %s", st.Epochs[i].By)
	}
	ring := must(st.OpenKeys(keysOf("a")))
	for _, e := range st.Epochs {
		if !ring.Has(e.ID) {
			t.Errorf("a lacks epoch %s", e.ID)
		}
	}
}

// TestLinksAreReadable: who opens an epoch opens those before it, even if they
// were never sealed to it. Writing under an older key would close nothing.
func TestLinksAreReadable(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "v", Viewer)
	w.rotate("a")
	w.sync("a", "v")
	first := must(LoadLog(w.all[:1])).Evaluate().Current
	grants := w.log("a").Evaluate().keys[idOf("v")]
	w.remove("v", "v")
	w.sync("a", "v")
	st := w.log("a").Evaluate()
	if len(grants) != 2 || st.Current == first || !st.NeedsEpoch() {
		t.Errorf("current is the first: %v, stale: %v", st.Current == first, st.NeedsEpoch())
	}
	// The same where only the later key was sealed to the one who left.
	w = newShare(t)
	w.rotate("a")
	w.admit("a", "v", Viewer)
	w.sync("a", "v")
	w.remove("v", "v")
	w.sync("a", "v")
	if st := w.log("a").Evaluate(); st.Current == st.Epochs[0].ID || !st.NeedsEpoch() {
		t.Error("an epoch passes for closed that a link opens")
	}
}

// TestTend: whatever met, devices that tend and exchange come to rest, and then
// all members have the current key and nobody else.
func TestTend(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	for name, role := range map[string]Role{"b": Owner, "c": Owner, "d": Editor, "v": Viewer} {
		w.admit("a", name, role)
	}
	names := []string{"a", "b", "c", "d", "v"}
	w.sync(names...)
	code := w.invite("a", Offering{Role: Viewer, Uses: 3, Expires: noon.Add(time.Minute)})
	w.remove("b", "d")
	w.rotate("c")
	w.admit("c", "e", Editor)
	w.remove("v", "v")
	w.logs["relay"] = must(LoadLog(w.log("a").Statements()))
	if _, _, err := w.join(code, "relay", "guest", noon); err != nil {
		t.Fatal(err)
	}
	names = append(names, "e", "guest", "relay")
	w.sync(names...)
	rounds := 0
	for busy := true; busy; rounds++ {
		busy = false
		for _, n := range names {
			said, err := w.log(n).Tend(w.rand, keysOf(n))
			w.must(err)
			w.put(n, said...)
			busy = busy || len(said) > 0
		}
		w.sync(names...)
		if rounds > 5 {
			t.Fatal("they do not come to rest")
		}
	}
	st := w.log("guest").Evaluate()
	if st.NeedsEpoch() || rounds < 2 {
		t.Errorf("stale %v after %d rounds", st.NeedsEpoch(), rounds)
	}
	for _, name := range append(names, "stranger") {
		_, member := st.Member(idOf(name))
		if opens(st, name, st.Current) != member {
			t.Errorf("%s, member %v, opens the current epoch: %v", name, member, !member)
		}
	}
	for _, removed := range []string{"d", "v"} {
		if _, member := st.Member(idOf(removed)); member {
			t.Errorf("%s is a member", removed)
		}
	}
}

// TestFalseKey: a key that is sealed in due form, but is not the epoch's.
func TestFalseKey(t *testing.T) {
	t.Parallel()
	commit := commitment([32]byte{1})
	box := must(sealKey([32]byte{2}, commit, device("b")))
	if _, ok := keysOf("b").openKey(commit, box); ok {
		t.Error("took a key that the epoch does not commit to")
	}
}

// TestJoinMeetsEpoch: a device is admitted while another owner makes an epoch.
// Whoever notices grants it the key.
func TestJoinMeetsEpoch(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	w.admit("a", "b", Owner)
	w.sync("a", "b")
	w.admit("a", "c", Owner)
	w.rotate("b")
	w.sync("a", "b", "c")
	st := w.log("b").Evaluate()
	if _, err := st.OpenKeys(keysOf("c")); err == nil {
		t.Fatal("c has a key that nobody gave it")
	}
	if got := st.Ungranted(idOf("b")); len(got) != 1 || got[0] != idOf("c") {
		t.Fatalf("ungranted: %v", got)
	}
	w.say("b", func(l *Log, k Keys) ([]Statement, error) { return l.Grant(k, idOf("c")) })
	w.sync("a", "b", "c")
	st = w.log("c").Evaluate()
	if _, err := st.OpenKeys(keysOf("c")); err != nil || len(st.Ungranted(idOf("a"))) > 0 {
		t.Errorf("c after the grant: %v", err)
	}
}

// TestFalseGrant: a viewer grants rubbish. The one it was granted to finds no
// key in it, owners do not rely on it, and their own grant helps.
func TestFalseGrant(t *testing.T) {
	t.Parallel()
	w := newShare(t)
	w.admit("a", "v", Viewer)
	w.admit("a", "o", Owner)
	w.sync("a", "v", "o")
	w.admit("a", "c", Editor)
	w.rotate("o")
	w.sync("a", "v", "o", "c")
	h := &hostileWorld{world: w}
	bad, _ := h.forge(w.log("v"), "v", w.log("v").Heads(), body{Grant: &grantBody{Epoch: w.log("v").Evaluate().Current, Keys: []keyBox{{To: idOf("c"), Box: filler(keyBoxSize)}}}})
	w.put("v", bad)
	w.sync("a", "v", "o", "c")
	st := w.log("a").Evaluate()
	if len(st.Void) != 0 || opens(st, "c", st.Current) || len(st.Ungranted(idOf("v"))) != 0 {
		t.Fatal("the grant is not there, or is good")
	}
	if got := st.Ungranted(idOf("a")); len(got) != 1 {
		t.Fatalf("ungranted as the owner sees it: %v", got)
	}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Grant(k, idOf("c")) })
	if st := w.log("a").Evaluate(); !opens(st, "c", st.Current) {
		t.Error("the owner's grant does not help")
	}
	// Nor can a viewer keep the owners busy by granting to whom they removed.
	w.remove("a", "c")
	w.sync("a", "v")
	leak, _ := h.forge(w.log("v"), "v", w.log("v").Heads(), body{Grant: &grantBody{Epoch: w.log("v").Evaluate().Current, Keys: []keyBox{{To: idOf("c"), Box: filler(keyBoxSize)}}}})
	w.put("a", leak)
	if w.log("a").Evaluate().NeedsEpoch() {
		t.Error("a viewer brings about epoch after epoch")
	}
}

// TestBadSealKey: a member whose sealing key is of no use stops nobody else.
func TestBadSealKey(t *testing.T) {
	t.Parallel()
	good := device("b")
	bad := Device{ID: good.ID, Seal: slices.Clone(good.Seal), Proof: good.Proof}
	clear(bad.Seal[1184:]) // the all-zero point of X25519
	keys := sealKeys([32]byte{1}, []Device{device("c"), bad, device("a")})
	if len(keys) != 2 {
		t.Errorf("%d keys sealed", len(keys))
	}
	wantErr(t, bad.check(), ErrSignature)
	if _, ok := keysOf("a").openKey(commitment([32]byte{1}), keys[slices.IndexFunc(keys, func(k keyBox) bool { return k.To == idOf("a") })].Box); !ok {
		t.Error("a cannot open its key")
	}
	// A key sealed for one epoch or device does not pass for another's.
	if _, ok := keysOf("a").openKey(commitment([32]byte{2}), keys[0].Box); ok {
		t.Error("opened a key of another epoch")
	}
}

func TestKeyringShowsNothing(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	ring := must(w.log("a").Evaluate().OpenKeys(keysOf("a")))
	key := ring.keys[ring.current]
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, ring); got != "keyring of 1 epochs" {
			t.Errorf("%s prints %q, key %x", verb, got, key[:2])
		}
		if got := fmt.Sprintf(verb, keysOf("a")); got != "keys of "+idOf("a").String() {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if ring.LogValue().String() != ring.String() || keysOf("a").LogValue().String() != keysOf("a").String() {
		t.Error("log values")
	}
	if _, err := ring.Key(StatementID{9}, "x"); err == nil {
		t.Error("key of an unknown epoch")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{
		"laptop": true, "Jo's phone (2)": true, "Ноутбук": true, "書類": true,
		"": false, " x": false, "x ": false, "a\nb": false, "a\x00": false, "a\u202eb": false, "\xff": false,
		string(make([]byte, MaxName+1)): false,
	} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
	// Names of different lengths are sealed alike, and a hostile one is not shown.
	w := newAccount(t)
	st := w.log("a").Evaluate()
	ring := must(st.OpenKeys(keysOf("a")))
	short, long := must(ring.sealName(w.rand, "x", "a")), must(ring.sealName(w.rand, "x", "a longer name"))
	if len(short.Box) != len(long.Box) {
		t.Error("sealed names tell their length")
	}
	evil := must(ring.sealName(w.rand, nameContext+idOf("a").Hex(), "<\u202e>"))
	h := &hostileWorld{world: w}
	s, _ := h.forge(w.log("a"), "a", w.log("a").Heads(), body{Rename: &renameBody{Device: idOf("a"), Name: evil}})
	w.put("a", s)
	if m, _ := w.log("a").Evaluate().Named(ring).Member(idOf("a")); m.Name != "" {
		t.Errorf("shows %q", m.Name)
	}
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, k.ID(), "good") })
	if m, _ := w.log("a").Evaluate().Named(ring).Member(idOf("a")); m.Name != "good" {
		t.Errorf("shows %q", m.Name)
	}
	// Without keys, as a relay, there are no names.
	if m, _ := w.log("a").Evaluate().Named(Keyring{}).Member(idOf("a")); m.Name != "" {
		t.Errorf("a relay reads %q", m.Name)
	}
}
