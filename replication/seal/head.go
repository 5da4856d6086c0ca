package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"golang.org/x/crypto/chacha20poly1305"

	"sheaf/crdt"
	"sheaf/replication/group"
)

// What two heads of one author can be to each other, where it is not that the one
// follows on the other.
var (
	// ErrRolledBack: this head is older than one that was seen. Who brings it is out of
	// date, or holds back what came after.
	ErrRolledBack = errors.New("older than what was seen before")
	// ErrForked: its author said two things under one number. Its keys are in two hands,
	// or its disk was restored from a copy.
	ErrForked = errors.New("its author has said something else under the same number")
)

// MaxHead is the size in bytes of the longest encoded head.
const MaxHead = 1 << 10

const headVersion = 1

const headContext = "head 1"

// A Sum adds up a set, so that two sets with one sum are the same set: see Box.Mark.
// The zero value is the sum of the empty set.
type Sum [32]byte

// Add gives the sum of the set with one more mark. The addition is of integers modulo
// 2 to the 256th, as in MSet-Add-Hash (Clarke et al., "Incremental Multiset Hash
// Functions", 2003).
func (s Sum) Add(mark Sum) Sum { return s.combine(mark, bits.Add64) }

// Remove gives the sum of the set without a mark that was in it.
func (s Sum) Remove(mark Sum) Sum { return s.combine(mark, bits.Sub64) }

func (s Sum) combine(o Sum, op func(x, y, carry uint64) (uint64, uint64)) (out Sum) {
	carry := uint64(0)
	for at := len(s) - 8; at >= 0; at -= 8 {
		var v uint64
		v, carry = op(binary.BigEndian.Uint64(s[at:]), binary.BigEndian.Uint64(o[at:]), carry)
		binary.BigEndian.PutUint64(out[at:], v)
	}
	return out
}

// Mark gives what stands for one state of an entry in a Sum under an epoch's key. A
// device that was removed does not know the key of the epochs after that, and nobody
// else can say what sets come to the same.
func (b *Box) Mark(epoch group.StatementID, token Token, seen crdt.VersionVector) (Sum, error) {
	keys, err := b.keys(epoch)
	if err != nil {
		return Sum{}, fmt.Errorf("mark a record: %w", err)
	}
	return keyed(keys.set, token[:], encodeSeen(seen)), nil
}

// A Head is a device's signed word of what it has uploaded to a folder.
//
// Sum is over the entries whose latest state, as far as its author knows, it has
// itself uploaded: for each the mark of that state. So when another device uploads a
// later state of an entry and the author hears of it, the entry leaves the author's
// sum and is in the other's.
type Head struct {
	Group  group.ID
	Folder crdt.FolderID
	Epoch  group.StatementID
	Author group.DeviceID
	Number uint64 // of the author's heads in this folder, from 1
	Last   uint64 // the number of its last record
	Sum    Sum    // sealed: members alone can read it
	raw    []byte
}

type headItems struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Group   group.ID
	Folder  crdt.FolderID
	Epoch   group.StatementID
	Author  group.DeviceID
	Number  uint64
	Last    uint64
}

// sealedItems is a head as it is written.
type sealedItems struct {
	_    struct{} `cbor:",toarray"`
	Head []byte
	Box  []byte
	Sig  group.Signature
}

