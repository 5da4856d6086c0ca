package crdt

import (
	"bytes"
	"math"
	"slices"
)

// An entry is written as one CBOR item in core deterministic encoding (RFC 8949,
// 4.2.1), without maps. Replicas are named by their index in the table.
//
//	entry   = [id, kind, table, place, attrs, live, seen, ? last]
//	id      = bytes .size 16
//	table   = bytes                      each replica once, 8 bytes each, ascending
//	place   = [count, time, replica, parent, name, ? from-name, ? from-parent]
//	          parent: bytes, empty for the root; from-name and from-parent only
//	          where they differ (from-parent needs from-name before it)
//	attrs   = [count, time', replica, mode, ? mtime]
//	live    = [* [replica, counter, ? version...]]      a presence has no version
//	version = count, time', replica, author, content, size, blocks, mtime, ? target
//	seen    = [* (replica, counter)]     flat; without what the dots of live tell
//	last    = [version...] / null        left out where it is the greatest version
//	          in live, or there is none of either
//
// time is in Unix milliseconds; time' is the difference to the place's time.
// [MaxEncoded] bounds the whole. testdata/entries.txt has examples.

// maxTable is how many replicas an entry may name: those of Seen, and a few that
// only stamp a register.
const maxTable = 2 * MaxReplicas

// Encode appends the encoded entry to dst. Equal entries have equal encodings.
// Only what [Validate] would call well-formed can be decoded again.
func (e Entry) Encode(dst []byte) []byte {
	var space [8]ReplicaID
	w := entryWriter{e: &e, table: replicaTable(&e, space[:0])}
	last, items := w.explicitLast(), 7
	if last {
		items = 8
	}
	dst = appendArray(dst, items)
	dst = appendBytes(dst, e.ID[:])
	dst = appendUint(dst, uint64(e.Kind))
	dst = appendHead(dst, cborBytes, uint64(len(w.table)*len(ReplicaID{})))
	for _, r := range w.table {
		dst = append(dst, r[:]...)
	}
	dst = w.place(dst)
	dst = w.attrs(dst)
	dst = w.live(dst)
	dst = w.seen(dst)
	if last && e.Last == nil {
		return append(dst, cborNull)
	}
	if last {
		dst = appendArray(dst, versionItems(e.Last))
		dst = w.version(dst, e.Last)
	}
	return dst
}

// replicas gives the number of replicas that the table would name, or fewer
// where they cannot be too many.
func (e Entry) replicas() int {
	if len(e.Seen)+2*len(e.Live)+3 <= maxTable {
		return 0
	}
	return len(replicaTable(&e, nil))
}

// encodedBound gives a bound, quickly, of what Encode takes.
func (e Entry) encodedBound() int {
	n := 200 + len(e.Place.Name) + len(e.Place.From.Name) + 24*len(e.Seen) + e.Last.encodedBound()
	for _, f := range e.Live {
		n += 24 + f.Version.encodedBound()
	}
	return n
}

func (v *Version) encodedBound() int {
	if v == nil {
		return 1
	}
	return 128 + len(v.Author) + len(v.Target)
}

type entryWriter struct {
	e     *Entry
	table []ReplicaID
}

// replicaTable appends the replicas that an entry names to an empty table.
func replicaTable(e *Entry, table []ReplicaID) []ReplicaID {
	table = nameReplica(table, e.Place.Stamp.Replica)
	table = nameReplica(table, e.Attrs.Stamp.Replica)
	for _, f := range e.Live {
		table = nameReplica(table, f.Dot.Replica)
		if f.Version != nil {
			table = nameReplica(table, f.Version.Stamp.Replica)
		}
	}
	for _, d := range e.Seen {
		table = nameReplica(table, d.Replica)
	}
	if e.Last != nil {
		table = nameReplica(table, e.Last.Stamp.Replica)
	}
	return table
}

// nameReplica puts a replica in its place in the table, if it is not there.
func nameReplica(table []ReplicaID, r ReplicaID) []ReplicaID {
	i := findReplica(table, r)
	if i < len(table) && table[i] == r {
		return table
	}
	table = append(table, r)
	copy(table[i+1:], table[i:])
	table[i] = r
	return table
}

// findReplica gives the index of the first replica that is not less than r.
func findReplica(table []ReplicaID, r ReplicaID) int {
	i, j := 0, len(table)
	for i < j {
		if h := (i + j) / 2; bytes.Compare(table[h][:], r[:]) < 0 {
			i = h + 1
		} else {
			j = h
		}
	}
	return i
}

func (w *entryWriter) replica(dst []byte, r ReplicaID) []byte {
	return appendUint(dst, uint64(findReplica(w.table, r)))
}

