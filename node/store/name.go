package store

import (
	"fmt"

	"sheaf/node/stat"
)

// A nameRow is what a key of the table of names says: that the view has the
// entry there (linked), that the disk has it there (based), or, when all is in
// step, both. With the Stat in it the listing of a directory is compared row by
// row, in the order of the keys.
type nameRow struct {
	linked, based bool
	name          string // on the disk, where it is not the NameKey itself
	stat          stat.Stat
}

const (
	nameLinked = 1 << iota
	nameBased
	nameOwn // a name follows
)

// setBased notes that the disk has the entry there.
func (n *nameRow) setBased(key string, f facts) {
	n.based, n.name, n.stat = true, "", f.stat
	if f.at.Name != key {
		n.name = f.at.Name
	}
}

func (n nameRow) diskName(key string) string {
	if n.name != "" {
		return n.name
	}
	return key
}

func (n nameRow) encode() []byte {
	dst := make([]byte, 1, 48)
	if n.linked {
		dst[0] |= nameLinked
	}
	if n.based {
		dst[0] |= nameBased
		if n.name != "" {
			dst[0] |= nameOwn
			dst = appendBytes(dst, n.name)
		}
		dst = appendStat(dst, n.stat)
	}
	return dst
}

func decodeName(v []byte) (n nameRow, err error) {
	d := reading{b: v}
	flags := d.byte()
	n.linked, n.based = flags&nameLinked != 0, flags&nameBased != 0
	if flags&nameOwn != 0 {
		n.name = string(d.bytes())
	}
	if n.based {
		n.stat = d.stat()
	}
	if own := flags&nameOwn != 0; flags == 0 || flags >= nameOwn<<1 || own && (!n.based || n.name == "") {
		d.bad = true
	}
	if err := d.end(); err != nil {
		return n, fmt.Errorf("name row: %w", err)
	}
	return n, nil
}
