package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"sheaf/node/stat"
)

// walkTrash calls fn for each item, bucket by bucket, oldest first.
func (d *Folder) walkTrash(fn func(TrashItem) error) error {
	list, err := d.fs.List(trashDir)
	if err != nil {
		return err
	}
	type bucket struct {
		name string
		bucketInfo
	}
	var buckets []bucket
	for _, e := range list {
		if e.Stat.Kind != stat.Directory || checkBucket(e.Name) != nil {
			continue
		}
		id, _, _ := strings.Cut(e.Name, "+")
		b := bucket{name: e.Name}
		data, err := readSmall(d.fs, join(trashDir, id+".json"), 1<<16)
		if err != nil || json.Unmarshal(data, &b.bucketInfo) != nil || b.Time.IsZero() {
			// The note is lost: the name says the time, or the directory does.
			stamp, _, _ := strings.Cut(id, "-")
			if b.Time, err = time.Parse(bucketTime, stamp); err != nil {
				b.Time = time.Unix(0, e.Stat.Modified).UTC()
			}
		}
		buckets = append(buckets, b)
	}
	slices.SortFunc(buckets, func(a, b bucket) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	for _, b := range buckets {
		id, _, _ := strings.Cut(b.name, "+")
		base := join(trashDir, b.name)
		err := d.walk(base, func(path string, s stat.Stat) error {
			rel := strings.TrimPrefix(path, base+"/")
			return fn(TrashItem{ID: b.name + "/" + rel, Path: rel, Kind: s.Kind, Size: s.Size, At: b.Time,
				Bucket: id, Reason: b.Reason, Device: b.Device, Stat: s})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// walk calls fn for all that is no directory below dir. What vanishes or is
// refused meanwhile is left out.
func (d *Folder) walk(dir string, fn func(path string, s stat.Stat) error) error {
	list, err := d.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range list {
		path := join(dir, e.Name)
		switch {
		case e.Err != nil || e.Mount:
			continue
		case e.Stat.Kind == stat.Directory:
			err = d.walk(path, fn)
		default:
			err = fn(path, e.Stat)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TrashChanges counts how often something has come to the trash since Open, by this
// Folder: while it stays the same, nothing has.
func (d *Folder) TrashChanges() uint64 { return d.trashed.Load() }

// OpenTrash opens an item for reading. The caller closes it.
func (d *Folder) OpenTrash(id string) (*Reader, error) {
	if _, _, err := parseID(id); err != nil {
		return nil, err
	}
	spot := join(trashDir, id)
	s, err := d.fs.Lstat(spot)
	if err != nil {
		return nil, wrap("open trash item", id, err)
	}
	r, err := d.reader(spot, s)
	return r, wrap("open trash item", id, err)
}

// RestoreTrash moves an item out of the trash to a path, making directories
// that are missing, and gives the path. fs.ErrExist if it is taken. An empty
// path stands for where the item was, or the first free name beside it.
// Durable when it returns.
func (d *Folder) RestoreTrash(id, to string) (string, error) {
	path, err := d.restoreTrash(id, to)
	return path, wrap("restore trash item", id, err)
}

func (d *Folder) restoreTrash(id, to string) (string, error) {
	_, path, err := parseID(id)
	if err != nil {
		return "", err
	}
	free := to == ""
	if free {
		to = path
	}
	if err := d.change(to); err != nil {
		return "", err
	}
	if err := d.Check(); err != nil {
		return "", err
	}
	d.trash.Lock()
	defer d.trash.Unlock()
	spot := join(trashDir, id)
	if _, err := d.fs.Lstat(spot); err != nil {
		return "", err
	}
	if err := d.parents(to); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		name := to
		if n > 1 {
			name = beside(to, n)
		}
		err := d.fs.RenameNew(spot, name)
		if errors.Is(err, fs.ErrExist) && free && n < layers {
			continue
		}
		if err != nil {
			return "", err
		}
		d.tidyLocked(spot)
		dir, _ := split(name)
		d.touch(dir, trashDir)
		return name, d.Barrier()
	}
}

// parents makes the directories above path that are missing.
func (d *Folder) parents(path string) error {
	for i := range path {
		if path[i] != '/' {
			continue
		}
		switch err := d.fs.Mkdir(path[:i], 0o755); {
		case err == nil:
			dir, _ := split(path[:i])
			d.touch(dir, path[:i])
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	return nil
}

// beside gives the n-th name beside a path: "a (restored 2).txt".
func beside(path string, n int) string {
	dir, name := split(path)
	ext := ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 16 {
		name, ext = name[:i], name[i:]
	}
	mark := " (restored)"
	if n > 2 {
		mark = fmt.Sprintf(" (restored %d)", n-1)
	}
	for len(name)+len(mark)+len(ext) > MaxName { // cut at a rune's start
		i := len(name) - 1
		for i > 0 && name[i]&0xc0 == 0x80 {
			i--
		}
		name = name[:i]
	}
	return join(dir, name+mark+ext)
}

// EmptyTrash deletes the named items for good. Items that are gone already are
// no error. No names, nothing deleted.
func (d *Folder) EmptyTrash(ids ...string) error {
	for _, id := range ids {
		if _, _, err := parseID(id); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := d.drop(id); err != nil {
			return err
		}
	}
	return nil
}

func (d *Folder) drop(id string) error {
	d.trash.Lock()
	defer d.trash.Unlock()
	spot := join(trashDir, id)
	if err := d.fs.Remove(spot); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrap("empty trash of", id, err)
	}
	d.tidyLocked(spot)
	return nil
}

// ExpireTrash deletes for good what came into the trash more than maxAge
// before now, then the oldest items until the rest is at most maxBytes. A
// negative limit is none. It gives how much was deleted.
func (d *Folder) ExpireTrash(now time.Time, maxAge time.Duration, maxBytes int64) (items int, bytes int64, err error) {
	list, err := d.Trash()
	if err != nil {
		return 0, 0, err
	}
	var total int64
	for _, it := range list {
		total += it.Size
	}
	for _, it := range list { // oldest first
		old := maxAge >= 0 && now.Sub(it.At) > maxAge
		if !old && (maxBytes < 0 || total <= maxBytes) {
			continue
		}
		if err := d.drop(it.ID); err != nil {
			return items, bytes, err
		}
		total -= it.Size
		bytes += it.Size
		items++
	}
	return items, bytes, nil
}
