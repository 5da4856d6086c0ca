package group

import "fmt"

// A Message is one of those of the protocols /sheaf/join/1 (Hello, Offer, Claim,
// Answer, Delivery, Done, Refusal) and /sheaf/groups/1 (Heads, Batch). The caller
// frames and carries them; a version of the protocols stands in their names.
type Message interface{ isMessage() }

// Hello opens a join: who asks, and by which code. It shows the code's public
// half only. For a recovery, Paper names the paper device instead, and the group
// is what the server finds it in.
type Hello struct {
	Kind    CodeKind `cbor:"0,keyasint,omitempty"`
	Group   ID       `cbor:"1,keyasint,omitzero"`
	Invite  DeviceID `cbor:"2,keyasint,omitzero"` // public half of the code's key
	Inviter DeviceID `cbor:"3,keyasint,omitzero"`
	Paper   DeviceID `cbor:"4,keyasint,omitzero"`
	Device  DeviceID `cbor:"5,keyasint"` // the joiner's
	Nonce   [16]byte `cbor:"6,keyasint"`
}

// Offer answers a Hello: what the joiner is invited to.
type Offer struct {
	Group  ID       `cbor:"0,keyasint"`
	Server DeviceID `cbor:"1,keyasint"`
	Nonce  [16]byte `cbor:"2,keyasint"`
	Invite []byte   `cbor:"3,keyasint,omitempty"` // the Invite statement; none for a recovery
	Join   []byte   `cbor:"4,keyasint,omitempty"` // what the joiner said before, if it did: it says it again
}

// Claim proves the code (or the paper device) and joins.
type Claim struct {
	Proof Signature `cbor:"0,keyasint"` // of all said so far and Join, by the code's key
	Join  []byte    `cbor:"1,keyasint,omitempty"`
}

// Answer is a part of the group's statements; More tells that another follows.
type Answer struct {
	Statements [][]byte `cbor:"0,keyasint"`
	More       bool     `cbor:"1,keyasint,omitempty"`
}

// Delivery brings what the joiner said on joining. It may be empty.
type Delivery struct {
	Statements [][]byte `cbor:"0,keyasint,omitempty"`
}

// Done says that the delivery is stored.
type Done struct{}

// Refusal ends a join: see Refuse.
type Refusal struct {
	Why uint8 `cbor:"0,keyasint"`
}

// Heads says what a side of an exchange has: the newest statements and a sample
// of older ones, ever sparser.
type Heads struct {
	Group ID            `cbor:"0,keyasint"`
	Heads []StatementID `cbor:"1,keyasint,omitempty"`
	Older []StatementID `cbor:"2,keyasint,omitempty"`
}

// Batch is a part of what the other side lacks; More tells that another follows.
type Batch struct {
	Group      ID       `cbor:"0,keyasint"`
	Statements [][]byte `cbor:"1,keyasint,omitempty"`
	More       bool     `cbor:"2,keyasint,omitempty"`
}

func (Hello) isMessage()    {}
func (Offer) isMessage()    {}
func (Claim) isMessage()    {}
func (Answer) isMessage()   {}
func (Delivery) isMessage() {}
func (Done) isMessage()     {}
func (Refusal) isMessage()  {}
func (Heads) isMessage()    {}
func (Batch) isMessage()    {}

// union is a message on the wire: a CBOR map with one entry.
type union struct {
	Hello    *Hello    `cbor:"1,keyasint,omitempty"`
	Offer    *Offer    `cbor:"2,keyasint,omitempty"`
	Claim    *Claim    `cbor:"3,keyasint,omitempty"`
	Answer   *Answer   `cbor:"4,keyasint,omitempty"`
	Delivery *Delivery `cbor:"5,keyasint,omitempty"`
	Done     *Done     `cbor:"6,keyasint,omitempty"`
	Refusal  *Refusal  `cbor:"7,keyasint,omitempty"`
	Heads    *Heads    `cbor:"8,keyasint,omitempty"`
	Batch    *Batch    `cbor:"9,keyasint,omitempty"`
}

// EncodeMessage gives a message's bytes: at most MaxMessage for those that this
// package makes.
func EncodeMessage(m Message) []byte {
	var u union
	switch m := m.(type) {
	case Hello:
		u.Hello = &m
	case Offer:
		u.Offer = &m
	case Claim:
		u.Claim = &m
	case Answer:
		u.Answer = &m
	case Delivery:
		u.Delivery = &m
	case Done:
		u.Done = &m
	case Refusal:
		u.Refusal = &m
	case Heads:
		u.Heads = &m
	case Batch:
		u.Batch = &m
	}
	return marshal(u)
}

// DecodeMessage is the inverse of EncodeMessage: ErrMalformed if the bytes are
// no message or more than MaxMessage. Statements in it are not judged yet.
func DecodeMessage(b []byte) (Message, error) {
	var u union
	if err := unmarshal(b, MaxMessage, &u); err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	var out []Message
	if u.Hello != nil {
		out = append(out, *u.Hello)
	}
	if u.Offer != nil {
		out = append(out, *u.Offer)
	}
	if u.Claim != nil {
		out = append(out, *u.Claim)
	}
	if u.Answer != nil {
		out = append(out, *u.Answer)
	}
	if u.Delivery != nil {
		out = append(out, *u.Delivery)
	}
	if u.Done != nil {
		out = append(out, *u.Done)
	}
	if u.Refusal != nil {
		out = append(out, *u.Refusal)
	}
	if u.Heads != nil {
		out = append(out, *u.Heads)
	}
	if u.Batch != nil {
		out = append(out, *u.Batch)
	}
	if len(out) != 1 {
		return nil, fmt.Errorf("read message: %d in one: %w", len(out), ErrMalformed)
	}
	return out[0], nil
}

// refusals are the reasons that travel, by their number on the wire.
var refusals = [...]error{1: ErrWrongCode, 2: ErrExpired, 3: ErrUsed, 4: ErrRevoked, 5: ErrWrongKind, 6: ErrRateLimited, 7: ErrRemoved, 8: ErrProof, 9: ErrTooMany, 10: ErrAlreadyMember}

// pageLimit is how many bytes of statements go into one message: MaxMessage
// leaves room for what is around them. One statement always fits.
const (
	pageLimit = MaxStatement
	pageCount = 1024
)

// pages divides statements over messages.
func pages(statements []Statement) [][][]byte {
	out := [][][]byte{nil}
	size := 0
	for _, s := range statements {
		last := len(out) - 1
		if len(out[last]) > 0 && (size+len(s.raw) > pageLimit || len(out[last]) == pageCount) {
			out, size, last = append(out, nil), 0, last+1
		}
		out[last] = append(out[last], s.raw)
		size += len(s.raw)
	}
	return out
}

func parseAll(raw [][]byte) ([]Statement, error) {
	out := make([]Statement, 0, len(raw))
	for _, b := range raw {
		s, err := ParseStatement(b)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}
