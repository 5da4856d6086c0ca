package api

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"sheaf/node/config"
)

// fakeNode answers every call with the same values, and remembers the calls.
type fakeNode struct {
	err    error                            // what every call fails with, if set
	wait   func(ctx context.Context) error  // what Wait does
	events func(context.Context) chan Event // what Events gives
	status Status

	mu    sync.Mutex
	calls []string
}

var (
	day1 = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	day2 = time.Date(2026, 11, 2, 12, 0, 0, 123456789, time.UTC)
)

func newFake() *fakeNode {
	return &fakeNode{status: Status{
		Device: Self{"laptop", "12D3KooWTest", "1.2.3"}, State: Syncing, Started: day1,
		Folders: []Folder{{
			Name: "Sync", Path: "/home/me/Sync", Kind: "sync", State: Syncing, Files: 3, Directories: 1, Bytes: 4096,
			NeedFiles: 1, NeedBytes: 1024, Conflicts: 1, Problems: []Problem{{"/Sync/a", "no room", "make room"}},
		}},
		Peers:    []Peer{{Name: "phone", ID: "12D3KooWPeer", Connected: true, Path: PathLAN, RTT: 1.5, InStep: false, Address: "/ip4/192.0.2.1/tcp/1", LastSeen: day2}, {Name: "nas", ID: "12D3KooWNas"}},
		Relays:   []Relay{},
		Traffic:  Traffic{10, 20},
		Problems: []Problem{},
	}}
}

// call notes a call and gives the error it is to fail with.
func (f *fakeNode) call(name string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf("%s%v", name, args))
	return f.err
}

func (f *fakeNode) made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func (f *fakeNode) Status(context.Context) (Status, error) {
	return f.status, f.call("Status")
}

func (f *fakeNode) Wait(ctx context.Context, o WaitOptions) error {
	err := f.call("Wait", o.Relay)
	if f.wait != nil {
		return f.wait(ctx)
	}
	return err
}

func (f *fakeNode) Addresses(context.Context) ([]string, error) {
	return []string{"/ip4/192.0.2.1/tcp/4101/p2p/12D3KooWTest"}, f.call("Addresses")
}

func (f *fakeNode) Connect(_ context.Context, addr string) (Peer, error) {
	return Peer{Name: "phone", ID: "12D3KooWPeer", Connected: true, Path: PathDirect}, f.call("Connect", addr)
}

func (f *fakeNode) Devices(context.Context) ([]Device, error) {
	return []Device{{Name: "laptop", ID: "12D3KooWTest", This: true, Connected: true, Joined: day1, LastSeen: day2}}, f.call("Devices")
}

func (f *fakeNode) InviteDevice(_ context.Context, expires time.Duration) (Invitation, error) {
	return Invitation{"sheaf-code", day2}, f.call("InviteDevice", expires)
}

func (f *fakeNode) RenameDevice(_ context.Context, name, newName string) error {
	return f.call("RenameDevice", name, newName)
}

func (f *fakeNode) RemoveDevice(_ context.Context, name string) error {
	return f.call("RemoveDevice", name)
}

func (f *fakeNode) Pause(_ context.Context, folder string) error { return f.call("Pause", folder) }

func (f *fakeNode) Resume(_ context.Context, folder string) error { return f.call("Resume", folder) }

func (f *fakeNode) List(_ context.Context, path string, recursive bool, page Page) (Listing, error) {
	return Listing{Path: path, Next: "more", Entries: []Entry{
		{Name: "a ? b%.txt", Path: path + "/a ? b%.txt", Kind: "file", Size: 3, Modified: day2, Mode: "0644", Here: true, State: EntryInStep},
		{Name: "d", Path: path + "/d", Kind: "directory", Modified: day1, Mode: "02755", State: EntryWaiting},
		{Name: "l", Path: path + "/l", Kind: "symlink", Modified: day1, Mode: "0777", Target: "d", State: EntryBlocked},
	}}, f.call("List", path, recursive, page)
}

func (f *fakeNode) Conflicts(context.Context) ([]Conflict, error) {
	return []Conflict{{"/Sync/a (phone)", "/Sync/a", "phone", "laptop", day1, 7}}, f.call("Conflicts")
}

func (f *fakeNode) ResolveConflict(_ context.Context, path string, keep Keep) error {
	return f.call("ResolveConflict", path, keep)
}

func (f *fakeNode) Trash(context.Context) ([]TrashItem, error) {
	return []TrashItem{{"1", "/Sync/old", day1, day2, 99, "phone"}}, f.call("Trash")
}

