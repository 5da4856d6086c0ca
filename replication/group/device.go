package group

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"strings"
)

// A DeviceID is a device's Ed25519 public key. The same key is its libp2p
// identity. Invites have one too: the public half of the key that the secret in
// the code yields.
type DeviceID [32]byte

// String gives a short form for people and logs: the first 60 bits. Two devices
// of one group that agree in them exist only by design; nothing decides by it.
func (id DeviceID) String() string {
	s := strings.ToLower(base32.StdEncoding.EncodeToString(id[:8]))[:12]
	return s[:4] + "-" + s[4:8] + "-" + s[8:]
}

// Hex gives the whole ID in hexadecimal.
func (id DeviceID) Hex() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the ID names no device.
func (id DeviceID) IsZero() bool { return id == DeviceID{} }

// Verify tells whether sig is the device's signature of message in a context;
// see Keys.Sign.
func (id DeviceID) Verify(context string, message []byte, sig Signature) bool {
	return ed25519.Verify(id[:], signed(context, message), sig[:])
}

func (id DeviceID) compare(other DeviceID) int { return bytes.Compare(id[:], other[:]) }

// A Signature is an Ed25519 signature.
type Signature [ed25519.SignatureSize]byte

// An ID names a group for ever: the first 16 bytes of the hash of its Genesis
// statement.
type ID [16]byte

// String gives the ID in hexadecimal.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the ID names no group.
func (id ID) IsZero() bool { return id == ID{} }

// A StatementID names a statement: the SHA-256 of its body. Signatures are not
// part of it.
type StatementID [32]byte

// String gives the first eight bytes in hexadecimal.
func (id StatementID) String() string { return hex.EncodeToString(id[:8]) }

// IsZero tells whether the ID names no statement.
func (id StatementID) IsZero() bool { return id == StatementID{} }

func (id StatementID) compare(other StatementID) int { return bytes.Compare(id[:], other[:]) }

// A Device is what others need to know of a device: whom its signatures name
// and where to seal for it. Proof is the device's own signature of Seal, so that
// nobody can put another key in its place.
type Device struct {
	ID    DeviceID
	Seal  []byte // HPKE public key, MLKEM768-X25519
	Proof Signature
	Name  string // for people; never signed by Proof
}

// Purpose is what a group is for.
type Purpose uint8

// The purposes of groups. Every member of an Account is an owner.
const (
	Account Purpose = iota + 1 // one person's devices
	Share                      // a folder shared between people
)

// String gives the purpose's name.
func (p Purpose) String() string {
	switch p {
	case Account:
		return "account"
	case Share:
		return "share"
	}
	return fmt.Sprintf("purpose(%d)", uint8(p))
}

// Role is what a member may do. Greater roles include smaller ones.
type Role uint8

// The roles. A Viewer reads; an Editor also writes; an Owner also decides.
const (
	Viewer Role = iota + 1
	Editor
	Owner
)

// String gives the role's name, as the command line writes it.
func (r Role) String() string {
	switch r {
	case Viewer:
		return "viewer"
	case Editor:
		return "editor"
	case Owner:
		return "owner"
	}
	return fmt.Sprintf("role(%d)", uint8(r))
}

// ParseRole is the inverse of Role.String.
func ParseRole(s string) (Role, error) {
	for r := Viewer; r <= Owner; r++ {
		if s == r.String() {
			return r, nil
		}
	}
	return 0, fmt.Errorf("no role %q: viewer, editor or owner", s)
}

func (r Role) valid() bool { return r >= Viewer && r <= Owner }

// A Cut says up to where changes by one replica of a removed device are
// accepted: Counter is the last that counts, 0 for none.
type Cut struct {
	Replica [8]byte `cbor:"0,keyasint"`
	Counter uint64  `cbor:"1,keyasint"`
}
