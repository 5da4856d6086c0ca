package node

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/node/api"
)

// expireTrash lets go of what has been in the trash for long enough, or is more
// than it may hold.
func (f *Folder) expireTrash() {
	if f.o.keep <= 0 {
		return
	}
	items, bytes, err := f.disk.ExpireTrash(f.o.now(), f.o.keep, f.o.keepMost(f.root))
	if err != nil {
		f.o.log.Warn("trash not emptied", "folder", f.name, "err", err)
	}
	if items > 0 {
		f.o.log.Info("trash", "folder", f.name, "items", items, "bytes", bytes)
	}
}

// trashPrefix leads the ID of an item in the tree's trash: the folder it is of.
func (f *Folder) trashID(id string) string { return f.name + "/" + id }

// Trash implements api.Node.
func (n *Node) Trash(ctx context.Context) ([]api.TrashItem, error) {
	var list []api.TrashItem
	for _, f := range n.folders {
		d := f.serving.Load()
		if d == nil {
			continue
		}
		items, err := d.Trash()
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			list = append(list, api.TrashItem{
				ID: f.trashID(item.ID), Path: f.treePath(item.Path), Deleted: item.At.UTC(), Purge: item.At.Add(f.o.keep).UTC(),
				Bytes: item.Size, Device: item.Device,
			})
		}
	}
	slices.SortStableFunc(list, func(a, b api.TrashItem) int { return b.Deleted.Compare(a.Deleted) })
	return list, nil
}

// RestoreTrash implements api.Node.
func (n *Node) RestoreTrash(ctx context.Context, ids []string, to string) ([]string, error) {
	items, err := n.Trash(ctx)
	if err != nil {
		return nil, err
	}
	var restored []string
	for _, id := range ids {
		picked := pickTrash(items, id)
		if len(picked) == 0 {
			return restored, api.Errorf(api.ErrNotFound, "see `sheaf trash list`", "there is no %s in the trash", id)
		}
		for _, item := range picked {
			p, err := n.restoreOne(ctx, item, to, id)
			if err != nil {
				return restored, err
			}
			restored = append(restored, p)
		}
	}
	return restored, nil
}

// pickTrash finds what a person named: an item by its ID; by its path the one
// deleted last; by a directory's path, of each path below it the one deleted last.
func pickTrash(items []api.TrashItem, name string) []api.TrashItem {
	for _, item := range items {
		if item.ID == name {
			return []api.TrashItem{item}
		}
	}
	if !strings.HasPrefix(name, "/") {
		return nil
	}
	var picked []api.TrashItem
	seen := make(map[string]bool)
	clean := path.Clean(name)
	for _, item := range items { // newest first
		if below(item.Path, clean) && !seen[item.Path] {
			seen[item.Path] = true
			picked = append(picked, item)
		}
	}
	return picked
}

func (n *Node) restoreOne(ctx context.Context, item api.TrashItem, to, named string) (string, error) {
	name, id, _ := strings.Cut(item.ID, "/")
	var f *Folder
	for _, x := range n.folders {
		if x.name == name {
			f = x
		}
	}
	if f == nil {
		return "", notFound(item.Path)
	}
	target := ""
	if to != "" {
		dest, inside, err := n.folderAt(to)
		if err != nil {
			return "", err
		}
		if dest != f {
			return "", api.Errorf(api.ErrUsage, "give a directory in /"+f.name, "%s cannot be restored into another folder", item.Path)
		}
		rel := path.Base(item.Path)
		if strings.HasPrefix(named, "/") && item.Path != path.Clean(named) {
			rel = strings.TrimPrefix(item.Path, path.Dir(path.Clean(named))+"/")
		}
		target = path.Join(inside, rel)
	}
	var restored string
	err := f.do(ctx, func(context.Context) (err error) {
		restored, err = f.disk.RestoreTrash(id, target)
		if err == nil {
			f.dirty.addPath(restored, time.Time{})
			f.markParents(restored)
		}
		return err
	})
	switch {
	case errors.Is(err, fs.ErrExist):
		return "", api.Errorf(api.ErrConflict, "restore it elsewhere with --to", "there is something at %s already", path.Join(to, path.Base(item.Path)))
	case errors.Is(err, fs.ErrNotExist):
		return "", api.Errorf(api.ErrNotFound, "see `sheaf trash list`", "%s is no longer in the trash", item.Path)
	case errors.Is(err, errStopped):
		return "", api.Errorf(api.ErrConflict, "see `sheaf status`", "the folder %s is stopped", f.name)
	case err != nil:
		return "", err
	}
	return f.treePath(restored), nil
}

// markParents has the directories above a path looked at: they may be new too.
func (f *Folder) markParents(p string) {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		f.dirty.addPath(dir, time.Time{})
	}
}

// EmptyTrash implements api.Node.
func (n *Node) EmptyTrash(ctx context.Context, ids []string) (count int, bytes int64, err error) {
	items, err := n.Trash(ctx)
	if err != nil {
		return 0, 0, err
	}
	picked := items
	if len(ids) > 0 {
		picked = nil
		for _, id := range ids {
			some := pickTrash(items, id)
			if len(some) == 0 {
				return 0, 0, api.Errorf(api.ErrNotFound, "see `sheaf trash list`", "there is no %s in the trash", id)
			}
			picked = append(picked, some...)
		}
	}
	for _, item := range picked {
		name, id, _ := strings.Cut(item.ID, "/")
		for _, f := range n.folders {
			d := f.serving.Load()
			if f.name != name || d == nil {
				continue
			}
			if err := d.EmptyTrash(id); err != nil {
				return count, bytes, err
			}
			count++
			bytes += item.Bytes
		}
	}
	return count, bytes, nil
}
