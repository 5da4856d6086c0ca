package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// A directory is written as words "name=inode", with ":d" for a directory and
// ":l" for a link, "!" for a file whose content changed in place, "+" for a
// changed mode, "&" for a second hard link.
func items(words string) []Item {
	var out []Item
	for _, w := range strings.Fields(words) {
		name, rest, _ := strings.Cut(w, "=")
		s := stat.Stat{Kind: stat.File, Mode: 0o644, Size: 10, Device: 1, Links: 1}
		if strings.Contains(rest, ":d") {
			s.Kind, s.Size = stat.Directory, 0
		}
		if strings.Contains(rest, ":l") {
			s.Kind = stat.Symlink
		}
		_, _ = fmt.Sscanf(rest, "%d", &s.Inode)
		s.Born, s.Modified, s.Changed = int64(s.Inode)*100, int64(s.Inode)*1000, int64(s.Inode)*1000
		if strings.Contains(rest, "!") {
			s.Size, s.Modified, s.Changed = 11, s.Modified+1, s.Changed+1
		}
		if strings.Contains(rest, "+") {
			s.Mode, s.Changed = 0o600, s.Changed+1
		}
		if strings.Contains(rest, "&") {
			s.Links = 2
		}
		out = append(out, Item{name, s})
	}
	return out
}

// rows gives what the base knows when it last saw that.
func rows(dir crdt.EntryID, words string) []Known {
	var out []Known
	for _, i := range items(words) {
		out = append(out, Known{ID: idOf(i.Name), At: crdt.Location{Parent: dir, Name: i.Name}, Kind: kindOf(i.Stat.Kind), Stat: i.Stat, Mode: i.Stat.Mode, MTime: i.Stat.Modified})
	}
	return out
}

// idOf gives the ID of the entry that was first known by a name.
func idOf(name string) crdt.EntryID {
	var id crdt.EntryID
	copy(id[:], "entry "+name)
	return id
}

