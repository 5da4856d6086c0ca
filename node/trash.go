package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/node/api"
)

// expireTrash lets go of what has been in the trash for long enough, or is more
// than it may hold. After a leap of the clock nothing is too old.
func (f *Folder) expireTrash(leapt bool) {
	if f.o.keep <= 0 {
		return
	}
	keep := f.o.keep
	if leapt {
		keep = -1 // none is too old
	}
	items, bytes, err := f.disk.ExpireTrash(f.o.clock(), keep, f.o.keepMost(f.root))
	if err != nil {
		f.o.log.Warn("trash not emptied", "folder", f.name, "err", err)
	}
	if items > 0 {
		f.o.log.Info("trash", "folder", f.name, "items", items, "bytes", bytes)
	}
}

const (
	// clockSlack is how far the clock may be set at once and still be believed:
	// summer time, and what a clock that runs badly is corrected by.
	clockSlack = 2 * time.Hour
	// leapGrace is for how long, of running time, nothing in the trash is too old
	// after the clock has leapt: time to see that it is wrong.
	leapGrace = 7 * 24 * time.Hour
	// restGrace is how long a device may be off before its clock is doubted.
	restGrace = 14 * 24 * time.Hour
)

// A trashClock is what is remembered of the clock that the trash goes by.
type trashClock struct {
	Seen  time.Time     `json:"seen"`  // by the wall clock, when it was last looked at
	Grace time.Duration `json:"grace"` // left

	looked time.Time // the same moment by time.Now; zero in another life
}

const trashClockSpace = "trash clock"

// clockLeapt tells whether the clock was lately set by more than it should have to
// be. A clock set ten years on makes all that is in the trash look old; a battery
// that is empty does that, or a hand that slipped.
func (f *Folder) clockLeapt() bool {
	c := &f.trashClock
	wall, now := f.o.clock().Round(0), time.Now()
	if c.Seen.IsZero() {
		if data, ok, err := f.db.Get(trashClockSpace, f.id.String()); err == nil && ok {
			_ = json.Unmarshal(data, c) // what cannot be read is as good as none
		}
	}
	switch passed := wall.Sub(c.Seen); {
	case c.Seen.IsZero():
		// The first time, or the index was lost and what it knew of the clock with it:
		// what is in the trash may be older than the clock says, or younger.
		c.Grace = leapGrace
	case c.looked.IsZero():
		if passed < -clockSlack || passed > restGrace {
			c.Grace = leapGrace
		}
	default:
		ran := now.Sub(c.looked)
		c.Grace = max(0, c.Grace-ran)
		if off := passed - ran; off < -clockSlack || off > clockSlack {
			c.Grace = leapGrace
			f.o.log.Warn("the clock was set: nothing in the trash is too old for a while", "folder", f.name, "by", off)
		}
	}
	c.Seen, c.looked = wall, now
	if data, err := json.Marshal(c); err == nil {
		if err := f.db.Put(trashClockSpace, f.id.String(), data); err != nil {
			f.o.log.Warn("remember the time", "folder", f.name, "err", err)
		}
	}
	return c.Grace > 0
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
	kept, err := n.relayTrash(list)
	if err != nil {
		return nil, err
	}
	list = append(list, kept...)
	slices.SortStableFunc(list, func(a, b api.TrashItem) int {
		return cmp.Or(b.Deleted.Compare(a.Deleted), strings.Compare(a.Path, b.Path))
	})
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
	if strings.HasPrefix(item.ID, relayTrashPrefix) {
		return n.restoreDeleted(ctx, item, to, named)
	}
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
	// What relays keep they let go of by themselves, in their time.
	picked := slices.DeleteFunc(slices.Clone(items), func(i api.TrashItem) bool { return strings.HasPrefix(i.ID, relayTrashPrefix) })
	if len(ids) > 0 {
		picked = nil
		for _, id := range ids {
			some := pickTrash(items, id)
			if len(some) == 0 {
				return 0, 0, api.Errorf(api.ErrNotFound, "see `sheaf trash list`", "there is no %s in the trash", id)
			}
			if strings.HasPrefix(some[0].ID, relayTrashPrefix) {
				return 0, 0, api.Errorf(api.ErrLater, "it is gone for good at "+some[0].Purge.Local().Format("2006-01-02 15:04"), "%s is kept by a relay, which lets go of it by itself", some[0].Path)
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
