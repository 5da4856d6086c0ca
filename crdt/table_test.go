package crdt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A row of the table of design/index-crdt.md (and of the taxonomies P16 and P17
// of anchors/reliability.md) is a small script: what all begin with, then what
// each does while apart. All steps are in the order of true time.
//
// Each row is played with every assignment of replicas to the letters, with right
// clocks and with each one's clock 50 years ahead or behind, and with the
// exchange at the end in several random orders. With right clocks the outcome is
// want; with wrong ones it may be one of others too, and nothing else.
type scenario struct {
	name   string
	begin  string // steps of A, known to all
	steps  string
	want   string // the tree: paths with contents, "~" for the mark of a conflict copy
	others []string
}

var scenarios = []scenario{
	// The table.
	{"edit, rename", "create f=1", "A: edit f=2; B: move f g", "g=2", nil},
	{"rename directory, edit and add in it", "mkdir d; create d/f=1", "A: move d e; B: edit d/f=2; B: create d/new=3", "e/ e/f=2 e/new=3", nil},
	{"delete, edit", "create f=1", "A: rm f; B: edit f=2", "f=2", nil},
	{"edit, delete", "create f=1", "A: edit f=2; B: rm f", "f=2", nil},
	{"delete, rename", "create f=1", "A: rm f; B: move f g", "g=1", nil},
	{"rename, delete", "create f=1", "A: move f g; B: rm f", "g=1", nil},
	{"delete, chmod", "create f=1", "A: rm f; B: chmod f 600", "f=1,600", nil},
	{"delete directory, add in it", "mkdir d; create d/f=1", "A: rm d; B: create d/new=2", "d/ d/new=2", nil},
	{"a into b, b into a", "mkdir a; mkdir b; create a/x=1; create b/y=2", "A: move a b/a; B: move b a/b", "b/ b/a/ b/a/x=1 b/y=2", []string{"a/ a/b/ a/b/y=2 a/x=1"}},
	{"a into b, b into c, c into a", "mkdir a; mkdir b; mkdir c", "A: move a b/a; B: move b c/b; C: move c a/c", "c/ c/b/ c/b/a/", []string{"a/ a/c/ a/c/b/", "b/ b/a/ b/a/c/"}},
	{"a into b, b into a, below", "mkdir p; mkdir p/a; mkdir p/b", "A: move p/a p/b/x; B: move p/b p/a/y", "p/ p/b/ p/b/x/", []string{"p/ p/a/ p/a/y/"}},
	{"rename twice", "create f=1", "A: move f g; B: move f h", "h=1", []string{"g=1"}},
	{"two to one name", "create f=1; create h=2", "A: move f g; B: move h g", "g (2)=2 g=1", []string{"g (2)=1 g=2"}},
	{"same creation", "", "A: create p=1; B: create p=1", "p=1", nil},
	{"creations of one name", "", "A: create p=1; B: create p=2", "p=2 p~=1", []string{"p=1 p~=2"}},
	{"three edits", "create f=0", "A: edit f=1; B: edit f=2; C: edit f=3", "f=3 f~=1 f~=2", []string{"f=1 f~=2 f~=3", "f=2 f~=1 f~=3"}},
	{"edit, chmod", "create f=1", "A: edit f=2; B: chmod f 700", "f=2,700", nil},
	{"edit, touch", "create f=1", "A: edit f=2; B: touch f 77", "f=2@77", []string{"f=2"}},
	{"touch, edit", "create f=1", "A: touch f 77; B: edit f=2", "f=2", []string{"f=2@77"}},
	{"conflict copy deleted", "create f=0", "A: edit f=1; B: edit f=2; sync A B; A: rm f~", "f=2", []string{"f=1"}},
	{"conflict copy renamed", "create f=0", "A: edit f=1; B: edit f=2; sync A B; A: move f~ mine; B: edit f=3", "f=3 mine=1", []string{"f=3 mine=2"}},
	{"conflict copy edited by two", "create f=0", "A: edit f=1; B: edit f=2; sync A B; A: edit f~=3; B: edit f~=4", "f=2 f~=4 f~~=3", []string{"f=1 f~=4 f~~=3", "f=2 f~=3 f~~=4", "f=1 f~=3 f~~=4"}},
	{"conflict resolved with knowledge", "create f=0", "A: edit f=1; B: edit f=2; sync A B; A: edit f=3; A: rm f~", "f=3", nil},
	{"same directory made", "", "A: mkdir d; A: create d/x=1; B: mkdir d; B: create d/y=2", "d/ d/x=1 d/y=2", nil},
	{"directory made a file, added in it", "mkdir d; create d/f=1", "A: rm d; A: create d=9; B: create d/new=2", "d (2)=9 d/ d/new=2", []string{"d=9 d (2)/ d (2)/new=2"}},
	{"swapped by three renames, edit", "create a=1; create b=2", "A: move a t; A: move b a; A: move t b; B: edit a=3", "a=2 b=3", nil},
	{"moved out and deleted, edit and add in it", "mkdir a; create a/x=1", "A: move a/x x; A: rm a; B: edit a/x=2; B: create a/y=3", "a/ a/y=3 x=2", nil},

	// P16, where not above: ten kinds of conflict.
	{"move to where another is created", "create f=1", "A: move f g; B: create g=2", "g (2)=2 g=1", []string{"g (2)=1 g=2"}},
	{"moved into a directory that is deleted", "mkdir d; create f=1", "A: move f d/f; B: rm d", "d/ d/f=1", nil},
	{"moved out of a directory that is deleted", "mkdir d; create d/f=1; create d/g=2", "A: move d/f f; B: rm d", "f=1", nil},
	{"both deleted", "create f=1", "A: rm f; B: rm f", "", nil},
	{"both moved alike", "create f=1", "A: move f g; B: move f g", "g=1", nil},
	{"both edited alike", "create f=1", "A: edit f=2; B: edit f=2", "f=2", nil},
	{"both edited alike, one goes on", "create f=1", "A: edit f=2; B: edit f=2; sync A B; A: edit f=3", "f=3", nil},

	// P17, where not above: what real products did in 2019.
	{"directory moved to two places", "mkdir d; create d/f=1; mkdir p; mkdir q", "A: move d p/d; B: move d q/d", "p/ q/ q/d/ q/d/f=1", []string{"p/ p/d/ p/d/f=1 q/"}},
	{"directory deleted, file edited in it", "mkdir d; create d/f=1; create d/g=2", "A: rm d; B: edit d/f=3", "d/ d/f=3", nil},

	// Others that once went wrong in the design.
	{"cycle, then an edit and a new file in it", "mkdir a; mkdir b", "A: move a b/a; B: move b a/b; sync A B; sync A C; C: create b/a/x=1; C: move b e", "e/ e/a/ e/a/x=1", []string{"refused"}},
	{"cycle, then the way out of it", "mkdir a; mkdir b", "A: move a b/a; B: move b a/b; sync A B; A: move b/a c", "b/ c/", []string{"refused"}},
	{"directory shown for what lies in it, which goes", "mkdir d; create d/f=1", "A: rm d; B: create d/new=2; sync A B; A: rm d/new", "d/", nil},
	{"directory deleted and made anew", "mkdir d; create d/f=1", "A: rm d; A: mkdir d; A: create d/g=2; B: edit d/f=3", "d/ d/f=3 d/g=2", nil},
	{"deleted and made anew elsewhere known", "create f=1", "A: rm f; sync A B; B: create f=2; A: create f=3", "f=3 f~=2", []string{"f=2 f~=3"}},
	{"path used again after a move", "create f=1", "A: move f g; A: create f=2; B: edit f=3", "f=2 g=3", nil},
	{"restored while the place is taken", "create f=1", "A: rm f; A: restore f g=2; B: create g=3", "g (2)=3 g=2", []string{"g (2)=2 g=3"}},
	{"names that pass one another by", "create a=1; create b=2; create a (2)=3", "A: move b a", "a (2)=3 a (3)=2 a=1", []string{"a (2)=3 a (3)=1 a=2"}},
	{"directory renamed, renamed inside", "mkdir d; mkdir d/e; create d/e/f=1", "A: move d x; B: move d/e d/y; C: move d/e/f d/g", "x/ x/g=1 x/y/", nil},
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, order := range permutations(3) {
				for off := range 7 { // none, or one of three clocks ahead or behind
					for seed := range uint64(3) {
						got, err := s.play(order, off, seed)
						if err != nil {
							t.Fatalf("replicas %v, clock %d, seed %d: %v", order, off, seed, err)
						}
						if got != s.want && (off == 0 || !slices.Contains(s.others, got)) {
							t.Fatalf("replicas %v, clock %d, seed %d: got %q, want %q", order, off, seed, got, s.want)
						}
					}
				}
			}
		})
	}
}