func (f *fakeNode) RestoreTrash(_ context.Context, ids []string, to string) ([]string, error) {
	return ids, f.call("RestoreTrash", ids, to)
}

func (f *fakeNode) EmptyTrash(_ context.Context, ids []string) (int, int64, error) {
	return 2, 2048, f.call("EmptyTrash", ids)
}

func (f *fakeNode) Relays(context.Context) ([]Relay, error) {
	return []Relay{{Name: "nas", ID: "12D3KooWNas", Connected: true, StoredThrough: day1, QuotaBytes: 100, UsedBytes: 7, Problems: []Problem{{"", "full", "more"}}}}, f.call("Relays")
}

func (f *fakeNode) AddRelay(_ context.Context, code string) (Relay, error) {
	return Relay{Name: "nas", Problems: []Problem{}}, f.call("AddRelay", code)
}

func (f *fakeNode) RemoveRelay(_ context.Context, name string) error {
	return f.call("RemoveRelay", name)
}

func (f *fakeNode) Backups(context.Context) ([]Backup, error) {
	return []Backup{{"Documents", "laptop", "/Backups/laptop/Documents", "/home/me/Documents", BackupStored, 3, 5, day1, day2, 1, []Problem{}}}, f.call("Backups")
}

func (f *fakeNode) AddBackup(_ context.Context, dir, name string) (Backup, error) {
	return Backup{Name: name, Source: dir, State: BackupScanning, Problems: []Problem{}}, f.call("AddBackup", dir, name)
}

func (f *fakeNode) RemoveBackup(_ context.Context, name string, keep bool) error {
	return f.call("RemoveBackup", name, keep)
}

func (f *fakeNode) History(_ context.Context, path string) ([]Version, error) {
	return []Version{{"abc", day1, day2, "laptop", 3, day1, true, false, true}}, f.call("History", path)
}

func (f *fakeNode) Restore(_ context.Context, o RestoreOptions) (Restored, error) {
	return Restored{o.To, 1, 2, 3, 4, []Problem{{"a", "b", "c"}}}, f.call("Restore", o)
}

func (f *fakeNode) Copy(_ context.Context, from []string, to string, move bool) (Copied, error) {
	return Copied{from, 1, 2}, f.call("Copy", from, to, move)
}

func (f *fakeNode) Remove(_ context.Context, path string, recursive bool) error {
	return f.call("Remove", path, recursive)
}

func (f *fakeNode) Why(_ context.Context, path string) (Why, error) {
	return Why{
		Path: path, Summary: "it waits", Kind: "file", Size: 5, Modified: day1, State: EntryWaiting, Version: "abc",
		Author: "phone", Written: day2, Others: []string{"phone"}, WaitsFor: "a peer", WaitsFrom: []string{"phone"},
		Conflicts: []string{}, Problems: []Problem{{path, "ignored", "change .sheafignore"}},
	}, f.call("Why", path)
}

func (f *fakeNode) Holds(context.Context) ([]Hold, error) {
	return []Hold{{"h/1", "Sync", "phone", day1, 60, 0, 100, []string{"/Sync/x"}, "60 of 100 were deleted"}}, f.call("Holds")
}

func (f *fakeNode) ReleaseHold(_ context.Context, id string) error { return f.call("ReleaseHold", id) }

func (f *fakeNode) RevertHold(_ context.Context, id string) error { return f.call("RevertHold", id) }

func (f *fakeNode) Log(_ context.Context, path string, limit int) ([]ChangeSet, error) {
	return []ChangeSet{{"c1", day1, "phone", "Sync", []Change{{Moved, "/Sync/b", "/Sync/a", "file", 3}}, 5}}, f.call("Log", path, limit)
}

func (f *fakeNode) Doctor(_ context.Context, deep bool) ([]Check, error) {
	return []Check{{"clock", CheckOK, "right", ""}, {"disk", CheckFault, "full", "make room"}}, f.call("Doctor", deep)
}

func (f *fakeNode) Config(context.Context) ([]config.Value, error) {
	return []config.Value{{Key: "watch", Value: "true", Default: "true", Meaning: "m", Set: true}}, f.call("Config")
}

func (f *fakeNode) SetConfig(_ context.Context, key, value string) error {
	return f.call("SetConfig", key, value)
}

func (f *fakeNode) Events(ctx context.Context, after uint64) (<-chan Event, error) {
	err := f.call("Events", after)
	if err != nil {
		return nil, err
	}
	if f.events != nil {
		return f.events(ctx), nil
	}
	ch := make(chan Event)
	close(ch)
	return ch, nil
}

