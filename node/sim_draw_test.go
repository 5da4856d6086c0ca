package node

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/node/stat"
)

// A history is a world to be made and what happens in it.
type history struct {
	Seed    uint64        `json:"seed"`
	Devices []simKind     `json:"devices"`
	Scan    time.Duration `json:"scan"`
	Hold    int           `json:"hold"`            // entries from which a change is a mass change
	Alone   bool          `json:"alone,omitempty"` // one device at a time, all in step between
	Steps   []step        `json:"steps"`
}

// A simKind is what a device runs on.
type simKind struct {
	Watch      bool          `json:"watch,omitempty"` // is told of changes by the system
	Late       time.Duration `json:"late,omitempty"`
	Lost       int           `json:"lost,omitempty"`
	Queue      int           `json:"queue,omitempty"`
	Most       int           `json:"most,omitempty"`
	Grain      time.Duration `json:"grain,omitempty"`
	NoBirth    bool          `json:"nobirth,omitempty"`
	NoNumbers  bool          `json:"nonumbers,omitempty"` // no identity of files at all
	NoExchange bool          `json:"noexchange,omitempty"`
	NoLinks    bool          `json:"nolinks,omitempty"`
	Reuse      bool          `json:"reuse,omitempty"`
	Fold       bool          `json:"fold,omitempty"`    // names that differ in case alone are one
	Form       string        `json:"form,omitempty"`    // "fold": names that differ in Unicode form alone are one; "store": and are kept in form D
	Latency    time.Duration `json:"latency,omitempty"` // to every other device
	Rate       float64       `json:"rate,omitempty"`
}

// A drawer draws the steps of a history, each in sight of the world as it is then.
type drawer struct {
	w     *world
	r     *rand.Rand
	left  int // programs still to be run
	queue []step
	blobs uint32
	able  []program // what happens in this history
	names []string
	calm  bool // nothing fails
	folds bool // a disk does
}

// A program is something that a person, a program or bad luck does, as steps.
type program struct {
	name   string
	weight int
	draw   func(g *drawer, d *simDevice) []step
}

// newHistory draws the world of a seed, without its steps.
func newHistory(seed uint64) history {
	r := rand.New(rand.NewPCG(seed, 1))
	h := history{Seed: seed, Scan: pick(r, []time.Duration{time.Minute, 10 * time.Minute}), Hold: 1 << 30}
	n := pick(r, []int{2, 2, 2, 2, 3, 3, 3, 4, 5})
	for range n {
		k := simKind{Watch: r.IntN(4) > 0, Latency: pick(r, []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond})}
		if k.Watch && r.IntN(2) == 0 {
			k.Late = pick(r, []time.Duration{10 * time.Millisecond, time.Second, 5 * time.Second})
			k.Lost = pick(r, []int{0, 0, 50, 500})
			k.Queue = pick(r, []int{0, 0, 4})
			k.Most = pick(r, []int{0, 0, 3})
		}
		if r.IntN(3) == 0 {
			k.Grain = pick(r, []time.Duration{time.Microsecond, 10 * time.Millisecond, time.Second, 2 * time.Second})
		}
		k.NoBirth, k.Reuse, k.NoExchange, k.NoLinks = r.IntN(4) == 0, r.IntN(2) == 0, r.IntN(6) == 0, r.IntN(6) == 0
		if r.IntN(10) == 0 { // as on Windows
			k.NoNumbers, k.NoExchange, k.Grain = true, true, 0
		}
		if r.IntN(6) == 0 {
			k.Rate = pick(r, []float64{20_000, 500_000})
		}
		h.Devices = append(h.Devices, k)
	}
	if r.IntN(4) == 0 {
		// One of them keeps all names: it is asked what there is in the end.
		for n := range h.Devices[1:] {
			h.Devices[n+1].Fold, h.Devices[n+1].Form = r.IntN(2) == 0, pick(r, []string{"", "", "fold", "store"})
		}
	}
	if r.IntN(4) == 0 {
		h.Hold = 3 + r.IntN(5)
	}
	if h.Alone = r.IntN(10) == 0; h.Alone {
		for n := range h.Devices {
			// Two names that are one to a disk come and go there as the other does.
			h.Devices[n].Fold, h.Devices[n].Form = false, ""
		}
	}
	return h
}

