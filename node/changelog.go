package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/store"
)

// A changeLog remembers change-sets: what one device did in one go, as this
// device took it in. It informs; nothing is decided by it. It is kept in memory
// and written every now and then, so that a crash may cost its last seconds.
type changeLog struct {
	db    *store.Store
	space string

	flushing sync.Mutex
	mu       sync.Mutex // never held over a write to the disk
	pending  []api.ChangeSet
	last     int64 // the time of the last key given out, in nanoseconds
}

const (
	setDetail = 100    // changes of a set that are listed
	maxSets   = 10_000 // sets kept
)

// before is what an entry was before a batch was joined.
type before struct {
	known   bool
	visible bool
	path    string
	content crdt.ContentHash
	seen    crdt.VersionVector
}

// A watched batch knows its first entries as they were before.
type watched struct {
	f      *Folder
	before map[crdt.EntryID]before
}

// watchBatch looks at the first entries of a batch before it is joined.
func (f *Folder) watchBatch(r reader, entry func(crdt.EntryID) (crdt.Entry, bool, error), batch []crdt.Entry) (*watched, error) {
	w := &watched{f: f, before: make(map[crdt.EntryID]before)}
	for _, e := range batch[:min(len(batch), setDetail)] {
		old, ok, err := entry(e.ID)
		if err != nil {
			return nil, err
		}
		b := before{known: ok, seen: old.Seen}
		if ok {
			n, _, err := r.Node(e.ID)
			if err != nil {
				return nil, err
			}
			b.visible = n.Visible()
			if v := old.Shown(); v != nil {
				b.content = v.Content
			}
			if b.visible {
				if b.path, err = viewPath(r, e.ID); err != nil {
					return nil, err
				}
			}
		}
		w.before[e.ID] = b
	}
	return w, nil
}

// sets says what the batch changed, by device.
func (w *watched) sets(r reader, entry func(crdt.EntryID) (crdt.Entry, bool, error), applied crdt.Applied, now time.Time) ([]api.ChangeSet, error) {
	byDevice := make(map[string]*api.ChangeSet)
	var order []string
	set := func(device string) *api.ChangeSet {
		s := byDevice[device]
		if s == nil {
			s = &api.ChangeSet{At: now.UTC(), Device: device, Folder: w.f.name}
			byDevice[device] = s
			order = append(order, device)
		}
		return s
	}
	for _, id := range applied.Entries {
		e, ok, err := entry(id)
		if err != nil || !ok {
			return nil, err
		}
		b, detailed := w.before[id]
		s := set(w.f.o.deviceOf(writer(e, b.seen)))
		if !detailed {
			s.More++
			continue
		}
		n, _, err := r.Node(id)
		if err != nil {
			return nil, err
		}
		c := api.Change{Kind: e.Kind.String()}
		v := e.Shown()
		if v != nil {
			c.Size = v.Size
		}
		if n.Visible() {
			if c.Path, err = viewPath(r, id); err != nil {
				return nil, err
			}
			c.Path = w.f.treePath(c.Path)
		}
		switch {
		case !n.Visible() && !b.visible:
			continue
		case !n.Visible():
			c.What, c.Path = api.Deleted, w.f.treePath(b.path)
		case !b.visible:
			c.What = api.Created
		case w.f.treePath(b.path) != c.Path:
			c.What, c.From = api.Moved, w.f.treePath(b.path)
		default:
			c.What = api.Modified
		}
		s.Changes = append(s.Changes, c)
	}
	var sets []api.ChangeSet
	for _, device := range order {
		if s := byDevice[device]; len(s.Changes) > 0 || s.More > 0 {
			sets = append(sets, *s)
		}
	}
	return sets, nil
}

// writer gives the replica that wrote what is new in an entry's state.
func writer(e crdt.Entry, seen crdt.VersionVector) crdt.ReplicaID {
	for _, d := range e.Seen {
		if !seen.Covers(d) {
			return d.Replica
		}
	}
	return e.Place.Stamp.Replica
}

// add remembers sets.
func (l *changeLog) add(sets []api.ChangeSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sets {
		key := max(s.At.UnixNano(), l.last+1)
		l.last = key
		s.ID = fmt.Sprintf("%016x", key)
		l.pending = append(l.pending, s)
	}
}

// flush writes what has not been written, and lets go of the oldest.
func (l *changeLog) flush() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	pending := l.pending
	l.mu.Unlock()
	for _, s := range pending {
		data, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if err := l.db.Put(l.space, s.ID, data); err != nil {
			return fmt.Errorf("write the log: %w", err)
		}
		l.mu.Lock()
		l.pending = l.pending[1:] // only this takes from it
		l.mu.Unlock()
	}
	var keys []string
	if err := l.db.Each(l.space, func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	}); err != nil {
		return err
	}
	slices.Sort(keys)
	for len(keys) > maxSets {
		if err := l.db.Delete(l.space, keys[0]); err != nil {
			return err
		}
		keys = keys[1:]
	}
	return nil
}

// list gives the newest sets first that touch treePath or what lies below it.
func (l *changeLog) list(treePath string, limit int) ([]api.ChangeSet, error) {
	l.mu.Lock()
	sets := slices.Clone(l.pending)
	l.mu.Unlock()
	err := l.db.Each(l.space, func(_ string, value []byte) error {
		var s api.ChangeSet
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		sets = append(sets, s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(sets, func(a, b api.ChangeSet) int { return cmp.Compare(b.ID, a.ID) })
	sets = slices.CompactFunc(sets, func(a, b api.ChangeSet) bool { return a.ID == b.ID })
	var out []api.ChangeSet
	for _, s := range sets {
		if len(out) == limit {
			break
		}
		if treePath != "" {
			s.Changes = slices.DeleteFunc(slices.Clone(s.Changes), func(c api.Change) bool {
				return !below(c.Path, treePath) && !below(c.From, treePath)
			})
			s.More = 0
			if len(s.Changes) == 0 {
				continue
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// below tells whether p is top or lies under it.
func below(p, top string) bool {
	return p == top || strings.HasPrefix(p, strings.TrimSuffix(top, "/")+"/")
}
