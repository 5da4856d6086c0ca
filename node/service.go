package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sheaf/node/api"
	"sheaf/node/config"
	"sheaf/node/mesh"
	"sheaf/replication"
	"sheaf/replication/group"
)

// Status implements api.Node.
func (n *Node) Status(ctx context.Context) (api.Status, error) {
	s := api.Status{
		Device:  api.Self{Name: n.account.name(n.mesh.ID()), ID: mesh.PeerID(n.mesh.ID()), Version: n.o.Version},
		State:   api.Idle,
		Started: n.started.UTC(),
	}
	var err error
	if s.Relays, err = n.Relays(ctx); err != nil {
		return s, err
	}
	traffic := n.fetcher.Traffic()
	s.Traffic = api.Traffic{
		SentBytes:     int64(traffic.Index.Sent + traffic.Blocks.Sent + traffic.Other.Sent),             //nolint:gosec // below 2^63 for some centuries
		ReceivedBytes: int64(traffic.Index.Received + traffic.Blocks.Received + traffic.Other.Received), //nolint:gosec // likewise
	}
	paused := len(n.folders) > 0
	rank := map[api.State]int{api.Failing: 3, api.Syncing: 2, api.Scanning: 1}
	for _, f := range n.diskFolders() {
		folder, err := f.status()
		if err != nil {
			return s, err
		}
		s.Folders = append(s.Folders, folder)
		paused = paused && folder.State == api.Paused
		if rank[folder.State] > rank[s.State] {
			s.State = folder.State
		}
	}
	if paused && s.State != api.Failing {
		s.State = api.Paused
	}
	for _, p := range n.mesh.Peers() {
		if n.account.member(p.ID) {
			s.Peers = append(s.Peers, n.peer(p))
		}
	}
	s.Problems = n.listProblems()
	return s, nil
}

// listProblems gives what is wrong with the node as a whole.
func (n *Node) listProblems() []api.Problem {
	n.mu.Lock()
	list := make([]api.Problem, 0, len(n.problems))
	for _, p := range n.problems {
		list = append(list, p)
	}
	n.mu.Unlock()
	state, _ := n.account.snapshot()
	if _, ok := state.Member(n.account.keys.ID()); !ok {
		list = append(list, api.Problem{What: "this device was removed from the account: nothing is sent or received any more", Remedy: "its files stay as they are; to join again use a new --home and a new code"})
	}
	for _, a := range state.Alarms {
		if a.Settled {
			continue
		}
		var names []string
		for _, id := range a.Devices {
			names = append(names, n.account.name(mesh.DeviceID(id)))
		}
		switch a.Kind {
		case group.Fork:
			list = append(list, api.Problem{What: strings.Join(names, ", ") + " says different things to different devices: its keys are in two hands, or its disk was restored from a copy", Remedy: "if you know of no copy, remove it with `sheaf device remove`"})
		case group.DoubleClaim:
			list = append(list, api.Problem{What: "one invite code was used by several devices: " + strings.Join(names, ", "), Remedy: "remove those that are not yours with `sheaf device remove`"})
		}
	}
	slices.SortFunc(list, func(a, b api.Problem) int { return strings.Compare(a.What, b.What) })
	return list
}

func (n *Node) peer(p mesh.Peer) api.Peer {
	out := api.Peer{Name: n.account.name(p.ID), ID: mesh.PeerID(p.ID), Connected: p.Connected, LastSeen: n.lastSeen(p)}
	if !p.Connected {
		return out
	}
	out.Path, out.RTT = string(p.Path), float64(p.RTT.Microseconds())/1000
	if len(p.Addrs) > 0 {
		out.Address = p.Addrs[0]
	}
	out.InStep = len(n.folders) > 0
	for _, f := range n.folders {
		out.InStep = out.InStep && f.inStep(replication.DeviceID(p.ID))
	}
	return out
}