func (w *entryWriter) place(dst []byte) []byte {
	p := &w.e.Place
	items := 5
	switch {
	case p.From.Parent != p.Parent:
		items = 7
	case p.From.Name != p.Name:
		items = 6
	}
	dst = appendArray(dst, items)
	dst = appendUint(dst, p.Stamp.Count)
	dst = appendInt(dst, p.Stamp.Time)
	dst = w.replica(dst, p.Stamp.Replica)
	dst = appendParent(dst, p.Parent)
	dst = appendText(dst, p.Name)
	if items > 5 {
		dst = appendText(dst, p.From.Name)
	}
	if items > 6 {
		dst = appendParent(dst, p.From.Parent)
	}
	return dst
}

func appendParent(dst []byte, id EntryID) []byte {
	if id == Root {
		return appendBytes(dst, nil)
	}
	return appendBytes(dst, id[:])
}

// stamp writes a stamp other than the place's. Differences wrap around, so that
// any two times have one.
func (w *entryWriter) stamp(dst []byte, s Stamp) []byte {
	dst = appendUint(dst, s.Count)
	dst = appendInt(dst, s.Time-w.e.Place.Stamp.Time)
	return w.replica(dst, s.Replica)
}

func (w *entryWriter) attrs(dst []byte) []byte {
	a := &w.e.Attrs
	items := 4
	if a.HasMTime {
		items = 5
	}
	dst = appendArray(dst, items)
	dst = w.stamp(dst, a.Stamp)
	dst = appendUint(dst, uint64(a.Mode))
	if a.HasMTime {
		dst = appendInt(dst, a.MTime)
	}
	return dst
}

func (w *entryWriter) live(dst []byte) []byte {
	dst = appendArray(dst, len(w.e.Live))
	for _, f := range w.e.Live {
		dst = appendArray(dst, 2+versionItems(f.Version))
		dst = w.replica(dst, f.Dot.Replica)
		dst = appendUint(dst, f.Dot.Counter)
		if f.Version != nil {
			dst = w.version(dst, f.Version)
		}
	}
	return dst
}

func versionItems(v *Version) int {
	switch {
	case v == nil:
		return 0
	case v.Target == "":
		return 8
	}
	return 9
}

func (w *entryWriter) version(dst []byte, v *Version) []byte {
	dst = w.stamp(dst, v.Stamp)
	dst = appendText(dst, v.Author)
	dst = appendBytes(dst, v.Content[:])
	dst = appendInt(dst, v.Size)
	dst = appendUint(dst, uint64(v.Blocks))
	dst = appendInt(dst, v.MTime)
	if v.Target != "" {
		dst = appendText(dst, v.Target)
	}
	return dst
}

// liveCounter gives the highest counter of a replica's dots in Live.
func liveCounter(live []Facet, r ReplicaID) uint64 {
	var n uint64
	for _, f := range live {
		if f.Dot.Replica == r {
			n = max(n, f.Dot.Counter)
		}
	}
	return n
}

func (w *entryWriter) seen(dst []byte) []byte {
	n := 0
	for _, d := range w.e.Seen {
		if liveCounter(w.e.Live, d.Replica) != d.Counter {
			n++
		}
	}
	dst = appendArray(dst, 2*n)
	for _, d := range w.e.Seen {
		if liveCounter(w.e.Live, d.Replica) != d.Counter {
			dst = w.replica(dst, d.Replica)
			dst = appendUint(dst, d.Counter)
		}
	}
	return dst
}

func (w *entryWriter) explicitLast() bool {
	return compareVersions(w.e.Last, w.e.liveVersion()) != 0
}

