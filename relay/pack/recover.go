package pack

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// A Recovery is what Open found that was not as Close leaves it.
type Recovery struct {
	Packs   int           // that there are
	Took    time.Duration // to open
	Rebuilt []string      // packs whose footer was lost, and which were read from their records
	Cut     int64         // bytes that were cut off the end of the last pack: what was being written
	Damaged []Damage      // what cannot be read. It stays where it is until the pack is compacted
}

// Damage is a part of a pack in which no record verifies. At the end of a pack it may be its footer.
type Damage struct {
	Pack     string
	From, To int64
}

// load reads what there is.
func (s *Store) load(ctx context.Context) error {
	began := time.Now()
	if err := s.fs.MakeDir(quarantineDir); err != nil {
		return fmt.Errorf("make the quarantine: %w", err)
	}
	names, err := s.fs.List(".")
	if err != nil {
		return fmt.Errorf("list the packs: %w", err)
	}
	var packs []*pack
	for _, name := range names {
		p, ok := parseName(name)
		if !ok {
			continue
		}
		if other := s.packs[p.id]; other != nil {
			return fmt.Errorf("there are two packs of one number, %s and %s; move the one away that does not belong here", other.name(), p.name())
		}
		s.packs[p.id] = p
		s.last = max(s.last, p.id)
		packs = append(packs, p)
	}
	slices.SortFunc(packs, func(a, b *pack) int { return int(int64(a.id) - int64(b.id)) })
	for i, p := range packs {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, err := s.loadPack(p, i == len(packs)-1)
		if err != nil {
			return fmt.Errorf("read pack %s: %w", p.name(), err)
		}
		for _, e := range rows {
			s.apply(p, e)
		}
	}
	if err := s.fs.SyncDir("."); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	s.recovery.Packs, s.recovery.Took = len(packs), time.Since(began)
	if r := s.recovery; len(r.Damaged) > 0 {
		s.log.Error("parts of the block store cannot be read; blocks that stood there are gone", "damaged", len(r.Damaged), "first", r.Damaged[0])
	}
	return nil
}

// loadPack gives the records of a pack, mends what a crash left, and makes the last pack the active one if it has room.
func (s *Store) loadPack(p *pack, last bool) (rows []entry, err error) {
	f, err := s.fs.Edit(p.name())
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > math.MaxUint32 {
		return nil, fmt.Errorf("it is %d bytes long, and no pack is", size)
	}
	rows, p.end, err = readFooter(f, size, p.id, p.marker)
	p.size = size
	if err != nil {
		if rows, err = s.mend(p, f, last); err != nil {
			return nil, err
		}
	}
	if last && !p.partial && p.end+footerSize(len(rows)) < s.o.PackSize {
		p.rows = rows
		s.active = p
	}
	return rows, nil
}

// mend reads a pack that has no footer.
func (s *Store) mend(p *pack, f file, last bool) ([]entry, error) {
	headed, err := p.checkHeader(f, p.size)
	if err != nil {
		return nil, err
	}
	found, err := scanPatched(f, p.size, p.marker)
	if err != nil {
		return nil, err
	}
	p.end = found.end
	if !headed && (len(found.rows) > 0 || !last) {
		s.recovery.Damaged = append(s.recovery.Damaged, Damage{p.name(), 0, packHeader})
	}
	for _, b := range found.broken {
		s.recovery.Damaged = append(s.recovery.Damaged, Damage{p.name(), b.from, b.to})
	}
	if found.holes > 0 {
		// It is left as it is: next time the disk may give all of it.
		s.recovery.Damaged = append(s.recovery.Damaged, Damage{p.name(), found.end, p.size})
		s.log.Error("parts of a pack cannot be read, and it has no footer", "pack", p.name(), "parts", found.holes)
		p.partial, p.end = true, max(p.size, packHeader)
		return found.rows, f.Sync()
	}
	if last {
		// A record that was being written, or several of one group.
		s.recovery.Cut += max(p.size-p.end, 0)
		return found.rows, s.rewrite(p, f, headed)
	}
	s.recovery.Rebuilt = append(s.recovery.Rebuilt, p.name())
	s.log.Warn("the footer of a pack was lost; it was read from its records", "pack", p.name(), "records", len(found.rows))
	if p.size > found.end {
		s.recovery.Damaged = append(s.recovery.Damaged, Damage{p.name(), found.end, p.size})
	}
	p.end = max(p.size, packHeader)
	return found.rows, s.addFooter(p, f, found.rows)
}

// rewrite cuts the last pack after its last record and makes sure that what is
// left is durable, by writing it once more: see the package's description.
func (s *Store) rewrite(p *pack, f file, headed bool) error {
	if err := f.Truncate(p.end); err != nil {
		return fmt.Errorf("cut it: %w", err)
	}
	if !headed {
		if _, err := f.WriteAt(p.header(), 0); err != nil {
			return fmt.Errorf("write its header: %w", err)
		}
	}
	b := make([]byte, min(p.end, 1<<20))
	for at := int64(0); at < p.end; at += int64(len(b)) {
		b = b[:min(int64(len(b)), p.end-at)]
		if err := readFull(f, b, at); err != nil {
			return fmt.Errorf("read it: %w", err)
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return fmt.Errorf("write it once more: %w", err)
		}
	}
	p.size = p.end
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync it: %w", err)
	}
	return nil
}

// addFooter writes a new footer behind all that a closed pack has. On a full disk it
// has to do without.
func (s *Store) addFooter(p *pack, f file, rows []entry) error {
	b := encodeFooter(p.id, p.marker, p.end, rows)
	_, err := f.WriteAt(b, p.end)
	if err == nil {
		p.size = p.end + int64(len(b))
		err = f.Sync()
	}
	if isFull(err) {
		s.log.Warn("no space for the footer of a pack; it will be read again at the next start", "pack", p.name())
		p.size = p.end
		err = f.Truncate(p.end)
	}
	if err != nil {
		return fmt.Errorf("write its footer: %w", err)
	}
	return nil
}

// apply takes a record into the table and the counts. Records come in the order of the log.
func (s *Store) apply(p *pack, e entry) {
	if was, _, ok := s.table.get(e.digest); ok {
		if old := s.packs[was.pack]; old != nil {
			old.live -= recordHeader + int64(was.length)
			old.count--
		}
	}
	if e.kind == kindGone {
		p.gone++
		s.table.remove(e.digest)
		return
	}
	p.live += e.size()
	p.count++
	s.table.set(e.digest, place{p.id, e.offset, e.length})
}
