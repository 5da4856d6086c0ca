package seal

import (
	"encoding/binary"
	"math/bits"
)

// padded gives the size that n bytes are padded to: n with its low bits rounded up,
// so many that a size tells no more than some five bits beside its magnitude. It is
// at most 12 % more, and at least minPadded.
func padded(n int) int {
	if n <= minPadded {
		return minPadded
	}
	exponent := bits.Len(uint(n)) - 1
	low := exponent - bits.Len(uint(exponent))
	mask := 1<<low - 1
	return (n + mask) &^ mask
}

// minPadded is the size below which sizes do not tell one thing from another.
const minPadded = 256

// frameHead is what goes before a payload that is padded: what it is, and how long.
const frameHead = 5

// appendFrame appends a padded payload: one byte that says what it is, its length
// (4 bytes, big endian), the payload, zeros.
func appendFrame(dst []byte, kind byte, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, payload...)
	for end := start + padded(len(dst)-start); len(dst) < end; {
		n := min(end-len(dst), len(zeros))
		dst = append(dst, zeros[:n]...)
	}
	return dst
}

var zeros [4096]byte

// openFrame is the inverse of appendFrame. Only what appendFrame gives is taken.
func openFrame(frame []byte) (kind byte, payload []byte, ok bool) {
	if len(frame) < frameHead {
		return 0, nil, false
	}
	n := uint64(binary.BigEndian.Uint32(frame[1:]))
	if n > uint64(len(frame)-frameHead) || padded(frameHead+int(n)) != len(frame) {
		return 0, nil, false
	}
	payload = frame[frameHead : frameHead+int(n)]
	for _, b := range frame[frameHead+int(n):] {
		if b != 0 {
			return 0, nil, false
		}
	}
	return frame[0], payload, true
}
