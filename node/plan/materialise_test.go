package plan

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// trees is a base, what the view wants instead, and what is on the disk: a
// Reader without a crdt, in which any tree can be wanted of any other.
type trees struct {
	want    map[crdt.EntryID]Target
	base    map[crdt.EntryID]Known // on the disk
	staged  map[crdt.EntryID]bool
	foreign map[crdt.Location]bool // names of what is no entry
	settled map[crdt.EntryID]bool
	dots    map[crdt.EntryID][]crdt.Dot
	told    bool // Taken knows foreign
}

func newTrees() *trees {
	return &trees{
		want: make(map[crdt.EntryID]Target), base: make(map[crdt.EntryID]Known), staged: make(map[crdt.EntryID]bool),
		foreign: make(map[crdt.Location]bool), settled: make(map[crdt.EntryID]bool), dots: make(map[crdt.EntryID][]crdt.Dot), told: true,
	}
}

func (t *trees) Target(id crdt.EntryID) (Target, bool, error) {
	w, ok := t.want[id]
	return w, ok, nil
}

func (t *trees) Base(id crdt.EntryID) (Known, bool, bool, error) {
	k, ok := t.base[id]
	if t.staged[id] {
		k.At = stage(id)
	}
	return k, ok, ok, nil
}

func (t *trees) BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	for id, k := range t.base {
		if !t.staged[id] && k.At == (crdt.Location{Parent: parent, Name: name}) {
			return id, true, nil
		}
	}
	return crdt.EntryID{}, false, nil
}

