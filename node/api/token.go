package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	tokenName = "api-token"
	maxToken  = 1 << 10
)

// Token gives the bearer token of a home's TCP door, making one if there is
// none. The file, api-token, is readable by the user alone.
func Token(home string) (string, error) {
	path := filepath.Join(home, tokenName)
	for range 2 { // the second time if somebody else made it meanwhile
		token, err := readToken(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return token, err
		}
		if err := makeToken(path, false); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	return readToken(path)
}

// NewToken replaces the token: who has the old one is out at once, also of a
// node that is running.
func NewToken(home string) (string, error) {
	path := filepath.Join(home, tokenName)
	if err := makeToken(path, true); err != nil {
		return "", err
	}
	return readToken(path)
}

func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read the API token: %w", err)
	}
	if info.Size() > maxToken {
		return "", fmt.Errorf("read the API token: %s has %d bytes: remove it, a new one is made", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the API token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 20 {
		return "", fmt.Errorf("read the API token: %s holds no token: remove it, a new one is made", path)
	}
	return token, nil
}

// makeToken puts a whole file in place, so that a reader never sees half a
// token: by a link that fails if there is one, or by a rename that replaces it.
func makeToken(path string, replace bool) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tokenName+".new-*") // mode 0600
	if err != nil {
		return fmt.Errorf("make an API token: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already if it was renamed
	_, err = f.WriteString(rand.Text() + rand.Text() + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && replace {
		err = os.Rename(f.Name(), path)
	} else if err == nil {
		err = os.Link(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("make an API token: %w", err)
	}
	return nil
}
