package group

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// seeded gives the same stream of bytes for the same name.
func seeded(name string) io.Reader { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

var keyCache sync.Map // name to Keys: making them is the slow part of many tests

// keysOf gives the keys of a test device by name.
func keysOf(name string) Keys {
	if k, ok := keyCache.Load(name); ok {
		return k.(Keys)
	}
	k := must(GenerateKeys(seeded("keys of " + name)))
	keyCache.Store(name, k)
	return k
}

func device(name string) Device {
	d := keysOf(name).Device()
	d.Name = name
	return d
}

func idOf(name string) DeviceID { return keysOf(name).ID() }

// A world is a group as its devices see it: a log each.
type world struct {
	t    testing.TB
	rand io.Reader
	id   ID
	logs map[string]*Log
	all  []Statement
}

// newAccount founds an account: owner "a", paper device "paper".
func newAccount(t testing.TB) *world {
	t.Helper()
	return newWorld(t, Founding{Purpose: Account, Name: "a", Paper: keysOf("paper")})
}

// newShare founds a share of owner "a".
func newShare(t testing.TB) *world {
	t.Helper()
	return newWorld(t, Founding{Purpose: Share, Name: "a", Label: "Holiday", Account: ID{1}})
}

func newWorld(t testing.TB, f Founding) *world {
	t.Helper()
	w := &world{t: t, rand: seeded(t.Name()), logs: map[string]*Log{}}
	s, err := Found(w.rand, keysOf("a"), f)
	w.must(err)
	w.id, w.all = s[0].Group(), s
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// log gives a device's own log; a new one starts with the Genesis.
func (w *world) log(name string) *Log {
	if w.logs[name] == nil {
		w.logs[name] = must(LoadLog(w.all[:1]))
	}
	return w.logs[name]
}

// say has a device make statements and add them to its own log.
func (w *world) say(name string, make func(l *Log, k Keys) ([]Statement, error)) []Statement {
	w.t.Helper()
	said, err := make(w.log(name), keysOf(name))
	w.must(err)
	w.put(name, said...)
	return said
}

// put adds statements to a device's log.
func (w *world) put(name string, said ...Statement) {
	w.t.Helper()
	if _, err := w.log(name).Add(said...); err != nil {
		w.t.Fatal(err)
	}
	w.all = append(w.all, said...)
}

func (w *world) admit(by, name string, role Role) []Statement {
	w.t.Helper()
	return w.say(by, func(l *Log, k Keys) ([]Statement, error) {
		return l.Admit(w.rand, k, New{Device: device(name), Role: role})
	})
}

func (w *world) remove(by string, names ...string) []Statement {
	w.t.Helper()
	return w.say(by, func(l *Log, k Keys) ([]Statement, error) {
		var targets []Departure
		for _, n := range names {
			targets = append(targets, Departure{Device: idOf(n)})
		}
		return l.Remove(w.rand, k, targets...)
	})
}

func (w *world) rotate(by string) []Statement {
	w.t.Helper()
	return w.say(by, func(l *Log, k Keys) ([]Statement, error) { return l.Rotate(w.rand, k) })
}

// sync gives each of the named logs all that the others have.
func (w *world) sync(names ...string) {
	w.t.Helper()
	for range 2 {
		for _, from := range names {
			for _, to := range names {
				exchange(w.t, w.log(from), w.log(to))
			}
		}
	}
}

// exchange runs /sheaf/groups/1 in one direction, through the codec.
func exchange(t testing.TB, from, to *Log) {
	t.Helper()
	heads := throughCodec(t, to.Tell())
	batches, err := from.Lacking(heads)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batches {
		if _, err := to.Take(throughCodec(t, b)); err != nil {
			t.Fatal(err)
		}
	}
}

func throughCodec[M Message](t testing.TB, m M) M {
	t.Helper()
	out, err := DecodeMessage(EncodeMessage(m))
	if err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	return out.(M)
}

// opens tells whether a device can open an epoch's key in a state.
func opens(st State, name string, epoch StatementID) bool {
	ring, _ := st.OpenKeys(keysOf(name))
	return ring.Has(epoch)
}

// members names the members by seniority, of those named.
func members(st State, names ...string) string {
	var out []string
	for _, m := range st.Members {
		i := slices.IndexFunc(names, func(n string) bool { return idOf(n) == m.ID })
		if i < 0 {
			out = append(out, "?")
			continue
		}
		out = append(out, names[i])
	}
	return strings.Join(out, " ")
}

func wantMembers(t testing.TB, st State, want string, others ...string) {
	t.Helper()
	if got := members(st, append(strings.Fields(want), others...)...); got != want {
		t.Fatalf("members are %q, want %q", got, want)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// dump shows all of a state that can be asked for, so that two can be compared.
func dump(s State) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Group, s.Purpose, s.Current, s.NeedsEpoch())
	for _, m := range s.Members {
		fmt.Fprintln(&b, "member", m.ID.Hex(), m.Role, m.MayInvite, m.Account, m.Paper, m.Joined, m.Invite, s.CanWrite(m.ID), s.names[m.ID])
	}
	for _, d := range s.Removed {
		fmt.Fprintln(&b, "removed", d.ID.Hex(), d.By, d.Cuts)
	}
	for _, i := range s.Invites {
		fmt.Fprintln(&b, "invite", i.ID, i.Public, i.Role, i.Uses, i.Claims, i.Status)
	}
	fmt.Fprintln(&b, s.Epochs, s.Alarms, s.Void, s.replicas, s.cuts, s.Ungranted(DeviceID{}))
	return b.String()
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