// newDrawer draws which kinds of things happen in a history: not all do in each,
// for some hide what others would show.
func newDrawer(w *world, seed uint64) *drawer {
	r := rand.New(rand.NewPCG(seed, 2))
	g := &drawer{w: w, r: r, left: 6 + r.IntN(30)}
	g.folds = slices.ContainsFunc(w.h.Devices, func(k simKind) bool { return k.Fold || k.Form != "" })
	for _, p := range filePrograms() {
		if r.IntN(3) > 0 {
			p.weight *= 1 + r.IntN(4)
			g.able = append(g.able, p)
		}
	}
	g.calm = r.IntN(5) == 0 || w.h.Alone
	for _, p := range personPrograms() {
		if r.IntN(5) < 2 && !w.h.Alone {
			g.able = append(g.able, p)
		}
	}
	for _, p := range diskTroubles() {
		if !g.calm && r.IntN(5) == 0 {
			g.able = append(g.able, p)
		}
	}
	for _, p := range faultPrograms() {
		if !g.calm && r.IntN(5) < 2 {
			g.able = append(g.able, p)
		}
	}
	if *simBackups && !g.calm {
		g.able = append(g.able, backup())
	}
	pool := []string{"a", "b", "c.txt", "d.txt", "e.md", "f", "g.jpg", "ä.txt", "long name with spaces.odt", ".hidden"}
	g.names = slices.Clone(pool[:2+r.IntN(len(pool)-1)])
	// What stands on the devices before they meet, and their meeting.
	for n := range w.devices {
		// Two things of one name are both shown, the later as "name (2)" while the
		// earlier is there: no plain file system.
		if r.IntN(3) == 0 && (n == 0 || !w.h.Alone) {
			for range 1 + r.IntN(6) {
				g.queue = append(g.queue, g.fresh(n)...)
			}
			if r.IntN(2) == 0 && n > 0 {
				g.queue = append(g.queue, g.twin(n)...)
			}
			g.queue = append(g.queue, step{On: n, Do: "sync"})
		}
	}
	for n := range w.devices {
		g.queue = append(g.queue, step{On: n, Do: "start", Wait: pick(r, []time.Duration{0, 0, time.Second, time.Minute})})
	}
	if w.h.Alone {
		g.queue = append(g.queue, step{Do: "alone"})
	}
	return g
}

// fresh makes a file before anything runs.
func (g *drawer) fresh(n int) []step {
	dir, name := pick(g.r, []string{"", "", "a", "b"}), pick(g.r, g.names)
	var out []step
	if dir != "" {
		out = append(out, step{On: n, Do: "mkdir", A: dir})
	}
	return append(out, step{On: n, Do: "write", A: path.Join(dir, name), Blob: g.blob(), Why: "there before"})
}

// twin gives a device the very files that another has already.
func (g *drawer) twin(n int) (out []step) {
	for _, s := range slices.Clone(g.queue) {
		if s.On == n-1 && (s.Do == "write" || s.Do == "mkdir") {
			s.On = n
			out = append(out, s)
		}
	}
	return out
}

func (g *drawer) blob() *blob {
	g.blobs++
	size := 12 + g.r.IntN(400)
	switch g.r.IntN(60) {
	case 0:
		size = 150_000 + g.r.IntN(400_000)
	case 1, 2:
		size = 5_000 + g.r.IntN(20_000)
	}
	return &blob{g.blobs, size}
}

// next gives the next step, false at the end.
func (g *drawer) next() (step, bool) {
	for len(g.queue) == 0 {
		if g.left == 0 {
			return step{}, false
		}
		g.left--
		d := pick(g.r, g.w.devices)
		if d.gone.Load() && g.r.IntN(3) > 0 {
			continue
		}
		g.queue = g.program().draw(g, d)
		if len(g.queue) > 0 && g.queue[0].Wait == 0 {
			g.queue[0].Wait = g.pause()
		}
		if len(g.queue) > 0 && g.w.h.Alone {
			g.queue = append(g.queue, step{On: d.n, Do: "alone"})
		}
	}
	s := g.queue[0]
	g.queue = g.queue[1:]
	return s, true
}

func (g *drawer) program() program {
	total := 0
	for _, p := range g.able {
		total += p.weight
	}
	if total == 0 {
		return filePrograms()[0]
	}
	at := g.r.IntN(total)
	for _, p := range g.able {
		if at -= p.weight; at < 0 {
			return p
		}
	}
	panic("unreachable")
}

