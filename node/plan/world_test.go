package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// world is a few devices, what people write on them, and what must come of it.
type world struct {
	rnd      *rand.Rand
	clock    int64 // ns
	devices  []*device
	contents map[crdt.ContentHash]string
	written  []string        // by people
	replaced map[string]bool // overwritten or deleted by somebody who had it before him
	trace    []string
	tracing  bool
	off      uint64 // acts that nobody does in this history: each mixes otherwise
}

// failure is what fail panics with.
type failure struct{ msg string }

func (w *world) fail(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

func (w *world) log(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

// tick gives a time that nothing has had.
func (w *world) tick() int64 {
	w.clock += 1e6 + w.rnd.Int64N(3e9)
	return w.clock
}

func newWorld(seed uint64, n int) *world {
	w := &world{rnd: rand.New(rand.NewPCG(seed, 1)), clock: 1.7e18, contents: make(map[crdt.ContentHash]string), replaced: make(map[string]bool)}
	for i := range n {
		d := &device{
			w: w, name: string(rune('A' + i)), replica: crdt.ReplicaID{byte(i + 1)},
			index: crdt.NewMemRows(), base: make(map[crdt.EntryID]*baseRow), disk: newMemDisk(w),
		}
		d.crash() // a start
		w.devices = append(w.devices, d)
	}
	return w
}

// available tells whether a content is still somewhere.
func (w *world) available(data string) bool {
	return slices.ContainsFunc(w.devices, func(d *device) bool { return d.disk.holds(data) })
}

// fresh gives a content that nobody has written before.
func (w *world) fresh() string {
	s := fmt.Sprintf("content %d", len(w.written))
	w.written = append(w.written, s)
	return s
}

// knows notes that a person does away with what a name shows, and all below.
func (w *world) knows(n *inode) {
	if n == nil {
		return
	}
	if n.kind == stat.File {
		w.replaced[n.data] = true
	}
	for _, k := range n.kids {
		w.knows(k)
	}
}

// ---- people: what programs do to files

var names = []string{"a", "b", "c", "B", "a~", "d", "e"}

func (w *world) name() string { return names[w.rnd.IntN(len(names))] }

func pick[T any](w *world, s []T) T { return s[w.rnd.IntN(len(s))] }

// person does one thing on a device's disk.
func (w *world) person(d *device) {
	k := d.disk
	dirs, all := k.dirs(), k.places()
	var files, links, folders []place
	for _, p := range all {
		switch p.inode().kind {
		case stat.File:
			files = append(files, p)
		case stat.Symlink:
			links = append(links, p)
		case stat.Directory:
			folders = append(folders, p)
		}
	}
	d.dirty = true
	free := func() (place, bool) {
		p := place{pick(w, dirs), w.name()}
		return p, p.inode() == nil
	}
	acts := []struct {
		name string
		n    int
		do   func()
	}{
		{"create", 6, func() {
			if p, ok := free(); ok {
				k.put(p.dir, p.name, k.inode(stat.File, w.fresh()))
			}
		}},
		{"create same", 1, func() {
			if p, ok := free(); ok {
				k.put(p.dir, p.name, k.inode(stat.File, pick(w, []string{"", "common"})))
			}
		}},
		{"mkdir", 4, func() {
			if p, ok := free(); ok {
				k.put(p.dir, p.name, k.inode(stat.Directory, ""))
			}
		}},
		{"symlink", 1, func() {
			if p, ok := free(); ok {
				k.put(p.dir, p.name, k.inode(stat.Symlink, w.name()))
			}
		}},
		{"retarget", 1, func() {
			if len(links) > 0 {
				p := pick(w, links)
				k.put(p.dir, p.name, k.inode(stat.Symlink, w.name()))
			}
		}},
		{"write in place", 3, func() { w.withFile(files, func(p place) { w.knows(p.inode()); write(k, p.inode(), w.fresh()) }) }},
		{"atomic save", 3, func() { w.withFile(files, func(p place) { w.replace(k, p, k.inode(stat.File, w.fresh())) }) }},
		{"delete-create save", 2, func() {
			w.withFile(files, func(p place) {
				w.knows(p.inode())
				k.drop(p.dir, p.name)
				k.put(p.dir, p.name, k.inode(stat.File, w.fresh()))
			})
		}},
		{"backup save", 2, func() {
			w.withFile(files, func(p place) {
				backup := place{p.dir, p.name + "~"}
				if b := backup.inode(); b != nil && b.kind == stat.Directory {
					return
				}
				w.rename(k, p, backup)
				k.put(p.dir, p.name, k.inode(stat.File, w.fresh()))
			})
		}},
		{"move file", 6, func() {
			w.withFile(slices.Concat(files, links), func(p place) {
				to := place{pick(w, dirs), w.name()}
				if n := to.inode(); n == nil || n.kind != stat.Directory && n != p.inode() {
					w.rename(k, p, to)
				}
			})
		}},
		{"rename case", 1, func() {
			w.withFile(all, func(p place) {
				if to := (place{p.dir, strings.ToUpper(p.name)}); to.inode() == nil {
					w.rename(k, p, to)
				}
			})
		}},
		{"move directory", 5, func() {
			w.withFile(folders, func(p place) {
				if to, ok := free(); ok && !p.inode().contains(to.dir) {
					w.rename(k, p, to)
				}
			})
		}},
		{"swap", 3, func() {
			w.withFile(all, func(p place) {
				q := pick(w, all)
				if n, m := p.inode(), q.inode(); n != m && !n.contains(q.dir) && !m.contains(p.dir) {
					n, m = k.take(p.dir, p.name), k.take(q.dir, q.name)
					k.put(p.dir, p.name, m)
					k.put(q.dir, q.name, n)
				}
			})
		}},
		{"swap parent and child", 1, func() {
			w.withFile(folders, func(p place) {
				for _, name := range slices.Sorted(maps.Keys(p.inode().kids)) {
					n := p.inode().kids[name]
					if n.kind == stat.Directory && n.kids[name] == nil {
						outer := k.take(p.dir, p.name)
						k.put(p.dir, p.name, k.take(outer, name))
						k.put(n, name, outer)
						return
					}
				}
			})
		}},
		{"rename and make anew", 2, func() {
			w.withFile(folders, func(p place) {
				if to := (place{p.dir, w.name()}); to.inode() == nil {
					w.rename(k, p, to)
					k.put(p.dir, p.name, k.inode(stat.Directory, ""))
				}
			})
		}},
		{"wrap", 1, func() { // d -> new d holding the old one
			w.withFile(folders, func(p place) {
				n := k.take(p.dir, p.name)
				k.put(p.dir, p.name, k.inode(stat.Directory, ""))
				k.put(p.inode(), w.name(), n)
			})
		}},
		{"remove", 3, func() { w.withFile(all, func(p place) { w.knows(p.inode()); k.drop(p.dir, p.name) }) }},
		{"change kind", 2, func() {
			w.withFile(all, func(p place) {
				w.knows(p.inode())
				was := p.inode().kind
				k.drop(p.dir, p.name)
				if was == stat.Directory {
					k.put(p.dir, p.name, k.inode(stat.File, w.fresh()))
				} else {
					k.put(p.dir, p.name, k.inode(stat.Directory, ""))
				}
			})
		}},
		{"hard link", 1, func() {
			w.withFile(files, func(p place) {
				if to, ok := free(); ok {
					k.put(to.dir, to.name, p.inode())
				}
			})
		}},
		{"copy and delete", 1, func() {
			w.withFile(files, func(p place) {
				if to, ok := free(); ok {
					k.put(to.dir, to.name, k.inode(stat.File, p.inode().data))
					k.drop(p.dir, p.name)
				}
			})
		}},
		{"chmod", 2, func() {
			w.withFile(all, func(p place) {
				if n := p.inode(); n.kind != stat.Symlink {
					n.mode, n.ctime = 0o600+uint32(w.rnd.IntN(64)), w.tick()
				}
			})
		}},
		{"touch", 2, func() { w.withFile(files, func(p place) { p.inode().mtime, p.inode().ctime = w.tick(), w.tick() }) }},
	}
	sum := 0
	for i := range acts {
		if i > 0 && w.off>>i&1 == 1 {
			acts[i].n = 0
		}
		sum += acts[i].n
	}
	x := w.rnd.IntN(sum)
	for _, a := range acts {
		if x -= a.n; x < 0 {
			a.do()
			w.log("%s: %s: %v", d.name, a.name, k.tree(false))
			return
		}
	}
}

func (w *world) withFile(ps []place, do func(place)) {
	if len(ps) > 0 {
		do(pick(w, ps))
	}
}

func write(k *memDisk, n *inode, data string) {
	n.data, n.mtime = data, k.w.tick()
	n.ctime = n.mtime
}

// replace renames a new file over an old one.
func (w *world) replace(k *memDisk, p place, n *inode) {
	w.knows(p.inode())
	k.put(p.dir, p.name, n)
}

func (w *world) rename(k *memDisk, from, to place) {
	if n := to.inode(); n != nil {
		if n == from.inode() {
			return
		}
		if n.kind != stat.File || n.data != from.inode().data {
			w.knows(n)
		}
	}
	n := k.take(from.dir, from.name)
	k.put(to.dir, to.name, n)
}

// ---- what must hold when all is quiet

// settle lets everything run until nothing changes, and checks that it ends.
func (w *world) settle() {
	for _, d := range w.devices {
		d.observeAll()
		w.clock += 3e9
		d.observeAll()
	}
	for round := 0; ; round++ {
		if round == 20 {
			for _, d := range w.devices {
				ops, _ := Materialise(deviceReader{d, false}, d.allBehind(), nil)
				w.log("%s still %v: %v, gone %d, dirty %v", d.name, d.gone, ops, len(d.gone), d.dirty)
			}
			w.fail("still changing after %d rounds", round)
		}
		changed := false
		for _, d := range w.devices {
			before := d.records
			d.observeAll()
			w.clock += 3e9
			d.observeAll()
			changed = changed || d.records != before || d.dirty
		}
		for _, d := range w.devices {
			for _, other := range w.devices {
				if other != d {
					d.receive(other, true)
				}
			}
		}
		for _, d := range w.devices {
			changed = d.materialise(d.allBehind(), trouble{}) > 0 || changed
		}
		if !changed {
			return
		}
	}
}

// check holds the world against the oracles.
func (w *world) check() {
	first := w.devices[0]
	entries := first.index.Entries()
	for _, d := range w.devices[1:] {
		for id, e := range d.index.Entries() {
			if !e.Equal(entries[id]) {
				w.fail("%s and %s differ in entry %s", first.name, d.name, id)
			}
		}
	}
	tree := crdt.View(entries)
	// A version that its writer replaced before anybody had fetched it, while
	// another device met it as the loser of a conflict, stays as a conflict copy
	// that nobody can fill.
	orphan := func(id crdt.EntryID) bool {
		v := entries[id].Shown()
		return v != nil && w.replaced[w.contents[v.Content]] && !w.available(w.contents[v.Content])
	}
	for _, d := range w.devices {
		want, got := make(map[string]string), d.disk.tree(!d.disk.coarse)
		for id, e := range entries {
			path := tree.Path(id)
			if orphan(id) {
				delete(got, path)
				if r := d.base[id]; r != nil && r.Here {
					delete(got, d.path(id))
				}
				continue
			}
			if path != "" {
				v := e.Shown()
				data := ""
				if v != nil {
					data = w.contents[v.Content]
				}
				want[path] = describe(e.Kind, data, e.Mode(), e.MTime(), !d.disk.coarse)
			}
		}
		for p, s := range want {
			if got[p] != s {
				w.fail("%s shows %q at %s, the view %q", d.name, got[p], p, s)
			}
		}
		for p, s := range got {
			if _, ok := want[p]; !ok {
				w.fail("%s shows %q at %s, the view nothing", d.name, s, p)
			}
		}
		if len(d.disk.stage) > 0 {
			w.fail("%s left something staged", d.name)
		}
		if behind := slices.DeleteFunc(d.allBehind(), orphan); len(behind) > 0 {
			w.fail("%s is behind with %d entries and does nothing", d.name, len(behind))
		}
	}
	for _, s := range w.written {
		if w.replaced[s] {
			continue
		}
		found := false
		for _, e := range entries {
			if v := e.Shown(); v != nil && tree.Nodes[e.ID].Visible() && w.contents[v.Content] == s {
				found = true
			}
		}
		if !found {
			w.fail("lost: %q, which nobody did away with", s)
		}
	}
}
