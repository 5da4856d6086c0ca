package group

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/tyler-smith/go-bip39"
)

// phraseWords is how many words a recovery phrase has: 256 bits and a checksum.
const phraseWords = 24

// A PhraseError says what is wrong with a recovery phrase. It never repeats a
// word of it, so it is safe in a log.
type PhraseError struct {
	Words   int // how many words there were
	Unknown int // the first word that is not in the list, counted from 1; 0 if all are
}

// Error says what is wrong and what to look at.
func (e *PhraseError) Error() string {
	switch {
	case e.Words != phraseWords:
		return fmt.Sprintf("recovery phrase has %d words instead of %d", e.Words, phraseWords)
	case e.Unknown > 0:
		return fmt.Sprintf("word %d of the recovery phrase is not in the word list", e.Unknown)
	}
	return "recovery phrase does not check: a word is wrong or out of place"
}

// NewPhrase draws 32 bytes from rand and gives them as a recovery phrase: 24
// words of the English BIP-39 list.
func NewPhrase(rand io.Reader) (string, error) {
	var entropy [32]byte
	if _, err := io.ReadFull(rand, entropy[:]); err != nil {
		return "", fmt.Errorf("draw recovery phrase: %w", err)
	}
	phrase, err := bip39.NewMnemonic(entropy[:])
	if err != nil {
		return "", fmt.Errorf("make recovery phrase: %w", err)
	}
	return phrase, nil
}

// PhraseKeys gives the keys of the paper device that a recovery phrase is: HKDF
// over the BIP-39 seed (no passphrase). Upper case, extra white space, commas
// and numbering are forgiven. A wrong phrase is a *PhraseError.
func PhraseKeys(phrase string) (Keys, error) {
	words := strings.FieldsFunc(strings.ToLower(phrase), func(r rune) bool { return !unicode.IsLetter(r) })
	if len(words) != phraseWords {
		return Keys{}, &PhraseError{Words: len(words)}
	}
	for i, w := range words {
		if _, ok := bip39.GetWordIndex(w); !ok {
			return Keys{}, &PhraseError{Words: len(words), Unknown: i + 1}
		}
	}
	seed, err := bip39.NewSeedWithErrorChecking(strings.Join(words, " "), "")
	if err != nil {
		return Keys{}, &PhraseError{Words: len(words)}
	}
	return deriveKeys(seed, "sheaf paper device 1")
}
