package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// A relayLink keeps one relay and this device in step, for as long as the account uses
// that relay: it hands in what this device has, and takes in what others have handed in.
type relayLink struct {
	n      *Node
	id     mesh.DeviceID
	wake   chan struct{}               // something may be to be done; holds one
	retry  chan struct{}               // the relay may be there again; holds one
	nudged map[crdt.FolderID]time.Time // of run: when a folder was last told to try again

	mu      sync.Mutex
	open    bool
	welcome deposit.Welcome
	through map[crdt.FolderID]handedIn
	stored  time.Time // when last all that there was had been handed in
	failure error     // why it is not in step; nil while it is, or comes to be
	moved   chan struct{}
	sent    int64 // bytes of blocks, over this link's life
}

// handedIn is how far a folder has been handed in.
type handedIn struct {
	seq     uint64
	have    uint64    // the folder's progress at that time: see replication.Progress
	waiting int       // entries whose content is not here
	at      time.Time // when last all of it had been handed in
}

const (
	relayLook    = 2 * time.Second // between looks for what others have handed in
	relayRetry   = 3 * time.Second // after something went wrong
	relayRetryTo = time.Minute     // at the longest
	followEvery  = time.Minute     // between looks at other devices' backups
)

// runRelays keeps a link to each relay that the account uses.
func (n *Node) runRelays(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { n.watchRelays(ctx) })
	ends := make(map[mesh.DeviceID]context.CancelFunc)
	for ctx.Err() == nil {
		f := n.relaysFolder
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		list, err := n.noteRelays()
		if err != nil {
			return err
		}
		wanted := make(map[mesh.DeviceID]bool)
		for _, r := range list {
			wanted[r.id] = true
			if ends[r.id] != nil {
				continue
			}
			linkCtx, end := context.WithCancel(ctx)
			l := &relayLink{n: n, id: r.id, wake: make(chan struct{}, 1), retry: make(chan struct{}, 1), nudged: make(map[crdt.FolderID]time.Time), through: make(map[crdt.FolderID]handedIn), moved: make(chan struct{})}
			n.mu.Lock()
			n.links[r.id] = l
			n.mu.Unlock()
			ends[r.id] = end
			running.Go(func() { l.run(linkCtx) })
		}
		for id, end := range ends {
			if !wanted[id] {
				end()
				delete(ends, id)
				n.mu.Lock()
				delete(n.links, id)
				n.mu.Unlock()
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	for _, end := range ends {
		end()
	}
	return nil
}

// watchRelays has links try again when their relay comes, and tells relays at once of new
// statements of the account.
func (n *Node) watchRelays(ctx context.Context) {
	sub := n.mesh.Subscribe()
	defer sub.Close()
	for {
		_, changed := n.account.snapshot()
		select {
		case e, ok := <-sub.C:
			if !ok {
				return
			}
			n.mu.Lock()
			l := n.links[e.Peer]
			n.mu.Unlock()
			if l == nil || !e.Connected {
				continue
			}
			l.again()
		case <-changed:
			n.stir()
		case <-ctx.Done():
			return
		}
	}
}

// relayLinks gives the links there are.
func (n *Node) relayLinks() []*relayLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.links))
}

// stir wakes all links.
func (n *Node) stir() {
	for _, l := range n.relayLinks() {
		l.stir()
	}
}

func (l *relayLink) stir() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// again has a link that waits after a failure try at once.
func (l *relayLink) again() {
	select {
	case l.retry <- struct{}{}:
	default:
	}
}

// change changes what is told of the link.
func (l *relayLink) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.moved)
	l.moved = make(chan struct{})
}

