package pack

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

const (
	packHeader  = 32
	packMagic   = "sheafpak"
	packVersion = 1
	packSuffix  = ".pack"
)

// A pack is what the store knows of one pack file. What changes is guarded by Store.mu.
type pack struct {
	id     uint32
	marker marker

	end   int64 // where the last record ends, or the footer begins
	size  int64 // of the file
	live  int64 // bytes of records whose block is live
	count int   // how many those are
	gone  int   // how many tombstones there are
	// partial: its footer is lost, and not all of it could be read. While that is so
	// nothing is compacted: what could not be read may be a block that is live, and
	// a tombstone from before it must not be copied behind it.
	partial bool
	// rows are the records, while the pack is the active one; those of others
	// stand in their footer.
	rows []entry
}

func (p *pack) name() string {
	return fmt.Sprintf("%08x-%x%s", p.id, p.marker, packSuffix)
}

// dead is how many bytes of records nobody needs, tombstones included.
func (p *pack) dead() int64 { return p.end - packHeader - p.live }

// parseName is the inverse of name; false for what is no pack's.
func parseName(name string) (*pack, bool) {
	base, ok := strings.CutSuffix(name, packSuffix)
	number, mark, cut := strings.Cut(base, "-")
	if !ok || !cut || len(number) != 8 || len(mark) != 16 {
		return nil, false
	}
	id, err := strconv.ParseUint(number, 16, 32)
	if err != nil || id == 0 {
		return nil, false
	}
	p := &pack{id: uint32(id), end: packHeader}
	if _, err := hex.Decode(p.marker[:], []byte(mark)); err != nil {
		return nil, false
	}
	return p, p.name() == name
}

// header gives the header of the file.
func (p *pack) header() []byte {
	b := append(make([]byte, 0, packHeader), packMagic...)
	b = binary.BigEndian.AppendUint32(b, packVersion)
	b = binary.BigEndian.AppendUint32(b, p.id)
	b = append(b, p.marker[:]...)
	b = append(b, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// checkHeader tells whether the header says what the name does. A header that
// does not verify is false and no error: the name is enough. A FormatError if the
// pack is of a later version.
func (p *pack) checkHeader(f io.ReaderAt, size int64) (bool, error) {
	if size < packHeader {
		return false, nil
	}
	var b [packHeader]byte
	if err := readFull(&patched{ReaderAt: f}, b[:], 0); err != nil {
		return false, fmt.Errorf("read the header of a pack: %w", err)
	}
	if string(b[:8]) != packMagic || binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return false, nil
	}
	if v := binary.BigEndian.Uint32(b[8:]); v != packVersion {
		return false, &FormatError{Path: p.name(), Found: v, Want: packVersion}
	}
	if id := binary.BigEndian.Uint32(b[12:]); id != p.id || marker(b[16:24]) != p.marker {
		return false, fmt.Errorf("pack %s was renamed: by its header it is %s", p.name(), (&pack{id: id, marker: marker(b[16:24])}).name())
	}
	return true, nil
}

// read gives the records of a pack that is closed, from its footer or, if that
// is lost, from the records.
func (p *pack) read(f file) (rows []entry, end int64, err error) {
	size, err := f.Size()
	if err != nil {
		return nil, 0, err
	}
	rows, end, err = readFooter(f, size, p.id, p.marker)
	if err == nil {
		return rows, end, nil
	}
	s, err := scanPatched(f, size, p.marker)
	if err != nil {
		return nil, 0, err
	}
	return s.rows, size, nil
}
