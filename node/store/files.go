package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// files is the library's storage with what it leaves out: a journal that is
// left for the next is synced first (else a synced commit in the new one could
// survive a lazy one in the old), and a file's first sync makes its name
// durable as well.
type files struct {
	storage.Storage
	dir string
}

// openFiles opens the storage in dir, with the faults that a test wants.
func openFiles(dir string, o Options) (storage.Storage, error) {
	inner, err := storage.OpenFile(dir, false)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, storage.ErrLocked) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, err
	}
	return &files{Storage: o.Files(inner), dir: dir}, nil
}

// Log drops what the library has to say of its compactions.
func (*files) Log(string) {}

func (f *files) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := f.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	return &file{Writer: w, dir: f.dir, journal: fd.Type == storage.TypeJournal}, nil
}

type file struct {
	storage.Writer
	dir     string
	journal bool

	mu    sync.Mutex
	named bool // its name is durable
	dirty bool // written since the last sync
}

func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	f.dirty = true
	f.mu.Unlock()
	return f.Writer.Write(p)
}

func (f *file) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.Writer.Sync(); err != nil {
		return err
	}
	f.dirty = false
	if f.named {
		return nil
	}
	if err := syncDir(f.dir); err != nil {
		return fmt.Errorf("sync %s: %w", f.dir, err)
	}
	f.named = true
	return nil
}

func (f *file) Close() error {
	f.mu.Lock()
	dirty := f.dirty && f.journal
	f.mu.Unlock()
	var err error
	if dirty {
		err = f.Sync()
	}
	if cerr := f.Writer.Close(); err == nil {
		err = cerr
	}
	return err
}

// makeDir makes the database's directory, for its owner alone, durably.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if serr := f.Sync(); err == nil {
		err = serr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}
