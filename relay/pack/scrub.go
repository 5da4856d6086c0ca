package pack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/ipfs/go-cid"
	"golang.org/x/time/rate"
)

// A ScrubReport is what a scrub has come to.
type ScrubReport struct {
	Packs      int       // looked through
	Blocks     int       // read
	Bytes      int64     // of those blocks' records
	Total      int64     // bytes that were live when it began: what a whole round reads
	Broken     []cid.Cid // blocks that did not verify: in quarantine
	Unreadable []cid.Cid // blocks that could not be read: they count as not there
	Footers    []string  // packs whose footer was lost and was written anew
}

// scrubFile holds the number of the pack that was scrubbed last, 4 bytes, and the
// CRC-32C of those; 0 when a round is done. It may be lost.
const scrubFile = "scrub"

// Scrub reads and verifies every live block, at most bytesPerSecond (0: as fast as
// it can), and puts those in quarantine that are broken. It goes on where the last
// one, that was ended by ctx or Close or a crash, left off, to within a pack, and
// returns at the end of the round. progress, if not nil, is called after each pack. One scrub runs at a time.
func (s *Store) Scrub(ctx context.Context, bytesPerSecond int64, progress func(ScrubReport)) (ScrubReport, error) {
	r := ScrubReport{Total: s.Stats().LiveBytes}
	ctx, done, err := s.begin(ctx, s.scrubbing)
	if err != nil {
		return r, err
	}
	defer done()
	limit := rate.NewLimiter(rate.Inf, 0)
	if bytesPerSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(bytesPerSecond), MaxBlock+recordHeader)
	}
	// What comes into packs that are begun meanwhile was verified when it was written.
	last := s.lastID()
	for id := s.next(s.scrubbed()); id != 0 && id <= last; id = s.next(id) {
		if err := s.scrubPack(ctx, id, limit, &r); err != nil && !errors.Is(err, errGone) {
			return r, fmt.Errorf("scrub pack %d: %w", id, err)
		}
		r.Packs++
		if err := s.setScrubbed(id); err != nil {
			s.log.Warn("cannot note how far the scrub has come", "err", err)
		}
		if progress != nil {
			progress(r)
		}
	}
	if err := s.setScrubbed(0); err != nil {
		s.log.Warn("cannot note that the scrub is done", "err", err)
	}
	return r, nil
}

func (s *Store) scrubPack(ctx context.Context, id uint32, limit *rate.Limiter, r *ScrubReport) error {
	if err := s.checkFooter(ctx, id, r); err != nil {
		return err
	}
	rows, _, err := s.rows(id)
	if err != nil {
		return err
	}
	for _, e := range rows {
		at, _, live := s.liveAt(id, e)
		if !live {
			continue
		}
		if err := limit.WaitN(ctx, int(e.size())); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := s.fetch(e.digest, at)
		switch {
		case errors.Is(err, errGone):
			return err // what was in it has been verified while it was moved
		case errors.Is(err, errBroken):
			r.Broken = append(r.Broken, e.digest.cid())
			_ = s.quarantine(ctx, e.digest, at, data) // says what it found, which is in r
		case err != nil:
			s.log.Error("a block cannot be read", "err", err)
			r.Unreadable = append(r.Unreadable, e.digest.cid())
		default:
			s.table.doubt(e.digest, at, false)
		}
		r.Blocks++
		r.Bytes += e.size()
	}
	return nil
}

// checkFooter writes the footer of a closed pack anew if it is lost.
func (s *Store) checkFooter(ctx context.Context, id uint32, r *ScrubReport) error {
	s.mu.RLock()
	active := s.active != nil && s.active.id == id
	s.mu.RUnlock()
	if active {
		return nil
	}
	err := s.readPack(id, func(p *pack, f file) error {
		size, err := f.Size()
		if err != nil {
			return err
		}
		_, _, err = readFooter(f, size, p.id, p.marker)
		return err
	})
	if err == nil || errors.Is(err, errGone) {
		return err
	}
	select {
	case s.compacting <- struct{}{}:
		defer func() { <-s.compacting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	p := s.pack(id)
	if p == nil {
		return errGone
	}
	f, err := s.fs.Edit(p.name())
	if err != nil {
		return err
	}
	err = s.renewFooter(p, f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, errPartial) {
		s.log.Error("a pack has no footer, and parts of it cannot be read", "pack", p.name())
		return nil
	}
	if err == nil {
		s.log.Warn("the footer of a pack was lost and has been written anew", "pack", p.name())
		r.Footers = append(r.Footers, p.name())
	}
	return err
}

// errPartial: a pack gets no footer while there may be records that cannot be read now.
var errPartial = errors.New("parts of the pack cannot be read")

func (s *Store) renewFooter(p *pack, f file) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	found, err := scanPatched(f, size, p.marker)
	if err != nil {
		return err
	}
	if p.partial || found.holes > 0 {
		return errPartial
	}
	renewed := pack{id: p.id, marker: p.marker, end: max(size, packHeader), size: size}
	if err := s.addFooter(&renewed, f, found.rows); err != nil {
		return err
	}
	s.mu.Lock()
	p.end, p.size = renewed.end, renewed.size
	s.mu.Unlock()
	return nil
}

// scrubbed gives the number of the pack that was scrubbed last in this round, 0 for none.
func (s *Store) scrubbed() uint32 {
	f, err := s.fs.Open(scrubFile)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot tell how far the scrub has come; it begins anew", "err", err)
		}
		return 0
	}
	var b [8]byte
	err = readFull(f, b[:], 0)
	_ = f.Close() // only read from
	if err != nil || binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(b[:4], castagnoli) {
		return 0
	}
	return binary.BigEndian.Uint32(b[:4])
}

func (s *Store) setScrubbed(id uint32) error {
	f, err := s.fs.Create(scrubFile)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(nil, id)
	_, err = f.WriteAt(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
