package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
)

// ErrOpen is the error for whatever does not open: damaged, forged, sealed with
// another key, or not what it claims to be. It does not say which, for whoever sent
// it might learn by that.
var ErrOpen = errors.New("does not open: damaged, forged, or of another group")

// ErrMalformed is the error for bytes that are no record, head or page of
// references.
var ErrMalformed = errors.New("malformed")

// A Digest is the address of what a relay stores: the SHA-256 of its bytes, as they
// are stored.
type Digest [sha256.Size]byte

// A Token names an entry to those who may not know it.
type Token [16]byte

// A Box seals and opens with the keys of one group.
type Box struct {
	ring  group.Keyring
	group group.ID
	token [32]byte

	compress *zstd.Encoder
	expand   *zstd.Decoder
	scratch  sync.Pool // of *[]byte, for what is neither plain nor sealed

	mu     sync.Mutex
	epochs map[group.StatementID]*epochKeys
}

// epochKeys are what is derived from an epoch's key, each for one purpose.
type epochKeys struct{ block, record, head, set [32]byte }

// NewBox makes a Box of a group's keys. It fails with group.ErrNoKey if the keys of
// the first and the current epoch are not in the ring.
func NewBox(id group.ID, ring group.Keyring) (*Box, error) {
	b := &Box{ring: ring, group: id, epochs: make(map[group.StatementID]*epochKeys), scratch: sync.Pool{New: func() any { return new([]byte) }}}
	var err error
	if b.token, err = ring.TokenKey(); err != nil {
		return nil, fmt.Errorf("make a box of group %s: %w", id, err)
	}
	if _, err = b.keys(ring.Current()); err != nil {
		return nil, fmt.Errorf("make a box of group %s: %w", id, err)
	}
	// One block is the work of one core: others are sealed beside it.
	if b.compress, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false)); err != nil {
		return nil, fmt.Errorf("make a box of group %s: %w", id, err)
	}
	if b.expand, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(chunk.MaxBlock), zstd.WithDecoderMaxWindow(chunk.MaxBlock)); err != nil {
		return nil, fmt.Errorf("make a box of group %s: %w", id, err)
	}
	return b, nil
}

// Close lets go of what the Box holds. Nothing is sealed or opened after it.
func (b *Box) Close() { b.expand.Close() }

// Epoch is the epoch that is sealed in.
func (b *Box) Epoch() group.StatementID { return b.ring.Current() }

// Group is the group whose keys these are.
func (b *Box) Group() group.ID { return b.group }

func (b *Box) keys(epoch group.StatementID) (*epochKeys, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.epochs[epoch]; k != nil {
		return k, nil
	}
	k := new(epochKeys)
	for label, key := range map[string]*[32]byte{"block 1": &k.block, "record 1": &k.record, "head 1": &k.head, "head set 1": &k.set} {
		var err error
		if *key, err = b.ring.Key(epoch, label); err != nil {
			return nil, err
		}
	}
	b.epochs[epoch] = k
	return k, nil
}

// Token gives the token of an entry: the same for ever, so that a relay sees which
// record follows on which.
func (b *Box) Token(folder crdt.FolderID, id crdt.EntryID) Token {
	mac := keyed(b.token, folder[:], id[:])
	return Token(mac[:16])
}

// keyed is HMAC-SHA-256 of the parts, which must be of sizes that make their border
// plain.
func keyed(key [32]byte, parts ...[]byte) [32]byte {
	mac := hmac.New(sha256.New, key[:])
	for _, p := range parts {
		mac.Write(p)
	}
	return [32]byte(mac.Sum(nil))
}
