package deposit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sheaf/crdt"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// A Folder is what this device has of a folder that is to be kept at a relay.
type Folder interface {
	ID() crdt.FolderID
	// After gives entries that have changed after a sequence number, each after its
	// ancestors, and the number to go on from; that number alone when there are no more.
	After(seq uint64, most int) (entries []crdt.Entry, next uint64, err error)
	// Entry gives the state of an entry now.
	Entry(id crdt.EntryID) (crdt.Entry, bool, error)
	// ListOf gives the block list of a version; false if it is not known here.
	ListOf(v crdt.Version) (chunk.List, bool, error)
	// ReadBlock appends the bytes of a block to dst. What it gives need not have been
	// verified. replication.ErrNotHere if the block is not on this device.
	ReadBlock(ctx context.Context, b chunk.Block, dst []byte) ([]byte, error)
}

// Books are what an Uploader remembers durably. What is forgotten costs time and no
// more, but for numbers, which are never given out twice.
type Books interface {
	// Progress gives up to which sequence number of the folder all has been handed in
	// to a store, but for some entries, whose content was not here.
	Progress(store replication.StoreID, folder crdt.FolderID) (Progress, error)
	SetProgress(store replication.StoreID, folder crdt.FolderID, p Progress) error
	// Numbers gives the first of n numbers for records of a folder, all above those
	// that were given out before.
	Numbers(folder crdt.FolderID, n uint64) (first uint64, err error)
	// Refs gives where blocks have been sealed, for those that are known.
	Refs(hashes []chunk.Hash) (map[chunk.Hash]seal.Ref, error)
	// PutRefs notes where blocks are; the zero Ref takes back what was noted.
	PutRefs(refs map[chunk.Hash]seal.Ref) error
}

// Progress is how far a folder has been handed in.
type Progress struct {
	Seq     uint64
	Waiting []crdt.EntryID
}

// ErrQuota: the relay takes no more of this group: its quota is used up.
var ErrQuota = errors.New("the relay's quota is used up")

// ErrBehind: the relay does not know the author or the key of a record: it has to be
// told the group's statements first.
var ErrBehind = errors.New("the relay does not know the group's newest statements")

// ErrRemoved: the relay sets this device's records aside: it was removed.
var ErrRemoved = errors.New("this device was removed from the group")

// Bounds of one round of an Uploader.
const (
	storeBytes   = 8 << 20 // of the blocks in one message, or one block
	roundEntries = 512
	maxWaiting   = 100_000 // entries remembered as waiting for their content
)

// An Uploader hands a device's folders in to one relay: the state of each entry as a
// record, and the blocks that the relay lacks for it.
//
// A record refers to blocks by the addresses of what they are when sealed, so a file is
// sealed before its record is made, and once more, where it is too large to be held in
// memory, when the relay has said which of its blocks it lacks. An upload that breaks
// off goes on where it was: what is there is known, and not sent again.
type Uploader struct {
	Client  *Client
	Box     *seal.Box
	Keys    group.Keys
	Books   Books
	Rand    io.Reader // default: the system's
	Workers int       // blocks sealed at once; default 2
	Memory  int64     // bytes of sealed blocks that a round keeps; default 32 MiB. Two rounds are under way at a time
	// Skip is told of a record that the relay refuses for what it is. The default is to
	// pass over it.
	Skip func(id crdt.EntryID, code string)

	sent    atomic.Int64
	records atomic.Int64
}

// Sent gives the bytes of blocks that have been sent, and the records handed in.
func (u *Uploader) Sent() (bytes, records int64) { return u.sent.Load(), u.records.Load() }

