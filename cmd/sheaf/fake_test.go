package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kardianos/service"

	"sheaf/node/api"
	"sheaf/node/config"
)

// fakeNode is a node with one folder of fixed content. With FAKE_ERROR set to
// the code of a kind of error every question to it fails so.
type fakeNode struct {
	o    runOptions
	fail error
	stop chan bool
}

var (
	then  = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	later = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
)

func fakeErrors() map[string]error {
	return map[string]error{
		"usage": api.ErrUsage, "not-found": api.ErrNotFound, "in-the-way": api.ErrConflict, "refused": api.ErrRefused,
		"timeout": api.ErrTimeout, "failed": api.ErrFailed,
	}
}

// fakeBackend makes a home with one file in it, and runs a fakeNode.
func fakeBackend(env func(string) string) backend {
	setUp := func(home string) error {
		if _, err := os.Stat(filepath.Join(home, "device")); err == nil {
			return api.Errorf(api.ErrConflict, "use another --home", "this device is set up already")
		}
		return os.WriteFile(filepath.Join(home, "device"), nil, 0o600)
	}
	return backend{
		init: func(_ context.Context, o initOptions) (initResult, error) {
			words := strings.TrimSpace(strings.Repeat("abandon ability able about ", 6))
			return initResult{"DEVICE-" + o.Name, "ACCOUNT", words}, setUp(o.Home)
		},
		join: func(ctx context.Context, o joinOptions) (joinResult, error) {
			switch o.Code {
			case "expired":
				return joinResult{}, &api.Error{Kind: api.ErrRefused, Code: "invite-expired", Message: "the invite has expired", Remedy: "have a new one made"}
			case "absent":
				ctx, cancel := context.WithTimeout(ctx, o.Timeout)
				defer cancel()
				<-ctx.Done()
				return joinResult{}, api.Errorf(api.ErrTimeout, "see that it runs", "the inviting device was not reached")
			case "code":
			default:
				return joinResult{}, api.Errorf(api.ErrUsage, "copy it whole", "the code is mistyped")
			}
			if !o.Confirm("laptop", "one person's devices") {
				return joinResult{}, api.Errorf(api.ErrRefused, "run it again to join", "not joined")
			}
			return joinResult{"DEVICE-" + o.Name, "ACCOUNT", "laptop"}, setUp(o.Home)
		},
		recover: func(_ context.Context, o recoverOptions) (joinResult, error) {
			if len(strings.Fields(o.Phrase)) != 24 || o.Relay == "" {
				return joinResult{}, api.Errorf(api.ErrUsage, "type all 24 words", "the recovery phrase is incomplete")
			}
			return joinResult{Device: "DEVICE-" + o.Name, Account: "ACCOUNT"}, setUp(o.Home)
		},
		run: func(ctx context.Context, o runOptions, ready func()) error {
			if _, err := os.Stat(filepath.Join(o.Home, "device")); err != nil {
				return api.Errorf(api.ErrUsage, "run `sheaf init`", "there is no device in %s", o.Home)
			}
			n := &fakeNode{o: o, stop: make(chan bool, 1)}
			if code := env("FAKE_ERROR"); code != "" {
				n.fail = &api.Error{Kind: fakeErrors()[code], Message: "it went wrong: " + code, Remedy: "set it right"}
			}
			return n.run(ctx, ready)
		},
	}
}

// run serves until it is told to stop.
func (n *fakeNode) run(ctx context.Context, ready func()) error {
	l, err := api.Listen(n.o.Home, n.o.API)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	server := api.NewServer(n, api.Options{Token: func() (string, error) { return api.Token(n.o.Home) }, Log: n.o.Log})
	go func() { done <- server.Run(ctx, l) }()
	ready()
	restart := false
	select {
	case restart = <-n.stop:
	case <-ctx.Done():
	}
	cancel()
	if err := <-done; err != nil {
		return err
	}
	if restart {
		return api.ErrRestart
	}
	return nil
}

func (n *fakeNode) Status(context.Context) (api.Status, error) {
	return api.Status{
		Device: api.Self{Name: "laptop", ID: "12D3KooWLaptop", Version: "1.2.3"}, State: api.Syncing, Started: then,
		Folders: []api.Folder{{
			Name: "Sync", Path: filepath.Join(filepath.Dir(n.o.Home), "Sync"), Kind: "sync", State: api.Syncing, Files: 1234, Directories: 5,
			Bytes: 3_400_000_000, NeedFiles: 2, NeedBytes: 1_048_576, Conflicts: 1,
			Problems: []api.Problem{{Path: "/Sync/evil\x1b[2J", What: "no room on this disk", Remedy: "make room"}},
		}},
		Peers: []api.Peer{
			{Name: "phone", ID: "12D3KooWPhone", Connected: true, Path: api.PathLAN, RTT: 1.25},
			{Name: "nas", ID: "12D3KooWNas", LastSeen: then},
		},
		Traffic: api.Traffic{SentBytes: 1500, ReceivedBytes: 20},
	}, n.fail
}

