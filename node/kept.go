package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// errNoRelayHas is when no relay can give what is asked for.
var errNoRelayHas = errors.New("no relay that is reached has it")

// atRelays runs fn over a stream of its own to each relay that can be reached, until one
// gives no error. The first error is given if all do.
func (n *Node) atRelays(ctx context.Context, fn func(l *relayLink, c *deposit.Client, box *seal.Box, state *group.State) error) error {
	links := n.relayLinks()
	if len(links) == 0 {
		return api.Errorf(api.ErrConflict, "add one with `sheaf relay add CODE`", "this account has no relay")
	}
	box, state, err := n.account.sealer()
	if err != nil {
		return err
	}
	defer box.Close()
	var first error
	for _, l := range links {
		c, err := n.openArchive(ctx, l.id)
		if err == nil {
			err = fn(l, c, box, &state)
			_ = c.Close()
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return relayError(first)
}

// relayError gives what is wrong at a relay the form of what a person is told.
func relayError(err error) error {
	var shown *api.Error
	if err == nil || errors.As(err, &shown) {
		return err
	}
	var refused *deposit.RefusedError
	what, remedy := relayTrouble(err)
	if errors.As(err, &refused) {
		return &api.Error{Kind: api.ErrRefused, Message: what, Remedy: remedy, Cause: err}
	}
	return &api.Error{Kind: api.ErrFailed, Message: what, Remedy: remedy, Cause: err}
}

// refreshAge is how old what is known of another device's backup may be for a person who
// asks now.
const refreshAge = time.Second

// refreshWait is how long a person waits for it.
const refreshWait = 10 * time.Second

// refresh takes in what relays have of a stored folder, if that was not done just now and
// they can be reached; else what is known stands.
func (n *Node) refresh(ctx context.Context, f *Folder) {
	if f.mirror == nil {
		return
	}
	f.mirror.mu.Lock()
	recent := time.Since(f.mirror.followed) < refreshAge
	f.mirror.mu.Unlock()
	if recent || len(n.relayLinks()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	if err := n.refreshNow(ctx, f); err != nil {
		n.log.Info("what relays have of a folder is not known", "folder", f.name, "err", err)
	}
}

// refreshNow takes in what relays have of a stored folder: of each that is reached.
func (n *Node) refreshNow(ctx context.Context, f *Folder) error {
	reached := false
	err := n.atRelays(ctx, func(l *relayLink, c *deposit.Client, box *seal.Box, state *group.State) error {
		if err := l.read(ctx, c, box, state, f); err != nil {
			return err
		}
		reached = true
		return errNextRelay
	})
	if reached {
		return nil
	}
	return err
}

// errNextRelay has atRelays go on with the next relay.
var errNextRelay = errors.New("the next one, too")

// keptAt splits a path of the tree into the folder it leads into, also one that is at
// relays only, and the path inside. It takes in what is new of it first.
func (n *Node) keptAt(ctx context.Context, p string) (*Folder, string, error) {
	f, inside, err := n.folderAt(p)
	if err == nil && f != nil {
		n.refresh(ctx, f)
	}
	return f, inside, err
}

// backupAt gives the backup that a path below /Backups leads into, with the path inside;
// the list of backups itself for what is above them.
func (n *Node) backupAt(rest string) (*Folder, string, error) {
	device, more, _ := strings.Cut(rest, "/")
	name, inside, deeper := strings.Cut(more, "/")
	if more == "" {
		return n.backupsFolder, rest, nil
	}
	if !deeper {
		inside = "."
	}
	entries, err := n.backupEntries()
	if err != nil {
		return nil, "", err
	}
	for _, e := range entries {
		if e.device != device || e.name != name {
			continue
		}
		id := n.backupID(e.id)
		for _, b := range n.ownBackups() {
			if b.f.id == id {
				return b.f, inside, nil
			}
		}
		f, err := n.mirrorOf(e)
		return f, inside, err
	}
	return nil, "", notFound("/Backups/" + rest)
}

func notADirectory(name string) error {
	return api.Errorf(api.ErrConflict, "choose another name", "%q is there already, and is not a directory", name)
}

// partsOf gives the blocks of a version with where they are at relays.
func (n *Node) partsOf(f *Folder, v crdt.Version) ([]deposit.Part, error) {
	var list chunk.List
	var ok bool
	err := f.index.Read(func(r *store.Reader) (err error) {
		list, ok, err = r.ListOf(v)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoRelayHas
	}
	hashes := make([]chunk.Hash, len(list))
	for i, b := range list {
		hashes[i] = b.Hash
	}
	refs, err := n.books.Refs(hashes)
	if err != nil {
		return nil, err
	}
	parts := make([]deposit.Part, len(list))
	for i, b := range list {
		ref, ok := refs[b.Hash]
		if !ok {
			return nil, errNoRelayHas
		}
		parts[i] = deposit.Part{Block: b, Ref: ref}
	}
	return parts, nil
}

// versionID names a version for people: the start of the hash of its record, which is the
// same at all relays.
func versionID(r *seal.Record) string {
	sum := sha256.Sum256(r.Encode())
	return hex.EncodeToString(sum[:6])
}

// A keptVersion is a version at a relay.
type keptVersion struct {
	deposit.Version
	deposit.Told
	id string
}

// versionsOf gives the versions of an entry that a relay keeps, the newest first, those
// that are not to be believed left out.
func versionsOf(ctx context.Context, c *deposit.Client, box *seal.Box, state *group.State, folder crdt.FolderID, id crdt.EntryID) (out []keptVersion, err error) {
	list, _, err := c.Versions(ctx, folder, box.Token(folder, id))
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		t, err := c.TellVersion(ctx, box, state, v)
		if err != nil {
			return nil, err
		}
		if t.Err == nil {
			out = append(out, keptVersion{v, t, versionID(v.Record)})
		}
	}
	slices.SortStableFunc(out, func(a, b keptVersion) int { return -cmpInt(a.Version.Came, b.Version.Came) })
	return out, nil
}

func cmpInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// History implements api.Node: the versions of one file.
func (n *Node) History(ctx context.Context, p string) ([]api.Version, error) {
	f, inside, err := n.keptAt(ctx, p)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, notFound(p)
	}
	id, ok, err := f.findKept(inside)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(p)
	}
	if id == crdt.Root || id.Kind() == crdt.Directory {
		return nil, api.Errorf(api.ErrUsage, "name a file in it", "%s is a directory: files have versions", p)
	}
	var out []api.Version
	err = n.atRelays(ctx, func(_ *relayLink, c *deposit.Client, box *seal.Box, state *group.State) error {
		list, err := versionsOf(ctx, c, box, state, f.id, id)
		if err != nil {
			return err
		}
		for _, v := range list {
			at := slices.IndexFunc(out, func(x api.Version) bool { return x.ID == v.id })
			if at >= 0 || !v.Entry.IsLive() && v.Entry.Shown() == nil {
				continue
			}
			out = append(out, n.versionOf(v))
		}
		return errNextRelay
	})
	if len(out) == 0 && !errors.Is(err, errNextRelay) {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b api.Version) int { return b.At.Compare(a.At) })
	return out, nil
}

