package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/text/unicode/norm"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/simdisk"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication/chunk"
	"sheaf/replication/simnet"
)

// A world is whole devices in one process, on virtual time, while a history
// happens to them.
type world struct {
	h       *history
	begin   time.Time
	net     *simnet.Network
	devices []*simDevice
	chunker *chunk.Chunker
	ledger  *ledger
	fresh   map[int][]*content // by device: written and not yet synced
	fell    chan *simDevice    // has crashed, and is to be taken down
	cut     map[[2]int]bool    // by a step
	excused map[string]bool    // paths that wait for what is nowhere; see nowhere
	worked  map[int]bool       // devices on which files were changed since; see alone
	met     bool               // all have been in step; see alone
	twinned bool               // a disk takes two names for one
	forgot  bool               // a database was lost or set back
	count   int                // steps done
	paces   atomic.Int64       // pieces of work done by all
	over    chan struct{}      // closed when they are too many
	log     *slog.Logger

	mu     sync.Mutex
	faults []string
	trace  hash.Hash
	diary  []string
}

// A verdict is how a history ended.
type verdict struct {
	faults []string // nil: as it should
	steps  []step   // what happened, to be run again
	diary  []string // of it, for a person
	trace  string   // stands for all that happened
	work   int64    // pieces of it
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.faults) < 10 {
		w.faults = append(w.faults, fmt.Sprintf(format, args...))
	}
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	line := time.Since(w.begin).String() + " " + fmt.Sprintf(format, args...)
	w.diary = append(w.diary, line)
	w.log.Debug("step", "what", line)
	fmt.Fprintln(w.trace, line)
}

