//go:build unix

package main

import (
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sheaf/node/api"
	"sheaf/replication/group"
)

// A removed device is cut off at once: nothing more reaches it, nothing comes
// from it, and it says so.
func TestRemovedDeviceIsCutOff(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	c := newDevice(t, "tablet")
	c.join(a)
	c.up()
	c.connected(a)
	a.put("shared", "before")
	alike(t, a, b, c)
	a.run("device", "remove", b.name, "--yes")
	a.put("secret", "after the removal")
	b.put("foreign", "by the removed one")
	b.put("shared", "by the removed one")
	until(t, "the others go on", func() bool { return c.has("secret") })
	soon(t, "the removed device says so", func() bool {
		for _, p := range b.status().Problems {
			if strings.Contains(p.What, "removed from the account") && p.Remedy != "" {
				return true
			}
		}
		return false
	})
	until(t, "the removed device is not connected", func() bool {
		for _, d := range []*device{a, c} {
			for _, p := range d.status().Peers {
				if p.Name == b.name {
					return false
				}
			}
		}
		return true
	})
	// After a restart of the removed device, and of one that removed it, too.
	b.down()
	b.up()
	a.down()
	a.up()
	c.connected(a)
	a.put("later", "after the restart")
	b.put("foreign2", "by the removed one")
	b.run("wait", "--timeout", "20s")
	alike(t, a, c)
	for _, p := range []string{"secret", "later"} {
		if b.has(p) {
			t.Errorf("%s reached the removed device", p)
		}
	}
	for _, d := range []*device{a, c} {
		if d.has("foreign") || d.has("foreign2") || d.get("shared") != "before" {
			t.Errorf("something of the removed device reached %s", d.name)
		}
	}
	for _, p := range b.status().Peers {
		if p.Connected {
			t.Errorf("the removed device is connected to %s", p.Name)
		}
	}
	b.exits(5, "device", "invite")
	// Its files are still its own.
	if b.get("shared") != "by the removed one" {
		t.Error("the removed device lost its own bytes")
	}
}

// What can be wrong with an invite code, each with its exit status and words.
func TestInviteCodes(t *testing.T) {
	t.Parallel()
	a := first(t, "laptop")
	a.put("file", "content")
	invite := func(args ...string) string {
		return strings.TrimSpace(a.run(append([]string{"device", "invite"}, args...)...))
	}
	joining := func(d *device, code string) []string {
		return []string{"join", code, "--name", d.name, "--dir", d.dir, "--yes", "--timeout", "20s"}
	}
	says := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in: %s", w, out)
			}
		}
	}
	b, c := newDevice(t, "phone"), newDevice(t, "tablet")
	// Mistyped.
	code := invite()
	swapped := []byte(code)
	swapped[40], swapped[41] = other(swapped[40]), other(swapped[41])
	says(b.exits(2, joining(b, string(swapped))...), "mistyped")
	says(b.exits(2, joining(b, code[:len(code)-3])...), "mistyped")
	says(b.exits(2, joining(b, "rubbish")...), "code")
	// Of another kind.
	share, err := group.NewCode(rand.Reader, group.ShareCode, group.ID{1}, group.DeviceID{2}, nil)
	must(t, err)
	says(b.exits(2, joining(b, share.Text())...), "share code", "device code")
	// Expired, with another one open so that the device expects somebody, and
	// without.
	short := ask[api.Invitation](a, "device", "invite", "--expires", "1s")
	until(t, "it has expired", func() bool { return time.Now().After(short.Expires) })
	says(b.exits(5, joining(b, short.Code)...), "expired")
	// Used: by the first, then again, also when nobody is expected any more.
	b.run(joining(b, code)...)
	says(c.exits(5, joining(c, code)...), "used")
	// Good for who failed with bad ones.
	b.up()
	c.run(joining(c, invite())...)
	c.up()
	until(t, "three devices", func() bool { return len(ask[[]api.Device](a, "device", "list")) == 3 })
	alike(t, a, b, c)
	// An unknown one of an account that knows nothing of it.
	stranger := first(t, "stranger")
	d := newDevice(t, "watch")
	theirs := strings.TrimSpace(stranger.run("device", "invite"))
	d.run(joining(d, theirs)...)
	if got := len(ask[[]api.Device](a, "device", "list")); got != 3 {
		t.Errorf("%d devices, should be 3", got)
	}
	// The inviter is not there: it says so, in the time that was given.
	code = invite()
	a.down()
	e := newDevice(t, "clock")
	began := time.Now()
	e.exits(4, "join", code, "--name", e.name, "--dir", e.dir, "--yes", "--timeout", "2s")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("--timeout 2s took %s", took)
	}
}

func other(c byte) byte {
	if c == 'a' {
		return 'b'
	}
	return 'a'
}

// Two devices use one code at the same moment: one is in, the other is not,
// and can join with a code of its own.
func TestTwoJoinsWithOneCode(t *testing.T) {
	t.Parallel()
	a := first(t, "laptop")
	a.put("file", "content")
	code := strings.TrimSpace(a.run("device", "invite"))
	joiners := []*device{newDevice(t, "phone"), newDevice(t, "tablet")}
	errs := make([]error, 2)
	outs := make([]string, 2)
	var wait sync.WaitGroup
	for i, d := range joiners {
		wait.Go(func() {
			outs[i], errs[i] = d.try("join", code, "--name", d.name, "--dir", d.dir, "--yes", "--timeout", "20s")
		})
	}
	wait.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("one is to be in: %v %s, %v %s", errs[0], outs[0], errs[1], outs[1])
	}
	in, out, said := joiners[0], joiners[1], outs[1]
	if errs[0] != nil {
		in, out, said = joiners[1], joiners[0], outs[0]
	}
	if !strings.Contains(said, "used") {
		t.Errorf("the other says: %s", said)
	}
	if list := ask[[]api.Device](a, "device", "list"); len(list) != 2 {
		t.Errorf("%d devices, should be 2: %+v", len(list), list)
	}
	in.up()
	alike(t, a, in)
	if err := os.MkdirAll(out.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out.join(a)
	out.up()
	alike(t, a, in, out)
	for _, p := range a.status().Problems {
		t.Errorf("the account has a problem: %+v", p)
	}
}
