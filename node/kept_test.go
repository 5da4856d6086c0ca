package node_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sheaf/node"
	"sheaf/node/api"
	"sheaf/relay/daemon"
)

// relayIn runs a relay in this process, and gives what asks it, and its home.
func relayIn(t *testing.T, change func(*daemon.Config)) (c *daemon.Client, home string) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "relay")
	cfg := daemon.DefaultConfig()
	cfg.Name, cfg.Listen = "nas", []string{"/ip4/127.0.0.1/tcp/0"}
	if change != nil {
		change(&cfg)
	}
	if _, err := daemon.Init(home, cfg); err != nil {
		t.Fatal(err)
	}
	r, err := daemon.Open(t.Context(), home, daemon.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the relay ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	})
	return daemon.NewClient(home), home
}

func relayCode(t *testing.T, c *daemon.Client) string {
	t.Helper()
	text, err := c.Invite(t.Context(), daemon.InviteRequest{Quota: 1 << 30, Uses: 1, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A household is an account's devices on this disk.
type household struct {
	t      *testing.T
	base   string
	phrase string
}

func (h *household) at(p ...string) string { return filepath.Join(append([]string{h.base}, p...)...) }

// first sets up the first device, and runs it.
func first(t *testing.T) (*household, *node.Node, func()) {
	t.Helper()
	h := &household{t: t, base: t.TempDir()}
	r, err := node.Init(t.Context(), node.InitOptions{Home: h.at("laptop-home"), Name: "laptop", Dir: h.at("laptop")})
	if err != nil {
		t.Fatal(err)
	}
	h.phrase = r.RecoveryPhrase
	n, stop := started(t, h.at("laptop-home"))
	return h, n, stop
}

// join sets up one more device with a code, and runs it.
func (h *household) join(name, code string) (*node.Node, func()) {
	h.t.Helper()
	_, err := node.Join(h.t.Context(), node.JoinOptions{Home: h.at(name + "-home"), Name: name, Dir: h.at(name), Code: code, Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	return started(h.t, h.at(name+"-home"))
}

func (h *household) write(p, data string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.at(p)), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.at(p), []byte(data), 0o640); err != nil {
		h.t.Fatal(err)
	}
}

// noise gives bytes that are the same in each run, and do not compress.
func noise(seed uint64, n int) string {
	var key [32]byte
	key[0] = byte(seed)
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(data)
	return string(data)
}

func stored(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Wait(ctx, api.WaitOptions{Relay: true}); err != nil {
		t.Fatal(err)
	}
}

// snapshot gives all that is in a directory, but what is Sheaf's own: contents, modes,
// times and targets.
func snapshot(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		if d.Name() == ".sheaf" {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out = append(out, fmt.Sprintf("%s/ %v", rel, info.Mode().Perm()))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			out = append(out, fmt.Sprintf("%s -> %s %v", rel, target, info.ModTime()))
			return err
		default:
			data, err := os.ReadFile(p)
			out = append(out, fmt.Sprintf("%s %v %v %q", rel, info.Mode(), info.ModTime(), data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func sameTree(t *testing.T, what, a, b string) {
	t.Helper()
	x, y := snapshot(t, a), snapshot(t, b)
	if slices.Equal(x, y) {
		return
	}
	short := func(list []string) (out []string) {
		for _, s := range list {
			out = append(out, s[:min(len(s), 90)])
		}
		return out
	}
	t.Errorf("%s: there is\n%s\nwant\n%s", what, strings.Join(short(y), "\n"), strings.Join(short(x), "\n"))
}

// TestBackupOutlivesItsDevice: a backup is read by another device that joined while the
// first was off, and by one that has nothing but the phrase; each gets all of it, and
// Sync, though no two devices were ever on at once.
func TestBackupOutlivesItsDevice(t *testing.T) {
	t.Parallel()
	relay, relayHome := relayIn(t, nil)
	h, laptop, stop := first(t)
	if _, err := laptop.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	h.write("laptop/notes.txt", "in Sync")
	h.write("laptop/deep/er/large", noise(1, 3<<20))
	h.write("docs/letter.txt", "Dear all, this is not for the relay")
	h.write("docs/sub/photo.raw", noise(2, 5<<20))
	h.write("docs/empty", "")
	if err := os.Mkdir(h.at("docs", "nothing in it"), 0o750); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Symlink("sub/photo.raw", h.at("docs", "link")); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Date(2019, 3, 4, 5, 6, 7, 0, time.UTC)
	if err := os.Chtimes(h.at("docs", "letter.txt"), old, old); err != nil {
		t.Fatal(err)
	}
	b, err := laptop.AddBackup(t.Context(), h.at("docs"), "")
	if err != nil || b.Path != "/Backups/laptop/docs" {
		t.Fatalf("%+v, %v", b, err)
	}
	invite, err := laptop.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	stored(t, laptop)
	list, err := laptop.Backups(t.Context())
	if err != nil || len(list) != 1 || list[0].State != api.BackupStored || list[0].StoredThrough.IsZero() || list[0].Waiting != 0 {
		t.Errorf("the backups are %+v, %v", list, err)
	}
	stop()
	for _, word := range []string{"letter", "Dear all", "photo", "laptop", noise(2, 5<<20)[1000:1016]} {
		if where := searched(t, relayHome, word); where != "" {
			t.Errorf("%q is to be read in %s of the relay", word, where)
		}
	}

	phone, stop := h.join("phone", invite.Code)
	check := func(who string, n *node.Node) {
		t.Helper()
		stored(t, n)
		sameTree(t, who+"'s Sync", h.at("laptop"), h.at(who))
		list, err := n.Backups(t.Context())
		if err != nil || len(list) != 1 || list[0].Device != "laptop" || list[0].State != api.BackupElsewhere {
			t.Errorf("%s sees the backups %+v, %v", who, list, err)
		}
		got, err := n.Restore(t.Context(), api.RestoreOptions{Path: "/Backups/laptop/docs", To: h.at(who + "-restored")})
		if err != nil || len(got.Problems) > 0 {
			t.Fatalf("%s restores: %+v, %v", who, got, err)
		}
		sameTree(t, "what "+who+" restored", h.at("docs"), h.at(who+"-restored"))
		again, err := n.Restore(t.Context(), api.RestoreOptions{Path: "/Backups/laptop/docs", To: h.at(who + "-restored")})
		if err != nil || again.Files != 0 || again.There != got.Files {
			t.Errorf("%s restores again: %+v, %v", who, again, err)
		}
	}
	check("phone", phone)
	stop()

	status, err := relay.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Fields(h.phrase)
	wrong[0], wrong[1] = wrong[1], wrong[0]
	o := node.RecoverOptions{Home: h.at("new-home"), Name: "new", Dir: h.at("new"), Phrase: strings.Join(wrong, " "), Relay: status.Addresses[0], Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}
	if _, err := node.Recover(t.Context(), o); !errors.Is(err, api.ErrUsage) && !errors.Is(err, api.ErrRefused) {
		t.Errorf("recovered with another phrase: %v", err)
	}
	o.Phrase = "  " + strings.ReplaceAll(h.phrase, " ", "\n ")
	if _, err := node.Recover(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	recovered, stop := started(t, h.at("new-home"))
	check("new", recovered)
	// What it writes goes the other way.
	h.write("new/from the new one", "hello")
	stored(t, recovered)
	stop()
	_, stop = started(t, h.at("laptop-home"))
	defer stop()
	eventually(t, "the laptop has it", func() bool {
		data, _ := os.ReadFile(h.at("laptop", "from the new one"))
		return string(data) == "hello"
	})
}

// eventually asks until something is so that is to come about by itself.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: it is not so after 30 s", what)
		}
	}
}

// searched gives a file under dir that has a word in it, or "".
func searched(t *testing.T, dir, word string) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() != 0 {
			return err
		}
		data, err := os.ReadFile(p)
		if strings.Contains(string(data), word) {
			where = p
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}

// TestVersions: what a file was before is listed, and comes back by version and by time;
// what was deleted, too. Nothing that is there is replaced.
func TestVersions(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, nil)
	h, n, stop := first(t)
	defer stop()
	if _, err := n.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	h.write("docs/a.txt", "first")
	h.write("docs/sub/gone.txt", "to be deleted")
	if _, err := n.AddBackup(t.Context(), h.at("docs"), "papers"); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	const p = "/Backups/laptop/papers/"
	before, err := n.History(t.Context(), p+"a.txt")
	if err != nil || len(before) != 1 || !before[0].Current || before[0].Bytes != 5 {
		t.Fatalf("%+v, %v", before, err)
	}
	moment := time.Now()
	eventually(t, "the clock moves on", func() bool { return time.Since(moment) > 5*time.Millisecond })
	h.write("docs/a.txt", "second, longer")
	h.write("docs/new.txt", "not there then")
	if err := os.RemoveAll(h.at("docs", "sub")); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	list, err := n.History(t.Context(), p+"a.txt")
	if err != nil || len(list) != 2 || !list[0].Current || list[1].Current || list[1].ID != before[0].ID || list[1].Until.IsZero() || list[0].Device != "laptop" {
		t.Fatalf("%+v, %v", list, err)
	}
	restore := func(o api.RestoreOptions) api.Restored {
		t.Helper()
		r, err := n.Restore(t.Context(), o)
		if err != nil || len(r.Problems) > 0 {
			t.Fatalf("restore %+v: %+v, %v", o, r, err)
		}
		return r
	}
	expect := func(want map[string]string, dir ...string) {
		t.Helper()
		var names []string
		_ = filepath.WalkDir(h.at(dir...), func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				rel, _ := filepath.Rel(h.at(dir...), p)
				data, _ := os.ReadFile(p)
				names = append(names, filepath.ToSlash(rel)+" "+string(data))
			}
			return nil
		})
		var wanted []string
		for k, v := range want {
			wanted = append(wanted, k+" "+v)
		}
		slices.Sort(wanted)
		slices.Sort(names)
		if !slices.Equal(names, wanted) {
			t.Errorf("in %v there is %q, want %q", dir, names, wanted)
		}
	}
	restore(api.RestoreOptions{Path: p + "a.txt", Version: list[1].ID[:5], To: h.at("v1.txt")})
	restore(api.RestoreOptions{Path: "/Backups/laptop/papers", At: moment, To: h.at("then")})
	expect(map[string]string{"a.txt": "first", "sub/gone.txt": "to be deleted"}, "then")
	restore(api.RestoreOptions{Path: p + "sub", At: moment, To: h.at("sub then")})
	expect(map[string]string{"gone.txt": "to be deleted"}, "sub then")
	restore(api.RestoreOptions{Path: "/Backups/laptop/papers", To: h.at("now")})
	expect(map[string]string{"a.txt": "second, longer", "new.txt": "not there then"}, "now")
	if data, _ := os.ReadFile(h.at("v1.txt")); string(data) != "first" {
		t.Errorf("by its version it is %q", data)
	}
	// A deleted file is found by the name that it had.
	gone, err := n.History(t.Context(), p+"sub/gone.txt")
	if err != nil || len(gone) != 2 || !gone[0].Deleted {
		t.Fatalf("%+v, %v", gone, err)
	}
	restore(api.RestoreOptions{Path: p + "sub/gone.txt", Version: gone[0].ID, To: h.at("back.txt")})
	if data, _ := os.ReadFile(h.at("back.txt")); string(data) != "to be deleted" {
		t.Errorf("what was deleted comes back as %q", data)
	}
	// To where it was: beside what is there.
	r := restore(api.RestoreOptions{Path: p + "a.txt", Version: list[1].ID})
	if data, _ := os.ReadFile(h.at("docs", "a.txt")); string(data) != "second, longer" || r.Files != 1 {
		t.Errorf("the file is %q now, %+v", data, r)
	}
	for name, o := range map[string]api.RestoreOptions{
		"no such version": {Path: p + "a.txt", Version: "ffffff", To: h.at("x")},
		"no such path":    {Path: p + "nothing", To: h.at("x")},
		"no such backup":  {Path: "/Backups/laptop/nothing", To: h.at("x")},
		"all backups":     {Path: "/Backups", To: h.at("x")},
		"nowhere":         {Path: "/Archive", To: ""},
		"not in full":     {Path: p + "a.txt", To: "x"},
	} {
		if r, err := n.Restore(t.Context(), o); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestBackupRefusals: what cannot be backed up is refused with a reason, and nothing is
// left behind of it.
func TestBackupRefusals(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, nil)
	h, n, stop := first(t)
	defer stop()
	h.write("docs/sub/a", "a")
	h.write("file", "f")
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); !errors.Is(err, api.ErrConflict) {
		t.Errorf("without a relay: %v", err)
	}
	for text, kind := range map[string]error{"nonsense": api.ErrUsage, "": api.ErrUsage} {
		if _, err := n.AddRelay(t.Context(), text); !errors.Is(err, kind) {
			t.Errorf("code %q: %v", text, err)
		}
	}
	invite, err := n.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddRelay(t.Context(), invite.Code); !errors.Is(err, api.ErrUsage) {
		t.Errorf("a device's code: %v", err)
	}
	code := relayCode(t, relay)
	if _, err := n.AddRelay(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	other := &household{t: t, base: t.TempDir()}
	if _, err := node.Init(t.Context(), node.InitOptions{Home: other.at("home"), Name: "x", Dir: other.at("x")}); err != nil {
		t.Fatal(err)
	}
	x, stopX := started(t, other.at("home"))
	defer stopX()
	if _, err := x.AddRelay(t.Context(), code); !errors.Is(err, api.ErrRefused) {
		t.Errorf("another account with the same code: %v", err)
	}
	if err := os.MkdirAll(h.at("laptop", "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"in Sync": h.at("laptop", "inside"), "Sync itself": h.at("laptop"), "twice": h.at("docs"), "in a backup": h.at("docs", "sub"),
		"what holds them": h.base, "a file": h.at("file"), "nothing": h.at("nothing"), "a part of a path": "docs",
	} {
		if _, err := n.AddBackup(t.Context(), dir, "name"); err == nil {
			t.Errorf("%s was taken", name)
		}
		if _, err := os.Lstat(filepath.Join(dir, ".sheaf")); err == nil && name != "Sync itself" && name != "twice" {
			t.Errorf("%s: a marker was left", name)
		}
	}
	h.write("more/a", "a")
	if _, err := n.AddBackup(t.Context(), h.at("more"), "docs"); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a name that is taken: %v", err)
	}
}

// TestBackupEnds: with keep what is stored stays; without, it goes to the relay's trash
// and is gone with its time. The directory is not touched.
func TestBackupEnds(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, func(c *daemon.Config) { c.Retention, c.Versions = 2*time.Second, 0 })
	h, n, stop := first(t)
	defer func() { stop() }()
	if _, err := n.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	h.write("docs/a", noise(1, 300_000))
	h.write("docs/shared", noise(2, 300_000))
	h.write("more/shared", noise(2, 300_000))
	for _, dir := range []string{"docs", "more"} {
		if _, err := n.AddBackup(t.Context(), h.at(dir), ""); err != nil {
			t.Fatal(err)
		}
	}
	stored(t, n)
	// The directory is gone: what is stored stays, whatever happens.
	if err := os.Rename(h.at("docs"), h.at("docs aside")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it is gone is noticed", func() bool {
		list, err := n.Backups(t.Context())
		return err == nil && list[0].State == api.BackupFailing
	})
	if l, err := n.List(t.Context(), "/Backups/laptop/docs", true, api.Page{}); err != nil || len(l.Entries) != 2 {
		t.Errorf("of what is stored there is %+v, %v", l, err)
	}
	if err := os.Rename(h.at("docs aside"), h.at("docs")); err != nil {
		t.Fatal(err)
	}
	if err := n.RemoveBackup(t.Context(), "docs", true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(h.at("docs", ".sheaf")); !errors.Is(err, fs.ErrNotExist) {
		left, _ := filepath.Glob(h.at("docs", ".sheaf", "*"))
		t.Errorf("the marker is left: %v: %q", err, left)
	}
	h.write("docs/later", "not backed up any more")
	r, err := n.Restore(t.Context(), api.RestoreOptions{Path: "/Backups/laptop/docs", To: h.at("kept")})
	if err != nil || r.Files != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	// Taken up again, it goes on.
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	if l, err := n.List(t.Context(), "/Backups/laptop/docs", true, api.Page{}); err != nil || len(l.Entries) != 3 {
		t.Errorf("taken up again there is %+v, %v", l, err)
	}
	if err := n.RemoveBackup(t.Context(), "/Backups/laptop/docs", false); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	stop()
	n, stop = started(t, h.at("laptop-home"))
	stored(t, n)
	if l, err := n.List(t.Context(), "/Backups/laptop", false, api.Page{}); err != nil || len(l.Entries) != 1 || l.Entries[0].Name != "more" {
		t.Errorf("the backups are %+v, %v", l, err)
	}
	eventually(t, "what was removed is purged", func() bool {
		groups, err := relay.Groups(t.Context())
		return err == nil && groups[0].UsedBytes < 400_000
	})
	r, err = n.Restore(t.Context(), api.RestoreOptions{Path: "/Backups/laptop/more", To: h.at("other")})
	if err != nil || r.Files != 1 || len(r.Problems) > 0 {
		t.Errorf("what another backup shared with it: %+v, %v", r, err)
	}
	if data, err := os.ReadFile(h.at("docs", "a")); err != nil || string(data) != noise(1, 300_000) {
		t.Errorf("the directory was touched: %v", err)
	}
}

// TestArchive: things are put there from the disk and from backups, without being sent
// twice, and moved and removed; a second device's backup of the same tree costs nothing.
func TestArchive(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, nil)
	h, n, stop := first(t)
	defer stop()
	if _, err := n.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	used := func() uint64 {
		t.Helper()
		groups, err := relay.Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return groups[0].UsedBytes
	}
	h.write("docs/a", noise(1, 2<<20))
	h.write("docs/sub/b", noise(2, 100_000))
	h.write("photos/2019/c", noise(3, 500_000))
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	before := used()
	got, err := n.Copy(t.Context(), []string{"/Backups/laptop/docs"}, "/Archive", false)
	if err != nil || got.Files != 2 || !slices.Equal(got.Paths, []string{"/Archive/docs"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if after := used(); after != before {
		t.Errorf("a copy of a backup took %d bytes", after-before)
	}
	got, err = n.Copy(t.Context(), []string{h.at("photos", "2019")}, "/Archive/pictures", false)
	if err != nil || !slices.Equal(got.Paths, []string{"/Archive/pictures/2019"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := os.RemoveAll(h.at("photos")); err != nil { // it is stored: it may go
		t.Fatal(err)
	}
	paths := func(p string) (out []string) {
		t.Helper()
		l, err := n.List(t.Context(), p, true, api.Page{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Entries {
			out = append(out, strings.TrimPrefix(e.Path, "/Archive/"))
		}
		return out
	}
	want := []string{"docs", "docs/a", "docs/sub", "docs/sub/b", "pictures", "pictures/2019", "pictures/2019/c"}
	if got := paths("/Archive"); !slices.Equal(got, want) {
		t.Errorf("the archive has %q", got)
	}
	if _, err := n.Copy(t.Context(), []string{"/Archive/pictures/2019"}, "/Archive/docs", true); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Copy(t.Context(), []string{"/Archive/docs/a"}, "/Archive/first", true); err != nil {
		t.Fatal(err)
	}
	if err := n.Remove(t.Context(), "/Archive/docs/sub", false); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a directory that is not empty: %v", err)
	}
	if err := n.Remove(t.Context(), "/Archive/docs/sub", true); err != nil {
		t.Fatal(err)
	}
	if got, want := paths("/Archive"), []string{"docs", "docs/2019", "docs/2019/c", "first", "pictures"}; !slices.Equal(got, want) {
		t.Errorf("then the archive has %q, want %q", got, want)
	}
	stored(t, n)
	for p, want := range map[string]string{"/Archive/first": noise(1, 2<<20), "/Archive/docs/2019/c": noise(3, 500_000)} {
		to := h.at("out", filepath.Base(p))
		if r, err := n.Restore(t.Context(), api.RestoreOptions{Path: p, To: to}); err != nil || len(r.Problems) > 0 {
			t.Fatalf("%s: %+v, %v", p, r, err)
		}
		if data, err := os.ReadFile(to); err != nil || string(data) != want {
			t.Errorf("%s comes back otherwise: %v", p, err)
		}
	}
	for name, x := range map[string]struct{ from, to string }{
		"not there": {"/Archive/none", "/Archive/x"}, "from this disk": {h.at("docs"), "/Archive/x"}, "onto itself": {"/Archive/first", "/Archive"},
	} {
		if _, err := n.Copy(t.Context(), []string{x.from}, x.to, true); err == nil {
			t.Errorf("moved: %s", name)
		}
	}
	for _, from := range []string{h.at("none"), "/Backups/laptop", "/Backups/laptop/none", "relative"} {
		if _, err := n.Copy(t.Context(), []string{from}, "/Archive", false); err == nil {
			t.Errorf("archived: %s", from)
		}
	}
	invite, err := n.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	phone, stopPhone := h.join("phone", invite.Code)
	defer stopPhone()
	eventually(t, "the phone knows the relay", func() bool {
		list, err := phone.Relays(t.Context())
		return err == nil && len(list) == 1 && list[0].Connected && !list[0].StoredThrough.IsZero()
	})
	h.write("copy/a", noise(1, 2<<20))
	h.write("copy/sub/b", noise(2, 100_000))
	before = used()
	if _, err := phone.AddBackup(t.Context(), h.at("copy"), "docs"); err != nil {
		t.Fatal(err)
	}
	stored(t, phone)
	if after := used(); after != before {
		t.Errorf("a second device's backup of the same tree took %d bytes", after-before)
	}
	eventually(t, "the laptop sees it", func() bool {
		l, err := n.List(t.Context(), "/Backups/phone/docs", true, api.Page{})
		return err == nil && len(l.Entries) == 3
	})
}

// TestQuota: a quota that is used up is said, and takes nothing away; with more room it
// goes on by itself.
func TestQuota(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, nil)
	h, n, stop := first(t)
	defer stop()
	small, err := relay.Invite(t.Context(), daemon.InviteRequest{Quota: 1 << 20, Uses: 1, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AddRelay(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	h.write("docs/a", noise(1, 600_000))
	h.write("docs/b", noise(2, 600_000))
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the quota is said to be used up", func() bool {
		list, err := n.Relays(t.Context())
		return err == nil && len(list[0].Problems) == 1 && strings.Contains(list[0].Problems[0].What, "quota")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := n.Wait(ctx, api.WaitOptions{Relay: true}); !errors.Is(err, api.ErrTimeout) || !strings.Contains(err.Error(), "quota") {
		t.Errorf("waiting ends with %v", err)
	}
	if _, err := n.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
}

// TestRenamedWhileRead: a large file that is renamed while it is read for the first time
// is waited for no longer than it takes to read it once more. (Found with a backup whose
// 1 GiB file was rewritten beside itself and renamed: waiting never ended.)
func TestRenamedWhileRead(t *testing.T) {
	t.Parallel()
	h, n, stop := first(t)
	defer stop()
	data := []byte(noise(1, 64<<20))
	if err := os.WriteFile(h.at("laptop", "big"), data[:40<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := n.Wait(ctx, api.WaitOptions{}); err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		data[1000*(round+1)] ^= 1
		if err := os.WriteFile(h.at("laptop", "big.new"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		// A different moment of its being read each time.
		begun := time.Now()
		eventually(t, "some time passes", func() bool { return time.Since(begun) > time.Duration(round)*120*time.Millisecond })
		if err := os.Rename(h.at("laptop", "big.new"), h.at("laptop", "big")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		if err := n.Wait(ctx, api.WaitOptions{}); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		cancel()
	}
}

// TestTrashAtRelays: what was deleted by hand is in the trash of every device, from Sync,
// a backup or the archive, and comes back from any; when its time is over it is not shown
// any more.
func TestTrashAtRelays(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, func(c *daemon.Config) { c.Retention = time.Hour })
	h, n, stop := first(t)
	defer stop()
	if _, err := n.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	h.write("laptop/sub/notes.txt", "mine")
	h.write("laptop/large", noise(1, 400_000))
	h.write("docs/paper.txt", "of the backup")
	h.write("old/photo", noise(2, 300_000))
	if _, err := n.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Copy(t.Context(), []string{h.at("old")}, "/Archive", false); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	invite, err := n.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	phone, stopPhone := h.join("phone", invite.Code)
	defer stopPhone()
	eventually(t, "the phone has Sync", func() bool {
		_, err := os.Stat(h.at("phone", "sub", "notes.txt"))
		return err == nil
	})
	if err := errors.Join(os.RemoveAll(h.at("laptop", "sub")), os.Remove(h.at("laptop", "large")), os.Remove(h.at("docs", "paper.txt")), n.Remove(t.Context(), "/Archive/old", true)); err != nil {
		t.Fatal(err)
	}
	stored(t, n)
	want := []string{"/Archive/old/photo", "/Backups/laptop/docs/paper.txt", "/Sync/large", "/Sync/sub/notes.txt"}
	for who, d := range map[string]*node.Node{"laptop": n, "phone": phone} {
		eventually(t, "all is in the trash of the "+who, func() bool {
			if who == "phone" { // backups of others are read when somebody looks
				if _, err := d.Backups(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			items, err := d.Trash(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, i := range items {
				paths = append(paths, i.Path)
			}
			slices.Sort(paths)
			return slices.Equal(slices.Compact(paths), want)
		})
	}
	restored, err := n.RestoreTrash(t.Context(), []string{"/Sync/sub/notes.txt", "/Sync/large", "/Archive/old/photo", "/Backups/laptop/docs/paper.txt"}, "")
	if err != nil || !slices.Equal(restored, []string{"/Sync/sub/notes.txt", "/Sync/large", "/Archive/old/photo", "/Backups/laptop/docs/paper.txt"}) {
		t.Fatalf("%q, %v", restored, err)
	}
	for p, data := range map[string]string{"laptop/sub/notes.txt": "mine", "laptop/large": noise(1, 400_000), "docs/paper.txt": "of the backup"} {
		if got, err := os.ReadFile(h.at(p)); err != nil || string(got) != data {
			t.Errorf("%s came back otherwise: %v", p, err)
		}
	}
	stored(t, n)
	if r, err := n.Restore(t.Context(), api.RestoreOptions{Path: "/Archive/old/photo", To: h.at("photo")}); err != nil || len(r.Problems) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	eventually(t, "the phone has it again", func() bool {
		got, err := os.ReadFile(h.at("phone", "large"))
		return err == nil && string(got) == noise(1, 400_000)
	})
	eventually(t, "the trash is empty", func() bool {
		items, err := n.Trash(t.Context())
		return err == nil && len(items) == 0
	})
	if _, err := n.RestoreTrash(t.Context(), []string{"/Sync/large"}, ""); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("restored twice: %v", err)
	}
}

// TestRemovedDevicesBackups: a lost device is removed; its backups stay, for those who had
// never looked at them, and for one that is recovered later.
func TestRemovedDevicesBackups(t *testing.T) {
	t.Parallel()
	relay, _ := relayIn(t, nil)
	h, laptop, stop := first(t)
	if _, err := laptop.AddRelay(t.Context(), relayCode(t, relay)); err != nil {
		t.Fatal(err)
	}
	invite, err := laptop.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	phone, stopPhone := h.join("phone", invite.Code)
	defer stopPhone()
	h.write("laptop/in sync", "of the laptop")
	for i := range 20 {
		h.write(fmt.Sprintf("docs/%d", i), noise(uint64(i), 10_000))
	}
	if _, err := laptop.AddBackup(t.Context(), h.at("docs"), ""); err != nil {
		t.Fatal(err)
	}
	stored(t, laptop)
	stop()
	if err := phone.RemoveDevice(t.Context(), "laptop"); err != nil {
		t.Fatal(err)
	}
	stored(t, phone)
	status, err := relay.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Recover(t.Context(), node.RecoverOptions{
		Home: h.at("new-home"), Name: "new", Dir: h.at("new"), Phrase: h.phrase, Relay: status.Addresses[0], Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	recovered, stopNew := started(t, h.at("new-home"))
	defer stopNew()
	for who, n := range map[string]*node.Node{"phone": phone, "new": recovered} {
		eventually(t, who+" sees the backup", func() bool {
			l, err := n.List(t.Context(), "/Backups/laptop/docs", true, api.Page{})
			return err == nil && len(l.Entries) == 20
		})
		r, err := n.Restore(t.Context(), api.RestoreOptions{Path: "/Backups/laptop/docs", To: h.at(who + "-restored")})
		if err != nil || len(r.Problems) > 0 {
			t.Fatalf("%s: %+v, %v", who, r, err)
		}
		sameTree(t, "what "+who+" restored", h.at("docs"), h.at(who+"-restored"))
		eventually(t, who+" has what the laptop had in Sync", func() bool {
			data, _ := os.ReadFile(h.at(who, "in sync"))
			return string(data) == "of the laptop"
		})
	}
}