// pause is how long a person or a program takes until the next thing.
func (g *drawer) pause() time.Duration {
	switch g.r.IntN(10) {
	case 0, 1:
		return time.Duration(g.r.IntN(50)) * time.Millisecond
	case 2, 3, 4:
		return time.Duration(g.r.IntN(1000)) * time.Millisecond
	case 5, 6, 7:
		return time.Duration(g.r.IntN(10_000)) * time.Millisecond
	case 8:
		return time.Duration(g.r.IntN(120)) * time.Second
	}
	return time.Duration(g.r.IntN(1800)) * time.Second
}

// short is what passes within one program.
func (g *drawer) short() time.Duration {
	if g.r.IntN(3) > 0 {
		return time.Duration(g.r.IntN(3000)) * time.Microsecond
	}
	return time.Duration(g.r.IntN(600)) * time.Millisecond
}

// dir gives a directory that is there.
func (g *drawer) dir(d *simDevice) string {
	return pick(g.r, append(g.all(d, stat.Directory), "."))
}

func (g *drawer) path(d *simDevice) string {
	name := pick(g.r, g.names)
	if g.folds && g.r.IntN(8) == 0 {
		name = otherwise(name)
	}
	return path.Join(g.dir(d), name)
}

// otherwise writes a name in the other case. Not in the other Unicode form: of two such
// names on a disk that tells them apart one is not synced, and is a problem.
func otherwise(name string) string {
	if up := strings.ToUpper(name); up != name {
		return up
	}
	return strings.ToLower(name)
}

// some gives an existing path of a kind.
func (g *drawer) some(d *simDevice, kinds ...stat.Kind) (string, bool) {
	list := g.all(d, kinds...)
	if len(list) == 0 {
		return "", false
	}
	return pick(g.r, list), true
}

