package node

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/stat"
	"sheaf/node/store"
)

// notFound is the answer for a path that leads nowhere.
func notFound(p string) error {
	return api.Errorf(api.ErrNotFound, "see what there is with `sheaf ls -R /`", "there is no %s", p)
}

// folderAt splits a path of the tree into the folder it leads into and the path
// inside, "." for the folder itself. For "/" the folder is nil.
func (n *Node) folderAt(p string) (*Folder, string, error) {
	if !strings.HasPrefix(p, "/") {
		return nil, "", api.Errorf(api.ErrUsage, "paths of the tree begin with a slash, such as /Sync/notes.txt", "%q is not a path of the tree", p)
	}
	clean := path.Clean(p)
	if clean == "/" {
		return nil, ".", nil
	}
	first, rest, _ := strings.Cut(clean[1:], "/")
	if rest == "" {
		rest = "."
	}
	for _, f := range n.folders {
		if f.name == first {
			return f, rest, nil
		}
	}
	switch "/" + first {
	case "/" + n.backupsFolder.name:
		return n.backupAt(rest)
	case archiveTop:
		return n.archiveFolder, rest, nil
	}
	return nil, "", notFound(p)
}

// find resolves a path inside a folder by the names the view shows.
func find(r *store.Reader, p string) (crdt.EntryID, bool, error) {
	id := crdt.Root
	if p == "." {
		return id, true, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		next, ok, err := crdt.Find(r, id, name)
		if err != nil || !ok {
			return id, false, err
		}
		id = next
	}
	return id, true, nil
}

// List implements api.Node.
func (n *Node) List(ctx context.Context, p string, recursive bool, page api.Page) (api.Listing, error) {
	f, inside, err := n.keptAt(ctx, p)
	if err != nil {
		return api.Listing{}, err
	}
	if f == nil {
		return n.listTop(ctx, recursive, page)
	}
	l := api.Listing{Path: f.treePath(inside)}
	err = f.index.Read(func(r *store.Reader) error {
		id, ok, err := find(r, inside)
		if err != nil {
			return err
		}
		if !ok {
			return notFound(p)
		}
		if id != crdt.Root && id.Kind() != crdt.Directory {
			e, err := f.entry(r, id, path.Dir(f.treePath(inside)))
			l.Entries = []api.Entry{e}
			return err
		}
		limit := page.Limit
		if limit <= 0 || limit > maxPage {
			limit = maxPage
		}
		w := walk{f: f, r: r, recursive: recursive}
		if err := w.start(id, page.After); err != nil {
			return err
		}
		l.Entries, l.Next, err = w.page(ctx, limit)
		return err
	})
	return l, err
}

// maxPage is how many entries one answer holds at most.
const maxPage = 10_000

// listTop lists the tree's own top: the folders, and with recursive one folder
// after the other below it. Its cursor is the folder's name and the cursor in it.
func (n *Node) listTop(ctx context.Context, recursive bool, page api.Page) (api.Listing, error) {
	l := api.Listing{Path: "/"}
	resume, inside, _ := strings.Cut(page.After, "/")
	for _, f := range slices.Concat(n.folders, []*Folder{n.backupsFolder, n.archiveFolder}) {
		if resume != "" && f.name != resume {
			continue
		}
		if resume == "" {
			l.Entries = append(l.Entries, api.Entry{Name: f.name, Path: "/" + f.name, Kind: crdt.Directory.String(), Mode: "0755", Here: true, State: api.EntryInStep})
		}
		resume = ""
		if !recursive {
			continue
		}
		sub, err := n.List(ctx, "/"+f.name, true, api.Page{After: inside, Limit: page.Limit})
		if err != nil {
			return l, err
		}
		inside = ""
		l.Entries = append(l.Entries, sub.Entries...)
		if sub.Next != "" {
			l.Next = f.name + "/" + sub.Next
			return l, nil
		}
	}
	return l, nil
}

// A walk lists a directory, or with recursive all below it, page by page. Its
// cursor says for each directory on the way down what comes next in it.
type walk struct {
	f         *Folder
	r         *store.Reader
	recursive bool
	stack     []frame
}

