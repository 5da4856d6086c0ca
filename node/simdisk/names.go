package simdisk

import (
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"sheaf/node/stat"
)

// stored is the form in which the disk keeps a name.
func (d *Disk) stored(name string) string {
	if d.o.StoreForm {
		return norm.NFD.String(name)
	}
	return name
}

// folded makes names that are one to this disk equal.
func (d *Disk) folded(name string) string {
	if d.o.FoldForm || d.o.StoreForm {
		name = norm.NFC.String(name)
	}
	if d.o.FoldCase {
		name = strings.ToLower(name)
	}
	return name
}

func (d *Disk) folds() bool { return d.o.FoldForm || d.o.StoreForm || d.o.FoldCase }

// find gives the name under which a directory has what is asked for by name.
func (d *Disk) find(dir *inode, name string) (string, *inode) {
	if n := dir.names[name]; n != nil || !d.folds() {
		return name, n
	}
	want := d.folded(name)
	for _, have := range slices.Sorted(maps.Keys(dir.names)) {
		if d.folded(have) == want {
			return have, dir.names[have]
		}
	}
	return d.stored(name), nil
}

// walk visits all below n, parents first, in the order of names.
func walk(n *inode, at string, visit func(p string, n *inode)) {
	visit(at, n)
	if n.kind != stat.Directory {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		walk(n.names[name], path.Join(at, name), visit)
	}
}

// under tells whether a directory is top or lies in it.
func under(n, top *inode) bool {
	for ; n != nil; n = n.parent {
		if n == top {
			return true
		}
	}
	return false
}
