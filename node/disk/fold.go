package disk

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// Many disks take names that differ in case, or in Unicode form, for one: to ask such
// a disk for "A" is to be told of "a". Whoever believes that sees a file under a name
// that nobody gave it, and deletes the one with the other (CVE-2014-9390 is of this
// kind). So a folder finds out what its disk does, and there looks a name up in its
// directory's listing before it believes that it is there.

// probeName has what is to be told apart: case, and a letter of two forms.
const probeName = "~Probé"

// probeNames finds out whether the disk takes different names for one, and whether it
// keeps names in a Unicode form of its own. What cannot be found out is assumed.
func (d *Folder) probeNames() {
	probe := join(tmpDir, probeName)
	if err := writeFile(d.fs, probe, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		d.foldsCase, d.foldsForm = true, true
		return
	}
	defer func() { _ = d.fs.Remove(probe) }()
	there := func(p string) bool {
		_, err := d.fs.Lstat(p)
		return !errors.Is(err, fs.ErrNotExist)
	}
	d.foldsCase, d.foldsForm = there(strings.ToLower(probe)), there(norm.NFD.String(probe))
	list, err := d.fs.Names(tmpDir)
	d.rewrites = d.foldsForm && err == nil && !slices.Contains(list, probeName)
}

// Folds tells whether the disk takes any names that differ for one.
func (d *Folder) Folds() bool { return d.foldsCase || d.foldsForm }

// NameKey makes names in one directory equal that the disk takes for one, and may make
// some equal that it does not: disks differ in what is the lower case of a letter.
func (d *Folder) NameKey(name string) string {
	if d.foldsForm {
		name = norm.NFC.String(name)
	}
	if d.foldsCase {
		name = strings.ToLower(name)
	}
	return name
}

// Rewrites tells whether the disk keeps names in a Unicode form of its own: what it
// lists is then no word of how a person wrote a name.
func (d *Folder) Rewrites() bool { return d.rewrites }

// names gives the names in a directory by their form C: what a disk lists in another
// form than it was given is the same name, and what it lists in another case is not.
func (d *Folder) names(dir string) (map[string]string, error) {
	list, err := d.fs.Names(dir)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(list))
	for _, name := range list {
		if key := norm.NFC.String(name); names[key] == "" || name == key {
			names[key] = name
		}
	}
	return names, nil
}

// Twin gives the name of what stands where path leads to, if that is another name,
// which this disk takes for the same: nothing can be put at path while it is there.
// "" if nothing stands there, or path itself.
func (d *Folder) Twin(path string) (string, error) {
	if err := checkPath(path); err != nil || !d.Folds() {
		return "", err
	}
	s, err := d.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotDirectory) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	dir, name := split(path)
	names, err := d.fs.Names(dir)
	if err != nil {
		return "", err
	}
	twin := ""
	for _, n := range names {
		if norm.NFC.String(n) == norm.NFC.String(name) {
			return "", nil
		}
		if d.NameKey(n) == d.NameKey(name) {
			twin = n
		}
	}
	if twin != "" || s.Inode == 0 {
		return twin, nil
	}
	// The disk has an idea of its own of what is one name.
	list, err := d.fs.List(dir)
	for _, e := range list {
		if e.Stat.Inode == s.Inode {
			twin = e.Name
		}
	}
	return twin, err
}
