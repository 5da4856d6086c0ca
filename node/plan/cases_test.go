package plan

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// A script is what a person does, by semicolons: "write p c" (new, or in place),
// "save p c" (atomically), "backup p c" (old content to p~), "mkdir p", "mv p q",
// "rm p", "chmod p", "touch p", "ln p q".
func (d *device) script(s string) {
	k, w := d.disk, d.w
	for cmd := range strings.SplitSeq(s, ";") {
		arg := strings.Fields(cmd)
		if len(arg) == 0 {
			continue
		}
		d.dirty = true
		p := k.find(arg[1])
		switch arg[0] {
		case "write":
			if n := p.inode(); n != nil {
				write(k, n, arg[2])
			} else {
				k.put(p.dir, p.name, k.inode(stat.File, arg[2]))
			}
		case "save":
			w.replace(k, p, k.inode(stat.File, arg[2]))
		case "backup":
			w.rename(k, p, place{p.dir, p.name + "~"})
			k.put(p.dir, p.name, k.inode(stat.File, arg[2]))
		case "mkdir":
			k.put(p.dir, p.name, k.inode(stat.Directory, ""))
		case "mv":
			w.rename(k, p, k.find(arg[2]))
		case "rm":
			k.drop(p.dir, p.name)
		case "chmod":
			p.inode().mode, p.inode().ctime = 0o600, w.tick()
		case "touch":
			p.inode().mtime, p.inode().ctime = w.tick(), w.tick()
		case "ln":
			q := k.find(arg[2])
			k.put(q.dir, q.name, p.inode())
		default:
			w.fail("script: %q", cmd)
		}
	}
}

func (d *memDisk) find(path string) place {
	p := place{d.root, ""}
	for part := range strings.SplitSeq(path, "/") {
		if p.name != "" {
			p.dir = p.inode()
		}
		p.name = part
	}
	return p
}

var conflictPart = regexp.MustCompile(` \(conflict from . [-\d]+ [.\d]+\)`)

