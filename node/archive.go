package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
)

// archiveTop is where the archive stands in the tree.
const archiveTop = "/Archive"

// A sourceFile is where the bytes of something that goes into the archive lie on this
// disk until relays have them.
type sourceFile struct {
	Path     string `json:"path"`
	Offset   int64  `json:"offset"`
	Modified int64  `json:"modified"` // Unix nanoseconds, when it was read
}

const sourceSpace = "archive source" // by hash of a block: sourceFile

// An addition is one thing that goes into the archive.
type addition struct {
	names   []string // path below the archive
	kind    crdt.Kind
	content crdt.Content
	mode    uint32
	list    chunk.List
}

// Copy implements api.Node.
func (n *Node) Copy(ctx context.Context, from []string, to string, move bool) (api.Copied, error) {
	out := api.Copied{Paths: []string{}}
	if to != archiveTop && !strings.HasPrefix(to, archiveTop+"/") {
		return out, api.Errorf(api.ErrLater, "put them into the folder on this disk", "things are put into %s only so far, not into %s", archiveTop, to)
	}
	into := strings.TrimPrefix(strings.TrimPrefix(to, archiveTop), "/")
	if move {
		return n.moveInArchive(ctx, from, into)
	}
	for _, p := range from {
		list, err := n.gatherAny(ctx, p, into)
		if err != nil {
			return out, err
		}
		if err := n.addToArchive(list); err != nil {
			return out, err
		}
		for _, a := range list {
			if a.kind != crdt.Directory {
				out.Files++
				out.Bytes += a.content.Size
			}
		}
		out.Paths = append(out.Paths, path.Join(archiveTop, path.Join(list[0].names...)))
	}
	return out, n.archived(ctx)
}

// gatherAny lists what is at a path of the tree or of this disk.
func (n *Node) gatherAny(ctx context.Context, p, into string) ([]addition, error) {
	for _, f := range n.diskFolders() {
		// What this disk shows in a folder is taken from the disk, as it is now.
		if rest, ok := strings.CutPrefix(p+"/", f.treePath(".")+"/"); ok {
			return n.gatherDisk(ctx, filepath.Join(f.root, filepath.FromSlash(rest)), into)
		}
	}
	f, inside, err := n.keptAt(ctx, p)
	switch {
	case err == nil && f != nil && f != n.backupsFolder:
		return n.gatherKept(ctx, f, inside, into)
	case err == nil || strings.HasPrefix(p, "/Backups/") || strings.HasPrefix(p, archiveTop+"/"):
		if err == nil {
			err = api.Errorf(api.ErrUsage, "name a file or directory in it", "%s cannot be put into the archive as a whole", p)
		}
		return nil, err
	}
	return n.gatherDisk(ctx, p, into)
}

// gatherKept lists what relays keep at a path: it is referred to once more, and nothing
// of it is sent.
func (n *Node) gatherKept(ctx context.Context, f *Folder, inside, into string) (out []addition, err error) {
	id, ok, err := f.findKept(inside)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(f.treePath(inside))
	}
	list, err := n.keptNow(ctx, f, id)
	if err != nil {
		return nil, err
	}
	top := path.Base(f.treePath(inside))
	if id == crdt.Root {
		out = append(out, addition{names: splitNames(path.Join(into, top)), kind: crdt.Directory, mode: 0o755})
	}
	for _, k := range list {
		if k.err != nil {
			return nil, api.Errorf(api.ErrFailed, "wait until it has been stored (`sheaf backup status`), and try again", "the content of %s is not at a relay yet", path.Join(f.treePath(inside), k.path))
		}
		a := addition{names: splitNames(path.Join(into, top, k.path)), kind: k.entry.Kind, mode: k.entry.Mode()}
		if v := k.entry.Shown(); v != nil {
			a.content = crdt.Content{Hash: v.Content, Size: v.Size, Blocks: v.Blocks, MTime: k.entry.MTime(), Target: v.Target}
			if k.entry.Kind == crdt.File {
				for _, p := range k.parts {
					a.list = append(a.list, p.Block)
				}
			}
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, notFound(f.treePath(inside))
	}
	return out, nil
}

