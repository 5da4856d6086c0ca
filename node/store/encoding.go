package store

import (
	"encoding/binary"
	"errors"

	"sheaf/crdt"
	"sheaf/node/stat"
)

var errShort = errors.New("value ends too early or is malformed")

// A reading takes a stored value apart. Its first failure sticks, and all that
// is read after it is zero.
type reading struct {
	b   []byte
	bad bool
}

func (d *reading) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *reading) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *reading) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *reading) int() int64 {
	v, n := binary.Varint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *reading) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	return d.take(int(n))
}

func (d *reading) id() (id crdt.EntryID) {
	copy(id[:], d.take(idLen))
	return id
}

// end gives the failure, if there was one or something is left over.
func (d *reading) end() error {
	if d.bad {
		return errShort
	}
	if len(d.b) > 0 {
		return errors.New("value has something after its end")
	}
	return nil
}

func appendBytes[T string | []byte](dst []byte, v T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(v))), v...)
}

func appendLocation(dst []byte, at crdt.Location) []byte {
	return appendBytes(append(dst, at.Parent[:]...), at.Name)
}

func (d *reading) location() crdt.Location {
	return crdt.Location{Parent: d.id(), Name: string(d.bytes())}
}

// appendStat adds a Stat. The times are each told by their distance from
// another that is often near.
func appendStat(dst []byte, s stat.Stat) []byte {
	dst = append(dst, byte(s.Kind))
	dst = binary.AppendUvarint(dst, uint64(s.Mode))
	dst = binary.AppendVarint(dst, s.Size)
	dst = binary.AppendVarint(dst, s.Modified)
	dst = binary.AppendVarint(dst, s.Changed-s.Modified)
	dst = binary.AppendVarint(dst, s.Born-s.Changed)
	dst = binary.AppendUvarint(dst, s.Inode)
	dst = binary.AppendUvarint(dst, s.Device)
	return binary.AppendUvarint(dst, uint64(s.Links))
}

func (d *reading) stat() (s stat.Stat) {
	s.Kind = stat.Kind(d.byte())
	s.Mode = uint32(d.uint())
	s.Size = d.int()
	s.Modified = d.int()
	s.Changed = d.int() + s.Modified
	s.Born = d.int() + s.Changed
	s.Inode = d.uint()
	s.Device = d.uint()
	s.Links = uint32(d.uint())
	return s
}