// A frame is a directory that is being listed.
type frame struct {
	Dir   crdt.EntryID
	After string // store's cursor, from which page was read
	page  []store.Child
	used  int
	next  string
	read  bool
	path  string
}

// walkChunk is how many children are read at a time.
const walkChunk = 512

func (w *walk) start(top crdt.EntryID, cursor string) error {
	if cursor == "" {
		return w.push(frame{Dir: top})
	}
	data, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(data) > 1<<20 {
		return errCursor
	}
	var frames []frame
	if err := json.Unmarshal(data, &frames); err != nil || len(frames) == 0 || len(frames) > crdt.MaxChain {
		return errCursor
	}
	for _, fr := range frames {
		if err := w.push(fr); err != nil {
			return err
		}
	}
	return nil
}

var errCursor = api.Errorf(api.ErrUsage, "start the listing again without a cursor", "that cursor is not one of this listing")

func (w *walk) push(fr frame) error {
	p, err := viewPath(w.r, fr.Dir)
	if err != nil {
		return errCursor
	}
	fr.path = w.f.treePath(p)
	w.stack = append(w.stack, fr)
	return nil
}

func (w *walk) page(ctx context.Context, limit int) (entries []api.Entry, cursor string, err error) {
	for len(w.stack) > 0 && len(entries) < limit {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		fr := &w.stack[len(w.stack)-1]
		if fr.used == len(fr.page) {
			if fr.read && fr.next == "" {
				w.stack = w.stack[:len(w.stack)-1]
				continue
			}
			if fr.read {
				fr.After = fr.next
			}
			if fr.page, fr.next, err = w.r.Children(fr.Dir, fr.After, walkChunk); err != nil {
				return nil, "", err
			}
			fr.used, fr.read = 0, true
			continue
		}
		c := fr.page[fr.used]
		fr.used++
		e, err := w.f.entry(w.r, c.ID, fr.path)
		if err != nil {
			return nil, "", err
		}
		entries = append(entries, e)
		if w.recursive && c.Kind == crdt.Directory {
			w.stack = append(w.stack, frame{Dir: c.ID, path: e.Path})
		}
	}
	cursor, err = w.cursor()
	return entries, cursor, err
}

// cursor says where to go on, "" where there is no more.
func (w *walk) cursor() (string, error) {
	var left []frame
	for _, fr := range w.stack {
		switch {
		case !fr.read:
		case fr.used == len(fr.page) && fr.next == "":
			continue
		case fr.used == len(fr.page):
			fr.After = fr.next
		case fr.used > 0:
			_, next, err := w.r.Children(fr.Dir, fr.After, fr.used)
			if err != nil {
				return "", err
			}
			fr.After = next
		}
		left = append(left, fr)
	}
	if len(left) == 0 {
		return "", nil
	}
	data, err := json.Marshal(left)
	return base64.RawURLEncoding.EncodeToString(data), err
}

// entry describes one entry as the view shows it in the directory at treePath.
func (f *Folder) entry(r *store.Reader, id crdt.EntryID, treePath string) (api.Entry, error) {
	e, ok, err := r.Entry(id)
	if err != nil {
		return api.Entry{}, err
	}
	n, _, err := r.Node(id)
	if err != nil {
		return api.Entry{}, err
	}
	if !ok {
		return api.Entry{}, fmt.Errorf("entry %s vanished from its directory", id)
	}
	base, known, err := r.Base(id)
	if err != nil {
		return api.Entry{}, err
	}
	out := api.Entry{Name: n.Shown, Path: path.Join(treePath, n.Shown), Kind: e.Kind.String(), Mode: fmt.Sprintf("0%03o", e.Mode()), State: api.EntryWaiting}
	v := e.Shown()
	if v != nil {
		out.Size, out.Target = v.Size, v.Target
		if e.Kind == crdt.Symlink {
			out.Size = 0
		}
	}
	out.Modified = time.Unix(0, e.MTime()).UTC()
	if f.stored {
		out.State = api.EntryInStep
		return out, nil
	}
	if known && base.Here {
		out.State = api.EntryInStep
		if bv := base.Entry.Shown(); bv != nil && v != nil {
			out.Here = bv.Content == v.Content
		} else {
			out.Here = e.Kind == crdt.Directory
		}
		if e.Kind == crdt.Directory {
			out.Modified = time.Unix(0, base.Stat.Modified).UTC()
		}
	}
	behind, err := r.IsBehind(id)
	if err != nil {
		return out, err
	}
	if behind {
		out.State = api.EntryWaiting
		f.mu.Lock()
		_, held := f.problems[strings.TrimPrefix(strings.TrimPrefix(out.Path, "/"+f.name), "/")]
		f.mu.Unlock()
		if held {
			out.State = api.EntryBlocked
		}
	}
	return out, nil
}

