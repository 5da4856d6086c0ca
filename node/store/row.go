package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// A row is all that is known of one entry. The root has one too, for the count
// of its children. Encoded states are kept beside decoded ones, so that what
// is only carried along is never decoded, and equal states compare as bytes
// (the encoding is canonical).
type row struct {
	id    crdt.EntryID
	seq   uint64 // zero: not in the index
	enc   []byte // the index's state
	node  nodeRow
	base  *baseRow // nil: the disk never took it in
	entry *crdt.Entry
}

// A nodeRow is a crdt.Node of which a part may stand in the entry.
type nodeRow struct {
	children uint32
	visible  bool
	plain    bool          // at its own Place
	at       crdt.Location // where not plain
	shown    string        // where visible and not the name in at (or Place)
}

type baseRow struct {
	enc   []byte // nil: the same state as the index's
	here  bool
	entry *crdt.Entry
	view  bool          // At is where the view has it
	at    crdt.Location // where not view
	alias string
	stat  stat.Stat
}

const (
	rowIndexed = 1 << iota
	rowVisible
	rowMoved // the view has it at another location than its Place
	rowNamed // the view shows another name than that location's
	rowParent
	rowBase
	rowSame
	rowHere
)

const (
	baseAt    = 1 << iota // At is not where the view has it, and follows
	baseAlias             // Alias follows
)

func (r *row) indexed() bool { return r.seq != 0 }

// state gives the index's state of the entry.
func (r *row) state() (crdt.Entry, error) {
	if r.entry == nil {
		e, err := decodeEntry(r.id, r.enc)
		if err != nil {
			return crdt.Entry{}, err
		}
		r.entry = &e
	}
	return *r.entry, nil
}

func decodeEntry(id crdt.EntryID, enc []byte) (crdt.Entry, error) {
	e, err := crdt.Decode(enc)
	if err != nil {
		return crdt.Entry{}, fmt.Errorf("decode entry %s: %w", id, err)
	}
	if e.ID != id {
		return crdt.Entry{}, fmt.Errorf("the row of entry %s holds entry %s", id, e.ID)
	}
	return e, nil
}

// baseState gives the state that the disk has taken in.
func (r *row) baseState() (crdt.Entry, error) {
	if r.base.enc == nil {
		return r.state()
	}
	if r.base.entry == nil {
		e, err := decodeEntry(r.id, r.base.enc)
		if err != nil {
			return crdt.Entry{}, err
		}
		r.base.entry = &e
	}
	return *r.base.entry, nil
}

// view gives the entry's node.
func (r *row) view() (crdt.Node, error) {
	n := crdt.Node{At: r.node.at, Children: r.node.children}
	if r.node.plain {
		e, err := r.state()
		if err != nil {
			return n, err
		}
		n.At = e.Place.Location
	}
	if r.node.visible {
		n.Shown = n.At.Name
		if r.node.shown != "" {
			n.Shown = r.node.shown
		}
	}
	return n, nil
}

// onDisk gives where the disk has the entry.
func (r *row) onDisk() (crdt.Location, error) {
	if !r.base.view {
		return r.base.at, nil
	}
	n, err := r.view()
	if err == nil && !n.Visible() {
		err = fmt.Errorf("entry %s is on the disk where the view does not show it", r.id)
	}
	return crdt.Location{Parent: n.At.Parent, Name: n.Shown}, err
}

// pin makes what the base has in common with index and view its own, before
// those change.
func (r *row) pin() error {
	if r.base == nil {
		return nil
	}
	at, err := r.onDisk()
	if err != nil {
		return err
	}
	r.base.at, r.base.view = at, false
	return nil
}

// setView puts a node into the row.
func (r *row) setView(n crdt.Node) error {
	if err := r.pin(); err != nil {
		return err
	}
	w := nodeRow{children: n.Children, visible: n.Visible()}
	if r.indexed() {
		e, err := r.state()
		if err != nil {
			return err
		}
		w.plain = n.At == e.Place.Location
	}
	if !w.plain {
		w.at = n.At
	}
	if n.Shown != n.At.Name {
		w.shown = n.Shown
	}
	r.node = w
	return nil
}

// setState puts the index's state into the row; the view has to be put after it.
func (r *row) setState(e crdt.Entry, enc []byte, seq uint64) error {
	if err := r.pin(); err != nil {
		return err
	}
	if r.base != nil {
		switch {
		case r.base.enc == nil:
			r.base.enc, r.base.entry = r.enc, r.entry
		case bytes.Equal(r.base.enc, enc):
			r.base.enc, r.base.entry = nil, nil
		}
	}
	r.enc, r.entry, r.seq = enc, &e, seq
	return nil
}