func (t *trees) BaseChildren(parent crdt.EntryID) ([]crdt.EntryID, error) {
	var ids []crdt.EntryID
	for id, k := range t.base {
		if k.At.Parent == parent && !t.staged[id] {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids, nil
}

func (t *trees) BaseVersions(id crdt.EntryID) ([]crdt.Dot, error) { return t.dots[id], nil }

func (t *trees) Behind(id crdt.EntryID) (bool, error) {
	w, k := t.want[id], t.base[id]
	_, here := t.base[id]
	if here != w.Visible || t.staged[id] {
		return true, nil
	}
	at := crdt.Location{Parent: w.Parent, Name: w.Name}
	return here && (k.At != at || k.Content != w.Content || k.Mode != w.Mode), nil
}

func (t *trees) NameKey(name string) string { return name }

func (t *trees) Taken(parent crdt.EntryID, name string) (bool, error) {
	return t.told && t.foreign[crdt.Location{Parent: parent, Name: name}], nil
}

func (t *trees) behind() []crdt.EntryID {
	var ids []crdt.EntryID
	for id := range t.want {
		if b, _ := t.Behind(id); b {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

// inside tells whether id lies in dir, on the disk.
func (t *trees) inside(id, dir crdt.EntryID) bool {
	for n := 0; id != crdt.Root && n < 100; n++ {
		if id == dir {
			return true
		}
		if t.staged[id] {
			return false
		}
		id = t.base[id].At.Parent
	}
	return false
}

// do carries out one operation as a disk would.
func (t *trees) do(op Op) error {
	k, here := t.base[op.ID]
	if op.From != (crdt.Location{}) && op.Do != Wait {
		at := k.At
		if t.staged[op.ID] {
			at = stage(op.ID)
		}
		if !here || op.From != at {
			return fmt.Errorf("it is not at %v but at %v", op.From, at)
		}
	}
	arrives := op.To != (crdt.Location{}) && op.To != op.From && op.Do != Settle && op.Do != Wait && op.Do != Stage
	if arrives {
		if _, ok := t.base[op.To.Parent]; !ok && op.To.Parent != crdt.Root {
			return fmt.Errorf("no directory for %v", op.To)
		}
		if other, taken, _ := t.BaseAt(op.To.Parent, op.To.Name); taken || t.foreign[op.To] {
			return fmt.Errorf("%v is taken by %v", op.To, other)
		}
		if t.inside(op.To.Parent, op.ID) {
			return errors.New("into itself")
		}
	}
	switch op.Do {
	case Wait:
		return nil
	case Settle:
		if b, _ := t.Behind(op.ID); b {
			return errors.New("settles what is behind")
		}
		return nil
	case Trash, RemoveDir:
		kids, _ := t.BaseChildren(op.ID)
		if slices.ContainsFunc(kids, func(kid crdt.EntryID) bool { return !t.staged[kid] }) {
			return errors.New("not empty")
		}
		for at := range t.foreign {
			if at.Parent == op.ID {
				return errors.New("not empty: foreign")
			}
		}
		delete(t.base, op.ID)
		delete(t.staged, op.ID)
		return nil
	case Stage:
		t.staged[op.ID] = true
		return nil
	case MakeDir, MakeLink, Fetch, SetAttrs:
		k.ID, k.Kind, k.At, k.Content, k.Mode = op.ID, op.Target.Kind, op.To, op.Target.Content, op.Target.Mode
	case Rename, Unstage:
		k.At = op.To
		delete(t.staged, op.ID)
	}
	t.base[op.ID] = k
	if b, _ := t.Behind(op.ID); op.Last && b {
		return errors.New("last, and still behind")
	}
	return nil
}

// run plans and carries out, all or up to the operation crash; what fails and
// what stands on it is left out. It gives what failed.
func (t *trees) run(ids []crdt.EntryID, held func(crdt.EntryID) bool, crash int) (ops []Op, failed error) {
	ops, err := Materialise(t, ids, held)
	if err != nil {
		return nil, err
	}
	ended := make(map[crdt.EntryID]int)
	ok := make([]bool, len(ops))
	for i, op := range ops {
		if op.Last || op.Do == Wait {
			ended[op.ID]++
		}
		if i >= crash {
			return ops, failed
		}
		ready := true
		for _, j := range op.After {
			if j >= i {
				return ops, fmt.Errorf("%d stands on %d", i, j)
			}
			ready = ready && ok[j]
		}
		if !ready {
			continue
		}
		if err := t.do(op); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%v: %w", op, err))
			continue
		}
		ok[i] = true
	}
	for _, id := range ids {
		if ended[id] != 1 {
			failed = errors.Join(failed, fmt.Errorf("%v ends %d times", id, ended[id]))
		}
	}
	return ops, failed
}

// randomTrees wants any tree of any other: entries stay, move, come, go, change.
func randomTrees(rnd *rand.Rand, n int) *trees {
	t := newTrees()
	ids := make([]crdt.EntryID, n)
	for i := range ids {
		kind := crdt.Directory
		if rnd.IntN(3) == 0 {
			kind = crdt.File
		}
		ids[i] = crdt.EntryID{byte(rnd.IntN(256)), byte(i), 15: byte(kind)}
	}
	tree := func(place func(id crdt.EntryID, at crdt.Location)) {
		dirs := []crdt.EntryID{crdt.Root}
		used := make(map[crdt.Location]bool)
		for _, i := range rnd.Perm(n) {
			if rnd.IntN(8) == 0 {
				continue
			}
			at := crdt.Location{Parent: dirs[rnd.IntN(len(dirs))], Name: string(rune('a' + rnd.IntN(2)))}
			if used[at] {
				continue
			}
			used[at] = true
			if ids[i].Kind() == crdt.Directory {
				dirs = append(dirs, ids[i])
			}
			place(ids[i], at)
		}
	}
	tree(func(id crdt.EntryID, at crdt.Location) {
		t.base[id] = Known{ID: id, At: at, Kind: id.Kind(), Mode: 0o644}
	})
	for _, id := range ids {
		t.want[id] = Target{Kind: id.Kind()}
	}
	tree(func(id crdt.EntryID, at crdt.Location) {
		w := Target{Visible: true, Parent: at.Parent, Name: at.Name, Kind: id.Kind(), Mode: 0o644}
		if rnd.IntN(5) == 0 {
			w.Mode = 0o600
		}
		if id.Kind() == crdt.File && rnd.IntN(3) == 0 {
			w.Content[0] = 1
		}
		t.want[id] = w
	})
	return t
}

// TestMaterialiseReachesAnyTree: from any tree any other is reached by one plan,
// in which no operation fails and nothing waits; also over a crash anywhere, with
// what that leaves staged, in two.
func TestMaterialiseReachesAnyTree(t *testing.T) {
	t.Parallel()
	did := make(map[Do]int)
	for seed := range uint64(20000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		tr := randomTrees(rnd, 2+rnd.IntN(9))
		ids := tr.behind()
		if rnd.IntN(3) == 0 {
			ops, err := tr.run(ids, nil, rnd.IntN(8))
			if err != nil {
				t.Fatalf("seed %d: %v\n%v", seed, err, ops)
			}
			if ids = tr.behind(); rnd.IntN(4) == 0 && len(ids) > 0 {
				ids = ids[:1] // what it depends on is pulled in
			}
		}
		for len(ids) > 0 {
			ops, err := tr.run(ids, nil, 1<<30)
			if err != nil {
				t.Fatalf("seed %d: %v\n%v", seed, err, ops)
			}
			for _, op := range ops {
				did[op.Do]++
			}
			left := tr.behind()
			for _, id := range left {
				if slices.Contains(ids, id) {
					t.Fatalf("seed %d: still behind\n%v", seed, ops)
				}
			}
			ids = left
		}
	}
	if did[Stage] < 100 || did[Wait] > 0 {
		t.Errorf("operations: %v", did)
	}
}

// TestMaterialiseWithObstacles: with entries held and names taken by what is no
// entry, known or not known before, no operation of a plan fails that could be
// known to, what is held does not move, nothing is left staged, foreign names are
// never touched; and when the obstacles are gone, the tree is reached.
func TestMaterialiseWithObstacles(t *testing.T) {
	t.Parallel()
	waits := make(map[Reason]int)
	for seed := range uint64(20000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		tr := randomTrees(rnd, 2+rnd.IntN(9))
		held := make(map[crdt.EntryID]bool)
		for _, id := range slices.SortedFunc(maps.Keys(tr.want), compareIDs) {
			held[id] = rnd.IntN(6) == 0
			at := crdt.Location{Parent: id, Name: "a"}
			if _, taken, _ := tr.BaseAt(id, "a"); !taken && tr.base[id].Kind == crdt.Directory && rnd.IntN(4) == 0 {
				tr.foreign[at] = true
			}
		}
		tr.told = rnd.IntN(2) == 0
		before := maps.Clone(tr.base)
		for round := range 4 {
			crash := 1 << 30
			if round < 2 && rnd.IntN(3) == 0 {
				crash = rnd.IntN(6)
			}
			ops, err := tr.run(tr.behind(), func(id crdt.EntryID) bool { return held[id] }, crash)
			for _, op := range ops {
				waits[op.Reason]++
				if op.Do != Wait && held[op.ID] {
					t.Fatalf("seed %d: moves what is held: %v", seed, op)
				}
			}
			if err == nil && crash == 1<<30 && len(tr.staged) > 0 {
				t.Fatalf("seed %d: left staged: %v\n%v", seed, tr.staged, ops)
			}
			if err != nil && tr.told && !onlyForeign(err) {
				t.Fatalf("seed %d round %d: %v\n%v", seed, round, err, ops)
			}
		}
		for id := range held {
			if held[id] && before[id] != tr.base[id] {
				t.Fatalf("seed %d: %v is held and was moved", seed, id)
			}
		}
		clear(tr.foreign)
		for range 3 {
			if ops, err := tr.run(tr.behind(), nil, 1<<30); err != nil {
				t.Fatalf("seed %d: %v\n%v", seed, err, ops)
			}
		}
		if left := tr.behind(); len(left) > 0 {
			t.Fatalf("seed %d: still behind: %v", seed, left)
		}
	}
	for _, r := range []Reason{Held, NoParent, NameTaken, Blocked, NotEmpty, Entangled} {
		if waits[r] == 0 {
			t.Errorf("nothing ever waited because %s: %v", r, waits)
		}
	}
}

// onlyForeign tells whether all that failed is directories that were to go and
// held what is no entry: the one thing that cannot be known before.
func onlyForeign(err error) bool {
	for line := range strings.Lines(err.Error()) {
		if !strings.HasSuffix(strings.TrimSpace(line), "not empty: foreign") {
			return false
		}
	}
	return true
}

func TestMaterialiseSteps(t *testing.T) {
	t.Parallel()
	file, other, dir := crdt.EntryID{1, 15: byte(crdt.File)}, crdt.EntryID{2, 15: byte(crdt.File)}, crdt.EntryID{3, 15: byte(crdt.Directory)}
	at := func(name string) crdt.Location { return crdt.Location{Name: name} }
	show := func(kind crdt.Kind, name string, content byte, mode uint32) Target {
		return Target{Visible: true, Kind: kind, Name: name, Content: crdt.ContentHash{content}, Mode: mode}
	}
	for _, c := range []struct {
		name string
		set  func(*trees)
		want string
	}{
		{"renamed and edited", func(tr *trees) {
			tr.base[file] = Known{Kind: crdt.File, At: at("a")}
			tr.want[file] = show(crdt.File, "b", 1, 0)
		}, "rename b; fetch b firm"},
		{"renamed and chmod", func(tr *trees) {
			tr.base[file] = Known{Kind: crdt.File, At: at("a")}
			tr.want[file] = show(crdt.File, "b", 0, 1)
		}, "rename b; set attributes b firm"},
		{"chmod of a hard link", func(tr *trees) {
			tr.base[file] = Known{Kind: crdt.File, At: at("a"), Stat: stat.Stat{Links: 2}}
			tr.want[file] = show(crdt.File, "a", 0, 1)
		}, "fetch a apart"},
		{"swap", func(tr *trees) {
			tr.base[file], tr.base[other] = Known{Kind: crdt.File, At: at("a")}, Known{Kind: crdt.File, At: at("b")}
			tr.want[file], tr.want[other] = show(crdt.File, "b", 0, 0), show(crdt.File, "a", 0, 0)
		}, "stage; rename a firm; unstage b firm"},
		{"one deleted, one made under its name", func(tr *trees) {
			tr.base[file] = Known{Kind: crdt.File, At: at("a")}
			tr.want[file], tr.want[other] = Target{Kind: crdt.File}, show(crdt.File, "a", 1, 0)
		}, "trash; fetch a firm"},
		{"a link to somewhere else", func(tr *trees) {
			link := crdt.EntryID{4, 15: byte(crdt.Symlink)}
			tr.base[link] = Known{Kind: crdt.Symlink, At: at("l")}
			tr.want[link] = show(crdt.Symlink, "l", 1, 5)
		}, "make link l"},
		{"a directory found staged and deleted", func(tr *trees) {
			tr.base[dir] = Known{Kind: crdt.Directory, At: at("d")}
			tr.staged[dir] = true
			tr.want[dir] = Target{Kind: crdt.Directory}
		}, "unstage " + dir.String() + " (moving); wait: " + PutAside.String()},
		{"not in the index", func(tr *trees) {
			tr.base[file] = Known{Kind: crdt.File, At: at("a")}
		}, "wait: " + Forgotten.String()},
		{"deleted and never here", func(tr *trees) { tr.want[file] = Target{Kind: crdt.File} }, "settle"},
	} {
		tr := newTrees()
		c.set(tr)
		ids := slices.Collect(maps.Keys(tr.want))
		for id := range tr.base {
			if _, ok := tr.want[id]; !ok {
				ids = append(ids, id)
			}
		}
		slices.SortFunc(ids, compareIDs)
		ops, err := Materialise(tr, ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, op := range ops {
			s := op.Do.String()
			if op.Do == Wait {
				s += ": " + op.Reason.String()
			} else if op.To != (crdt.Location{}) && op.To.Parent != Staging {
				s += " " + op.To.Name
			}
			if op.Firm {
				s += " firm"
			}
			if op.Apart {
				s += " apart"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s: got %s, want %s", c.name, s, c.want)
		}
	}
}

// TestMaterialiseEndsOnABrokenBase: directories of a base that form a circle hang
// nothing.
func TestMaterialiseEndsOnABrokenBase(t *testing.T) {
	t.Parallel()
	tr := newTrees()
	a, b, c := crdt.EntryID{1, 15: 1}, crdt.EntryID{2, 15: 1}, crdt.EntryID{3, 15: 1}
	tr.base[a] = Known{Kind: crdt.Directory, At: crdt.Location{Parent: b, Name: "a"}}
	tr.base[b] = Known{Kind: crdt.Directory, At: crdt.Location{Parent: a, Name: "b"}}
	tr.base[c] = Known{Kind: crdt.Directory, At: crdt.Location{Name: "c"}}
	tr.want[a] = Target{Visible: true, Kind: crdt.Directory, Parent: b, Name: "a"}
	tr.want[b] = Target{Visible: true, Kind: crdt.Directory, Name: "b"}
	tr.want[c] = Target{Visible: true, Kind: crdt.Directory, Parent: a, Name: "c"}
	if _, err := Materialise(tr, []crdt.EntryID{a, b, c}, nil); err != nil {
		t.Error(err)
	}
}
