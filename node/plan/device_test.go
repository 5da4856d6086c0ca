package plan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// device is a small engine: it observes its disk, records, receives and
// materialises, driven by the deciders of this package alone. What it keeps in
// memory is lost when it crashes; base and index are not.
type device struct {
	w       *world
	name    string
	replica crdt.ReplicaID
	counter uint64
	skew    int64 // of its clock, ms
	disk    *memDisk
	index   *crdt.MemRows
	base    map[crdt.EntryID]*baseRow
	gone    map[crdt.EntryID]time.Time // lost in a crash

	postponed []postponement // of this scan

	scanned bool // since the start
	dirty   bool // a person was at the disk since it was last fully observed
	again   bool // what was an entry's file was taken for another's: look once more
	records int  // made so far
}

type baseRow struct {
	Entry crdt.Entry
	Here  bool
	At    crdt.Location
	Stat  stat.Stat
}

func (d *device) now() time.Time { return time.Unix(0, d.w.clock) }

func (d *device) known(id crdt.EntryID, r *baseRow) Known {
	k := Known{ID: id, At: r.At, Place: r.Entry.Place.Location, Kind: r.Entry.Kind, Stat: r.Stat, Mode: r.Entry.Mode(), MTime: r.Entry.MTime()}
	if v := r.Entry.Shown(); v != nil {
		k.Content = v.Content
	}
	return k
}

func (d *device) staged(id crdt.EntryID) bool {
	r := d.base[id]
	return r != nil && r.Here && r.At.Parent == Staging
}

func (d *device) at(l crdt.Location) (crdt.EntryID, bool) {
	for id, r := range d.base {
		if r.Here && r.At == l && !d.staged(id) {
			return id, true
		}
	}
	return crdt.EntryID{}, false
}

