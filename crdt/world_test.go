package crdt

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// The world in which histories are played: design/index_model.py, in Go, on the
// real Recorder and Apply. A replica is two states: the index (all it has
// received) and the disk (what it has materialised, which lags behind, in part).
// A person changes what the disk shows.

type replica struct {
	id      ReplicaID
	skew    int64
	counter uint64
	index   *MemRows
	disk    *MemRows
}

// A profile is what the people of a history mostly do. Each finds faults that the
// others hardly ever come by.
type profile struct {
	name    string
	names   []string
	weights [actions]int
	shared  int     // directories that all have to begin with
	meet    float64 // how often a replica receives something instead
}

// What people do.
const (
	actMkdir = iota
	actCreate
	actEdit
	actMove
	actAttrs
	actRestore
	actRemove
	actions
)

var longName = strings.Repeat("é", 125) + ".txt" // 254 bytes

var profiles = []profile{
	{"all", []string{"a", "b", "c", "d"}, [actions]int{3, 6, 3, 4, 1, 1, 2}, 0, 0.5},
	{"directories", []string{"a", "b", "c"}, [actions]int{1, 1, 0, 12, 0, 1, 1}, 5, 0.25},
	{"removals", []string{"a", "b"}, [actions]int{3, 3, 2, 3, 2, 3, 5}, 1, 0.5},
	{"names", []string{"a", "a (2)", "a (3)", "\u00e9.b", "e\u0301.b", "e\u0301 (2).b", longName}, [actions]int{3, 6, 1, 8, 0, 1, 3}, 1, 0.5},
	{"contents", []string{"a"}, [actions]int{0, 2, 9, 2, 2, 1, 1}, 0, 0.5},
}

type world struct {
	rnd      *rand.Rand
	clock    int64
	replicas []*replica
	written  map[Dot]ContentHash
	replaced map[Dot]bool                // by somebody who had seen it
	folded   map[Dot]map[Dot]bool        // into versions of equal content
	touches  map[EntryID][]Dot           // changes that keep an entry alive and replace no content
	covered  map[EntryID][]VersionVector // what those who removed or rewrote an entry had seen of it
	removed  map[EntryID][]VersionVector // what those who removed it had seen of it
	changes  int
	fell     int // batches after which something had fallen back
	profile  profile
	checkAll bool // hold the incremental view against the pure one after every batch
}

func newWorld(seed uint64, n int) *world {
	w := &world{
		rnd:      rand.New(rand.NewPCG(seed, 0x5eaf)),
		written:  map[Dot]ContentHash{},
		replaced: map[Dot]bool{},
		folded:   map[Dot]map[Dot]bool{},
		touches:  map[EntryID][]Dot{},
		covered:  map[EntryID][]VersionVector{},
		removed:  map[EntryID][]VersionVector{},
		checkAll: true,
		profile:  profiles[0],
	}
	for k := range n {
		w.replicas = append(w.replicas, &replica{id: replicaID(k), index: NewMemRows(), disk: NewMemRows()})
	}
	return w
}

func replicaID(k int) ReplicaID { return ReplicaID{byte(k + 1), 7: byte(k + 1)} }

const year = int64(365 * 24 * 3600 * 1000)

// apply is Apply, and notes which versions fold into which.
func (w *world) apply(rows *MemRows, batch []Entry) error {
	ahead := map[EntryID]Entry{}
	for _, e := range batch {
		w.noteFolds(rows, ahead, e)
	}
	if _, err := Apply(rows, batch); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	if len(rows.fallen) > 0 {
		w.fell++
	}
	if w.checkAll {
		return checkRows(rows)
	}
	return nil
}

func (w *world) noteFolds(rows *MemRows, ahead map[EntryID]Entry, e Entry) {
	old, ok := ahead[e.ID]
	if !ok {
		old, ok = rows.entries[e.ID]
	}
	if ok {
		e = Join(old, e)
	}
	vs := e.Versions()
	for _, f := range vs {
		for _, g := range vs {
			if f.Dot != g.Dot && sameContent(f.Version, g.Version) && compareVersions(f.Version, g.Version) < 0 {
				if w.folded[f.Dot] == nil {
					w.folded[f.Dot] = map[Dot]bool{}
				}
				w.folded[f.Dot][g.Dot] = true
			}
		}
	}
	e, copies := Normalize(e)
	ahead[e.ID] = e
	for _, c := range copies {
		w.noteFolds(rows, ahead, c)
	}
}

func contentOf(s string) Content {
	return Content{Hash: sha256.Sum256([]byte(s)), Size: int64(len(s)), Blocks: 1, MTime: int64(len(s)) * 1e9}
}

