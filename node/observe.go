package node

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/text/unicode/norm"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/stat"
	"sheaf/node/store"
	"sheaf/replication/chunk"
)

// A deepDir is a directory of a scan that is still to be listed, with all that
// lies below it.
type deepDir struct {
	path  string
	id    crdt.EntryID // valid if known
	known bool
}

// scanState counts full scans. A scan that could not list everything ends as
// well: what it could not list is unknown, never gone.
type scanState struct {
	running bool
	listed  time.Time // when the last directory was listed; zero before
	again   bool      // asked for while one was running
	rounds  uint64
}

// A sighting is one binding with where it stands and, once read, what it holds.
type sighting struct {
	dir  crdt.EntryID
	path string
	plan.Found
	list chunk.List
	deep bool
}

type hashResult struct {
	path   string
	done   time.Time // zero while it runs
	stat   stat.Stat // as hashed
	hashed disk.Hashed
	err    error
}

const (
	observeFiles = 512       // files recorded in one go
	largeFile    = 32 << 20  // bytes from which hashing runs beside the control goroutine
	observeBytes = 128 << 20 // bytes hashed in one go
)

// startScan begins a full scan, or has one follow the one that runs.
func (f *Folder) startScan() {
	if f.scan.running {
		f.scan.again = true
		return
	}
	f.scan.running = true
	f.stack = append(f.stack, deepDir{path: ".", id: crdt.Root, known: true})
}

// observe looks at some of what is to be looked at, and records what people
// did there. It tells whether more is due at once.
func (f *Folder) observe(w *work) (more bool, err error) {
	if len(f.stack) == 0 && len(f.backlog) == 0 && f.scan.running && f.scan.listed.IsZero() {
		f.scan.listed = time.Now()
	}
	if len(f.stack) == 0 && len(f.backlog) == 0 && f.scan.running && f.seenAll() {
		f.scan.running, f.scan.listed = false, time.Time{}
		f.scan.rounds++
		f.scans++
		if err := f.rebuilt(); err != nil {
			return false, err
		}
		if f.scan.again {
			f.scan.again = false
			f.startScan()
		}
	}
	if len(f.backlog) == 0 {
		if more, err = f.sight(w); err != nil || !more {
			return more, err
		}
	}
	n, bytes := 0, int64(0)
	for n < len(f.backlog) && n < observeFiles && bytes < observeBytes {
		if size := f.backlog[n].Item.Stat.Size; size < f.o.large {
			bytes += size
		}
		n++
	}
	seen := f.backlog[:n]
	f.backlog = f.backlog[n:]
	if len(f.backlog) == 0 {
		f.backlog = nil
	}
	if seen, err = f.read(w, seen); err != nil {
		return false, err
	}
	if err := f.disk.Check(); err != nil {
		return false, err
	}
	return true, f.record(w.ctx, seen)
}

// scanPatience is how long a scan waits for files that are being written.
const scanPatience = 10 * time.Second

// seenAll tells whether what a scan has listed has also been read. A file that
// was on this disk before it is known must not be fetched as if it were not.
func (f *Folder) seenAll() bool {
	if f.readingNow() {
		return false
	}
	for _, h := range f.hashing {
		if time.Since(h.done) < hashedKept {
			return false // it is read, and still to be recorded
		}
	}
	return f.dirty.empty() || time.Since(f.scan.listed) > scanPatience
}

