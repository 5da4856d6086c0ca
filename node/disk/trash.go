package disk

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"sheaf/node/stat"
)

// A Bucket is the part of the trash that one occasion fills. It comes into
// being on disk with its first item:
//
//	.sheaf/trash/20261123T174800Z-1f3c77aa/docs/report.txt
//	.sheaf/trash/20261123T174800Z-1f3c77aa.json
//
// A second file of the same path goes to ...-1f3c77aa+2/docs/report.txt, so
// that a path is always the original one.
type Bucket struct {
	ID     string
	At     time.Time
	Reason string
	Device string
}

const bucketTime = "20060102T150405Z"

// bucketInfo is the content of BUCKET.json.
type bucketInfo struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Device string    `json:"device,omitempty"`
}

// NewBucket names a bucket for what is displaced or discarded from now on, for
// a reason in words. Nothing is written yet.
func (d *Folder) NewBucket(reason string) Bucket {
	at := d.o.Now().UTC().Truncate(time.Second)
	var r [4]byte
	// A bucket that two occasions share by bad luck only holds both.
	_, _ = io.ReadFull(d.o.Rand, r[:])
	return Bucket{ID: at.Format(bucketTime) + "-" + hex.EncodeToString(r[:]), At: at, Reason: reason, Device: d.o.Device}
}

// layers bounds how often one path can be in one bucket.
const layers = 10000

// bucketDir gives the directory of a bucket's n-th layer.
func bucketDir(id string, n int) string {
	if n > 1 {
		id += "+" + strconv.Itoa(n)
	}
	return join(trashDir, id)
}

// checkBucket judges the name of a bucket, without or with a layer.
func checkBucket(id string) error {
	if len(id) > 64 || checkKey(strings.Replace(id, "+", "-", 1)) != nil {
		return fmt.Errorf("trash bucket %.80q: %w", id, ErrName)
	}
	return nil
}

// toTrash moves from to a free spot for path in a bucket. The caller holds
// d.trash.
func (d *Folder) toTrash(b Bucket, from, path string) (spot string, err error) {
	if err := checkBucket(b.ID); err != nil {
		return "", err
	}
	for n := 1; n <= layers; n++ {
		base := bucketDir(b.ID, n)
		spot := base + "/" + path
		err := d.fs.RenameNew(from, spot)
		if errors.Is(err, fs.ErrNotExist) { // most likely the directories
			if err = d.bucketDirs(b, base, path); err == nil {
				err = d.fs.RenameNew(from, spot)
			}
		}
		switch {
		case err == nil:
			d.trashed.Add(1)
			return spot, nil
		case errors.Is(err, fs.ErrExist), errors.Is(err, ErrNotDirectory) && d.blocked(base, path):
			continue
		}
		d.tidyLocked(spot)
		return "", err
	}
	return "", fmt.Errorf("trash bucket %s: too many of %s", b.ID, path)
}

// blocked tells whether a file of this layer stands where path needs a directory.
func (d *Folder) blocked(base, path string) bool {
	for at := spotDirs(base, path); len(at) > 0; at = at[1:] {
		if s, err := d.fs.Lstat(at[0]); err == nil && s.Kind != stat.Directory {
			return true
		}
	}
	return false
}

// spotDirs gives a layer's directory and those below it that path lies in.
func spotDirs(base, path string) []string {
	dirs := []string{base}
	for i := range path {
		if path[i] == '/' {
			dirs = append(dirs, base+"/"+path[:i])
		}
	}
	return dirs
}

// bucketDirs makes the directories for path, and with the first also what
// says where they come from.
func (d *Folder) bucketDirs(b Bucket, base, path string) error {
	for i, dir := range spotDirs(base, path) {
		err := d.fs.Mkdir(dir, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		parent, _ := split(dir)
		d.touch(parent, dir)
		if i > 0 {
			continue
		}
		data, err := json.Marshal(bucketInfo{b.At, b.Reason, b.Device})
		if err != nil {
			return err
		}
		info := join(trashDir, b.ID+".json")
		if err := writeFile(d.fs, info, append(data, '\n')); err == nil {
			d.touch(info)
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// tidy removes the directories above a spot that have become empty.
func (d *Folder) tidy(spot string) {
	d.trash.Lock()
	defer d.trash.Unlock()
	d.tidyLocked(spot)
}

func (d *Folder) tidyLocked(spot string) {
	dir, name := split(spot)
	for dir != trashDir && strings.HasPrefix(dir, trashDir+"/") {
		if d.fs.RemoveDir(dir) != nil {
			return
		}
		dir, name = split(dir)
	}
	// The last layer takes the note along.
	id, _, _ := strings.Cut(name, "+")
	list, err := d.fs.List(trashDir)
	if err != nil {
		return
	}
	for _, e := range list {
		if layer, _, _ := strings.Cut(e.Name, "+"); layer == id {
			return
		}
	}
	_ = d.fs.Remove(join(trashDir, id+".json"))
}

// trashID is what callers name an item by: bucket and path.
func trashID(spot string) string { return strings.TrimPrefix(spot, trashDir+"/") }

// inTrash tells whether spot is a well-formed place in the trash.
func inTrash(spot string) bool {
	id, ok := strings.CutPrefix(spot, trashDir+"/")
	if !ok {
		return false
	}
	_, _, err := parseID(id)
	return err == nil
}

// parseID splits an item's name into the bucket's directory and the path.
func parseID(id string) (bucket, path string, err error) {
	bucket, path, ok := strings.Cut(id, "/")
	if !ok || checkBucket(bucket) != nil || checkPath(path) != nil || path == "." {
		return "", "", fmt.Errorf("trash item %.80q: %w", id, ErrName)
	}
	return bucket, path, nil
}

// A TrashItem is one file or link in the trash.
type TrashItem struct {
	ID     string // bucket and path, stable
	Path   string // where it was
	Kind   stat.Kind
	Size   int64 // bytes
	At     time.Time
	Bucket string
	Reason string
	Device string
	Stat   stat.Stat
}

// Trash gives everything in the trash, buckets oldest first.
func (d *Folder) Trash() ([]TrashItem, error) {
	var items []TrashItem
	err := d.walkTrash(func(it TrashItem) error {
		items = append(items, it)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list trash: %w", err)
	}
	return items, nil
}
