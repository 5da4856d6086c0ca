package group

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func testCode(kind CodeKind, addresses ...string) Code {
	g := ID{1, 2, 3}
	if kind == RelayCode {
		g = ID{}
	}
	return must(NewCode(seeded("code"), kind, g, idOf("a"), addresses))
}

func TestCodeForms(t *testing.T) {
	t.Parallel()
	for kind := DeviceCode; kind <= RelayCode; kind++ {
		c := testCode(kind, "/ip4/192.0.2.7/tcp/4001", "/dns4/relay.example.org/udp/443/quic-v1/p2p/"+peerText(idOf("b")), "/ip4/198.51.100.1/tcp/4001/p2p/"+peerText(idOf("a")))
		text := c.Text()
		if !strings.HasPrefix(text, "sheaf-"+kind.String()+"-") || strings.ToLower(text) != text {
			t.Errorf("text %s", text)
		}
		wide := strings.Join(strings.SplitAfter(strings.ToUpper(text), "A"), " -\n\u2013 ")
		front := "sheaf-" + kind.String() + "-"
		digits := front + strings.NewReplacer("o", "0", "l", "1").Replace(strings.TrimPrefix(text, front))
		for _, form := range []string{text, c.URL(), wide, "  " + text + "\r\n", digits} {
			got, err := ParseCode(form, kind)
			if err != nil || got.Text() != text || fmt.Sprint(got.Addresses) != fmt.Sprint(c.Addresses) || got.Inviter != c.Inviter || got.Group != c.Group {
				t.Errorf("%q: %+v, %v", form, got, err)
			}
		}
	}
	t.Logf("a code with one IPv4 address has %d characters, a relay's %d",
		len(testCode(DeviceCode, "/ip4/192.0.2.7/tcp/4001").Text()), len(testCode(RelayCode, "/ip4/192.0.2.7/tcp/4001").Text()))
}

func TestCodeOfWrongKind(t *testing.T) {
	t.Parallel()
	for got := DeviceCode; got <= RelayCode; got++ {
		for want := DeviceCode; want <= RelayCode; want++ {
			_, err := ParseCode(testCode(got).Text(), want)
			if got == want {
				if err != nil {
					t.Error(err)
				}
				continue
			}
			var kind *WrongKindError
			if !errors.As(err, &kind) || kind.Got != got || kind.Want != want || !errors.Is(err, ErrWrongKind) || errors.Is(err, ErrMistyped) {
				t.Errorf("%s for %s: %v", got, want, err)
			}
		}
	}
	// The word in front does not make a device code a share's.
	dressed := strings.Replace(testCode(DeviceCode).Text(), "device", "share", 1)
	_, err := ParseCode(dressed, ShareCode)
	wantErr(t, err, ErrMistyped)
	// Nor does the same secret yield the same keys.
	d, s := testCode(DeviceCode), testCode(ShareCode)
	if d.secret != s.secret || must(d.Keys()).ID() == must(s.Keys()).ID() || d.key("names") == s.key("names") {
		t.Error("keys do not depend on the kind")
	}
}

func TestMistypedCodes(t *testing.T) {
	t.Parallel()
	text := testCode(DeviceCode, "/ip4/192.0.2.7/tcp/4001").Text()
	start := len("sheaf-device-")
	refused := func(what, typed string) {
		if _, err := ParseCode(typed, DeviceCode); !errors.Is(err, ErrMistyped) {
			t.Fatalf("%s accepted: %s: %v", what, typed, err)
		}
	}
	for i := start; i < len(text); i++ {
		for _, c := range []byte("abcdefghijklmnopqrstuvwxyz234567890189.") {
			same := c == text[i] || (c == '0' && text[i] == 'o') || (c == '1' && text[i] == 'l')
			if !same {
				refused("wrong letter", text[:i]+string(c)+text[i+1:])
			}
			refused("letter too many", text[:i]+string(c)+text[i:])
		}
		refused("letter missing", text[:i]+text[i+1:])
		refused("cut off", text[:i])
		for j := i + 1; j < len(text); j++ {
			if text[i] != text[j] {
				b := []byte(text)
				b[i], b[j] = b[j], b[i]
				refused("letters swapped", string(b))
			}
		}
	}
	for i := range start {
		if text[i] != '-' {
			refused("wrong letter in front", text[:i]+"x"+text[i+1:])
		}
	}
	for _, s := range []string{"", "sheaf", "sheaf-device", "hello", "sheaf://join/", "https://example.org/", strings.Repeat("a", maxCodeText+1)} {
		refused("no code", s)
	}
}

func TestCodeLimits(t *testing.T) {
	t.Parallel()
	for what, addresses := range map[string][]string{"many": make([]string, maxAddresses+1), "empty": {""}, "long": {strings.Repeat("x", 256)}} {
		if _, err := NewCode(seeded("x"), ShareCode, ID{1}, idOf("a"), addresses); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := NewCode(seeded("x"), RelayCode, ID{1}, idOf("a"), nil); err == nil {
		t.Error("a relay's code with a group")
	}
	if _, err := NewCode(bytes.NewReader(nil), RelayCode, ID{}, idOf("a"), nil); err == nil {
		t.Error("a code without randomness")
	}
}

// TestAddresses: whatever stands in an address comes out again, and usual ones
// are short.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, most := range map[string]int{
		"/ip4/192.0.2.7/tcp/4001": 9, "/ip6/2001:db8::1/udp/4001/quic-v1": 22, "/dns4/example.org/tcp/443/tls/ws": 20,
		"/ip4/192.0.2.7/tcp/4001/p2p/" + peerText(idOf("a")): 10, "/ip4/192.0.2.7/tcp/4001/p2p/" + peerText(idOf("b")) + "/p2p-circuit": 43,
		"/ip4/192.0.2.007/tcp/4001": 99, "/ip4/192.0.2.7/tcp/04001": 99, "/ip6/2001:DB8::1/tcp/1": 99, "/onion3/abc:80": 99, "x": 99, "/": 99, "//": 99,
		"/ip4": 99, "/ip4/": 99, "/dns/": 99, "/tcp/70000": 99, "/p2p/xyz": 99, "/ip4/::1/tcp/1": 99, "/ip6/1.2.3.4": 99, "/ip6/::ffff:1.2.3.4/tcp/1": 99,
	} {
		b := appendAddress(nil, address, idOf("a"))
		r := &reader{b, true}
		if got := r.address(idOf("a")); got != address || !r.ok || len(r.b) > 0 || len(b) > most {
			t.Errorf("%s: %q in %d bytes", address, got, len(b))
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		address := rapid.OneOf(rapid.StringN(1, 50, 200), rapid.Custom(func(rt *rapid.T) string {
			return "/" + strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"ip4", "1.2.3.4", "ip6", "::1", "tcp", "80", "dns", "x", "p2p", peerText(idOf("a")), "ws", ""})).Draw(rt, "words"), "/")
		})).Draw(rt, "address")
		if len(address) > maxAddress {
			return
		}
		r := &reader{appendAddress(nil, address, idOf("a")), true}
		if got := r.address(idOf("a")); got != address || !r.ok || len(r.b) > 0 {
			rt.Fatalf("%q came out as %q", address, got)
		}
	})
}

func TestCodeShowsNothing(t *testing.T) {
	t.Parallel()
	c := testCode(ShareCode)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, c); got != "sheaf-share-(secret)" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if c.LogValue().String() != c.String() {
		t.Error("log value")
	}
}
