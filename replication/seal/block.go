package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sheaf/replication/chunk"
	"sheaf/replication/group"
)

// ErrChanged is the error for bytes that are not those of the block they were to be:
// the file was changed since it was read.
var ErrChanged = errors.New("the bytes are not those of the block")

// MaxSealed is the size in bytes of the longest sealed block.
var MaxSealed = padded(frameHead+chunk.MaxBlock) + blockNonce + blockTag

// What a block's payload is.
const (
	plainBytes byte = 0 // the block's bytes
	zstdBytes  byte = 1 // a zstd frame of them (RFC 8878)
)

const (
	blockNonce = 12
	blockTag   = 16
)

// A Ref says where a block is: its address, and the epoch that it was sealed in.
type Ref struct {
	Digest Digest
	Epoch  group.StatementID
}

// SealBlock seals the bytes of a block in the current epoch. It appends what is to
// be stored to dst, which must not overlap plain, and gives where it is. ErrChanged
// if plain is not what the block names.
//
// The key is a function of the epoch and the block's hash. The nonce is a function of
// what is encrypted under it, as in synthetic IVs (Rogaway and Shrimpton, 2006): so
// two devices seal equal bytes alike, and if their compressors differ, the two
// results have nothing in common and both open.
func (b *Box) SealBlock(dst, plain []byte, block chunk.Block) ([]byte, Ref, error) {
	if len(plain) != int(block.Size) || len(plain) > chunk.MaxBlock || chunk.Sum(plain) != block.Hash {
		return dst, Ref{}, ErrChanged
	}
	epoch := b.ring.Current()
	keys, err := b.keys(epoch)
	if err != nil {
		return dst, Ref{}, fmt.Errorf("seal a block: %w", err)
	}
	kind, payload, sum := plainBytes, plain, [32]byte(block.Hash)
	// Where it saves less than a sixteenth, opening is better off without.
	scratch := b.scratch.Get().(*[]byte)
	defer b.scratch.Put(scratch)
	if *scratch = b.compress.EncodeAll(plain, slices.Grow((*scratch)[:0], len(plain))); len(*scratch) < len(plain)-len(plain)/16 {
		kind, payload, sum = zstdBytes, *scratch, sha256.Sum256(*scratch)
	}
	nonce := keyed(blockKey(keys, 2, block.Hash), []byte{kind}, sum[:])
	start := len(dst)
	dst = slices.Grow(dst, blockNonce+padded(frameHead+len(payload))+blockTag)
	dst = append(dst, nonce[:blockNonce]...)
	dst = appendFrame(dst, kind, payload)
	aead, err := blockAEAD(keys, block.Hash)
	if err != nil {
		return dst[:start], Ref{}, fmt.Errorf("seal a block: %w", err)
	}
	frame := dst[start+blockNonce:]
	dst = aead.Seal(dst[:start+blockNonce], nonce[:blockNonce], frame, nil)
	return dst, Ref{Digest: sha256.Sum256(dst[start:]), Epoch: epoch}, nil
}

// OpenBlock appends the bytes of a block to dst, which must not overlap sealed.
// What comes out is what the block names, or there is an error: ErrOpen, or
// group.ErrNoKey if the key of the epoch is not in the ring. It does not ask whether
// sealed is what stands at an address: it need not.
func (b *Box) OpenBlock(dst, sealed []byte, epoch group.StatementID, block chunk.Block) ([]byte, error) {
	keys, err := b.keys(epoch)
	if err != nil {
		return dst, fmt.Errorf("open a block: %w", err)
	}
	if len(sealed) < blockNonce+blockTag || len(sealed) > MaxSealed || block.Size > chunk.MaxBlock {
		return dst, fmt.Errorf("open a block: %w", ErrOpen)
	}
	aead, err := blockAEAD(keys, block.Hash)
	if err != nil {
		return dst, fmt.Errorf("open a block: %w", err)
	}
	scratch := b.scratch.Get().(*[]byte)
	defer b.scratch.Put(scratch)
	frame, err := aead.Open((*scratch)[:0], sealed[:blockNonce], sealed[blockNonce:], nil)
	if err != nil {
		return dst, fmt.Errorf("open a block: %w", ErrOpen)
	}
	*scratch = frame
	kind, payload, ok := openFrame(frame)
	start := len(dst)
	dst = slices.Grow(dst, int(block.Size))
	switch {
	case ok && kind == plainBytes:
		dst = append(dst, payload...)
	case ok && kind == zstdBytes:
		// The decoder writes no more than its bound, which is a block's.
		dst, err = b.expand.DecodeAll(payload, dst)
	default:
		err = ErrOpen
	}
	if err != nil || len(dst)-start != int(block.Size) || chunk.Sum(dst[start:]) != block.Hash {
		return dst[:start], fmt.Errorf("open a block: %w", ErrOpen)
	}
	return dst, nil
}

// blockKey derives a key of a block: 1 encrypts it, 2 makes the nonce.
func blockKey(keys *epochKeys, purpose byte, hash chunk.Hash) [32]byte {
	return keyed(keys.block, []byte{purpose}, hash[:])
}

func blockAEAD(keys *epochKeys, hash chunk.Hash) (cipher.AEAD, error) {
	key := blockKey(keys, 1, hash)
	c, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(c)
}
