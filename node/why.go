package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/mesh"
	"sheaf/node/store"
)

// Why implements api.Node.
func (n *Node) Why(ctx context.Context, p string) (api.Why, error) {
	f, inside, err := n.folderAt(p)
	if err != nil {
		return api.Why{}, err
	}
	if f == nil {
		return api.Why{Path: "/", Kind: "directory", Here: true, Summary: "the top of the tree"}, nil
	}
	w := api.Why{Path: f.treePath(inside)}
	var id crdt.EntryID
	known := false
	err = f.index.Read(func(r *store.Reader) error {
		if id, known, err = find(r, inside); err != nil || !known || id == crdt.Root {
			return err
		}
		return n.whyEntry(ctx, r, f, id, inside, &w)
	})
	if err != nil {
		return w, err
	}
	f.addProblems(&w, inside)
	switch {
	case id == crdt.Root && known:
		w.Kind, w.Here, w.Summary = "directory", true, "the folder itself, at "+f.root
	case !known:
		return w, f.whyUnknown(ctx, &w, inside)
	}
	return w, nil
}

// addProblems adds what is known to hold the path, or the whole folder.
func (f *Folder) addProblems(w *api.Why, inside string) {
	for _, p := range f.listProblems() {
		if p.Path == w.Path || p.Path == f.treePath(".") && inside != "." {
			w.Problems = append(w.Problems, p)
		}
	}
}

func (n *Node) whyEntry(ctx context.Context, r *store.Reader, f *Folder, id crdt.EntryID, inside string, w *api.Why) error {
	e, err := f.entry(r, id, path.Dir(w.Path))
	if err != nil {
		return err
	}
	w.Kind, w.Size, w.Modified, w.Here, w.State = e.Kind, e.Size, e.Modified, e.Here, e.State
	entry, _, err := r.Entry(id)
	if err != nil {
		return err
	}
	if v := entry.Shown(); v != nil {
		w.Version, w.Author, w.Written = v.Content.String()[:16], v.Author, time.UnixMilli(v.Stamp.Time).UTC()
	}
	conflicts, err := f.conflicts(ctx, r, entry.Place.Parent)
	if err != nil {
		return err
	}
	for _, c := range conflicts {
		if c.Of == w.Path {
			w.Conflicts = append(w.Conflicts, c.Path)
		}
	}
	seq, _, err := r.SeqOf(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	var connected []string
	for peer, p := range f.peers {
		name := n.account.name(mesh.DeviceID(peer))
		connected = append(connected, name)
		if p.Settled >= seq {
			w.Others = append(w.Others, name)
		}
	}
	f.mu.Unlock()
	switch {
	case f.isPaused():
		w.Summary = "the folder is paused"
		w.WaitsFor = "`sheaf resume " + f.name + "`"
	case e.State == api.EntryInStep && len(w.Conflicts) > 0:
		w.Summary = fmt.Sprintf("in step here, with %d conflict copies beside it", len(w.Conflicts))
	case e.State == api.EntryInStep:
		w.Summary = "in step here"
	case len(w.Problems) > 0:
		w.Summary = "held: " + w.Problems[0].What
	default:
		w.WaitsFrom = connected
		w.Summary = "known, and not here yet in its newest version"
		w.WaitsFor = "its content, from any device that has it"
		if len(connected) == 0 {
			w.WaitsFor = "a device that has it to be connected"
		}
	}
	return nil
}

// whyUnknown explains a path that the index does not have.
func (f *Folder) whyUnknown(ctx context.Context, w *api.Why, inside string) error {
	d := f.serving.Load()
	if d == nil {
		return notFound(w.Path)
	}
	if rule, ok := d.Ignored(inside, false); ok {
		w.Summary = "left out: the rule " + rule + " ignores it"
		w.State = api.EntryBlocked
		w.Problems = append(w.Problems, api.Problem{Path: w.Path, What: "ignored by " + rule, Remedy: "take the rule out of " + disk.IgnoreFile + ", or add a line that begins with !"})
		return nil
	}
	l, err := d.Look(ctx, path.Dir(inside), []string{path.Base(inside)})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return notFound(w.Path)
	case err != nil:
		return err
	}
	for _, s := range l.Skipped {
		w.Summary, w.State = "not synced: "+s.Reason, api.EntryBlocked
		return nil
	}
	for _, item := range l.Items {
		if item.Stat.Kind == 0 {
			return notFound(w.Path)
		}
		w.Kind, w.Size, w.Modified, w.Here = item.Stat.Kind.String(), item.Stat.Size, time.Unix(0, item.Stat.Modified).UTC(), true
		w.Summary = "on this disk, and not recorded yet"
		w.WaitsFor = "the file to be left alone for a moment, so that it can be read whole"
		if f.isFresh() {
			w.WaitsFor = "a first meeting with another of your devices"
		}
	}
	return nil
}
