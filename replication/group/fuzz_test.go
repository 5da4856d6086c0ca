package group

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

func goldenStatements(tb testing.TB) []Statement {
	tb.Helper()
	var v vectors
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join("testdata", "vectors.json"))), &v); err != nil {
		tb.Fatal(err)
	}
	var out []Statement
	for _, s := range v.Statements {
		out = append(out, must(ParseStatement(must(base64.StdEncoding.DecodeString(s.Raw)))))
	}
	return out
}

// FuzzStatement: what parses encodes to the same bytes.
func FuzzStatement(f *testing.F) {
	for _, s := range goldenStatements(f) {
		f.Add(s.raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseStatement(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Encode(), b) || s.Kind() == 0 || s.String() == "" {
			t.Fatal("came out differently")
		}
	})
}

// FuzzBody gets behind the signature: a member signs whatever it likes and all
// of the package has to live with it.
func FuzzBody(f *testing.F) {
	golden := goldenStatements(f)
	for _, s := range golden {
		f.Add(marshal(s.b))
	}
	f.Fuzz(func(t *testing.T, enc []byte) {
		b := new(body)
		if unmarshal(enc, MaxStatement, b) != nil {
			return
		}
		b.Author = idOf("a")
		if b.Genesis == nil {
			b.Group = golden[0].Group()
		}
		s, err := b.sign(keysOf("a"))
		if err != nil {
			return
		}
		l := must(LoadLog(golden))
		before := len(l.Evaluate().Members)
		added, err := l.Add(s)
		if err != nil || len(added) == 0 {
			return
		}
		st := l.Evaluate()
		ring, _ := st.OpenKeys(keysOf("a"))
		st.Named(ring)
		if _, err := LoadLog(l.Statements()); err != nil || before == 0 {
			t.Fatal(err)
		}
	})
}

// FuzzMessage: what decodes encodes to the same bytes.
func FuzzMessage(f *testing.F) {
	s := goldenStatements(f)[0]
	l := must(LoadLog([]Statement{s}))
	for _, m := range []Message{Hello{Kind: DeviceCode, Device: idOf("a")}, Offer{Invite: s.raw}, Claim{Join: s.raw}, Answer{Statements: [][]byte{s.raw}, More: true},
		Delivery{}, Done{}, Refusal{Why: 1}, l.Tell(), l.Batch(s)[0]} {
		f.Add(EncodeMessage(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		if !bytes.Equal(EncodeMessage(m), b) {
			t.Fatal("came out differently")
		}
		l := must(LoadLog([]Statement{s}))
		switch m := m.(type) {
		case Heads:
			_, _ = l.Lacking(m)
		case Batch:
			_, _ = l.Take(m)
		case Refusal:
			_ = m.Err()
		case Hello:
			_, _, _ = NewAdmission(seeded("x"), Host{Log: l, Remote: m.Device}, m, noon)
		case Offer:
			j, _, _ := NewJoiner(seeded("x"), testCode(DeviceCode), keysOf("b"), "b", ID{})
			_, _, _ = j.Offer(m.Server, m)
		}
	})
}

// FuzzCode: what is read is written the same, whatever form it had.
func FuzzCode(f *testing.F) {
	for _, c := range goldenCodes() {
		f.Add(c.Text())
		f.Add(c.URL())
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ReadCode(text)
		if err != nil {
			return
		}
		again, err := ParseCode(c.Text(), c.Kind)
		if err != nil || again.Text() != c.Text() || len(c.Addresses) > maxAddresses {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// FuzzCodeBody gets behind the checksum.
func FuzzCodeBody(f *testing.F) {
	for _, c := range goldenCodes() {
		f.Add(appendAddress(nil, c.Addresses[0], c.Inviter))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{b, true}
		for r.ok && len(r.b) > 0 {
			if a := r.address(idOf("a")); r.ok && (a == "" || len(a) > maxAddress) {
				t.Fatalf("address %q", a)
			}
		}
	})
}

// FuzzKeys: a damaged key file is never taken for good.
func FuzzKeys(f *testing.F) {
	f.Add(keysOf("a").Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := ParseKeys(b); err == nil && !bytes.Equal(k.Marshal(), b) {
			t.Fatal("came out differently")
		}
	})
}

// FuzzPhrase: no text makes it fail otherwise than by an error.
func FuzzPhrase(f *testing.F) {
	f.Add(must(NewPhrase(seeded("vectors"))))
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = PhraseKeys(text)
	})
}