func (w *world) recorder(r *replica) *Recorder {
	w.clock++
	return NewRecorder(RowsBase{r.disk}, r.index, Writer{
		Replica: r.id, Counter: r.counter, Author: fmt.Sprintf("device %d", r.id[0]), Now: 1_700_000_000_000 + w.clock + r.skew,
	})
}

// commit takes what was recorded into disk and index.
func (w *world) commit(r *replica, rec *Recorder) error {
	r.counter = rec.Counter()
	for _, e := range rec.Entries() {
		if !e.IsLive() && len(r.disk.entries[e.ID].Seen) == 0 {
			continue // a copy that was dropped, and never was on this disk
		}
		if err := w.apply(r.disk, []Entry{e}); err != nil {
			return err
		}
	}
	return w.apply(r.index, rec.Entries())
}

// receive joins what the sender has, or a part of it that is closed under
// parents, in any order, some of it twice.
func (w *world) receive(to, from *MemRows, part bool) error {
	ids := from.sortedIDs()
	if part {
		ids = w.closedPart(from)
	}
	var batch []Entry
	for _, id := range ids {
		batch = append(batch, from.entries[id])
	}
	w.rnd.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
	if len(batch) > 0 && w.rnd.IntN(4) == 0 {
		batch = append(batch, batch[w.rnd.IntN(len(batch))])
	}
	return w.apply(to, batch)
}

// live gives the tree as it is kept, not a copy.
func (m *MemRows) live() Tree { return Tree{m.nodes, m.fallen} }

func (m *MemRows) sortedIDs() []EntryID {
	return slices.SortedFunc(maps.Keys(m.entries), EntryID.Compare)
}

func (w *world) closedPart(from *MemRows) []EntryID {
	var want []EntryID
	for _, id := range from.sortedIDs() {
		if w.rnd.Float64() < 0.4 {
			want = append(want, id)
		}
	}
	set := map[EntryID]struct{}{}
	for len(want) > 0 {
		id := want[len(want)-1]
		want = want[:len(want)-1]
		if _, done := set[id]; done || id == Root {
			continue
		}
		set[id] = struct{}{}
		e := from.entries[id]
		want = append(want, e.Place.Parent, e.Place.From.Parent)
	}
	return sortedIDs(set)
}

// spots is a tree as a person would compare it: numbers and marks left out.
func spots(t Tree) map[EntryID]Location {
	m := map[EntryID]Location{}
	for id, n := range t.Nodes {
		if n.Visible() {
			m[id] = Location{n.At.Parent, plain(n.Shown)}
		}
	}
	return m
}

func plain(name string) string {
	name, _, _ = strings.Cut(NameKey(name), " (")
	name, _, _ = strings.Cut(name, ".")
	return cutRunes(name, 20)
}

func under(t Tree, id, top EntryID) bool {
	for ; id != Root; id = t.Nodes[id].At.Parent {
		if id == top {
			return true
		}
	}
	return false
}

// person is what a random person may choose from.
type person struct {
	tree        Tree
	shown       []EntryID
	directories []EntryID
	files       []EntryID
	dead        []EntryID
}

func (w *world) look(r *replica) person {
	p := person{tree: r.disk.live(), directories: []EntryID{Root}}
	for _, id := range r.disk.sortedIDs() {
		switch {
		case !p.tree.Nodes[id].Visible():
			p.dead = append(p.dead, id)
			continue
		case id.Kind() == Directory:
			p.directories = append(p.directories, id)
		default:
			p.files = append(p.files, id)
		}
		p.shown = append(p.shown, id)
	}
	return p
}

func pick[T any](rnd *rand.Rand, xs []T) T { return xs[rnd.IntN(len(xs))] }

// change carries out one random change and checks that it did what the person
// sees and moved nothing else (P5).
func (w *world) change(r *replica) error {
	p := w.look(r)
	expected := spots(p.tree)
	rec := w.recorder(r)
	done, err := w.act(r, rec, p, expected)
	if err != nil || !done {
		return err
	}
	w.changes++
	if err := w.commit(r, rec); err != nil {
		return err
	}
	if got := spots(r.disk.live()); !maps.Equal(got, expected) {
		return fmt.Errorf("jump: the tree is %v, the person expects %v", got, expected)
	}
	return nil
}

