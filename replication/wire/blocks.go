package wire

import (
	"errors"
	"fmt"
	"math"
)

// Limits of the block plane.
const (
	MaxBlocksUp   = 256 << 10 // bytes of a message to the server
	MaxBlocksDown = 64 << 10  // bytes of an answer's frame, without the data that follows it
	MaxRequests   = 4096      // requests or answers in one message
	MaxData       = 16 << 20  // bytes of one answer's data, block or list
	hashSize      = 32
)

// BlocksUp is a message from client to server: exactly one of its fields.
type BlocksUp struct {
	Request *Request `cbor:"1,keyasint,omitempty"`
	Cancel  *Cancel  `cbor:"2,keyasint,omitempty"`
}

// Request asks for blocks, or with Lists for block lists by content hash. The
// i'th has the number First+i, by which it is answered, once, in any order.
type Request struct {
	Folder ID       `cbor:"1,keyasint"`
	First  uint64   `cbor:"2,keyasint"`
	Hashes []byte   `cbor:"3,keyasint"`           // 32 bytes each
	Sizes  []uint32 `cbor:"4,keyasint,omitempty"` // of blocks: bytes of each
	Lists  bool     `cbor:"5,keyasint,omitempty"`
	// Verify asks the server to answer only with bytes that it has hashed and
	// found right. It follows a wrong answer: without it a server trusts what
	// it knows about its disk, which may have changed a moment ago.
	Verify bool `cbor:"6,keyasint,omitempty"`
}

// Cancel withdraws requests by number. Those already being answered still are.
type Cancel struct {
	Numbers []uint64 `cbor:"1,keyasint"`
}

// BlocksDown answers requests. Behind its frame follows the data of all its
// answers in order, Sizes[i] bytes for request Numbers[i]; zero says that the
// server has it not, or not for this peer. Without answers it says that the
// server is alive.
type BlocksDown struct {
	_       struct{} `cbor:",toarray"`
	Numbers []uint64
	Sizes   []uint32
}

// Len gives how many blocks or lists are asked for.
func (r *Request) Len() int { return len(r.Hashes) / hashSize }

// Hash gives the hash of the i'th.
func (r *Request) Hash(i int) [32]byte { return [32]byte(r.Hashes[i*hashSize : (i+1)*hashSize]) }

// Check refuses a message of no kind or of several, and one whose parts do not
// match or exceed their limits.
func (m *BlocksUp) Check() error {
	switch {
	case count(m.Request != nil, m.Cancel != nil) != 1:
		return errUnion
	case m.Cancel != nil:
		if n := len(m.Cancel.Numbers); n > MaxRequests {
			return fmt.Errorf("%d requests withdrawn at once, more than %d", n, MaxRequests)
		}
		return nil
	}
	return m.Request.check()
}

func (r *Request) check() error {
	n := r.Len()
	switch {
	case len(r.Hashes)%hashSize != 0 || n == 0 || n > MaxRequests:
		return fmt.Errorf("request with %d bytes of hashes", len(r.Hashes))
	case r.First > math.MaxUint64-MaxRequests:
		return errors.New("request numbers overflow")
	case r.Lists && len(r.Sizes) != 0 || !r.Lists && len(r.Sizes) != n:
		return fmt.Errorf("request for %d with %d sizes", n, len(r.Sizes))
	}
	for _, s := range r.Sizes {
		if s == 0 || s > MaxData {
			return fmt.Errorf("request for a block of %d bytes", s)
		}
	}
	return nil
}

// Check refuses answers whose parts do not match or exceed their limits.
func (m *BlocksDown) Check() error {
	if len(m.Numbers) != len(m.Sizes) || len(m.Numbers) > MaxRequests {
		return fmt.Errorf("%d answers with %d sizes", len(m.Numbers), len(m.Sizes))
	}
	for _, s := range m.Sizes {
		if s > MaxData {
			return fmt.Errorf("answer of %d bytes", s)
		}
	}
	return nil
}