func show(bs []Binding) string {
	var out []string
	for _, b := range bs {
		s := b.Name + " " + b.Is.String()
		if b.Known != nil && (b.Is != Gone) {
			s += " " + strings.TrimPrefix(strings.TrimRight(string(b.Known.ID[:]), "\x00"), "entry ")
		}
		if b.Over != nil {
			s += " over " + b.Over.At.Name
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestBind(t *testing.T) {
	t.Parallel()
	other := crdt.EntryID{9}
	for _, c := range []struct {
		name, known, items string
		elsewhere          string // known in another directory, and no longer there
		blocked            string
		partial            bool
		want               string
	}{
		{name: "nothing happened", known: "a=1 d=2:d", items: "a=1 d=2:d", want: "a unchanged a; d unchanged d"},
		{name: "edit in place", known: "a=1", items: "a=1!", want: "a suspect a"},
		{name: "chmod", known: "a=1 d=2:d", items: "a=1+ d=2:d+", want: "a suspect a; d suspect d"},
		{name: "new", known: "a=1", items: "a=1 b=2", want: "a unchanged a; b new"},
		{name: "gone", known: "a=1 b=2", items: "a=1", want: "a unchanged a; b gone"},
		{name: "rename", known: "a=1", items: "b=1", want: "b moved a"},
		{name: "rename and edit", known: "a=1", items: "b=1!", want: "b moved, suspect a"},
		{name: "case-only rename", known: "Foo=1", items: "foo=1", want: "foo moved Foo"},
		{name: "another Unicode form", known: "\u00e9=1", items: "e\u0301=1", want: "e\u0301 moved \u00e9"},
		{name: "another Unicode form on a disk without identity", known: "\u00e9=0", items: "e\u0301=0!", want: "e\u0301 moved, suspect \u00e9"},
		{name: "both Unicode forms stay two files", known: "\u00e9=1 e\u0301=2", items: "\u00e9=1! e\u0301=2", want: "e\u0301 unchanged e\u0301; \u00e9 suspect \u00e9"},
		{name: "swap", known: "a=1 b=2", items: "a=2 b=1", want: "a moved b; b moved a"},
		{name: "rotation", known: "a=1 b=2 c=3", items: "a=3 b=1 c=2", want: "a moved c; b moved a; c moved b"},
		{name: "swap of a file and a directory", known: "a=1 b=2:d", items: "a=2:d b=1", want: "a moved b; b moved a"},
		{name: "atomic save", known: "a=1", items: "a=2", want: "a suspect a"},
		{name: "atomic save through a known temporary", known: "a=1 a.tmp=2", items: "a=2", want: "a suspect a; a.tmp gone"},
		{name: "save with a backup", known: "p=1", items: "p=2 p~=1", want: "p suspect p; p~ new"},
		{name: "save with a backup over the last one", known: "p=1 p~=0", items: "p=2 p~=1", want: "p suspect p; p~ suspect p~"},
		{name: "mv over a known file", known: "p=1 q=2", items: "p=2", want: "p suspect p; q gone"},
		{name: "log rotation", known: "log=1 log.1=2 log.2=3", items: "log=4 log.1=1 log.2=2", want: "log suspect log; log.1 suspect log.1; log.2 suspect log.2"},
		{name: "shift into free names", known: "a=1 b=2", items: "b=1 c=2", want: "b moved a; c moved b"},
		{name: "new file where one was renamed away", known: "a=1:d", items: "a=5 b=1:d", want: "a new; b moved a"},
		{name: "directory renamed and made anew", known: "d=1:d", items: "d=2:d e=1:d", want: "d new; e moved d"},
		{name: "directory removed and made anew", known: "d=1:d", items: "d=2:d", want: "d suspect d"},
		{name: "directory over a removed one", known: "d=1:d e=2:d", items: "d=2:d", want: "d gone; d moved e over d"},
		{name: "file becomes a directory", known: "a=1", items: "a=2:d", want: "a gone; a new over a"},
		{name: "directory becomes a file, same inode number", known: "a=1:d", items: "a=1", want: "a gone; a new over a"},
		{name: "what waits for what waits", known: "a=1:d b=2 c=3:l", items: "a=7:l b=1:d", want: "a new over b; b gone; b moved a over b; c gone"},
		{name: "hard link added", known: "a=1", items: "a=1& b=1&", want: "a unchanged a; b new"},
		{name: "hard link added, first name edited", known: "a=1", items: "a=1!& b=1!&", want: "a suspect a; b new"},
		{name: "hard link, first name removed", known: "a=1", items: "b=1& c=1&", want: "b moved a; c new"},
		{name: "of two hard links one renamed, the other replaced", known: "a=1& b=1&", items: "a=2 c=1&", want: "a suspect a; c moved b"},
		{name: "likewise, looked at by name", known: "a=1& b=1&", items: "a=2 c=1& b=none", partial: true, want: "a suspect a; c moved b"},
		{name: "from another directory", elsewhere: "x=7", items: "a=7", want: "a moved x"},
		{name: "from another directory, changed", elsewhere: "x=7", items: "a=7!", want: "a moved, suspect x"},
		{name: "two links from another directory", elsewhere: "x=7", items: "a=7 b=7", want: "a moved x; b new"},
		{name: "directory from another directory", elsewhere: "x=7:d", items: "a=7:d", want: "a moved x"},
		{name: "from another directory over a known file", known: "p=1", elsewhere: "q=7", items: "p=7", want: "p suspect p"},
		{name: "from another directory, the old one stepping aside", known: "p=1", elsewhere: "q=7", items: "p=7 r=1", want: "p moved q; r moved p"},
		{name: "inode number used again", known: "a=1", items: "b=1000:l", want: "a gone; b new"},
		{name: "ignored is not gone", known: "a=1 b=2", items: "a=1", blocked: "b", want: "a unchanged a"},
		{name: "the link of an ignored file is new", known: "a=1", items: "b=1", blocked: "a", want: "b new"},
		{name: "only some names looked at", known: "a=1 c=3", items: "a=1!", partial: true, want: "a suspect a"},
		{name: "a name looked at and not there", known: "a=1", items: "a=none", partial: true, want: "a gone"},
		{name: "symbolic link retargeted", known: "l=1:l", items: "l=2:l", want: "l suspect l"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := Sighting{Dir: crdt.Root, Complete: !c.partial, Items: items(c.items), Known: rows(crdt.Root, c.known), Blocked: map[string]string{}}
			for _, b := range strings.Fields(c.blocked) {
				s.Blocked[b] = "ignored"
			}
			for i, item := range s.Items {
				if strings.HasSuffix(c.items, item.Name+"=none") {
					s.Items[i].Stat = stat.Stat{}
				}
			}
			got := show(Bind(s, func(item Item) (Known, bool) {
				for _, k := range rows(other, c.elsewhere) {
					if k.Stat.SameFile(item.Stat) {
						return k, true
					}
				}
				return Known{}, false
			}))
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestBindIsOneToOne: each item is bound once, each known entry is bound once or
// gone once or unknown, kinds agree, and the same input gives the same answer.
func TestBindIsOneToOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		words := func(label string, names []string) string {
			var out []string
			for _, n := range names {
				if rapid.Bool().Draw(t, label+" has "+n) {
					kind := rapid.SampledFrom([]string{"", "", ":d", ":l"}).Draw(t, "kind")
					out = append(out, fmt.Sprintf("%s=%d%s%s", n, rapid.IntRange(0, 6).Draw(t, "inode"), kind, rapid.SampledFrom([]string{"", "!"}).Draw(t, "edited")))
				}
			}
			return strings.Join(out, " ")
		}
		all := []string{"a", "b", "c", "d", "\u00e9", "e\u0301"}
		s := Sighting{Complete: rapid.Bool().Draw(t, "complete"), Items: items(words("disk", all)), Known: rows(crdt.Root, words("base", all)), Blocked: map[string]string{}}
		if rapid.Bool().Draw(t, "blocked") {
			s.Blocked["b"] = "ignored"
		}
		far := rows(crdt.EntryID{9}, words("elsewhere", []string{"x", "y", "a"}))
		for i := range far {
			far[i].ID[15] = 1
		}
		elsewhere := func(item Item) (Known, bool) {
			for _, k := range far {
				if k.Stat.SameFile(item.Stat) {
					return k, true
				}
			}
			return Known{}, false
		}
		got := Bind(s, elsewhere)
		if again := Bind(s, elsewhere); show(again) != show(got) {
			t.Fatalf("%s, then %s", show(got), show(again))
		}
		bound := make(map[crdt.EntryID]bool)
		named := make(map[string]bool)
		for _, b := range got {
			if b.Known != nil {
				if bound[b.Known.ID] {
					t.Fatalf("%s bound twice: %s", b.Known.At.Name, show(got))
				}
				bound[b.Known.ID] = true
			}
			if _, blocked := s.Blocked[b.Name]; blocked {
				t.Fatalf("%s is blocked: %s", b.Name, show(got))
			}
			if b.Is == Gone {
				if there := slices.ContainsFunc(s.Items, func(i Item) bool { return i.Name == b.Name && kindOf(i.Stat.Kind) == b.Known.Kind }); there && b.Known.Kind != crdt.Directory {
					t.Fatalf("%s is gone, and a file of its kind is at its path: %s", b.Name, show(got))
				}
				continue
			}
			if named[b.Name] {
				t.Fatalf("%s twice: %s", b.Name, show(got))
			}
			named[b.Name] = true
			if b.Known != nil && b.Known.Kind != kindOf(b.Item.Stat.Kind) {
				t.Fatalf("%s changes its kind: %s", b.Name, show(got))
			}
		}
		for _, i := range s.Items {
			if _, blocked := s.Blocked[i.Name]; !blocked && !named[i.Name] {
				t.Fatalf("%s forgotten: %s", i.Name, show(got))
			}
		}
	})
}

func TestMovedAway(t *testing.T) {
	t.Parallel()
	file, dir := rows(crdt.Root, "a=1")[0], rows(crdt.Root, "d=2:d")[0]
	at := func(words string) stat.Stat { return items(words)[0].Stat }
	for _, c := range []struct {
		name  string
		k     Known
		atOld stat.Stat
		other bool
		want  bool
	}{
		{"nothing is left", file, stat.Stat{}, false, true},
		{"the file is still there: a hard link", file, at("a=1&"), false, false},
		{"edited in place and linked", file, at("a=1!&"), false, false},
		{"refilled by a new file: a backup", file, at("a=5"), false, false},
		{"refilled by another entry's: a swap", file, at("a=5"), true, true},
		{"replaced by a directory", file, at("a=5:d"), false, true},
		{"directory made anew", dir, at("d=5:d"), false, true},
	} {
		if got := MovedAway(c.k, c.atOld, c.other); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestSmudge: a file that was put in place in the tick of its modification time is
// read again once, and is not rotten whatever it then holds.
func TestSmudge(t *testing.T) {
	t.Parallel()
	s := items("a=1")[0].Stat
	if got := Smudge(s, s.Modified+50, 10); got != s {
		t.Errorf("a settled stat became %v", got)
	}
	k := rows(crdt.Root, "a=1")
	k[0].Stat = Smudge(s, s.Modified+5, 10)
	bs := Bind(Sighting{Complete: true, Items: []Item{{"a", s}}, Known: k}, nil)
	if show(bs) != "a suspect entry a" && bs[0].Is != Suspect {
		t.Errorf("got %s", show(bs))
	}
	v := newFakeViews()
	v.add(k[0].ID, crdt.Location{Name: "a"}, crdt.File, k[0].Content, s.Mode, s.Modified)
	dec, err := Decide(crdt.Root, Found{Binding: bs[0], Content: crdt.Content{Hash: crdt.ContentHash{7}, Size: 10}, Mode: s.Mode}, v)
	if err != nil || dec.Do != Record {
		t.Errorf("got %v, %v", dec, err)
	}
}

// TestRetimed: a file whose time was set is read again once, wherever it stands then, so
// that what somebody wrote meanwhile is an edit and not rot; if nobody did, that settles it.
func TestRetimed(t *testing.T) {
	t.Parallel()
	set := items("a=1")[0].Stat
	k := rows(crdt.Root, "a=1")
	k[0].Stat = Retimed(set)
	for _, name := range []string{"a", "b"} {
		bs := Bind(Sighting{Complete: true, Items: []Item{{name, set}}, Known: k}, nil)
		if len(bs) != 1 || bs[0].Is != Suspect && bs[0].Is != MovedSuspect {
			t.Fatalf("at %s: got %s", name, show(bs))
		}
		v := newFakeViews()
		v.add(k[0].ID, crdt.Location{Name: name}, crdt.File, k[0].Content, k[0].Mode, k[0].MTime)
		written := Found{Binding: bs[0], Content: crdt.Content{Hash: crdt.ContentHash{7}, Size: 10}, Mode: set.Mode}
		d, err := Decide(crdt.Root, written, v)
		if err != nil || !slices.ContainsFunc(d.Steps, func(s Step) bool { return s.Do == Edit }) {
			t.Errorf("written at %s: got %v, %v", name, d, err)
		}
		same := written
		same.Content.Hash = k[0].Content
		if d, err = Decide(crdt.Root, same, v); err != nil || len(d.Steps) > 0 || d.Do != Refresh && d.Do != Adopt {
			t.Errorf("read at %s: got %v, %v", name, d, err)
		}
	}
	if dir := items("d=1:d")[0].Stat; Retimed(dir) != dir {
		t.Error("a directory has nothing to read")
	}
}