func (n *Node) versionOf(v keptVersion) api.Version {
	out := api.Version{ID: v.id, At: time.UnixMilli(v.Version.Came).UTC(), Device: n.account.name(mesh.DeviceID(v.Author)), Current: v.Current, Deleted: !v.Entry.IsLive()}
	if shown := v.Entry.Shown(); shown != nil {
		out.Bytes, out.Modified = shown.Size, time.Unix(0, v.Entry.MTime()).UTC()
		if shown.Author != "" {
			out.Device = shown.Author
		}
	}
	if v.Gone != 0 {
		out.Until = time.UnixMilli(v.Gone).UTC()
	}
	out.Whole = v.Version.Whole && !v.Purged
	return out
}

// findKept resolves a path inside a folder by the names that the view shows and, for what
// was deleted, by the names that it had.
func (f *Folder) findKept(inside string) (id crdt.EntryID, ok bool, err error) {
	err = f.index.Read(func(r *store.Reader) error {
		if id, ok, err = find(r, inside); err != nil || ok {
			return err
		}
		// Deleted things keep their place: ID and name follow from each other unless they
		// were moved.
		at := crdt.Root
		for i, name := range strings.Split(inside, "/") {
			next, found, err := crdt.Find(r, at, name)
			if err != nil {
				return err
			}
			if !found {
				kinds := []crdt.Kind{crdt.Directory}
				if i == strings.Count(inside, "/") {
					kinds = []crdt.Kind{crdt.File, crdt.Symlink, crdt.Directory}
				}
				for _, k := range kinds {
					next = crdt.NewEntryID(f.id, at, k, name, nil)
					if _, found, err = r.Entry(next); err != nil {
						return err
					}
					if found {
						break
					}
				}
			}
			if !found {
				return nil
			}
			at = next
		}
		id, ok = at, true
		return nil
	})
	return id, ok, err
}

