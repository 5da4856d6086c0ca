package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication"
)

// Kinds of folders in a description besides syncName.
const (
	backupKind = "backup" // a directory of this device that relays keep a mirror of
	partedKind = "parted" // the mirror was removed: its entries are to be deleted at relays
)

// An ownBackup is a directory of this device of which relays keep a mirror. It is seen and
// recorded like any folder, and nothing is ever written to it but its marker.
type ownBackup struct {
	f    *Folder
	desc folderDescription
	end  context.CancelFunc // nil until it runs
	done chan struct{}      // closed when it has ended
}

func newBackup(f *Folder, d folderDescription) *ownBackup {
	f.source = true
	return &ownBackup{f: f, desc: d, done: make(chan struct{})}
}

// A mirror names the backup of another device that a stored folder is.
type mirror struct {
	device, name string

	mu       sync.Mutex
	followed time.Time // when all that a relay had was last taken in
}

// followedTo notes that all that a relay has has been taken in.
func (f *Folder) followedTo(relay [32]byte) {
	if f.mirror != nil {
		f.mirror.mu.Lock()
		f.mirror.followed = time.Now()
		f.mirror.mu.Unlock()
	}
	if f.source {
		f.caughtUp(relay)
	}
}

// metRelay tells a folder that waits to meet another device that a relay had all that
// there is: so it is if none of the account's other devices is there, and the relay knows
// of the folder, or this device was recovered from what the relay has.
func (n *Node) metRelay(f *Folder, relay mesh.DeviceID, knows bool) {
	if f.stored || f.source || !f.isFresh() || len(n.connectedPeers()) > 0 {
		return
	}
	n.describing.Lock()
	recovered := n.desc.Recovered
	n.describing.Unlock()
	if knows || recovered {
		f.caughtUp(replication.DeviceID(relay))
	}
}

// mayApply tells whether entries can be joined into the index without waiting.
func (f *Folder) mayApply() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.paused && (f.fresh || f.shown.rounds > 0)
}

