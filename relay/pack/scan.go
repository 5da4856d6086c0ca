package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A stretch of a pack that holds no record that verifies.
type stretch struct{ from, to int64 }

// scanned is what the records of a pack say.
type scanned struct {
	rows   []entry   // that verify, by offset
	broken []stretch // what lies between them
	end    int64     // of the last record that verifies
	holes  int       // parts that the disk did not give, which may be records
}

// A patched file has zeros where the disk gives an error, so that the rest of it can
// be read. It is for one goroutine.
type patched struct {
	io.ReaderAt
	holes int // how often that was so
}

// ReadAt reads by the smallest piece that disks give, where it must.
func (p *patched) ReadAt(b []byte, at int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, at)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	const piece = 4096
	for n = 0; n < len(b); {
		end := min(len(b), n+piece-int((at+int64(n))%piece))
		got, err := p.ReaderAt.ReadAt(b[n:end], at+int64(n))
		if errors.Is(err, io.EOF) {
			return n + got, err
		}
		if err != nil {
			clear(b[n:end])
			p.holes++
		}
		n = end
	}
	return n, nil
}

// scan reads a pack from its records, from behind the header to size. A record
// that does not verify is passed over: the next one is looked for by the marker.
// It fails where reading fails for another reason than the end of the file. It holds one block at a time, and stops taking records at the number that fits in a pack.
func scan(f io.ReaderAt, size int64, m marker) (scanned, error) {
	s := scanned{end: packHeader}
	var header [recordHeader]byte
	var block []byte
	for at := int64(packHeader); at+recordHeader <= size && len(s.rows) < maxRows; {
		if err := readFull(f, header[:], at); err != nil {
			return s, fmt.Errorf("read a record at %d: %w", at, err)
		}
		e, ok := decodeRecord(header[:], m)
		e.offset = uint32(at)
		next := at + 1
		if ok && e.end() <= size {
			if e.kind == kindBlock {
				block = slices.Grow(block[:0], int(e.length))[:e.length]
				if err := readFull(f, block, at+recordHeader); err != nil {
					return s, fmt.Errorf("read a block at %d: %w", at, err)
				}
				ok = e.digest.of(block)
			}
			if ok {
				if at > s.end {
					s.broken = append(s.broken, stretch{s.end, at})
				}
				s.rows = append(s.rows, e)
				s.end = e.end()
				at = s.end
				continue
			}
			next = at + recordHeader
		}
		var err error
		if at, err = findMarker(f, next, size, m); err != nil {
			return s, fmt.Errorf("look for the next record after %d: %w", next, err)
		}
	}
	return s, nil
}

// scanPatched is scan, and passes over what the disk does not give.
func scanPatched(f io.ReaderAt, size int64, m marker) (scanned, error) {
	p := &patched{ReaderAt: f}
	s, err := scan(p, size, m)
	s.holes = p.holes
	return s, err
}

// findMarker gives the first place from at on where the marker stands, or size.
func findMarker(f io.ReaderAt, at, size int64, m marker) (int64, error) {
	const window = 256 << 10
	b := make([]byte, min(window, max(size-at, 0)))
	for at+int64(len(m)) <= size {
		b = b[:min(int64(cap(b)), size-at)]
		if n, err := f.ReadAt(b, at); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if i := bytes.Index(b, m[:]); i >= 0 {
			return at + int64(i), nil
		}
		at += int64(len(b) - len(m) + 1)
	}
	return size, nil
}

// between gives what lies between the records of a pack, up to end.
func between(rows []entry, end int64) []stretch {
	var gaps []stretch
	at := int64(packHeader)
	for _, e := range rows {
		if int64(e.offset) > at {
			gaps = append(gaps, stretch{at, int64(e.offset)})
		}
		at = e.end()
	}
	if end > at {
		gaps = append(gaps, stretch{at, end})
	}
	return gaps
}