// paths gives the disk as "dir/ file=content", without what is under a listed
// directory left out; conflict copies as "name!".
func (d *memDisk) paths() string {
	var out []string
	for p, s := range d.tree(false) {
		p = conflictPart.ReplaceAllString(p, "!")
		switch {
		case s == "dir":
			p += "/"
		case strings.HasPrefix(s, "\""):
			p += "=" + strings.Trim(s, "\"")
		}
		out = append(out, p)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestCases is the table "What every case must give" of the index's design, with
// the sides in both orders, with clocks 50 years apart either way, and with each
// side's engine running while its person works, or stopped and started after.
func TestCases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, start, here, there, third string
		want                            []string // any of them
	}{
		{name: "edit, rename", start: "write f old", here: "save f new", there: "mv f g", want: []string{"g=new"}},
		{name: "backup save, rename", start: "write f old", here: "backup f new", there: "mv f g", want: []string{"f~=old g=new"}},
		{name: "rename directory, edit and add in it", start: "mkdir d; write d/f old", here: "mv d e", there: "write d/f new; write d/new x", want: []string{"e/ e/f=new e/new=x"}},
		{name: "delete, edit", start: "write f old", here: "rm f", there: "save f new", want: []string{"f=new"}},
		{name: "delete, rename", start: "write f old", here: "rm f", there: "mv f g", want: []string{"g=old"}},
		{name: "delete directory, add to it", start: "mkdir d; write d/old x", here: "rm d", there: "write d/new y", want: []string{"d/ d/new=y"}},
		{name: "a into b, b into a", start: "mkdir a; mkdir b; write a/x 1; write b/y 2", here: "mv a b/a", there: "mv b a/b", want: []string{"a/ a/b/ a/b/y=2 a/x=1", "b/ b/a/ b/a/x=1 b/y=2"}},
		{name: "rename to g, rename to h", start: "write f x", here: "mv f g", there: "mv f h", want: []string{"g=x", "h=x"}},
		{name: "two to one name", start: "write f 1; write h 2", here: "mv f g", there: "mv h g", want: []string{"g (2)=1 g=2", "g (2)=2 g=1"}},
		{name: "create the same", here: "write p x", there: "write p x", want: []string{"p=x"}},
		{name: "create other", here: "write p x", there: "write p y", want: []string{"p!=x p=y", "p!=y p=x"}},
		{name: "edit, edit, edit", start: "write f old", here: "save f 1", there: "save f 2", third: "write f 3", want: []string{"f!=1 f!=2 f=3", "f!=1 f!=3 f=2", "f!=2 f!=3 f=1"}},
		{name: "edit, chmod", start: "write f old", here: "write f new", there: "chmod f", want: []string{"f=new"}},
		{name: "edit, touch", start: "write f old", here: "write f new", there: "touch f", want: []string{"f=new"}},
		{name: "the same directory", here: "mkdir d; write d/x 1", there: "mkdir d; write d/y 2", want: []string{"d/ d/x=1 d/y=2"}},
		{name: "directory becomes a file, add to it", start: "mkdir d; write d/old x", here: "rm d; write d file", there: "write d/new y", want: []string{"d (2)/ d (2)/new=y d=file", "d (2)=file d/ d/new=y"}},
		{name: "file becomes a directory, edit", start: "write d old", here: "rm d; mkdir d; write d/x 1", there: "save d new", want: []string{"d (2)/ d (2)/x=1 d=new", "d (2)=new d/ d/x=1"}},
		{name: "swap, edit", start: "write a 1; write b 2", here: "mv a t; mv b a; mv t b", there: "write a new", want: []string{"a=2 b=new"}},
		{name: "swap directories, edit", start: "mkdir a; mkdir b; write a/f 1", here: "mv a t; mv b a; mv t b", there: "write a/f new", want: []string{"a/ b/ b/f=new"}},
		{name: "move out and delete, edit and add", start: "mkdir a; write a/x old", here: "mv a/x x; rm a", there: "write a/x new; write a/y y", want: []string{"a/ a/y=y x=new"}},
		{name: "wrap a directory, add to it", start: "mkdir d; write d/x 1", here: "mv d t; mkdir d; mv t d/t", there: "write d/y 2", want: []string{"d/ d/t/ d/t/x=1 d/t/y=2", "d/ d/t/ d/t/x=1 d/y=2"}}, // the second where only the end was seen: d was bound by its path
		{name: "rename and make anew, add", start: "mkdir d; write d/x 1", here: "mv d e; mkdir d; write d/z 3", there: "write d/y 2", want: []string{"d/ d/z=3 e/ e/x=1 e/y=2"}},
		{name: "case-only rename, edit", start: "write Foo old", here: "mv Foo foo", there: "save Foo new", want: []string{"foo=new"}},
		{name: "hard link, edit", start: "write a old", here: "ln a b", there: "save a new", want: []string{"a=new b=old"}},
		{name: "the same rename", start: "write a x; mkdir d; write d/f y", here: "mv a b; mv d e", there: "mv a b; mv d e", want: []string{"b=x e/ e/f=y"}},
		{name: "the same edit", start: "write a old", here: "save a new", there: "write a new", want: []string{"a=new"}},
		{name: "move between directories, rename the directory", start: "mkdir a; mkdir b; write a/x 1", here: "mv a/x b/x", there: "mv b c", want: []string{"a/ c/ c/x=1"}},
		{name: "delete, delete", start: "mkdir d; write d/x 1", here: "rm d", there: "rm d/x; rm d", want: []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for variant := range 2 * 3 * 4 * 2 {
				bit := func(n int) int { x := variant % n; variant /= n; return x }
				v := variant
				flip, skew, stopped, order := bit(2) == 1, bit(3), bit(4), bit(2)
				func() {
					n := 2
					if c.third != "" {
						n = 3
					}
					w := newWorld(uint64(v+1), n)
					w.tracing = true
					defer func() {
						if x := recover(); x != nil {
							t.Errorf("variant %d: %v\n%s", v, x, strings.Join(w.trace, "\n"))
						}
					}()
					a, b := w.devices[0], w.devices[1]
					if flip {
						a, b = b, a
					}
					a.skew = int64(skew-1) * 50 * 365 * 24 * 3600 * 1000
					a.script(c.start)
					w.settle()
					for i, d := range []*device{a, b} {
						s := []string{c.here, c.there}[i]
						if stopped>>i&1 == 1 {
							d.crash()
							d.script(s)
							continue
						}
						for cmd := range strings.SplitSeq(s, ";") {
							d.script(cmd)
							d.observeAll()
						}
					}
					if c.third != "" {
						w.devices[2].script(c.third)
					}
					if order == 1 { // one side is ready before the other begins to look
						b.observeAll()
						w.clock += 3e9
						b.observeAll()
						a.receive(b, true)
						a.materialise(a.allBehind(), trouble{})
					}
					w.settle()
					w.check()
					for _, d := range w.devices {
						if got := d.disk.paths(); !slices.Contains(c.want, got) {
							t.Errorf("variant %d: %s shows %q, want %q\n%s", v, d.name, got, c.want, strings.Join(w.trace, "\n"))
							return
						}
					}
				}()
				variant = v
			}
		})
	}
}