// runBackups runs the backups of this device, those that are added meanwhile too.
func (n *Node) runBackups(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	run := func(b *ownBackup) {
		ctx, end := context.WithCancel(ctx)
		n.mu.Lock()
		removed := !slices.Contains(n.backups, b)
		b.end = end
		n.mu.Unlock()
		if removed { // before it had begun
			end()
			close(b.done)
			return
		}
		running.Go(func() {
			defer close(b.done)
			defer end()
			if err := b.f.Run(ctx); err != nil {
				n.log.Error("backup ended", "backup", b.f.name, "err", err)
			}
		})
	}
	for _, b := range n.ownBackups() {
		run(b)
	}
	for {
		select {
		case b := <-n.begun:
			run(b)
			n.stir()
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) ownBackups() []*ownBackup {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.backups)
}

// diskFolders gives all folders that directories of this device show.
func (n *Node) diskFolders() []*Folder {
	list := slices.Clone(n.folders)
	for _, b := range n.ownBackups() {
		list = append(list, b.f)
	}
	return list
}

// deposits gives the folders that relays are to keep.
func (n *Node) deposits() []deposited {
	var list []deposited
	for _, f := range n.stored {
		d := deposited{f: f}
		if f == n.archiveFolder {
			d.elsewhere = n.archiveSource
		}
		list = append(list, d)
	}
	for _, f := range n.diskFolders() {
		if !f.isPaused() {
			list = append(list, deposited{f: f})
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.parting {
		list = append(list, deposited{f: f})
	}
	return list
}

// followedFolders gives the folders that are read from relays.
func (n *Node) followedFolders() []*Folder {
	list := slices.Clone(n.stored)
	for _, f := range n.folders {
		// Until its disk has been looked through nothing is joined into its index.
		if f.mayApply() {
			list = append(list, f)
		}
	}
	for _, b := range n.ownBackups() {
		if b.f.isFresh() {
			list = append(list, b.f)
		}
	}
	mirrors, err := n.mirrorList()
	if err != nil {
		n.log.Error("list backups", "err", err)
	}
	return append(list, mirrors...)
}

// backupID derives a backup's folder from what stands for it among the backups.
func (n *Node) backupID(entry crdt.EntryID) crdt.FolderID {
	state, _ := n.account.snapshot()
	return crdt.FolderID(state.FolderID("backup/" + entry.String()))
}

// A backupEntry is a backup as the account's list of them has it.
type backupEntry struct {
	device, name string
	id           crdt.EntryID
}

// backupEntries lists the backups of all devices.
func (n *Node) backupEntries() (list []backupEntry, err error) {
	err = n.backupsFolder.walkStored(context.Background(), crdt.Root, func(e storedEntry) error {
		device, name, ok := strings.Cut(e.path, "/")
		if ok && !strings.Contains(name, "/") && e.entry.Kind == crdt.Directory {
			list = append(list, backupEntry{device, name, e.id})
		}
		return nil
	})
	return list, err
}

// mirrorList gives the folders of other devices' backups.
func (n *Node) mirrorList() (list []*Folder, err error) {
	entries, err := n.backupEntries()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		f, err := n.mirrorOf(e)
		if err != nil {
			return nil, err
		}
		if f != nil {
			list = append(list, f)
		}
	}
	return list, nil
}

// mirrorOf gives the folder of another device's backup; nil if it is one of ours.
func (n *Node) mirrorOf(e backupEntry) (*Folder, error) {
	id := n.backupID(e.id)
	if slices.ContainsFunc(n.ownBackups(), func(b *ownBackup) bool { return b.f.id == id }) {
		return nil, nil
	}
	n.mu.Lock()
	f := n.mirrors[e.id]
	n.mu.Unlock()
	if f != nil && f.mirror.device == e.device && f.mirror.name == e.name {
		return f, nil
	}
	f, err := n.newStored(id, path.Join("Backups", e.device, e.name))
	if err != nil {
		return nil, err
	}
	f.mirror = &mirror{device: e.device, name: e.name}
	n.mu.Lock()
	defer n.mu.Unlock()
	if other := n.mirrors[e.id]; other != nil && other.mirror.device == e.device && other.mirror.name == e.name {
		return other, nil // somebody was first
	}
	n.mirrors[e.id] = f
	return f, nil
}

// AddBackup implements api.Node.
func (n *Node) AddBackup(ctx context.Context, dir, name string) (api.Backup, error) {
	if name == "" {
		name = filepath.Base(dir)
	}
	if err := n.checkBackup(dir, name); err != nil {
		return api.Backup{}, err
	}
	root, err := disk.NewOS(dir)
	if err != nil {
		return api.Backup{}, err
	}
	defer func() { _ = root.Close() }()
	if err := setupError(disk.CheckServed(root)); err != nil {
		return api.Backup{}, err
	}
	var entry crdt.EntryID
	err = n.backupsFolder.change(func(tx *store.Tx, rec *crdt.Recorder) (err error) {
		entry, err = directory(tx, rec, n.desc.Name, name)
		return err
	})
	if err != nil {
		return api.Backup{}, err
	}
	id := n.backupID(entry)
	if err := setupError(disk.Init(root, id)); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			err = api.Errorf(api.ErrFailed, "give this user leave to write in it: a small marker, .sheaf, tells whether it is the same directory", "%s cannot be backed up: %w", dir, err)
		}
		return api.Backup{}, err
	}
	d := folderDescription{ID: hex.EncodeToString(id[:]), Name: path.Join("Backups", n.desc.Name, name), Kind: backupKind, Path: dir}
	b, err := n.keepBackup(d)
	if err != nil {
		return api.Backup{}, err
	}
	select {
	case n.begun <- b:
	case <-ctx.Done(): // it is run at the next start
	}
	return n.backupStatus(b)
}

// keepBackup writes down that a directory is backed up.
func (n *Node) keepBackup(d folderDescription) (*ownBackup, error) {
	f, err := n.newDiskFolder(d)
	if err != nil {
		return nil, err
	}
	b := newBackup(f, d)
	n.describing.Lock()
	defer n.describing.Unlock()
	desc := n.desc
	desc.Folders = append(slices.DeleteFunc(slices.Clone(n.desc.Folders), func(x folderDescription) bool { return x.ID == d.ID }), d)
	if err := n.home.describe(desc); err != nil {
		return nil, err
	}
	n.desc.Folders = desc.Folders
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parting = slices.DeleteFunc(n.parting, func(x *Folder) bool { return x.id == f.id })
	n.backups = append(n.backups, b)
	return b, nil
}

