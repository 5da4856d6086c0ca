package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"sheaf/node/stat"
)

// change judges the paths of one operation that changes names.
func (d *Folder) change(paths ...string) error {
	if err := d.healthy(); err != nil {
		return err
	}
	for _, p := range paths {
		if err := checkPath(p); err != nil {
			return err
		}
		if p == "." {
			return fmt.Errorf("the folder's root: %w", ErrName)
		}
	}
	return nil
}

// wrap names the operation that failed.
func wrap(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, path, err)
}

// MakeDir makes a directory; fs.ErrExist if the name is taken, by whatever.
// Durable after Barrier, as are all the following.
func (d *Folder) MakeDir(path string, mode uint32) (stat.Stat, error) {
	s, err := d.makeDir(path, mode)
	return s, wrap("make directory", path, err)
}

func (d *Folder) makeDir(path string, mode uint32) (stat.Stat, error) {
	if err := d.change(path); err != nil {
		return stat.Stat{}, err
	}
	if err := d.fs.Mkdir(path, 0o700); err != nil {
		return stat.Stat{}, err
	}
	dir, _ := split(path)
	d.touch(dir, path)
	if err := d.fs.Chmod(path, mode&0o777); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrUnsupported) {
		return stat.Stat{}, err
	}
	return d.made(path, stat.Directory)
}

// made looks at what was just made. Somebody may have put something else there since:
// what was made is then gone, or wherever they moved it.
func (d *Folder) made(path string, kind stat.Kind) (stat.Stat, error) {
	s, err := d.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && s.Kind != kind {
		return stat.Stat{}, fmt.Errorf("%w: something else has come to its place", ErrChanged)
	}
	return s, err
}

// maxTarget is the longest target of a symbolic link that systems take.
const maxTarget = 4095

func checkTarget(target string) error {
	if target == "" || len(target) > maxTarget || strings.IndexByte(target, 0) >= 0 {
		return fmt.Errorf("link target %.80q: %w", target, ErrName)
	}
	return nil
}

// MakeLink makes a symbolic link at a free name, fs.ErrExist if it is taken.
// The target is data: it may lead anywhere, and nothing here follows it.
// Commit replaces an existing link or file by one.
func (d *Folder) MakeLink(target, path string, mtime int64) (stat.Stat, error) {
	s, err := d.makeLink(target, path, mtime)
	return s, wrap("make link", path, err)
}

func (d *Folder) makeLink(target, path string, mtime int64) (stat.Stat, error) {
	if err := d.change(path); err != nil {
		return stat.Stat{}, err
	}
	if err := checkTarget(target); err != nil {
		return stat.Stat{}, err
	}
	if err := d.fs.Symlink(target, path); err != nil {
		return stat.Stat{}, err
	}
	dir, _ := split(path)
	d.touch(dir)
	if _, err := d.made(path, stat.Symlink); err != nil {
		return stat.Stat{}, err
	}
	if mtime != 0 {
		if err := d.fs.Chtimes(path, mtime); err != nil && !errors.Is(err, ErrUnsupported) {
			return stat.Stat{}, err
		}
	}
	made, err := d.made(path, stat.Symlink)
	if err != nil {
		return stat.Stat{}, err
	}
	if is, err := d.fs.Readlink(path); err != nil || is != target {
		return stat.Stat{}, fmt.Errorf("%w: it is another link", ErrChanged)
	}
	return made, nil
}

// Rename moves what expect describes (a directory with all that is in it) to a
// free name; ErrChanged if from holds something else, fs.ErrExist if to is
// taken. On a disk that folds case, the same name in another case is free.
func (d *Folder) Rename(from, to string, expect stat.Stat) (stat.Stat, error) {
	s, err := d.rename(from, to, expect)
	return s, wrap("rename "+from+" to", to, err)
}

func (d *Folder) rename(from, to string, expect stat.Stat) (stat.Stat, error) {
	if err := d.change(from, to); err != nil {
		return stat.Stat{}, err
	}
	if err := d.expect(from, expect); err != nil {
		return stat.Stat{}, err
	}
	if d.rewrites && norm.NFC.String(from) == norm.NFC.String(to) {
		return d.moved(from, to, expect) // the disk writes both alike
	}
	err := d.fs.RenameNew(from, to)
	if errors.Is(err, fs.ErrExist) && d.folded(from, to) {
		err = d.fs.Rename(from, to)
	}
	if err != nil {
		return stat.Stat{}, err
	}
	return d.moved(from, to, expect)
}