func (n *Node) lastSeen(p mesh.Peer) time.Time {
	if p.Connected {
		return time.Now().UTC()
	}
	if !p.Since.IsZero() {
		return p.Since.UTC()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.seen[replication.DeviceID(p.ID)].UTC()
}

// status describes the folder.
func (f *Folder) status() (api.Folder, error) {
	st, err := f.stats()
	if err != nil {
		return api.Folder{}, err
	}
	f.mu.Lock()
	s := f.shown
	f.mu.Unlock()
	kind := syncName
	if f.source {
		kind = backupKind
	}
	out := api.Folder{
		Name: f.name, Path: f.root, Kind: kind, State: s.state, Files: st.Files + st.Symlinks, Directories: st.Directories,
		Bytes: st.Bytes, NeedFiles: s.behind, NeedBytes: s.needed, Conflicts: st.Conflicts, Problems: f.listProblems(),
	}
	if f.isPaused() && s.state != api.Failing {
		out.State = api.Paused
	}
	return out, nil
}

// Wait implements api.Node.
func (n *Node) Wait(ctx context.Context, o api.WaitOptions) error {
	for _, f := range n.folders {
		if err := f.quiesce(ctx, n.connectedPeers); err != nil {
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
				return api.Errorf(api.ErrTimeout, "wait longer (--timeout), or see `sheaf status`", "%s is busy", f.name)
			}
			return err
		}
	}
	if !o.Relay {
		return nil
	}
	for _, b := range n.ownBackups() {
		if err := b.f.quiesce(ctx, func() []replication.DeviceID { return nil }); err != nil {
			return err
		}
	}
	return n.awaitRelays(ctx)
}

// Addresses implements api.Node.
func (n *Node) Addresses(context.Context) ([]string, error) { return n.mesh.Addresses(), nil }

// Connect implements api.Node.
func (n *Node) Connect(ctx context.Context, addr string) (api.Peer, error) {
	id, err := n.mesh.Connect(ctx, addr)
	switch {
	case errors.Is(err, mesh.ErrBadAddress):
		return api.Peer{}, api.Errorf(api.ErrUsage, "give an address as `sheaf address` prints it on the other device", "%q is not an address", addr)
	case errors.Is(err, mesh.ErrNotMember), errors.Is(err, mesh.ErrRefused):
		return api.Peer{}, api.Errorf(api.ErrRefused, "pair the two devices first: `sheaf device invite` here, `sheaf join` there", "that device is not one of yours, or does not know this one: %w", err)
	case errors.Is(err, mesh.ErrWrongIdentity):
		return api.Peer{}, api.Errorf(api.ErrRefused, "ask for its address again with `sheaf address` there", "another device answers at that address: %w", err)
	case err != nil:
		return api.Peer{}, api.Errorf(api.ErrFailed, "see that the other device runs and that its port can be reached", "not connected: %w", err)
	}
	for _, p := range n.mesh.Peers() {
		if p.ID == id {
			return n.peer(p), nil
		}
	}
	return api.Peer{Name: n.account.name(id), ID: mesh.PeerID(id), Connected: true}, nil
}

// Devices implements api.Node.
func (n *Node) Devices(context.Context) ([]api.Device, error) {
	online := make(map[mesh.DeviceID]mesh.Peer)
	for _, p := range n.mesh.Peers() {
		online[p.ID] = p
	}
	state, _ := n.account.snapshot()
	var list []api.Device
	for _, m := range state.Members {
		if m.Paper {
			continue
		}
		id := mesh.DeviceID(m.ID)
		d := api.Device{Name: n.account.name(id), ID: mesh.PeerID(id), This: id == n.mesh.ID()}
		if d.This {
			d.Connected, d.LastSeen = true, time.Now().UTC()
			list = slices.Insert(list, 0, d)
			continue
		}
		if p, ok := online[id]; ok {
			d.Connected, d.LastSeen = p.Connected, n.lastSeen(p)
		}
		list = append(list, d)
	}
	return list, nil
}

// InviteDevice implements api.Node.
func (n *Node) InviteDevice(_ context.Context, expires time.Duration) (api.Invitation, error) {
	if expires <= 0 {
		return api.Invitation{}, api.Errorf(api.ErrUsage, "give a time such as 7d", "an invite that expires at once is of no use")
	}
	until := time.Now().Add(expires).Truncate(time.Second).UTC()
	addresses := n.inviteAddresses()
	var text string
	err := n.account.say(func(l *group.Log, k group.Keys) ([]group.Statement, error) {
		list, code, err := l.Invite(rand.Reader, k, group.Offering{Role: group.Owner, Uses: 1, Expires: until, Addresses: addresses})
		if err == nil {
			text = code.Text()
		}
		return list, err
	})
	if err != nil {
		return api.Invitation{}, statementError(err)
	}
	n.stir() // relays are to know the invite, so that it is good while this device is off
	return api.Invitation{Code: text, Expires: until}, nil
}

