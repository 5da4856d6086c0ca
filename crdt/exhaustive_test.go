package crdt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// TestSmallWorlds plays every sequence of a few steps in a small world: two
// levels, a few names, and as steps every change that a person could make there
// (each creation, edit, move, removal) and each way of hearing from another
// replica (into the index alone, or to the disk). After each one all replicas
// exchange everything, and all checks of the random histories hold.
//
// By default: 3 steps of 2 replicas with 2 names, and 2 steps of 3 replicas with
// 3 names. With SHEAF_EXHAUSTIVE=1 also 3 steps of 3 replicas with 3 names and 4
// of 2 replicas (minutes); with SHEAF_EXHAUSTIVE=4 the whole: 4 steps of 3
// replicas with 3 names (hours).
func TestSmallWorlds(t *testing.T) {
	t.Parallel()
	type size struct{ replicas, steps, names int }
	sizes := []size{{2, 3, 2}, {3, 2, 3}}
	switch os.Getenv("SHEAF_EXHAUSTIVE") {
	case "1":
		sizes = append(sizes, size{3, 3, 3}, size{2, 4, 2})
	case "4":
		sizes = append(sizes, size{3, 4, 3})
	}
	for _, s := range sizes {
		t.Run(fmt.Sprintf("%d steps of %d replicas, %d names", s.steps, s.replicas, s.names), func(t *testing.T) {
			t.Parallel()
			w := newWorld(1, s.replicas)
			w.checkAll = false
			w.profile.names = []string{"a", "b", "c"}[:s.names]
			for k, r := range w.replicas { // the last replica is first by the clock
				r.skew = -1000 * int64(k)
			}
			for _, step := range []string{"mkdir a", "create a/b=1"} {
				if err := w.step(w.replicas[0], step); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.settle(); err != nil {
				t.Fatal(err)
			}
			played := 0
			if path, err := explore(w, s.steps, &played); err != nil {
				t.Fatalf("%v: %v", path, err)
			}
			t.Logf("%d histories", played)
		})
	}
}

// explore plays all that can follow; on an error it gives the steps to it.
func explore(w *world, steps int, played *int) ([]string, error) {
	if steps == 0 {
		*played++
		if err := w.settle(); err != nil {
			return nil, err
		}
		return nil, w.check()
	}
	for _, s := range w.possible(steps == 1) {
		next := w.clone()
		if err := s.do(next); err != nil {
			return []string{s.name}, err
		}
		if path, err := explore(next, steps-1, played); err != nil {
			return append([]string{s.name}, path...), err
		}
	}
	return nil, nil
}

type possibility struct {
	name string
	do   func(w *world) error
}

// possible gives every step that could be next. To hear from another as the last
// step is what happens at the end anyway.
func (w *world) possible(last bool) []possibility {
	var out []possibility
	for k, r := range w.replicas {
		for other := range w.replicas {
			if last || other == k {
				continue
			}
			out = append(out,
				possibility{fmt.Sprintf("%d hears %d", k, other), func(w *world) error {
					return w.receive(w.replicas[k].index, w.replicas[other].index, false)
				}},
				possibility{fmt.Sprintf("%d takes in %d", k, other), func(w *world) error {
					if err := w.receive(w.replicas[k].index, w.replicas[other].index, false); err != nil {
						return err
					}
					return w.receive(w.replicas[k].disk, w.replicas[k].index, false)
				}})
		}
		out = append(out, w.changesOf(k, r)...)
	}
	return out
}

func (w *world) changesOf(k int, r *replica) []possibility {
	var out []possibility
	p := w.look(r)
	add := func(name string, act func(w *world, r *replica, rec *Recorder, p person, expected map[EntryID]Location) error) {
		out = append(out, possibility{fmt.Sprintf("%d: %s", k, name), func(w *world) error {
			r := w.replicas[k]
			rec, p := w.recorder(r), w.look(r)
			expected := spots(p.tree)
			if err := act(w, r, rec, p, expected); err != nil {
				return err
			}
			if err := w.commit(r, rec); err != nil {
				return err
			}
			if got := spots(r.disk.live()); !maps.Equal(got, expected) {
				return fmt.Errorf("jump: the tree is %v, the person expects %v", got, expected)
			}
			return nil
		}})
	}
	for _, at := range w.freeSpots(p) {
		spot := Location{at.Parent, plain(at.Name)}
		add(fmt.Sprintf("create %v", at), func(w *world, r *replica, rec *Recorder, _ person, expected map[EntryID]Location) error {
			text := w.newText(r, "")
			id, err := rec.Create(at, File, contentOf(text), 0o644)
			w.wrote(r, rec, text)
			expected[id] = spot
			return err
		})
		if at.Parent == Root {
			add(fmt.Sprintf("mkdir %v", at), func(w *world, r *replica, rec *Recorder, _ person, expected map[EntryID]Location) error {
				id, err := rec.Create(at, Directory, Content{}, 0o755)
				w.touched(r, rec, id)
				expected[id] = spot
				return err
			})
		}
		for _, id := range p.shown {
			if under(p.tree, at.Parent, id) {
				continue
			}
			add(fmt.Sprintf("move %s to %v", id, at), func(w *world, r *replica, rec *Recorder, _ person, expected map[EntryID]Location) error {
				err := rec.Move(id, at)
				w.touched(r, rec, id)
				expected[id] = spot
				return err
			})
		}
	}
	for _, id := range p.files {
		add(fmt.Sprintf("edit %s", id), func(w *world, r *replica, rec *Recorder, _ person, _ map[EntryID]Location) error {
			w.replacing(r, id)
			text := w.newText(r, "")
			err := rec.Edit(id, contentOf(text), 0o644)
			w.wrote(r, rec, text)
			w.covered[id] = append(w.covered[id], r.disk.entries[id].Seen)
			return err
		})
	}
	for _, id := range p.shown {
		add(fmt.Sprintf("remove %s", id), func(w *world, r *replica, rec *Recorder, p person, expected map[EntryID]Location) error {
			_, err := w.remove(r, rec, p, id, expected)
			return err
		})
	}
	return out
}

// freeSpots gives the locations on two levels where nothing is shown.
func (w *world) freeSpots(p person) []Location {
	var out []Location
	for _, parent := range p.directories {
		if parent != Root && p.tree.Nodes[parent].At.Parent != Root {
			continue
		}
		for _, name := range w.profile.names {
			taken := false
			for _, id := range p.shown {
				n := p.tree.Nodes[id]
				taken = taken || n.At.Parent == parent && n.Shown == name
			}
			if !taken {
				out = append(out, Location{parent, name})
			}
		}
	}
	return out
}

// clone gives an independent world with the same past.
func (w *world) clone() *world {
	c := *w
	c.rnd = rand.New(rand.NewPCG(1, 1))
	c.replicas = make([]*replica, len(w.replicas))
	for i, r := range w.replicas {
		s := *r
		s.index, s.disk = r.index.Clone(), r.disk.Clone()
		c.replicas[i] = &s
	}
	c.written, c.replaced = maps.Clone(w.written), maps.Clone(w.replaced)
	c.folded = make(map[Dot]map[Dot]bool, len(w.folded))
	for d, m := range w.folded {
		c.folded[d] = maps.Clone(m)
	}
	c.touches = cloneSlices(w.touches)
	c.covered, c.removed = cloneSlices(w.covered), cloneSlices(w.removed)
	return &c
}

func cloneSlices[V any](m map[EntryID][]V) map[EntryID][]V {
	c := make(map[EntryID][]V, len(m))
	for k, v := range m {
		c[k] = slices.Clip(v)
	}
	return c
}
