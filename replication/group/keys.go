package group

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
)

// Sizes of what HPKE with MLKEM768-X25519 makes.
const (
	sealKeySize = 1184 + 32      // public key
	keyBoxSize  = 1088 + 32 + 48 // a sealed 32-byte key: encapsulation, ciphertext, tag
	seedSize    = 32
)

// Keys are a device's private keys. The zero value is not usable. They do not
// show themselves: printing or logging Keys gives the public ID only.
type Keys struct {
	signSeed, sealSeed [seedSize]byte
	sign               ed25519.PrivateKey
	seal               hpke.PrivateKey
}

// GenerateKeys draws new keys from rand: 64 bytes.
func GenerateKeys(rand io.Reader) (Keys, error) {
	var seeds [2 * seedSize]byte
	if _, err := io.ReadFull(rand, seeds[:]); err != nil {
		return Keys{}, fmt.Errorf("draw device keys: %w", err)
	}
	return keysFromSeeds(seeds[:seedSize], seeds[seedSize:])
}

func keysFromSeeds(sign, seal []byte) (Keys, error) {
	var k Keys
	copy(k.signSeed[:], sign)
	copy(k.sealSeed[:], seal)
	k.sign = ed25519.NewKeyFromSeed(sign)
	var err error
	if k.seal, err = hpke.MLKEM768X25519().NewPrivateKey(seal); err != nil {
		return Keys{}, fmt.Errorf("make sealing key: %w", err)
	}
	return k, nil
}

// deriveKeys makes keys from a secret, the same for the same secret and label.
func deriveKeys(secret []byte, label string) (Keys, error) {
	seeds, err := hkdf.Key(sha256.New, secret, nil, label, 2*seedSize)
	if err != nil {
		return Keys{}, fmt.Errorf("derive keys: %w", err)
	}
	return keysFromSeeds(seeds[:seedSize], seeds[seedSize:])
}

// keysMagic opens a key file: its name and version.
const keysMagic = "sheaf keys 1\n"

// Marshal gives the keys' secret bytes: a magic line, the seed of the signing
// key, the seed of the sealing key, and the first four bytes of the SHA-256 of
// all that. Write them to a file of mode 0600.
func (k Keys) Marshal() []byte {
	b := append([]byte(keysMagic), k.signSeed[:]...)
	b = append(b, k.sealSeed[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:4]...)
}

// ParseKeys is the inverse of Marshal. ErrMalformed if the bytes are damaged or
// of another version.
func ParseKeys(b []byte) (Keys, error) {
	n := len(keysMagic) + 2*seedSize
	if len(b) != n+4 || !bytes.HasPrefix(b, []byte(keysMagic)) {
		return Keys{}, fmt.Errorf("device keys: %w", ErrMalformed)
	}
	if sum := sha256.Sum256(b[:n]); !bytes.Equal(sum[:4], b[n:]) {
		return Keys{}, fmt.Errorf("device keys: damaged: %w", ErrMalformed)
	}
	return keysFromSeeds(b[len(keysMagic):len(keysMagic)+seedSize], b[len(keysMagic)+seedSize:n])
}

// ID is the public half of the signing key.
func (k Keys) ID() DeviceID {
	var id DeviceID
	if k.sign != nil {
		copy(id[:], k.sign[ed25519.SeedSize:])
	}
	return id
}

// Device gives what others need to know of the keys' owner, without a name.
func (k Keys) Device() Device {
	d := Device{ID: k.ID(), Seal: k.seal.PublicKey().Bytes()}
	d.Proof = k.Sign(sealContext, d.Seal)
	return d
}

// SigningKey gives the Ed25519 key itself, for the libp2p host alone: everybody
// else uses Sign, which keeps contexts apart.
func (k Keys) SigningKey() ed25519.PrivateKey { return bytes.Clone(k.sign) }

// Sign signs a message in a context, so that a signature made for one purpose
// never passes for another. Contexts are short constant names.
func (k Keys) Sign(context string, message []byte) Signature {
	return Signature(ed25519.Sign(k.sign, signed(context, message)))
}

// Contexts of this package's signatures.
const (
	statementContext = "statement 1"
	sealContext      = "seal key 1"
	joinContext      = "join 1"
	claimContext     = "claim 1"
	consentContext   = "paper device 1"
)

// signed is what is really signed: no context is a prefix of another's, because
// of the zero byte.
func signed(context string, message []byte) []byte {
	b := make([]byte, 0, len("sheaf ")+len(context)+1+len(message))
	b = append(b, "sheaf "...)
	b = append(b, context...)
	b = append(b, 0)
	return append(b, message...)
}

// String gives the public ID.
func (k Keys) String() string { return "keys of " + k.ID().String() }

// Format writes the public ID whatever the verb, so that no secret is printed.
func (k Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue gives the public ID.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// check tells whether a device's parts belong together.
func (d Device) check() error {
	if len(d.Seal) != sealKeySize {
		return fmt.Errorf("sealing key of %d bytes: %w", len(d.Seal), ErrMalformed)
	}
	if _, err := hpke.MLKEM768X25519().NewPublicKey(d.Seal); err != nil {
		return fmt.Errorf("sealing key: %w: %w", ErrMalformed, err)
	}
	if !d.ID.Verify(sealContext, d.Seal, d.Proof) {
		return fmt.Errorf("sealing key of %s: %w", d.ID, ErrSignature)
	}
	return nil
}