// maxInviteAddresses keeps codes short enough to be copied by hand.
const maxInviteAddresses = 4

func (n *Node) inviteAddresses() []string {
	suffix := "/p2p/" + mesh.PeerID(n.mesh.ID())
	var out []string
	for _, a := range n.mesh.Addresses() {
		if len(out) < maxInviteAddresses {
			out = append(out, strings.TrimSuffix(a, suffix))
		}
	}
	// Relays let the new device in while this one is off.
	relays, err := n.relayList()
	if err != nil {
		n.log.Error("list the relays", "err", err)
	}
	for _, r := range relays[:min(len(relays), maxInviteRelays)] {
		if len(out)+maxInviteRelays > maxInviteAddresses {
			out = out[:maxInviteAddresses-maxInviteRelays]
		}
		out = append(out, r.addresses[0])
	}
	return out
}

// maxInviteRelays is how many relays an invite names.
const maxInviteRelays = 2

// device finds a device of the account by its name or ID.
func (n *Node) device(name string) (group.Member, error) {
	state, _ := n.account.snapshot()
	var found []group.Member
	for _, m := range state.Members {
		if !m.Paper && (m.Name == name || mesh.PeerID(mesh.DeviceID(m.ID)) == name) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return group.Member{}, api.Errorf(api.ErrNotFound, "see `sheaf device list`", "there is no device %q", name)
	case 1:
		return found[0], nil
	}
	return group.Member{}, api.Errorf(api.ErrConflict, "name it by its ID, see `sheaf device list --json`", "%d devices are called %q", len(found), name)
}

// RenameDevice implements api.Node.
func (n *Node) RenameDevice(_ context.Context, name, newName string) error {
	m, err := n.device(name)
	if err != nil {
		return err
	}
	if _, err := n.device(newName); err == nil && newName != name {
		return api.Errorf(api.ErrConflict, "choose another name", "there is a device %q already", newName)
	}
	err = n.account.say(func(l *group.Log, k group.Keys) ([]group.Statement, error) {
		return l.Rename(rand.Reader, k, m.ID, newName)
	})
	if err != nil {
		return statementError(err)
	}
	if m.ID == n.account.keys.ID() {
		n.describing.Lock()
		defer n.describing.Unlock()
		n.desc.Name = newName
		return n.home.describe(n.desc)
	}
	return nil
}

// RemoveDevice implements api.Node.
func (n *Node) RemoveDevice(ctx context.Context, name string) error {
	m, err := n.device(name)
	if err != nil {
		return err
	}
	if m.ID == n.account.keys.ID() {
		return api.Errorf(api.ErrUsage, "run it on another device of yours", "a device cannot remove itself")
	}
	cuts, err := n.uploadCuts(ctx, m.ID)
	if err != nil {
		return err
	}
	// While it still is a member a way to it is opened, on which it is told.
	bye := n.farewell(ctx, mesh.DeviceID(m.ID))
	err = n.account.say(func(l *group.Log, k group.Keys) ([]group.Statement, error) {
		return l.Remove(rand.Reader, k, group.Departure{Device: m.ID, Cuts: cuts})
	})
	bye(err == nil)
	return statementError(err)
}

// statementError gives what can be wrong with a statement its remedy.
func statementError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, group.ErrNotMember):
		return api.Errorf(api.ErrRefused, "join again with a new --home", "this device is no longer one of the account")
	case errors.Is(err, group.ErrName):
		return api.Errorf(api.ErrUsage, "give a short name without control characters", "%w", err)
	case errors.Is(err, group.ErrNoKey):
		return api.Errorf(api.ErrRefused, "let it connect to another of your devices first", "this device waits for the account's new keys")
	}
	return fmt.Errorf("change the account: %w", err)
}

// Pause implements api.Node.
func (n *Node) Pause(ctx context.Context, name string) error { return n.setPaused(ctx, name, true) }

