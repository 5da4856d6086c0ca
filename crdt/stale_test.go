package crdt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestS18StaleDeviceMeetsNewOne: a device that was away while the one it knew left
// and others joined, edited, moved and deleted, meets the newest of them: what it has
// is what they had seen, so there is no conflict, nothing comes back, and it shows
// what they show.
func TestS18StaleDeviceMeetsNewOne(t *testing.T) {
	t.Parallel()
	const files = 60
	w := newWorld(18, 2)
	old, stale := w.replicas[0], w.replicas[1]
	step := func(r *replica, format string, args ...any) {
		t.Helper()
		if err := w.step(r, fmt.Sprintf(format, args...)); err != nil {
			t.Fatal(err)
		}
	}
	model := map[string]int{} // what people have done, as they see it
	step(old, "mkdir d")
	for i := range files {
		step(old, "create d/f%d=%d", i, i%10)
		model[fmt.Sprintf("d/f%d", i)] = i % 10
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	for i := range files { // the stale one's own part, which all have seen
		if i%7 == 0 {
			step(stale, "edit d/f%d=%d", i, (i+1)%10)
			model[fmt.Sprintf("d/f%d", i)] = (i + 1) % 10
		}
	}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	last := old
	for k := range 5 { // each joins from the last one, which then leaves
		next := &replica{id: replicaID(10 + k), index: NewMemRows(), disk: NewMemRows(), skew: int64(k%3-1) * 50 * year}
		for _, to := range []*MemRows{next.index, next.disk} {
			if err := w.receive(to, last.index, false); err != nil {
				t.Fatal(err)
			}
		}
		last = next
		w.replicas = []*replica{next}
		for i := range files {
			p := fmt.Sprintf("d/f%d", i)
			switch {
			case i%11 == 3 && k == 2:
				step(next, "rm %s", p)
				delete(model, p)
			case i%11 == 4 && k == 3:
				step(next, "move %s g%d", p, i)
				model[fmt.Sprint("g", i)] = model[p]
				delete(model, p)
			case i%11 > 5:
				step(next, "edit %s=%d", p, (i+k)%10)
				model[p] = (i + k) % 10
			}
		}
	}
	lines := []string{"d/"}
	for p, text := range model {
		lines = append(lines, fmt.Sprintf("%s=%d", p, text))
	}
	slices.Sort(lines)
	want := strings.Join(lines, " ")
	w.replicas = []*replica{stale, last}
	if err := w.settle(); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.replicas {
		if got := w.print(r.index); got != want {
			t.Errorf("replica %s shows\n%q, want\n%q", r.id, got, want)
		}
		if got := w.print(r.disk); got != want {
			t.Errorf("the disk of %s shows\n%q, want\n%q", r.id, got, want)
		}
	}
}