// baseOut gives the row's base, if it has one.
func (r *row) baseOut() (Base, bool, error) {
	if r.base == nil {
		return Base{}, false, nil
	}
	e, err := r.baseState()
	if err != nil {
		return Base{}, false, err
	}
	at, err := r.onDisk()
	return Base{ID: r.id, Entry: e, Here: r.base.here, At: at, Alias: r.base.alias, Stat: r.base.stat}, err == nil, err
}

// setBase puts a base into the row.
func (r *row) setBase(b Base) {
	w := &baseRow{here: b.Here}
	if enc := b.Entry.Encode(nil); !r.indexed() || !bytes.Equal(enc, r.enc) {
		w.enc, w.entry = enc, &b.Entry
	}
	if b.Here {
		w.at, w.stat = b.At, b.Stat
		if b.Alias != b.At.Name {
			w.alias = b.Alias
		}
	}
	r.base = w
}

// encode gives the row's value.
func (r *row) encode() ([]byte, error) {
	dst := make([]byte, 1, 64+len(r.enc))
	flags := byte(0)
	if r.indexed() {
		flags |= rowIndexed
		dst = binary.AppendUvarint(dst, r.seq)
	}
	if r.node.visible {
		flags |= rowVisible
	}
	if r.node.children > 0 {
		flags |= rowParent
		dst = binary.AppendUvarint(dst, uint64(r.node.children))
	}
	if r.indexed() && !r.node.plain {
		flags |= rowMoved
		dst = appendLocation(dst, r.node.at)
	}
	if r.node.visible && r.node.shown != "" {
		flags |= rowNamed
		dst = appendBytes(dst, r.node.shown)
	}
	if r.base != nil {
		flags |= rowBase
		if r.base.enc == nil {
			flags |= rowSame
		} else {
			dst = appendBytes(dst, r.base.enc)
		}
		if r.base.here {
			flags |= rowHere
			var err error
			if dst, err = r.appendHere(dst); err != nil {
				return nil, err
			}
		}
	}
	if r.indexed() {
		dst = append(dst, r.enc...)
	}
	dst[0] = flags
	return dst, nil
}

// appendHere adds what the disk shows.
func (r *row) appendHere(dst []byte) ([]byte, error) {
	at, err := r.onDisk()
	if err != nil {
		return nil, err
	}
	n, err := r.view()
	if err != nil {
		return nil, err
	}
	i, flags := len(dst), byte(0)
	dst = append(dst, 0)
	if !n.Visible() || at != (crdt.Location{Parent: n.At.Parent, Name: n.Shown}) {
		flags |= baseAt
		dst = appendLocation(dst, at)
	}
	if r.base.alias != "" {
		flags |= baseAlias
		dst = appendBytes(dst, r.base.alias)
	}
	dst[i] = flags
	return appendStat(dst, r.base.stat), nil
}

// decodeRow undoes encode. The row keeps parts of data.
func decodeRow(id crdt.EntryID, data []byte) (*row, error) {
	d := reading{b: data}
	r := &row{id: id}
	flags := d.byte()
	if flags&rowIndexed != 0 {
		if r.seq = d.uint(); r.seq == 0 {
			d.bad = true
		}
	}
	r.node.visible = flags&rowVisible != 0
	if flags&rowParent != 0 {
		r.node.children = uint32(d.uint())
	}
	r.node.plain = r.indexed() && flags&rowMoved == 0
	if flags&rowMoved != 0 {
		r.node.at = d.location()
	}
	if flags&rowNamed != 0 {
		r.node.shown = string(d.bytes())
	}
	if flags&rowBase != 0 {
		r.base = d.base(flags)
		if r.base.enc == nil && !r.indexed() {
			d.bad = true
		}
	}
	if r.indexed() {
		r.enc = d.take(len(d.b))
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("row of entry %s: %w", id, err)
	}
	return r, nil
}

func (d *reading) base(row byte) *baseRow {
	b := &baseRow{here: row&rowHere != 0}
	if row&rowSame == 0 {
		b.enc = d.bytes()
	}
	if !b.here {
		return b
	}
	flags := d.byte()
	if b.view = flags&baseAt == 0; !b.view {
		b.at = d.location()
	}
	if flags&baseAlias != 0 {
		b.alias = string(d.bytes())
	}
	b.stat = d.stat()
	return b
}
