package plan

import (
	"cmp"
	"fmt"
	"slices"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// A Sighting is what was seen of one directory.
type Sighting struct {
	Dir      crdt.EntryID
	Complete bool   // all of the directory was listed, without error; else only some names were looked at
	Items    []Item // what stands there, ignored and unfit names left out
	// Known are the base rows under Dir that are Here: all of them if Complete,
	// else those at the names looked at.
	Known []Known
	// Blocked gives, by name, why something that is there is not looked at
	// (ignored, special, unreadable): an entry known there is unknown, never gone.
	Blocked map[string]string
}

// Is says what the disk shows of an entry, compared with the base.
type Is uint8

// What a [Binding] can be. Directories are never hashed: a directory is Suspect
// or MovedSuspect where its mode, or the file system's identity of it, is
// another one.
const (
	Unchanged    Is = iota + 1 // at the same path, and nothing tells of a change
	Suspect                    // at the same path, perhaps changed: read it
	Moved                      // the same file under another name: no need to read it
	MovedSuspect               // the same under another name, perhaps changed: read it
	New                        // no known entry: read it
	Gone                       // a known entry that is not there: ask DecideGone, then Gate
)

// String gives the word for tests and logs.
func (i Is) String() string {
	switch i {
	case Unchanged:
		return "unchanged"
	case Suspect:
		return "suspect"
	case Moved:
		return "moved"
	case MovedSuspect:
		return "moved, suspect"
	case New:
		return "new"
	case Gone:
		return "gone"
	}
	return fmt.Sprintf("is(%d)", uint8(i))
}

// A Binding says which entry an item is.
type Binding struct {
	Name  string // of the item; of the known entry where it is Gone
	Item  Item   // zero where Gone
	Known *Known // nil where New
	Is    Is
	// Unsure is set where the item is taken for an edit of the entry known at its
	// path because nothing else was seen of that one, in a sighting that is not
	// Complete: a look at all of the directory may show that names were swapped.
	Unsure bool
	// Over is the entry that is Gone in this same sighting and of which it must be
	// decided first: it was known at this name, or at the name to which the entry
	// was renamed that was known here, and so on. Nil for none.
	Over *Known
}

// Bind says which entry each item of a sighting is, and which known entries are
// gone. Renamed items come first, since what is recorded of them frees the names
// that new items have taken; then the others in their order; then gone entries
// in theirs.
//
// elsewhere gives the base row of another directory (or of a name that was not
// looked at) that the item is by the identity of its file, if it has left its
// old path: see [MovedAway]. It may be asked about any item that is not known
// where it stands.
//
// An entry follows its path before its file, since programs save by writing a
// new file and renaming it over the old, or by renaming the old away first; and
// it follows its file before it is taken for gone. In order:
//
//  1. The same file at the same path is the entry.
//  2. A file at the path of a known file, that is no known entry's file, is an
//     edit of the one known there, even if that one's file is seen by another
//     name (it is a backup then, and new). Directories follow their identity
//     first: nobody saves a directory.
//  3. What is left is bound by identity: renames, rotations and swaps, moves from
//     other directories. But a file renamed over a known one, of which nothing
//     else is seen, is an edit of the one it replaced.
//  4. What is left is bound by path, then by names that differ in Unicode form
//     alone, where the kinds agree.
//  5. The rest is New or Gone.
//
// A second hard link to a file that is still at its path is a file of its own.
func Bind(s Sighting, elsewhere func(Item) (Known, bool)) []Binding {
	b := newBinder(s)
	b.samePlace()
	b.identify(elsewhere)
	for i := range b.known {
		b.tryPath(i)
	}
	b.byIdentity()
	b.byPath()
	b.byNameKey()
	return b.bindings()
}

const none = -1

type binder struct {
	s       Sighting
	known   []knownSlot
	items   []itemSlot
	knownAt map[string]int
	itemAt  map[string]int
	knownID map[crdt.EntryID]int
	far     map[crdt.EntryID]bool // rows of elsewhere in use
}

type knownSlot struct {
	unknown  bool // blocked, or not looked at: neither there nor gone
	item     int  // bound to
	claimant int  // item that has the identity of its file
}

type itemSlot struct {
	there bool
	known int    // bound to
	ident int    // known of this directory that it is by identity
	far   *Known // or of another one
	bound bool   // to known, or to far
	is    Is
	alone bool // bound to what is known at its path, though it is another entry's file
}

func newBinder(s Sighting) *binder {
	b := &binder{
		s:       s,
		known:   make([]knownSlot, len(s.Known)),
		items:   make([]itemSlot, len(s.Items)),
		knownAt: make(map[string]int, len(s.Known)),
		itemAt:  make(map[string]int, len(s.Items)),
		knownID: make(map[crdt.EntryID]int, len(s.Known)),
		far:     make(map[crdt.EntryID]bool),
	}
	for i, item := range s.Items {
		_, blocked := s.Blocked[item.Name]
		b.items[i] = itemSlot{there: kindOf(item.Stat.Kind) != 0 && !blocked, known: none, ident: none}
		b.itemAt[item.Name] = i
	}
	for i, k := range s.Known {
		_, blocked := s.Blocked[k.At.Name]
		at, seen := b.itemAt[k.At.Name]
		special := seen && s.Items[at].Stat.Kind == stat.Other
		b.known[i] = knownSlot{unknown: blocked || special || !seen && !s.Complete, item: none, claimant: none}
		b.knownAt[k.At.Name] = i
		b.knownID[k.ID] = i
	}
	return b
}

// held tells whether anything stands at a known entry's name.
func (b *binder) held(k int) bool {
	i, seen := b.itemAt[b.s.Known[k].At.Name]
	return seen && b.items[i].there
}

// free tells whether a known entry is still to be bound.
func (b *binder) free(k int) bool { return !b.known[k].unknown && b.known[k].item == none }

func (b *binder) open(i int) bool { return b.items[i].there && !b.items[i].bound }

func (b *binder) sameKind(k, i int) bool {
	return b.s.Known[k].Kind == kindOf(b.s.Items[i].Stat.Kind)
}

// bind binds item i to known k of this directory, and frees what the item or
// the entry was claimed by or claims otherwise.
func (b *binder) bind(k, i int, is Is) {
	it := &b.items[i]
	it.known, it.bound, it.is = k, true, is
	b.known[k].item = i
	b.unclaim(i)
	if c := b.known[k].claimant; c != none {
		b.unclaim(c)
	}
}

// unclaim takes its identity from an item.
func (b *binder) unclaim(i int) {
	it := &b.items[i]
	if it.ident != none {
		b.known[it.ident].claimant = none
		it.ident = none
	}
	if it.far != nil {
		delete(b.far, it.far.ID)
		it.far = nil
	}
}

// samePlace is rule 1.
func (b *binder) samePlace() {
	for i, item := range b.s.Items {
		k, ok := b.knownAt[item.Name]
		if ok && b.open(i) && b.free(k) && b.s.Known[k].Stat.SameFile(item.Stat) {
			b.bind(k, i, b.atPath(k, i))
		}
	}
}

// identify finds for each item that is left the entry whose file it is.
func (b *binder) identify(elsewhere func(Item) (Known, bool)) {
	type file struct{ device, inode uint64 }
	files := make(map[file][]int)
	for k, known := range b.s.Known {
		if b.free(k) && known.Stat.Inode != 0 {
			f := file{known.Stat.Device, known.Stat.Inode}
			files[f] = append(files[f], k)
		}
	}
	// Of hard links the one whose name is gone has moved, not one whose name holds
	// something else now.
	vacant := func(k int) int {
		if b.held(k) {
			return 1
		}
		return 0
	}
	for _, links := range files {
		if len(links) > 1 {
			slices.SortStableFunc(links, func(k, l int) int { return cmp.Compare(vacant(k), vacant(l)) })
		}
	}
	for i, item := range b.s.Items {
		if !b.open(i) {
			continue
		}
		for _, k := range files[file{item.Stat.Device, item.Stat.Inode}] {
			if b.known[k].claimant == none && b.s.Known[k].Stat.SameFile(item.Stat) {
				b.items[i].ident, b.known[k].claimant = k, i
				break
			}
		}
		if b.items[i].ident != none || elsewhere == nil {
			continue
		}
		far, ok := elsewhere(item)
		if !ok || b.far[far.ID] || far.Kind != kindOf(item.Stat.Kind) {
			continue
		}
		if _, here := b.knownID[far.ID]; here {
			continue // was looked at above
		}
		b.items[i].far = &far
		b.far[far.ID] = true
	}
}

// tryPath is rule 2 and the exception of rule 3, for the item at known k's path.
// What it frees is tried in its turn.
func (b *binder) tryPath(k int) {
	for work := []int{k}; len(work) > 0; {
		k := work[len(work)-1]
		work = work[:len(work)-1]
		i, ok := b.itemAt[b.s.Known[k].At.Name]
		if !ok || !b.open(i) || !b.free(k) || !b.sameKind(k, i) || b.s.Known[k].Kind == crdt.Directory {
			continue
		}
		it, claimant := b.items[i], b.known[k].claimant
		identified := it.ident != none || it.far != nil
		if identified && claimant != none {
			continue // both files are somewhere: two renames
		}
		b.items[i].alone = identified
		b.bind(k, i, b.atPath(k, i))
		if it.ident != none {
			work = append(work, it.ident)
		}
		if claimant != none {
			if other, ok := b.knownAt[b.s.Items[claimant].Name]; ok {
				work = append(work, other)
			}
		}
	}
}

// byIdentity is rule 3.
func (b *binder) byIdentity() {
	for i := range b.items {
		it := &b.items[i]
		switch {
		case !b.open(i):
		case it.ident != none:
			b.bind(it.ident, i, moved(b.s.Known[it.ident], b.s.Items[i]))
		case it.far != nil:
			it.bound, it.is = true, moved(*it.far, b.s.Items[i])
		}
	}
}

// byPath is what rule 4 leaves to do: directories without identity.
func (b *binder) byPath() {
	for i, item := range b.s.Items {
		if k, ok := b.knownAt[item.Name]; ok && b.open(i) && b.free(k) && b.sameKind(k, i) {
			b.bind(k, i, b.atPath(k, i))
		}
	}
}

// byNameKey binds names that differ in Unicode form alone, for disks that have
// no identity of files or write names in a form of their own.
func (b *binder) byNameKey() {
	left := make(map[string]int)
	for k, known := range b.s.Known {
		if b.free(k) && !b.held(k) {
			left[crdt.NameKey(known.At.Name)] = k
		}
	}
	if len(left) == 0 {
		return
	}
	for i, item := range b.s.Items {
		if !b.open(i) {
			continue
		}
		if k, ok := left[crdt.NameKey(item.Name)]; ok && b.free(k) && b.sameKind(k, i) {
			b.bind(k, i, MovedSuspect)
		}
	}
}

// atPath compares an item with the entry known at its own path.
func (b *binder) atPath(k, i int) Is {
	was, is := b.s.Known[k].Stat, b.s.Items[i].Stat
	same := was.Unchanged(is)
	if is.Kind == stat.Directory {
		same = was.Inode == is.Inode && was.Device == is.Device
	}
	if same && was.Mode == is.Mode && was.Born == is.Born {
		return Unchanged
	}
	return Suspect
}

// moved compares an item with the entry that it is by identity.
func moved(k Known, item Item) Is {
	same := k.Stat.SameContent(item.Stat) || k.Kind == crdt.Directory
	if same && k.Stat.Mode == item.Stat.Mode && k.Stat.Changed != smudged {
		return Moved
	}
	return MovedSuspect
}

func (b *binder) bindings() []Binding {
	out := make([]Binding, 0, len(b.items))
	for _, renamed := range [...]bool{true, false} {
		for i, it := range b.items {
			if it.there && renamed == (it.is == Moved || it.is == MovedSuspect) {
				out = append(out, b.binding(i))
			}
		}
	}
	for k, known := range b.s.Known {
		if b.free(k) {
			out = append(out, Binding{Name: known.At.Name, Known: &b.s.Known[k], Is: Gone})
		}
	}
	return out
}

func (b *binder) binding(i int) Binding {
	it, item := b.items[i], b.s.Items[i]
	bd := Binding{Name: item.Name, Item: item, Is: New}
	switch {
	case it.known != none:
		bd.Known, bd.Is, bd.Unsure = &b.s.Known[it.known], it.is, it.alone && !b.s.Complete
	case it.bound:
		bd.Known, bd.Is = it.far, it.is
	}
	for at := i; ; {
		k, ok := b.knownAt[b.s.Items[at].Name]
		if !ok || k == b.items[at].known || b.known[k].unknown {
			return bd
		}
		if at = b.known[k].item; at == none {
			bd.Over = &b.s.Known[k]
			return bd
		}
		if at == i {
			return bd // renamed in a circle
		}
	}
}
