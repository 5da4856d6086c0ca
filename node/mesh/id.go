package mesh

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/crypto/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// DeviceID is a device's Ed25519 public key. It is an alias of the plain array
// so that the DeviceID types of other packages convert to it and back.
type DeviceID = [32]byte

// PeerID gives the text form of id that libp2p and multiaddrs use
// (base58, "12D3KooW...").
func PeerID(id DeviceID) string {
	p, err := toPeer(id)
	if err != nil {
		// Every 32 bytes make an Ed25519 public key as far as libp2p's
		// encoding goes, so this is unreachable; an empty text would be a lie.
		panic(err)
	}
	return p.String()
}

// ParsePeerID reads the text form of a peer ID, base58 or CID. The error is
// [ErrBadAddress] for anything that is not the ID of an Ed25519 key.
func ParsePeerID(text string) (DeviceID, error) {
	p, err := peer.Decode(text)
	if err != nil {
		return DeviceID{}, fmt.Errorf("mesh: peer id %.80q: %w: %w", text, ErrBadAddress, err)
	}
	id, err := fromPeer(p)
	if err != nil {
		return DeviceID{}, fmt.Errorf("mesh: peer id %.80q: %w: %w", text, ErrBadAddress, err)
	}
	return id, nil
}

var errNotEd25519 = errors.New("not the id of an Ed25519 key")

// toPeer gives libp2p's form of id.
func toPeer(id DeviceID) (peer.ID, error) {
	key, err := ic.UnmarshalEd25519PublicKey(id[:])
	if err != nil {
		return "", fmt.Errorf("mesh: public key: %w", err)
	}
	return peer.IDFromPublicKey(key)
}

// fromPeer gives the device of a peer ID, which must hold an Ed25519 key.
func fromPeer(p peer.ID) (DeviceID, error) {
	var id DeviceID
	key, err := p.ExtractPublicKey()
	if err != nil || key.Type() != pb.KeyType_Ed25519 {
		return id, errNotEd25519
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return id, errNotEd25519
	}
	copy(id[:], raw)
	return id, nil
}

// short is the form of id for logs: the end of the peer ID, which differs
// between devices where the beginning does not.
func short(id DeviceID) string {
	text := PeerID(id)
	return text[len(text)-8:]
}