// errRefused is a step that cannot be done on the tree that this replica shows.
var errRefused = errors.New("no such path")

func (s scenario) play(order []int, off int, seed uint64) (string, error) {
	w := newWorld(seed, 3)
	w.rnd = rand.New(rand.NewPCG(seed, 7))
	for k, r := range w.replicas {
		r.id = replicaID(order[k])
	}
	if off > 0 {
		w.replicas[(off-1)/2].skew = 50 * year * int64(1-2*((off-1)%2))
	}
	for _, step := range split(s.begin, ";") {
		if err := w.step(w.replicas[0], step); err != nil {
			return "", fmt.Errorf("%s: %w", step, err)
		}
	}
	if err := w.settle(); err != nil {
		return "", err
	}
	for _, step := range split(s.steps, ";") {
		if pair, ok := strings.CutPrefix(step, "sync "); ok {
			if err := w.sync(w.letter(pair[:1]), w.letter(pair[2:])); err != nil {
				return "", err
			}
			continue
		}
		if err := w.step(w.letter(step[:1]), step[3:]); errors.Is(err, errRefused) {
			return "refused", nil
		} else if err != nil {
			return "", fmt.Errorf("%s: %w", step, err)
		}
	}
	if err := w.settle(); err != nil {
		return "", err
	}
	if err := w.check(); err != nil {
		return "", err
	}
	return w.print(w.replicas[0].index), nil
}

