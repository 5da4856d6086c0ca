package simdisk

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"github.com/syndtr/goleveldb/leveldb/storage"
)

// A Database tells what a crash would leave of a database's directory, which is a
// real one (best in memory, /dev/shm): the database reads much of it past the
// storage interface. Its methods are safe for concurrent use.
type Database struct {
	dir string

	mu    sync.Mutex
	files map[storage.FileDesc]*written
}

// written is how much of a file was written and how much of that was synced.
type written struct {
	storage.Writer
	d             *Database
	synced, whole int64
}

// An Image is what a directory holds.
type Image map[string][]byte

// NewDatabase makes one of a directory, which need not be there yet.
func NewDatabase(dir string) *Database { return &Database{dir: dir} }

// Files is for store.Options: it takes note of what is synced, of the process
// that opens it now.
func (d *Database) Files(inner storage.Storage) storage.Storage {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = make(map[storage.FileDesc]*written)
	return &files{inner, d}
}

type files struct {
	storage.Storage
	d *Database
}

func (f *files) Create(fd storage.FileDesc) (storage.Writer, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	w, err := f.Storage.Create(fd)
	if err != nil {
		return nil, err
	}
	f.d.files[fd] = &written{Writer: w, d: f.d}
	return f.d.files[fd], nil
}

func (f *files) Remove(fd storage.FileDesc) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	delete(f.d.files, fd)
	return f.Storage.Remove(fd)
}

func (f *files) SetMeta(fd storage.FileDesc) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.Storage.SetMeta(fd)
}

func (w *written) Write(b []byte) (int, error) {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	n, err := w.Writer.Write(b)
	w.whole += int64(n)
	return n, err
}

func (w *written) Sync() error {
	w.d.mu.Lock()
	defer w.d.mu.Unlock()
	w.synced = w.whole
	return w.Writer.Sync()
}

// Image gives what is there after a crash now: of the process (rnd is nil), which
// loses nothing that was written, or of the machine, which loses what was not
// synced, or part of it.
func (d *Database) Image(rnd *rand.Rand) (Image, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := make(Image)
	names, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("image a database: %w", err)
	}
	for _, e := range names {
		if img[e.Name()], err = os.ReadFile(filepath.Join(d.dir, e.Name())); err != nil {
			return nil, fmt.Errorf("image a database: %w", err)
		}
	}
	if rnd == nil {
		return img, nil
	}
	formats := map[storage.FileType]string{storage.TypeJournal: "%06d.log", storage.TypeTable: "%06d.ldb", storage.TypeManifest: "MANIFEST-%06d"}
	for fd, w := range d.files {
		name := fmt.Sprintf(formats[fd.Type], fd.Num)
		data, ok := img[name]
		if !ok || w.synced == w.whole {
			continue
		}
		size := w.synced + rnd.Int64N(w.whole-w.synced+1)
		if rnd.IntN(2) == 0 {
			img[name] = data[:size]
			continue
		}
		// The length is there, sectors at the end are not.
		clear(data[min(w.whole, (size+sector-1)/sector*sector):])
	}
	return img, nil
}

// sector is how much a disk writes as a whole.
const sector = 512

// Write makes dir hold the image and nothing else. Files that are there stay the
// files they are, with other content.
func (i Image) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("restore a database: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("restore a database: %w", err)
	}
	for _, e := range names {
		if _, ok := i[e.Name()]; !ok {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("restore a database: %w", err)
			}
		}
	}
	for name, data := range i {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("restore a database: %w", err)
		}
	}
	return nil
}