// Conflicts implements api.Node.
func (n *Node) Conflicts(ctx context.Context) ([]api.Conflict, error) {
	var list []api.Conflict
	for _, f := range n.folders {
		err := f.index.Read(func(r *store.Reader) error {
			if r.Stats().Conflicts == 0 {
				return nil
			}
			found, err := f.conflicts(ctx, r, crdt.Root)
			list = append(list, found...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b api.Conflict) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}

// conflicts finds the conflict copies below a directory: those nobody has
// renamed, which are placed with a Stamp of Count zero.
func (f *Folder) conflicts(ctx context.Context, r *store.Reader, top crdt.EntryID) (list []api.Conflict, err error) {
	dirs := []crdt.EntryID{top}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		for after, more := "", true; more; {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			page, next, err := r.Children(dir, after, walkChunk)
			if err != nil {
				return nil, err
			}
			after, more = next, next != ""
			for _, c := range page {
				if c.Kind == crdt.Directory {
					dirs = append(dirs, c.ID)
					continue
				}
				e, ok, err := r.Entry(c.ID)
				if err != nil {
					return nil, err
				}
				if !ok || e.Place.Stamp.Count != 0 {
					continue
				}
				conflict, err := f.conflict(r, e)
				if err != nil {
					return nil, err
				}
				list = append(list, conflict)
			}
		}
	}
	return list, nil
}

// conflict describes a conflict copy.
func (f *Folder) conflict(r *store.Reader, e crdt.Entry) (api.Conflict, error) {
	p, err := viewPath(r, e.ID)
	if err != nil {
		return api.Conflict{}, err
	}
	c := api.Conflict{Path: f.treePath(p), Modified: time.Unix(0, e.MTime()).UTC()}
	if v := e.Shown(); v != nil {
		c.Device, c.Size = v.Author, v.Size
	}
	id, ok, err := original(r, e)
	if err != nil || !ok {
		return c, err
	}
	if p, err = viewPath(r, id); err != nil {
		return c, err
	}
	c.Of = f.treePath(p)
	if o, ok, err := r.Entry(id); err != nil {
		return c, err
	} else if ok && o.Shown() != nil {
		c.OfDevice = o.Shown().Author
	}
	return c, nil
}

// original finds the entry that a conflict copy was made from: beside it, the
// one from which that copy's ID follows.
func original(r *store.Reader, e crdt.Entry) (crdt.EntryID, bool, error) {
	for after, more := "", true; more; {
		page, next, err := r.Children(e.Place.Parent, after, walkChunk)
		if err != nil {
			return crdt.EntryID{}, false, err
		}
		after, more = next, next != ""
		for _, c := range page {
			if c.Kind != e.Kind {
				continue
			}
			for _, d := range e.Live {
				if crdt.ConflictID(c.ID, d.Dot) == e.ID {
					return c.ID, true, nil
				}
			}
			for _, d := range e.Seen {
				if crdt.ConflictID(c.ID, d) == e.ID {
					return c.ID, true, nil
				}
			}
		}
	}
	return crdt.EntryID{}, false, nil
}

// ResolveConflict implements api.Node.
func (n *Node) ResolveConflict(ctx context.Context, p string, keep api.Keep) error {
	f, inside, err := n.folderAt(p)
	if err != nil {
		return err
	}
	if f == nil {
		return notFound(p)
	}
	return f.do(ctx, func(ctx context.Context) error { return f.resolve(ctx, inside, keep) })
}

// resolve ends a conflict as a person would, on the disk: the loser is moved
// to the trash, or the copy gets an ordinary name, and that is then recorded
// like any other change. Control goroutine only.
func (f *Folder) resolve(ctx context.Context, inside string, keep api.Keep) error {
	var all []api.Conflict
	whole := f.treePath(inside)
	err := f.index.Read(func(r *store.Reader) error {
		id, ok, err := find(r, inside)
		if err != nil {
			return err
		}
		if !ok {
			return notFound(whole)
		}
		node, _, err := r.Node(id)
		if err != nil {
			return err
		}
		found, err := f.conflicts(ctx, r, node.At.Parent)
		for _, c := range found {
			switch whole {
			case c.Path: // one copy, also if there are copies of it in turn
				all = []api.Conflict{c}
				return err
			case c.Of:
				all = append(all, c)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return api.Errorf(api.ErrNotFound, "see `sheaf conflicts`", "%s has no part in a conflict", whole)
	}
	for _, c := range all {
		if err := f.resolveOne(ctx, c, keep); err != nil {
			return err
		}
	}
	return f.disk.Barrier()
}

func (f *Folder) resolveOne(ctx context.Context, c api.Conflict, keep api.Keep) error {
	inside := func(p string) string { return strings.TrimPrefix(p, "/"+f.name+"/") }
	copyPath, ofPath := inside(c.Path), inside(c.Of)
	bucket := f.disk.NewBucket("conflict resolved")
	look := func(p string) (stat.Stat, error) {
		l, err := f.disk.Look(ctx, path.Dir(p), []string{path.Base(p)})
		if err != nil {
			return stat.Stat{}, err
		}
		for _, item := range l.Items {
			if item.Stat.Kind != stat.None {
				return item.Stat, nil
			}
		}
		return stat.Stat{}, api.Errorf(api.ErrConflict, "wait until it is in step: `sheaf wait`", "%s is not on this disk yet", f.treePath(p))
	}
	theCopy, err := look(copyPath)
	if err != nil {
		return err
	}
	switch {
	case keep == api.KeepBoth:
		to, err := f.freeName(ctx, copyPath, c.Device)
		if err != nil {
			return err
		}
		if _, err := f.disk.Rename(copyPath, to, theCopy); err != nil {
			return err
		}
		f.dirty.addPath(to, time.Time{})
	case c.Of == "":
		return api.Errorf(api.ErrConflict, "use --keep both, then delete what is not wanted", "the file that %s belongs to is no longer there", c.Path)
	case (keep == api.KeepMine) == (c.Device == f.o.author && c.OfDevice != f.o.author):
		// The copy is the one to keep: its bytes take the place of the file's.
		of, err := look(ofPath)
		if err != nil {
			return err
		}
		if _, err := f.disk.Discard(ofPath, of, bucket); err != nil {
			return err
		}
		if _, err := f.disk.Rename(copyPath, ofPath, theCopy); err != nil {
			return err
		}
		f.dirty.addPath(ofPath, time.Time{})
	default:
		if _, err := f.disk.Discard(copyPath, theCopy, bucket); err != nil {
			return err
		}
	}
	f.dirty.addPath(copyPath, time.Time{})
	return nil
}

// freeName gives an ordinary name for a conflict copy that is to stay.
func (f *Folder) freeName(ctx context.Context, p, device string) (string, error) {
	dir, base := path.Split(p)
	stem, rest, _ := strings.Cut(base, " (conflict from ")
	ext := ""
	if i := strings.LastIndexByte(rest, ')'); i >= 0 {
		ext = rest[i+1:]
	}
	for k := 1; k < 1000; k++ {
		name := fmt.Sprintf("%s (%s)%s", stem, device, ext)
		if k > 1 {
			name = fmt.Sprintf("%s (%s %d)%s", stem, device, k, ext)
		}
		l, err := f.disk.Look(ctx, path.Clean("./"+dir), []string{name})
		if err != nil {
			return "", err
		}
		if len(l.Items) == 1 && l.Items[0].Stat.Kind == stat.None {
			return path.Join(dir, name), nil
		}
	}
	return "", api.Errorf(api.ErrConflict, "rename it by hand", "no free name was found for %s", p)
}