// Upload hands in all that has changed since the last time, and gives how far that is.
// What it cannot hand in, since its content is not on this device, is in Waiting and is
// tried again the next time.
//
// Errors: ErrQuota, ErrBehind, ErrRemoved; those of the Client, after which the stream
// has to be opened anew; those of the Folder and the Books.
func (u *Uploader) Upload(ctx context.Context, f Folder) (Progress, error) {
	store := u.Client.Welcome().Store
	p, err := u.Books.Progress(store, f.ID())
	if err != nil {
		return p, fmt.Errorf("upload: %w", err)
	}
	if len(p.Waiting) > 0 {
		var entries []crdt.Entry
		for _, id := range p.Waiting {
			e, ok, err := f.Entry(id)
			if err != nil {
				return p, fmt.Errorf("upload: %w", err)
			}
			if ok {
				entries = append(entries, e)
			}
		}
		waiting, err := u.handIn(ctx, f, entries)
		if err != nil {
			return p, fmt.Errorf("upload: %w", err)
		}
		if len(waiting) != len(p.Waiting) {
			p.Waiting = waiting
			if err := u.Books.SetProgress(store, f.ID(), p); err != nil {
				return p, fmt.Errorf("upload: %w", err)
			}
		}
	}
	return u.uploadFrom(ctx, f, store, p)
}

// A made round is one whose blocks are sealed: it can be handed in.
type made struct {
	round *round // nil: there was nothing in the batch
	last  bool   // of its batch: all up to next has been made then
	next  uint64
	err   error
}

