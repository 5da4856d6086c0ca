package chunk

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// Bounds of blocks and lists. They are part of the format.
const (
	// MinBlock is the size in bytes up to which a file is one block. Every
	// block that a Chunker cuts but a file's last is at least as long.
	MinBlock = 128 << 10
	// MaxBlock is the size in bytes of the longest block, of any file.
	MaxBlock = 8 << 20
	// MaxList is the size in bytes of the longest encoded List. It bounds a
	// file to between 1.4 and 1.8 TiB, by its content (see stages).
	MaxList = 16 << 20
)

// A Hash is the SHA-256 of a block's plain bytes.
type Hash [sha256.Size]byte

// Sum gives the Hash of data.
func Sum(data []byte) Hash { return sha256.Sum256(data) }

// String gives the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// CID gives the hash as a CIDv1 of raw bytes, the form in which other systems
// address the same block.
func (h Hash) CID() cid.Cid {
	// A multihash is the code, the length and the digest. Both are below 128,
	// so each varint is one byte.
	mh := append([]byte{multihash.SHA2_256, sha256.Size}, h[:]...)
	return cid.NewCidV1(cid.Raw, mh)
}

// A Block names a run of bytes: their hash, and how many they are (1 to
// MaxBlock).
type Block struct {
	Hash Hash
	Size uint32
}