// run serves the link until ctx ends.
func (l *relayLink) run(ctx context.Context) {
	pause := relayRetry
	for ctx.Err() == nil {
		begun := time.Now()
		err := l.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		l.change(func() { l.open, l.failure = false, err })
		l.n.log.Info("relay not in step", "relay", mesh.PeerID(l.id), "err", err)
		if pause = min(2*pause, relayRetryTo); time.Since(begun) > relayRetryTo {
			pause = relayRetry
		}
		if errors.Is(err, mesh.ErrUnreachable) || errors.Is(err, mesh.ErrRefused) {
			pause = relayRetry // the mesh holds back by itself
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.retry:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// serve opens a stream to the relay, and keeps in step over it until it breaks.
func (l *relayLink) serve(ctx context.Context) error {
	c, err := l.n.openArchive(ctx, l.id)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	l.change(func() { l.open, l.welcome, l.failure = true, c.Welcome(), nil })
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watched := make(map[crdt.FolderID]bool)
	followed := make(map[crdt.FolderID]time.Time)
	tick := time.NewTicker(relayLook)
	defer tick.Stop()
	for {
		for _, f := range l.n.deposits() {
			if !watched[f.f.id] {
				watched[f.f.id] = true
				watching.Go(func() { l.watch(ctx, f.f) })
			}
		}
		if err := l.round(ctx, c, followed); err != nil {
			return err
		}
		select {
		case <-l.wake:
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch wakes the link when a folder moves.
func (l *relayLink) watch(ctx context.Context, f *Folder) {
	x := folderIndex{f: f, peer: "relay"}
	for ctx.Err() == nil {
		seq, p := x.Seq(), x.Progress()
		if x.Wait(ctx, seq, p) == nil {
			l.stir()
		}
	}
}

// round does all that there is to do.
func (l *relayLink) round(ctx context.Context, c *deposit.Client, followed map[crdt.FolderID]time.Time) error {
	// Who may be believed, and with which keys, the newest statements say.
	if err := c.Exchange(ctx, relayLog{l.n.account}); err != nil {
		return err
	}
	box, state, err := l.n.account.sealer()
	if err != nil {
		return err
	}
	defer box.Close()
	for _, f := range l.n.followedFolders() {
		every := relayLook / 2
		if f.mirror != nil {
			every = followEvery
		}
		if last, ok := followed[f.id]; ok && time.Since(last) < every {
			continue
		}
		if err := l.read(ctx, c, box, &state, f); err != nil {
			return err
		}
		followed[f.id] = time.Now()
	}
	for _, b := range l.n.ownBackups() {
		err := l.readDeleted(ctx, c, func(after uint64) ([]deposit.Told, uint64, error) {
			return c.Tell(ctx, box, &state, b.f.id, after, false)
		}, b.f)
		if err != nil {
			return err
		}
	}
	u := &deposit.Uploader{
		Client: c, Box: box, Keys: l.n.account.keys, Books: l.n.books,
		Skip: func(id crdt.EntryID, code string) {
			l.n.log.Warn("a relay does not take an entry", "relay", mesh.PeerID(l.id), "entry", id, "code", code)
		},
	}
	all := true
	for _, d := range l.n.deposits() {
		moved, err := l.upload(ctx, u, d)
		if err != nil {
			return err
		}
		all = all && !moved
	}
	if err := c.Renew(ctx); err != nil {
		return err
	}
	l.change(func() {
		l.welcome = c.Welcome()
		l.failure = nil
		if all {
			l.stored = time.Now()
		}
	})
	return nil
}

// upload hands a folder in; moved tells that it has moved meanwhile.
func (l *relayLink) upload(ctx context.Context, u *deposit.Uploader, d deposited) (moved bool, err error) {
	x := folderIndex{f: d.f, peer: "relay"}
	seq, have := x.Seq(), x.Progress().Have
	l.mu.Lock()
	was, known := l.through[d.f.id]
	l.mu.Unlock()
	if known && was.seq >= seq && (was.waiting == 0 || was.have == have) {
		if was.waiting == 0 {
			l.change(func() {
				was.at = time.Now()
				l.through[d.f.id] = was
			})
		}
		return false, nil
	}
	before, _ := u.Sent()
	p, err := u.Upload(ctx, d)
	after, _ := u.Sent()
	if err != nil {
		l.change(func() { l.sent += after - before })
		return false, err
	}
	h := handedIn{seq: p.Seq, have: have, waiting: len(p.Waiting), at: was.at}
	if moved = x.Seq() > p.Seq; !moved && h.waiting == 0 {
		h.at = time.Now()
	}
	l.change(func() {
		l.sent += after - before
		l.through[d.f.id] = h
	})
	return moved, nil
}

// read takes in what others have handed in of a folder.
func (l *relayLink) read(ctx context.Context, c *deposit.Client, box *seal.Box, state *group.State, f *Folder) error {
	source, id := replication.DeviceID(l.id), c.Welcome().Store
	x := folderIndex{f: f, peer: "relay"}
	after, err := x.Cursor(source, id)
	if err != nil {
		return err
	}
	safe := after // up to here all has been taken in
	var orphans []deposit.Told
	for {
		list, next, err := c.Tell(ctx, box, state, f.id, after, false)
		if err != nil {
			return err
		}
		if next == after {
			break
		}
		believed, stop := l.believed(f, list)
		if after = next; stop > 0 {
			after = stop - 1
		}
		orphans = append(orphans, believed...)
		for len(orphans) > 0 || safe < after {
			ready, rest, err := f.withParents(orphans)
			if err != nil {
				return err
			}
			orphans = rest
			if len(orphans) == 0 {
				safe = after
			}
			if err := l.takeIn(ctx, f, source, id, ready, safe); err != nil {
				return err
			}
			if len(ready) == 0 {
				break
			}
		}
		if stop > 0 {
			return nil
		}
	}
	f.followedTo(l.id)
	l.n.metRelay(f, l.id, after > 0)
	l.nudge(f)
	return nil
}

// nudgeEvery is how often a folder that lacks something tries the relays again: a relay
// has a record before it has its blocks, and does not say when those come.
const nudgeEvery = 5 * time.Second

// nudge has a folder that lacks something try once more.
func (l *relayLink) nudge(f *Folder) {
	if f.stored || f.source {
		return
	}
	if behind, _ := f.index.BehindCount(); behind == 0 || time.Since(l.nudged[f.id]) < nudgeEvery {
		return
	}
	l.nudged[f.id] = time.Now()
	f.sources.Add(1)
	f.kick()
}

// believed gives of what a relay told what is to be believed. What is not is reported:
// the relay, or a device that hands in what it may not, is at fault. Where somebody has
// handed in something of whom the statements here do not tell yet, or with a key that has
// not come yet, it stops: stop is that record's number, which is read again the next time;
// 0 if it did not stop.
func (l *relayLink) believed(f *Folder, list []deposit.Told) (out []deposit.Told, stop uint64) {
	for _, t := range list {
		var forged *deposit.ForgedError
		switch {
		case t.Err == nil:
			out = append(out, t)
		case errors.Is(t.Err, seal.ErrUnknown), errors.Is(t.Err, group.ErrNoKey):
			l.n.log.Info("a record at a relay waits for statements", "relay", mesh.PeerID(l.id), "folder", f.name, "err", t.Err)
			return out, t.Number
		case errors.As(t.Err, &forged):
			l.n.relayProblem(l.id, "forged", "the relay gave records that are not right: "+forged.Error(), "its disk may be damaged: run `sheaf-relay check` there; or it is not honest, and another should be used")
		default:
			l.n.log.Warn("a record at a relay is passed over", "relay", mesh.PeerID(l.id), "folder", f.name, "err", t.Err)
		}
	}
	return out, 0
}

// withParents gives those of a list whose parents are all in the index or in the list,
// as many as an index takes at once, and the others.
func (f *Folder) withParents(list []deposit.Told) (ready, rest []deposit.Told, err error) {
	err = f.index.Read(func(r *store.Reader) error {
		in := make(map[crdt.EntryID]int, len(list)) // by ID: where in the list
		for i, t := range list {
			in[t.Entry.ID] = i
		}
		known := func(id crdt.EntryID) (bool, error) {
			if id == crdt.Root {
				return true, nil
			}
			_, ok, err := r.Entry(id)
			return ok, err
		}
		out := make([]bool, len(list)) // cannot be taken in
		for again := true; again; {
			again = false
			for i, t := range list {
				if out[i] {
					continue
				}
				for _, p := range []crdt.EntryID{t.Entry.Place.Parent, t.Entry.Place.From.Parent} {
					if at, ok := in[p]; ok && !out[at] {
						continue
					}
					if ok, err := known(p); err != nil {
						return err
					} else if !ok {
						out[i], again = true, true
					}
				}
			}
		}
		// Parents come before what is in them, so that a part of the list stands by itself.
		placed := make([]bool, len(list))
		var place func(i, depth int)
		place = func(i, depth int) {
			if placed[i] || out[i] || depth > crdt.MaxChain {
				return
			}
			placed[i] = true
			for _, p := range []crdt.EntryID{list[i].Entry.Place.Parent, list[i].Entry.Place.From.Parent} {
				if at, ok := in[p]; ok && at != i {
					place(at, depth+1)
				}
			}
			ready = append(ready, list[i])
		}
		for i := range list {
			place(i, 0)
		}
		for i, t := range list {
			if out[i] {
				rest = append(rest, t)
			}
		}
		return nil
	})
	return ready, rest, err
}

// takeIn joins entries into a folder's index, and notes where their blocks are.
func (l *relayLink) takeIn(ctx context.Context, f *Folder, source replication.DeviceID, id replication.StoreID, list []deposit.Told, safe uint64) error {
	x := folderIndex{f: f, peer: "relay"}
	cursor, err := x.Cursor(source, id)
	if err != nil {
		return err
	}
	for {
		part := list[:min(len(list), crdt.MaxBatch/2)]
		list = list[len(part):]
		b := replication.Batch{Lists: make(map[crdt.ContentHash]chunk.List), Next: cursor}
		if len(list) == 0 {
			b.Next = safe
		}
		refs := make(map[chunk.Hash]seal.Ref)
		for _, t := range part {
			b.Entries = append(b.Entries, t.Entry)
			if v := t.Entry.Shown(); v != nil && len(t.List) > 1 {
				b.Lists[v.Content] = t.List
			}
			for i, block := range t.Blocks {
				refs[block.Hash] = t.Refs[i]
			}
		}
		if err := l.n.books.PutRefs(refs); err != nil {
			return err
		}
		if err := errors.Join(l.n.noteDeleted(f, part), l.n.noteUploads(f, part)); err != nil {
			return err
		}
		err := x.Apply(ctx, source, id, b)
		var bad *crdt.BatchError
		if errors.As(err, &bad) {
			// One member's mistake or malice does not keep the others' work out.
			l.n.relayProblem(l.id, "bad entry", "a device has handed in what it must not: "+bad.Error(), "update Sheaf on all your devices")
			part = slices.DeleteFunc(slices.Clone(part), func(t deposit.Told) bool { return t.Entry.ID == bad.ID })
			list = slices.Concat(part, list)
			continue
		}
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
	}
}

// describe says how things are with the relay.
func (l *relayLink) describe(out *api.Relay) {
	connected := false
	for _, p := range l.n.mesh.Peers() {
		connected = connected || p.ID == l.id && p.Connected
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out.Connected = connected && l.open
	if !l.stored.IsZero() {
		out.StoredThrough = l.stored.UTC()
	}
	out.QuotaBytes, out.UsedBytes = int64(l.welcome.MostBytes), int64(l.welcome.Bytes) //nolint:gosec // what a disk holds
	if l.failure != nil {
		what, remedy := relayTrouble(l.failure)
		out.Problems = append(out.Problems, api.Problem{What: what, Remedy: remedy})
	}
}

// relayTrouble says in words why a relay is not in step.
func relayTrouble(err error) (what, remedy string) {
	var refused *deposit.RefusedError
	switch {
	case errors.Is(err, deposit.ErrQuota):
		return "the quota on the relay is used up: nothing more is stored there", "ask for more room (`sheaf-relay invite --quota`), or remove backups"
	case errors.Is(err, deposit.ErrRemoved):
		return "the relay sets aside what this device hands in: it was removed from the account", "see `sheaf device list` on another device"
	case errors.As(err, &refused) && refused.Code == wire.CodeNotHosted:
		return "the relay keeps nothing for this account", "add it again with a new code from `sheaf-relay invite`"
	case errors.As(err, &refused) && refused.Code == wire.CodeNotMember:
		return "the relay holds this device for none of the account's", "see `sheaf device list` on another device"
	case errors.As(err, &refused):
		return refused.Error(), "see the relay's log"
	case errors.Is(err, mesh.ErrProtocol), errors.Is(err, mesh.ErrRefused):
		return "the relay does not know this device yet, or keeps nothing for the account", "let a device that was there before connect to it; if it does not help, add it again with a new code"
	case errors.Is(err, mesh.ErrUnreachable):
		return "the relay is not reached", "see that it runs and that its port can be reached from here; it is tried again by itself"
	}
	return "not in step with the relay: " + err.Error(), "it is tried again by itself; see `sheaf doctor`"
}

// relayProblem notes what is wrong with a relay until the node starts again.
func (n *Node) relayProblem(id mesh.DeviceID, key, what, remedy string) {
	n.log.Error("relay", "relay", mesh.PeerID(id), "what", what)
	n.problem("relay/"+mesh.PeerID(id)+"/"+key, what, remedy)
}

// settled tells whether the relay has durably stored all that this device has to hand in,
// and if not, what is lacking.
func (l *relayLink) settled(deposits []deposited) (ok bool, lacking string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open && l.failure != nil {
		what, _ := relayTrouble(l.failure)
		return false, what
	}
	for _, d := range deposits {
		h, known := l.through[d.f.id]
		switch {
		case !known || h.seq < d.f.index.Seq():
			return false, "not all of " + d.f.name + " has been stored"
		case h.waiting > 0:
			return false, "of some files of " + d.f.name + " the content is not on this device"
		}
	}
	return true, ""
}

// awaitRelays waits until each relay has durably stored all that is on this device.
func (n *Node) awaitRelays(ctx context.Context) error {
	links := n.relayLinks()
	if len(links) == 0 {
		return api.Errorf(api.ErrConflict, "add one with `sheaf relay add CODE`", "this account has no relay")
	}
	for _, l := range links {
		l.stir()
		for {
			l.mu.Lock()
			moved := l.moved
			l.mu.Unlock()
			ok, lacking := l.settled(n.deposits())
			if ok {
				break
			}
			select {
			case <-moved:
			case <-ctx.Done():
				name := mesh.PeerID(l.id)
				if s, err := n.relayStatus(l.id); err == nil {
					name = s.Name
				}
				return api.Errorf(api.ErrTimeout, "wait longer (--timeout), or see `sheaf relay list`", "relay %s: %s", name, lacking)
			}
		}
	}
	return nil
}
