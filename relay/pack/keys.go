package pack

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ipfs/go-cid"
)

// AllKeysChan gives the CIDs of all blocks; see AllKeysChanWithErr.
func (s *Store) AllKeysChan(ctx context.Context) (<-chan cid.Cid, error) {
	keys, _, err := s.AllKeysChanWithErr(ctx)
	return keys, err
}

// AllKeysChanWithErr gives the CIDs of all blocks, those that are there all the
// while for certain, and what kept it from giving all, once the channel is closed. It ends with ctx and
// with Close. The channel must be read to its end, or ctx ended.
func (s *Store) AllKeysChanWithErr(ctx context.Context) (<-chan cid.Cid, func() error, error) {
	if err := s.enter(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ending, cancel)
	keys := make(chan cid.Cid, 64)
	done := make(chan struct{})
	var failed error
	go func() {
		defer s.leave()
		defer cancel()
		defer stop()
		defer close(done)
		defer close(keys)
		failed = s.eachKey(ctx, keys)
	}()
	return keys, func() error { <-done; return failed }, nil
}

// eachKey goes through the packs by number. A block that compaction moves
// goes to a pack of a higher number, and is met there.
func (s *Store) eachKey(ctx context.Context, keys chan<- cid.Cid) error {
	for id := s.next(0); id != 0; id = s.next(id) {
		rows, _, err := s.rows(id)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range rows {
			if _, doubted, ok := s.liveAt(id, e); !ok || doubted {
				continue
			}
			select {
			case keys <- e.digest.cid():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// next gives the number of the next pack, 0 if there is none.
func (s *Store) next(after uint32) uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	next := uint32(math.MaxUint32)
	for id := range s.packs {
		if id > after && id < next {
			next = id
		}
	}
	if next == math.MaxUint32 {
		return 0
	}
	return next
}

// rows gives the records of a pack, and where they end; errGone if it has been removed.
func (s *Store) rows(id uint32) (rows []entry, end int64, err error) {
	s.mu.RLock()
	if p := s.active; p != nil && p.id == id {
		defer s.mu.RUnlock()
		return p.rows, p.end, nil
	}
	s.mu.RUnlock()
	err = s.readPack(id, func(p *pack, f file) error {
		if rows, end, err = p.read(f); err != nil {
			return fmt.Errorf("read what is in pack %s: %w", p.name(), err)
		}
		return nil
	})
	return rows, end, err
}

// liveAt tells whether the record is the one that counts for its block, and where that is.
func (s *Store) liveAt(id uint32, e entry) (at place, doubted, ok bool) {
	at, doubted, ok = s.table.get(e.digest)
	return at, doubted, ok && e.kind == kindBlock && at.pack == id && at.offset == e.offset
}
