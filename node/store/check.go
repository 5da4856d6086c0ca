package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"sheaf/crdt"
)

// A CheckError tells what Check found, the first maxProblems of it in words.
type CheckError struct {
	Folder   crdt.FolderID
	Problems []string
	More     int
}

const maxProblems = 20

// Error gives the problems, a line each.
func (e *CheckError) Error() string {
	s := fmt.Sprintf("the index of folder %s contradicts itself:\n  %s", e.Folder, strings.Join(e.Problems, "\n  "))
	if e.More > 0 {
		s += fmt.Sprintf("\n  and %d more", e.More)
	}
	return s
}

// Check verifies one state of the folder: that the view is the pure crdt.View
// of all entries, that each derived table holds exactly what the rows say, and
// that every parent is there. It gives a *CheckError with what is wrong. It
// holds all entries in memory (about 1 KB each).
func (f *Folder) Check(ctx context.Context) error {
	return f.Read(func(r *Reader) error {
		c := checker{ctx: ctx, r: r, entries: make(map[crdt.EntryID]crdt.Entry), nodes: make(map[crdt.EntryID]crdt.Node), want: make(map[byte]int)}
		for _, step := range []func() error{c.rows, c.tree, c.tables} {
			switch err := step(); {
			case ctx.Err() != nil:
				return fmt.Errorf("check folder %s: %w", f.id, ctx.Err())
			case err != nil:
				return r.fail("check folder "+f.id.String(), err)
			}
		}
		if len(c.problems) > 0 {
			return &CheckError{Folder: f.id, Problems: c.problems, More: c.more}
		}
		return nil
	})
}

type checker struct {
	ctx      context.Context
	r        *Reader
	entries  map[crdt.EntryID]crdt.Entry
	nodes    map[crdt.EntryID]crdt.Node
	want     map[byte]int // rows that each table must have
	sum      meta         // counted anew
	problems []string
	more     int
}

func (c *checker) wrong(format string, args ...any) {
	if len(c.problems) == maxProblems {
		c.more++
		return
	}
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// rows reads every row and looks for what must have been derived from it.
func (c *checker) rows() error {
	n := c.r.f.n
	err := c.r.view.scan(n.key(tabRow, 0), nil, func(k, v []byte) (bool, error) {
		if err := c.ctx.Err(); err != nil {
			return false, err
		}
		id, ok := lastID(k)
		if !ok {
			return false, errShort
		}
		c.want[tabRow]++
		w, err := decodeRow(id, bytes.Clone(v))
		if err != nil {
			c.wrong("%v", err)
			return true, nil
		}
		return true, c.row(w)
	})
	if err != nil {
		return err
	}
	if c.sum.stats != c.r.meta.stats {
		c.wrong("stats are %+v, counted %+v", c.r.meta.stats, c.sum.stats)
	}
	if c.sum.behind != c.r.meta.behind || c.sum.missing != c.r.meta.missing {
		c.wrong("behind are %d entries and %d bytes, counted %d and %d", c.r.meta.behind, c.r.meta.missing, c.sum.behind, c.sum.missing)
	}
	return nil
}

func (c *checker) row(w *row) error {
	n, err := w.view()
	if err != nil {
		c.wrong("%v", err)
		return nil
	}
	c.nodes[w.id] = n
	if w.indexed() {
		e, err := w.state()
		if err != nil {
			c.wrong("%v", err)
			return nil
		}
		c.entries[w.id] = e
		if w.seq > c.r.meta.seq {
			c.wrong("entry %s has seq %d, the folder is at %d", w.id, w.seq, c.r.meta.seq)
		}
	} else if w.base != nil {
		c.wrong("the disk has taken in entry %s, which is not in the index", w.id)
	}
	f, err := derive(w)
	if err != nil {
		c.wrong("%v", err)
		return nil
	}
	c.sum.stats.add(f.count, 1)
	c.sum.behind += bit(f.behind)
	c.sum.missing += f.missing
	return c.derived(w, n, f)
}

// derived looks for each row that w's facts ask for.
func (c *checker) derived(w *row, node crdt.Node, f facts) error {
	n, id := c.r.f.n, w.id
	if f.seq != 0 {
		c.expect(n.seqKey(f.seq), id[:])
	}
	if f.behind {
		c.expect(n.behindKey(f.seq, id), binary.AppendUvarint(nil, uint64(f.missing)))
	}
	if f.offPlace {
		c.expect(n.idKey(tabOffPlace, id), nil)
	}
	if f.stat.Inode != 0 {
		c.expect(append(n.inodeKey(f.stat.Inode), id[:]...), nil)
	}
	for _, l := range f.lists {
		c.expect(append(n.contentKey(tabRef, l), id[:]...), nil)
	}
	rows, err := c.r.blocksOf(f.blocks)
	if err != nil {
		return err
	}
	for h, b := range rows {
		c.expect(append(append(n.key(tabBlock, hashCut+idLen), h[:]...), id[:]...), b.encode())
	}
	// One name row may serve both view and disk.
	names := make(map[string]nameRow)
	if node.Visible() && id != crdt.Root {
		names[string(n.nameKey(node.At.Parent, crdt.NameKey(node.At.Name)))] = nameRow{linked: true}
	}
	if f.based {
		key := crdt.NameKey(f.at.Name)
		at := string(n.nameKey(f.at.Parent, key))
		row := names[at]
		row.setBased(key, f)
		names[at] = row
	}
	for at, row := range names {
		c.expect(append([]byte(at), id[:]...), row.encode())
	}
	return nil
}

// expect looks for a derived row and counts it.
func (c *checker) expect(key, value []byte) {
	c.want[key[2]]++
	got, ok, err := c.r.view.get(key)
	switch {
	case err != nil:
		c.wrong("row %c %x: %v", key[2], key[prefixLen:], err)
	case !ok:
		c.wrong("row %c %x is missing", key[2], key[prefixLen:])
	case !bytes.Equal(got, value):
		c.wrong("row %c %x is %x, must be %x", key[2], key[prefixLen:], got, value)
	}
}

// tree compares the view with the pure one and looks for parents.
func (c *checker) tree() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	for id, e := range c.entries {
		for _, parent := range []crdt.EntryID{e.Place.Parent, e.Place.From.Parent} {
			if p, ok := c.entries[parent]; parent != crdt.Root && (!ok || p.Kind != crdt.Directory) {
				c.wrong("entry %s has the parent %s, which is not a directory here", id, parent)
			}
		}
	}
	if len(c.problems) > 0 {
		return nil // the pure view of such entries means nothing
	}
	tree := crdt.View(c.entries)
	if root := c.nodes[crdt.Root]; root.Children != tree.Nodes[crdt.Root].Children {
		c.wrong("the root has %d children, must be %d", root.Children, tree.Nodes[crdt.Root].Children)
	}
	for id := range c.entries {
		if have, must := c.nodes[id], tree.Nodes[id]; have != must {
			c.wrong("entry %s is viewed as %+v, must be %+v", id, have, must)
		}
	}
	for id := range tree.Fallen {
		c.expect(c.r.f.n.idKey(tabFallen, id), nil)
	}
	return nil
}

