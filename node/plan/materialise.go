package plan

import (
	"fmt"

	"sheaf/crdt"
)

// A Reader is what [Materialise] looks up: of the index, and of what is on the
// disk as far as the base knows. All of it is of one moment.
type Reader interface {
	// Target gives what the view shows of an entry; false if the index does not
	// know it.
	Target(id crdt.EntryID) (Target, bool, error)
	// Base gives the base row of an entry, and whether it is on the disk.
	Base(id crdt.EntryID) (k Known, here, ok bool, err error)
	// NameKey makes names equal that the disk takes for one.
	NameKey(name string) string
	// BaseAt gives the entry that the base has at that name of the disk, or at one
	// that the disk takes for it.
	BaseAt(parent crdt.EntryID, name string) (crdt.EntryID, bool, error)
	// BaseChildren gives the entries that the base has in a directory.
	BaseChildren(parent crdt.EntryID) ([]crdt.EntryID, error)
	// BaseVersions gives the dots of the versions in the base's state of an entry.
	BaseVersions(id crdt.EntryID) ([]crdt.Dot, error)
	// Behind tells whether the disk does not show yet what the index has.
	Behind(id crdt.EntryID) (bool, error)
	// Taken tells that something which is no entry is known to stand at that name:
	// unrecorded, ignored, special. It may always say no; the operation then fails
	// when it is carried out.
	Taken(parent crdt.EntryID, name string) (bool, error)
}

// Materialise gives the operations that bring the disk to what the view shows of
// ids, and of what they depend on, in an order in which they can be carried out:
// directories before what is put into them, the occupant of a name before who
// comes to it, what leaves a directory before the directory goes, a conflict copy
// of an entry before the entry's local bytes, which are the copy's, are replaced.
// Where entries wait for one another in a circle, one of them is staged.
//
// held tells which entries must be left as they are: held for a person's word,
// or changed on this disk and not recorded yet. What depends on them waits too.
//
// Each entry is planned once, each of ids ends with an operation whose Last is
// set, or with a Wait. No entry is left staged by the plan. Time and memory are
// linear in the entries looked at.
//
// It is a depth-first walk over what depends on what, on a stack of its own since
// a chain of renames can be as long as the folder is large.
func Materialise(r Reader, ids []crdt.EntryID, held func(id crdt.EntryID) bool) ([]Op, error) {
	stuck := make(map[crdt.EntryID]crdt.EntryID)
	for {
		p := newPlanner(r, held, stuck)
		if err := p.run(ids); err != nil {
			return nil, fmt.Errorf("plan what the disk must do: %w", err)
		}
		// Who was staged and then could not go on has to stay where it was, and
		// who waits for its name, too. So each round frees the plan of one more.
		n := len(stuck)
		for _, nd := range p.staged {
			if nd.at.Parent == Staging && nd.here {
				stuck[nd.id] = nd.waitsFor
			}
		}
		if len(stuck) == n {
			return p.ops, nil
		}
	}
}

// planner holds one walk.
type planner struct {
	layout
	held   func(crdt.EntryID) bool
	stuck  map[crdt.EntryID]crdt.EntryID // not to be moved: would have to stay staged
	asked  map[crdt.EntryID]struct{}     // ids
	ops    []Op
	stack  []frame
	again  []*node // staged, to be taken up when the stack is empty
	staged []*node // by this plan
}

// frame is an entry on the stack, waiting for the one above it.
type frame struct {
	n    *node
	wait edge // why it waits
	kids []crdt.EntryID
	next int
}

// edge is why one entry waits for another.
type edge uint8

const (
	parentEdge edge = iota // the other is the directory it goes into, or must leave it for that
	slotEdge               // the other has its name
	childEdge              // the other is still in it
	copyEdge               // the other is its conflict copy; better, not needed
)

func newPlanner(r Reader, held func(crdt.EntryID) bool, stuck map[crdt.EntryID]crdt.EntryID) *planner {
	if held == nil {
		held = func(crdt.EntryID) bool { return false }
	}
	return &planner{
		layout: layout{r: r, nodes: make(map[crdt.EntryID]*node), slots: make(map[crdt.Location]slot)},
		held:   held, stuck: stuck, asked: make(map[crdt.EntryID]struct{}),
	}
}