// uploadFrom hands in what has changed after p. While a round is handed in, and the relay
// writes, the next one is read and sealed.
func (u *Uploader) uploadFrom(ctx context.Context, f Folder, store replication.StoreID, p Progress) (Progress, error) {
	ctx, cancel := context.WithCancel(ctx)
	rounds := make(chan made)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(rounds)
		u.make(ctx, f, p.Seq, func(m made) bool {
			select {
			case rounds <- m:
				return m.err == nil
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() { <-done }()
	defer cancel()
	var waiting []crdt.EntryID // of the batch
	for m := range rounds {
		err := m.err
		if err == nil && m.round != nil {
			err = m.round.handIn(ctx)
			waiting = append(waiting, m.round.waiting()...)
		}
		if err != nil {
			return p, fmt.Errorf("upload: %w", err)
		}
		if !m.last {
			continue
		}
		p.Seq, p.Waiting = m.next, merge(p.Waiting, waiting)
		waiting = nil
		if err := u.Books.SetProgress(store, f.ID(), p); err != nil {
			return p, fmt.Errorf("upload: %w", err)
		}
	}
	return p, ctx.Err()
}

// make makes rounds of what has changed after a number, until there is no more, or send
// says that nobody wants them.
func (u *Uploader) make(ctx context.Context, f Folder, seq uint64, send func(made) bool) {
	for {
		entries, next, err := f.After(seq, roundEntries)
		if err != nil {
			send(made{err: err})
			return
		}
		if next == seq {
			return
		}
		if len(entries) == 0 && !send(made{last: true, next: next}) {
			return
		}
		for len(entries) > 0 {
			r := u.newRound(f)
			n, err := r.gather(entries)
			if err == nil {
				err = r.seal(ctx)
			}
			if err != nil {
				send(made{err: err})
				return
			}
			if entries = entries[n:]; !send(made{round: r, last: len(entries) == 0, next: next}) {
				return
			}
		}
		seq = next
	}
}

// merge gives both lists without doubles, bounded: what is left out is handed in when it
// changes next.
func merge(a, b []crdt.EntryID) []crdt.EntryID {
	seen := make(map[crdt.EntryID]bool, len(a)+len(b))
	out := make([]crdt.EntryID, 0, len(a)+len(b))
	for _, list := range [][]crdt.EntryID{a, b} {
		for _, id := range list {
			if !seen[id] && len(out) < maxWaiting {
				seen[id] = true
				out = append(out, id)
			}
		}
	}
	return out
}

// An item is one entry on its way to the relay.
type item struct {
	entry  crdt.Entry
	list   chunk.List    // of its content
	blocks []chunk.Block // pieces of the list, then those of the content
	refs   []seal.Ref
	record *seal.Record
	absent bool // some of it is not here
}

// handIn hands in entries, a bounded amount at a time, and gives those whose content is
// not here.
func (u *Uploader) handIn(ctx context.Context, f Folder, entries []crdt.Entry) (waiting []crdt.EntryID, err error) {
	for len(entries) > 0 {
		r := u.newRound(f)
		n, err := r.gather(entries)
		if err != nil {
			return nil, err
		}
		if err := r.seal(ctx); err != nil {
			return nil, err
		}
		if err := r.handIn(ctx); err != nil {
			return nil, err
		}
		waiting = append(waiting, r.waiting()...)
		entries = entries[n:]
	}
	return waiting, nil
}

// A round is what is handed in at once.
type round struct {
	u      *Uploader
	f      Folder
	items  []*item
	pieces map[chunk.Hash][]byte       // of lists
	known  map[chunk.Hash]seal.Ref     // where blocks are
	gone   map[chunk.Hash]bool         // not here any more
	sealed map[seal.Digest][]byte      // in memory
	held   int                         // bytes in sealed
	pages  map[seal.Digest][]byte      // of references
	where  map[seal.Digest]chunk.Block // which block has been sealed to this
}

func (u *Uploader) newRound(f Folder) *round {
	return &round{
		u: u, f: f, pieces: make(map[chunk.Hash][]byte), known: make(map[chunk.Hash]seal.Ref), gone: make(map[chunk.Hash]bool),
		sealed: make(map[seal.Digest][]byte), pages: make(map[seal.Digest][]byte), where: make(map[seal.Digest]chunk.Block),
	}
}

// waiting gives the entries whose content was not here, or went while it was wanted.
func (r *round) waiting() (ids []crdt.EntryID) {
	for _, i := range r.items {
		gone := func(b chunk.Block) bool { return r.gone[b.Hash] }
		if i.absent || i.entry.IsLive() && slices.ContainsFunc(i.blocks, gone) {
			ids = append(ids, i.entry.ID)
		}
	}
	return ids
}

// gather takes entries until they are as much as a round holds, at least one, and gives
// how many those are.
func (r *round) gather(entries []crdt.Entry) (n int, err error) {
	bytes := int64(0)
	for n < len(entries) && bytes < r.u.memory() {
		i, err := r.itemOf(entries[n])
		if err != nil {
			return 0, err
		}
		n++
		r.items = append(r.items, i)
		var hashes []chunk.Hash
		for _, b := range i.blocks {
			if _, ok := r.known[b.Hash]; !ok {
				hashes = append(hashes, b.Hash)
			}
		}
		known, err := r.u.Books.Refs(hashes)
		if err != nil {
			return 0, err
		}
		for h, ref := range known {
			r.known[h] = ref
		}
		for _, b := range i.blocks {
			if _, ok := r.known[b.Hash]; !ok {
				bytes += int64(b.Size)
			}
		}
	}
	return n, nil
}

// itemOf says what an entry needs.
func (r *round) itemOf(e crdt.Entry) (*item, error) {
	i := &item{entry: e}
	v := e.Shown()
	if v == nil || e.Kind != crdt.File {
		return i, nil
	}
	list, ok, err := r.f.ListOf(*v)
	if err != nil {
		return nil, err
	}
	if !ok {
		i.absent = e.IsLive()
		return i, nil
	}
	pieces, data := chunkPieces(list)
	for n, p := range pieces {
		r.pieces[p.Hash] = data[n]
	}
	i.list, i.blocks = list, append(pieces, list...)
	return i, nil
}

// chunkPieces is seal.Pieces, for a list that a record would hold at all: one of a
// single block says nothing that the entry does not.
func chunkPieces(list chunk.List) (chunk.List, [][]byte) {
	if len(list) < 2 {
		return nil, nil
	}
	return seal.Pieces(list)
}

// handIn hands in the records, and stores the blocks that the relay lacks for them.
func (r *round) handIn(ctx context.Context) error {
	if err := r.offer(ctx); err != nil {
		return err
	}
	return r.store(ctx)
}

// seal finds out where each block is.
func (r *round) seal(ctx context.Context) error {
	var todo []chunk.Block
	asked := make(map[chunk.Hash]bool)
	for _, i := range r.items {
		for _, b := range i.blocks {
			if _, ok := r.known[b.Hash]; ok || asked[b.Hash] || !i.entry.IsLive() {
				continue
			}
			asked[b.Hash] = true
			todo = append(todo, b)
		}
	}
	found := make(map[chunk.Hash]seal.Ref)
	err := r.sealAll(ctx, todo, func(b chunk.Block, data []byte, ref seal.Ref) error {
		found[b.Hash] = ref
		if int64(r.held+len(data)) <= r.u.memory() {
			r.sealed[ref.Digest] = data
			r.held += len(data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.u.Books.PutRefs(found); err != nil {
		return err
	}
	for h, ref := range found {
		r.known[h] = ref
	}
	for _, i := range r.items {
		i.refs = make([]seal.Ref, 0, len(i.blocks))
		for _, b := range i.blocks {
			ref, ok := r.known[b.Hash]
			if !ok {
				i.refs, i.absent = nil, i.entry.IsLive()
				break
			}
			i.refs = append(i.refs, ref)
			r.where[ref.Digest] = b
		}
		if len(i.refs) == 0 && !i.entry.IsLive() {
			i.list = nil // its content was never here, or never sealed
		}
	}
	return nil
}

// offer makes the records and hands them in.
func (r *round) offer(ctx context.Context) error {
	var ready []*item
	for _, i := range r.items {
		if !i.absent {
			ready = append(ready, i)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	number, err := r.u.Books.Numbers(r.f.ID(), uint64(len(ready)))
	if err != nil {
		return err
	}
	for n, i := range ready {
		d := seal.Draft{Folder: r.f.ID(), Number: number + uint64(n), Entry: i.entry, Refs: i.refs} //nolint:gosec // a count
		if len(i.list) > 1 {
			d.List = i.list
		}
		record, pages, err := r.u.Box.SealRecord(r.u.random(), r.u.Keys, d)
		if err != nil {
			return err
		}
		i.record = record
		for p, page := range pages {
			r.pages[record.Pages[p]] = page
		}
	}
	for len(ready) > 0 {
		n, size := 0, 0
		for n < len(ready) && n < wire.MaxOffered {
			if size += len(ready[n].record.Encode()); size > wire.MaxArchiveData {
				break
			}
			n++
		}
		if err := r.offerSome(ctx, ready[:n]); err != nil {
			return err
		}
		ready = ready[n:]
	}
	return nil
}

func (r *round) offerSome(ctx context.Context, items []*item) error {
	records := make([]*seal.Record, len(items))
	for n, i := range items {
		records[n] = i.record
	}
	got, err := r.u.Client.Offer(ctx, records)
	if err != nil {
		return err
	}
	for n, t := range got {
		switch {
		case t.Outcome == Taken || t.Outcome == Known:
			r.u.records.Add(1)
		case t.Outcome == Aside:
			return ErrRemoved
		case t.Code == wire.CodeQuota:
			return ErrQuota
		case t.Code == wire.CodeUnknown:
			return ErrBehind
		default:
			if r.u.Skip != nil {
				r.u.Skip(items[n].entry.ID, t.Code)
			}
			items[n].record = nil
		}
	}
	return nil
}

// store hands in the blocks that the relay lacks for the records of the round.
func (r *round) store(ctx context.Context) error {
	if len(r.pages) > 0 {
		var list []seal.Digest
		for d := range r.pages {
			list = append(list, d)
		}
		if err := r.storeLacking(ctx, list); err != nil {
			return err
		}
	}
	var list []seal.Digest
	asked := make(map[seal.Digest]bool)
	for _, i := range r.items {
		if i.record == nil {
			continue
		}
		for _, ref := range i.refs {
			if !asked[ref.Digest] {
				asked[ref.Digest] = true
				list = append(list, ref.Digest)
			}
		}
	}
	return r.storeLacking(ctx, list)
}

func (r *round) storeLacking(ctx context.Context, list []seal.Digest) error {
	for len(list) > 0 {
		n := min(len(list), wire.MaxStored)
		lacking, err := r.u.Client.Lacking(ctx, list[:n])
		if err != nil {
			return err
		}
		if err := r.bring(ctx, lacking); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// bring stores blocks: from memory, or sealed once more, a message at a time. The next
// message is made while the one before is on its way.
func (r *round) bring(ctx context.Context, lacking []seal.Digest) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type message struct {
		blocks [][]byte
		err    error
	}
	made := make(chan message)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(made)
		err := r.messages(ctx, lacking, func(blocks [][]byte) error {
			select {
			case made <- message{blocks: blocks}:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil {
			select {
			case made <- message{err: err}:
			case <-ctx.Done():
			}
		}
	}()
	defer func() { <-done }()
	defer cancel()
	for m := range made {
		if m.err != nil {
			return m.err
		}
		got, err := r.u.Client.Store(ctx, m.blocks)
		if err != nil {
			return err
		}
		for n, t := range got {
			switch {
			case t.Outcome == Taken:
				r.u.sent.Add(int64(len(m.blocks[n])))
			case t.Code == wire.CodeQuota:
				return ErrQuota
			case t.Code == wire.CodeUnwanted: // somebody else has brought it
			default:
				return fmt.Errorf("store a block: %w", &RefusedError{Code: t.Code, Text: "a block is not taken"})
			}
		}
	}
	return ctx.Err()
}

// messages makes messages of blocks.
func (r *round) messages(ctx context.Context, lacking []seal.Digest, send func([][]byte) error) error {
	var blocks [][]byte
	size := 0
	flush := func() error {
		if len(blocks) == 0 {
			return nil
		}
		err := send(blocks)
		blocks, size = nil, 0
		return err
	}
	add := func(data []byte) error {
		if size > 0 && size+len(data) > storeBytes || len(blocks) == wire.MaxStored {
			if err := flush(); err != nil {
				return err
			}
		}
		blocks, size = append(blocks, data), size+len(data)
		return nil
	}
	var again []chunk.Block
	for _, d := range lacking {
		data := r.sealed[d]
		if data == nil {
			data = r.pages[d]
		}
		if data == nil {
			again = append(again, r.where[d])
			continue
		}
		if err := add(data); err != nil {
			return err
		}
	}
	stale := make(map[chunk.Hash]seal.Ref)
	err := r.sealAll(ctx, again, func(b chunk.Block, data []byte, ref seal.Ref) error {
		if ref.Digest != r.known[b.Hash].Digest {
			// Sealed in another epoch, or by another version of the compressor: what the
			// record names can be made no more, so the record is made anew.
			stale[b.Hash] = seal.Ref{}
			return nil
		}
		return add(data)
	})
	if err != nil {
		return err
	}
	for h := range stale {
		r.gone[h] = true
	}
	if err := r.u.Books.PutRefs(stale); err != nil {
		return err
	}
	return flush()
}

// sealAll reads and seals blocks, several at once, and gives each in order; those that
// are not here it passes over, and marks the items that need them.
func (r *round) sealAll(ctx context.Context, list []chunk.Block, fn func(b chunk.Block, data []byte, ref seal.Ref) error) error {
	workers := r.u.Workers
	if workers < 1 {
		workers = 2
	}
	for len(list) > 0 {
		// A window, so that no more is in memory than that.
		n, size := 0, 0
		for n < len(list) && (n == 0 || size+int(list[n].Size) <= windowBytes) {
			size += int(list[n].Size)
			n++
		}
		results := make([]sealing, n)
		var next atomic.Int64
		var group errgroup.Group
		for range min(workers, n) {
			group.Go(func() error {
				for at := int(next.Add(1)) - 1; at < n; at = int(next.Add(1)) - 1 {
					if err := r.sealOne(ctx, list[at], &results[at]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for at, s := range results {
			if s.absent {
				r.gone[list[at].Hash] = true
				continue
			}
			if err := fn(list[at], s.data, s.ref); err != nil {
				return err
			}
		}
		list = list[n:]
	}
	return nil
}

// windowBytes is how many bytes of blocks are read and sealed before they are passed on.
const windowBytes = 16 << 20

type sealing struct {
	data   []byte
	ref    seal.Ref
	absent bool
}

func (r *round) sealOne(ctx context.Context, b chunk.Block, out *sealing) error {
	plain := r.pieces[b.Hash]
	if plain == nil {
		var err error
		plain, err = r.f.ReadBlock(ctx, b, nil)
		if errors.Is(err, replication.ErrNotHere) {
			out.absent = true
			return nil
		}
		if err != nil {
			return err
		}
	}
	data, ref, err := r.u.Box.SealBlock(nil, plain, b)
	if errors.Is(err, seal.ErrChanged) {
		out.absent = true // the file has changed meanwhile
		return nil
	}
	out.data, out.ref = data, ref
	return err
}

func (u *Uploader) memory() int64 {
	if u.Memory > 0 {
		return u.Memory
	}
	return 32 << 20
}

func (u *Uploader) random() io.Reader {
	if u.Rand != nil {
		return u.Rand
	}
	return rand.Reader
}
