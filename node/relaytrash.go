package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication/deposit"
)

// What was deleted anywhere, also by a person's own hand, relays keep for a while. A
// device learns of it from the feeds that it reads, and notes when: the rest, the path and
// what was in it, is in the index.

// deletedSpace is the space of a folder's deletions at relays: by entry, a deletedRow.
func deletedSpace(f *Folder) string { return "deleted/" + f.id.String() }

// A deletedRow is a deletion that relays know of.
type deletedRow struct {
	Came   int64  `json:"came"` // Unix milliseconds, by the relay's clock
	Device string `json:"device"`
}

// relayTrashPrefix leads the ID of an item that is in the trash of relays.
const relayTrashPrefix = "relay/"

// noteDeleted notes of what came from a relay what was deleted, and what lives again.
func (n *Node) noteDeleted(f *Folder, list []deposit.Told) error {
	rows := make(map[string][]byte)
	for _, t := range list {
		key := t.Entry.ID.String()
		v := t.Entry.Shown()
		if t.Entry.IsLive() || v == nil || t.Entry.Kind == crdt.File && len(t.Refs) == 0 && v.Blocks > 0 {
			if _, ok, err := n.db.Get(deletedSpace(f), key); err != nil {
				return err
			} else if ok {
				rows[key] = nil
			}
			continue
		}
		row, err := json.Marshal(deletedRow{Came: t.Came, Device: n.account.name(mesh.DeviceID(t.Author))})
		if err != nil {
			return fmt.Errorf("note what was deleted: %w", err)
		}
		rows[key] = row
	}
	return n.db.PutAll(deletedSpace(f), rows)
}

// relayRetention is the longest for which a relay says that it keeps what was deleted.
func (n *Node) relayRetention() (longest time.Duration) {
	for _, l := range n.relayLinks() {
		l.mu.Lock()
		longest = max(longest, l.welcome.Retention)
		l.mu.Unlock()
	}
	return longest
}

// keptFolders gives the folders of which relays may keep what was deleted.
func (n *Node) keptFolders() []*Folder {
	list := append(n.diskFolders(), n.archiveFolder)
	mirrors, err := n.mirrorList()
	if err != nil {
		n.log.Error("list backups", "err", err)
	}
	return append(list, mirrors...)
}