func (w *world) act(r *replica, rec *Recorder, p person, expected map[EntryID]Location) (bool, error) {
	at := Location{pick(w.rnd, p.directories), pick(w.rnd, w.profile.names)}
	taken := false
	for _, n := range p.tree.Nodes {
		taken = taken || n.Visible() && n.At.Parent == at.Parent && NameKey(n.Shown) == NameKey(at.Name)
	}
	spot := Location{at.Parent, plain(at.Name)}
	switch act := w.profile.pick(w.rnd); {
	case act == actMkdir && !taken:
		id, err := rec.Create(at, Directory, Content{}, 0o755)
		expected[id] = spot
		w.touched(r, rec, id)
		return err == nil, err
	case act == actCreate && !taken:
		text := w.newText(r, "the same")
		id, err := rec.Create(at, File, contentOf(text), 0o644)
		w.wrote(r, rec, text)
		expected[id] = spot
		return err == nil, err
	case act == actEdit && len(p.files) > 0:
		id := pick(w.rnd, p.files)
		w.replacing(r, id)
		text := w.newText(r, "")
		err := rec.Edit(id, contentOf(text), 0o644)
		w.wrote(r, rec, text)
		w.covered[id] = append(w.covered[id], r.disk.entries[id].Seen)
		return err == nil, err
	case act == actMove && len(p.shown) > 0 && !taken:
		id := pick(w.rnd, p.shown)
		if under(p.tree, at.Parent, id) {
			return false, nil
		}
		expected[id] = spot
		err := rec.Move(id, at)
		w.touched(r, rec, id)
		return err == nil, err
	case act == actAttrs && len(p.shown) > 0:
		id, mtime := pick(w.rnd, p.shown), w.rnd.Int64N(3)
		err := rec.SetAttrs(id, 0o600+uint32(w.rnd.IntN(3)), &mtime)
		w.touched(r, rec, id)
		return err == nil, err
	case act == actRestore && len(p.dead) > 0 && !taken:
		id := pick(w.rnd, p.dead)
		expected[id] = spot
		if id.Kind() == Directory {
			err := rec.Restore(id, at, Content{}, 0o755)
			w.touched(r, rec, id)
			return err == nil, err
		}
		text := w.newText(r, "")
		err := rec.Restore(id, at, contentOf(text), 0o644)
		w.wrote(r, rec, text)
		return err == nil, err
	case act == actRemove && len(p.shown) > 0:
		return w.remove(r, rec, p, pick(w.rnd, p.shown), expected)
	}
	return false, nil
}

func (w *world) remove(r *replica, rec *Recorder, p person, top EntryID, expected map[EntryID]Location) (bool, error) {
	var ids []EntryID
	for _, id := range p.shown {
		if under(p.tree, id, top) {
			ids = append(ids, id)
			w.replacing(r, id)
			w.covered[id] = append(w.covered[id], r.disk.entries[id].Seen)
			w.removed[id] = append(w.removed[id], r.disk.entries[id].Seen)
			delete(expected, id)
		}
	}
	err := rec.Remove(ids...)
	return err == nil, err
}

func (p profile) pick(rnd *rand.Rand) int {
	sum := 0
	for _, w := range p.weights {
		sum += w
	}
	n := rnd.IntN(sum)
	for act, w := range p.weights {
		if n -= w; n < 0 {
			return act
		}
	}
	panic("unreachable")
}

// touched notes a change that keeps an entry alive.
func (w *world) touched(r *replica, rec *Recorder, id EntryID) {
	if rec.Counter() > r.counter {
		w.touches[id] = append(w.touches[id], Dot{r.id, rec.Counter()})
	}
}

// newText gives a content that nobody has written, or at times another one.
func (w *world) newText(r *replica, other string) string {
	if other != "" && w.rnd.IntN(2) == 0 {
		return other
	}
	return fmt.Sprintf("content %d:%d:%d", r.id[0], r.counter, w.clock)
}

// wrote notes the content that was recorded last.
func (w *world) wrote(r *replica, rec *Recorder, text string) {
	w.written[Dot{r.id, rec.Counter()}] = contentOf(text).Hash
}

// replacing notes that the person knew what is now replaced.
func (w *world) replacing(r *replica, id EntryID) {
	for _, f := range r.disk.entries[id].Live {
		w.replaced[f.Dot] = true
	}
}

// settle lets everybody exchange everything, through one of them and at times
// some others before, and takes it to the disks.
func (w *world) settle() error {
	for range w.rnd.IntN(3) {
		if err := w.receive(pick(w.rnd, w.replicas).index, pick(w.rnd, w.replicas).index, false); err != nil {
			return err
		}
	}
	hub := pick(w.rnd, w.replicas)
	for _, r := range w.replicas {
		if err := w.receive(hub.index, r.index, false); err != nil {
			return err
		}
	}
	for _, r := range w.replicas {
		if err := w.receive(r.index, hub.index, false); err != nil {
			return err
		}
		if err := w.receive(r.disk, r.index, false); err != nil {
			return err
		}
	}
	return nil
}
