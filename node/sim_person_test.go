package node

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication"
)

// What people do through the program itself, in a simulation: pause and resume, the
// trash, conflicts, holds.

// personPrograms are what people ask of a device.
func personPrograms() []program {
	one := func(do string) func(g *drawer, d *simDevice) []step {
		return func(g *drawer, d *simDevice) []step {
			s := []step{{On: d.n, Do: do, N: int64(g.r.IntN(1 << 20))}}
			if g.r.IntN(4) > 0 {
				s = append(s, step{On: d.n, Do: "sync", Wait: g.short()})
			}
			return s
		}
	}
	return []program{
		{"pause", 2, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "pause"}, {On: d.n, Do: "resume", Wait: g.pause()}}
		}},
		{"untrash", 4, one("untrash")},
		{"resolve", 4, one("resolve")},
		{"release", 3, one("release")},
		{"revert", 2, one("revert")},
	}
}

// patience is how long a person waits for an answer.
const patience = 2 * time.Minute

// person does what a person asks of a device. It must not be called from within a
// call on the disk, which would wait for itself.
func (w *world) person(d *simDevice, s step) error {
	if d.run == nil || d.down || d.away {
		return errSkip
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n := d.run.node
	var err error
	switch s.Do {
	case "pause":
		err = n.Pause(ctx, "")
	case "resume":
		err = n.Resume(ctx, "")
	case "untrash":
		err = w.untrash(ctx, d, s.N)
	case "resolve":
		err = w.resolve(ctx, d, s.N)
	case "release":
		if h, ok := pickHold(n, s.N); ok {
			err = n.ReleaseHold(ctx, h.ID)
		} else {
			return errSkip
		}
	case "revert":
		err = w.revert(ctx, d, s.N)
	}
	// What the program declines, with a remedy, is an answer too.
	var said *api.Error
	if errors.As(err, &said) || errors.Is(err, errStopped) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errSkip, err)
	}
	return err
}

// untrash restores an item of the trash: its content is wanted again.
func (w *world) untrash(ctx context.Context, d *simDevice, n int64) error {
	items, err := d.run.node.Trash(ctx)
	if err != nil || len(items) == 0 {
		return errors.Join(errSkip, err)
	}
	slices.SortFunc(items, func(a, b api.TrashItem) int { return strings.Compare(a.ID, b.ID) })
	item := items[n%int64(len(items))]
	paths, err := d.run.node.RestoreTrash(ctx, []string{item.ID}, "")
	if err != nil || len(paths) != 1 {
		return err
	}
	p := strings.TrimPrefix(paths[0], "/Sync/")
	for _, h := range w.sumsAt(d, d.disk.User(), p) {
		if c := w.ledger.known[h]; c != nil {
			c.written++
			if d.believes(p, c) {
				continue // to the device nothing has happened: see docs/faults-found.md
			}
			c.whole, c.ended = false, nil // until it is synced again
			d.restored = append(d.restored, h)
			if d.gone.Load() {
				c.ended = []string{"restored on a device that is removed"}
			}
			if !ignored(p) {
				w.fresh[d.n] = append(w.fresh[d.n], c)
			}
		}
	}
	return nil
}

// believes tells whether a device's index has it that a content is at a path.
func (d *simDevice) believes(p string, c *content) (holds bool) {
	_ = d.run.folder.index.Read(func(r *store.Reader) error {
		at := crdt.Root
		for name := range strings.SplitSeq(p, "/") {
			id, found, err := r.BaseAt(at, name)
			if err != nil || !found {
				return err
			}
			at = id
		}
		b, _, err := r.Base(at)
		v := b.Entry.Shown()
		holds = v != nil && v.Content == c.hash
		return err
	})
	return holds
}

// resolve ends a conflict: what is not kept is knowingly let go of.
func (w *world) resolve(ctx context.Context, d *simDevice, n int64) error {
	list, err := d.run.node.Conflicts(ctx)
	if err != nil || len(list) == 0 {
		return errors.Join(errSkip, err)
	}
	c := list[n%int64(len(list))]
	keep := []api.Keep{api.KeepMine, api.KeepTheirs, api.KeepBoth}[n%3]
	user := d.disk.User()
	at := func(p string) []sum {
		if p == "" {
			return nil
		}
		return w.sumsAt(d, user, strings.TrimPrefix(p, "/Sync/"))
	}
	theCopy, of := at(c.Path), at(c.Of)
	err = d.run.node.ResolveConflict(ctx, c.Path, keep)
	for _, h := range slices.Concat(theCopy, of) {
		if k := w.ledger.known[h]; k != nil {
			k.written++ // as in "rename": identity may be lost where others rename it
		}
	}
	how := fmt.Sprintf("let go of in resolving %q", c.Path)
	switch {
	case err != nil || keep == api.KeepBoth:
	case slices.Equal(at(c.Of), of):
		w.ended(d, theCopy, how)
	default:
		w.ended(d, of, how)
	}
	return err
}

func inTree(tree map[string]leaf, h sum) bool {
	for _, l := range tree {
		if l.kind == stat.File && l.sum == h {
			return true
		}
	}
	return false
}

// revert takes a held change back: what it had written is knowingly let go of.
func (w *world) revert(ctx context.Context, d *simDevice, n int64) error {
	h, ok := pickHold(d.run.node, n)
	if !ok {
		return errSkip
	}
	before := d.tree()
	err := d.run.node.RevertHold(ctx, h.ID)
	after := d.tree()
	for _, l := range before {
		if l.kind == stat.File && !inTree(after, l.sum) {
			w.ended(d, []sum{l.sum}, "reverted")
		}
		if c := w.ledger.known[l.sum]; c != nil {
			c.written++ // what was renamed and saved anew under its name comes back under that
		}
	}
	if strings.HasSuffix(h.ID, "-in") {
		// What others wrote is overruled, in part under other names than it has here.
		for sum, c := range w.ledger.known {
			if c.by != d.n || !inTree(after, sum) {
				w.ledger.end(sum, fmt.Sprintf("step %d: overruled by what %s had", w.count, d.name()))
			}
		}
	}
	return err
}

