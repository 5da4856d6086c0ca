package store

import (
	"bytes"
	"slices"

	"sheaf/crdt"
	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

// facts is all that the other tables and counts hold because of one row. It is
// a pure function of the row (derive), so a row is replaced by taking back its
// old facts and stating its new ones, and a checker needs nothing but the rows.
type facts struct {
	seq      uint64 // zero: none
	behind   bool
	missing  int64 // bytes of content to fetch, when behind
	based    bool  // on the disk, as
	at       crdt.Location
	offPlace bool // on the disk under another directory than its Place says
	stat     stat.Stat
	blocks   blockSource
	lists    []crdt.ContentHash // of more than one block, sorted
	count    Stats
}

// A blockSource is a content that lies on this disk.
type blockSource struct {
	content crdt.ContentHash
	blocks  uint32 // zero: none
	size    int64
}

// Stats counts the entries of a folder, those the view shows and those the
// disk has.
type Stats struct {
	Files       int64 // shown
	Directories int64
	Symlinks    int64
	Bytes       int64 // of the files shown
	Conflicts   int64 // conflict copies shown that nobody has moved or renamed
	Dead        int64 // entries not shown
	Here        int64 // entries on this disk
	HereBytes   int64 // of the files on this disk
}

// list gives the addresses of the counts, in the order in which they are stored.
func (s *Stats) list() [8]*int64 {
	return [...]*int64{&s.Files, &s.Directories, &s.Symlinks, &s.Bytes, &s.Conflicts, &s.Dead, &s.Here, &s.HereBytes}
}

func (s *Stats) add(t Stats, sign int64) {
	to, from := s.list(), t.list()
	for i := range to {
		*to[i] += sign * *from[i]
	}
}

// derive gives a row's facts.
func derive(r *row) (facts, error) {
	f := facts{seq: r.seq}
	if r.indexed() {
		if err := f.ofIndex(r); err != nil {
			return facts{}, err
		}
	}
	if r.base != nil {
		if err := f.ofBase(r); err != nil {
			return facts{}, err
		}
	}
	slices.SortFunc(f.lists, func(a, b crdt.ContentHash) int { return bytes.Compare(a[:], b[:]) })
	f.lists = slices.Compact(f.lists)
	return f, nil
}

func (f *facts) ofIndex(r *row) error {
	e, err := r.state()
	if err != nil {
		return err
	}
	n, err := r.view()
	if err != nil {
		return err
	}
	f.refer(e)
	shown := e.Shown()
	switch {
	case !n.Visible():
		f.count.Dead++
	case e.Kind == crdt.Directory:
		f.count.Directories++
	case e.Kind == crdt.Symlink:
		f.count.Symlinks++
	default:
		f.count.Files++
		if shown != nil {
			f.count.Bytes += shown.Size
		}
	}
	// A conflict copy is placed with a Stamp of Count zero, which no change
	// that a person makes has.
	if n.Visible() && e.Place.Stamp.Count == 0 {
		f.count.Conflicts++
	}
	if f.behind, err = isBehind(r, n); err != nil {
		return err
	}
	if f.behind && n.Visible() && e.Kind == crdt.File && shown != nil {
		have, err := hasContent(r, shown.Content)
		if err != nil {
			return err
		}
		if !have {
			f.missing = shown.Size
		}
	}
	return nil
}

// isBehind tells whether the disk does not show what the view shows.
func isBehind(r *row, n crdt.Node) (bool, error) {
	b := r.base
	if b == nil || b.enc != nil || b.here != n.Visible() {
		return true, nil
	}
	if !b.here {
		return false, nil
	}
	at, err := r.onDisk()
	if err != nil {
		return false, err
	}
	if b.alias != "" {
		at.Name = b.alias
	}
	return at != crdt.Location{Parent: n.At.Parent, Name: n.Shown}, nil
}

func hasContent(r *row, c crdt.ContentHash) (bool, error) {
	if r.base == nil || !r.base.here {
		return false, nil
	}
	e, err := r.baseState()
	if err != nil {
		return false, err
	}
	v := e.Shown()
	return v != nil && v.Content == c, nil
}

func (f *facts) ofBase(r *row) error {
	e, err := r.baseState()
	if err != nil {
		return err
	}
	f.refer(e)
	if !r.base.here {
		return nil
	}
	if f.at, err = r.onDisk(); err != nil {
		return err
	}
	f.based, f.stat = true, r.base.stat
	f.offPlace = f.at.Parent != e.Place.Parent
	f.count.Here++
	if v := e.Shown(); e.Kind == crdt.File && v != nil {
		f.count.HereBytes += v.Size
		f.blocks = blockSource{content: v.Content, blocks: v.Blocks, size: v.Size}
	}
	return nil
}

// refer notes the contents whose block lists the state needs.
func (f *facts) refer(e crdt.Entry) {
	if e.Kind != crdt.File {
		return
	}
	for _, l := range e.Live {
		if l.Version != nil && l.Version.Blocks > 1 {
			f.lists = append(f.lists, l.Version.Content)
		}
	}
	if e.Last != nil && e.Last.Blocks > 1 {
		f.lists = append(f.lists, e.Last.Content)
	}
}

// A blockRow is where a block first stands in a content.
type blockRow struct {
	offset int64
	size   uint32
}

// blockRows gives the rows of the block index for a content with this list.
func blockRows(list chunk.List) map[[hashCut]byte]blockRow {
	rows := make(map[[hashCut]byte]blockRow, len(list))
	var offset int64
	for _, b := range list {
		k := [hashCut]byte(b.Hash[:hashCut])
		if _, ok := rows[k]; !ok {
			rows[k] = blockRow{offset, b.Size}
		}
		offset += int64(b.Size)
	}
	return rows
}
