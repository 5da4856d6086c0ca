package disk_test

import (
	"slices"
	"testing"

	"golang.org/x/text/unicode/norm"

	"sheaf/node/disk"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
)

// S14: on a disk that takes names for one, what is there has the name that it has.
func TestLookOnFoldingDisk(t *testing.T) {
	t.Parallel()
	const composed = "ä"
	decomposed := norm.NFD.String(composed)
	for _, c := range []struct {
		name     string
		o        simdisk.Options
		there    string // a file's name
		asked    string
		found    bool   // under that name
		twin     string // what stands in the way of one of that name
		rewrites bool
	}{
		{name: "plain disk", there: "file", asked: "FILE"},
		{name: "its own name", o: simdisk.Options{FoldCase: true}, there: "file", asked: "file", found: true},
		{name: "other case", o: simdisk.Options{FoldCase: true}, there: "file", asked: "FILE", twin: "file"},
		{name: "other form, one name to the disk", o: simdisk.Options{FoldForm: true}, there: composed, asked: decomposed, found: true},
		{name: "other form, another name to the disk", o: simdisk.Options{FoldCase: true}, there: composed, asked: decomposed},
		{name: "kept in form D", o: simdisk.Options{StoreForm: true}, there: composed, asked: composed, found: true, rewrites: true},
		{name: "kept in form D, other case", o: simdisk.Options{StoreForm: true, FoldCase: true}, there: composed, asked: "Ä", twin: decomposed, rewrites: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := simdisk.New(c.o).Open()
			ok(t, disk.Init(f, folderID))
			file, err := f.Create(c.there, 0o644)
			ok(t, err)
			ok(t, file.Close())
			d, err := disk.Open(f, folderID, disk.Options{Floor: -1})
			ok(t, err)
			if d.Rewrites() != c.rewrites {
				t.Errorf("rewrites names: %v", d.Rewrites())
			}
			l, err := d.Look(t.Context(), ".", []string{c.asked})
			ok(t, err)
			if len(l.Items) != 1 || (l.Items[0].Stat.Kind != stat.None) != c.found {
				t.Errorf("asked for %q, where %q is: %+v", c.asked, c.there, l.Items)
			}
			if twin, err := d.Twin(c.asked); err != nil || twin != c.twin {
				t.Errorf("the twin of %q is %q, %v", c.asked, twin, err)
			}
			if list, err := f.List(".sheaf/tmp"); err != nil || len(list) != 0 {
				t.Errorf("left behind: %v, %v", list, err)
			}
		})
	}
}

// A rename onto a name that a person has taken meanwhile replaces nothing, also where
// files have no numbers by which they are told apart.
func TestRenameReplacesNothing(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]simdisk.Options{
		"plain": {}, "folding": {FoldCase: true, FoldForm: true}, "without numbers": {NoNumbers: true, NoExchange: true},
		"folding, without numbers": {FoldCase: true, FoldForm: true, NoNumbers: true, NoExchange: true, NoLinks: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := simdisk.New(o).Open()
			ok(t, disk.Init(f, folderID))
			d, err := disk.Open(f, folderID, disk.Options{Floor: -1})
			ok(t, err)
			put := func(p, data string) stat.Stat {
				file, err := f.Create(p, 0o644)
				ok(t, err)
				_, err = file.WriteAt([]byte(data), 0)
				ok(t, err)
				ok(t, file.Close())
				s, err := f.Lstat(p)
				ok(t, err)
				return s
			}
			from := put("from", "what others renamed")
			to := put("to", "a person's new file")
			if _, err := d.Rename("from", "to", from); err == nil {
				t.Error("renamed over it")
			}
			if now, err := f.Lstat("to"); err != nil || now != to {
				t.Errorf("it is %v now, %v", now, err)
			}
			s, err := d.Rename("from", "From", from)
			ok(t, err)
			if list, err := f.List("."); err != nil || !slices.ContainsFunc(list, func(e disk.Entry) bool { return e.Name == "From" }) {
				t.Errorf("not renamed in case alone: %v, %v", list, err)
			}
			_, err = d.Rename("From", "third", s)
			ok(t, err)
		})
	}
}