// pickHold gives one of those that wait for a person.
func pickHold(n *Node, at int64) (h api.Hold, ok bool) {
	list, err := n.Holds(context.Background())
	if err != nil || len(list) == 0 {
		return h, false
	}
	return list[at%int64(len(list))], true
}

// releaseAll lets everything happen that is held anywhere: at the end of a history
// people have been asked.
func (w *world) releaseAll() {
	for _, d := range w.devices {
		if d.run == nil || d.gone.Load() {
			continue
		}
		for {
			h, ok := pickHold(d.run.node, 0)
			if !ok {
				break
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			err := d.run.node.ReleaseHold(ctx, h.ID)
			cancel()
			w.note("%s releases %s (%s): %v", d.name(), h.ID, h.What, err)
			if err != nil {
				break
			}
		}
	}
}

// say passes a person's word on, as Node.spread does: to who is connected, and by
// those to others.
func (d *simDevice) say(wd word) {
	d.w.mu.Lock()
	known := d.words[wd.ID]
	d.words[wd.ID] = true
	if !known {
		d.said = append(d.said, wd)
	}
	d.w.mu.Unlock()
	if known || d.run == nil {
		return
	}
	d.run.folder.hearWord(wd)
	for _, p := range d.run.node.connectedPeers() {
		d.w.devices[p[0]].say(wd)
	}
}

// greet tells a peer that connects all words there are.
func (d *simDevice) greet(_ context.Context, peer replication.DeviceID) {
	d.w.mu.Lock()
	list := slices.Clone(d.said)
	d.w.mu.Unlock()
	for _, wd := range list {
		d.w.devices[peer[0]].say(wd)
	}
}

// trouble does what goes wrong with a disk that is there.
func (w *world) trouble(d *simDevice, s step) error {
	f := d.disk.User()
	switch s.Do {
	case "full":
		d.disk.SetRoom(s.N)
	case "room":
		d.disk.SetRoom(-1)
	case "deny": // somebody takes its permissions away
		return f.Chmod(s.A, 0)
	}
	return nil
}

// allowAll gives back permissions that have been taken away.
func (w *world) allowAll(d *simDevice) error {
	for again := true; again; {
		again = false
		for p, l := range treeOf(d.disk, ".", ".sheaf", d.hashes) {
			mode, need := uint32(0o644), uint32(0o600)
			if l.kind == stat.Directory {
				mode, need = 0o755, 0o700
			}
			if l.kind == stat.Symlink || l.mode&need == need {
				continue
			}
			// Those above come first: below them it cannot be done yet.
			if err := d.disk.User().Chmod(p, mode); err == nil {
				again = true
			}
		}
	}
	return nil
}

// diskTroubles are what goes wrong with a disk that is there.
func diskTroubles() []program {
	return []program{
		{"full", 3, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "full", N: pick(g.r, []int64{0, 100, 1000, 10_000})}, {On: d.n, Do: "room", Wait: g.pause()}}
		}},
		{"fill", 1, func(g *drawer, d *simDevice) []step {
			return []step{{On: d.n, Do: "full", N: pick(g.r, []int64{0, 500})}}
		}},
		{"deny", 2, func(g *drawer, d *simDevice) []step {
			p, ok := g.some(d, stat.File, stat.Directory)
			if !ok {
				return nil
			}
			out := []step{{On: d.n, Do: "deny", A: p}}
			if g.r.IntN(3) > 0 {
				mode := int64(0o644)
				if d.tree()[p].kind == stat.Directory {
					mode = 0o755
				}
				out = append(out, step{On: d.n, Do: "chmod", A: p, N: mode, Wait: g.pause()})
			}
			return out
		}},
	}
}

// alone waits until all is in step, and holds it against the plain file system that
// one person had who did all that was done since the last time: the disk of who did
// it is as it was left, and the others' are like it. This is property P8.
func (w *world) alone(d *simDevice) error {
	if slices.ContainsFunc(w.devices, func(d *simDevice) bool { return d.run == nil }) {
		return errSkip // while it is cut down
	}
	was := d.tree()
	if err := w.rest(); err != nil || w.failed() {
		return err
	}
	is := d.tree()
	// What each had before they met is all of theirs; and a history that is cut down may
	// have others at work.
	first := !w.met || w.worked != nil && (len(w.worked) > 1 || !w.worked[d.n])
	w.met, w.worked = true, nil
	for _, p := range union(was, is) {
		if was[p] != is[p] && !first {
			w.fail("alone: %q was left on %s as %s and is %s", p, d.name(), w.show(was[p]), w.show(is[p]))
		}
	}
	for _, o := range w.devices {
		exact := w.h.Devices[d.n].Grain <= 1 && w.h.Devices[o.n].Grain <= 1
		w.agree(is, o.tree(), d, o, exact)
	}
	return nil
}

func (w *world) show(l leaf) string {
	switch l.kind {
	case stat.None:
		return "nothing"
	case stat.Directory:
		return fmt.Sprintf("a directory %o", l.mode)
	case stat.Symlink:
		return "a link to " + path.Clean(l.target)
	}
	return fmt.Sprintf("%s %o %d", w.ledger.name(l.sum), l.mode, l.mtime)
}
