package daemon

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sheaf/node/api"
	"sheaf/replication/group"
)

const keyFile = "key"

// writeFile replaces a file whole and durably: a crash leaves the old or the new.
func writeFile(name string, data []byte, mode os.FileMode) (err error) {
	temp := name + ".new-" + strings.ToLower(rand.Text()[:8])
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err == nil {
		err = syncDir(filepath.Dir(name))
	}
	return err
}

// errNoHome is when there is no relay in a directory.
func errNoHome(home string) error {
	return api.Errorf(api.ErrUsage, "set one up with `sheaf-relay init`, or name its --home", "there is no relay in %s", home)
}

func isHome(home string) error {
	_, err := os.Stat(filepath.Join(home, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return errNoHome(home)
	}
	if err != nil {
		return fmt.Errorf("look at the home: %w", err)
	}
	return nil
}

// Init makes a relay's home, with a key of its own.
func Init(home string, c Config) (group.DeviceID, error) {
	unlock, err := lock(home)
	if err != nil {
		return group.DeviceID{}, err
	}
	defer unlock()
	if err := isHome(home); err == nil {
		return group.DeviceID{}, api.Errorf(api.ErrConflict, "use another --home for a second one", "there is a relay in %s already", home)
	}
	keys, err := group.GenerateKeys(rand.Reader)
	if err != nil {
		return group.DeviceID{}, err
	}
	if err := c.write(home); err != nil {
		return group.DeviceID{}, err
	}
	// Last: what was interrupted before is no home, and can be done again.
	return keys.ID(), writeFile(filepath.Join(home, keyFile), keys.Marshal(), 0o600)
}

// lock makes the calling process the only one that works on a home.
func lock(home string) (unlock func(), err error) {
	l, err := api.LockHome(home)
	if errors.Is(err, api.ErrConflict) {
		return nil, &api.Error{Kind: api.ErrConflict, Message: "a relay is running for " + home + " already", Remedy: "stop it, or use another --home", Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil // the system does it at the latest when the process ends
}

func readKeys(home string) (group.Keys, error) {
	data, err := os.ReadFile(filepath.Join(home, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return group.Keys{}, errNoHome(home)
	}
	if err != nil {
		return group.Keys{}, fmt.Errorf("read the relay's key: %w", err)
	}
	keys, err := group.ParseKeys(data)
	if err != nil {
		return group.Keys{}, fmt.Errorf("read %s: %w: restore it from a copy of the home", filepath.Join(home, keyFile), err)
	}
	return keys, nil
}