// moved looks at what a rename took, and returns it if it is another.
func (d *Folder) moved(from, to string, expect stat.Stat) (stat.Stat, error) {
	s, err := d.fs.Lstat(to)
	if err != nil {
		return stat.Stat{}, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	a, _ := split(from)
	b, _ := split(to)
	d.touch(a, b)
	if kept(expect, s) {
		return s, nil
	}
	if err := d.fs.RenameNew(to, from); err != nil {
		return stat.Stat{}, fmt.Errorf("%w: and it stays at %s: %w", ErrChanged, to, err)
	}
	return stat.Stat{}, ErrChanged
}

// folded tells whether two paths are one name to this disk: both lead to what is listed
// under the first alone. What lstat says of the two is no proof: where files have no
// numbers any two are alike.
func (d *Folder) folded(from, to string) bool {
	a, old := split(from)
	b, name := split(to)
	if a != b || !d.Folds() || d.NameKey(old) != d.NameKey(name) {
		return false
	}
	names, err := d.fs.Names(a)
	return err == nil && !slices.Contains(names, name)
}

// SetAttrs sets the permission bits and the modification time that are not
// nil, if path is what expect describes, and gives what the disk made of them.
// Between the last look and the change lie two adjacent system calls.
func (d *Folder) SetAttrs(path string, expect stat.Stat, mode *uint32, mtime *int64) (stat.Stat, error) {
	s, err := d.setAttrs(path, expect, mode, mtime)
	return s, wrap("set attributes of", path, err)
}

func (d *Folder) setAttrs(path string, expect stat.Stat, mode *uint32, mtime *int64) (stat.Stat, error) {
	if err := d.change(path); err != nil {
		return stat.Stat{}, err
	}
	if expect.Kind == stat.Symlink && mode != nil {
		return stat.Stat{}, fmt.Errorf("a link has no mode: %w", ErrUnsupported)
	}
	if err := d.expect(path, expect); err != nil {
		return stat.Stat{}, err
	}
	if mode != nil {
		// The time last: some systems touch it with the mode.
		if err := d.fs.Chmod(path, *mode&0o777); err != nil && !errors.Is(err, ErrUnsupported) {
			return stat.Stat{}, err
		}
	}
	if mtime != nil {
		if err := d.fs.Chtimes(path, *mtime); err != nil {
			return stat.Stat{}, err
		}
	}
	d.touch(path)
	s, err := d.fs.Lstat(path)
	if err != nil {
		return stat.Stat{}, fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if s.Inode != expect.Inode || s.Kind != expect.Kind || s.Size != expect.Size {
		return stat.Stat{}, ErrChanged
	}
	if s.Kind == stat.File {
		want := expect.Modified
		if mtime != nil {
			want = *mtime
		}
		// Two seconds are what the coarsest disk (FAT) rounds away.
		if diff := s.Modified - want; diff < -2e9 || diff > 2e9 || mtime == nil && diff != 0 {
			return stat.Stat{}, ErrChanged
		}
	}
	return s, nil
}

// Discard moves the file or link that expect describes to the trash, and gives
// the trash item.
func (d *Folder) Discard(path string, expect stat.Stat, bucket Bucket) (id string, err error) {
	id, err = d.discard(path, expect, bucket)
	return id, wrap("discard", path, err)
}

func (d *Folder) discard(path string, expect stat.Stat, bucket Bucket) (string, error) {
	if err := d.change(path); err != nil {
		return "", err
	}
	if expect.Kind != stat.File && expect.Kind != stat.Symlink {
		return "", ErrNotFile
	}
	if err := d.expect(path, expect); err != nil {
		return "", err
	}
	if bucket.ID == "" {
		bucket = d.NewBucket("deleted")
	}
	d.trash.Lock()
	defer d.trash.Unlock()
	spot, err := d.toTrash(bucket, path, path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
		return "", err
	}
	if _, err := d.moved(path, spot, expect); err != nil {
		d.tidyLocked(spot)
		return "", err
	}
	return trashID(spot), nil
}

// RemoveDir removes an empty directory; ErrNotEmpty if it holds anything, also
// what is ignored or unknown.
func (d *Folder) RemoveDir(path string) error {
	if err := d.change(path); err != nil {
		return wrap("remove directory", path, err)
	}
	if err := d.fs.RemoveDir(path); err != nil {
		return wrap("remove directory", path, err)
	}
	dir, _ := split(path)
	d.touch(dir)
	return nil
}
