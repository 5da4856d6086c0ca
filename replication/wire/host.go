package wire

import (
	"errors"
	"fmt"
)

// HostProtocol is what a device speaks with a relay by whose code it is to have room
// there for its group. The device asks and the relay answers, one answer to each request.
// The first is a HostClaim; then the group's statements follow, until one says that it is
// the last: its answer says what the group may keep.
const HostProtocol = "/sheaf/host/1"

// MaxHost is the size in bytes of the longest message of the host protocol.
const MaxHost = 17 << 20

// MaxHostMessages is how many requests a relay answers on one stream: the statements of
// the largest group fit into fewer.
const MaxHostMessages = 1024

// HostUp is a request: exactly one of its fields.
type HostUp struct {
	Claim *HostClaim `cbor:"1,keyasint,omitempty"`
	Said  *HostSaid  `cbor:"2,keyasint,omitempty"`
}

// HostDown is an answer: exactly one of its fields.
type HostDown struct {
	Refusal *Refusal `cbor:"1,keyasint,omitempty"` // the stream ends with it
	GoOn    *HostGo  `cbor:"2,keyasint,omitempty"`
	Hosted  *Hosted  `cbor:"3,keyasint,omitempty"` // to the last of the statements
}

// HostClaim shows a code. Proof is a signature by the code's key of context "host 1": the
// relay's ID, the device's and the group's, as the channel has the first two. So it is
// of no use to anybody else, and the code itself is not shown.
type HostClaim struct {
	Version uint64 `cbor:"1,keyasint"`
	Group   ID     `cbor:"2,keyasint"`
	Code    []byte `cbor:"3,keyasint"` // the public half of the code's key
	Proof   []byte `cbor:"4,keyasint"`
}

// HostMessage is what the code's key signs, and in which context.
func HostMessage(relay, device [32]byte, group ID) (context string, message []byte) {
	message = append(message, relay[:]...)
	message = append(message, device[:]...)
	return "host 1", append(message, group[:]...)
}

// HostSaid carries statements of the group, each encoded, those first that others build
// on.
type HostSaid struct {
	Statements [][]byte `cbor:"1,keyasint,omitempty"`
	Last       bool     `cbor:"2,keyasint,omitempty"`
}

// HostGo asks for the next request.
type HostGo struct{}

// Hosted says what the group may keep.
type Hosted struct {
	Name    string `cbor:"1,keyasint,omitempty"` // of the relay, for people
	Bytes   uint64 `cbor:"2,keyasint"`
	Program string `cbor:"3,keyasint,omitempty"`
}

// Codes of refusals of the host protocol, besides CodeNotMember, CodeBad, CodeFailed and
// CodeVersion.
const (
	CodeUnknownCode = "unknown-code" // the relay knows no such code
	CodeExpired     = "expired"
	CodeUsed        = "used" // by other groups, as often as it allows
	CodeRevoked     = "revoked"
	CodeRateLimited = "rate-limited" // asked too often
)

const maxHostName = 128

// Check refuses a request of no kind or several, and one over its limits.
func (m *HostUp) Check() error {
	if count(m.Claim != nil, m.Said != nil) != 1 {
		return errUnion
	}
	switch {
	case m.Claim != nil && (len(m.Claim.Code) != hashSize || len(m.Claim.Proof) != 64):
		return errors.New("key or proof of another length")
	case m.Said != nil && len(m.Said.Statements) > MaxStored:
		return fmt.Errorf("%d statements", len(m.Said.Statements))
	}
	return nil
}

// Check refuses an answer of no kind or several, and one over its limits.
func (m *HostDown) Check() error {
	if count(m.Refusal != nil, m.GoOn != nil, m.Hosted != nil) != 1 {
		return errUnion
	}
	if h := m.Hosted; h != nil && (len(h.Name) > maxHostName || len(h.Program) > maxProgram) {
		return errors.New("a name that is too long")
	}
	return nil
}