// SealHead signs and seals a head in the current epoch; Group, Epoch and Author are
// filled in.
func (b *Box) SealHead(rand io.Reader, keys group.Keys, h Head) (*Head, error) {
	h.Group, h.Epoch, h.Author = b.group, b.ring.Current(), keys.ID()
	derived, err := b.keys(h.Epoch)
	if err != nil {
		return nil, fmt.Errorf("seal a head: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived.head[:])
	if err != nil {
		return nil, fmt.Errorf("seal a head: %w", err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("seal a head: draw a nonce: %w", err)
	}
	w := sealedItems{Head: encode(headItems{Version: headVersion, Group: h.Group, Folder: h.Folder, Epoch: h.Epoch, Author: h.Author, Number: h.Number, Last: h.Last})}
	w.Box = aead.Seal(nonce, nonce, h.Sum[:], w.Head)
	w.Sig = keys.Sign(headContext, w.signed())
	h.raw = encode(w)
	return &h, nil
}

// signed is what the author signs: the box, which is always as long, and what is in
// the clear.
func (w *sealedItems) signed() []byte { return append(append([]byte(nil), w.Box...), w.Head...) }

const headBox = chacha20poly1305.NonceSizeX + len(Sum{}) + chacha20poly1305.Overhead

// ParseHead reads an encoded head, and makes sure that it was signed by its author.
// Its Sum is zero until Box.OpenHead.
func ParseHead(data []byte) (*Head, error) {
	h, _, err := parseHead(data)
	return h, err
}

func parseHead(data []byte) (*Head, *sealedItems, error) {
	if len(data) > MaxHead {
		return nil, nil, fmt.Errorf("head: %d bytes: %w", len(data), ErrMalformed)
	}
	var w sealedItems
	if err := decode("head", data, &w); err != nil {
		return nil, nil, err
	}
	var i headItems
	if err := decode("head", w.Head, &i); err != nil {
		return nil, nil, err
	}
	if i.Version != headVersion || i.Number == 0 || len(w.Box) != headBox {
		return nil, nil, fmt.Errorf("head: version %d, number %d, box of %d bytes: %w", i.Version, i.Number, len(w.Box), ErrMalformed)
	}
	h := &Head{Group: i.Group, Folder: i.Folder, Epoch: i.Epoch, Author: i.Author, Number: i.Number, Last: i.Last, raw: data}
	if !h.Author.Verify(headContext, w.signed(), w.Sig) {
		return nil, nil, fmt.Errorf("head %d by %s: %w", h.Number, h.Author, group.ErrSignature)
	}
	return h, &w, nil
}

// OpenHead reads a head with its Sum.
func (b *Box) OpenHead(data []byte) (*Head, error) {
	h, w, err := parseHead(data)
	if err != nil {
		return nil, err
	}
	if h.Group != b.group {
		return nil, fmt.Errorf("open a head: %w", ErrOpen)
	}
	keys, err := b.keys(h.Epoch)
	if err != nil {
		return nil, fmt.Errorf("open a head: %w", err)
	}
	aead, err := chacha20poly1305.NewX(keys.head[:])
	if err != nil {
		return nil, fmt.Errorf("open a head: %w", err)
	}
	plain, err := aead.Open(nil, w.Box[:chacha20poly1305.NonceSizeX], w.Box[chacha20poly1305.NonceSizeX:], w.Head)
	if err != nil {
		return nil, fmt.Errorf("open a head: %w", ErrOpen)
	}
	h.Sum = Sum(plain)
	return h, nil
}

// Encode gives the head as it is stored and sent. The result must not be changed.
func (h *Head) Encode() []byte { return h.raw }

// Follows tells whether h may take the place of an earlier head of its author in the
// same folder: nil if so, or if they are one head; else ErrRolledBack or ErrForked.
func (h *Head) Follows(earlier *Head) error {
	switch {
	case h.Author != earlier.Author || h.Folder != earlier.Folder || h.Group != earlier.Group:
		return fmt.Errorf("head %d by %s: of another folder or device: %w", h.Number, h.Author, ErrMalformed)
	case h.Number < earlier.Number, h.Number > earlier.Number && h.Last < earlier.Last:
		return fmt.Errorf("head %d by %s, after %d: %w", h.Number, h.Author, earlier.Number, ErrRolledBack)
	case h.Number == earlier.Number && string(h.raw) != string(earlier.raw):
		return fmt.Errorf("head %d by %s: %w", h.Number, h.Author, ErrForked)
	}
	return nil
}
