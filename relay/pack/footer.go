package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	footerRow     = 40
	footerTrailer = 32
	footerMagic   = "sheafidx"

	// maxPack is the largest pack, and maxRows the most records that fit in one.
	maxPack = 64 << 20
	maxRows = maxPack / recordHeader
)

// errNoFooter: the pack ends in something else than a footer that verifies.
var errNoFooter = errors.New("no footer that verifies")

// footerSize of a pack with that many records.
func footerSize(rows int) int64 { return int64(rows)*footerRow + footerTrailer }

// encodeFooter gives the footer that stands at offset at.
func encodeFooter(id uint32, m marker, at int64, rows []entry) []byte {
	b := make([]byte, 0, footerSize(len(rows)))
	for _, e := range rows {
		b = append(b, e.digest[:]...)
		b = binary.BigEndian.AppendUint32(b, e.offset)
		b = binary.BigEndian.AppendUint32(b, uint32(e.kind)<<24|e.length)
	}
	b = append(b, m[:]...)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(at))
	b = binary.BigEndian.AppendUint32(b, uint32(len(rows)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return append(b, footerMagic...)
}

// readFooter gives the records of a pack of that size, and where the footer
// begins, which is where the last of them ends or later. It allocates no more
// than the file is long. errNoFooter if there is none or it is broken.
func readFooter(f io.ReaderAt, size int64, id uint32, m marker) (rows []entry, at int64, err error) {
	var t [footerTrailer]byte
	if size < packHeader+footerTrailer {
		return nil, 0, errNoFooter
	}
	if err := readFull(f, t[:], size-footerTrailer); err != nil {
		return nil, 0, fmt.Errorf("read the end of a pack: %w", err)
	}
	at = int64(binary.BigEndian.Uint32(t[12:]))
	count := int64(binary.BigEndian.Uint32(t[16:]))
	if marker(t[:8]) != m || binary.BigEndian.Uint32(t[8:]) != id || string(t[24:]) != footerMagic ||
		count > maxRows || at < packHeader || at+count*footerRow+footerTrailer != size {
		return nil, 0, errNoFooter
	}
	b := make([]byte, count*footerRow)
	if err := readFull(f, b, at); err != nil {
		return nil, 0, fmt.Errorf("read the footer of a pack: %w", err)
	}
	sum := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, t[:20])
	if sum != binary.BigEndian.Uint32(t[20:]) {
		return nil, 0, errNoFooter
	}
	rows = make([]entry, count)
	end := int64(packHeader)
	for i := range rows {
		r := b[i*footerRow:]
		word := binary.BigEndian.Uint32(r[36:])
		e := entry{digest: digest(r[:32]), offset: binary.BigEndian.Uint32(r[32:]), kind: kind(word >> 24), length: word & (1<<24 - 1)}
		if !possible(e.kind, e.length) || int64(e.offset) < end || e.end() > at {
			return nil, 0, errNoFooter
		}
		rows[i], end = e, e.end()
	}
	return rows, at, nil
}

// readFull reads all of b or fails.
func readFull(f io.ReaderAt, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
