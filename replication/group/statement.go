package group

import (
	"crypto/sha256"
	"fmt"
	"slices"
)

// A Statement is one signed, immutable thing that a device said about its group.
// One that exists is well formed and signed by its author; whether it counts is
// for Log.Evaluate to say.
//
// On the wire it is the CBOR array [body, signature] of two byte strings; the
// body is a deterministic CBOR map with small integers for keys.
type Statement struct {
	id  StatementID
	b   *body
	raw []byte
}

// envelope is a statement on the wire.
type envelope struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
	Sig  Signature
}

// ParseStatement reads what Encode gave and verifies all that can be verified
// without other statements, signatures included: ErrMalformed or ErrSignature.
func ParseStatement(raw []byte) (Statement, error) {
	var e envelope
	if err := unmarshal(raw, MaxStatement, &e); err != nil {
		return Statement{}, fmt.Errorf("read statement: %w", err)
	}
	b := new(body)
	if err := unmarshal(e.Body, MaxStatement, b); err != nil {
		return Statement{}, fmt.Errorf("read statement: %w", err)
	}
	// The signature first: nothing is computed for whom did not sign.
	if !b.Author.Verify(statementContext, e.Body, e.Sig) {
		return Statement{}, fmt.Errorf("statement by %s: %w", b.Author, ErrSignature)
	}
	if err := b.checkShape(); err != nil {
		return Statement{}, fmt.Errorf("read statement: %w", err)
	}
	return Statement{id: hashBody(e.Body), b: b, raw: slices.Clone(raw)}, nil
}

// sign makes a statement of a body. It is checked as any other is, so that this
// package never sends what it would not accept.
func (b *body) sign(k Keys) (Statement, error) {
	b.Version = bodyVersion
	enc := marshal(b)
	raw := marshal(envelope{Body: enc, Sig: k.Sign(statementContext, enc)})
	s, err := ParseStatement(raw)
	if err != nil {
		return Statement{}, fmt.Errorf("make %s statement: %w", b.kind(), err)
	}
	return s, nil
}

func hashBody(enc []byte) StatementID { return sha256.Sum256(signed("statement id 1", enc)) }

// ID names the statement.
func (s Statement) ID() StatementID { return s.id }

// Kind tells what it says.
func (s Statement) Kind() Kind { return s.b.kind() }

// Author is the device that signed it.
func (s Statement) Author() DeviceID { return s.b.Author }

// Seq is the place in its author's own sequence, from 1.
func (s Statement) Seq() uint64 { return s.b.Seq }

// Parents are the newest statements its author had seen.
func (s Statement) Parents() []StatementID { return slices.Clone(s.b.Parents) }

// Group is the group it belongs to. A Genesis makes its own.
func (s Statement) Group() ID {
	if s.b.Genesis != nil {
		return ID(s.id[:len(ID{})])
	}
	return s.b.Group
}

// Encode gives the statement's bytes, for ParseStatement. The caller must not
// change them.
func (s Statement) Encode() []byte { return s.raw }

// IsZero tells whether there is no statement.
func (s Statement) IsZero() bool { return s.b == nil }

// String says who said what, for logs.
func (s Statement) String() string {
	if s.IsZero() {
		return "no statement"
	}
	return fmt.Sprintf("%s %s by %s", s.Kind(), s.id, s.b.Author)
}