func (n *fakeNode) Wait(ctx context.Context, _ api.WaitOptions) error {
	if n.fail != nil {
		return n.fail
	}
	if _, err := os.Stat(filepath.Join(n.o.Home, "busy")); err == nil {
		<-ctx.Done()
		return api.Errorf(api.ErrTimeout, "wait longer", "/Sync/big is not here yet")
	}
	return nil
}

func (n *fakeNode) Addresses(context.Context) ([]string, error) {
	return []string{"/ip4/192.0.2.1/tcp/4101/p2p/12D3KooWLaptop", "/ip6/2001:db8::1/tcp/4101/p2p/12D3KooWLaptop"}, n.fail
}

func (n *fakeNode) Connect(_ context.Context, addr string) (api.Peer, error) {
	if !strings.Contains(addr, "/p2p/") {
		return api.Peer{}, api.Errorf(api.ErrUsage, "add /p2p/ID", "%s names no device", addr)
	}
	return api.Peer{Name: "phone", ID: "12D3KooWPhone", Connected: true, Path: api.PathDirect, Address: addr}, n.fail
}

func (n *fakeNode) Devices(context.Context) ([]api.Device, error) {
	return []api.Device{
		{Name: "laptop", ID: "12D3KooWLaptop", This: true, Connected: true, Joined: then},
		{Name: "phone", ID: "12D3KooWPhone", Joined: then, LastSeen: later},
	}, n.fail
}

func (n *fakeNode) InviteDevice(_ context.Context, expires time.Duration) (api.Invitation, error) {
	return api.Invitation{Code: "sheaf-code-for-" + expires.String(), Expires: then.Add(expires)}, n.fail
}

func (n *fakeNode) device(name string) error {
	if n.fail == nil && name != "phone" {
		return api.Errorf(api.ErrNotFound, "see `sheaf device list`", "there is no device %q", name)
	}
	return n.fail
}

func (n *fakeNode) RenameDevice(_ context.Context, name, _ string) error { return n.device(name) }

func (n *fakeNode) RemoveDevice(_ context.Context, name string) error { return n.device(name) }

func (n *fakeNode) folder(name string) error {
	if n.fail == nil && name != "" && name != "Sync" {
		return api.Errorf(api.ErrNotFound, "see `sheaf status`", "there is no folder %q", name)
	}
	return n.fail
}

func (n *fakeNode) Pause(_ context.Context, folder string) error { return n.folder(folder) }

func (n *fakeNode) Resume(_ context.Context, folder string) error { return n.folder(folder) }

// List gives two pages.
func (n *fakeNode) List(_ context.Context, path string, recursive bool, page api.Page) (api.Listing, error) {
	switch {
	case n.fail != nil:
		return api.Listing{}, n.fail
	case path == "/":
		return api.Listing{Path: path, Entries: []api.Entry{{Name: "Sync", Path: "/Sync", Kind: "directory", Mode: "0755", Modified: then, Here: true, State: api.EntryInStep}}}, nil
	case path == "/Sync/empty":
		return api.Listing{Path: path}, nil
	case path != "/Sync":
		return api.Listing{}, api.Errorf(api.ErrNotFound, "see `sheaf ls /`", "there is nothing at %s", path)
	case page.After == "":
		l := api.Listing{Path: path, Next: "1", Entries: []api.Entry{
			{Name: "a.txt", Path: "/Sync/a.txt", Kind: "file", Size: 1234, Mode: "0644", Modified: then, Here: true, State: api.EntryInStep},
			{Name: "photos", Path: "/Sync/photos", Kind: "directory", Mode: "0755", Modified: then, Here: true, State: api.EntryInStep},
		}}
		if recursive {
			l.Entries = append(l.Entries, api.Entry{Name: "b.jpg", Path: "/Sync/photos/b.jpg", Kind: "file", Size: 5, Mode: "0600", Modified: then, State: api.EntryWaiting})
		}
		return l, nil
	}
	return api.Listing{Path: path, Entries: []api.Entry{
		{Name: "z\x1b]0;x\a\nlink", Path: "/Sync/z\x1b]0;x\a\nlink", Kind: "symlink", Target: "a.txt", Mode: "0777", Modified: then, Here: true, State: api.EntryBlocked},
	}}, nil
}