// A keptFile is something at relays that is to be written to a disk.
type keptFile struct {
	path  string // below where it goes, with slashes; "." for the thing itself
	entry crdt.Entry
	parts []deposit.Part // of a file
	err   error          // why it is not to be had
}

// keptNow lists what a folder's view shows at and below an entry.
func (n *Node) keptNow(ctx context.Context, f *Folder, top crdt.EntryID) (list []keptFile, err error) {
	base := ""
	err = f.walkStored(ctx, top, func(e storedEntry) error {
		if e.id == top {
			base = e.path
		}
		rel := e.path
		if base != "" {
			rel = path.Clean("./" + strings.TrimPrefix(strings.TrimPrefix(e.path, base), "/"))
		}
		list = append(list, keptFile{path: rel, entry: e.entry})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range list {
		if v := list[i].entry.Shown(); v != nil && list[i].entry.Kind == crdt.File {
			list[i].parts, list[i].err = n.partsOf(f, *v)
		}
	}
	return list, nil
}

// keptThen lists what a folder showed at and below an entry at a time, by a relay's clock:
// of each entry the state that was the newest then, and of all of them together the view.
func (n *Node) keptThen(ctx context.Context, f *Folder, top crdt.EntryID, at time.Time) (list []keptFile, err error) {
	ids, err := f.entriesEver(ctx)
	if err != nil {
		return nil, err
	}
	err = n.atRelays(ctx, func(_ *relayLink, c *deposit.Client, box *seal.Box, state *group.State) error {
		list = nil
		rows := crdt.NewMemRows()
		told := make(map[crdt.EntryID]deposit.Told)
		var entries []crdt.Entry
		for _, id := range ids {
			versions, err := versionsOf(ctx, c, box, state, f.id, id)
			if err != nil {
				return err
			}
			for _, v := range versions {
				if v.Version.Came <= at.UnixMilli() && v.Version.Whole {
					told[id] = v.Told
					entries = append(entries, v.Entry)
					break
				}
			}
		}
		if _, err := crdt.Apply(rows, entries); err != nil {
			return fmt.Errorf("the folder as it was cannot be put together: %w", err)
		}
		list = shownOf(rows.Tree(), rows.Entries(), top, told)
		return nil
	})
	return list, err
}

// entriesEver gives all entries of a folder, deleted ones too.
func (f *Folder) entriesEver(ctx context.Context) (ids []crdt.EntryID, err error) {
	err = f.index.Read(func(r *store.Reader) error {
		for seq := uint64(0); ; {
			if err := ctx.Err(); err != nil {
				return err
			}
			entries, next, err := r.After(seq, walkChunk, maxDeposit)
			if err != nil || next == seq {
				return err
			}
			for _, e := range entries {
				ids = append(ids, e.ID)
			}
			seq = next
		}
	})
	slices.SortFunc(ids, crdt.EntryID.Compare)
	return slices.Compact(ids), err
}

// shownOf lists what a tree shows at and below an entry, directories first.
func shownOf(tree crdt.Tree, entries map[crdt.EntryID]crdt.Entry, top crdt.EntryID, told map[crdt.EntryID]deposit.Told) (list []keptFile) {
	base := ""
	if top != crdt.Root {
		base = tree.Path(top)
		if base == "" {
			return nil
		}
	}
	for id, node := range tree.Nodes {
		if id == crdt.Root || !node.Visible() {
			continue
		}
		p := tree.Path(id)
		if top != crdt.Root && p != base && !strings.HasPrefix(p, base+"/") {
			continue
		}
		k := keptFile{path: path.Clean("./" + strings.TrimPrefix(strings.TrimPrefix(p, base), "/")), entry: entries[id]}
		if k.entry.Kind == crdt.File {
			k.parts, k.err = partsTold(told[id])
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b keptFile) int { return strings.Compare(a.path, b.path) })
	return list
}

// partsTold gives the blocks of the content that a record names.
func partsTold(t deposit.Told) ([]deposit.Part, error) {
	v := t.Entry.Shown()
	if v == nil {
		return nil, nil
	}
	first := len(t.Blocks) - int(v.Blocks)
	if !t.Whole || first < 0 {
		return nil, errNoRelayHas
	}
	parts := make([]deposit.Part, 0, v.Blocks)
	for i, b := range t.Blocks[first:] {
		parts = append(parts, deposit.Part{Block: b, Ref: t.Refs[first+i]})
	}
	return parts, nil
}