func (f *fakeNode) Stop(_ context.Context, restart bool) error { return f.call("Stop", restart) }

// serve runs a node's API and gives its home.
func serve(t *testing.T, n Node, o Options, tcp string) (home string, l *Listeners) {
	t.Helper()
	home = t.TempDir()
	l, err := Listen(home, tcp)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- NewServer(n, o).Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return home, l
}

// client gives a client that is closed with the test.
func client(t *testing.T, home string) *Client {
	t.Helper()
	c := NewClient(home)
	t.Cleanup(c.Close)
	return c
}

// everyCall calls each method of a Node and gives what came back, by name.
func everyCall(ctx context.Context, n Node) map[string][]any {
	out := map[string][]any{}
	put := func(name string, results ...any) { out[name] = results }
	st, err := n.Status(ctx)
	put("Status", st, err)
	put("Wait", n.Wait(ctx, WaitOptions{Relay: true}))
	addrs, err := n.Addresses(ctx)
	put("Addresses", addrs, err)
	peer, err := n.Connect(ctx, "/ip4/192.0.2.1/tcp/1/p2p/X")
	put("Connect", peer, err)
	devices, err := n.Devices(ctx)
	put("Devices", devices, err)
	inv, err := n.InviteDevice(ctx, time.Hour)
	put("InviteDevice", inv, err)
	put("RenameDevice", n.RenameDevice(ctx, "old/name ä", "new"))
	put("RemoveDevice", n.RemoveDevice(ctx, "a?b%2f"))
	put("Pause", n.Pause(ctx, "Sync"))
	put("Resume", n.Resume(ctx, ""))
	list, err := n.List(ctx, "/Sync/a b%2F?#ä\\", true, Page{"cur&sor", 7})
	put("List", list, err)
	root, err := n.List(ctx, "/", false, Page{})
	put("List root", root, err)
	conflicts, err := n.Conflicts(ctx)
	put("Conflicts", conflicts, err)
	put("ResolveConflict", n.ResolveConflict(ctx, "/Sync/a", KeepBoth))
	trash, err := n.Trash(ctx)
	put("Trash", trash, err)
	paths, err := n.RestoreTrash(ctx, []string{"1", "/Sync/x"}, "/Sync/to")
	put("RestoreTrash", paths, err)
	count, bytes, err := n.EmptyTrash(ctx, nil)
	put("EmptyTrash all", count, bytes, err)
	count, bytes, err = n.EmptyTrash(ctx, []string{"1"})
	put("EmptyTrash", count, bytes, err)
	relays, err := n.Relays(ctx)
	put("Relays", relays, err)
	relay, err := n.AddRelay(ctx, "sheaf-relay-abc")
	put("AddRelay", relay, err)
	put("RemoveRelay", n.RemoveRelay(ctx, "n/a s"))
	backups, err := n.Backups(ctx)
	put("Backups", backups, err)
	backup, err := n.AddBackup(ctx, "/home/me/Documents", "docs")
	put("AddBackup", backup, err)
	put("RemoveBackup", n.RemoveBackup(ctx, "/Backups/laptop/a&b", true))
	versions, err := n.History(ctx, "/Backups/laptop/a b")
	put("History", versions, err)
	restored, err := n.Restore(ctx, RestoreOptions{"/Backups/laptop", "/tmp/x", "abc", day2})
	put("Restore", restored, err)
	copied, err := n.Copy(ctx, []string{"/Backups/x", "/home/y"}, "/Archive", false)
	put("Copy", copied, err)
	copied, err = n.Copy(ctx, []string{"/Archive/x"}, "/Archive/y", true)
	put("Copy move", copied, err)
	put("Remove", n.Remove(ctx, "/Archive/x&y", true))
	why, err := n.Why(ctx, "/Sync/a&b")
	put("Why", why, err)
	holds, err := n.Holds(ctx)
	put("Holds", holds, err)
	put("ReleaseHold", n.ReleaseHold(ctx, "h/1"))
	put("RevertHold", n.RevertHold(ctx, "h 2"))
	log, err := n.Log(ctx, "/Sync", 9)
	put("Log", log, err)
	checks, err := n.Doctor(ctx, true)
	put("Doctor", checks, err)
	values, err := n.Config(ctx)
	put("Config", values, err)
	put("SetConfig", n.SetConfig(ctx, "watch", "false"))
	put("Stop", n.Stop(ctx, true))
	return out
}

// same tells whether two values are the same in JSON, where nil lists are empty.
func sameJSON(t *testing.T, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}