// relayTrash lists what relays keep of what was deleted. There is what is in this disk's
// trash, too: that is left out.
func (n *Node) relayTrash(local []api.TrashItem) (list []api.TrashItem, err error) {
	keep := n.relayRetention()
	if keep == 0 {
		return nil, nil
	}
	here := make(map[string]bool, len(local))
	for _, item := range local {
		here[fmt.Sprintf("%s\x00%d", item.Path, item.Bytes)] = true
	}
	for _, f := range n.keptFolders() {
		rows := make(map[crdt.EntryID]deletedRow)
		err := n.db.Each(deletedSpace(f), func(key string, v []byte) error {
			id, err := hex.DecodeString(key)
			var row deletedRow
			if err == nil && len(id) == len(crdt.EntryID{}) && json.Unmarshal(v, &row) == nil {
				rows[crdt.EntryID(id)] = row
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		err = f.index.Read(func(r *store.Reader) error {
			for id, row := range rows {
				item, ok, err := n.deletedItem(f, r, id, row, keep)
				if err != nil {
					return err
				}
				if ok && !here[fmt.Sprintf("%s\x00%d", item.Path, item.Bytes)] {
					list = append(list, item)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// deletedItem describes one deletion; false for what lives again, or whose time is over.
func (n *Node) deletedItem(f *Folder, r *store.Reader, id crdt.EntryID, row deletedRow, keep time.Duration) (api.TrashItem, bool, error) {
	e, ok, err := r.Entry(id)
	if err != nil || !ok || e.IsLive() || e.Shown() == nil {
		return api.TrashItem{}, false, err
	}
	at := time.UnixMilli(row.Came).UTC()
	if n.clock().After(at.Add(keep)) {
		return api.TrashItem{}, false, nil
	}
	p, err := viewPath(r, id)
	if err != nil {
		return api.TrashItem{}, false, nil //nolint:nilerr // one that has no path cannot be shown
	}
	item := api.TrashItem{
		ID: relayTrashPrefix + f.id.String() + "/" + id.String(), Path: f.treePath(p), Deleted: at, Purge: at.Add(keep), Device: row.Device,
	}
	if e.Kind == crdt.File {
		item.Bytes = e.Shown().Size
	}
	return item, true, nil
}

// restoreDeleted brings something back that relays keep: to where it was, or into a
// directory of the tree.
func (n *Node) restoreDeleted(ctx context.Context, item api.TrashItem, to, named string) (string, error) {
	folderID, entryID, _ := strings.Cut(strings.TrimPrefix(item.ID, relayTrashPrefix), "/")
	folders := n.keptFolders()
	at := slices.IndexFunc(folders, func(f *Folder) bool { return f.id.String() == folderID })
	raw, err := hex.DecodeString(entryID)
	if at < 0 || err != nil || len(raw) != len(crdt.EntryID{}) {
		return "", notFound(item.Path)
	}
	f, id := folders[at], crdt.EntryID(raw)
	var e crdt.Entry
	err = f.index.Read(func(r *store.Reader) (err error) {
		e, _, err = r.Entry(id)
		return err
	})
	if err != nil {
		return "", err
	}
	if e.Shown() == nil {
		return "", notFound(item.Path)
	}
	target := item.Path
	if to != "" {
		rel := path.Base(item.Path)
		if strings.HasPrefix(named, "/") && item.Path != path.Clean(named) {
			rel = strings.TrimPrefix(item.Path, path.Dir(path.Clean(named))+"/")
		}
		target = path.Join(to, rel)
	}
	if f == n.archiveFolder && (to == "" || to == archiveTop || strings.HasPrefix(to, archiveTop+"/")) {
		return target, n.reviveInArchive(id, e, target)
	}
	for _, x := range n.diskFolders() {
		rest, ok := strings.CutPrefix(target, x.treePath(".")+"/")
		if !ok {
			continue
		}
		return target, n.restoreDeletedTo(ctx, f, e, filepath.Join(x.root, filepath.FromSlash(rest)))
	}
	return "", api.Errorf(api.ErrUsage, "say where on this device it is to go: --to /Sync", "%s has no place on this device", item.Path)
}

// restoreDeletedTo writes something that relays keep to this disk.
func (n *Node) restoreDeletedTo(ctx context.Context, f *Folder, e crdt.Entry, place string) error {
	if _, err := os.Lstat(place); !errors.Is(err, os.ErrNotExist) {
		if err == nil {
			err = api.Errorf(api.ErrConflict, "restore it elsewhere with --to", "there is something at %s already", place)
		}
		return err
	}
	k := keptFile{path: ".", entry: e}
	if e.Kind == crdt.File {
		k.parts, k.err = n.partsOf(f, *e.Shown())
	}
	r, err := n.restoreAll(ctx, []keptFile{k}, place)
	if err == nil && len(r.Problems) > 0 {
		err = api.Errorf(api.ErrFailed, r.Problems[0].Remedy, "%s", r.Problems[0].What)
	}
	return err
}

// reviveInArchive records that a deleted thing of the archive is there again.
func (n *Node) reviveInArchive(id crdt.EntryID, e crdt.Entry, target string) error {
	v := e.Shown()
	names := splitNames(strings.TrimPrefix(target, archiveTop+"/"))
	content := crdt.Content{Hash: v.Content, Size: v.Size, Blocks: v.Blocks, MTime: e.MTime(), Target: v.Target}
	err := n.archiveFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
		parent, err := directory(tx, rec, names[:len(names)-1]...)
		if err != nil {
			return err
		}
		name := names[len(names)-1]
		if _, taken, err := crdt.Find(tx, parent, name); err != nil {
			return err
		} else if taken {
			return api.Errorf(api.ErrConflict, "restore it elsewhere with --to", "there is something at %s already", target)
		}
		return rec.Restore(id, crdt.Location{Parent: parent, Name: name}, content, e.Mode())
	})
	n.stir()
	return err
}

// notedSpace holds how far the feeds of own backups have been read for deletions.
const notedSpace = "noted"

// readDeleted reads the feed of one of this device's own backups: nothing in it is news
// but when the relay heard of a deletion.
func (l *relayLink) readDeleted(ctx context.Context, c *deposit.Client, tell func(after uint64) ([]deposit.Told, uint64, error), f *Folder) error {
	key := progressKey(c.Welcome().Store, f.id)
	after := uint64(0)
	if v, ok, err := l.n.db.Get(notedSpace, key); err != nil {
		return err
	} else if ok {
		if err := json.Unmarshal(v, &after); err != nil {
			after = 0
		}
	}
	for ctx.Err() == nil {
		list, next, err := tell(after)
		if err != nil || next == after {
			return err
		}
		list = slices.DeleteFunc(list, func(t deposit.Told) bool { return t.Err != nil })
		if err := l.n.noteDeleted(f, list); err != nil {
			return err
		}
		after = next
		v, err := json.Marshal(after)
		if err != nil {
			return err
		}
		if err := l.n.db.Put(notedSpace, key, v); err != nil {
			return err
		}
	}
	return ctx.Err()
}
