package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
)

// One node at a time serves a directory: two would each take what the other does
// to the disk for what a person does. Whoever has a folder open holds the lock of
// .sheaf/lock. The lock counts, not the file: that is there always, and a copy of
// it, in a backup or a directory that was copied, is not locked. It is never
// removed, for then two could hold the locks of two files of one name.

// takeLock makes d the only one that has its directory open.
func (d *Folder) takeLock() (err error) {
	d.lock, err = d.fs.Lock(lockPath)
	if errors.Is(err, ErrUnsupported) {
		d.o.Log.Warn("this file system has no locks: see that no second node serves the directory", "root", d.fs.Name(), "err", err)
		return nil
	}
	if err != nil {
		return lockError(d.fs, err)
	}
	d.sign()
	return nil
}

// sign writes into the lock's file whose it is. It is a hint alone: a disk may be
// full, or the file not ours to write.
func (d *Folder) sign() {
	if d.o.Holder == "" {
		return
	}
	// What has a second name is, under that, somebody else's file.
	if s, err := d.lock.Stat(); err != nil || s.Links > 1 {
		return
	}
	// First nothing, that no other's name stays where ours finds no room.
	if err := d.lock.Truncate(0); err == nil {
		_, _ = d.lock.WriteAt([]byte(d.o.Holder+"\n"), 0)
	}
}

// Close lets go of the directory, which another node may then serve. No other
// call may be under way, or follow, but another Close.
func (d *Folder) Close() error {
	lock := d.lock
	d.lock = nil
	if lock == nil {
		return nil
	}
	if err := lock.Close(); err != nil {
		return fmt.Errorf("unlock folder %s: %w", d.fs.Name(), err)
	}
	return nil
}

// CheckServed gives a *RootError with ErrLocked if a node serves the folder in f,
// of whatever account. It changes nothing. What it says is true of the moment alone,
// and where it cannot tell it gives nil: Open says what is wrong.
func CheckServed(f FS) error {
	if _, err := f.Lstat(lockPath); err != nil {
		return nil //nolint:nilerr // nobody has ever served it, or it cannot be told
	}
	lock, err := f.Lock(lockPath)
	if errors.Is(err, ErrLocked) {
		return lockError(f, err)
	}
	if err == nil {
		_ = lock.Close()
	}
	return nil
}

// lockError says why a lock could not be taken, and by whom it is held if that
// is known.
func lockError(f FS, err error) error {
	switch {
	case errors.Is(err, ErrLocked):
		return &RootError{Is: ErrLocked, Root: f.Name(), Detail: holder(f),
			Remedy: "Stop that node (`sheaf down`, with its --home), or choose another directory."}
	case errors.Is(err, ErrNotFile), errors.Is(err, fs.ErrPermission):
		return &RootError{Is: err, Root: f.Name(),
			Remedy: "See that " + home + " there and what is in it belongs to your user, and that " + lockPath + " is a plain file; when no node serves the directory it may be removed."}
	}
	return fmt.Errorf("lock folder %s: %w", f.Name(), err)
}

// holder gives what the lock's holder says of itself, "" for nothing. It goes to
// a person's terminal, and anybody may have written it.
func holder(f FS) string {
	data, err := readSmall(f, lockPath, 8<<10)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, line)
}
