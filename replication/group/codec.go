package group

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of what is read from others. Everything is bounded in bytes before it
// is decoded, and in counts while it is.
const (
	// MaxStatement bounds an encoded statement: an epoch of MaxMembers fits.
	MaxStatement = 1 << 20
	// MaxStatements bounds a log.
	MaxStatements = 16384
	// MaxMembers bounds members and open invites together: to each of them an
	// epoch seals its key.
	MaxMembers = 512
	// MaxMessage bounds an encoded message of the join and groups protocols.
	MaxMessage = MaxStatement + 64<<10

	maxSeq     = 4096 // statements by one author
	maxParents = 256
	maxTargets = 64   // devices in one Remove
	maxCuts    = 1024 // replicas of one removed device
	maxLinks   = 64
	maxUses    = 1000
	maxNameBox = 512
	maxArray   = 2048
)

// encMode is core deterministic CBOR (RFC 8949, section 4.2.1); decMode accepts
// what is well formed and bounded. unmarshal adds that only the deterministic
// encoding is accepted, so that a value has exactly one.
var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   8,
		MaxArrayElements:  maxArray,
		MaxMapPairs:       64,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options: cannot fail
	}
	return v
}

// marshal encodes a value of this package's own types, which cannot fail.
func marshal(v any) []byte { return must(encMode.Marshal(v)) }

// unmarshal decodes b into v, which must be empty, and refuses more than limit
// bytes and any other encoding than marshal's.
func unmarshal(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("%d bytes, limit %d: %w", len(b), limit, ErrMalformed)
	}
	if err := decMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if !bytes.Equal(marshal(v), b) {
		return fmt.Errorf("not in deterministic form: %w", ErrMalformed)
	}
	return nil
}