func splitNames(p string) []string {
	return slices.DeleteFunc(strings.Split(path.Clean("./"+p), "/"), func(s string) bool { return s == "." })
}

// gatherDisk reads what is at a path of this disk, and notes where its blocks lie.
func (n *Node) gatherDisk(ctx context.Context, p, into string) (out []addition, err error) {
	if !filepath.IsAbs(p) {
		return nil, api.Errorf(api.ErrUsage, "give a path of the tree, or a full path on this disk", "%q is neither", p)
	}
	p = filepath.Clean(p)
	err = filepath.WalkDir(p, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".sheaf" {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(p, at)
		if err != nil {
			return err
		}
		a, ok, err := n.gatherOne(at, d)
		if err != nil || !ok {
			return err
		}
		a.names = splitNames(path.Join(into, filepath.Base(p), filepath.ToSlash(rel)))
		for _, name := range a.names {
			if err := crdt.ValidName(name); err != nil {
				return api.Errorf(api.ErrFailed, "rename it", "%s cannot be archived: %w", at, err)
			}
		}
		out = append(out, a)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.ErrNotFound, "see what there is with `sheaf ls`, or give a path on this disk", "there is no %s", p)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", p, err)
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.ErrUsage, "give files, directories or links", "%s is nothing that can be archived", p)
	}
	return out, nil
}

// gatherOne reads one file, directory or link; false for what is none.
func (n *Node) gatherOne(at string, d fs.DirEntry) (a addition, ok bool, err error) {
	info, err := d.Info()
	if err != nil {
		return a, false, err
	}
	a.mode = uint32(info.Mode().Perm())
	switch {
	case d.IsDir():
		a.kind = crdt.Directory
		return a, true, nil
	case d.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(at)
		if err != nil {
			return a, false, err
		}
		a.kind = crdt.Symlink
		a.content = crdt.Content{Hash: sha256.Sum256([]byte(target)), Size: int64(len(target)), MTime: info.ModTime().UnixNano(), Target: target}
		return a, true, nil
	case !info.Mode().IsRegular():
		return a, false, nil
	}
	a.kind = crdt.File
	file, err := os.Open(at)
	if err != nil {
		return a, false, err
	}
	defer func() { _ = file.Close() }()
	sources := make(map[string][]byte)
	off := int64(0)
	size, list, err := n.chunker.Split(file, func(b chunk.Block, _ []byte) error {
		v, err := json.Marshal(sourceFile{Path: at, Offset: off, Modified: info.ModTime().UnixNano()})
		sources[string(b.Hash[:])] = v
		off += int64(b.Size)
		return err
	})
	if err != nil {
		return a, false, err
	}
	after, err := file.Stat()
	if err != nil {
		return a, false, err
	}
	if !after.ModTime().Equal(info.ModTime()) || after.Size() != size {
		return a, false, api.Errorf(api.ErrConflict, "try again once it is left alone", "%s changes while it is read", at)
	}
	// Where its bytes lie is durable before the index says that there is such a file.
	if err := n.db.PutAll(sourceSpace, sources); err != nil {
		return a, false, err
	}
	a.list = list
	a.content = crdt.Content{Hash: list.Content(), Size: size, Blocks: uint32(len(list)), MTime: info.ModTime().UnixNano()} //nolint:gosec // bounded by chunk.MaxList
	return a, true, nil
}

