package pack

import (
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
)

// MaxBlock is the largest block that is taken, in bytes: one of 8 MiB, sealed and padded,
// is some 260 KiB larger than that.
const MaxBlock = 9 << 20

// digest is the SHA-256 of a block, which is what its CID holds.
type digest [sha256.Size]byte

// digestOf takes the digest out of a CID; ErrAddress if it is of another kind.
func digestOf(c cid.Cid) (digest, error) {
	if !c.Defined() {
		return digest{}, fmt.Errorf("an undefined CID: %w", ErrAddress)
	}
	if c.Version() != 1 || c.Type() != cid.Raw {
		return digest{}, fmt.Errorf("%s: %w", c, ErrAddress)
	}
	h, err := multihash.Decode(c.Hash())
	if err != nil || h.Code != multihash.SHA2_256 || len(h.Digest) != sha256.Size {
		return digest{}, fmt.Errorf("%s: %w", c, ErrAddress)
	}
	return digest(h.Digest), nil
}

// cid is the inverse of digestOf.
func (d digest) cid() cid.Cid {
	h, err := multihash.Encode(d[:], multihash.SHA2_256)
	if err != nil {
		panic(fmt.Sprintf("pack: encode a multihash: %v", err)) // of a known kind and length: a programming error
	}
	return cid.NewCidV1(cid.Raw, h)
}

// of tells whether data is the block.
func (d digest) of(data []byte) bool { return sha256.Sum256(data) == d }