// TestMetadataOfCases: what the tree alone does not show.
func TestMetadataOfCases(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	a, b := w.devices[0], w.devices[1]
	a.script("write f old; mkdir d")
	w.settle()
	a.script("write f new")
	b.script("chmod f; chmod d")
	w.settle()
	w.check()
	if got := a.disk.find("f").inode(); got.mode != 0o600 || got.data != "new" {
		t.Errorf("f is %q with mode %o", got.data, got.mode)
	}
	if got := a.disk.find("d").inode(); got.mode != 0o600 {
		t.Errorf("d has mode %o", got.mode)
	}
}

// TestRenameOfADirectoryIsOneRecord, however much it holds, and one operation
// elsewhere.
func TestRenameOfADirectoryIsOneRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	a, b := w.devices[0], w.devices[1]
	a.script("mkdir d; mkdir d/e")
	for i := range 100 {
		a.script(fmt.Sprintf("write d/e/%d x%d", i, i))
	}
	w.settle()
	before := a.records
	a.script("mv d z")
	a.observeAll()
	if n := a.records - before; n != 1 {
		t.Errorf("%d records", n)
	}
	b.receive(a, true)
	if n := b.materialise(b.allBehind(), trouble{}); n != 1 {
		t.Errorf("%d operations", n)
	}
}

// TestFilledFoldersMeet: two folders that were filled by hand with the same
// files, before they first meet: no conflict and no transfer; also where one
// side's index comes before its first look at its own disk.
func TestFilledFoldersMeet(t *testing.T) {
	t.Parallel()
	for _, rebuilt := range []bool{false, true} {
		w := newWorld(1, 2)
		a, b := w.devices[0], w.devices[1]
		for _, d := range w.devices {
			d.script("mkdir d; mkdir d/e")
			for i := range 100 {
				d.script(fmt.Sprintf("write d/%d x%d; write d/e/%d y%d", i, i, i, i))
			}
		}
		a.observeAll()
		before := b.records
		if rebuilt {
			b.scanned = true // a node that joins takes the index first
			b.receive(a, true)
			b.observeAll()
			if b.records != before {
				t.Errorf("%d records of what was there already", b.records-before)
			}
		}
		w.settle()
		w.check()
		for _, d := range w.devices {
			if len(d.disk.trash) > 0 || len(d.disk.places()) != 202 {
				t.Errorf("%s has %d names, %d in the trash", d.name, len(d.disk.places()), len(d.disk.trash))
			}
		}
	}
}

// TestDeletedConflictCopyStaysDeleted, also on a device that meets the conflict
// later.
func TestDeletedConflictCopyStaysDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 3)
	a, b, c := w.devices[0], w.devices[1], w.devices[2]
	a.script("write f old")
	w.settle()
	a.script("save f 1")
	b.script("save f 2")
	a.observeAll()
	b.observeAll()
	c.receive(a, true)
	a.receive(b, true)
	a.materialise(a.allBehind(), trouble{})
	for _, p := range a.disk.places() {
		if p.name != "f" {
			a.dirty = true
			a.disk.drop(p.dir, p.name)
		}
	}
	a.observeAll()
	w.clock += 3e9
	a.observeAll()
	c.receive(b, true)
	c.materialise(c.allBehind(), trouble{})
	w.settle()
	for _, d := range w.devices {
		if got := d.disk.paths(); got != "f=1" && got != "f=2" {
			t.Errorf("%s shows %q", d.name, got)
		}
	}
}

// TestLocalBytesAreKeptForTheCopy: the copy of a version that lost is made while
// its bytes are still under the name they had.
func TestLocalBytesAreKeptForTheCopy(t *testing.T) {
	t.Parallel()
	w := newWorld(1, 2)
	a, b := w.devices[0], w.devices[1]
	a.script("write f old")
	w.settle()
	a.skew = 1e6 // a's version wins
	a.script("save f 1")
	b.script("save f 2")
	a.observeAll()
	b.observeAll()
	b.receive(a, true)
	for reverse := range 2 {
		ids := b.allBehind()
		if reverse == 1 {
			slices.Reverse(ids)
		}
		ops, err := Materialise(deviceReader{b, true}, ids, nil)
		if err != nil || len(ops) != 2 || ops[0].Do != Fetch || ops[1].Do != Fetch || ops[0].Replaces() || !ops[1].Replaces() || !slices.Equal(ops[1].After, []int{0}) || ops[0].For != ops[1].ID {
			t.Errorf("got %v, %v", ops, err)
		}
	}
}

