package wire

import (
	"bufio"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// The protocols of a peer session, as streams are opened for them.
const (
	IndexProtocol  = "/sheaf/index/1"
	BlocksProtocol = "/sheaf/blocks/1"
)

// Version is the version of both protocols that this program speaks.
const Version = 1

// A VersionError reports a peer that speaks another version of a protocol.
type VersionError struct {
	Protocol     string // its name without version, "/sheaf/index"
	Ours, Theirs uint64
	Program      string // what the peer says it runs; for people only
}

// Error names both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the peer (%s) speaks version %d of %s, this program version %d", e.Program, e.Theirs, e.Protocol, e.Ours)
}

// An ID is a FolderID or the ID of a store. It decodes from exactly 16 bytes.
type ID [16]byte

// MarshalCBOR encodes the ID as a byte string.
func (id ID) MarshalCBOR() ([]byte, error) {
	return append([]byte{0x50}, id[:]...), nil // major type 2, length 16
}

// UnmarshalCBOR decodes a byte string of 16 bytes.
func (id *ID) UnmarshalCBOR(data []byte) error {
	if len(data) != 17 || data[0] != 0x50 {
		return fmt.Errorf("an ID is not a byte string of 16 bytes")
	}
	copy(id[:], data[1:])
	return nil
}

// Hello is the first frame in each direction of an index stream. Its first two
// fields keep their place in every version to come.
type Hello struct {
	Version uint64 `cbor:"1,keyasint"`
	Program string `cbor:"2,keyasint"` // name and version, for messages to people
	Store   ID     `cbor:"3,keyasint"` // the sender's index database: its sequence numbers mean something within it alone
}

const (
	maxHello   = 4 << 10
	maxProgram = 256
)

// WriteHello writes h with this program's Version.
func WriteHello(w io.Writer, h Hello) error {
	h.Version = Version
	return WriteMsg(w, h, maxHello)
}

// ReadHello reads the peer's Hello. It fails with a *VersionError if the peer
// speaks another version, whatever else that version's Hello holds, else like
// ReadMsg.
func ReadHello(r *bufio.Reader) (Hello, error) {
	body, err := ReadFrame(r, nil, maxHello)
	if err != nil {
		return Hello{}, err
	}
	var any struct {
		Version uint64 `cbor:"1,keyasint"`
		Program string `cbor:"2,keyasint"`
	}
	if err := lenient.Unmarshal(body, &any); err != nil {
		return Hello{}, &FormatError{What: "hello", Err: err}
	}
	if len(any.Program) > maxProgram {
		return Hello{}, &FormatError{What: "hello", Err: fmt.Errorf("program name of %d bytes", len(any.Program))}
	}
	if any.Version != Version {
		return Hello{}, &VersionError{Protocol: "/sheaf/index", Ours: Version, Theirs: any.Version, Program: fmt.Sprintf("%q", any.Program)}
	}
	var h Hello
	if err := Unmarshal(body, &h); err != nil {
		return Hello{}, err
	}
	return h, nil
}

// lenient decodes what all versions of Hello have in common.
var lenient = func() cbor.DecMode {
	d, err := cbor.DecOptions{
		DupMapKey:       cbor.DupMapKeyEnforcedAPF,
		IndefLength:     cbor.IndefLengthForbidden,
		MaxNestedLevels: maxDepth,
		MaxMapPairs:     maxMap,
	}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("wire: decoding options: %v", err))
	}
	return d
}()
