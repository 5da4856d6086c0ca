package seal

import (
	"crypto/sha256"
	"fmt"

	"sheaf/replication/chunk"
)

// A file's block list travels in its record while it is short. A longer one is
// sealed as blocks of its own, its pieces, which the record refers to before the
// file's blocks. References in turn stand in the record while they are few, and else
// on pages, which are stored as blocks are but can be read by the relay: it has to
// know which blocks are in use.
const (
	// MaxInline is the size in bytes of the longest block list that a record holds.
	MaxInline = 16 << 10
	// MaxRefs is how many references a record holds.
	MaxRefs = 512
	// PageRefs is how many references are on a page.
	PageRefs = 1 << 16
	// MaxPages is how many pages a record may name.
	MaxPages = 16

	pieceSize = 4 << 20
)

// Pieces cuts a block list that does not fit into a record: it gives the pieces to
// seal, in order, with their bytes; none if the list goes into the record.
func Pieces(list chunk.List) (pieces chunk.List, data [][]byte) {
	if list.EncodedSize() <= MaxInline {
		return nil, nil
	}
	for rest := list.Encode(); len(rest) > 0; {
		n := min(len(rest), pieceSize)
		pieces = append(pieces, chunk.Block{Hash: chunk.Sum(rest[:n]), Size: uint32(n)})
		data = append(data, rest[:n])
		rest = rest[n:]
	}
	return pieces, data
}

// pagesOf lays references out on pages, if a record does not hold so many.
func pagesOf(refs []Ref) (digests []Digest, pages [][]byte) {
	if len(refs) <= MaxRefs {
		return nil, nil
	}
	for len(refs) > 0 {
		n := min(len(refs), PageRefs)
		page := joinDigests(refs[:n])
		digests = append(digests, sha256.Sum256(page))
		pages = append(pages, page)
		refs = refs[n:]
	}
	return digests, pages
}

func joinDigests(refs []Ref) []byte {
	b := make([]byte, 0, len(refs)*sha256.Size)
	for _, r := range refs {
		b = append(b, r.Digest[:]...)
	}
	return b
}

// ParsePage reads a page of references. ErrMalformed if it is none. Whether it is
// the page that a record names, its address says.
func ParsePage(page []byte) ([]Digest, error) {
	if len(page) == 0 || len(page) > PageRefs*sha256.Size {
		return nil, fmt.Errorf("page of references: %d bytes: %w", len(page), ErrMalformed)
	}
	return splitDigests(page)
}

func splitDigests(b []byte) ([]Digest, error) {
	if len(b)%sha256.Size != 0 {
		return nil, fmt.Errorf("references: %d bytes: %w", len(b), ErrMalformed)
	}
	out := make([]Digest, 0, len(b)/sha256.Size)
	for ; len(b) > 0; b = b[sha256.Size:] {
		out = append(out, Digest(b[:sha256.Size]))
	}
	return out, nil
}