// addToArchive records additions, a bounded number at a time. What is there under a name
// and is another thing stays: the new one gets a name beside it. A file that is there
// already, with other content, gets a new version.
func (n *Node) addToArchive(list []addition) error {
	for part := range slices.Chunk(list, 200) {
		err := n.archiveFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
			made := make(map[string]crdt.EntryID)
			for _, a := range part {
				if err := addOne(tx, rec, a, made); err != nil {
					return fmt.Errorf("archive %s: %w", path.Join(a.names...), err)
				}
				if len(a.list) > 1 {
					if err := tx.PutList(a.content.Hash, a.list); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addOne records one addition. made has what this transaction has made, by path.
func addOne(tx *store.Tx, rec *crdt.Recorder, a addition, made map[string]crdt.EntryID) error {
	at := crdt.Root
	for i, name := range a.names {
		p := path.Join(a.names[:i+1]...)
		last := i == len(a.names)-1
		id, ok := made[p]
		if !ok {
			var err error
			if id, ok, err = crdt.Find(tx, at, name); err != nil {
				return err
			}
			if _, other := made[path.Dir(p)]; other {
				ok = false // below something new there is nothing yet
			}
		}
		kind := crdt.Directory
		if last {
			kind = a.kind
		}
		switch {
		case ok && id.Kind() == kind && (!last || kind == crdt.Directory):
			at = id
			continue
		case ok && id.Kind() == kind && last:
			return rec.Edit(id, a.content, a.mode)
		case ok:
			return notADirectory(name)
		}
		content, mode := crdt.Content{}, uint32(0o755)
		if last {
			content, mode = a.content, a.mode
		}
		id, err := create(tx, rec, crdt.Location{Parent: at, Name: name}, kind, content, mode)
		if err != nil {
			return err
		}
		made[p], at = id, id
	}
	return nil
}

// create records a new entry, or one that was deleted before at this very place anew.
func create(tx *store.Tx, rec *crdt.Recorder, at crdt.Location, kind crdt.Kind, content crdt.Content, mode uint32) (crdt.EntryID, error) {
	id, err := rec.Create(at, kind, content, mode)
	if errors.Is(err, crdt.ErrExists) {
		return id, fmt.Errorf("%q is there already: %w", at.Name, err)
	}
	return id, err
}

// archiveSource reads a block of something that goes into the archive from where it lay,
// or from any folder on this disk.
func (n *Node) archiveSource(ctx context.Context, b chunk.Block, dst []byte) ([]byte, error) {
	v, ok, err := n.db.Get(sourceSpace, string(b.Hash[:]))
	if err != nil {
		return nil, err
	}
	if ok {
		var s sourceFile
		if json.Unmarshal(v, &s) == nil {
			if data, err := readAt(s, b, dst); err == nil {
				return data, ctx.Err()
			}
		}
	}
	for _, f := range n.diskFolders() {
		if d := f.serving.Load(); d != nil {
			if data, ok := f.localBlock(d, b, false, dst); ok {
				return data, ctx.Err()
			}
		}
	}
	return nil, replication.ErrNotHere
}

func readAt(s sourceFile, b chunk.Block, dst []byte) ([]byte, error) {
	file, err := os.Open(s.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data := slices.Grow(dst, int(b.Size))[:len(dst)+int(b.Size)]
	if _, err := file.ReadAt(data[len(dst):], s.Offset); err != nil {
		return nil, err
	}
	if chunk.Sum(data[len(dst):]) != b.Hash {
		return nil, replication.ErrNotHere // it has changed meanwhile
	}
	return data, nil
}

// archived waits until a relay has all of the archive that is known here.
func (n *Node) archived(ctx context.Context) error {
	f := n.archiveFolder
	n.stir()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		links := n.relayLinks()
		if len(links) == 0 {
			return api.Errorf(api.ErrConflict, "add one with `sheaf relay add CODE`; it is stored there then, if the files are still where they are", "there is no relay to keep the archive")
		}
		var failure error
		for _, l := range links {
			_, waiting, all := l.storedThrough(f)
			if all {
				return n.forgetSources()
			}
			l.mu.Lock()
			if l.failure != nil {
				failure = l.failure
			} else if waiting > 0 && failure == nil {
				failure = errArchiveWaits
			}
			moved := l.moved
			l.mu.Unlock()
			select {
			case <-moved:
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if failure != nil && !slices.ContainsFunc(links, (*relayLink).working) {
			what, remedy := relayTrouble(failure)
			return api.Errorf(api.ErrFailed, remedy+"; leave the files where they are, and see that `sheaf wait --relay` returns 0", "it is noted, but not stored yet: %s", what)
		}
	}
}

var errArchiveWaits = errors.New("the content of some files could not be read, or has changed since")

// working tells whether a link has nothing to complain of.
func (l *relayLink) working() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.through[l.n.archiveFolder.id]
	return l.failure == nil && h.waiting == 0
}

// forgetSources forgets where things lay that relays have now.
func (n *Node) forgetSources() error {
	gone := make(map[string][]byte)
	err := n.db.Each(sourceSpace, func(key string, _ []byte) error {
		gone[key] = nil
		return nil
	})
	if err != nil {
		return err
	}
	return n.db.PutAll(sourceSpace, gone)
}

// moveInArchive moves things of the archive to another place in it.
func (n *Node) moveInArchive(ctx context.Context, from []string, into string) (api.Copied, error) {
	out := api.Copied{Paths: []string{}}
	for _, p := range from {
		rest, ok := strings.CutPrefix(p, archiveTop+"/")
		if !ok {
			return out, api.Errorf(api.ErrUsage, "copy it, and remove it where it is", "%s is not in %s: only what is there is moved", p, archiveTop)
		}
		to := path.Join(into, path.Base(rest))
		err := n.archiveFolder.change(func(tx *store.Tx, rec *crdt.Recorder) error {
			id, ok, err := find(&tx.Reader, path.Clean(rest))
			if err != nil {
				return err
			}
			if !ok || id == crdt.Root {
				return notFound(p)
			}
			// Into a directory that is there; else to that very path.
			dir, name := splitNames(into), path.Base(rest)
			if at, there, err := find(&tx.Reader, path.Clean("./"+into)); err != nil {
				return err
			} else if !there || at != crdt.Root && at.Kind() != crdt.Directory {
				dir, name = splitNames(path.Dir(into)), path.Base(into)
				to = into
			}
			parent, err := directory(tx, rec, dir...)
			if err != nil {
				return err
			}
			if _, taken, err := crdt.Find(tx, parent, name); err != nil {
				return err
			} else if taken {
				return api.Errorf(api.ErrConflict, "choose another name", "%s is there already", path.Join(archiveTop, to))
			}
			return rec.Move(id, crdt.Location{Parent: parent, Name: name})
		})
		if err != nil {
			return out, err
		}
		out.Files++
		out.Paths = append(out.Paths, path.Join(archiveTop, to))
	}
	return out, n.archived(ctx)
}

// Remove implements api.Node.
func (n *Node) Remove(ctx context.Context, p string, recursive bool) error {
	rest, ok := strings.CutPrefix(p, archiveTop+"/")
	if !ok {
		return api.Errorf(api.ErrLater, "delete it in the folder on this disk, or end a backup with `sheaf backup remove`", "only what is in %s is removed so far", archiveTop)
	}
	var ids []crdt.EntryID
	f := n.archiveFolder
	id, ok, err := f.findShown(path.Clean(rest))
	if err != nil {
		return err
	}
	if !ok || id == crdt.Root {
		return notFound(p)
	}
	err = f.walkStored(ctx, id, func(e storedEntry) error {
		ids = append(ids, e.id)
		return nil
	})
	if err != nil {
		return err
	}
	if len(ids) > 1 && !recursive {
		return api.Errorf(api.ErrConflict, "remove it with all that is in it by -r", "%s is a directory that is not empty", p)
	}
	slices.Reverse(ids)
	for part := range slices.Chunk(ids, 500) {
		if err := f.change(func(_ *store.Tx, rec *crdt.Recorder) error { return rec.Remove(part...) }); err != nil {
			return err
		}
	}
	n.stir()
	return nil
}

// findShown resolves a path by the names that the view shows.
func (f *Folder) findShown(inside string) (id crdt.EntryID, ok bool, err error) {
	err = f.index.Read(func(r *store.Reader) error {
		id, ok, err = find(r, inside)
		return err
	})
	return id, ok, err
}