func (n *fakeNode) Conflicts(context.Context) ([]api.Conflict, error) {
	return []api.Conflict{{Path: "/Sync/a (phone).txt", Of: "/Sync/a.txt", Device: "phone", OfDevice: "laptop", Modified: then, Size: 9}}, n.fail
}

func (n *fakeNode) ResolveConflict(_ context.Context, path string, _ api.Keep) error {
	if n.fail == nil && path != "/Sync/a.txt" {
		return api.Errorf(api.ErrNotFound, "see `sheaf conflicts`", "there is no conflict at %s", path)
	}
	return n.fail
}

func (n *fakeNode) Trash(context.Context) ([]api.TrashItem, error) {
	return []api.TrashItem{{ID: "7f3a", Path: "/Sync/old.txt", Deleted: then, Purge: later, Bytes: 99, Device: "phone"}}, n.fail
}

func (n *fakeNode) RestoreTrash(_ context.Context, ids []string, to string) ([]string, error) {
	if n.fail != nil {
		return nil, n.fail
	}
	var out []string
	for _, id := range ids {
		if id != "7f3a" && id != "/Sync/old.txt" {
			return nil, api.Errorf(api.ErrNotFound, "see `sheaf trash list`", "%s is not in the trash", id)
		}
		if to == "" {
			to = "/Sync"
		}
		out = append(out, to+"/old.txt")
	}
	return out, nil
}

func (n *fakeNode) EmptyTrash(_ context.Context, ids []string) (int, int64, error) {
	return max(1, len(ids)), 99, n.fail
}

func (n *fakeNode) Relays(context.Context) ([]api.Relay, error) {
	return []api.Relay{{Name: "nas", ID: "12D3KooWNas", Connected: true, StoredThrough: then, QuotaBytes: 100_000_000_000, UsedBytes: 5_000_000, Problems: []api.Problem{{What: "the quota is used up", Remedy: "ask for more"}}}}, n.fail
}

func (n *fakeNode) AddRelay(_ context.Context, code string) (api.Relay, error) {
	if n.fail == nil && code != "GOOD" {
		return api.Relay{}, api.Errorf(api.ErrUsage, "copy it whole", "the code is mistyped")
	}
	return api.Relay{Name: "nas"}, n.fail
}

func (n *fakeNode) RemoveRelay(_ context.Context, name string) error {
	if n.fail == nil && name != "nas" {
		return api.Errorf(api.ErrNotFound, "see `sheaf relay list`", "there is no relay %q", name)
	}
	return n.fail
}

func (n *fakeNode) Backups(context.Context) ([]api.Backup, error) {
	return []api.Backup{
		{Name: "docs", Device: "laptop", Path: "/Backups/laptop/docs", Source: "/home/me/docs", State: api.BackupStoring, Files: 3, Bytes: 2048, StoredThrough: then, Waiting: 1},
		{Name: "photos", Device: "phone", Path: "/Backups/phone/photos", State: api.BackupElsewhere, Files: 1, Bytes: 99, SeenThrough: then},
	}, n.fail
}

func (n *fakeNode) AddBackup(_ context.Context, dir, name string) (api.Backup, error) {
	return api.Backup{Source: dir, Path: "/Backups/laptop/" + name}, n.fail
}

func (n *fakeNode) RemoveBackup(_ context.Context, name string, _ bool) error {
	if n.fail == nil && name != "docs" {
		return api.Errorf(api.ErrNotFound, "see `sheaf backup list`", "there is no backup %q", name)
	}
	return n.fail
}

func (n *fakeNode) History(context.Context, string) ([]api.Version, error) {
	return []api.Version{
		{ID: "bb22", At: then, Device: "phone", Bytes: 7, Current: true, Whole: true}, {ID: "aa11", At: then, Device: "laptop", Bytes: 5},
	}, n.fail
}

func (n *fakeNode) Restore(_ context.Context, o api.RestoreOptions) (api.Restored, error) {
	r := api.Restored{To: "/restored", Files: 2, Bytes: 3000, There: 1}
	if o.Version == "bad" {
		r.Problems = []api.Problem{{Path: "a", What: "no relay has it", Remedy: "try later"}}
	}
	return r, n.fail
}

