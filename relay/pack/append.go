package pack

import (
	"crypto/rand"
	"fmt"
)

// append writes a record at the end of the log, not synced. ErrNoSpace if there is
// none for it: what there was is as it was. Every other error is the end of writing.
func (s *Store) append(k kind, d digest, data []byte) (*pack, entry, error) {
	e := entry{digest: d, length: uint32(len(data)), kind: k}
	if p := s.active; p != nil && len(p.rows) > 0 && p.end+e.size()+footerSize(len(p.rows)+1) > s.o.PackSize {
		if err := s.seal(); err != nil {
			return nil, entry{}, err
		}
	}
	if err := s.ready(); err != nil {
		return nil, entry{}, err
	}
	p := s.active
	e.offset = uint32(p.end)
	s.buf = appendRecord(s.buf[:0], p.marker, k, d, data)
	s.dirty = true
	if _, err := s.file.WriteAt(s.buf, p.end); err != nil {
		return nil, entry{}, s.undo(fmt.Sprintf("write block %s to %s", d.cid(), p.name()), err)
	}
	s.mu.Lock()
	p.rows = append(p.rows, e)
	p.end = e.end()
	p.size = p.end
	s.mu.Unlock()
	return p, e, nil
}

// undo takes away what was written of a record when the disk is full.
func (s *Store) undo(doing string, err error) error {
	if !isFull(err) {
		return s.fail(doing, err)
	}
	if terr := s.file.Truncate(s.active.end); terr != nil {
		return s.fail(doing, fmt.Errorf("cut what was written of it: %w", terr))
	}
	return fmt.Errorf("%s: %w: %w", doing, ErrNoSpace, err)
}

// ready makes the active pack one that records can be appended to.
func (s *Store) ready() error {
	if s.file != nil {
		return nil
	}
	if p := s.active; p != nil {
		f, err := s.fs.Edit(p.name())
		if err != nil {
			return s.fail("open pack "+p.name(), err)
		}
		// It may have a footer. No sync: until the next one nothing else is promised.
		if err := f.Truncate(p.end); err != nil {
			_ = f.Close()
			return s.fail("cut the footer off "+p.name(), err)
		}
		s.mu.Lock()
		p.size = p.end
		s.mu.Unlock()
		s.file, s.dirty = f, true
		return nil
	}
	s.mu.Lock()
	s.last++
	p := &pack{id: s.last, end: packHeader, size: packHeader}
	s.mu.Unlock()
	_, _ = rand.Read(p.marker[:]) // never fails
	f, err := s.fs.Create(p.name())
	if err == nil {
		if _, err = f.WriteAt(p.header(), 0); err != nil {
			_ = f.Close()
			if rerr := s.fs.Remove(p.name()); rerr != nil {
				err = fmt.Errorf("%w; remove it: %w", err, rerr)
			}
		}
	}
	if isFull(err) {
		return fmt.Errorf("begin pack %s: %w: %w", p.name(), ErrNoSpace, err)
	}
	if err != nil {
		return s.fail("begin pack "+p.name(), err)
	}
	s.file, s.dirty, s.newName = f, true, true
	s.mu.Lock()
	s.active = p
	s.packs[p.id] = p
	s.mu.Unlock()
	return nil
}

// lastID gives the highest number that a pack had while the store was open: no
// number is used twice, since readers may still ask for a pack that has been removed.
func (s *Store) lastID() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.last
}

// sync makes durable what was appended.
func (s *Store) sync() error {
	if s.dirty {
		if err := s.file.Sync(); err != nil {
			return s.fail("sync pack "+s.active.name(), err)
		}
		s.dirty = false
	}
	if s.newName {
		if err := s.fs.SyncDir("."); err != nil {
			return s.fail("sync the directory of packs", err)
		}
		s.newName = false
	}
	return nil
}

// seal closes the active pack: its records become durable, and then it gets its
// footer. The next record begins another.
func (s *Store) seal() error {
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.sync(); err != nil {
		return err
	}
	p, f := s.active, s.file
	s.file = nil
	old, rows := p.size, p.rows
	closed := pack{id: p.id, marker: p.marker, end: p.end, size: p.size}
	err := s.addFooter(&closed, f, rows)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	s.mu.Lock()
	p.rows = nil
	p.size = max(closed.size, old)
	s.active = nil
	s.mu.Unlock()
	if err != nil {
		return s.fail("close pack "+p.name(), err)
	}
	return nil
}

// closeActive closes the active pack if it is one that compaction would take.
func (s *Store) closeActive() error {
	p := s.active
	if p == nil || len(p.rows) == 0 || 2*p.live >= p.end-packHeader {
		return nil
	}
	return s.seal()
}

// finish writes a footer when the store is closed.
func (s *Store) finish() {
	if s.file == nil {
		return
	}
	if s.Err() != nil {
		_ = s.file.Close() // what is there is looked at when it is opened again
		return
	}
	if err := s.seal(); err != nil {
		s.log.Warn("the last pack has no footer; it will be read at the next start", "err", err)
	}
}
