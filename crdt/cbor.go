package crdt

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// The few forms of CBOR (RFC 8949) that an entry is written in. Written by hand,
// since it runs for each of a million entries and must not allocate; the tests
// hold it against a full codec.

// Major types.
const (
	cborUint   = 0 << 5
	cborNegint = 1 << 5
	cborBytes  = 2 << 5
	cborText   = 3 << 5
	cborArray  = 4 << 5
	cborNull   = 0xf6
)

func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func appendUint(dst []byte, n uint64) []byte { return appendHead(dst, cborUint, n) }

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, cborNegint, uint64(^n))
	}
	return appendHead(dst, cborUint, uint64(n))
}

func appendArray(dst []byte, n int) []byte { return appendHead(dst, cborArray, uint64(n)) }

func appendBytes(dst, b []byte) []byte {
	return append(appendHead(dst, cborBytes, uint64(len(b))), b...)
}

func appendText(dst []byte, s string) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

// A DecodeError tells why bytes are not an encoded entry.
type DecodeError struct {
	Offset int // where it was noticed
	Reason string
}

// Error gives the offset and the reason.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode entry: byte %d: %s", e.Offset, e.Reason)
}

// cborReader takes values from the front of data. After the first error it gives
// zero values. It takes numbers in any length; Decode refuses all but the
// shortest.
type cborReader struct {
	data []byte
	pos  int
	err  error
}

func (r *cborReader) fail(reason string) {
	if r.err == nil {
		r.err = &DecodeError{r.pos, reason}
	}
}

// head takes a head of that major type.
func (r *cborReader) head(major byte, what string) uint64 {
	if r.err != nil {
		return 0
	}
	if r.pos >= len(r.data) {
		r.fail("ends before " + what)
		return 0
	}
	b := r.data[r.pos]
	if b&0xe0 != major {
		r.fail("not " + what)
		return 0
	}
	info := b & 0x1f
	if info < 24 {
		r.pos++
		return uint64(info)
	}
	if info > 27 {
		r.fail("not " + what)
		return 0
	}
	size := 1 << (info - 24)
	if len(r.data)-r.pos-1 < size {
		r.fail("ends within " + what)
		return 0
	}
	var n uint64
	for _, b := range r.data[r.pos+1 : r.pos+1+size] {
		n = n<<8 | uint64(b)
	}
	r.pos += 1 + size
	return n
}

func (r *cborReader) uint(limit uint64, what string) uint64 {
	n := r.head(cborUint, what)
	if n > limit {
		r.fail(what + " out of range")
		return 0
	}
	return n
}

func (r *cborReader) int(what string) int64 {
	if r.err == nil && r.pos < len(r.data) && r.data[r.pos]&0xe0 == cborNegint {
		n := r.head(cborNegint, what)
		if n > 1<<63-1 {
			r.fail(what + " out of range")
			return 0
		}
		return ^int64(n)
	}
	return int64(r.uint(1<<63-1, what))
}

// array takes the head of an array of least to most items. An item takes at
// least one byte, so no count is believed that the data could not hold.
func (r *cborReader) array(least, most int, what string) int {
	n := r.head(cborArray, what)
	if r.err != nil {
		return 0
	}
	if n < uint64(least) || n > uint64(most) || n > uint64(len(r.data)-r.pos) {
		r.fail("wrong number of items in " + what)
		return 0
	}
	return int(n)
}

// bytes takes a byte string of least to most bytes; it shares data's memory.
func (r *cborReader) bytes(major byte, least, most int, what string) []byte {
	n := r.head(major, what)
	if r.err != nil {
		return nil
	}
	if n < uint64(least) || n > uint64(most) || n > uint64(len(r.data)-r.pos) {
		r.fail("wrong length of " + what)
		return nil
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

func (r *cborReader) text(most int, what string) string {
	b := r.bytes(cborText, 0, most, what)
	if !utf8.Valid(b) {
		r.fail(what + " is not UTF-8")
		return ""
	}
	return string(b)
}

// null takes a null if there is one.
func (r *cborReader) null() bool {
	if r.err != nil || r.pos >= len(r.data) || r.data[r.pos] != cborNull {
		return false
	}
	r.pos++
	return true
}
