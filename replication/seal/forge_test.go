package seal

import (
	"errors"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/chacha20poly1305"

	"sheaf/replication/group"
)

// sealRaw seals a payload as a member can that does not use this package.
func sealRaw(t testing.TB, b *Box, h Header, payload []byte) []byte {
	t.Helper()
	keys := must(b.keys(h.Epoch))(t)
	aead := must(chacha20poly1305.NewX(keys.record[:]))(t)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	return aead.Seal(nonce, nonce, appendFrame(nil, recordVersion, payload), h.encode())
}

// box2 is what a device that was removed can open.
func (p *party) box2(t testing.TB) *Box {
	t.Helper()
	ring, err := p.state().OpenKeys(p.keys)
	if !errors.Is(err, group.ErrNoKey) {
		t.Fatalf("a removed device has the current key: %v", err)
	}
	b := &Box{ring: ring, group: p.log.Group(), epochs: map[group.StatementID]*epochKeys{}}
	b.token = must(ring.TokenKey())(t)
	return b
}

// resign makes a record of changed parts that its author's own keys sign.
func resign(t testing.TB, keys group.Keys, h Header, box []byte) *Record {
	t.Helper()
	r := &Record{Header: h, head: h.encode(), box: box}
	r.sig = keys.Sign(recordContext, r.signed())
	r.raw = encode(recordItems{Header: r.head, Box: r.box, Sig: r.sig})
	return must(ParseRecord(r.raw))(t)
}

// slowCompressor is one that comes to other bytes than a Box's.
func slowCompressor(t testing.TB) *zstd.Encoder {
	t.Helper()
	return must(zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1)))(t)
}
