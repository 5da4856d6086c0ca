package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/replication/group"
)

// InitOptions say what Init makes.
type InitOptions struct {
	Home string // the directory for all state of this device
	Name string // of the device
	Dir  string // the Sync folder; made if it is not there
}

// InitResult is what Init made. RecoveryPhrase is kept nowhere.
type InitResult struct {
	Device         string
	Account        string
	RecoveryPhrase string
}

// syncName is the name by which the account's own folder is known, and from
// which its ID is derived.
const syncName = "sync"

// Init makes the first device of a new account. What is in Dir already becomes
// the folder's content when the node first runs. An Init that fails or is
// interrupted can be done again.
func Init(ctx context.Context, o InitOptions) (InitResult, error) {
	if err := checkSetup(o.Name, o.Home, o.Dir); err != nil {
		return InitResult{}, err
	}
	h, err := makeHome(o.Home)
	if err != nil {
		return InitResult{}, setupError(err)
	}
	if err := ctx.Err(); err != nil {
		return InitResult{}, err
	}
	keys, id, phrase, err := foundAccount(h, o.Name)
	if err != nil {
		return InitResult{}, err
	}
	if err := h.settle(description{Name: o.Name}, id, o.Dir, false); err != nil {
		return InitResult{}, setupError(err)
	}
	return InitResult{Device: keys.ID().String(), Account: id.String(), RecoveryPhrase: phrase}, nil
}

// settle ends the setting up of a home: the Sync folder, the description, and
// last the mark that makes it a home.
func (h home) settle(d description, account group.ID, dir string, fresh bool) error {
	folder := crdt.FolderID(group.State{Group: account}.FolderID(syncName))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the Sync folder: %w", err)
	}
	root, err := disk.NewOS(dir)
	if err != nil {
		return err
	}
	err = disk.Init(root, folder)
	if cerr := root.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	d.Account = account.String()
	d.Folders = []folderDescription{{ID: hex.EncodeToString(folder[:]), Name: "Sync", Kind: syncName, Path: dir, Fresh: fresh}}
	if err := h.describe(d); err != nil {
		return err
	}
	return h.seal()
}

// checkSetup judges the names and places that a person gave.
func checkSetup(name, homeDir, dir string) error {
	if err := group.CheckName(name); err != nil {
		return api.Errorf(api.ErrUsage, "give a short name without control characters, such as --name laptop", "device name %q: %w", name, err)
	}
	for what, p := range map[string]string{"--home": homeDir, "--dir": dir} {
		if !filepath.IsAbs(p) {
			return api.Errorf(api.ErrUsage, "give a full path", "%s %q is not absolute", what, p)
		}
	}
	if inside(homeDir, dir) {
		return api.Errorf(api.ErrUsage, "choose a --home outside it", "the device's own state in %s would be synced with %s", homeDir, dir)
	}
	return checkUnserved(dir)
}

// checkUnserved refuses a directory that a running node serves, while nothing is
// made yet and nothing said to anybody.
func checkUnserved(dir string) error {
	root, err := disk.NewOS(dir)
	if err != nil {
		return nil //nolint:nilerr // it is made later, where it is also said what else is wrong with it
	}
	defer func() { _ = root.Close() }()
	return setupError(disk.CheckServed(root))
}

// inside tells whether p is top or lies below it.
func inside(p, top string) bool {
	rel, err := filepath.Rel(top, p)
	return err == nil && rel != ".." && !filepath.IsAbs(rel) && (rel == "." || !startsUp(rel))
}

func startsUp(rel string) bool {
	return len(rel) >= 3 && rel[:2] == ".." && os.IsPathSeparator(rel[2])
}

// setupError gives what is known to go wrong in setting up its remedy.
func setupError(err error) error {
	var root *disk.RootError
	switch {
	case errors.Is(err, ErrHomeTaken):
		return &api.Error{Kind: api.ErrConflict, Message: err.Error(), Remedy: "see `sheaf status`", Cause: err}
	case errors.As(err, &root):
		return &api.Error{Kind: api.ErrConflict, Message: root.Error(), Remedy: root.Remedy, Cause: err}
	}
	return err
}
