package group

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/chacha20poly1305"
)

// MaxName is the longest name of a device or folder, in bytes.
const MaxName = 128

// CheckName is the one judge of names: 1 to MaxName bytes of UTF-8, printable
// (no control, no invisible or direction-changing characters), no white space
// but single-width blanks inside. ErrName if not.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("empty: %w", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("longer than %d bytes: %w", MaxName, ErrName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("has characters that cannot be shown: %w", ErrName)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("starts or ends with a blank: %w", ErrName)
	}
	return nil
}

// sealBox seals plain under a key with XChaCha20-Poly1305 and a nonce drawn from
// rand, which goes before it.
func sealBox(rand io.Reader, key [32]byte, context string, plain []byte) ([]byte, error) {
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return sealBoxWith(nonce, key, context, plain), nil
}

func sealBoxWith(nonce []byte, key [32]byte, context string, plain []byte) []byte {
	aead := must(chacha20poly1305.NewX(key[:])) // fails for other key sizes only
	return aead.Seal(slices.Clone(nonce), nonce, plain, []byte(context))
}

// openBox is the inverse of sealBox; false if the box is not by a holder of key
// for this context.
func openBox(key [32]byte, context string, box []byte) ([]byte, bool) {
	if len(box) < chacha20poly1305.NonceSizeX {
		return nil, false
	}
	aead := must(chacha20poly1305.NewX(key[:]))
	plain, err := aead.Open(nil, box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:], []byte(context))
	return plain, err == nil
}

// Contexts of sealed names. A box for one never opens as another.
const (
	labelContext     = "label"
	nameContext      = "device name " // and whose
	nameKeyContext   = "invite names "
	previewContext   = "invite preview"
	linkContext      = "epoch link "
	namePad          = 32
	epochNameLabel   = "names 1"
	epochLinkLabel   = "epoch link 1"
	epochCommitLabel = "epoch commit 1"
)

// padName makes names of different lengths look the same.
func padName(name string) []byte {
	b := []byte(name)
	for len(b) == 0 || len(b)%namePad != 0 {
		b = append(b, 0)
	}
	return b
}

func unpadName(b []byte) string { return strings.TrimRight(string(b), "\x00") }

// sealJoinName seals a joiner's name so that it comes out the same each time:
// the nonce is made of what is sealed.
func sealJoinName(key [32]byte, id DeviceID, name string) []byte {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("nonce\x00"))
	mac.Write(id[:])
	mac.Write([]byte(name))
	return sealBoxWith(mac.Sum(nil)[:chacha20poly1305.NonceSizeX], key, nameContext+id.Hex(), padName(name))
}

// A nameSource is where a device's name is to be read.
type nameSource struct {
	sealed sealedName // under an epoch's key
	join   []byte     // or, for a joiner, under the key that is sealed in sealed
	public DeviceID   // and whose invite that was
}

// foldNames finds the last word about each device's name.
func (e *evaluation) foldNames(s *State) {
	for _, n := range e.order {
		if !e.counts(n) {
			continue
		}
		switch b := n.b; {
		case b.Genesis != nil:
			for _, f := range b.Genesis.Founders {
				f.Name.Epoch = n.id
				s.names[f.Device.ID] = nameSource{sealed: f.Name}
			}
		case b.Add != nil:
			if _, known := s.names[b.Add.Device.ID]; !known {
				s.names[b.Add.Device.ID] = nameSource{sealed: b.Add.Name}
			}
		case b.Join != nil:
			i := e.log.inviteOf(n).b.Invite
			if _, known := s.names[b.Author]; !known {
				s.names[b.Author] = nameSource{sealed: i.Names, join: b.Join.Name, public: i.Public.ID}
			}
		case b.Rename != nil:
			s.names[b.Rename.Device] = nameSource{sealed: b.Rename.Name}
		}
	}
}

// Named gives the same State with the names that a keyring opens. A name that
// does not open, or could not be shown safely, stays empty: a member cannot make
// another's program show what it must not.
func (s State) Named(ring Keyring) State {
	s.Members, s.Removed = slices.Clone(s.Members), slices.Clone(s.Removed)
	for i := range s.Members {
		s.Members[i].Name = s.name(ring, s.Members[i].ID)
	}
	for i := range s.Removed {
		s.Removed[i].Name = s.name(ring, s.Removed[i].ID)
	}
	s.Label = ring.openName(s.label, labelContext)
	return s
}

func (s State) name(ring Keyring, id DeviceID) string {
	src := s.names[id]
	if src.join == nil {
		return ring.openName(src.sealed, nameContext+id.Hex())
	}
	key, ok := ring.keys[src.sealed.Epoch]
	if !ok {
		return ""
	}
	inner, ok := openBox(derive(key, epochNameLabel), nameKeyContext+src.public.Hex(), src.sealed.Box)
	if !ok || len(inner) != 32 {
		return ""
	}
	plain, ok := openBox([32]byte(inner), nameContext+id.Hex(), src.join)
	return shown(plain, ok)
}

func (k Keyring) openName(n sealedName, context string) string {
	key, ok := k.keys[n.Epoch]
	if !ok {
		return ""
	}
	plain, ok := openBox(derive(key, epochNameLabel), context, n.Box)
	return shown(plain, ok)
}

// shown gives a name that was sealed by somebody else if it can be shown.
func shown(plain []byte, ok bool) string {
	name := unpadName(plain)
	if !ok || CheckName(name) != nil {
		return ""
	}
	return name
}

func sealName(rand io.Reader, epoch StatementID, key [32]byte, context, name string) (sealedName, error) {
	box, err := sealBox(rand, derive(key, epochNameLabel), context, padName(name))
	return sealedName{Epoch: epoch, Box: box}, err
}