func (d *device) children(parent crdt.EntryID) []crdt.EntryID {
	var ids []crdt.EntryID
	for id, r := range d.base {
		if r.Here && r.At.Parent == parent {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

func (d *device) descendants(id crdt.EntryID) []crdt.EntryID {
	ids := []crdt.EntryID{id}
	for i := 0; i < len(ids); i++ {
		ids = append(ids, d.children(ids[i])...)
	}
	return ids
}

// dir gives the inode of a directory on the disk by the names of the base.
func (d *device) dir(id crdt.EntryID) *inode {
	if id == crdt.Root {
		return d.disk.root
	}
	r := d.base[id]
	if r == nil || !r.Here {
		return nil
	}
	if r.At.Parent == Staging {
		return d.disk.stage[id]
	}
	parent := d.dir(r.At.Parent)
	if parent == nil {
		return nil
	}
	n := parent.kids[r.At.Name]
	if n == nil || n.kind != stat.Directory {
		return nil
	}
	return n
}

// path gives an entry's path on the disk, by the base.
func (d *device) path(id crdt.EntryID) string {
	r := d.base[id]
	if r.At.Parent == crdt.Root {
		return r.At.Name
	}
	return d.path(r.At.Parent) + "/" + r.At.Name
}

// sure tells whether the directory at an entry's path, and all above, are still
// the base's.
func (d *device) sure(id crdt.EntryID) bool {
	for id != crdt.Root {
		n, r := d.dir(id), d.base[id]
		if n == nil || d.staged(id) || r.Entry.Kind != crdt.Directory || n.ino != r.Stat.Inode || !d.disk.noBorn && n.born != r.Stat.Born {
			return false
		}
		id = r.At.Parent
	}
	return true
}

// crdt.Base for the Recorder.
type recorderBase struct{ d *device }

func (b recorderBase) Entry(id crdt.EntryID) (crdt.Entry, bool, error) {
	if r := b.d.base[id]; r != nil {
		return r.Entry, true, nil
	}
	return crdt.Entry{}, false, nil
}

func (b recorderBase) At(id crdt.EntryID) (crdt.Location, bool, error) {
	if r := b.d.base[id]; r != nil && r.Here {
		return r.At, true, nil
	}
	return crdt.Location{}, false, nil
}

func (b recorderBase) Fallen() ([]crdt.EntryID, error) {
	var ids []crdt.EntryID
	for id, r := range b.d.base {
		if r.Here && r.At.Parent != r.Entry.Place.Parent {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids, nil
}

// Views for Decide.
type deviceViews struct {
	d       *device
	leaving map[crdt.EntryID]bool
}

func (v deviceViews) Shown(id crdt.EntryID) (Shown, bool, error) {
	e, ok, _ := v.d.index.Entry(id)
	n, _, _ := v.d.index.Node(id)
	return Shown{e, n}, ok, nil
}

func (v deviceViews) At(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	return crdt.Find(v.d.index, parent, name)
}

func (v deviceViews) Here(id crdt.EntryID) (bool, error) {
	r := v.d.base[id]
	if r == nil || !r.Here || r.At.Parent == Staging {
		return false, nil
	}
	dir := v.d.dir(r.At.Parent)
	return dir != nil && dir.kids[r.At.Name] != nil && kindOf(dir.kids[r.At.Name].kind) == r.Entry.Kind, nil
}

func (v deviceViews) Vanished(c crdt.ContentHash) ([]Known, error) {
	var out []Known
	for id := range v.d.gone {
		if k := v.d.known(id, v.d.base[id]); k.Content == c {
			out = append(out, k)
		}
	}
	return out, nil
}

func (v deviceViews) Deleted(crdt.Location, int64) ([]Shown, error) { return nil, nil }

func (v deviceViews) Leaving(id crdt.EntryID) bool { return v.leaving[id] }

// Reader for Materialise.
type deviceReader struct {
	d     *device
	taken bool // looks at the disk for what is in the way
}

func (r deviceReader) Target(id crdt.EntryID) (Target, bool, error) {
	e, ok, _ := r.d.index.Entry(id)
	n, _, _ := r.d.index.Node(id)
	return TargetOf(e, n), ok, nil
}

func (r deviceReader) Base(id crdt.EntryID) (Known, bool, bool, error) {
	b := r.d.base[id]
	if b == nil {
		return Known{}, false, false, nil
	}
	return r.d.known(id, b), b.Here, true, nil
}

func (r deviceReader) BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	id, ok := r.d.at(crdt.Location{Parent: parent, Name: name})
	return id, ok, nil
}

func (r deviceReader) BaseChildren(parent crdt.EntryID) ([]crdt.EntryID, error) {
	return r.d.children(parent), nil
}

func (r deviceReader) BaseVersions(id crdt.EntryID) ([]crdt.Dot, error) {
	var dots []crdt.Dot
	for _, f := range r.d.base[id].Entry.Versions() {
		dots = append(dots, f.Dot)
	}
	return dots, nil
}

func (r deviceReader) Behind(id crdt.EntryID) (bool, error) { return r.d.behind(id), nil }

func (r deviceReader) NameKey(name string) string { return name }

func (r deviceReader) Taken(parent crdt.EntryID, name string) (bool, error) {
	if !r.taken {
		return false, nil
	}
	dir := r.d.dir(parent)
	return dir != nil && dir.kids[name] != nil, nil
}

func (d *device) behind(id crdt.EntryID) bool {
	e, _, _ := d.index.Entry(id)
	n, _, _ := d.index.Node(id)
	b := d.base[id]
	switch {
	case b == nil:
		return true
	case !b.Entry.Equal(e) || b.Here != n.Visible():
		return true
	}
	return b.Here && (b.At != crdt.Location{Parent: n.At.Parent, Name: n.Shown}) || d.staged(id)
}

func (d *device) allBehind() []crdt.EntryID {
	var ids []crdt.EntryID
	for id := range d.index.Entries() {
		if d.behind(id) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// ---- observing

// observeAll looks at everything, twice if something was gone: now, and when it
// has been gone for long enough.
func (d *device) observeAll() {
	before := d.records
	clean := !d.dirty
	d.postponed, d.again = nil, false
	d.observe(crdt.Root, nil, true)
	open := d.unlock()
	for id := range d.base {
		switch {
		case !d.staged(id):
		case d.disk.stage[id] == nil:
			for _, id := range d.descendants(id) { // a crash hid where it went
				d.base[id].Here = false
			}
		default:
			open = true // what is in it cannot be seen
		}
	}
	d.runGate()
	d.postponed = nil
	d.scanned = true
	if len(d.gone) == 0 && !open && !d.again {
		d.dirty = false
	}
	if clean && d.records != before {
		d.w.fail("%s recorded %d changes that nobody made", d.name, d.records-before)
	}
}

// observe looks at a directory, all of it or some names, and below if deep.
// open tells that something could not be decided yet.
func (d *device) observe(dir crdt.EntryID, names []string, deep bool) (open bool) {
	in := d.dir(dir)
	if in == nil {
		return true
	}
	s := Sighting{Dir: dir, Complete: names == nil}
	if names == nil {
		names = slices.Sorted(maps.Keys(in.kids))
	}
	for _, name := range names {
		s.Items = append(s.Items, Item{name, d.disk.stat(in.kids[name])})
	}
	for _, id := range d.children(dir) {
		r := d.base[id]
		if !d.staged(id) && (s.Complete || slices.Contains(names, r.At.Name)) {
			s.Known = append(s.Known, d.known(id, r))
		}
	}
	bindings := Bind(s, d.elsewhere)
	views := deviceViews{d, make(map[crdt.EntryID]bool)}
	for _, b := range bindings {
		if b.Known != nil && b.Is != Gone {
			delete(d.gone, b.Known.ID)
		}
	}
	for _, b := range bindings {
		if b.Is == Gone {
			d.vanished(*b.Known, views)
		}
	}
	var deeper []crdt.EntryID
	for _, b := range bindings {
		if b.Is == Gone {
			continue
		}
		id, postponed := d.decide(dir, in, b, views)
		open = open || postponed
		if b.Item.Stat.Kind == stat.Directory && !postponed && (deep || b.Is == New) {
			deeper = append(deeper, id)
		}
	}
	for _, id := range deeper {
		open = d.observe(id, nil, deep) || open
	}
	return open
}

// unlock decides on what waits for one another in circles.
func (d *device) unlock() (open bool) {
	var ds []Decision
	for _, p := range d.postponed {
		ds = append(ds, p.Decision)
	}
	views := deviceViews{d, make(map[crdt.EntryID]bool)}
	for _, id := range Circles(ds) {
		views.leaving[id] = true
	}
	for _, p := range d.postponed {
		if p.ID == (crdt.EntryID{}) || !views.leaving[p.ID] {
			open = true
			continue
		}
		id, again := d.decide(p.At.Parent, p.in, p.b, views)
		if again {
			d.w.fail("postponed again")
		}
		if p.b.Item.Stat.Kind == stat.Directory {
			open = d.observe(id, nil, true) || open
		}
	}
	return open
}

type postponement struct {
	Decision
	b  Binding
	in *inode
}

func (d *device) elsewhere(item Item) (Known, bool) {
	for _, id := range slices.SortedFunc(maps.Keys(d.base), compareIDs) {
		r := d.base[id]
		if !r.Here || !r.Stat.SameFile(item.Stat) {
			continue
		}
		var old stat.Stat
		if r.At.Parent == Staging {
			old = d.disk.stat(d.disk.stage[id])
		} else if dir := d.dir(r.At.Parent); dir != nil {
			old = d.disk.stat(dir.kids[r.At.Name])
		}
		others := false
		for other, o := range d.base {
			others = others || other != id && o.Here && o.Stat.SameFile(old)
		}
		if k := d.known(id, r); MovedAway(k, old, others) {
			return k, true
		}
	}
	return Known{}, false
}

// vanished is for a known entry that is gone.
func (d *device) vanished(k Known, views deviceViews) {
	if len(d.children(k.ID)) == 0 && d.dropped(k.ID) {
		views.leaving[k.ID] = true
		return
	}
	// What lay below may have been moved out: that is looked for first.
	for _, id := range d.descendants(k.ID) {
		if _, ok := d.gone[id]; !ok {
			d.gone[id] = d.now()
		}
	}
}

// dropped drops an entry that the view does not show either.
func (d *device) dropped(id crdt.EntryID) bool {
	r := d.base[id]
	if dec, _ := DecideGone(d.known(id, r), deviceViews{d: d}); dec.Do != Drop {
		return false
	}
	delete(d.gone, id)
	r.Entry, _, _ = d.index.Entry(id)
	r.Here = false
	return true
}

func (d *device) content(n *inode) crdt.Content {
	c := crdt.Content{Hash: d.w.hash(n.data), Size: int64(len(n.data)), Blocks: 1, MTime: d.disk.stat(n).Modified}
	if n.kind == stat.Symlink {
		c.Target, c.Blocks = n.data, 0
	}
	return c
}

func (d *device) decide(dir crdt.EntryID, in *inode, b Binding, views deviceViews) (id crdt.EntryID, postponed bool) {
	n := in.kids[b.Name]
	f := Found{Binding: b, Mode: d.disk.stat(n).Mode}
	if n.kind != stat.Directory && b.Is != Unchanged && b.Is != Moved {
		f.Content = d.content(n)
	}
	dec, err := Decide(dir, f, views)
	if err != nil {
		d.w.fail("decide: %v", err)
	}
	d.w.log("%s: %s %s -> %s %v", d.name, b.Name, b.Is, dec.Do, dec.Steps)
	entry, _, _ := d.index.Entry(dec.ID)
	r := d.base[dec.ID]
	if r == nil {
		r = &baseRow{Entry: crdt.Entry{ID: dec.ID, Kind: dec.ID.Kind()}}
	}
	switch dec.Do {
	case Nothing:
		return b.Known.ID, false
	case Postpone:
		d.postponed = append(d.postponed, postponement{dec, b, in})
		return dec.ID, true
	case Rot:
		d.w.fail("%s takes %s for rotten", d.name, b.Name)
	case Refresh:
		if r.At != dec.At {
			r.Entry.Place = entry.Place
		}
	case Adopt:
		d.again = d.again || b.Known != nil && b.Known.ID != dec.ID
		if dec.Attrs {
			d.setAttrs(n, TargetOf(entry, crdt.Node{}))
		}
		r.Entry = entry
		d.base[dec.ID] = r
		r.Here = true
		if b.Known == nil || len(dec.Steps) == 0 {
			r.At = dec.At
		}
	}
	if r.Here && r.At.Parent == Staging {
		r.At = dec.At
	}
	if dec.Anew {
		d.base[dec.ID].Here = false
	}
	if len(dec.Steps) > 0 {
		rec := d.recorder()
		dec.ID, err = dec.Record(rec)
		if err != nil {
			d.w.fail("record %s: %v", b.Name, err)
		}
		d.recorded(rec)
		r = d.base[dec.ID]
	}
	delete(d.gone, dec.ID)
	for i, p := range d.postponed {
		if p.ID == dec.ID && p.At != dec.At {
			d.postponed[i].ID = crdt.EntryID{} // another name of it was taken meanwhile
		}
	}
	d.base[dec.ID] = r
	r.Here, r.At, r.Stat = true, dec.At, d.disk.stat(n)
	return dec.ID, false
}

func (d *device) recorder() *crdt.Recorder {
	return crdt.NewRecorder(OnDisk(recorderBase{d}), d.index, crdt.Writer{
		Folder: crdt.FolderID{1}, Replica: d.replica, Counter: d.counter, Author: d.name, Now: d.w.clock/1e6 + d.skew,
	})
}

// recorded takes in what a recorder made.
func (d *device) recorded(rec *crdt.Recorder) {
	entries := rec.Entries()
	if len(entries) == 0 {
		return
	}
	d.counter = rec.Counter()
	d.records += len(entries)
	for _, e := range entries {
		r := d.base[e.ID]
		if r == nil {
			r = &baseRow{}
			d.base[e.ID] = r
		}
		r.Entry = e
	}
	if _, err := crdt.Apply(d.index, entries); err != nil {
		d.w.fail("apply own changes: %v", err)
	}
}

// rescue records what was renamed to the very name of a directory above it that is
// gone and about to be recorded so.
func (d *device) rescue(dir crdt.EntryID) {
	for _, p := range d.postponed {
		if n := p.in.kids[p.b.Name]; n == nil || d.disk.stat(n) != p.b.Item.Stat {
			continue // no longer what was seen
		}
		if p.On != dir || p.ID == (crdt.EntryID{}) || p.ID == dir || !slices.Contains(d.descendants(dir), p.ID) {
			continue
		}
		id, again := d.decide(p.At.Parent, p.in, p.b, deviceViews{d, map[crdt.EntryID]bool{dir: true}})
		if again {
			d.w.fail("postponed again")
		}
		if p.b.Item.Stat.Kind == stat.Directory {
			d.observe(id, nil, true)
		}
	}
}

// runGate records the deletions that pass.
func (d *device) runGate() {
	var p Pending
	for _, id := range slices.Backward(d.descendants(crdt.Root)) { // children first
		since, ok := d.gone[id]
		if ok && d.now().Sub(since) >= 2*time.Second {
			d.rescue(id)
		}
		if !ok || d.now().Sub(since) >= 2*time.Second && len(d.children(id)) == 0 && d.dropped(id) {
			continue
		}
		if dec, _ := DecideGone(d.known(id, d.base[id]), deviceViews{d: d}); dec.Do == Drop {
			continue // when what lay below it is decided
		}
		p.Gone = append(p.Gone, Missing{ID: id, Since: since, Entries: len(d.descendants(id))})
	}
	slices.SortFunc(p.Gone, func(a, b Missing) int { return compareIDs(a.ID, b.ID) })
	l := DefaultLimits()
	l.Emptied, l.Entries = 1e6, 1e6
	v := Gate(p, nil, d.now(), l, func(crdt.EntryID) bool { return false })
	for _, id := range v.Remove {
		if _, still := d.gone[id]; !still {
			continue // went with its directory
		}
		ids := d.descendants(id)
		rec := d.recorder()
		if err := rec.Remove(ids...); err != nil {
			d.w.fail("record removal: %v", err)
		}
		d.w.log("%s: removed %s and %d below", d.name, d.base[id].At.Name, len(ids)-1)
		d.recorded(rec)
		for _, id := range ids {
			d.base[id].Here = false
			delete(d.gone, id)
		}
	}
}

// ---- receiving

// receive takes from another device's index all, or a part that is closed under
// parents.
func (d *device) receive(from *device, all bool) {
	if !d.scanned {
		d.observeAll()
	}
	entries := from.index.Entries()
	pick := make(map[crdt.EntryID]bool)
	ids := slices.SortedFunc(maps.Keys(entries), compareIDs)
	var want func(crdt.EntryID)
	want = func(id crdt.EntryID) {
		if id == crdt.Root || pick[id] {
			return
		}
		pick[id] = true
		want(entries[id].Place.Parent)
		want(entries[id].Place.From.Parent)
	}
	for _, id := range ids {
		if all || d.w.rnd.Float64() < 0.4 {
			want(id)
		}
	}
	var batch []crdt.Entry
	for _, id := range ids {
		if pick[id] {
			batch = append(batch, entries[id])
		}
	}
	if _, err := crdt.Apply(d.index, batch); err != nil {
		d.w.fail("%s takes from %s: %v", d.name, from.name, err)
	}
}

// ---- materialising

// trouble is what may go wrong while a plan is carried out.
type trouble struct {
	crash, stop, noSource float64
	meddle                func() // somebody else does something between two operations
}

// materialise plans for ids and carries out what it can. It gives the number of
// operations that did something.
func (d *device) materialise(ids []crdt.EntryID, t trouble) (did int) {
	if !d.scanned {
		d.observeAll()
	}
	held := func(id crdt.EntryID) bool { _, gone := d.gone[id]; return gone }
	ops, err := Materialise(deviceReader{d, d.w.rnd.IntN(2) == 0}, ids, held)
	if err != nil {
		d.w.fail("materialise: %v", err)
	}
	planned := d.index.Entries()
	saved := d.saveBase()
	ok := make([]bool, len(ops))
	defer d.putBack()
	for i, op := range ops {
		if d.w.rnd.Float64() < t.stop {
			return did
		}
		ready := true
		for _, j := range op.After {
			if j >= i {
				d.w.fail("operation %d after %d", i, j)
			}
			ready = ready && ok[j]
		}
		if !ready || op.Do == Wait || op.Do == Fetch && d.w.rnd.Float64() < t.noSource {
			continue
		}
		if op.Firm {
			saved = d.saveBase()
		}
		if op.Do == Unstage {
			saved = d.saveBase()
			saved[op.ID].At = op.To
		}
		err := d.carryOut(op, planned[op.ID])
		d.w.log("%s: %v: %v", d.name, op, err)
		ok[i] = err == nil
		if err == nil {
			did++
		}
		switch x := d.w.rnd.Float64(); {
		case x < t.crash:
			d.base = saved
			d.crash()
			for id := range d.disk.stage {
				d.base[id].At = stage(id)
			}
			d.putBack()
			return did
		case x < t.crash+0.3:
			saved = d.saveBase() // the batch is recorded
		}
		if t.meddle != nil {
			t.meddle()
		}
	}
	return did
}

// putBack is what the engine does at the start, and when a plan failed.
func (d *device) putBack() {
	for _, root := range []bool{false, true} {
		ops, err := PutBack(deviceReader{d, true}, slices.SortedFunc(maps.Keys(d.disk.stage), compareIDs), root)
		if err != nil {
			d.w.fail("put back: %v", err)
		}
		for _, op := range ops {
			err := d.carryOut(op, crdt.Entry{})
			d.w.log("%s: puts back: %v: %v", d.name, op, err)
		}
	}
	if len(d.disk.stage) > 0 {
		d.w.fail("%s could not put back %v", d.name, d.disk.stage)
	}
}

func (d *device) saveBase() map[crdt.EntryID]*baseRow {
	saved := make(map[crdt.EntryID]*baseRow, len(d.base))
	for id, r := range d.base {
		c := *r
		saved[id] = &c
	}
	return saved
}

// crash loses what was only in memory. What is staged is found at the start.
func (d *device) crash() {
	d.w.log("%s: crash", d.name)
	d.gone = make(map[crdt.EntryID]time.Time)
	d.scanned = false
}

func (d *device) carryOut(op Op, entry crdt.Entry) error {
	r := d.base[op.ID]
	if r == nil {
		r = &baseRow{Entry: crdt.Entry{ID: op.ID, Kind: entry.Kind}}
	}
	row := *r
	r = &row
	from, to := place{}, place{}
	var n *inode
	if op.From != (crdt.Location{}) {
		if op.From.Parent == Staging {
			n = d.disk.stage[op.ID]
		} else {
			from = place{d.dir(op.From.Parent), op.From.Name}
			if from.dir == nil {
				return fmt.Errorf("directory of %s is not there", from.name)
			}
			n = from.inode()
		}
		if n == nil {
			return fmt.Errorf("not there")
		}
		is, was := d.disk.stat(n), r.Stat
		if op.From.Parent != Staging && (was.Kind != is.Kind || !was.SameFile(is) && (is.Kind != stat.Directory || is.Inode != was.Inode) || was.Mode != is.Mode || is.Kind != stat.Directory && !was.SameContent(is)) {
			return fmt.Errorf("changed")
		}
	}
	if op.To != (crdt.Location{}) && op.To.Parent != Staging && op.Do != Settle {
		to = place{d.dir(op.To.Parent), op.To.Name}
		if to.dir == nil {
			return fmt.Errorf("directory for %s is not there", to.name)
		}
		if op.From != op.To && to.inode() != nil {
			return fmt.Errorf("%s is taken", to.name)
		}
	}
	take := func() *inode {
		if op.From.Parent == Staging {
			delete(d.disk.stage, op.ID)
			return n
		}
		return d.disk.take(from.dir, from.name)
	}
	r.Here = true
	switch op.Do {
	case Settle:
		if !op.Target.Visible {
			r.Here = false
		}
	case MakeDir:
		n = d.disk.inode(stat.Directory, "")
		n.mode, n.links = op.Target.Mode, 0
		d.disk.put(to.dir, to.name, n)
	case MakeLink, Fetch:
		data := op.Target.Link
		if op.Do == Fetch {
			data = d.w.contents[op.Target.Content]
			if !d.w.available(data) {
				return fmt.Errorf("nobody has %q", data)
			}
		}
		if old := to.inode(); old != nil {
			d.disk.trash = append(d.disk.trash, old.data)
			d.disk.take(to.dir, to.name) // its inode lives on in the trash
		}
		n = d.disk.inode(stat.File, data)
		if op.Do == MakeLink {
			n.kind = stat.Symlink
		}
		d.disk.put(to.dir, to.name, n)
		d.setAttrs(n, op.Target)
	case SetAttrs:
		d.setAttrs(n, op.Target)
	case Rename, Unstage:
		if n.contains(to.dir) {
			return fmt.Errorf("into itself")
		}
		n = take()
		d.disk.put(to.dir, to.name, n)
		if !op.Last && entry.ID == op.ID {
			r.Entry.Place = entry.Place
		}
	case Stage:
		d.disk.stage[op.ID] = take()
	case Trash:
		d.disk.trash = append(d.disk.trash, n.data)
		take()
		r.Here = false
	case RemoveDir:
		if len(n.kids) > 0 {
			return fmt.Errorf("not empty")
		}
		take()
		d.disk.unused = append(d.disk.unused, n.ino)
		r.Here = false
	}
	d.base[op.ID] = r
	if op.Last {
		r.Entry = entry
	}
	if r.Here && op.Do != Settle {
		r.At, r.Stat = op.To, d.disk.stat(n)
	}
	return nil
}

func (d *device) setAttrs(n *inode, t Target) {
	n.mode = t.Mode
	if n.kind == stat.File {
		n.mtime = t.MTime
	}
	n.ctime = d.w.tick()
}

// hash remembers what it hashed.
func (w *world) hash(data string) crdt.ContentHash {
	h := crdt.ContentHash(sha256.Sum256([]byte(data)))
	w.contents[h] = data
	return h
}
