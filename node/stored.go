package node

import (
	"context"
	"path"
	"strings"

	"sheaf/crdt"
	"sheaf/node/store"
)

// A stored folder is one that no disk of this device shows: its index is here, what its
// files hold is at relays. The account has three of its own, which all its devices pass
// on to one another like any folder: the relays it uses, the backups there are, and the
// archive. Each further one is the mirror of a folder on some device.
const (
	relaysName  = "relays"  // by name a link to where the relay is reached
	backupsName = "backups" // by device and name a directory, from whose ID that of the backup's folder follows
	archiveName = "archive"
)

// openStored opens the account's own stored folders.
func (n *Node) openStored() error {
	state, _ := n.account.snapshot()
	for _, name := range []string{relaysName, backupsName, archiveName} {
		f, err := n.newStored(crdt.FolderID(state.FolderID(name)), name)
		if err != nil {
			return err
		}
		n.stored = append(n.stored, f)
	}
	n.relaysFolder, n.backupsFolder, n.archiveFolder = n.stored[0], n.stored[1], n.stored[2]
	n.backupsFolder.name, n.archiveFolder.name = "Backups", strings.TrimPrefix(archiveTop, "/")
	return nil
}

// newStored gives a folder that is never run: sessions and relays bring its index up to
// date, and what people do in it is recorded by change.
func (n *Node) newStored(id crdt.FolderID, name string) (*Folder, error) {
	index, err := n.db.Folder(id)
	if err != nil {
		return nil, err
	}
	f := newFolder(folderDescription{Name: name}, id, index, folderOptions{
		author: n.desc.Name, clock: n.clock, log: n.log, event: n.event, deviceOf: n.replicas.name, learn: n.replicas.learn,
	})
	f.stored = true
	f.db, f.log = n.db, &changeLog{db: n.db, space: "log of " + name}
	return f, nil
}

// change records what a person does in a stored folder, and joins it into the index.
func (f *Folder) change(fn func(tx *store.Tx, rec *crdt.Recorder) error) error {
	var applied crdt.Applied
	err := f.index.Update(func(tx *store.Tx) error {
		rec := crdt.NewRecorder(crdt.RowsBase{Rows: tx}, tx, f.writer())
		if err := fn(tx, rec); err != nil {
			return err
		}
		entries := rec.Entries()
		if len(entries) == 0 {
			return nil
		}
		var err error
		if applied, err = crdt.Apply(tx, entries); err != nil {
			return err
		}
		return tx.SetCounter(rec.Counter())
	})
	if err != nil {
		return err
	}
	if len(applied.Entries) > 0 {
		f.wake()
	}
	return nil
}

// directory gives the directory at a path of a stored folder, made with all above it
// where it is not there.
func directory(tx *store.Tx, rec *crdt.Recorder, names ...string) (crdt.EntryID, error) {
	at := crdt.Root
	made := false
	for _, name := range names {
		if !made {
			id, ok, err := crdt.Find(tx, at, name)
			if err != nil {
				return at, err
			}
			if ok && id.Kind() != crdt.Directory {
				return at, notADirectory(name)
			}
			if ok {
				at = id
				continue
			}
		}
		id, err := rec.Create(crdt.Location{Parent: at, Name: name}, crdt.Directory, crdt.Content{}, 0o755)
		if err != nil {
			return at, err
		}
		at, made = id, true
	}
	return at, nil
}

// A storedEntry is an entry of a stored folder with its path in it.
type storedEntry struct {
	id    crdt.EntryID
	entry crdt.Entry
	path  string // below the folder, with slashes
}

// walkStored calls fn for all that a folder's view shows at and below an entry,
// directories before what is in them, until fn fails. It sees one state of the index.
func (f *Folder) walkStored(ctx context.Context, top crdt.EntryID, fn func(storedEntry) error) error {
	return f.index.Read(func(r *store.Reader) error {
		p := "."
		if top != crdt.Root {
			var err error
			if p, err = viewPath(r, top); err != nil {
				return err
			}
			e, ok, err := r.Entry(top)
			if err != nil || !ok {
				return err
			}
			if err := fn(storedEntry{top, e, p}); err != nil || top.Kind() != crdt.Directory {
				return err
			}
		}
		return walkBelow(ctx, r, top, p, fn)
	})
}

func walkBelow(ctx context.Context, r *store.Reader, dir crdt.EntryID, at string, fn func(storedEntry) error) error {
	for after, more := "", true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		page, next, err := r.Children(dir, after, walkChunk)
		if err != nil {
			return err
		}
		after, more = next, next != ""
		for _, c := range page {
			e, ok, err := r.Entry(c.ID)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			p := path.Join(at, c.Shown)
			if err := fn(storedEntry{c.ID, e, p}); err != nil {
				return err
			}
			if c.Kind == crdt.Directory {
				if err := walkBelow(ctx, r, c.ID, p, fn); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
