package plan

import (
	"fmt"
	"strings"
	"testing"

	"sheaf/crdt"
)

// fakeViews is an index of single files.
type fakeViews struct {
	shown    map[crdt.EntryID]Shown
	here     map[crdt.EntryID]bool
	vanished map[crdt.ContentHash][]Known
	leaving  map[crdt.EntryID]bool
	deleted  map[crdt.Location][]Shown
}

func newFakeViews() *fakeViews {
	return &fakeViews{make(map[crdt.EntryID]Shown), make(map[crdt.EntryID]bool), make(map[crdt.ContentHash][]Known), make(map[crdt.EntryID]bool), make(map[crdt.Location][]Shown)}
}

func (v *fakeViews) Shown(id crdt.EntryID) (Shown, bool, error) {
	s, ok := v.shown[id]
	return s, ok, nil
}

func (v *fakeViews) At(parent crdt.EntryID, name string) (crdt.EntryID, bool, error) {
	for id, s := range v.shown {
		if s.Node.Visible() && s.at() == (crdt.Location{Parent: parent, Name: name}) {
			return id, true, nil
		}
	}
	return crdt.EntryID{}, false, nil
}

func (v *fakeViews) Here(id crdt.EntryID) (bool, error)                 { return v.here[id], nil }
func (v *fakeViews) Vanished(c crdt.ContentHash) ([]Known, error)       { return v.vanished[c], nil }
func (v *fakeViews) Deleted(at crdt.Location, _ int64) ([]Shown, error) { return v.deleted[at], nil }
func (v *fakeViews) Leaving(id crdt.EntryID) bool                       { return v.leaving[id] }
func (v *fakeViews) hide(id crdt.EntryID)                               { s := v.shown[id]; s.Node.Shown = ""; v.shown[id] = s }
func (v *fakeViews) add(id crdt.EntryID, at crdt.Location, kind crdt.Kind, c crdt.ContentHash, mode uint32, mtime int64) {
	e := crdt.Entry{ID: id, Kind: kind, Attrs: crdt.Attrs{Mode: mode}}
	if kind != crdt.Directory {
		f := &crdt.Version{Content: c, Size: 10, MTime: mtime}
		e.Last, e.Live = f, []crdt.Facet{{Version: f}}
	}
	v.shown[id] = Shown{e, crdt.Node{At: at, Shown: at.Name}}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const file = crdt.File
	was, other, third := crdt.ContentHash{1}, crdt.ContentHash{2}, crdt.ContentHash{3}
	// The base knows a=1 with content was; the view shows what show says; the disk
	// has disk at its name, with that content.
	type view struct {
		at      string // "" for not shown
		content crdt.ContentHash
		mode    uint32
		mtime   int64
	}
	same := view{"a", was, 0o644, 1000}
	for _, c := range []struct {
		name    string
		known   string // "" for none
		disk    string
		content crdt.ContentHash // zero: not read
		mtime   int64            // of the disk, if not that of the words
		view    view
		here    bool
		want    string
	}{
		{name: "nothing", known: "a=1", disk: "a=1", view: same, want: "nothing"},
		{name: "read and the same", known: "a=1", disk: "a=1", content: was, view: same, want: "nothing"},
		{name: "other bytes and nothing else: rot", known: "a=1", disk: "a=1", content: other, view: same, want: "rot"},
		{name: "edit", known: "a=1", disk: "a=1!", content: other, view: same, want: "record: edit 644"},
		{name: "atomic save", known: "a=1", disk: "a=2", content: other, view: same, want: "record: edit 644"},
		{name: "saved with another mode", known: "a=1", disk: "a=2+", content: other, view: same, want: "record: edit 600"},
		{name: "saved, nothing changed but the time", known: "a=1", disk: "a=2", content: was, view: same, want: "record: set attributes 644 2000"},
		{name: "touch", known: "a=1", disk: "a=1!", content: was, view: same, want: "record: set attributes 644 1001"},
		{name: "chmod", known: "a=1", disk: "a=1+", content: was, view: same, want: "record: set attributes 600"},
		{name: "chmod back and forth", known: "a=1", disk: "a=5", content: was, mtime: 1000, view: same, want: "refresh"},
		{name: "rename", known: "a=1", disk: "b=1", view: same, want: "record: move b"},
		{name: "rename and edit", known: "a=1", disk: "b=1!", content: other, view: same, want: "record: move b; edit 644"},
		{name: "rename and chmod", known: "a=1", disk: "b=1+", content: was, view: same, want: "record: move b; set attributes 600"},
		{name: "edit while another version is on its way", known: "a=1", disk: "a=1!", content: other, view: view{"a", third, 0o644, 5}, want: "record: edit 644"},
		{name: "edit of what the index deleted", known: "a=1", disk: "a=1!", content: other, view: view{"", was, 0o644, 1000}, want: "record: edit 644"},
		{name: "edit while a rename is on its way", known: "a=1", disk: "a=1!", content: other, view: view{"z", was, 0o644, 1000}, want: "record: edit 644"},

		{name: "crash after replacing", known: "a=1", disk: "a=2", content: other, view: view{"a", other, 0o644, 2000}, want: "adopt"},
		{name: "crash after replacing, mode and time to come", known: "a=1", disk: "a=2", content: other, view: view{"a", other, 0o600, 7}, want: "adopt, attributes"},
		{name: "the same edit on both sides, then renamed here", known: "a=1", disk: "b=1!", content: other, view: view{"a", other, 0o644, 1001}, want: "adopt: move b"},
		{name: "the same edit, but renamed in the view to where nobody saw it", known: "a=1", disk: "a=2", content: other, view: view{"z", other, 0o644, 2000}, want: "record: edit 644"},
		{name: "crash after a rename", known: "a=1", disk: "b=1", view: view{"b", was, 0o644, 1000}, want: "adopt"},
		{name: "crash after a rename, content still to come", known: "a=1", disk: "b=1", view: view{"b", other, 0o644, 9}, want: "refresh"},
		{name: "crash after chmod", known: "a=1", disk: "a=1+", content: was, view: view{"a", was, 0o600, 1000}, want: "adopt"},
		{name: "crash between chmod and touch", known: "a=1", disk: "a=1+", content: was, view: view{"a", was, 0o600, 7}, want: "adopt, attributes"},
		{name: "crash after touch on a coarse disk", known: "a=1", disk: "a=1", content: was, mtime: 4e9, view: view{"a", was, 0o644, 5.5e9}, want: "adopt, attributes"},
		{name: "chmod as in the view, but the content is not", known: "a=1", disk: "a=1+", content: was, view: view{"a", other, 0o600, 1000}, want: "record: set attributes 600"},
		{name: "chmod of a renamed entry", known: "a=1", disk: "b=1+", content: was, view: view{"b", was, 0o644, 1000}, want: "record: set attributes 600"},

		{name: "new", disk: "a=1", content: other, view: view{at: ""}, want: "record: create a file 644"},
		{name: "new directory", disk: "a=1:d", view: view{at: ""}, want: "record: create a directory 644"},
		{name: "new link", disk: "a=1:l", content: other, view: view{at: ""}, want: "record: create a symlink 777"},
		{name: "the same file as in the view", disk: "a=1", content: was, view: same, want: "adopt"},
		{name: "the same file with another mode", disk: "a=1+", content: was, view: same, want: "adopt, attributes"},
		{name: "the same file with another mode, hard linked", disk: "a=1+&", content: was, view: same, want: "adopt: set attributes 600 1000"},
		{name: "the same, but the entry is elsewhere on this disk", disk: "a=1", content: was, view: same, here: true, want: "record: create a file 644"},
		{name: "another content than in the view", disk: "a=1", content: other, view: same, want: "record: create a file 644"},
		{name: "another kind than in the view", disk: "a=1:d", view: same, want: "record: create a directory 644"},
		{name: "copied and deleted", disk: "b=8", content: third, view: same, want: "record: move b; set attributes 644 8000"},
		{name: "one of two with that content is gone", disk: "b=8", content: crdt.ContentHash{4}, view: same, want: "record: create b file 644"},
		{name: "the one that is gone has other bytes in the view by now", disk: "b=8", content: crdt.ContentHash{5}, view: same, want: "record: create b file 644"},
		{name: "the same bytes again while others are on their way", known: "a=1", disk: "a=2", content: was, view: view{"a", other, 0o644, 5}, want: "record, anew: create a file 644"},
		{name: "the same bytes again where the index deleted them", known: "a=1", disk: "a=2", content: was, view: view{"", was, 0o644, 5}, want: "record, anew: create a file 644"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newFakeViews()
			v.add(idOf("a"), crdt.Location{Name: c.view.at}, file, c.view.content, c.view.mode, c.view.mtime)
			v.here[idOf("a")] = c.here || c.known != ""
			gone := rows(crdt.Root, "v=6 w=7")
			gone[0].Content, gone[1].Content = third, third
			v.vanished[third] = gone[:1]
			for _, k := range gone {
				v.add(k.ID, k.At, file, third, 0o644, k.MTime)
			}
			two, superseded := crdt.ContentHash{4}, crdt.ContentHash{5}
			for _, k := range rows(crdt.Root, "x=61 y=62 z=63") {
				k.Content = two
				if k.At.Name == "z" {
					k.Content = superseded
				}
				v.add(k.ID, k.At, file, two, 0o644, k.MTime)
				v.vanished[k.Content] = append(v.vanished[k.Content], k)
			}
			f := Found{Content: crdt.Content{Hash: c.content, Size: 10}}
			f.Item = items(c.disk)[0]
			if c.mtime != 0 {
				f.Item.Stat.Modified = c.mtime
				f.Item.Stat.Changed++
			}
			f.Name, f.Mode, f.Is = f.Item.Name, f.Item.Stat.Mode, New
			if c.known != "" {
				k := rows(crdt.Root, c.known)
				k[0].Content = was
				for _, b := range Bind(Sighting{Complete: true, Items: []Item{f.Item}, Known: k}, nil) {
					if b.Is != Gone {
						f.Binding = b
					}
				}
			}
			d, err := Decide(crdt.Root, f, v)
			if err != nil {
				t.Fatal(err)
			}
			if got := showDecision(d); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func showDecision(d Decision) string {
	s := d.Do.String()
	if d.Anew {
		s += ", anew"
	}
	if d.Attrs {
		s += ", attributes"
	}
	var steps []string
	for _, x := range d.Steps {
		w := x.Do.String()
		if x.At.Name != "" {
			w += " " + x.At.Name
		}
		if x.Do == Create {
			w += " " + x.Kind.String()
		}
		if x.Do != Move {
			w += fmt.Sprintf(" %o", x.Mode)
		}
		if x.MTime != nil {
			w += fmt.Sprintf(" %d", *x.MTime)
		}
		steps = append(steps, w)
	}
	if len(steps) > 0 {
		s += ": " + strings.Join(steps, "; ")
	}
	return s
}

func TestDecideWaitsForWhoHadTheName(t *testing.T) {
	t.Parallel()
	v := newFakeViews()
	k := rows(crdt.Root, "a=1")[0]
	f := Found{Binding: Binding{Name: "a", Item: items("a=2:d")[0], Is: New, Over: &k}}
	d, err := Decide(crdt.Root, f, v)
	if err != nil || d.Do != Postpone || d.On != k.ID {
		t.Errorf("got %v, %v", d, err)
	}
	v.leaving[k.ID] = true
	if d, err = Decide(crdt.Root, f, v); err != nil || d.Do != Record {
		t.Errorf("got %v, %v", d, err)
	}
}

// A device that has lost its index has a file that others have deleted since: as it
// was it is the deleted entry's, and what somebody has changed or made is new.
func TestDecideDeleted(t *testing.T) {
	t.Parallel()
	hash, other := crdt.ContentHash{1}, crdt.ContentHash{2}
	at := crdt.Location{Parent: crdt.Root, Name: "a"}
	for _, c := range []struct {
		name    string
		deleted crdt.Kind
		item    string
		content crdt.Content
		want    Verb
	}{
		{"as it was", crdt.File, "a=1", crdt.Content{Hash: hash, Size: 10}, Adopt},
		{"edited", crdt.File, "a=1", crdt.Content{Hash: other, Size: 10}, Record},
		{"the same bytes of another time", crdt.File, "a=1!", crdt.Content{Hash: hash, Size: 10}, Record},
		{"a directory", crdt.Directory, "a=1:d", crdt.Content{}, Adopt},
		{"a directory where a file was", crdt.File, "a=1:d", crdt.Content{}, Record},
		{"a file where a directory was", crdt.Directory, "a=1", crdt.Content{Hash: hash, Size: 10}, Record},
	} {
		v := newFakeViews()
		id := crdt.EntryID{9}
		v.add(id, at, c.deleted, hash, 0o644, 1000)
		v.hide(id)
		f := Found{Binding: Binding{Name: "a", Item: items(c.item)[0], Is: New}, Content: c.content, Mode: 0o644}
		if d, err := Decide(crdt.Root, f, v); err != nil || d.Do != Record {
			t.Errorf("%s, and the index was never lost: %v, %v", c.name, d, err)
		}
		v.deleted[at] = []Shown{v.shown[id]}
		d, err := Decide(crdt.Root, f, v)
		if err != nil || d.Do != c.want || d.Do == Adopt && d.ID != id {
			t.Errorf("%s: got %v, %v", c.name, d, err)
		}
	}
}

func TestDecideGone(t *testing.T) {
	t.Parallel()
	v := newFakeViews()
	k := rows(crdt.Root, "a=1")[0]
	v.add(k.ID, k.At, crdt.File, k.Content, 0o644, 1000)
	if d, _ := DecideGone(k, v); d.Do != Pend {
		t.Errorf("got %v", d.Do)
	}
	v.hide(k.ID)
	if d, _ := DecideGone(k, v); d.Do != Drop {
		t.Errorf("got %v", d.Do)
	}
	if d, _ := DecideGone(rows(crdt.Root, "unknown=3")[0], v); d.Do != Pend {
		t.Errorf("an entry that the index has lost is %v", d.Do)
	}
}

func TestCircles(t *testing.T) {
	t.Parallel()
	id := func(n byte) crdt.EntryID { return crdt.EntryID{n} }
	wait := func(a, b byte) Decision { return Decision{Do: Postpone, ID: id(a), On: id(b)} }
	for _, c := range []struct {
		name string
		ds   []Decision
		want string
	}{
		{"none", nil, "[]"},
		{"a chain", []Decision{wait(1, 2), wait(2, 3)}, "[]"},
		{"a swap", []Decision{wait(1, 2), wait(2, 1)}, "[1 2]"},
		{"who waits for a swap", []Decision{wait(5, 1), wait(1, 2), wait(2, 1)}, "[1 2]"},
		{"two rotations", []Decision{wait(1, 2), wait(2, 3), wait(3, 1), wait(7, 8), wait(8, 7)}, "[1 2 3 7 8]"},
		{"something new in the way", []Decision{{Do: Postpone, On: id(1)}, wait(1, 2)}, "[]"},
	} {
		var got []byte
		for _, id := range Circles(c.ds) {
			got = append(got, id[0])
		}
		if s := fmt.Sprint(got); s != c.want {
			t.Errorf("%s: got %s, want %s", c.name, s, c.want)
		}
	}
}

func TestHeldTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		disk, want int64
		held       bool
	}{
		{1_234_567_891, 1_234_567_891, true},
		{1_234_567_800, 1_234_567_891, true}, // NTFS
		{1_234_567_000, 1_234_567_891, true},
		{1_000_000_000, 1_234_567_891, true},
		{2_000_000_000, 3_234_567_891, true}, // FAT
		{1_234_567_890, 1_234_567_891, false},
		{1_000_000_000, 3_234_567_891, false},
		{-2_000_000_000, -1_234_567_891, true},
		{-1_000_000_000, -1_234_567_891, false},
	} {
		if heldTime(c.disk, c.want) != c.held {
			t.Errorf("%d of %d: %v", c.disk, c.want, !c.held)
		}
	}
}