// checkBackup judges what a person wants to have backed up.
func (n *Node) checkBackup(dir, name string) error {
	if !filepath.IsAbs(dir) {
		return api.Errorf(api.ErrUsage, "give a full path", "%q is not absolute", dir)
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.ErrNotFound, "give a directory that is there", "there is no %s", dir)
	case err != nil:
		return fmt.Errorf("look at %s: %w", dir, err)
	case !info.IsDir():
		return api.Errorf(api.ErrUsage, "give the directory that it is in", "%s is not a directory", dir)
	}
	if err := crdt.ValidName(name); err != nil {
		return api.Errorf(api.ErrUsage, "choose another with --name", "%q cannot be a backup's name: %w", name, err)
	}
	list, err := n.relayList()
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return api.Errorf(api.ErrConflict, "add one with `sheaf relay add CODE`", "there is no relay to keep a backup")
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if inside(n.home.dir, real) {
		return api.Errorf(api.ErrUsage, "choose directories that do not hold it", "this device's own state in %s would be backed up with %s", n.home.dir, dir)
	}
	for _, f := range n.diskFolders() {
		root := f.root
		if r, err := filepath.EvalSymlinks(root); err == nil {
			root = r
		}
		switch {
		case f.source && root == real:
			return api.Errorf(api.ErrConflict, "see `sheaf backup status`", "%s is backed up already, as /%s", dir, f.name)
		case inside(real, root) && !f.source:
			return api.Errorf(api.ErrConflict, "nothing to do: with a relay, its versions and what is deleted there are kept, too", "%s is in /%s, which relays keep already", dir, f.name)
		case inside(real, root):
			return api.Errorf(api.ErrConflict, "nothing to do", "%s is in %s, which is backed up already as /%s", dir, root, f.name)
		case inside(root, real):
			return api.Errorf(api.ErrConflict, "choose the directories beside it", "%s holds %s, which is kept already as /%s", dir, root, f.name)
		case f.source && strings.EqualFold(f.name, path.Join("Backups", n.desc.Name, name)):
			return api.Errorf(api.ErrConflict, "choose another with --name", "there is a backup %s of %s already", name, f.root)
		}
	}
	return nil
}

