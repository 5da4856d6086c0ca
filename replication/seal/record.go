package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"sheaf/crdt"
	"sheaf/replication/group"
)

// MaxRecord is the size in bytes of the longest encoded record.
const MaxRecord = 256 << 10

const recordVersion = 1

// recordContext is what a record's signature is for: see group.Keys.Sign.
const recordContext = "record 1"

// A Record is one state of one entry, sealed by a device for those who keep it. It
// is immutable. What stands in its Header can be read by anybody; the entry by
// members of the group alone, with Box.Open.
type Record struct {
	Header
	raw  []byte // the whole, encoded
	head []byte // Header, encoded
	box  []byte
	sig  group.Signature
}

// A Header is what a relay learns of an entry.
type Header struct {
	Group  group.ID
	Folder crdt.FolderID
	Token  Token
	Epoch  group.StatementID  // whose key it is sealed with
	Author group.DeviceID     // who sealed and signed it, which need not be who made the change
	Number uint64             // of the author's records in this folder, from 1, rising strictly
	Seen   crdt.VersionVector // of the entry: a record replaces those whose Seen it includes
	Dead   bool               // the entry is deleted; its references are those of its last content
	Refs   []Digest           // blocks that are in use by it, or
	Pages  []Digest           // pages that name them: see ParsePage
}

// headerItems is how a Header is written.
type headerItems struct {
	_       struct{} `cbor:",toarray"`
	Version uint64
	Group   group.ID
	Folder  crdt.FolderID
	Token   Token
	Epoch   group.StatementID
	Author  group.DeviceID
	Number  uint64
	Seen    []byte // 16 bytes each: replica, counter (big endian)
	Dead    bool
	Refs    []byte // 32 bytes each
	Pages   []byte // 32 bytes each
}

// recordItems is how a Record is written.
type recordItems struct {
	_      struct{} `cbor:",toarray"`
	Header []byte
	Box    []byte
	Sig    group.Signature
}

var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty
	e, err := options.EncMode()
	if err != nil {
		panic(fmt.Sprintf("seal: encoding options: %v", err)) // constant options: a programming error
	}
	d, err := cbor.DecOptions{
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 1 << 10, MaxMapPairs: 16,
	}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("seal: decoding options: %v", err))
	}
	return e, d
}

func encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("seal: encode %T: %v", v, err)) // plain data: a programming error
	}
	return b
}

// decode reads one item, which must be written as encode writes it: what is signed
// has one form.
func decode(what string, data []byte, v any) error {
	if err := decoding.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w: %w", what, ErrMalformed, err)
	}
	if !bytes.Equal(encode(v), data) {
		return fmt.Errorf("%s: not in the one form: %w", what, ErrMalformed)
	}
	return nil
}

func (h *Header) encode() []byte {
	return encode(headerItems{
		Version: recordVersion, Group: h.Group, Folder: h.Folder, Token: h.Token, Epoch: h.Epoch, Author: h.Author,
		Number: h.Number, Seen: encodeSeen(h.Seen), Dead: h.Dead, Refs: catDigests(h.Refs), Pages: catDigests(h.Pages),
	})
}

func decodeHeader(data []byte) (h Header, err error) {
	var w headerItems
	if err := decode("record", data, &w); err != nil {
		return h, err
	}
	h = Header{Group: w.Group, Folder: w.Folder, Token: w.Token, Epoch: w.Epoch, Author: w.Author, Number: w.Number, Dead: w.Dead}
	if w.Version != recordVersion {
		return h, fmt.Errorf("record: version %d, this is version %d: %w", w.Version, recordVersion, ErrMalformed)
	}
	if h.Seen, err = decodeSeen(w.Seen); err != nil {
		return h, err
	}
	if h.Refs, err = splitDigests(w.Refs); err != nil {
		return h, err
	}
	if h.Pages, err = splitDigests(w.Pages); err != nil {
		return h, err
	}
	if h.Number == 0 || len(h.Seen) == 0 || len(h.Refs) > MaxRefs || len(h.Pages) > MaxPages || len(h.Refs) > 0 && len(h.Pages) > 0 {
		return h, fmt.Errorf("record: number %d, seen of %d, %d references, %d pages: %w", h.Number, len(h.Seen), len(h.Refs), len(h.Pages), ErrMalformed)
	}
	return h, nil
}

func encodeSeen(v crdt.VersionVector) []byte {
	b := make([]byte, 0, 16*len(v))
	for _, d := range v {
		b = append(b, d.Replica[:]...)
		b = binary.BigEndian.AppendUint64(b, d.Counter)
	}
	return b
}

func decodeSeen(b []byte) (crdt.VersionVector, error) {
	if len(b)%16 != 0 || len(b) > 16*crdt.MaxReplicas {
		return nil, fmt.Errorf("record: seen of %d bytes: %w", len(b), ErrMalformed)
	}
	v := make(crdt.VersionVector, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		d := crdt.Dot{Replica: crdt.ReplicaID(b[:8]), Counter: binary.BigEndian.Uint64(b[8:])}
		if n := len(v); d.Counter == 0 || n > 0 && bytes.Compare(v[n-1].Replica[:], d.Replica[:]) >= 0 {
			return nil, fmt.Errorf("record: seen is not in order: %w", ErrMalformed)
		}
		v = append(v, d)
	}
	return v, nil
}

func catDigests(list []Digest) []byte {
	b := make([]byte, 0, len(list)*sha256.Size)
	for _, d := range list {
		b = append(b, d[:]...)
	}
	return b
}

// ParseRecord reads an encoded record, and makes sure that it was signed by its
// author: ErrMalformed, or group.ErrSignature. It keeps data, which must not change.
func ParseRecord(data []byte) (*Record, error) {
	r, err := ReadRecord(data)
	if err != nil {
		return nil, err
	}
	if !r.Author.Verify(recordContext, r.signed(), r.sig) {
		return nil, fmt.Errorf("record %d by %s: %w", r.Number, r.Author, group.ErrSignature)
	}
	return r, nil
}

// ReadRecord is ParseRecord for who has parsed the same bytes before and kept them
// where nobody else writes: it does not ask whether the signature is right.
func ReadRecord(data []byte) (*Record, error) {
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("record: %d bytes: %w", len(data), ErrMalformed)
	}
	var w recordItems
	if err := decode("record", data, &w); err != nil {
		return nil, err
	}
	r := &Record{raw: data, head: w.Header, box: w.Box, sig: w.Sig}
	var err error
	if r.Header, err = decodeHeader(w.Header); err != nil {
		return nil, err
	}
	return r, nil
}

// signed is what the author signs: the header, and what is sealed by its hash. Both
// are of known length, or come last.
func (r *Record) signed() []byte {
	sum := sha256.Sum256(r.box)
	return append(sum[:], r.head...)
}

// Encode gives the record as it is stored and sent. The result must not be changed.
func (r *Record) Encode() []byte { return r.raw }

// Replaces tells whether whoever has r needs o no more: r knows all that o does.
// Of two that know the same, neither needs the other; the caller keeps what it has.
func (r *Record) Replaces(o *Record) bool {
	return r.Token == o.Token && r.Folder == o.Folder && r.Seen.Includes(o.Seen)
}
