package daemon_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/relay/daemon"
	"sheaf/replication"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
	"sheaf/replication/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func initHome(t *testing.T, change func(*daemon.Config)) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "relay")
	c := daemon.DefaultConfig()
	c.Name, c.Listen = "nas", []string{"/ip4/127.0.0.1/tcp/0"}
	if change != nil {
		change(&c)
	}
	if _, err := daemon.Init(home, c); err != nil {
		t.Fatal(err)
	}
	return home
}

// run runs a relay until stop is called, which waits for its end.
func run(t *testing.T, home string) (c *daemon.Client, stop func()) {
	t.Helper()
	r, err := daemon.Open(t.Context(), home, daemon.Options{Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("it ended before it served: %v", err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			begun := time.Now()
			if err := <-done; err != nil {
				t.Errorf("it ended with %v", err)
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("stopping took %v", took)
			}
		})
	}
	t.Cleanup(stop)
	return daemon.NewClient(home), stop
}

func code(t *testing.T, c daemon.Control) group.Code {
	t.Helper()
	text, err := c.Invite(t.Context(), daemon.InviteRequest{Quota: 1 << 30, Uses: 1, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return sealtest.Must(group.ParseCode(text, group.RelayCode))(t)
}

// A device is one of an account, with a mesh of its own.
type device struct {
	*sealtest.Device
	a     *sealtest.Account
	m     *mesh.Mesh
	relay mesh.DeviceID
}

func (d device) Open(ctx context.Context, peer replication.DeviceID, protocol string) (replication.Stream, error) {
	return d.m.Open(ctx, mesh.DeviceID(peer), protocol)
}

func connect(t *testing.T, a *sealtest.Account, s *sealtest.Device, address string) device {
	t.Helper()
	_, id, _ := strings.Cut(address, "/p2p/")
	relay := sealtest.Must(mesh.ParsePeerID(id))(t)
	m, err := mesh.New(mesh.Config{
		Key: s.Keys.SigningKey(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, GuestProtocols: []string{wire.HostProtocol},
		Allowed: func(id mesh.DeviceID) bool { return id == relay },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if _, err := m.Connect(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	return device{s, a, m, relay}
}

// archive opens the archive, once the relay holds the device for a member.
func (d device) archive(t *testing.T) *deposit.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sub := d.m.Subscribe()
	defer sub.Close()
	for {
		c, err := deposit.Open(ctx, d, replication.DeviceID(d.relay), d.a.ID(), "test")
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		select {
		case <-sub.C: // it may hold us for a member now
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// TestRelayServes: an account gets room by a code, what it hands in is there after a
// restart, and a second account does not get in by the same code.
func TestRelayServes(t *testing.T) {
	t.Parallel()
	home := initHome(t, nil)
	c, stop := run(t, home)
	invite := code(t, c)
	address := invite.Addresses[0]
	a, b := sealtest.NewAccount(t, 1), sealtest.NewAccount(t, 2)
	laptop, stranger := connect(t, a, a.Laptop, address), connect(t, b, b.Laptop, address)
	claim := func(d device) (deposit.Hosting, error) {
		return deposit.Claim(t.Context(), d, invite, d.Keys.ID(), d.a.ID(), d.a.Log)
	}
	if got, err := claim(laptop); err != nil || got.Name != "nas" || got.Bytes != 1<<30 {
		t.Fatalf("%+v, %v", got, err)
	}
	var refused *deposit.RefusedError
	if _, err := claim(stranger); !errors.As(err, &refused) || refused.Code != wire.CodeUsed {
		t.Errorf("a second account: %v", err)
	}
	if _, err := stranger.Open(t.Context(), replication.DeviceID(laptop.relay), wire.ArchiveProtocol); err == nil {
		t.Error("a guest opened the archive")
	}
	up := laptop.archive(t)
	s := a.Laptop.Content(t, "one", "two")
	r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
	if got, err := up.Offer(t.Context(), []*seal.Record{r}); err != nil || got[0].Outcome != deposit.Taken {
		t.Fatal(got, err)
	}
	if _, err := up.Store(t.Context(), s.Bytes); err != nil {
		t.Fatal(err)
	}
	groups := sealtest.Must(c.Groups(t.Context()))(t)
	if len(groups) != 1 || groups[0].Devices != 2 || groups[0].Records != 1 || groups[0].UsedBytes == 0 {
		t.Errorf("the groups are %+v", groups)
	}
	if st := sealtest.Must(c.Status(t.Context()))(t); st.Name != "nas" || st.Groups != 1 || st.Blocks != 2 || len(st.Addresses) == 0 {
		t.Errorf("the status is %+v", st)
	}
	if rep := sealtest.Must(c.Check(t.Context(), false))(t); rep.Records != 1 || rep.Blocks != 2 || rep.Read != 2 || rep.Broken+rep.Absent+rep.Stray+len(rep.Faults) > 0 {
		t.Errorf("the check found %+v", rep)
	}
	stop()
	if _, err := c.Status(t.Context()); !errors.Is(err, api.ErrNotRunning) {
		t.Errorf("asked while it does not run: %v", err)
	}
	c, _ = run(t, home)
	address = sealtest.Must(c.Status(t.Context()))(t).Addresses[0]
	phone := connect(t, a, a.Phone, address)
	down := phone.archive(t)
	state := a.Log.Evaluate()
	list, _, err := down.Tell(t.Context(), a.Phone.Box, &state, sealtest.Folder, 0, false)
	if err != nil || len(list) != 1 || list[0].Err != nil || list[0].Entry.Place.Name != "f" {
		t.Errorf("after a restart there is %+v, %v", list, err)
	}
}

// TestRelayLetsGo: what was deleted is purged by the relay alone, by its own time, and a
// removed device is cut off.
func TestRelayLetsGo(t *testing.T) {
	t.Parallel()
	home := initHome(t, func(c *daemon.Config) { c.Retention, c.Versions = time.Second, 0 })
	c, _ := run(t, home)
	invite := code(t, c)
	a := sealtest.NewAccount(t, 1)
	address := invite.Addresses[0]
	laptop := connect(t, a, a.Laptop, address)
	if _, err := deposit.Claim(t.Context(), laptop, invite, a.Laptop.Keys.ID(), a.ID(), a.Log); err != nil {
		t.Fatal(err)
	}
	phone := connect(t, a, a.Phone, address)
	up, other := laptop.archive(t), phone.archive(t)
	s := a.Laptop.Content(t, "one", "two")
	for n, dead := range []bool{false, true} {
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, dead, sealtest.Dot(1, uint64(n+1))), s)
		if _, err := up.Offer(t.Context(), []*seal.Record{r}); err != nil {
			t.Fatal(err)
		}
		if !dead {
			if _, err := up.Store(t.Context(), s.Bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "the blocks are gone", func() bool {
		return sealtest.Must(c.Status(t.Context()))(t).Blocks == 0
	})
	if got := sealtest.Must(c.Collect(t.Context()))(t); got.DiskBytes > 1<<10 {
		t.Errorf("after it the packs are %d bytes", got.DiskBytes)
	}
	if err := other.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.RemovePhone(t)
	if err := up.Exchange(t.Context(), a.Log); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the phone is cut off", func() bool { return other.Renew(t.Context()) != nil })
}

// eventually asks until something is so: what the relay does by itself, by its clock.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: it is not so after 20 s", what)
		}
	}
}

// TestBrokenBlocks: a damaged pack is found out, and its blocks are asked for again.
func TestBrokenBlocks(t *testing.T) {
	t.Parallel()
	home := initHome(t, nil)
	c, stop := run(t, home)
	invite := code(t, c)
	a := sealtest.NewAccount(t, 1)
	address := invite.Addresses[0]
	laptop := connect(t, a, a.Laptop, address)
	if _, err := deposit.Claim(t.Context(), laptop, invite, a.Laptop.Keys.ID(), a.ID(), a.Log); err != nil {
		t.Fatal(err)
	}
	up := laptop.archive(t)
	s := a.Laptop.Content(t, strings.Repeat("x", 1000), strings.Repeat("y", 1000))
	r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
	if _, err := up.Offer(t.Context(), []*seal.Record{r}); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Store(t.Context(), s.Bytes); err != nil {
		t.Fatal(err)
	}
	stop()
	packs := sealtest.Must(filepath.Glob(filepath.Join(home, "packs", "*.pack")))(t)
	data := sealtest.Must(os.ReadFile(packs[0]))(t)
	at := strings.Index(string(data), string(s.Bytes[0][:32]))
	if at < 0 {
		t.Fatal("the block is not in the pack")
	}
	data[at+20] ^= 1
	if err := os.WriteFile(packs[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	c, stop = run(t, home)
	if rep := sealtest.Must(c.Check(t.Context(), true))(t); rep.Broken != 1 && rep.Blocks != 1 { // the slow scrub may have been first
		t.Errorf("the check found %+v", rep)
	}
	laptop = connect(t, a, a.Laptop, sealtest.Must(c.Status(t.Context()))(t).Addresses[0])
	up = laptop.archive(t)
	wanted := sealtest.Must(up.Wanted(t.Context(), seal.Digest{}))(t)
	if !slices.Equal(wanted, []seal.Digest{s.Refs[0].Digest}) {
		t.Errorf("asked for again are %v", wanted)
	}
	if got, err := up.Store(t.Context(), s.Bytes[:1]); err != nil || got[0].Outcome != deposit.Taken {
		t.Errorf("brought again: %+v, %v", got, err)
	}
	if rep := sealtest.Must(c.Check(t.Context(), false))(t); rep.Broken+rep.Absent > 0 {
		t.Errorf("then the check found %+v", rep)
	}
	stop()
}

// TestHomes: what is no home, one that is in use, settings that are none.
func TestHomes(t *testing.T) {
	t.Parallel()
	home := initHome(t, nil)
	if _, err := daemon.Init(home, daemon.DefaultConfig()); !errors.Is(err, api.ErrConflict) {
		t.Errorf("set up twice: %v", err)
	}
	if _, err := daemon.Open(t.Context(), t.TempDir(), daemon.Options{}); !errors.Is(err, api.ErrUsage) {
		t.Errorf("no home: %v", err)
	}
	r := sealtest.Must(daemon.Open(t.Context(), home, daemon.Options{}))(t)
	if _, err := daemon.Open(t.Context(), home, daemon.Options{}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("open in another: %v", err)
	}
	if _, err := r.Invite(t.Context(), daemon.InviteRequest{Quota: 1 << 30, Uses: 1, Expires: time.Hour}); !errors.Is(err, api.ErrNotRunning) {
		t.Errorf("an invite to a port that is not known yet: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, x := range [][2]string{{"retenton", "30d"}, {"retention", "never"}, {"versions", "-1"}, {"listen", "port 5"}, {"roles", "king"}, {"public_url", "here"}, {"name", ""}} {
		err := daemon.SetConfig(home, x[0], x[1])
		if !errors.Is(err, api.ErrUsage) || x[0] == "retenton" && !strings.Contains(err.Error(), `"retention"`) {
			t.Errorf("%s = %q: %v", x[0], x[1], err)
		}
	}
	for _, x := range [][2]string{{"retention", "90d"}, {"versions", "0"}, {"listen", "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/udp/1/quic-v1"}, {"roles", "archive"}, {"public_url", "https://files.example.org"}} {
		if err := daemon.SetConfig(home, x[0], x[1]); err != nil {
			t.Errorf("%s = %q: %v", x[0], x[1], err)
		}
	}
	got := sealtest.Must(daemon.ReadConfig(home))(t)
	if got.Retention != 90*24*time.Hour || got.Versions != 0 || len(got.Listen) != 2 || !slices.Equal(got.Roles, []string{"archive"}) || got.Name != "nas" {
		t.Errorf("the settings are %+v", got)
	}
	// Another's port is said to be that.
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte("speed = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Open(t.Context(), home, daemon.Options{}); !errors.Is(err, api.ErrUsage) || !strings.Contains(err.Error(), "config.toml") {
		t.Errorf("an unknown setting in the file: %v", err)
	}
}