// all gives the existing paths of some kinds, in order.
func (g *drawer) all(d *simDevice, kinds ...stat.Kind) (list []string) {
	for p, l := range d.tree() {
		if slices.Contains(kinds, l.kind) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// steps gives steps of one program their pauses and device, and a sync at the end.
func (g *drawer) steps(d *simDevice, why string, list ...step) []step {
	for i := range list {
		list[i].On, list[i].Why = d.n, why
		if i > 0 && list[i].Wait == 0 {
			list[i].Wait = g.short()
		}
	}
	// Now and then it happens in the middle of what the program does itself.
	if g.r.IntN(4) == 0 && d.run != nil {
		list[0].Calls = 1 + g.r.IntN(60)
		list[0].Wait = 2 * time.Second
	}
	if g.r.IntN(8) > 0 {
		list = append(list, step{On: d.n, Do: "sync", Wait: g.short()})
	}
	return list
}

// filePrograms are what people and their programs do to files.
func filePrograms() []program {
	return []program{
		{"create", 6, func(g *drawer, d *simDevice) []step {
			return g.steps(d, "new file", step{Do: "write", A: g.path(d), Blob: g.blob()})
		}},
		{"overwrite", 6, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			b := g.blob()
			if g.r.IntN(2) == 0 {
				return g.steps(d, "saved in place", step{Do: "write", A: p, Blob: b})
			}
			return g.steps(d, "saved in place, slowly", step{Do: "part", A: p, Blob: b}, step{Do: "write", A: p, Blob: b})
		}},
		{"atomic", 5, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				p = g.path(d)
			}
			tmp := path.Join(path.Dir(p), fmt.Sprintf(".%s.tmp%d", base(p), g.blobs))
			return g.steps(d, "atomic save", step{Do: "write", A: tmp, Blob: g.blob()}, step{Do: "rename", A: tmp, B: p})
		}},
		{"vim", 3, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "vim", step{Do: "rename", A: p, B: p + "~"}, step{Do: "write", A: p, Blob: g.blob()}, step{Do: "remove", A: p + "~"})
		}},
		{"office", 3, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			lock := path.Join(path.Dir(p), ".~lock."+base(p)+"#")
			return g.steps(d, "office", step{Do: "write", A: lock, Blob: g.blob()}, step{Do: "write", A: p, Blob: g.blob(), Wait: g.pause()}, step{Do: "remove", A: lock})
		}},
		{"tool", 3, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "rewrites in place", step{Do: "patch", A: p, N: int64(g.r.IntN(1 << 20)), Blob: g.blob()})
		}},
		{"log", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "log", step{Do: "append", A: p, Blob: g.blob()}, step{Do: "append", A: p, Blob: g.blob()})
		}},
		{"mkdir", 4, func(g *drawer, d *simDevice) []step {
			return g.steps(d, "new directory", step{Do: "mkdir", A: g.path(d)})
		}},
		{"rename", 6, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.File, stat.Symlink)
			if !ok {
				return nil
			}
			return g.steps(d, "rename", step{Do: "rename", A: p, B: g.path(d)})
		}},
		{"recase", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.Directory)
			if !ok || !g.folds {
				return nil
			}
			return g.steps(d, "written otherwise", step{Do: "rename", A: p, B: path.Join(path.Dir(p), otherwise(base(p)))})
		}},
		{"movedir", 5, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.Directory)
			if !ok {
				return nil
			}
			return g.steps(d, "directory moved", step{Do: "rename", A: p, B: path.Join(g.dir(d), pick(g.r, g.names))})
		}},
		{"bulk", 2, func(g *drawer, d *simDevice) []step {
			var list []step
			for _, p := range g.all(d, stat.File) {
				list = append(list, step{Do: "rename", A: p, B: path.Join(path.Dir(p), "new "+base(p))})
			}
			if len(list) == 0 {
				return nil
			}
			return g.steps(d, "bulk rename", list...)
		}},
		{"swap", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.Directory)
			q, ok2 := g.some(d, stat.File, stat.Directory)
			if !ok || !ok2 || p == q {
				return nil
			}
			return g.steps(d, swapping, step{Do: "rename", A: p, B: "swap.tmp"}, step{Do: "rename", A: q, B: p}, step{Do: "rename", A: "swap.tmp", B: q})
		}},
		{"remove", 5, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.Symlink)
			if !ok {
				return nil
			}
			return g.steps(d, "deleted", step{Do: "remove", A: p})
		}},
		{"rmtree", 3, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.Directory)
			if !ok {
				return nil
			}
			return g.steps(d, "rm -rf", step{Do: "rmtree", A: p})
		}},
		{"replace", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "a directory in a file's place", step{Do: "remove", A: p}, step{Do: "mkdir", A: p}, step{Do: "write", A: path.Join(p, pick(g.r, g.names)), Blob: g.blob()})
		}},
		{"checkout", 2, func(g *drawer, d *simDevice) []step {
			var out []step
			for i, p := range g.all(d, stat.File) {
				if g.r.IntN(2) == 0 {
					continue
				}
				out = append(out, step{Do: "remove", A: p})
				if i%3 > 0 {
					out = append(out, step{Do: "write", A: p, Blob: g.blob()})
				}
			}
			if len(out) == 0 {
				return nil
			}
			return g.steps(d, "git checkout", out...)
		}},
		{"unzip", 2, func(g *drawer, d *simDevice) []step {
			dir := g.path(d)
			out := []step{{Do: "mkdir", A: dir}}
			for range 2 + g.r.IntN(4) {
				p := path.Join(dir, pick(g.r, g.names))
				out = append(out, step{Do: "write", A: p, Blob: g.blob()}, step{Do: "touch", A: p, N: -int64(g.r.IntN(1 << 50))})
			}
			return g.steps(d, "unzip", out...)
		}},
		{"photos", 1, func(g *drawer, d *simDevice) []step {
			var out []step
			dir := g.dir(d)
			for i := range 1 + g.r.IntN(5) {
				out = append(out, step{Do: "write", A: path.Join(dir, fmt.Sprintf("img%d.jpg", i)), Blob: g.blob()})
			}
			return g.steps(d, "photo import", out...)
		}},
		{"copy", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "copy", step{Do: "copy", A: p, B: g.path(d)})
		}},
		{"chmod", 1, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.Directory)
			if !ok {
				return nil
			}
			modes := []int64{0o755, 0o700}
			if d.tree()[p].kind == stat.File {
				modes = append(modes, 0o644, 0o600)
			}
			return g.steps(d, "chmod", step{Do: "chmod", A: p, N: pick(g.r, modes)})
		}},
		{"touch", 1, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File)
			if !ok {
				return nil
			}
			return g.steps(d, "touch", step{Do: "touch", A: p, N: int64(g.r.IntN(1<<40)) - 1<<39})
		}},
		{"symlink", 1, func(g *drawer, d *simDevice) []step {
			return g.steps(d, "symlink", step{Do: "symlink", A: g.path(d), B: pick(g.r, []string{"a", "../outside", "/etc/passwd", "nowhere"})})
		}},
		{"temporary", 2, func(g *drawer, d *simDevice) []step {
			p := path.Join(g.dir(d), fmt.Sprintf("tmp%d", g.r.IntN(3)))
			return g.steps(d, "made and removed at once", step{Do: "write", A: p, Blob: g.blob()}, step{Do: "remove", A: p})
		}},
	}
}

