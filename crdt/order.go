package crdt

// Order gives the entries in an order in which they can be sent: each after the
// directories that its Place and From name, as far as they are among them.
// Entries that name one another in a circle (concurrent moves) stand next to
// each other: whoever cuts the list into batches keeps them in one. Else the
// order is kept as it was.
//
// The circles are the strongly connected components of Tarjan, "Depth-first
// search and linear graph algorithms", 1972, which come out in this order by
// themselves.
func Order(entries []Entry) []Entry {
	o := ordering{
		entries: entries,
		index:   make(map[EntryID]int, len(entries)),
		seen:    make([]int, len(entries)),
		low:     make([]int, len(entries)),
		out:     make([]Entry, 0, len(entries)),
	}
	for i, e := range entries {
		o.index[e.ID] = i
	}
	for i := range entries {
		if o.seen[i] == 0 {
			o.visit(i)
		}
	}
	return o.out
}

type ordering struct {
	entries []Entry
	index   map[EntryID]int
	seen    []int // number of the visit; 0: not yet
	low     []int // least visit that can be reached; 0: placed
	visits  int
	stack   []int
	out     []Entry
}

func (o *ordering) visit(i int) {
	o.visits++
	o.seen[i], o.low[i] = o.visits, o.visits
	o.stack = append(o.stack, i)
	p := &o.entries[i].Place
	for _, parent := range [...]EntryID{p.Parent, p.From.Parent} {
		j, ok := o.index[parent]
		if !ok {
			continue
		}
		if o.seen[j] == 0 {
			o.visit(j)
		}
		if o.low[j] > 0 {
			o.low[i] = min(o.low[i], o.low[j])
		}
	}
	if o.low[i] != o.seen[i] {
		return
	}
	n := len(o.stack)
	for o.stack[n-1] != i {
		n--
	}
	for _, j := range o.stack[n-1:] {
		o.out = append(o.out, o.entries[j])
		o.low[j] = 0
	}
	o.stack = o.stack[:n-1]
}