// tables counts the rows of every table, so that none has too many, and reads
// what is not derived from entries.
func (c *checker) tables() error {
	n := c.r.f.n
	got := make(map[byte]int)
	err := c.r.view.scan(n.key(0, 0)[:2], nil, func(k, v []byte) (bool, error) {
		if len(k) < prefixLen {
			return false, errShort
		}
		got[k[2]]++
		switch k[2] {
		case tabMeta, tabRow, tabSeq, tabName, tabBehind, tabFallen, tabOffPlace, tabInode, tabBlock, tabRef:
		case tabPeer:
			if len(k) != prefixLen+32 || len(v) < 17 {
				c.wrong("a peer's cursor is malformed")
			}
		case tabHead:
			if len(k) != prefixLen+8 {
				c.wrong("a head is malformed")
			}
		case tabEnded:
			if _, _, err := decodeEnded(v); err != nil || len(k) != prefixLen+idLen {
				c.wrong("a replaced version is malformed")
			}
		case tabList:
			return true, c.list(crdt.ContentHash(k[prefixLen:]))
		default:
			c.wrong("there is no table %q", k[2])
		}
		return true, c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, t := range []byte{tabRow, tabSeq, tabName, tabBehind, tabFallen, tabOffPlace, tabInode, tabBlock, tabRef} {
		if got[t] != c.want[t] {
			c.wrong("table %q has %d rows, must have %d", t, got[t], c.want[t])
		}
	}
	return nil
}

func (c *checker) list(content crdt.ContentHash) error {
	list, ok, err := c.r.List(content)
	switch {
	case err != nil || !ok:
		c.wrong("the block list of %s cannot be read: %v", content, err)
	case crdt.ContentHash(list.Content()) != content:
		c.wrong("the block list of %s is another's", content)
	}
	refs := 0
	err = c.r.view.scan(c.r.f.n.contentKey(tabRef, content), nil, func(_, _ []byte) (bool, error) {
		refs++
		return false, nil
	})
	if refs == 0 && err == nil {
		c.wrong("nothing refers to the block list of %s", content)
	}
	return err
}
