package group

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestPhrase(t *testing.T) {
	t.Parallel()
	phrase := must(NewPhrase(seeded("phrase")))
	words := strings.Fields(phrase)
	if len(words) != phraseWords {
		t.Fatalf("%d words", len(words))
	}
	keys := must(PhraseKeys(phrase))
	numbered := ""
	for i, w := range words {
		numbered += fmt.Sprintf("%d. %s,\n", i+1, strings.ToUpper(w))
	}
	for _, form := range []string{"  " + strings.Join(words, "\t\n ") + "\r\n", strings.ToUpper(phrase), numbered} {
		if k, err := PhraseKeys(form); err != nil || k.ID() != keys.ID() || !bytes.Equal(k.Device().Seal, keys.Device().Seal) {
			t.Errorf("%q: %v", form, err)
		}
	}
	other := must(NewPhrase(seeded("another")))
	if must(PhraseKeys(other)).ID() == keys.ID() {
		t.Error("two phrases, one device")
	}
	if _, err := NewPhrase(bytes.NewReader(nil)); err == nil {
		t.Error("a phrase without randomness")
	}
}

func TestWrongPhrases(t *testing.T) {
	t.Parallel()
	words := strings.Fields(must(NewPhrase(seeded("phrase"))))
	change := func(f func(w []string) []string) string { return strings.Join(f(append([]string(nil), words...)), " ") }
	for _, c := range []struct {
		phrase, says string
	}{
		{"", "0 words"},
		{change(func(w []string) []string { return w[1:] }), "23 words"},
		{change(func(w []string) []string { return append(w, "zoo") }), "25 words"},
		{change(func(w []string) []string { w[6] = "sheaf"; return w }), "word 7"},
		{change(func(w []string) []string { w[0], w[1] = w[1], w[0]; return w }), "does not check"},
	} {
		_, err := PhraseKeys(c.phrase)
		var p *PhraseError
		if !errors.As(err, &p) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.phrase, err)
		}
		if err != nil && strings.Contains(err.Error(), "sheaf ") {
			t.Errorf("the error repeats a word: %v", err)
		}
	}
}

func TestKeysFile(t *testing.T) {
	t.Parallel()
	k := keysOf("a")
	b := k.Marshal()
	got, err := ParseKeys(b)
	if err != nil || got.ID() != k.ID() || !bytes.Equal(got.Device().Seal, k.Device().Seal) {
		t.Fatalf("came back as %v, %v", got, err)
	}
	for i := range b {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, err := ParseKeys(damaged); !errors.Is(err, ErrMalformed) {
			t.Fatalf("byte %d damaged: %v", i, err)
		}
		if _, err := ParseKeys(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d: %v", i, err)
		}
	}
	if _, err := GenerateKeys(bytes.NewReader(b[:63])); err == nil {
		t.Error("keys from too little randomness")
	}
}

func TestSignaturesKeepContextsApart(t *testing.T) {
	t.Parallel()
	k := keysOf("a")
	sig := k.Sign("one", []byte("message"))
	for _, c := range []struct {
		id               DeviceID
		context, message string
		want             bool
	}{
		{k.ID(), "one", "message", true}, {k.ID(), "two", "message", false}, {k.ID(), "one\x00m", "essage", false},
		{k.ID(), "one", "Message", false}, {idOf("b"), "one", "message", false},
	} {
		if c.id.Verify(c.context, []byte(c.message), sig) != c.want {
			t.Errorf("%q %q", c.context, c.message)
		}
	}
	if DeviceID(k.SigningKey().Public().(ed25519.PublicKey)) != k.ID() {
		t.Error("the libp2p key is another")
	}
}
