package replication

import "container/heap"

// A queue is what may be asked of one peer, most urgent first. A task whose
// priority changed, or that was asked elsewhere, leaves its item behind; pop
// passes over those.
type queue struct{ items items }

type item struct {
	priority int64
	order    uint64
	t        *task
}

type items []item

func (q items) Len() int { return len(q) }
func (q items) Less(i, j int) bool {
	if q[i].priority != q[j].priority {
		return q[i].priority < q[j].priority
	}
	return q[i].order < q[j].order
}
func (q items) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *items) Push(x any)   { *q = append(*q, x.(item)) }
func (q *items) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = item{}
	*q = old[:len(old)-1]
	return x
}

func (q *queue) push(t *task) { heap.Push(&q.items, item{t.priority, t.order, t}) }

// pop gives the most urgent item, or false.
func (q *queue) pop() (item, bool) {
	if len(q.items) == 0 {
		return item{}, false
	}
	return heap.Pop(&q.items).(item), true
}
