package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"sheaf/node/stat"
)

// An Item is one name of a directory that syncs.
type Item struct {
	Name string
	Stat stat.Stat // Kind None: looked for and not there
}

// Skipped is a name that is there and does not sync, with the reason in words
// for a person. Name may hold any bytes but slash and NUL.
type Skipped struct {
	Name   string
	Reason string
}

// A Listing is what a directory holds, sorted by name. A name is in Items or
// in Skipped, not in both; what is in Skipped is there or unknown, never gone.
type Listing struct {
	Dir     stat.Stat // the directory itself: the same one from beginning to end
	Items   []Item
	Skipped []Skipped
}

// List gives everything in a directory, which is looked at in one pass. Any
// error means that nothing is known about it: an unreadable directory is never
// an empty listing. The folder's own directory is left out.
func (d *Folder) List(ctx context.Context, dir string) (Listing, error) {
	if err := ctx.Err(); err != nil {
		return Listing{}, err
	}
	if err := checkPath(dir); err != nil {
		return Listing{}, fmt.Errorf("list: %w", err)
	}
	before, err := d.fs.Lstat(dir)
	if err != nil {
		return Listing{}, fmt.Errorf("list %s: %w", dir, err)
	}
	entries, err := d.fs.List(dir)
	if err != nil {
		return Listing{}, fmt.Errorf("list %s: %w", dir, err)
	}
	if err := ctx.Err(); err != nil {
		return Listing{}, err
	}
	if err := d.still(dir, before); err != nil {
		return Listing{}, fmt.Errorf("list %s: %w", dir, err)
	}
	j := d.judge(dir)
	l := Listing{Dir: before, Items: make([]Item, 0, len(entries))}
	for _, e := range entries {
		j.sort(&l, e)
	}
	l.order()
	return l, nil
}

// Look is List for some names alone; a name that is absent is an Item of Kind
// None. Names that cannot sync are Skipped whether they are there or not.
func (d *Folder) Look(ctx context.Context, dir string, names []string) (Listing, error) {
	if err := checkPath(dir); err != nil {
		return Listing{}, fmt.Errorf("look: %w", err)
	}
	// The directory first: below an unreadable or vanished one, nothing is
	// known to be absent.
	s, err := d.fs.Lstat(dir)
	if err != nil {
		return Listing{}, fmt.Errorf("look in %s: %w", dir, err)
	} else if s.Kind != stat.Directory {
		return Listing{}, fmt.Errorf("look in %s: %w", dir, ErrNotDirectory)
	} else if s.Device != d.root.Device {
		return Listing{}, fmt.Errorf("look in %s: another file system: %w", dir, ErrNotDirectory)
	}
	j := d.judge(dir)
	l := Listing{Dir: s}
	var listed map[string]string // what names there are, on a disk that would tell of others
	names = slices.Clone(names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := ctx.Err(); err != nil {
			return Listing{}, err
		}
		if why := CheckName(name); why != "" {
			l.Skipped = append(l.Skipped, Skipped{name, why})
			continue
		}
		s, err := d.fs.Lstat(join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if dir != "." || !private(name) {
				l.Items = append(l.Items, Item{Name: name})
			}
			continue
		case errors.Is(err, ErrNotDirectory):
			return Listing{}, fmt.Errorf("look in %s: %w", dir, err)
		case err == nil && d.Folds():
			if listed == nil {
				if listed, err = d.names(dir); err != nil {
					return Listing{}, fmt.Errorf("look in %s: %w", dir, err)
				}
			}
			if listed[norm.NFC.String(name)] == "" {
				if dir != "." || !private(name) {
					l.Items = append(l.Items, Item{Name: name}) // another has that name
				}
				continue
			}
		}
		j.sort(&l, Entry{Name: name, Stat: s, Err: err, Mount: s.Kind == stat.Directory && s.Device != d.root.Device})
	}
	// What was found absent counts only if the directory still is there.
	if err := d.still(dir, l.Dir); err != nil {
		return Listing{}, fmt.Errorf("look in %s: %w", dir, err)
	}
	l.order()
	return l, nil
}

// still tells whether a directory is the one that it was; fs.ErrNotExist if
// another has taken its name.
func (d *Folder) still(dir string, was stat.Stat) error {
	now, err := d.fs.Lstat(dir)
	if err == nil && !sameDir(was, now) {
		err = fmt.Errorf("another has taken its place: %w", fs.ErrNotExist)
	}
	return err
}

func (l *Listing) order() {
	slices.SortFunc(l.Items, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(l.Skipped, func(a, b Skipped) int { return strings.Compare(a.Name, b.Name) })
}

// A judge tells what of one directory syncs.
type judge struct {
	dir     string
	rules   *rules
	dirRule string // the rule that ignores the directory itself
}

func (d *Folder) judge(dir string) judge {
	j := judge{dir: dir, rules: d.ignore.Load()}
	if dir != "." {
		j.dirRule, _ = j.rules.ignored(dir, true)
	}
	return j
}

// sort puts an entry where it belongs.
func (j judge) sort(l *Listing, e Entry) {
	if j.dir == "." && e.Name == home {
		return
	}
	if why := j.skip(e); why != "" {
		l.Skipped = append(l.Skipped, Skipped{e.Name, why})
		return
	}
	l.Items = append(l.Items, Item{e.Name, e.Stat})
}

// skip gives the reason why an entry does not sync, or "".
func (j judge) skip(e Entry) string {
	if why := CheckName(e.Name); why != "" {
		return why
	}
	if j.dir == "." && private(e.Name) {
		return "some disks take this name for Sheaf's own directory"
	}
	if e.Err != nil {
		if errors.Is(e.Err, fs.ErrPermission) {
			return "no permission to look at it"
		}
		return "cannot be looked at: " + plain(e.Err)
	}
	rule := j.dirRule
	if rule == "" {
		rule, _ = j.rules.match(join(j.dir, e.Name), e.Stat.Kind == stat.Directory)
	}
	switch {
	case rule != "":
		return "ignored by " + rule
	case e.Mount:
		return "another file system is mounted here: make it a folder of its own"
	case e.Stat.Kind == stat.Other:
		return "special file (socket, device or FIFO)"
	case e.Stat.Kind == stat.None:
		return "cannot be looked at"
	}
	return ""
}

// plain is an error without operation and path, which the reader knows.
func plain(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