// sight fills the backlog with what is seen in the directories that are due.
func (f *Folder) sight(w *work) (more bool, err error) {
	due := f.dirty.take(time.Now(), 64)
	if len(due) == 0 && len(f.stack) == 0 {
		return false, nil
	}
	// The folder's marker must be right before and after each look: what is
	// listed of another disk, or of none, is not this folder's.
	if err := f.disk.Check(); err != nil {
		return false, err
	}
	if err := f.heedRules(w.ctx); err != nil {
		return false, err
	}
	err = f.index.Read(func(r *store.Reader) error {
		paths := newDiskPaths(r)
		for _, l := range due {
			s, err := f.look(w.ctx, r, paths, l, nil)
			if err != nil {
				return err
			}
			f.backlog = append(f.backlog, s...)
		}
		for len(f.stack) > 0 && len(f.backlog) < observeFiles {
			d := f.stack[len(f.stack)-1]
			f.stack = f.stack[:len(f.stack)-1]
			s, err := f.look(w.ctx, r, paths, look{dir: d.path, whole: true, deep: true}, &d)
			if err != nil {
				return err
			}
			f.backlog = append(f.backlog, s...)
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return true, f.disk.Check()
}

// look lists one directory, or some names in it, and binds what it sees.
func (f *Folder) look(ctx context.Context, r *store.Reader, paths *diskPaths, l look, d *deepDir) ([]sighting, error) {
	var id crdt.EntryID
	var err error
	ok := d != nil && d.known
	if ok {
		id = d.id
	} else if id, ok, err = paths.find(l.dir); err != nil {
		return nil, err
	}
	if !ok || id.Kind() != crdt.Directory {
		// A directory that is not yet recorded: looking at its name in its own
		// parent records it and lists it whole.
		if l.dir != "." {
			f.dirty.addPath(l.dir, time.Time{})
		}
		return nil, nil
	}
	if err := f.written(r, id, &l); err != nil {
		return nil, err
	}
	var listing disk.Listing
	if l.whole {
		f.watch(l.dir)
		listing, err = f.disk.List(ctx, l.dir)
	} else {
		listing, err = f.disk.Look(ctx, l.dir, l.names)
	}
	var root *disk.RootError
	switch {
	case err == nil:
	case errors.As(err, &root), ctx.Err() != nil, l.dir == ".":
		return nil, err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, disk.ErrNotDirectory):
		// It is no longer a directory: looking at its name says what it is.
		f.dirty.addPath(l.dir, time.Time{})
		return nil, nil
	default:
		// What cannot be listed is unknown, and nothing in it is gone.
		f.problem(l.dir, unreadableDir+", so nothing in it is sent or changed: "+err.Error(), "allow your user to read it (chmod u+rx), or check the disk")
		return nil, nil
	}
	if id != crdt.Root {
		// Another directory may have its name by now, whose content would be taken
		// for its own. Its name is looked at first, and then it again.
		b, _, err := r.Base(id)
		if err != nil {
			return nil, err
		}
		if b.Stat.Inode != listing.Dir.Inode {
			f.dirty.addPath(l.dir, time.Time{})
			if l.whole {
				f.dirty.addDir(l.dir, l.deep, time.Now().Add(2*settleDelay))
			}
			return nil, nil
		}
	}
	f.readable(r, l.dir, id)
	s := plan.Sighting{Dir: id, Complete: l.whole, Blocked: make(map[string]string)}
	for _, skip := range listing.Skipped {
		s.Blocked[skip.Name] = skip.Reason
		if f.disk.Rewrites() {
			s.Blocked[crdt.NameKey(skip.Name)] = skip.Reason
		}
		f.skipped(path.Join(l.dir, skip.Name), skip)
	}
	f.unskip(l, s.Blocked)
	for _, item := range listing.Items {
		s.Items = append(s.Items, plan.Item{Name: item.Name, Stat: item.Stat})
	}
	if l.whole {
		// Of what has not changed, no more is needed than this.
		children, err := r.BaseStats(id)
		if err != nil {
			return nil, err
		}
		for _, b := range children {
			s.Known = append(s.Known, plan.Known{ID: b.ID, At: crdt.Location{Parent: id, Name: b.Name}, Kind: b.ID.Kind(), Stat: b.Stat})
		}
		f.writtenItems(s)
	} else {
		for _, name := range l.names {
			child, ok, err := r.BaseAt(id, name)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			b, ok, err := r.Base(child)
			if err != nil {
				return nil, err
			}
			if ok && b.Here {
				s.Known = append(s.Known, knownOf(b))
			}
		}
	}
	bindings := plan.Bind(s, func(item plan.Item) (plan.Known, bool) { return f.elsewhere(ctx, r, paths, item) })
	out := make([]sighting, 0, len(bindings))
	for _, b := range bindings {
		p := path.Join(l.dir, b.Name)
		if b.Is == plan.Unchanged {
			f.found(b.Known.ID)
			if l.deep && b.Item.Stat.Kind == stat.Directory {
				f.stack = append(f.stack, deepDir{path: p, id: b.Known.ID, known: true})
			}
			continue
		}
		if b.Unsure {
			f.dirty.addDir(l.dir, false, time.Time{})
			continue
		}
		if b.Is == plan.Gone {
			if _, pending := f.gone[b.Known.ID]; pending {
				continue
			}
		}
		for _, k := range []**plan.Known{&b.Known, &b.Over} {
			if *k == nil {
				continue
			}
			whole, ok, err := r.Base((*k).ID)
			if err != nil {
				return nil, err
			}
			if ok {
				full := knownOf(whole)
				*k = &full
			}
		}
		out = append(out, sighting{dir: id, path: p, Found: plan.Found{Binding: b}, deep: l.deep})
	}
	f.unclaimed(l, listing)
	return out, nil
}

// unclaimed forgets the hashes of files that were looked for and are not there: they were
// renamed or removed while they were read. A scan would wait for them to be recorded. (Of
// what is there it is not said here whether it is to be read: that may be found out by a
// second look, which then needs the hash.)
func (f *Folder) unclaimed(l look, listing disk.Listing) {
	if len(f.hashing) == 0 {
		return
	}
	for _, name := range l.names {
		p := path.Join(l.dir, name)
		if h, ok := f.hashing[p]; !ok || h.done.IsZero() {
			continue
		}
		if !slices.ContainsFunc(listing.Items, func(e disk.Item) bool { return e.Name == name && e.Stat.Kind != stat.None }) {
			delete(f.hashing, p)
		}
	}
}

// hashesDue gives when the next hash that nobody came for is to be forgotten.
func (f *Folder) hashesDue() (due time.Time, any bool) {
	for _, h := range f.hashing {
		if t := h.done.Add(hashedKept); !h.done.IsZero() && (!any || t.Before(due)) {
			due, any = t, true
		}
	}
	return due, any
}

// written gives the names to look at as they were written, where the disk tells of them
// in a Unicode form of its own: as the base has them, or else in form C.
func (f *Folder) written(r *store.Reader, dir crdt.EntryID, l *look) error {
	if l.whole || !f.disk.Rewrites() {
		return nil
	}
	names := make([]string, 0, len(l.names))
	for _, name := range l.names {
		as := crdt.NameKey(name)
		for _, form := range []string{name, as, norm.NFD.String(name)} {
			if _, ok, err := r.BaseAt(dir, form); err != nil {
				return err
			} else if ok {
				as = form
				break
			}
		}
		names = append(names, as)
	}
	l.names = names
	return nil
}

// writtenItems is written for the items of a whole directory.
func (f *Folder) writtenItems(s plan.Sighting) {
	if !f.disk.Rewrites() {
		return
	}
	known := make(map[string]string, len(s.Known))
	for _, k := range s.Known {
		known[crdt.NameKey(k.At.Name)] = k.At.Name
	}
	for i := range s.Items {
		key := crdt.NameKey(s.Items[i].Name)
		if s.Items[i].Name = key; known[key] != "" {
			s.Items[i].Name = known[key]
		}
	}
}

// unskip forgets what could not sync and is no longer there.
func (f *Folder) unskip(l look, blocked map[string]string) {
	names := l.names
	if l.whole {
		names = nil
		for p := range f.skips {
			if path.Dir(p) == l.dir {
				names = append(names, path.Base(p))
			}
		}
	}
	for _, name := range names {
		p := path.Join(l.dir, name)
		if _, still := blocked[name]; !still && f.skips[p] {
			delete(f.skips, p)
			f.solved(p)
		}
	}
}

// heedRules takes in a change of the ignore file, before anything else that is
// seen with it. Everything is then looked at: what was ignored may no longer be.
func (f *Folder) heedRules(ctx context.Context) error {
	l, err := f.disk.Look(ctx, ".", []string{disk.IgnoreFile})
	if err != nil {
		return err
	}
	var now stat.Stat
	for _, item := range l.Items {
		now = item.Stat
	}
	if f.heeded && now == f.rules {
		return nil
	}
	again := f.heeded // the first time they have just been read
	f.rules, f.heeded = now, true
	if err := f.disk.Reload(); err != nil {
		f.problem(disk.IgnoreFile, "the ignore rules cannot be read; those before stay in force: "+err.Error(), "see the file "+disk.IgnoreFile)
		return ctx.Err()
	}
	f.solved(disk.IgnoreFile)
	for _, p := range f.disk.IgnoreProblems() {
		f.problem(disk.IgnoreFile, "an ignore rule is not understood and left out: "+p, "correct it in "+disk.IgnoreFile)
	}
	if again {
		f.startScan()
	}
	return nil
}

// elsewhere finds the entry that a newly seen file was before it was renamed:
// the base row of the same file, if that file's old name no longer holds it.
func (f *Folder) elsewhere(ctx context.Context, r *store.Reader, paths *diskPaths, item plan.Item) (plan.Known, bool) {
	b, ok, err := r.BaseFile(item.Stat)
	if err != nil || !ok || !b.Here || !b.Stat.SameFile(item.Stat) {
		return plan.Known{}, false
	}
	old, err := paths.of(b.ID)
	if err != nil {
		return plan.Known{}, false
	}
	l, err := f.disk.Look(ctx, path.Dir(old), []string{path.Base(old)})
	// Where its directory was there may be a file now, or another disk that hides it. But
	// a file of one name is not at two places.
	left := errors.Is(err, fs.ErrNotExist) || errors.Is(err, disk.ErrNotDirectory) && item.Stat.Links == 1
	if err != nil && !left || len(l.Skipped) > 0 {
		return plan.Known{}, false // unknown is not gone
	}
	var atOld stat.Stat
	for _, i := range l.Items {
		atOld = i.Stat
	}
	others, ok, err := r.BaseFile(atOld)
	if err != nil {
		return plan.Known{}, false
	}
	k := knownOf(b)
	return k, plan.MovedAway(k, atOld, ok && others.ID != b.ID && others.Stat.SameFile(atOld))
}

// knownOf is a base row as the deciders see it.
func knownOf(b store.Base) plan.Known {
	k := plan.Known{ID: b.ID, At: b.At, Place: b.Entry.Place.Location, Kind: b.Entry.Kind, Stat: b.Stat, Mode: b.Entry.Mode(), MTime: b.Entry.MTime()}
	if v := b.Entry.Shown(); v != nil {
		k.Content = v.Content
	}
	return k
}

// read hashes what must be read, on all cores. What is not finished changing
// is put back; large files are handed to a worker and come again.
func (f *Folder) read(w *work, seen []sighting) ([]sighting, error) {
	group, ctx := errgroup.WithContext(w.ctx)
	group.SetLimit(f.o.hashers)
	results := make([]hashResult, len(seen))
	wanted := make([]bool, len(seen))
	for i := range seen {
		s := &seen[i]
		st := s.Item.Stat
		if s.Is == plan.Gone || st.Kind == stat.Directory || s.Is == plan.Moved {
			continue
		}
		wanted[i] = true
		if due, early := f.early(st); early {
			results[i].err = disk.ErrChanging
			f.dirty.addPath(s.path, due)
			continue
		}
		if h, ok := f.hashing[s.path]; ok {
			switch {
			case h.done.IsZero(): // still being read
				results[i].err = errReading
				continue
			case h.err == nil && h.stat == st:
				delete(f.hashing, s.path)
				results[i] = h
				continue
			}
			delete(f.hashing, s.path)
			if h.err != nil {
				results[i] = h
				continue
			}
		}
		if st.Size >= f.o.large {
			f.hashLater(w, s.path, st)
			results[i].err = errReading
			continue
		}
		group.Go(func() error {
			results[i] = f.hash(ctx, s.path, st)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := seen[:0]
	for i := range seen {
		s := seen[i]
		r := results[i]
		if delete(f.unread, s.path); r.err != nil && s.Is == plan.MovedSuspect {
			f.unread[s.path] = s.Known.ID
		}
		switch {
		case !wanted[i]:
			s.Mode = s.Item.Stat.Mode
		case r.err == nil:
			f.solved(s.path)
			s.Item.Stat, s.list = r.hashed.Stat, r.hashed.List
			s.Mode = r.hashed.Stat.Mode
			s.Content = crdt.Content{
				Hash: crdt.ContentHash(r.hashed.Content), Size: r.hashed.Size,
				Blocks: uint32(len(r.hashed.List)), MTime: r.hashed.Stat.Modified, Target: r.hashed.Target,
			}
			if s.Item.Stat.Kind == stat.Symlink {
				s.Content.Blocks = 0
			}
			s.Torn = f.torn(s)
		case errors.Is(r.err, errReading):
			continue
		case errors.Is(r.err, disk.ErrChanging):
			if _, early := f.early(s.Item.Stat); !early {
				f.dirty.addPath(s.path, time.Now().Add(2*settleDelay))
			}
			continue
		case errors.Is(r.err, fs.ErrNotExist):
			f.dirty.addPath(s.path, time.Time{})
			continue
		default:
			f.problem(s.path, "this file cannot be read, so it is neither sent nor changed: "+r.err.Error(), "allow your user to read it, or check the disk")
			continue
		}
		out = append(out, s)
	}
	return out, nil
}

// hashedKept is how long the hash of a large file waits to be recorded. It is
// looked at as soon as it is there, so what waits longer is not wanted any more.
const hashedKept = 10 * time.Second

// forgetHashes drops hashes that nobody came for.
func (f *Folder) forgetHashes() {
	now := time.Now()
	for p, h := range f.hashing {
		if !h.done.IsZero() && now.Sub(h.done) >= hashedKept {
			delete(f.hashing, p)
		}
	}
}

// readingNow tells whether a large file is being hashed.
func (f *Folder) readingNow() bool {
	for _, h := range f.hashing {
		if h.done.IsZero() {
			return true
		}
	}
	return false
}

// errReading says that a file is being hashed and will be seen again.
var errReading = errors.New("still being read")

// early tells whether a file was changed so recently that it may not be
// finished, or that a change after reading could leave the same times, and when
// to look again.
func (f *Folder) early(st stat.Stat) (due time.Time, early bool) {
	last := st.Changed
	if last == 0 {
		last = st.Modified
	}
	age := f.o.clock().Sub(time.Unix(0, last))
	if age < 0 || age >= settleDelay {
		return time.Time{}, false
	}
	return time.Now().Add(settleDelay - age), true
}

func (f *Folder) hash(ctx context.Context, p string, expect stat.Stat) hashResult {
	h, err := f.disk.Hash(ctx, p, expect, f.o.chunker)
	return hashResult{path: p, stat: expect, hashed: h, err: err}
}

// hashLater hashes a large file beside the control goroutine.
func (f *Folder) hashLater(w *work, p string, expect stat.Stat) {
	f.hashing[p] = hashResult{path: p}
	d := f.disk
	w.group.Go(func() error {
		f.pace(w.ctx, p)
		h, err := d.Hash(w.ctx, p, expect, f.o.chunker)
		f.pace(w.ctx, p)
		select {
		case f.hashed <- hashResult{path: p, stat: expect, hashed: h, err: err}:
		case <-w.ctx.Done():
		}
		return nil
	})
}
