package node

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A home is the directory that holds all state of one device: its keys, its
// description, the account's statements, its configuration and the index
// database. All but the index are small files, each replaced as a whole and
// durably, so that the index can always be built anew from them, the disk and
// the peers.
type home struct{ dir string }

const (
	keysFile       = "keys"           // private keys, 0600
	deviceFile     = "device.json"    // description
	statementsFile = "statements"     // the account's statements
	addressesFile  = "addresses.json" // where peers were last reached
	indexDir       = "index"          // node/store
	socketFile     = "sheaf.sock"     // the local API
	configFile     = "config.toml"    // node/config
	tokenFile      = "api-token"      // node/api
	maxHomeFile    = 64 << 20         // no file of ours comes near
	releaseName    = ".sheaf-home"    // marks a directory as a home
	homeVersion    = "sheaf home 1\n" // what the mark holds
)

// A description is what a device knows about itself apart from its keys.
type description struct {
	Name    string              `json:"name"`
	Account string              `json:"account"` // group ID, hex
	Folders []folderDescription `json:"folders"`
	// Relays are addresses of relays that were named when the device was set up, each with
	// /p2p/ID, until the account's own list of them is here.
	Relays []string `json:"relays,omitempty"`
	// Recovered says that the device was made from the recovery phrase.
	Recovered bool `json:"recovered,omitempty"`
}

// A folderDescription is one folder that this device keeps on its disk.
type folderDescription struct {
	ID   string `json:"id"`   // crdt.FolderID, hex
	Name string `json:"name"` // "Sync"
	Kind string `json:"kind"` // "sync"
	Path string `json:"path"` // absolute
	// Fresh is set until the folder has once taken in a peer's whole index: it
	// has joined, or its database had to be made anew. Until then nothing on
	// this disk is recorded, so that a file which others know by another
	// identity is recognised and not created a second time.
	Fresh bool `json:"fresh,omitempty"`
	// Lost is when it was noticed that the database is lost (Unix nanoseconds), until
	// the disk has been looked at with what others know: see rebuilt.go.
	Lost   int64 `json:"lost,omitempty"`
	Paused bool  `json:"paused,omitempty"`
}

// A standing is what changes in a folder's description while it runs.
type standing struct {
	Fresh  bool
	Lost   int64
	Paused bool
}

// errNoHome is what openHome gives for a directory that is not a device's home.
var errNoHome = errors.New("this device is not set up: run `sheaf init` for a first device, or `sheaf join CODE` for one more")

// ErrHomeTaken is returned by Init and Join for a home that is in use already.
var ErrHomeTaken = errors.New("this device is set up already")

func openHome(dir string) (home, description, error) {
	h := home{dir}
	var d description
	mark, err := h.read(releaseName)
	if errors.Is(err, fs.ErrNotExist) {
		return h, d, errNoHome
	}
	if err != nil {
		return h, d, err
	}
	if string(mark) != homeVersion {
		return h, d, fmt.Errorf("%s was written by another release (%q): use that release, or another --home", dir, strings.TrimSpace(string(mark)))
	}
	data, err := h.read(deviceFile)
	if err != nil {
		return h, d, err
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return h, d, fmt.Errorf("read %s: %w: restore it from a copy, or join anew with another --home", h.path(deviceFile), err)
	}
	return h, d, nil
}

// makeHome makes an empty home. The mark is written last, by seal.
func makeHome(dir string) (home, error) {
	h := home{dir}
	if _, err := os.Lstat(h.path(releaseName)); err == nil {
		return h, fmt.Errorf("%w at %s: use another --home for a second device on this machine", ErrHomeTaken, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return h, fmt.Errorf("make home: %w", err)
	}
	return h, nil
}

// seal marks the home as complete: an init or join that was interrupted
// before leaves a directory that can simply be used again.
func (h home) seal() error { return h.write(releaseName, []byte(homeVersion), 0o600) }

func (h home) path(name string) string { return filepath.Join(h.dir, name) }

func (h home) read(name string) ([]byte, error) {
	info, err := os.Stat(h.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if info.Size() > maxHomeFile {
		return nil, fmt.Errorf("read %s: %d bytes is more than this file can have", name, info.Size())
	}
	data, err := os.ReadFile(h.path(name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// write replaces a file whole and durably: a crash leaves the old or the new.
func (h home) write(name string, data []byte, mode os.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	temp := h.path(name + ".new-" + strings.ToLower(rand.Text()[:8]))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(temp, h.path(name)); err != nil {
		return err
	}
	return syncDir(h.dir)
}

func (h home) describe(d description) error {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return h.write(deviceFile, append(data, '\n'), 0o600)
}