func split(s, sep string) []string {
	var out []string
	for p := range strings.SplitSeq(s, sep) {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

func (w *world) letter(l string) *replica { return w.replicas[l[0]-'A'] }

func (w *world) sync(a, b *replica) error {
	return errors.Join(w.receive(a.index, b.index, false), w.receive(b.index, a.index, false),
		w.receive(a.disk, a.index, false), w.receive(b.disk, b.index, false))
}

// step carries out one line: a verb, a path and what it needs.
func (w *world) step(r *replica, line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	rec := w.recorder(r)
	expected := spots(r.disk.Tree())
	if err := w.verb(r, rec, verb, rest, expected); err != nil {
		return err
	}
	return w.commit(r, rec)
}

func (w *world) verb(r *replica, rec *Recorder, verb, rest string, expected map[EntryID]Location) error {
	path, text, _ := strings.Cut(rest, "=")
	words := strings.SplitN(path, " ", 2) // a second path may have spaces
	switch verb {
	case "mkdir", "create":
		at, err := r.location(path)
		if err != nil {
			return err
		}
		if verb == "mkdir" {
			_, err = rec.Create(at, Directory, Content{}, 0o755)
			return err
		}
		_, err = rec.Create(at, File, contentOf(text), 0o644)
		w.wrote(r, rec, text)
		return err
	case "restore":
		at, err := r.location(words[1])
		if err != nil {
			return err
		}
		id := NewEntryID(FolderID{}, Root, File, words[0], nil)
		err = rec.Restore(id, at, contentOf(text), 0o644)
		w.wrote(r, rec, text)
		return err
	}
	if verb == "edit" || verb == "rm" {
		words[0] = path // and so may an only one
	}
	id, err := r.find(words[0])
	if err != nil {
		return err
	}
	switch verb {
	case "edit":
		w.replacing(r, id)
		err = rec.Edit(id, contentOf(text), r.disk.entries[id].Mode())
		w.wrote(r, rec, text)
	case "move":
		var at Location
		if at, err = r.location(words[1]); err == nil {
			err = rec.Move(id, at)
		}
	case "chmod":
		mode, _ := strconv.ParseUint(words[1], 8, 32)
		err = rec.SetAttrs(id, uint32(mode), nil)
	case "touch":
		ns, _ := strconv.ParseInt(words[1], 10, 64)
		err = rec.SetAttrs(id, r.disk.entries[id].Mode(), &ns)
	case "rm":
		_, err = w.remove(r, rec, w.look(r), id, expected)
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	return err
}

var conflictMark = regexp.MustCompile(` \(conflict from [^)]*\)`)

// find resolves a path on a disk; "f~" is a conflict copy of f.
func (r *replica) find(path string) (EntryID, error) {
	id := Root
	for part := range strings.SplitSeq(path, "/") {
		if strings.Contains(part, "~") {
			for _, n := range r.disk.nodes {
				if n.Visible() && n.At.Parent == id && conflictMark.ReplaceAllString(n.Shown, "~") == part {
					part = n.Shown
				}
			}
		}
		next, ok, err := Find(r.disk, id, part)
		if err != nil {
			return EntryID{}, err
		}
		if !ok {
			return EntryID{}, fmt.Errorf("%w: %s", errRefused, path)
		}
		id = next
	}
	return id, nil
}

func (r *replica) location(path string) (Location, error) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return Location{Root, path}, nil
	}
	parent, err := r.find(path[:i])
	return Location{parent, path[i+1:]}, err
}

// print writes a tree: sorted, directories with a slash, contents, modes and set
// times where they are not the usual ones.
func (w *world) print(rows *MemRows) string {
	texts := map[ContentHash]string{}
	for i := range 10 {
		texts[contentOf(strconv.Itoa(i)).Hash] = strconv.Itoa(i)
	}
	var lines []string
	tree := rows.Tree()
	for id, n := range tree.Nodes {
		if !n.Visible() {
			continue
		}
		line := conflictMark.ReplaceAllString(tree.Path(id), "~")
		e := rows.entries[id]
		if e.Kind == Directory {
			lines = append(lines, line+"/")
			continue
		}
		line += "=" + texts[e.Shown().Content]
		if e.Mode() != 0o644 {
			line += fmt.Sprintf(",%o", e.Mode())
		}
		if e.MTime() != 1e9 {
			line += fmt.Sprintf("@%d", e.MTime())
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			out = append(out, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return out
}