// TestKeepingOnesOwnVersion: a person who renames the conflict copy over the file
// keeps its bytes, also where a crash has hidden that others had been there, or
// where these are still to come.
func TestKeepingOnesOwnVersion(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{true, false} {
		w := newWorld(1, 2)
		a, b := w.devices[0], w.devices[1]
		a.script("write f old")
		w.settle()
		a.skew = 1e6 // a's version wins
		a.script("save f 1")
		b.script("save f 2")
		a.observeAll()
		b.observeAll()
		b.receive(a, true)
		ops, err := Materialise(deviceReader{b, true}, b.allBehind(), nil)
		if err != nil || len(ops) != 2 {
			t.Fatal(ops, err)
		}
		entries := b.index.Entries()
		if err := b.carryOut(ops[0], entries[ops[0].ID]); err != nil {
			t.Fatal(err)
		}
		if crash {
			saved := b.saveBase()
			if err := b.carryOut(ops[1], entries[ops[1].ID]); err != nil {
				t.Fatal(err)
			}
			b.base = saved
			b.crash()
		}
		for _, p := range b.disk.places() {
			if p.name != "f" {
				b.dirty = true
				w.rename(b.disk, p, b.disk.find("f"))
			}
		}
		w.settle()
		for _, d := range w.devices {
			if got := d.disk.paths(); !strings.Contains(got, "=2") || !strings.Contains(got, "=1") {
				t.Errorf("crash %v: %s shows %q", crash, d.name, got)
			}
		}
	}
}

func TestPutBack(t *testing.T) {
	t.Parallel()
	tr := newTrees()
	file, dir := crdt.EntryID{1, 15: byte(crdt.File)}, crdt.EntryID{2, 15: byte(crdt.Directory)}
	tr.base[file] = Known{ID: file, Kind: crdt.File, At: crdt.Location{Name: "a.txt"}}
	tr.base[dir] = Known{ID: dir, Kind: crdt.Directory, At: crdt.Location{Name: "d"}}
	tr.want[file] = Target{Visible: true, Kind: crdt.File, Name: "b.txt"}
	tr.want[dir] = Target{Kind: crdt.Directory}
	tr.staged[file], tr.staged[dir] = true, true
	tr.foreign[crdt.Location{Name: "b (moving).txt"}] = true
	ops, err := PutBack(tr, []crdt.EntryID{file, dir}, false)
	if err != nil || len(ops) != 2 || ops[0].To.Name != "b (moving 2).txt" {
		t.Fatal(ops, err)
	}
	for _, op := range ops {
		if err := tr.do(op); err != nil {
			t.Errorf("%v: %v", op, err)
		}
	}
	if len(tr.staged) > 0 {
		t.Error("left staged")
	}

	// Where it was, or beside it, is best: elsewhere it would pass for moved.
	tr = newTrees()
	inner := crdt.EntryID{3, 15: byte(crdt.File)}
	here := crdt.EntryID{4, 15: byte(crdt.Directory)}
	tr.base[here] = Known{ID: here, Kind: crdt.Directory, At: crdt.Location{Name: "here"}}
	tr.base[file] = Known{ID: file, Kind: crdt.File, At: crdt.Location{Parent: here, Name: "a"}, Place: crdt.Location{Parent: here, Name: "a"}}
	tr.base[dir] = Known{ID: dir, Kind: crdt.Directory, At: crdt.Location{Parent: here, Name: "d"}, Place: crdt.Location{Parent: here, Name: "d"}}
	tr.base[inner] = Known{ID: inner, Kind: crdt.File, At: crdt.Location{Parent: dir, Name: "x"}, Place: crdt.Location{Parent: dir, Name: "x"}}
	tr.want[file] = Target{Visible: true, Kind: crdt.File, Parent: here, Name: "b"}
	tr.want[inner] = Target{Visible: true, Kind: crdt.File, Name: "x"}
	tr.want[dir], tr.want[here] = Target{Visible: true, Kind: crdt.Directory, Name: "d"}, Target{Visible: true, Kind: crdt.Directory, Name: "here"}
	tr.staged[file], tr.staged[dir], tr.staged[inner] = true, true, true
	tr.foreign[crdt.Location{Parent: here, Name: "a"}] = true
	ops, err = PutBack(tr, []crdt.EntryID{inner, file, dir}, false)
	if err != nil || len(ops) != 3 {
		t.Fatal(ops, err)
	}
	to := make(map[crdt.EntryID]crdt.Location)
	for _, op := range ops {
		to[op.ID] = op.To
		if err := tr.do(op); err != nil {
			t.Errorf("%v: %v", op, err)
		}
	}
	if want := map[crdt.EntryID]crdt.Location{file: {Parent: here, Name: "b (moving)"}, dir: {Parent: here, Name: "d"}, inner: {Parent: dir, Name: "x"}}; !maps.Equal(to, want) {
		t.Errorf("put back to %v, must be %v", to, want)
	}
	long := asideName(strings.Repeat("\u00e9", 120)+".jpeg", 2)
	if len(long) > crdt.MaxNameBytes || !strings.HasSuffix(long, " (moving 2).jpeg") || crdt.ValidName(long) != nil {
		t.Errorf("%q", long)
	}
}