// Backups implements api.Node.
func (n *Node) Backups(ctx context.Context) ([]api.Backup, error) {
	out := []api.Backup{}
	for _, b := range n.ownBackups() {
		s, err := n.backupStatus(b)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	mirrors, err := n.mirrorList()
	if err != nil {
		return nil, err
	}
	for _, f := range mirrors {
		n.refresh(ctx, f)
		st, err := f.stats()
		if err != nil {
			return nil, err
		}
		f.mirror.mu.Lock()
		followed := f.mirror.followed
		f.mirror.mu.Unlock()
		s := api.Backup{
			Name: f.mirror.name, Device: f.mirror.device, Path: "/" + f.name, State: api.BackupElsewhere,
			Files: st.Files + st.Symlinks, Bytes: st.Bytes, Problems: []api.Problem{},
		}
		if !followed.IsZero() {
			s.SeenThrough = followed.UTC()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b api.Backup) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// backupStatus describes one of this device's backups.
func (n *Node) backupStatus(b *ownBackup) (api.Backup, error) {
	f := b.f
	st, err := f.stats()
	if err != nil {
		return api.Backup{}, err
	}
	f.mu.Lock()
	shown, paused := f.shown, f.paused
	f.mu.Unlock()
	out := api.Backup{
		Name: path.Base(f.name), Device: n.desc.Name, Path: "/" + f.name, Source: f.root, State: api.BackupStored,
		Files: st.Files + st.Symlinks, Bytes: st.Bytes, Problems: f.listProblems(),
	}
	if out.Problems == nil {
		out.Problems = []api.Problem{}
	}
	stored := false
	for _, l := range n.relayLinks() {
		at, waiting, done := l.storedThrough(f)
		if at.After(out.StoredThrough) {
			out.StoredThrough = at.UTC()
		}
		stored = stored || done
		out.Waiting = max(out.Waiting, int64(waiting))
	}
	switch {
	case shown.state == api.Failing:
		out.State = api.BackupFailing
	case paused:
		out.State = api.BackupPaused
	case !shown.quiet:
		out.State = api.BackupScanning
	case !stored:
		out.State = api.BackupStoring
	}
	return out, nil
}

// storedThrough gives when the relay last had all of a folder, how many entries wait for
// their content, and whether it has all of it now.
func (l *relayLink) storedThrough(f *Folder) (at time.Time, waiting int, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.through[f.id]
	return h.at, h.waiting, ok && h.waiting == 0 && h.seq >= f.index.Seq()
}

// RemoveBackup implements api.Node. name is one of this device's backups, or a path such
// as /Backups/laptop/Documents. With keep it is only not continued.
func (n *Node) RemoveBackup(ctx context.Context, name string, keep bool) error {
	entries, err := n.backupEntries()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(entries, func(e backupEntry) bool {
		return name == path.Join("/Backups", e.device, e.name) || e.device == n.desc.Name && e.name == name
	})
	if at < 0 {
		return api.Errorf(api.ErrNotFound, "see `sheaf backup list`", "there is no backup %q", name)
	}
	e := entries[at]
	id := n.backupID(e.id)
	own := slices.IndexFunc(n.ownBackups(), func(b *ownBackup) bool { return b.f.id == id })
	if own < 0 && keep {
		return api.Errorf(api.ErrConflict, "run this on "+e.device, "%s is a backup of another device: only that one can end it and keep what is stored", name)
	}
	var f *Folder
	if own >= 0 {
		b := n.ownBackups()[own]
		if f, err = n.endBackup(ctx, b, keep); err != nil {
			return err
		}
	} else if f, err = n.partMirror(ctx, e); err != nil {
		return err
	}
	if keep {
		return nil
	}
	if err := f.removeAll(ctx); err != nil {
		return err
	}
	err = n.backupsFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
		if _, ok, err := tx.Entry(e.id); err != nil || !ok {
			return err
		}
		return rec.Remove(e.id)
	})
	n.stir()
	return err
}

// endBackup stops backing up a directory. What is stored stays, until it is removed: for
// that it gives the folder, without a disk.
func (n *Node) endBackup(ctx context.Context, b *ownBackup, keep bool) (*Folder, error) {
	f, err := n.newStored(b.f.id, b.f.name)
	if err != nil {
		return nil, err
	}
	if err := n.forgetBackup(b, f, keep); err != nil {
		return nil, err
	}
	n.mu.Lock()
	end := b.end
	n.mu.Unlock()
	if end != nil {
		end()
		select {
		case <-b.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if root, err := disk.NewOS(b.f.root); err == nil {
		disk.Leave(root)
		_ = root.Close()
	}
	return f, nil
}

// forgetBackup writes down that a directory is backed up no longer and, unless what is
// stored is kept, that relays are to hear of its end.
func (n *Node) forgetBackup(b *ownBackup, parted *Folder, keep bool) error {
	n.describing.Lock()
	defer n.describing.Unlock()
	desc := n.desc
	desc.Folders = slices.DeleteFunc(slices.Clone(n.desc.Folders), func(x folderDescription) bool { return x.ID == b.desc.ID })
	if !keep {
		d := b.desc
		d.Kind, d.Path = partedKind, ""
		desc.Folders = append(desc.Folders, d)
	}
	if err := n.home.describe(desc); err != nil {
		return err
	}
	n.desc.Folders = desc.Folders
	n.mu.Lock()
	defer n.mu.Unlock()
	n.backups = slices.DeleteFunc(n.backups, func(x *ownBackup) bool { return x == b })
	if !keep {
		n.parting = append(n.parting, parted)
	}
	return nil
}

// partMirror takes over the removal of another device's backup.
func (n *Node) partMirror(ctx context.Context, e backupEntry) (*Folder, error) {
	f, err := n.mirrorOf(e)
	if err != nil {
		return nil, err
	}
	if err := n.refreshNow(ctx, f); err != nil {
		return nil, api.Errorf(api.ErrFailed, "see `sheaf relay list`, and try again", "what is stored of it could not be read: %w", err)
	}
	n.describing.Lock()
	defer n.describing.Unlock()
	desc := n.desc
	desc.Folders = append(slices.Clone(n.desc.Folders), folderDescription{ID: hex.EncodeToString(f.id[:]), Name: f.name, Kind: partedKind})
	if err := n.home.describe(desc); err != nil {
		return nil, err
	}
	n.desc.Folders = desc.Folders
	n.mu.Lock()
	defer n.mu.Unlock()
	n.parting = append(n.parting, f)
	return f, nil
}

// removeAll records the deletion of all that a stored folder shows, a bounded number at a
// time, what is in a directory before the directory.
func (f *Folder) removeAll(ctx context.Context) error {
	var ids []crdt.EntryID
	err := f.walkStored(ctx, crdt.Root, func(e storedEntry) error {
		ids = append(ids, e.id)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Reverse(ids)
	for part := range slices.Chunk(ids, 500) {
		err := f.change(func(_ *store.Tx, rec *crdt.Recorder) error { return rec.Remove(part...) })
		if err != nil {
			return err
		}
	}
	return nil
}
