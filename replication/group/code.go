package group

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"strings"
	"unicode"
)

// CodeKind is what a code is for. A code never passes for one of another kind:
// the kind stands in its text, in its body and in the keys it yields.
type CodeKind uint8

// The kinds of codes.
const (
	DeviceCode CodeKind = iota + 1 // one more device of mine
	ShareCode                      // a shared folder
	RelayCode                      // room on a relay
)

// String gives the kind's name as it stands in codes.
func (k CodeKind) String() string {
	switch k {
	case DeviceCode:
		return "device"
	case ShareCode:
		return "share"
	case RelayCode:
		return "relay"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// WrongKindError is a good code of another kind than the command takes. It is
// ErrWrongKind.
type WrongKindError struct{ Got, Want CodeKind }

// Error names both kinds.
func (e *WrongKindError) Error() string {
	return fmt.Sprintf("this is a %s code, not a %s code", e.Got, e.Want)
}

// Is tells that it is ErrWrongKind.
func (e *WrongKindError) Is(target error) bool { return target == ErrWrongKind }

// A Code is what a person hands to another, or from one device to the next, by
// copy, QR picture or hand. Its Secret grants access: the Code does not show it
// when printed or logged, only Text and URL do.
//
// Its text is "sheaf-", the kind, "-" and the body in lower-case base32 (RFC
// 4648) without padding. The body:
//
//	1 byte   version (1) in the high half, kind in the low half
//	16       secret
//	16       group ID (not in a relay code)
//	32       DeviceID of who made it: the inviter, the relay
//	n        addresses, each compactly; see address.go
//	4        CRC-32C of all before, big-endian: any wrong letter, and any two
//	         letters swapped, is certain to be noticed
type Code struct {
	Kind      CodeKind
	Group     ID
	Inviter   DeviceID
	Addresses []string // multiaddrs at which to ask, in that order

	secret [16]byte
}

const (
	codeVersion  = 1
	maxCodeText  = 4096
	maxAddresses = 8
	urlPrefix    = "sheaf://join/"
)

// NewCode draws a code's secret from rand. Group is zero for a relay's code.
// ErrMalformed if there are more than 8 addresses or one of more than 255 bytes.
func NewCode(rand io.Reader, kind CodeKind, group ID, inviter DeviceID, addresses []string) (Code, error) {
	c := Code{Kind: kind, Group: group, Inviter: inviter, Addresses: slices.Clone(addresses)}
	if kind < DeviceCode || kind > RelayCode || group.IsZero() != (kind == RelayCode) || len(addresses) > maxAddresses {
		return Code{}, fmt.Errorf("make code: kind, group or addresses: %w", ErrMalformed)
	}
	for _, a := range addresses {
		if a == "" || len(a) > maxAddress {
			return Code{}, fmt.Errorf("make code: address %q: %w", a, ErrMalformed)
		}
	}
	if _, err := io.ReadFull(rand, c.secret[:]); err != nil {
		return Code{}, fmt.Errorf("draw code: %w", err)
	}
	return c, nil
}

var (
	codeBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Text gives the code as people copy it. It grants access: keep it out of logs,
// arguments and URLs that reach a server.
func (c Code) Text() string {
	b := []byte{codeVersion<<4 | byte(c.Kind)}
	b = append(b, c.secret[:]...)
	if c.Kind != RelayCode {
		b = append(b, c.Group[:]...)
	}
	b = append(b, c.Inviter[:]...)
	for _, a := range c.Addresses {
		b = appendAddress(b, a, c.Inviter)
	}
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return "sheaf-" + c.Kind.String() + "-" + codeBase32.EncodeToString(b)
}

// URL gives the code as a link that opens Sheaf.
func (c Code) URL() string { return urlPrefix + c.Text() }

// ParseCode reads a code of the kind wanted, as text or link, forgiving case,
// white space, dashes and 0 and 1 for o and l. ErrMistyped if it is no code;
// *WrongKindError if it is a good one of another kind.
func ParseCode(text string, want CodeKind) (Code, error) {
	c, err := ReadCode(text)
	if err != nil {
		return Code{}, err
	}
	if c.Kind != want {
		return Code{}, fmt.Errorf("read code: %w", &WrongKindError{Got: c.Kind, Want: want})
	}
	return c, nil
}

// ReadCode reads a code of any kind, to tell a person what it is for. What acts
// on a code uses ParseCode.
func ReadCode(text string) (Code, error) {
	if len(text) > maxCodeText {
		return Code{}, fmt.Errorf("read code: %w", ErrMistyped)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
	text = strings.TrimPrefix(text, urlPrefix)
	for kind := DeviceCode; kind <= RelayCode; kind++ {
		if body, ok := strings.CutPrefix(text, "sheaf"+kind.String()); ok {
			return readCodeBody(kind, body)
		}
	}
	return Code{}, fmt.Errorf("read code: does not start with sheaf-device-, sheaf-share- or sheaf-relay-: %w", ErrMistyped)
}

func readCodeBody(kind CodeKind, body string) (Code, error) {
	wrong := fmt.Errorf("read code: %w", ErrMistyped)
	body = strings.NewReplacer("0", "o", "1", "l").Replace(body)
	b, err := codeBase32.DecodeString(body)
	if err != nil || len(b) < 5 {
		return Code{}, wrong
	}
	b, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(b, castagnoli) != sum {
		return Code{}, wrong
	}
	if b[0]>>4 != codeVersion {
		return Code{}, fmt.Errorf("read code: version %d, this is version %d: %w", b[0]>>4, codeVersion, ErrMistyped)
	}
	c := Code{Kind: CodeKind(b[0] & 15)}
	r := reader{b[1:], true}
	copy(c.secret[:], r.take(16))
	if kind != RelayCode {
		copy(c.Group[:], r.take(16))
	}
	copy(c.Inviter[:], r.take(32))
	for r.ok && len(r.b) > 0 {
		c.Addresses = append(c.Addresses, r.address(c.Inviter))
	}
	if !r.ok || len(c.Addresses) > maxAddresses || c.Group.IsZero() != (kind == RelayCode) {
		return Code{}, wrong
	}
	// One code has one text, down to the kind in front and the spare bits of the
	// last letter.
	if c.Text() != "sheaf-"+kind.String()+"-"+body {
		return Code{}, wrong
	}
	return c, nil
}

// Keys are the keys that the code's secret yields: they prove the code without
// showing it, and open what is sealed to the invite.
func (c Code) Keys() (Keys, error) { return deriveKeys(c.secret[:], c.label("keys")) }

// key derives one of the code's symmetric keys.
func (c Code) key(label string) [32]byte {
	return [32]byte(must(hkdf.Key(sha256.New, c.secret[:], nil, c.label(label), 32)))
}

// label binds what is derived to the code's kind and group: the secret of a
// share's code, dressed up as a device's, yields other keys.
func (c Code) label(what string) string {
	return fmt.Sprintf("sheaf invite %s 1 %s %s", what, c.Kind, c.Group)
}

// String names the kind only; see Text.
func (c Code) String() string { return "sheaf-" + c.Kind.String() + "-(secret)" }

// Format writes that whatever the verb.
func (c Code) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue gives the same.
func (c Code) LogValue() slog.Value { return slog.StringValue(c.String()) }

// A Preview is what a person is shown before joining.
type Preview struct {
	Inviter string // name of the inviting device, by its own word
	Label   string // of a shared folder
	Role    Role
	Uses    int
	Expires int64 // Unix seconds
}

type previewBody struct {
	Inviter string `cbor:"0,keyasint"`
	Label   string `cbor:"1,keyasint,omitempty"`
}

// body makes the part of an Invite that belongs to the code.
func (c Code) body(rand io.Reader, st State, ring Keyring, by DeviceID) (*inviteBody, error) {
	keys, err := c.Keys()
	if err != nil {
		return nil, err
	}
	public := keys.Device()
	i := &inviteBody{Public: certify(public), Epoch: st.Current}
	key, names := ring.keys[st.Current], c.key("names")
	box, err := sealBox(rand, derive(key, epochNameLabel), nameKeyContext+public.ID.Hex(), names[:])
	if err != nil {
		return nil, err
	}
	i.Names = sealedName{Epoch: st.Current, Box: box}
	m, _ := st.Member(by)
	preview := marshal(previewBody{Inviter: m.Name, Label: st.Label})
	if i.Preview, err = sealBox(rand, c.key("preview"), previewContext, padPreview(preview)); err != nil {
		return nil, err
	}
	i.Key, err = sealKey(key, commitment(key), public)
	return i, err
}

// padPreview fills up to one size for all: two names and what is around them.
func padPreview(b []byte) []byte {
	out := make([]byte, 2+2*MaxName+16)
	binary.BigEndian.PutUint16(out, uint16(len(b))) //nolint:gosec // two names: below 300
	copy(out[2:], b)
	return out
}

// openPreview reads what an Invite shows to holders of its code.
func (c Code) openPreview(i *inviteBody) (Preview, bool) {
	plain, ok := openBox(c.key("preview"), previewContext, i.Preview)
	if !ok || len(plain) < 2 {
		return Preview{}, false
	}
	n := int(binary.BigEndian.Uint16(plain))
	var p previewBody
	if n > len(plain)-2 || unmarshal(plain[2:2+n], 2*MaxName+16, &p) != nil {
		return Preview{}, false
	}
	out := Preview{Role: i.Role, Uses: int(i.Uses), Expires: i.Expires}
	if CheckName(p.Inviter) == nil {
		out.Inviter = p.Inviter
	}
	if CheckName(p.Label) == nil {
		out.Label = p.Label
	}
	return out, true
}