func (p *planner) run(ids []crdt.EntryID) error {
	for _, id := range ids {
		p.asked[id] = struct{}{}
	}
	for _, id := range ids {
		if err := p.walk(id); err != nil {
			return err
		}
		for len(p.again) > 0 {
			n := p.again[0]
			p.again = p.again[1:]
			if err := p.walk(n.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// walk plans one entry and what it depends on.
func (p *planner) walk(id crdt.EntryID) error {
	n, err := p.node(id)
	if err != nil {
		return err
	}
	if n.state != unseen {
		return nil
	}
	p.push(n)
	for len(p.stack) > 0 {
		top := &p.stack[len(p.stack)-1]
		need, why, err := p.advance(top)
		if err != nil {
			return err
		}
		switch {
		case need == nil: // planned
			top.n.state = done
			p.stack = p.stack[:len(p.stack)-1]
		case need.state == unseen:
			top.wait = why
			p.push(need)
		default:
			top.wait = why
			p.breakCycle(need)
		}
	}
	return nil
}

func (p *planner) push(n *node) {
	n.state = open
	p.stack = append(p.stack, frame{n: n})
}

// advance plans the entry of a frame, or gives what must be planned before:
// unseen, or open where that closes a circle. It starts over each time.
func (p *planner) advance(f *frame) (need *node, why edge, err error) {
	n := f.n
	_, stuck := p.stuck[n.id]
	switch {
	case !n.known && !n.row:
		return nil, 0, nil // neither index nor base know it
	case p.held(n.id):
		return nil, 0, p.wait(n, Held, crdt.EntryID{})
	case stuck:
		return nil, 0, p.wait(n, Entangled, p.stuck[n.id])
	case !n.known:
		return nil, 0, p.wait(n, Forgotten, crdt.EntryID{})
	case n.target.Visible:
		return p.show(n)
	case n.here && n.base.Kind == crdt.Directory && n.base.At.Parent == Staging:
		return nil, 0, p.wait(n, PutAside, crdt.EntryID{}) // what is in it must be seen first
	case n.here && n.base.Kind == crdt.Directory:
		return p.removeDir(f)
	case n.here:
		return p.trash(n)
	}
	p.settle(n)
	return nil, 0, nil
}

// show plans an entry that the view shows.
func (p *planner) show(n *node) (need *node, why edge, err error) {
	to := crdt.Location{Parent: n.target.Parent, Name: n.target.Name}
	var after []int
	firm := false
	if !n.here || n.at != to {
		dir, need, err := p.enter(n, to.Parent)
		if err != nil || need != nil || dir == nil {
			return need, parentEdge, err
		}
		if after, err = p.opened(n, dir); err != nil {
			return nil, 0, err
		}
		freed, need, ok, err := p.vacate(n, to)
		if err != nil || need != nil || !ok {
			return need, slotEdge, err
		}
		after, firm = appendOp(after, freed), freed != none
	}
	content := n.here && n.target.Kind != crdt.Directory && n.target.Content != n.base.Content
	var copies []int
	if content {
		var missing *node
		if copies, need, missing, err = p.copies(n); err != nil || need != nil {
			return need, copyEdge, err
		}
		if missing != nil {
			return nil, 0, p.wait(n, Uncopied, missing.id)
		}
	}
	p.place(n, to, Op{After: after, Firm: firm}, content, copies)
	return nil, 0, nil
}

// enter looks after the directory that n goes into: it must be on the disk, and
// not in n itself. A nil directory without a need says that n waits.
func (p *planner) enter(n *node, parent crdt.EntryID) (dir, need *node, err error) {
	if dir, err = p.node(parent); err != nil {
		return nil, nil, err
	}
	if !dir.here {
		if dir.state != done {
			return nil, dir, nil
		}
		return nil, nil, p.wait(n, NoParent, dir.id)
	}
	if !n.here || n.target.Kind != crdt.Directory {
		return dir, nil, nil
	}
	inside, err := p.under(dir, n)
	if err != nil || !inside {
		return dir, nil, err
	}
	// In the view it is not in n, so something on the way up from it leaves n.
	for up, steps := dir, 0; up != n && up.here && steps < maxWalk; steps++ {
		if up.state != done {
			return nil, up, nil
		}
		if up, err = p.node(up.at.Parent); err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, p.wait(n, Entangled, dir.id)
}

// opened gives the operations that make it possible for n to go into dir: the
// one that made dir, and, if dir was in n, those that brought it out.
func (p *planner) opened(n, dir *node) (after []int, err error) {
	if !dir.wasHere {
		return appendOp(nil, dir.arrived), nil
	}
	if !n.wasHere || n.target.Kind != crdt.Directory {
		return nil, nil
	}
	for up, steps := dir, 0; up != n; steps++ {
		if up.id == crdt.Root || !up.wasHere || steps > maxWalk {
			return nil, nil
		}
		if up, err = p.node(up.base.At.Parent); err != nil {
			return nil, err
		}
	}
	for up, steps := dir, 0; up.id != crdt.Root && steps < maxWalk; steps++ {
		after = appendOp(after, up.arrived)
		if up.at.Parent == Staging {
			return appendOp(after, up.left), nil
		}
		if up, err = p.node(up.at.Parent); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// vacate looks after the name that n comes to: freed is the operation that left
// it, if any. ok is false where n waits.
func (p *planner) vacate(n *node, to crdt.Location) (freed int, need *node, ok bool, err error) {
	holder, freed, err := p.holder(to)
	if err != nil {
		return none, nil, false, err
	}
	switch {
	case holder == nil && freed == none:
		taken, err := p.r.Taken(to.Parent, to.Name)
		if err == nil && taken {
			return none, nil, false, p.wait(n, Blocked, crdt.EntryID{})
		}
		return none, nil, err == nil, err
	case holder == nil || holder == n:
		return freed, nil, true, nil
	case holder.state == done:
		return none, nil, false, p.wait(n, NameTaken, holder.id)
	}
	return none, holder, false, nil
}

// copies looks after the conflict copies that keep n's local bytes; ops is their
// operations. One that is missing cannot be made now: n's bytes must stay.
func (p *planner) copies(n *node) (ops []int, need, missing *node, err error) {
	if n.skipCopies || n.base.Kind != crdt.File {
		return nil, nil, nil, nil
	}
	dots, err := p.r.BaseVersions(n.id)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, d := range dots {
		c, err := p.node(crdt.ConflictID(n.id, d))
		if err != nil {
			return nil, nil, nil, err
		}
		if !c.known || !c.target.Visible || c.wasHere || c.target.Content != n.base.Content {
			continue
		}
		switch {
		case c.state == unseen:
			return nil, c, nil, nil
		case c.arrived != none:
			ops = appendOp(ops, c.arrived)
			p.ops[c.arrived].For = n.id
		case c.state == done:
			return nil, nil, c, nil
		}
	}
	return ops, nil, nil, nil
}

// Unkept tells whether the disk has of an entry what only a conflict copy keeps, which
// is not there yet: it must not be replaced now. Materialise sees to that for what it
// plans; ask it again before what was fetched for an earlier plan is put in place.
func Unkept(r Reader, id crdt.EntryID) (bool, error) {
	k, here, ok, err := r.Base(id)
	if err != nil || !ok || !here || k.Kind != crdt.File {
		return false, err
	}
	dots, err := r.BaseVersions(id)
	if err != nil {
		return false, err
	}
	for _, d := range dots {
		c := crdt.ConflictID(id, d)
		t, ok, err := r.Target(c)
		if err != nil {
			return false, err
		}
		if !ok || !t.Visible || t.Content != k.Content {
			continue
		}
		if _, here, ok, err := r.Base(c); err != nil || !ok || !here {
			return true, err
		}
	}
	return false, nil
}

// place gives the operations that bring an entry to where and what it must be,
// once its way there is free: way says after what.
func (p *planner) place(n *node, to crdt.Location, way Op, content bool, copies []int) {
	first := len(p.ops)
	target := n.target
	switch {
	case !n.here:
		do := map[crdt.Kind]Do{crdt.Directory: MakeDir, crdt.Symlink: MakeLink, crdt.File: Fetch}[target.Kind]
		p.emit(Op{Do: do, ID: n.id, To: to, Target: target, After: way.After, Firm: way.Firm})
		p.arrive(n, to, first)
	case n.at != to:
		do := Rename
		if n.at.Parent == Staging {
			do = Unstage
			way.After = appendOp(way.After, n.left)
		}
		p.emit(Op{Do: do, ID: n.id, From: n.at, To: to, Target: target, After: way.After, Firm: way.Firm})
		p.arrive(n, to, first)
	}
	moved := len(p.ops) > first
	switch {
	case content:
		do := Fetch
		if target.Kind == crdt.Symlink {
			do = MakeLink
		}
		if moved {
			copies = append(copies, first)
		}
		p.emit(Op{Do: do, ID: n.id, From: to, To: to, Target: target, After: copies, Firm: moved})
	case n.wasHere && p.attrsDiffer(n):
		op := Op{Do: SetAttrs, ID: n.id, From: to, To: to, Target: target, Firm: moved}
		if target.Kind == crdt.File && n.base.Stat.Links > 1 {
			op.Do, op.Apart = Fetch, true
		}
		if moved {
			op.After = []int{first}
		}
		p.emit(op)
	case !moved:
		p.settle(n)
		return
	}
	p.ops[len(p.ops)-1].Last = true
}

func (p *planner) attrsDiffer(n *node) bool {
	switch n.target.Kind {
	case crdt.Directory:
		return n.target.Mode != n.base.Mode
	case crdt.File:
		return n.target.Mode != n.base.Mode || n.target.MTime != n.base.MTime
	}
	return false
}

// settle is for what needs nothing, if there is anything to settle.
func (p *planner) settle(n *node) {
	if _, asked := p.asked[n.id]; asked || n.behind {
		p.emit(Op{Do: Settle, ID: n.id, To: n.at, Target: n.target, Last: true})
	}
}

// trash plans a file or link that the view does not show.
func (p *planner) trash(n *node) (need *node, why edge, err error) {
	after, need, missing, err := p.copies(n)
	if err != nil || need != nil {
		return need, copyEdge, err
	}
	if missing != nil {
		return nil, 0, p.wait(n, Uncopied, missing.id)
	}
	p.leave(n, Trash, appendOp(after, n.left))
	return nil, 0, nil
}

// removeDir plans a directory that the view does not show: after what is in it.
func (p *planner) removeDir(f *frame) (need *node, why edge, err error) {
	n := f.n
	if f.kids == nil {
		if f.kids, err = p.r.BaseChildren(n.id); err != nil {
			return nil, 0, err
		}
	}
	for ; f.next < len(f.kids); f.next++ {
		kid, err := p.node(f.kids[f.next])
		if err != nil {
			return nil, 0, err
		}
		if !kid.here || kid.at.Parent != n.id {
			continue
		}
		if kid.state == done {
			return nil, 0, p.wait(n, NotEmpty, kid.id)
		}
		return kid, childEdge, nil
	}
	after := appendOp(nil, n.left)
	for _, id := range f.kids {
		after = appendOp(after, p.nodes[id].left)
	}
	p.leave(n, RemoveDir, after)
	return nil, 0, nil
}

// leave takes an entry from the disk.
func (p *planner) leave(n *node, do Do, after []int) {
	p.emit(Op{Do: do, ID: n.id, From: n.at, Target: n.target, After: after, Last: true})
	p.depart(n, len(p.ops)-1)
	n.here = false
}

func (p *planner) emit(op Op) { p.ops = append(p.ops, op) }

// wait leaves an entry for another time. One that was found in the stage is put
// in sight meanwhile.
func (p *planner) wait(n *node, why Reason, on crdt.EntryID) error {
	if n.here && n.at.Parent == Staging && n.left == none {
		aside, ok, err := p.aside(n)
		if err != nil {
			return err
		}
		if ok {
			p.emit(Op{Do: Unstage, ID: n.id, From: n.at, To: aside, Target: n.target})
			p.arrive(n, aside, len(p.ops)-1)
		}
	}
	n.waitsFor = on
	if _, asked := p.asked[n.id]; asked || n.behind {
		op := Op{Do: Wait, ID: n.id, From: n.at, Target: n.target, Reason: why, For: on}
		if n.target.Visible {
			op.To = crdt.Location{Parent: n.target.Parent, Name: n.target.Name}
		}
		p.emit(op)
	}
	return nil
}

func appendOp(ops []int, op int) []int {
	if op == none {
		return ops
	}
	return append(ops, op)
}