// Resume implements api.Node.
func (n *Node) Resume(ctx context.Context, name string) error { return n.setPaused(ctx, name, false) }

func (n *Node) setPaused(_ context.Context, name string, paused bool) error {
	found := false
	for _, f := range n.diskFolders() {
		if name != "" && !strings.EqualFold(f.name, strings.Trim(name, "/")) {
			continue
		}
		found = true
		if err := f.pause(paused, !paused && name != ""); err != nil {
			return err
		}
	}
	if !found {
		return api.Errorf(api.ErrNotFound, "see `sheaf status`", "there is no folder %q", name)
	}
	n.foldersChanged()
	return nil
}

// pause stops or resumes sending, fetching and applying. alone ends the waiting
// for another device, by a person's word.
func (f *Folder) pause(paused, alone bool) error {
	f.mu.Lock()
	wasPaused := f.paused
	f.paused = paused
	if alone && !wasPaused {
		f.fresh = false
	}
	s := f.standingLocked()
	f.announceLocked()
	f.mu.Unlock()
	f.kick()
	return f.o.remember(s)
}

// Holds implements api.Node.
func (n *Node) Holds(context.Context) ([]api.Hold, error) {
	var list []api.Hold
	for _, f := range n.diskFolders() {
		f.mu.Lock()
		list = append(list, f.shownHolds...)
		f.mu.Unlock()
	}
	return list, nil
}

// ReleaseHold implements api.Node.
func (n *Node) ReleaseHold(ctx context.Context, id string) error {
	return n.onHold(ctx, id, (*Folder).releaseHold)
}

// RevertHold implements api.Node.
func (n *Node) RevertHold(ctx context.Context, id string) error {
	done := make(chan error, 1)
	err := n.onHold(ctx, id, func(f *Folder, h *holdRecord) error {
		switch {
		case h.Incoming:
			done <- f.revertHold(h)
		case f.undoing != nil:
			return api.Errorf(api.ErrConflict, "wait a moment", "it is being reverted already")
		default:
			f.undoing = &undoing{id: h.ID, since: time.Now(), done: done}
		}
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Node) onHold(ctx context.Context, id string, act func(*Folder, *holdRecord) error) error {
	for _, f := range n.diskFolders() {
		found := false
		err := f.do(ctx, func(context.Context) error {
			for _, h := range []*holdRecord{f.holds.out, f.holds.in} {
				if h != nil && h.ID == id && !h.Released {
					found = true
					return act(f, h)
				}
			}
			return nil
		})
		if err != nil || found {
			return err
		}
	}
	return api.Errorf(api.ErrNotFound, "see `sheaf hold list`", "there is no hold %q", id)
}

// Log implements api.Node.
func (n *Node) Log(_ context.Context, p string, limit int) ([]api.ChangeSet, error) {
	if p != "" {
		f, inside, err := n.folderAt(p)
		if err != nil {
			return nil, err
		}
		p = ""
		if f != nil {
			p = f.treePath(inside)
		}
	}
	return n.changelog.list(p, limit)
}

// Config implements api.Node.
func (n *Node) Config(context.Context) ([]config.Value, error) { return config.Values(n.home.dir) }

// SetConfig implements api.Node.
func (n *Node) SetConfig(_ context.Context, key, value string) error {
	if err := config.Set(n.home.dir, key, value); err != nil {
		var e *config.Error
		if errors.As(err, &e) {
			return &api.Error{Kind: api.ErrUsage, Message: e.Message, Remedy: e.Remedy, Cause: err}
		}
		return err
	}
	cfg, err := config.Read(n.home.dir)
	if err != nil {
		return err
	}
	n.fetcher.SetLimits(cfg.Limits.Upload, cfg.Limits.Download)
	return nil
}

// Events implements api.Node.
func (n *Node) Events(ctx context.Context, after uint64) (<-chan api.Event, error) {
	return n.events.listen(ctx, after), nil
}

func (n *Node) event(kind string, data any) { n.events.add(kind, data) }

// Stop implements api.Node.
func (n *Node) Stop(_ context.Context, restart bool) error {
	select {
	case n.stop <- restart:
	default: // it is stopping already
	}
	return nil
}