func (n *fakeNode) Copy(_ context.Context, from []string, to string, _ bool) (api.Copied, error) {
	var out []string
	for _, p := range from {
		out = append(out, to+"/"+filepath.Base(p))
	}
	return api.Copied{Paths: out}, n.fail
}

func (n *fakeNode) Remove(_ context.Context, path string, recursive bool) error {
	if n.fail == nil && !recursive {
		return api.Errorf(api.ErrConflict, "use -r", "%s is not empty", path)
	}
	return n.fail
}

func (n *fakeNode) Why(_ context.Context, path string) (api.Why, error) {
	return api.Why{
		Path: path, Summary: "It waits for the phone.", Kind: "file", Size: 5, Modified: then, State: api.EntryWaiting, Version: "ab12",
		Author: "phone", Written: then, Others: []string{"phone", "nas"}, WaitsFor: "a device that has it", WaitsFrom: []string{"phone"},
		Problems: []api.Problem{{Path: path, What: "the rule *.tmp ignores it", Remedy: "change .sheafignore"}},
	}, n.fail
}

func (n *fakeNode) Holds(context.Context) ([]api.Hold, error) {
	return []api.Hold{{ID: "3", Folder: "Sync", Device: "phone", At: then, Deleted: 60, Total: 100, Sample: []string{"/Sync/x"}, What: "60 of 100 were deleted"}}, n.fail
}

func (n *fakeNode) hold(id string) error {
	if n.fail == nil && id != "3" {
		return api.Errorf(api.ErrNotFound, "see `sheaf hold list`", "nothing with ID %s is held", id)
	}
	return n.fail
}

func (n *fakeNode) ReleaseHold(_ context.Context, id string) error { return n.hold(id) }

func (n *fakeNode) RevertHold(_ context.Context, id string) error { return n.hold(id) }

func (n *fakeNode) Log(_ context.Context, path string, limit int) ([]api.ChangeSet, error) {
	if path == "/Sync/quiet" {
		return nil, n.fail
	}
	sets := []api.ChangeSet{
		{ID: "c2", At: then, Device: "phone", Folder: "Sync", Changes: []api.Change{{What: api.Moved, Path: "/Sync/b", From: "/Sync/a", Kind: "file"}}, More: 7},
		{ID: "c1", At: then, Device: "laptop", Folder: "Sync", Changes: []api.Change{{What: api.Created, Path: "/Sync/a", Kind: "file"}}},
	}
	return sets[:min(limit, len(sets))], n.fail
}

func (n *fakeNode) Doctor(_ context.Context, deep bool) ([]api.Check, error) {
	checks := []api.Check{{Name: "clock", Result: api.CheckOK, What: "right to the second"}}
	if deep {
		checks = append(checks, api.Check{Name: "disk", Result: api.CheckFault, What: "one file reads wrong", Remedy: "it is fetched again"})
	}
	return checks, n.fail
}

func (n *fakeNode) Config(context.Context) ([]config.Value, error) {
	if n.fail != nil {
		return nil, n.fail
	}
	return config.Values(n.o.Home)
}

func (n *fakeNode) SetConfig(_ context.Context, key, value string) error {
	if n.fail != nil {
		return n.fail
	}
	return config.Set(n.o.Home, key, value)
}

func (n *fakeNode) Events(context.Context, uint64) (<-chan api.Event, error) {
	return nil, errors.New("no events here")
}

func (n *fakeNode) Stop(_ context.Context, restart bool) error {
	n.stop <- restart
	return nil
}

// fakeManager keeps the state of a service in a file.
type fakeManager struct{ file string }

func (m fakeManager) set(state string) error { return os.WriteFile(m.file, []byte(state), 0o600) }

// Install, Uninstall, Start, Stop and Status are manager's.
func (m fakeManager) Install() error {
	if _, err := os.Stat(m.file); err == nil {
		return errors.New("it exists already")
	}
	return m.set("stopped")
}

func (m fakeManager) Uninstall() error {
	if err := os.Remove(m.file); err != nil {
		return service.ErrNotInstalled
	}
	return nil
}

func (m fakeManager) Start() error { return m.set("running") }

func (m fakeManager) Stop() error { return m.set("stopped") }

func (m fakeManager) Status() (service.Status, error) {
	state, err := os.ReadFile(m.file)
	switch {
	case err != nil:
		return service.StatusUnknown, service.ErrNotInstalled
	case string(state) == "running":
		return service.StatusRunning, nil
	}
	return service.StatusStopped, nil
}
