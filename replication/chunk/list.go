package chunk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A List names the blocks of a file in order. The list of an empty file is
// empty.
type List []Block

// A ListError says why bytes are not the encoded list of a file.
type ListError struct{ Reason string }

// Error gives the reason.
func (e *ListError) Error() string { return "block list: " + e.Reason }

// Size gives the length in bytes of the file that l lists.
func (l List) Size() int64 {
	var n int64
	for _, b := range l {
		n += int64(b.Size)
	}
	return n
}

// EncodedSize gives len(l.Encode()) without encoding.
func (l List) EncodedSize() int {
	var n int
	for _, b := range l {
		n += blockLen(b.Size)
	}
	return n
}

// blockLen is the encoded length of a block of the given size.
func blockLen(size uint32) int {
	n := sha256.Size + 1
	for ; size >= 1<<7; size >>= 7 {
		n++
	}
	return n
}

// Encode gives the canonical form: for each block its size as an unsigned
// varint (LEB128, shortest form), then its hash. Nothing comes before, between
// or after them.
func (l List) Encode() []byte {
	out := make([]byte, 0, l.EncodedSize())
	for _, b := range l {
		out = binary.AppendUvarint(out, uint64(b.Size))
		out = append(out, b.Hash[:]...)
	}
	return out
}

// DecodeList reads the list of a file of size bytes. It accepts exactly what
// Encode gives for such a file, and fails with a *ListError otherwise. The
// result takes memory in proportion to data alone.
func DecodeList(data []byte, size int64) (List, error) {
	switch {
	case len(data) > MaxList:
		return nil, &ListError{fmt.Sprintf("%d bytes long, more than %d", len(data), MaxList)}
	case size < 0:
		return nil, &ListError{fmt.Sprintf("file size %d is negative", size)}
	case len(data) == 0 && size == 0:
		return nil, nil
	}
	l := make(List, 0, len(data)/(sha256.Size+1))
	var sum int64
	for len(data) > 0 {
		n, k := binary.Uvarint(data)
		switch {
		case k <= 0:
			return nil, &ListError{fmt.Sprintf("block %d: its size is cut off or no varint", len(l))}
		case k > 1 && data[k-1] == 0:
			return nil, &ListError{fmt.Sprintf("block %d: its size is not in shortest form", len(l))}
		case n == 0 || n > MaxBlock:
			return nil, &ListError{fmt.Sprintf("block %d: size %d is not within 1 and %d", len(l), n, MaxBlock)}
		case len(data)-k < sha256.Size:
			return nil, &ListError{fmt.Sprintf("block %d: its hash is cut off", len(l))}
		}
		l = append(l, Block{Hash: Hash(data[k : k+sha256.Size]), Size: uint32(n)})
		data = data[k+sha256.Size:]
		if sum += int64(n); sum > size {
			break
		}
	}
	if sum != size {
		return nil, &ListError{fmt.Sprintf("its blocks do not add up to the file's %d bytes", size)}
	}
	return l, nil
}

// Content gives the content hash of the file: the SHA-256 of its bytes when it
// is one block (that block's own hash) or none, else of the encoded list.
//
// Somebody who may write can make a file of one block whose bytes are another
// file's encoded list, so a content hash says what a file holds only together
// with the number of its blocks. The index carries both.
func (l List) Content() [sha256.Size]byte {
	if len(l) == 1 {
		return l[0].Hash
	}
	return sha256.Sum256(l.Encode())
}
