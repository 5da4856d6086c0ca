package pack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
)

// A Report is what Compact did.
type Report struct {
	Packs      int       // removed
	Moved      int       // blocks copied to the end of the log
	Freed      int64     // bytes of the packs removed, less what was written for it
	Broken     []cid.Cid // blocks that did not verify: in quarantine
	Unreadable []cid.Cid // blocks that could not be read: their packs stay
}

// moveBytes is about how much is copied with one sync.
const moveBytes = 8 << 20

// Compact rewrites each pack of which less than half is live, and removes it
// once what was live in it is durable elsewhere. One runs at a time; blocks can be put and read meanwhile.
// It ends with ctx and with Close, and may be killed at any point.
// ErrNoSpace, ErrFailed: see there.
func (s *Store) Compact(ctx context.Context) (Report, error) {
	var r Report
	ctx, done, err := s.begin(ctx, s.compacting)
	if err != nil {
		return r, err
	}
	defer done()
	if _, err := s.submit(ctx, []op{{do: closeIt}}); err != nil {
		return r, fmt.Errorf("compact: %w", err)
	}
	todo, err := s.survey(ctx)
	if err != nil {
		return r, fmt.Errorf("compact: %w", err)
	}
	for _, c := range todo {
		if err := s.compactPack(ctx, c, &r); err != nil {
			return r, fmt.Errorf("compact pack %s: %w", c.pack.name(), err)
		}
	}
	return r, nil
}

// begin waits for a turn at long work, which Close ends.
func (s *Store) begin(ctx context.Context, turn chan struct{}) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ending, cancel)
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		stop()
		cancel()
		if s.ending.Err() != nil {
			return nil, nil, ErrClosed
		}
		return nil, nil, ctx.Err()
	}
	if err := s.enter(); err != nil {
		stop()
		cancel()
		<-turn
		return nil, nil, err
	}
	return ctx, func() { s.leave(); stop(); cancel(); <-turn }, nil
}

// A candidate is a pack that is worth rewriting.
type candidate struct {
	pack *pack
	live int64    // bytes of records that must be written anew
	keep []digest // tombstones among them
}

// survey finds the closed packs of which less than half is needed. A tombstone is needed
// as long as an earlier pack has a record of its block, which would otherwise
// count again.
func (s *Store) survey(ctx context.Context) ([]candidate, error) {
	s.mu.RLock()
	var packs []*pack
	tombstones, partial := 0, false
	for _, p := range s.packs {
		partial = partial || p.partial
		if p != s.active && (p.dead() > 0 || p.count == 0) {
			packs = append(packs, p)
			tombstones += p.gone
		}
	}
	s.mu.RUnlock()
	if partial {
		s.log.Warn("nothing is compacted as long as a pack cannot be read in full")
		return nil, nil
	}
	slices.SortFunc(packs, func(a, b *pack) int { return cmp.Compare(a.id, b.id) })
	var todo []candidate
	stale := make(map[[16]byte]bool) // blocks that have a record before this pack that does not count
	for _, p := range packs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := candidate{pack: p}
		if tombstones > 0 {
			rows, _, err := s.rows(p.id)
			if err != nil {
				return nil, err
			}
			for _, e := range rows {
				if e.kind == kindGone && stale[[16]byte(e.digest[:16])] {
					c.keep = append(c.keep, e.digest)
				}
			}
			for _, e := range rows {
				if _, _, live := s.liveAt(p.id, e); e.kind == kindBlock && !live {
					stale[[16]byte(e.digest[:16])] = true
				}
			}
		}
		s.mu.RLock()
		c.live = p.live + int64(len(c.keep))*recordHeader
		all := p.end - packHeader
		s.mu.RUnlock()
		if 2*c.live < all || c.live == 0 {
			todo = append(todo, c)
		}
	}
	// Those that need least first: on a disk that is full they make room for others.
	slices.SortStableFunc(todo, func(a, b candidate) int { return cmp.Compare(a.live, b.live) })
	return todo, nil
}

// compactPack moves what is needed of a pack and removes it.
func (s *Store) compactPack(ctx context.Context, c candidate, r *Report) error {
	p := c.pack
	rows, end, err := s.rows(p.id)
	if err != nil {
		return err
	}
	var ops []op
	var size int
	flush := func() error {
		n, err := s.submit(ctx, ops)
		r.Freed -= n
		ops, size = nil, 0
		return err
	}
	for _, e := range rows {
		if err := ctx.Err(); err != nil {
			return err
		}
		at, _, live := s.liveAt(p.id, e)
		if !live {
			continue
		}
		data, err := s.fetch(e.digest, at)
		if errors.Is(err, errBroken) {
			r.Broken = append(r.Broken, e.digest.cid())
			_ = s.quarantine(ctx, e.digest, at, data) // says what it found, which is in r
			continue
		}
		if err != nil {
			s.log.Error("a block cannot be read; its pack stays", "pack", p.name(), "err", err)
			r.Unreadable = append(r.Unreadable, e.digest.cid())
			continue
		}
		ops = append(ops, op{do: move, digest: e.digest, data: data, from: at})
		r.Moved++
		if size += len(data) + recordHeader; size >= moveBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for _, d := range c.keep {
		ops = append(ops, op{do: keep, digest: d})
	}
	if len(ops) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	for _, gap := range between(rows, end) {
		if err := s.keepGap(p.id, gap); err != nil {
			return err
		}
	}
	return s.removePack(p, r)
}

// removePack removes a pack that nothing live is in, durably: only then may
// tombstones of what was in it be forgotten.
func (s *Store) removePack(p *pack, r *Report) error {
	s.mu.Lock()
	if left := p.count; left > 0 {
		s.mu.Unlock()
		s.log.Warn("a pack stays, since not all of it could be moved", "pack", p.name(), "blocks", left)
		return nil
	}
	delete(s.packs, p.id)
	s.mu.Unlock()
	s.handles.remove(p.id)
	if err := s.fs.Remove(p.name()); err != nil {
		return s.fail("remove pack "+p.name(), err)
	}
	if err := s.fs.SyncDir("."); err != nil {
		return s.fail("sync the directory of packs", err)
	}
	r.Packs++
	r.Freed += p.size
	return nil
}
