package plan

import "sheaf/crdt"

// breakCycle opens a circle of entries that wait for one another, which need,
// somewhere on the stack, closes. A conflict copy need not come first. Else
// someone of whom only the place is wanted, a name or room in a directory that is
// to go, is staged: there is always one, since parents in a view form a tree,
// what must leave a directory lies deeper than it, and a directory that is to go
// waits for its children alone. That directory is not staged itself: it may hold
// what is not synced and must not leave sight.
func (p *planner) breakCycle(need *node) {
	from := len(p.stack) - 1
	for p.stack[from].n != need {
		from--
	}
	for i := len(p.stack) - 2; i >= from; i-- {
		if p.stack[i].wait == copyEdge {
			p.stack[i].n.skipCopies = true
			p.unwind(i + 1)
			return
		}
	}
	blocker := need
	for i := len(p.stack) - 1; i >= from; i-- {
		if w := p.stack[i].wait; (w == slotEdge || w == childEdge) && blocker.here && blocker.at.Parent != Staging &&
			(blocker.target.Visible || blocker.base.Kind != crdt.Directory) {
			p.stage(blocker)
			p.unwind(i + 1)
			return
		}
		blocker = p.stack[i].n
	}
	// Not reached on a view that is a tree; a broken one must not hang us.
	top := p.stack[len(p.stack)-1].n
	_ = p.wait(top, Entangled, need.id)
	top.state = done
	p.stack = p.stack[:len(p.stack)-1]
}

func (p *planner) stage(n *node) {
	p.emit(Op{Do: Stage, ID: n.id, From: n.at, To: stage(n.id), Target: n.target})
	p.depart(n, len(p.ops)-1)
	n.at = stage(n.id)
	p.staged = append(p.staged, n)
	p.again = append(p.again, n)
}

// unwind takes the frames from i on off the stack, not planned.
func (p *planner) unwind(i int) {
	for _, f := range p.stack[i:] {
		f.n.state = unseen
	}
	p.stack = p.stack[:i]
}
