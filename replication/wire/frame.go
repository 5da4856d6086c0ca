package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// A SizeError reports a frame longer than its reader or writer allows.
type SizeError struct {
	Size uint64 // bytes the frame's payload has
	Max  int    // bytes it may have
}

// Error gives both sizes.
func (e *SizeError) Error() string {
	return fmt.Sprintf("message of %d bytes is longer than the %d allowed", e.Size, e.Max)
}

// A FormatError reports bytes that are not the message expected.
type FormatError struct {
	What string // the message or part that was being read
	Err  error
}

// Error says what was read and why it is wrong.
func (e *FormatError) Error() string { return fmt.Sprintf("malformed %s: %v", e.What, e.Err) }

// Unwrap gives the cause.
func (e *FormatError) Unwrap() error { return e.Err }

// The limits of a message's structure, whatever its size. Arrays are bounded
// by the frame: an item takes a byte at least.
const (
	maxArray = 1 << 17
	maxMap   = 1 << 10
	maxDepth = 16
)

// encoding and decoding are the CBOR modes of every message. Both are
// immutable.
var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty
	e, err := options.EncMode()
	if err != nil {
		panic(fmt.Sprintf("wire: encoding options: %v", err)) // constant options: a programming error
	}
	d, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   maxDepth,
		MaxArrayElements:  maxArray,
		MaxMapPairs:       maxMap,
		UTF8:              cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("wire: decoding options: %v", err))
	}
	return e, d
}

// Marshal encodes v as one CBOR item.
func Marshal(v any) ([]byte, error) { return encoding.Marshal(v) }

// Unmarshal decodes data, which must be exactly one CBOR item, into v. It
// refuses unknown fields, duplicate keys, tags and indefinite lengths. It
// fails with a *FormatError.
func Unmarshal(data []byte, v any) error {
	if err := decoding.Unmarshal(data, v); err != nil {
		return &FormatError{What: fmt.Sprintf("%T", v), Err: err}
	}
	return nil
}

// AppendMsg appends v as one frame to dst. It fails with a *SizeError if the
// payload would exceed limit bytes; dst is then returned unchanged.
func AppendMsg(dst []byte, v any, limit int) ([]byte, error) {
	body, err := encoding.Marshal(v)
	if err != nil {
		return dst, fmt.Errorf("encode %T: %w", v, err)
	}
	if len(body) > limit {
		return dst, &SizeError{Size: uint64(len(body)), Max: limit}
	}
	dst = binary.AppendUvarint(dst, uint64(len(body)))
	return append(dst, body...), nil
}

// copyBelow is the size in bytes up to which a payload is copied behind its length, so
// that both leave in one packet. Copying a larger one costs more than that saves.
const copyBelow = 64 << 10

// WriteMsg writes v as one frame, a short one with one call of w.Write. It fails with a
// *SizeError, before anything is written, if the payload would exceed limit bytes.
func WriteMsg(w io.Writer, v any, limit int) error {
	body, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	if len(body) > limit {
		return &SizeError{Size: uint64(len(body)), Max: limit}
	}
	frame := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64+min(len(body), copyBelow)), uint64(len(body)))
	if len(body) <= copyBelow {
		frame, body = append(frame, body...), nil
	}
	if _, err := w.Write(frame); err != nil {
		return fmt.Errorf("write %T: %w", v, err)
	}
	if len(body) > 0 {
		if _, err := w.Write(body); err != nil {
			return fmt.Errorf("write %T: %w", v, err)
		}
	}
	return nil
}

// A Checker is a message that can tell whether its parts make sense together.
type Checker interface{ Check() error }

// ReadMsg reads one frame of at most limit bytes into v, which must be a pointer
// to a zero value, and checks it if it is a Checker. The error is io.EOF alone
// when the stream ended before the frame, io.ErrUnexpectedEOF wrapped when it
// ended within; a *SizeError for too long a frame, of which nothing but the
// length was read; a *FormatError for bytes that are no such message.
//
// Memory grows with what arrives, not with what was announced.
func ReadMsg(r *bufio.Reader, v any, limit int) error {
	body, err := ReadFrame(r, nil, limit)
	if err != nil {
		return err
	}
	if err := Unmarshal(body, v); err != nil {
		return err
	}
	if c, ok := v.(Checker); ok {
		if err := c.Check(); err != nil {
			return &FormatError{What: fmt.Sprintf("%T", v), Err: err}
		}
	}
	return nil
}

// ReadFrame reads the payload of one frame, of at most limit bytes, into buf if
// it has the capacity. Errors are those of ReadMsg.
func ReadFrame(r *bufio.Reader, buf []byte, limit int) ([]byte, error) {
	size, err := readLength(r)
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, &SizeError{Size: size, Max: limit}
	}
	n, at := int(size), 0
	for at < n {
		// What was announced is believed 64 KiB at first, then as much again
		// as has arrived.
		step := min(n, at+growth(at))
		if cap(buf) < step {
			grown := make([]byte, step)
			copy(grown, buf[:at])
			buf = grown
		}
		buf = buf[:step]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, fmt.Errorf("read a message of %d bytes: %w", n, unexpected(err))
		}
		at = step
	}
	return buf[:n], nil
}

// growth is how much more is allocated on trust when at bytes have arrived.
func growth(at int) int { return max(at, 64<<10) }

// readLength reads a frame's length, in shortest form and below 2^35.
func readLength(r *bufio.Reader) (uint64, error) {
	var n uint64
	for i := range 5 {
		b, err := r.ReadByte()
		if err != nil {
			if i > 0 {
				err = unexpected(err)
			}
			if errors.Is(err, io.EOF) {
				return 0, io.EOF
			}
			return 0, fmt.Errorf("read a message's length: %w", err)
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, &FormatError{What: "length of a message", Err: errors.New("varint not in shortest form")}
			}
			return n, nil
		}
	}
	return 0, &FormatError{What: "length of a message", Err: errors.New("varint longer than 5 bytes")}
}

// unexpected turns the end of a stream within something into
// io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
