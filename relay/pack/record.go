package pack

import (
	"encoding/binary"
	"hash/crc32"
)

// marker is what the records of one pack begin with.
type marker [8]byte

type kind uint8

const (
	kindBlock kind = 1
	kindGone  kind = 2 // a tombstone
)

// recordHeader is the size of a record without its block.
const recordHeader = 48

// An entry is what a pack holds, without the bytes: a record, or its row in the footer.
type entry struct {
	digest digest
	offset uint32 // of the record in the pack
	length uint32 // of the block
	kind   kind
}

// size of the record in the pack.
func (e entry) size() int64 { return recordHeader + int64(e.length) }

// end of the record in the pack.
func (e entry) end() int64 { return int64(e.offset) + e.size() }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// possible tells whether a kind and a length can stand together.
func possible(k kind, length uint32) bool {
	return k == kindBlock && length <= MaxBlock || k == kindGone && length == 0
}

// appendRecord appends a record as it stands in a pack.
func appendRecord(b []byte, m marker, k kind, d digest, block []byte) []byte {
	at := len(b)
	b = append(b, m[:]...)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(k)<<24|uint32(len(block)))
	b = append(b, d[:]...)
	binary.BigEndian.PutUint32(b[at+8:], crc32.Checksum(b[at+12:at+recordHeader], castagnoli))
	return append(b, block...)
}

// decodeRecord reads the header of a record, and is false if it is none.
func decodeRecord(b []byte, m marker) (entry, bool) {
	if len(b) < recordHeader || marker(b[:8]) != m ||
		binary.BigEndian.Uint32(b[8:]) != crc32.Checksum(b[12:recordHeader], castagnoli) {
		return entry{}, false
	}
	e := entry{kind: kind(b[12]), length: binary.BigEndian.Uint32(b[12:]) & (1<<24 - 1), digest: digest(b[16:recordHeader])}
	return e, possible(e.kind, e.length)
}