// moment waits until d has passed.
func (w *world) moment(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (w *world) others(d *simDevice) bool {
	return slices.ContainsFunc(w.devices, func(o *simDevice) bool { return o != d && o.lives > 0 })
}

// simulate has a history happen and judges the end. Without steps they are drawn.
func simulate(t *testing.T, h history, log *slog.Logger) (v verdict) {
	dir, err := os.MkdirTemp(memoryDir(), "sheaf-sim")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	synctest.Test(t, func(*testing.T) {
		w := &world{h: &h, begin: time.Now(), fresh: make(map[int][]*content), fell: make(chan *simDevice, 16), cut: make(map[[2]int]bool), excused: make(map[string]bool), over: make(chan struct{}), log: log, trace: sha256.New()}
		if err := w.run(dir, &v); err != nil {
			w.fail("%v", err)
		}
		w.mu.Lock()
		v.faults, v.diary = w.faults, w.diary
		v.trace = hex.EncodeToString(w.trace.Sum(nil)[:8])
		w.mu.Unlock()
		// The database's pool ends by itself, a second after its database was closed.
		time.Sleep(time.Minute)
	})
	return v
}

// memoryDir is where databases are quick, "" for the usual place.
func memoryDir() string {
	if s, err := os.Stat("/dev/shm"); err == nil && s.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func (w *world) run(dir string, v *verdict) (err error) {
	if w.chunker, err = chunk.New([32]byte{1}); err != nil {
		return err
	}
	w.ledger = newLedger(w.chunker)
	o := simnet.Options{Seed: w.h.Seed}
	if w.log.Enabled(context.Background(), slog.LevelDebug) {
		o.Log = func(format string, args ...any) { w.log.Debug("net " + fmt.Sprintf(format, args...)) }
	}
	w.net = simnet.New(o)
	defer w.net.Close()
	for n, k := range w.h.Devices {
		d := &simDevice{w: w, n: n, id: simnet.ID{byte(n)}, dir: dirOf(dir, n), standing: standing{Fresh: n > 0}, unsynced: make(map[uint64]bool), hashes: make(hasher), words: make(map[string]bool), held: make(map[sum]bool), ever: make(map[string]bool)}
		d.db = simdisk.NewDatabase(d.dir)
		d.disk = simdisk.New(simdisk.Options{
			Trace: w.tracer(d),
			Seed:  w.h.Seed ^ uint64(n)<<48, Now: d.now, Grain: k.Grain, NoBirth: k.NoBirth, NoNumbers: k.NoNumbers, NoExchange: k.NoExchange, NoLinks: k.NoLinks,
			ReuseInodes: k.Reuse, FoldCase: k.Fold, FoldForm: k.Form == "fold", StoreForm: k.Form == "store", Events: simdisk.Events{Late: k.Late, Lost: k.Lost, Queue: k.Queue, Most: k.Most},
		})
		if err := disk.Init(d.disk.User(), simFolder); err != nil {
			return err
		}
		if err := d.disk.User().Sync(); err != nil {
			return err
		}
		w.devices = append(w.devices, d)
	}
	for _, a := range w.devices {
		for _, b := range w.devices {
			if a != b {
				ka, kb := w.h.Devices[a.n], w.h.Devices[b.n]
				late := ka.Latency + kb.Latency
				w.net.SetLink(a.id, b.id, simnet.Link{Latency: late, Jitter: late / 2, Rate: ka.Rate})
			}
		}
	}
	next := w.listed()
	if w.h.Steps == nil {
		next = newDrawer(w, w.h.Seed).next
	}
	defer func() {
		for _, d := range w.devices {
			if serr := d.stop(); serr != nil && err == nil {
				err = serr
			}
		}
	}()
	for {
		s, ok := next()
		if !ok {
			break
		}
		v.steps = append(v.steps, s)
		if err := w.await(s); err != nil {
			return err
		}
		w.look()
		if w.failed() {
			return nil
		}
	}
	if err := w.heal(); err != nil {
		return err
	}
	if err := w.rest(); err != nil {
		return err
	}
	v.work = w.paces.Load()
	select {
	case <-w.over:
		return nil
	default:
	}
	w.judge()
	return nil
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.faults) > 0
}

func (w *world) listed() func() (step, bool) {
	rest := w.h.Steps
	return func() (s step, ok bool) {
		if len(rest) == 0 {
			return s, false
		}
		s, rest = rest[0], rest[1:]
		return s, true
	}
}

// await waits until a step is due, and does it.
func (w *world) await(s step) error {
	w.count++
	d := w.devices[s.On]
	wait := time.NewTimer(max(s.Wait, 0) + time.Duration(1+w.count%89)*time.Nanosecond)
	defer wait.Stop()
	var fired chan error
	armed := s.Calls > 0 && d.run != nil
	if armed {
		fired = w.arm(d, s)
	}
	for {
		select {
		case <-w.over:
			return nil
		case dead := <-w.fell:
			if err := w.bury(dead); err != nil {
				return err
			}
		case err := <-fired:
			w.done(s, err)
			w.settleDown()
			return w.buryAll()
		case <-wait.C:
			if armed && !w.disarm(d) {
				armed = false
				continue // it is being done this moment
			}
			w.done(s, w.do(s))
			w.settleDown()
			return w.buryAll()
		}
	}
}

// settleDown lets all that runs come to where it waits.
func (w *world) settleDown() { time.Sleep(time.Microsecond) }

func (w *world) done(s step, err error) {
	switch {
	case err == nil:
		w.note("%3d %s", w.count, s)
	case errors.Is(err, errSkip), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, disk.ErrNotEmpty), errors.Is(err, disk.ErrNotDirectory),
		errors.Is(err, disk.ErrNotFile), errors.Is(err, disk.ErrNoSpace), isBusy(err):
		w.note("%3d %s: not done: %v", w.count, s, err)
	default:
		w.fail("step %d, %s: %v", w.count, s, err)
	}
	if err == nil && (s.Do == "cut" || s.Do == "mend") {
		w.cut[[2]int{s.On, s.Peer}] = s.Do == "cut"
	}
}

