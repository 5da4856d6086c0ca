package api

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const lockName = "sheaf.lock"

// errLocked is what tryLock gives for a file somebody else has locked.
var errLocked = errors.New("locked")

// A HomeLock is held for as long as a process works on a home. The system
// releases it with the process, however that ends.
type HomeLock struct{ file *os.File }

// LockHome makes the calling process the only one that works on home, which it
// makes if need be (mode 0700). If another one does, the error is ErrConflict.
func LockHome(home string) (*HomeLock, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make the home %s: %w", home, err)
	}
	l, err := lockHome(home)
	if errors.Is(err, errLocked) {
		return nil, Errorf(ErrConflict, "stop it with `sheaf down`, or use another --home", "a node is running for %s already", home)
	}
	return l, err
}

// lockHome is LockHome for a home that there is.
func lockHome(home string) (*HomeLock, error) {
	f, err := os.OpenFile(filepath.Join(home, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the home: %w", err)
	}
	if err := tryLock(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock the home %s: %w", home, err)
	}
	return &HomeLock{f}, nil
}

// Unlock lets go of the home. The file stays: to remove it would let two
// processes lock two files of one name.
func (l *HomeLock) Unlock() error { return l.file.Close() }

// WaitUnlocked returns when no process works on home, or when ctx ends. It has
// to ask again and again, for the systems tell nobody; every 20 ms is little
// beside what stopping takes.
func WaitUnlocked(ctx context.Context, home string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := lockHome(home)
		if err == nil {
			return l.Unlock()
		}
		if !errors.Is(err, errLocked) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