// faultPrograms are what goes wrong.
func faultPrograms() []program {
	return []program{
		{"cut", 6, func(g *drawer, d *simDevice) []step {
			other := g.other(d)
			out := []step{{On: d.n, Do: "cut", Peer: other.n}}
			if g.r.IntN(3) > 0 {
				out = append(out, step{On: other.n, Do: "cut", Peer: d.n})
			}
			return out
		}},
		{"mend", 6, func(g *drawer, d *simDevice) []step {
			other := g.other(d)
			return []step{{On: d.n, Do: "mend", Peer: other.n}, {On: other.n, Do: "mend", Peer: d.n}}
		}},
		{"break", 4, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "break", Peer: g.other(d).n}}
		}},
		{"twice", 2, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "twice", Peer: g.other(d).n}}
		}},
		{"power", 6, func(g *drawer, d *simDevice) []step { return g.death(d, "power") }},
		{"kill", 6, func(g *drawer, d *simDevice) []step { return g.death(d, "kill") }},
		{"stop", 4, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "stop"}, {On: d.n, Do: "start", Wait: g.pause()}}
		}},
		{"off", 3, func(g *drawer, d *simDevice) []step { return []step{{On: d.n, Do: "stop"}} }},
		{"on", 4, func(g *drawer, d *simDevice) []step { return []step{{On: d.n, Do: "start"}} }},
		{"restore", 2, func(g *drawer, d *simDevice) []step {
			if len(d.images) == 0 || g.r.IntN(3) == 0 {
				return []step{{On: d.n, Do: "image"}}
			}
			return []step{{On: d.n, Do: "stop"}, {On: d.n, Do: "restore"}, {On: d.n, Do: "start", Wait: g.pause()}}
		}},
		{"forget", 1, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "stop"}, {On: d.n, Do: "forget"}, {On: d.n, Do: "start", Wait: g.pause()}}
		}},
		{"unmount", 2, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "stop"}, {On: d.n, Do: "unmount"}, {On: d.n, Do: "start", Wait: time.Second}, {On: d.n, Do: "stop", Wait: g.pause()}, {On: d.n, Do: "mount"}, {On: d.n, Do: "start", Wait: time.Second}}
		}},
		{"expel", 1, func(g *drawer, d *simDevice) []step { return []step{{On: d.n, Do: "expel"}} }},
		{"lose", 1, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "lose", N: 1}, {On: d.n, Do: "lose", Wait: g.pause()}}
		}},
		{"clock", 3, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "clock", For: pick(g.r, []time.Duration{-24 * time.Hour, -time.Hour, -time.Second, time.Second, time.Hour, 10 * 365 * 24 * time.Hour})}}
		}},
	}
}

// backup is a copy of the program's state that is taken, and comes back when a file has
// been edited since; and that is edited again. It is not in the histories that CI runs:
// about one in a thousand of those with it still shows a fault (docs/progress.md).
func backup() program {
	return program{"backup", 4, func(g *drawer, d *simDevice) []step {
		p, ok := g.some(d, stat.File)
		if !ok {
			return nil
		}
		edit := func(wait time.Duration) step { return step{On: d.n, Do: "write", A: p, Blob: g.blob(), Wait: wait} }
		return []step{
			{On: d.n, Do: "image"}, edit(g.short()), {On: d.n, Do: "sync"}, {On: d.n, Do: "stop", Wait: g.pause()}, {On: d.n, Do: "restore"},
			edit(g.short()), {On: d.n, Do: "sync"}, {On: d.n, Do: "start", Wait: g.pause()},
		}
	}}
}

// death ends a node somewhere in its work, and starts it again.
func (g *drawer) death(d *simDevice, how string) []step {
	s := step{On: d.n, Do: how}
	if g.r.IntN(3) > 0 {
		s.Calls, s.Wait = 1+g.r.IntN(120), time.Duration(1+g.r.IntN(60))*time.Second
	}
	out := []step{s}
	if g.r.IntN(2) == 0 && g.r.IntN(3) > 0 {
		// While it is down, its user works on.
		out = append(out, pick(g.r, filePrograms()).draw(g, d)...)
		for i := range out[1:] {
			out[i+1].Calls = 0
		}
	}
	return append(out, step{On: d.n, Do: "start", Wait: g.pause()})
}

func (g *drawer) other(d *simDevice) *simDevice {
	for {
		if o := pick(g.r, g.w.devices); o != d {
			return o
		}
	}
}