// arm has a step done within a later call on the disk.
func (w *world) arm(d *simDevice, s step) chan error {
	fired := make(chan error, 1)
	left := s.Calls
	var mu sync.Mutex
	d.disk.Before(func(_ int, op, _ string) error {
		if s.Op != "" && op != s.Op {
			return nil
		}
		mu.Lock()
		left--
		now := left == 0
		mu.Unlock()
		if !now {
			return nil
		}
		fired <- w.do(s)
		if d.down {
			return simdisk.ErrCrashed
		}
		return nil
	})
	return fired
}

// disarm takes a step back that has not been done; false if it is too late.
func (w *world) disarm(d *simDevice) bool {
	d.disk.Before(nil)
	return true
}

// buryAll takes down what has crashed.
func (w *world) buryAll() error {
	for {
		select {
		case d := <-w.fell:
			if err := w.bury(d); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (w *world) bury(d *simDevice) error {
	if err := d.stop(); err != nil {
		return err
	}
	for _, o := range w.devices {
		if o != d && !w.cut[[2]int{d.n, o.n}] {
			w.net.Mend(d.id, o.id)
		}
	}
	return nil
}

// look takes note of what the disks show.
func (w *world) look() {
	for _, d := range w.devices {
		if d.away {
			continue
		}
		d.last = d.tree()
		for p, l := range d.last {
			d.ever[p] = true
			if l.kind == stat.File {
				d.held[l.sum] = true
			}
		}
	}
}

// tree is a device's folder as its user sees it.
func (d *simDevice) tree() map[string]leaf {
	return treeOf(d.disk, ".", ".sheaf", d.hashes)
}

// heal ends all that is wrong: what is quiet after it must be right.
func (w *world) heal() error {
	w.note("healed")
	for _, a := range w.devices {
		a.disk.Before(nil)
		a.disk.SetGone(false)
		if a.away {
			if err := w.do(step{On: a.n, Do: "mount"}); err != nil {
				return err
			}
		}
		a.disk.SetRoom(-1)
		if err := w.allowAll(a); err != nil {
			return err
		}
		w.closePrograms(a)
		for _, b := range w.devices {
			if a != b && !a.gone.Load() && !b.gone.Load() {
				w.net.Mend(a.id, b.id)
				w.net.SetLink(a.id, b.id, simnet.Link{Latency: time.Millisecond})
			}
		}
	}
	w.cut = make(map[[2]int]bool)
	for _, d := range w.devices {
		if d.run == nil && !d.gone.Load() {
			if err := d.start(); err != nil {
				return fmt.Errorf("start %s: %w", d.name(), err)
			}
		}
		if d.run != nil {
			if err := d.run.node.Resume(context.Background(), ""); err != nil {
				return err
			}
		}
		w.count++
		if err := w.do(step{On: d.n, Do: "sync"}); err != nil {
			return err
		}
	}
	return nil
}

// closePrograms removes the lock files of programs that are still open: a directory
// that others deleted stays as long as something ignored is in it, and says so.
func (w *world) closePrograms(d *simDevice) {
	for p := range treeOf(d.disk, ".", "", d.hashes) {
		if ignored(p) && !strings.HasPrefix(p, ".sheaf/") {
			_ = d.disk.User().Remove(p)
		}
	}
}

// endless is more work than any history takes whose devices come to rest.
const endless = 200_000

// longest is how long devices that have all they need may take to come to rest.
const longest = 3 * time.Hour

// rest waits until nothing moves any more.
func (w *world) rest() error {
	calm, begin := 0, time.Now()
	for time.Since(begin) < longest {
		// Not in step with the scans, which are rest as well.
		tick := time.NewTimer(15*time.Second + 17*time.Millisecond)
		select {
		case <-tick.C:
		case <-w.over:
		}
		if tick.Stop(); w.failed() {
			return nil
		}
		w.releaseAll()
		if w.restless() != "" {
			calm = 0
			continue
		}
		// What no event told of is found by the next scan.
		if calm++; calm == 4+int(w.h.Scan/(15*time.Second)) {
			w.note("at rest")
			return nil
		}
	}
	w.fail("no rest after %v: %s", longest, w.restless())
	return nil
}

// restless tells who is still at work.
func (w *world) restless() string {
	var why []string
	var heads []crdt.VersionVector
	members := 0
	for _, d := range w.devices {
		if !d.gone.Load() {
			members++
		}
	}
	for _, d := range w.devices {
		if d.gone.Load() {
			continue
		}
		f := d.run.folder
		lost := w.nowhere(f)
		for _, p := range lost {
			w.excused[p] = true
		}
		twins := w.twinsBehind(d)
		f.mu.Lock()
		s := f.shown
		open := f.openLocked(d.run.node.connectedPeers())
		f.mu.Unlock()
		peers := len(d.run.node.connectedPeers())
		if len(w.excused) > 0 || w.twinned {
			// Those wait for ever, and are asked again and again; nothing else may.
			both := maps.Clone(twins)
			if both == nil {
				both = make(map[crdt.EntryID]bool)
			}
			for id := range lost {
				both[id] = true
			}
			if n, _ := f.index.BehindCount(); n != len(both) {
				why = append(why, fmt.Sprintf("%s: behind %v, of which %v are lost, and %d have a name that the disk takes for another's", d.name(), w.behindOf(f), lost, len(twins)))
			}
			heads = append(heads, folderIndex{f: f}.Heads())
			continue
		}
		if !s.quiet || s.failure != nil || s.seq != f.index.Seq() || len(open) > 0 || peers != members-1 {
			why = append(why, fmt.Sprintf("%s: state %s, quiet %v, behind %v, failure %v, open %v, %d peers, problems %v", d.name(), s.state, s.quiet, w.behindOf(f), s.failure, open, peers, f.listProblems()))
		}
		heads = append(heads, folderIndex{f: f}.Heads())
	}
	for i := range heads[1:] {
		if !slices.Equal(heads[i+1], heads[0]) {
			why = append(why, fmt.Sprintf("heads %v and %v", heads[0], heads[i+1]))
		}
	}
	return strings.Join(why, "; ")
}

// nowhere gives the entries, with their paths, whose content no disk has, and rightly
// so: a power cut took it from the device that wrote it before anybody else had it, or
// its owner deleted it, and the name came back without it. All can only wait for it.
func (w *world) nowhere(f *Folder) map[crdt.EntryID]string {
	type waiting struct {
		id crdt.EntryID
		at string
	}
	waited := make(map[crdt.ContentHash][]waiting)
	_ = f.index.Read(func(r *store.Reader) error {
		ids, _, err := r.Behind(0, 1000)
		for _, id := range ids {
			e, _, _ := r.Entry(id)
			if v := e.Shown(); v != nil {
				if p, err := viewPath(r, id); err == nil {
					waited[v.Content] = append(waited[v.Content], waiting{id, p})
				}
			}
		}
		return err
	})
	if len(waited) == 0 {
		return nil
	}
	lost := make(map[crdt.EntryID]string)
	for h, c := range w.ledger.known {
		if at := waited[c.hash]; len(at) > 0 && (c.torn || len(c.ended) > 0) && !w.somewhere(h) {
			for _, x := range at {
				lost[x.id] = x.at
			}
		}
	}
	return lost
}

// folded makes paths equal that are one to a device's disk.
func (d *simDevice) folded(p string) string {
	k := d.w.h.Devices[d.n]
	if k.Form != "" {
		p = norm.NFC.String(p)
	}
	if k.Fold {
		p = strings.ToLower(p)
	}
	return p
}

// twins gives the paths that a device's disk cannot all hold: names in one directory
// that it takes for one, and what lies below them.
func (d *simDevice) twins(paths []string) map[string]bool {
	k := d.w.h.Devices[d.n]
	if !k.Fold && k.Form == "" {
		return nil
	}
	in := make(map[string][]string) // by what the disk makes of it
	for _, p := range paths {
		key := path.Join(path.Dir(p), d.folded(path.Base(p)))
		in[key] = append(in[key], p)
	}
	out := make(map[string]bool)
	for _, list := range in {
		for _, p := range list {
			if len(list) > 1 {
				out[p] = true
			}
		}
	}
	for _, p := range paths {
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if out[up] {
				out[p] = true
			}
		}
	}
	return out
}

// twinsBehind gives what a device cannot have, for its disk takes the name for
// another's.
func (w *world) twinsBehind(d *simDevice) map[crdt.EntryID]bool {
	k := w.h.Devices[d.n]
	if !k.Fold && k.Form == "" {
		return nil
	}
	f := d.run.folder
	view, err := viewOf(f)
	if err != nil {
		w.fail("read the view of %s: %v", d.name(), err)
		return nil
	}
	twins := d.twins(slices.Collect(maps.Keys(view)))
	if len(twins) == 0 {
		return nil
	}
	w.twinned = true
	d.stuck = make(map[string]bool)
	counted := make(map[crdt.EntryID]bool)
	_ = f.index.Read(func(r *store.Reader) error {
		ids, _, err := r.Behind(0, 1000)
		for again := true; again; {
			again = false
			for _, id := range ids {
				at, _ := newDiskPaths(r).of(id) // "" for nowhere
				node, _, _ := r.Node(id)
				p, perr := viewPath(r, id)
				// Its name is taken by a twin or by something that cannot leave it, or it
				// is to go and holds something that cannot.
				waits := perr == nil && node.Visible() && (twins[p] || d.isStuck(p)) || !node.Visible() && at != "" && d.holdsStuck(at)
				if b, _, _ := r.Base(id); !waits { // what a copy is to keep stays until there is one
					waits = slices.ContainsFunc(b.Entry.Versions(), func(v crdt.Facet) bool { return counted[crdt.ConflictID(id, v.Dot)] })
				}
				if counted[id] || !waits {
					continue
				}
				counted[id], again = true, true
				if at != "" {
					d.stuck[d.folded(at)] = true // it stays where it was
				}
			}
		}
		return err
	})
	return counted
}

// holdsStuck tells whether something below a path is stuck.
func (d *simDevice) holdsStuck(dir string) bool {
	dir = d.folded(dir)
	for p := range d.stuck {
		if strings.HasPrefix(p, dir+"/") {
			return true
		}
	}
	return false
}

// isStuck tells whether something is still where it was, for its new name is taken for
// another's.
func (d *simDevice) isStuck(p string) bool {
	for p = d.folded(p); p != "."; p = path.Dir(p) {
		if d.stuck[p] {
			return true
		}
	}
	return false
}

// somewhere tells whether the folder of any member has a content. What is in the
// trash is sent to nobody.
func (w *world) somewhere(h sum) bool {
	for _, d := range w.devices {
		if d.gone.Load() {
			continue
		}
		for _, l := range treeOf(d.disk, ".", ".sheaf", d.hashes) {
			if l.sum == h {
				return true
			}
		}
	}
	return false
}

// behindOf says what an index shows and the disk does not.
func (w *world) behindOf(f *Folder) (out []string) {
	_ = f.index.Read(func(r *store.Reader) error {
		ids, _, err := r.Behind(0, 5)
		for _, id := range ids {
			e, _, _ := r.Entry(id)
			n, _, _ := r.Node(id)
			b, _, _ := r.Base(id)
			out = append(out, fmt.Sprintf("%s %s shown %q as %s by %d of %v, on the disk %v %q as %s", e.Kind, id, n.Shown, w.shownBy(e), len(e.Live), e.Seen, b.Here, b.At.Name, w.shownBy(b.Entry)))
		}
		return err
	})
	return out
}

// logIndexes has what each device knows of each entry written to the log of a
// history that is replayed.
func (w *world) logIndexes() {
	if !w.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	for _, d := range w.devices {
		f := d.run.folder
		_ = f.index.Read(func(r *store.Reader) error {
			dirs := []crdt.EntryID{crdt.Root}
			for len(dirs) > 0 {
				page, _, err := r.Children(dirs[0], "", 1000)
				if err != nil {
					return err
				}
				dirs = dirs[1:]
				for _, c := range page {
					if c.Kind == crdt.Directory {
						dirs = append(dirs, c.ID)
					}
					e, _, _ := r.Entry(c.ID)
					b, _, _ := r.Base(c.ID)
					w.log.Debug("index", "device", d.name(), "id", c.ID, "name", e.Place.Name, "kind", e.Kind, "live", e.Live, "attrs", e.Attrs, "mtime", e.MTime(), "shows", w.shownBy(e), "seen", e.Seen,
						"here", b.Here, "base", w.shownBy(b.Entry), "base mtime", b.Entry.MTime(), "stat", b.Stat.String())
				}
			}
			return nil
		})
	}
}

// shownBy names the content that an entry shows.
func (w *world) shownBy(e crdt.Entry) string {
	v := e.Shown()
	if v == nil {
		return "none"
	}
	for _, c := range w.ledger.known {
		if c.hash == v.Content {
			return c.name
		}
	}
	return "unknown"
}

// judge holds the end against the oracles.
func (w *world) judge() {
	trees := make([]map[string]leaf, len(w.devices))
	exact := true
	for n, d := range w.devices {
		trees[n] = d.tree()
		exact = exact && w.h.Devices[n].Grain <= 1
	}
	first := -1
	for n, d := range w.devices {
		// One whose disk keeps all names, if there is one.
		if k := w.h.Devices[n]; !d.gone.Load() && (first < 0 || !k.Fold && k.Form == "") {
			first = n
			if !k.Fold && k.Form == "" {
				break
			}
		}
	}
	for n, d := range w.devices {
		if d.gone.Load() {
			w.kept(trees[n], d)
			w.trespass(d)
			continue
		}
		w.agree(trees[first], trees[n], w.devices[first], d, exact)
		view, err := viewOf(d.run.folder)
		if err != nil {
			w.fail("read the view of %s: %v", d.name(), err)
			continue
		}
		w.shows(view, trees[n], d)
		if n == first {
			w.whole(trees[n])
		}
		w.kept(trees[n], d)
	}
	w.calm()
	w.told()
	w.logIndexes()
	for n, d := range w.devices {
		w.note("%s ends with\n%s", d.name(), w.ledger.drawTree(trees[n]))
	}
	w.mu.Lock()
	w.diary = append(w.diary, fmt.Sprintf("network %x", w.net.Hash()))
	w.mu.Unlock()
}

// agree is the oracle of convergence between two disks.
func (w *world) agree(a, b map[string]leaf, da, db *simDevice, exact bool) {
	na, nb := da.name(), db.name()
	a, b = w.formed(a), w.formed(b)
	all := union(a, b)
	ta, tb := da.twins(all), db.twins(all)
	for _, p := range all {
		if w.excused[p] || ta[p] || tb[p] || da.isStuck(p) || db.isStuck(p) {
			continue
		}
		x, inA := a[p]
		y, inB := b[p]
		if !exact || x.kind == stat.Symlink {
			x.mtime, y.mtime = 0, 0
		}
		switch {
		case !inA:
			w.fail("converged: %q is on %s and not on %s", p, nb, na)
		case !inB:
			w.fail("converged: %q is on %s and not on %s", p, na, nb)
		case x != y:
			w.fail("converged: %q is %s %o %d on %s, and %s %o %d on %s", p, w.ledger.name(x.sum), x.mode, x.mtime, na, w.ledger.name(y.sum), y.mode, y.mtime, nb)
		}
	}
}

// formed gives a tree with its names as they are to people, where a disk keeps them in
// another Unicode form.
func (w *world) formed(tree map[string]leaf) map[string]leaf {
	if !slices.ContainsFunc(w.h.Devices, func(k simKind) bool { return k.Form == "store" }) {
		return tree
	}
	out := make(map[string]leaf, len(tree))
	for p, l := range tree {
		out[norm.NFC.String(p)] = l
	}
	return out
}

func union(a, b map[string]leaf) []string {
	var out []string
	for p := range a {
		out = append(out, p)
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// viewOf gives the tree that an index shows.
func viewOf(f *Folder) (map[string]leaf, error) {
	out := make(map[string]leaf)
	err := f.index.Read(func(r *store.Reader) error {
		type dir struct {
			id   crdt.EntryID
			path string
		}
		dirs := []dir{{crdt.Root, "."}}
		for len(dirs) > 0 {
			d := dirs[0]
			dirs = dirs[1:]
			for after, more := "", true; more; {
				page, next, err := r.Children(d.id, after, 100)
				if err != nil {
					return err
				}
				after, more = next, next != ""
				for _, c := range page {
					e, _, err := r.Entry(c.ID)
					if err != nil {
						return err
					}
					n, _, err := r.Node(c.ID)
					if err != nil {
						return err
					}
					p := path.Join(d.path, n.Shown)
					l := leaf{mode: e.Mode()}
					switch e.Kind {
					case crdt.Directory:
						l.kind = stat.Directory
						dirs = append(dirs, dir{c.ID, p})
					case crdt.Symlink:
						l.kind, l.target, l.mode = stat.Symlink, e.Shown().Target, 0
					default:
						l.kind, l.size = stat.File, e.Shown().Size
					}
					out[p] = l
				}
			}
		}
		return nil
	})
	return out, err
}

// shows is the oracle that a disk shows its index.
func (w *world) shows(view, tree map[string]leaf, d *simDevice) {
	view, tree = w.formed(view), w.formed(tree)
	all := union(view, tree)
	twins := d.twins(all)
	for _, p := range all {
		if w.excused[p] || twins[p] || d.isStuck(p) {
			continue
		}
		v, inView := view[p]
		x, onDisk := tree[p]
		x.mtime, x.sum = 0, sum{}
		if x.kind == stat.Symlink {
			x.mode, x.size = 0, 0
		}
		if x.kind == stat.Directory {
			x.size = 0
		}
		switch {
		case !inView:
			w.fail("shown: %q is on the disk of %s and not in its index", p, d.name())
		case !onDisk:
			w.fail("shown: %q is in the index of %s and not on its disk", p, d.name())
		case v != x:
			w.fail("shown: %q is %+v on the disk of %s, and %+v in its index", p, x, d.name(), v)
		}
	}
}

// whole is the oracle that nothing is lost, nothing made up and nothing doubled.
func (w *world) whole(tree map[string]leaf) {
	there := make(map[sum]bool)
	times := make(map[sum]int)
	at := make(map[sum]string)
	for p, l := range tree {
		if l.kind == stat.File {
			there[l.sum] = true
			if !w.excused[p] { // what waits for other bytes still has those before
				times[l.sum]++
				at[l.sum] = p
			}
		}
		if name := base(p); strings.Contains(name, "(moving)") || strings.HasPrefix(name, "recovered-") {
			w.fail("made up: %q has a name that nobody gave it", p)
		}
	}
	for h, n := range times {
		c := w.ledger.known[h]
		switch {
		case c == nil:
			w.fail("made up: nobody wrote what %q holds", at[h])
		case n > c.written && !w.forgot: // what lost its identity with a database may come twice
			w.fail("made up: %s is there %d times, and was written %d times (%q)", c.name, n, c.written, at[h])
		}
	}
	for h, c := range w.ledger.known {
		if c.whole && len(c.ended) == 0 && !there[h] && !w.doubted(h, c) && !w.halfTold(h) && !(w.twinned && w.somewhere(h)) {
			w.fail("lost: %s, written on dev%d at step %d, which nobody overwrote or deleted", c.name, c.by, c.step)
		}
	}
}

// halfTold tells whether a device that was removed has a content under a name that it
// could not tell of any more: the others know of the old name's end alone.
func (w *world) halfTold(h sum) bool {
	for _, d := range w.devices {
		if !d.gone.Load() {
			continue
		}
		for _, l := range d.tree() {
			if l.sum == h {
				return true
			}
		}
	}
	return false
}

// doubted tells whether a content was taken for what a power cut had made, as is
// known to happen where the clock was set back too, and is in the trash.
func (w *world) doubted(h sum, c *content) bool {
	d := w.devices[c.by]
	if d.boots == 0 || !d.setBack {
		return false
	}
	for _, l := range treeOf(d.disk, ".sheaf", "", d.hashes) {
		if l.sum == h {
			return true
		}
	}
	return false
}

// trespass is the oracle that a device that was removed has nothing that others
// wrote after that.
func (w *world) trespass(d *simDevice) {
	for p, l := range treeOf(d.disk, ".", "", d.hashes) {
		if c := w.ledger.known[l.sum]; l.kind == stat.File && l.size > 0 && c != nil && c.by != d.n && c.step > d.left {
			w.fail("trespass: %s has %q, which is %s, written on dev%d at step %d; it was removed at step %d", d.name(), p, c.name, c.by, c.step, d.left)
		}
	}
}

// kept is the oracle that what a device let go of by itself is in its trash.
func (w *world) kept(tree map[string]leaf, d *simDevice) {
	have := make(map[sum]bool)
	for _, l := range tree {
		have[l.sum] = true
	}
	for _, l := range treeOf(d.disk, ".sheaf", "", d.hashes) {
		have[l.sum] = true
	}
	for h := range d.held {
		if !have[h] {
			w.fail("kept: %s was on %s, whose user did not take it away, and is neither in its tree nor in its trash", w.ledger.name(h), d.name())
		}
	}
}

// told is the oracle that people are told of what waits for a content that no device
// has.
func (w *world) told() {
	for _, d := range w.devices {
		if d.gone.Load() || len(d.run.node.connectedPeers()) == 0 {
			continue
		}
		f := d.run.folder
		twins := w.twinsBehind(d)
		for id, p := range w.nowhere(f) {
			if twins[id] {
				continue // it would wait for its name as well, and that is told
			}
			if !slices.ContainsFunc(f.listProblems(), func(x api.Problem) bool { return x.Path == f.treePath(p) }) {
				w.fail("told: %s waits for %q, which is nowhere, and says nothing of it", d.name(), p)
			}
		}
	}
}

// calm is the oracle that nothing goes on once all is right.
func (w *world) calm() {
	before := w.sent()
	for _, d := range w.devices {
		name := d.name()
		d.disk.Before(func(_ int, op, p string) error {
			if changes(op) {
				w.fail("storm: %s does %s on %q with nothing to be done", name, op, p)
			}
			return nil
		})
	}
	const quiet = 5 * time.Minute
	time.Sleep(quiet)
	for _, d := range w.devices {
		d.disk.Before(nil)
	}
	// A ping each way on two streams a pair, every half minute.
	n := uint64(len(w.devices))
	if sent := w.sent() - before; len(w.excused) == 0 && sent > n*(n-1)*2*10*64 {
		w.fail("storm: %d bytes were sent in %v with nothing to be said", sent, quiet)
	}
}

// tracer has what changes a disk written to the log of a history that is replayed.
func (w *world) tracer(d *simDevice) func(user bool, op, path, to string, err error) {
	if !w.log.Enabled(context.Background(), slog.LevelDebug) {
		return nil
	}
	return func(user bool, op, path, to string, err error) {
		if changes(op) {
			w.log.Debug("disk", "device", d.name(), "user", user, "op", op, "path", path, "to", to, "err", err)
		}
	}
}

// changes tells whether a call on a disk changes it.
func changes(op string) bool {
	switch op {
	case "create", "write", "truncate", "allocate", "punch", "mkdir", "symlink", "link", "rename", "exchange", "remove", "rmdir", "chmod", "chtimes":
		return true
	}
	return false
}

// sent is how many bytes have come in anywhere.
func (w *world) sent() (total uint64) {
	for _, a := range w.devices {
		for _, b := range w.devices {
			if a != b {
				bytes, _ := w.net.Delivered(a.id, b.id)
				total += bytes
			}
		}
	}
	return total
}

// isBusy tells whether the system would refuse such a call, whoever made it.
func isBusy(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EBUSY) || errors.Is(err, fs.ErrPermission)
}