// Decode reads one encoded entry, which data must hold and nothing else. It
// takes exactly what [Entry.Encode] gives, of entries whose vectors and dots are
// in order; a *[DecodeError] says why it does not. It shares no memory with data
// and allocates no more than a small multiple of its length. What the entry says
// is judged by [Validate].
func Decode(data []byte) (Entry, error) {
	if len(data) > MaxEncoded {
		return Entry{}, &DecodeError{MaxEncoded, "longer than an entry may be"}
	}
	r := entryReader{cborReader: cborReader{data: data}}
	e := r.entry()
	if r.err != nil {
		return Entry{}, r.err
	}
	if r.pos != len(data) {
		return Entry{}, &DecodeError{r.pos, "more than one item"}
	}
	if err := checkShape(e); err != nil {
		return Entry{}, &DecodeError{r.pos, err.Error()}
	}
	var space [512]byte
	if again := e.Encode(space[:0]); !bytes.Equal(again, data) {
		return Entry{}, &DecodeError{firstDifference(again, data), "not in the one form it is written in"}
	}
	return e, nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

type entryReader struct {
	cborReader
	table []byte
	base  int64 // the place's time
}

func (r *entryReader) entry() Entry {
	var e Entry
	items := r.array(7, 8, "entry")
	copy(e.ID[:], r.bytes(cborBytes, len(e.ID), len(e.ID), "ID"))
	e.Kind = Kind(r.uint(math.MaxUint8, "kind"))
	r.table = r.bytes(cborBytes, 0, maxTable*len(ReplicaID{}), "replica table")
	if len(r.table)%len(ReplicaID{}) != 0 {
		r.fail("wrong length of replica table")
	}
	e.Place = r.place()
	e.Attrs = r.attrs()
	e.Live = r.live()
	e.Seen = r.seen(e.Live)
	switch {
	case items == 7:
		e.Last = e.liveVersion()
	case r.null():
	default:
		e.Last = r.version(r.array(8, 9, "last version"))
	}
	return e
}

func (r *entryReader) replica() ReplicaID {
	var id ReplicaID
	i := r.uint(MaxEncoded, "replica index")
	if r.err == nil && int(i) >= len(r.table)/len(id) {
		r.fail("replica index out of range")
	}
	if r.err == nil {
		copy(id[:], r.table[int(i)*len(id):])
	}
	return id
}

func (r *entryReader) parent() EntryID {
	var id EntryID
	b := r.bytes(cborBytes, 0, len(id), "parent")
	if len(b) != 0 && len(b) != len(id) {
		r.fail("wrong length of parent")
	}
	copy(id[:], b)
	return id
}

func (r *entryReader) place() Place {
	var p Place
	items := r.array(5, 7, "place")
	p.Stamp.Count = r.uint(math.MaxUint64, "count")
	p.Stamp.Time = r.int("time")
	r.base = p.Stamp.Time
	p.Stamp.Replica = r.replica()
	p.Parent = r.parent()
	p.Name = r.text(MaxNameBytes, "name")
	p.From = p.Location
	if items > 5 {
		p.From.Name = r.text(MaxNameBytes, "name")
	}
	if items > 6 {
		p.From.Parent = r.parent()
	}
	return p
}

func (r *entryReader) stamp() Stamp {
	var s Stamp
	s.Count = r.uint(math.MaxUint64, "count")
	s.Time = r.base + r.int("time")
	s.Replica = r.replica()
	return s
}

func (r *entryReader) attrs() Attrs {
	var a Attrs
	items := r.array(4, 5, "attributes")
	a.Stamp = r.stamp()
	a.Mode = uint32(r.uint(math.MaxUint32, "mode"))
	if items > 4 {
		a.HasMTime = true
		a.MTime = r.int("modification time")
	}
	return a
}

func (r *entryReader) live() []Facet {
	n := r.array(0, MaxEncoded, "live dots")
	if n == 0 {
		return nil
	}
	live := make([]Facet, 0, min(n, MaxReplicas))
	for range n {
		items := r.array(2, 11, "dot")
		var f Facet
		f.Dot.Replica = r.replica()
		f.Dot.Counter = r.uint(math.MaxUint64, "counter")
		if items > 2 {
			f.Version = r.version(items - 2)
		}
		if r.err != nil {
			return nil
		}
		live = append(live, f)
	}
	return live
}

// version reads the items of a version; their number has been read.
func (r *entryReader) version(items int) *Version {
	if items < 8 {
		r.fail("wrong number of items in version")
	}
	if r.err != nil {
		return nil
	}
	v := new(Version)
	v.Stamp = r.stamp()
	v.Author = r.text(MaxAuthor, "author")
	copy(v.Content[:], r.bytes(cborBytes, len(v.Content), len(v.Content), "content"))
	v.Size = r.int("size")
	v.Blocks = uint32(r.uint(math.MaxUint32, "blocks"))
	v.MTime = r.int("modification time")
	if items > 8 {
		v.Target = r.text(MaxTarget, "target")
	}
	return v
}

func (r *entryReader) seen(live []Facet) VersionVector {
	n := r.array(0, MaxEncoded, "seen vector")
	if n%2 != 0 {
		r.fail("wrong number of items in seen vector")
		return nil
	}
	var seen VersionVector
	if len(live)+n > 0 {
		seen = make(VersionVector, 0, min(len(live)+n/2, MaxReplicas))
	}
	for _, f := range live { // sorted by dot: the last of a replica is its highest
		if k := len(seen); k > 0 && seen[k-1].Replica == f.Dot.Replica {
			seen[k-1] = f.Dot
			continue
		}
		seen = append(seen, f.Dot)
	}
	for range n / 2 {
		d := Dot{Replica: r.replica()}
		d.Counter = r.uint(math.MaxUint64, "counter")
		if r.err != nil {
			return nil
		}
		if i, ok := seen.find(d.Replica); ok {
			seen[i] = d
		} else {
			seen = slices.Insert(seen, i, d)
		}
	}
	return seen
}
