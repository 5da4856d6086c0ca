package pack

import (
	"io"
	"os"
	"path/filepath"
)

// A fileSystem is the directory of a store; names are relative to it. There is
// the real one and, in tests, one that loses power.
type fileSystem interface {
	MakeDir(name string) error
	List(name string) ([]string, error)
	Open(name string) (file, error)   // for reading
	Edit(name string) (file, error)   // to read and write one that is there
	Create(name string) (file, error) // empty, in place of one that is there
	Remove(name string) error
	SyncDir(name string) error // makes durable which names there are
	Free() (int64, error)      // bytes
}

// A file is safe for concurrent use.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error // makes the bytes and the size durable
	Size() (int64, error)
}

// osFiles is the real file system below a directory.
type osFiles struct{ dir string }

type osFile struct{ *os.File }

func (o osFiles) path(name string) string { return filepath.Join(o.dir, name) }

func (o osFiles) MakeDir(name string) error { return os.MkdirAll(o.path(name), 0o700) }

func (o osFiles) List(name string) ([]string, error) {
	d, err := os.Open(o.path(name))
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return names, err
}

func (o osFiles) open(name string, flag int) (file, error) {
	f, err := os.OpenFile(o.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (o osFiles) Open(name string) (file, error) { return o.open(name, os.O_RDONLY) }
func (o osFiles) Edit(name string) (file, error) { return o.open(name, os.O_RDWR) }
func (o osFiles) Create(name string) (file, error) {
	return o.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}
func (o osFiles) Remove(name string) error  { return os.Remove(o.path(name)) }
func (o osFiles) SyncDir(name string) error { return syncDir(o.path(name)) }
func (o osFiles) Free() (int64, error)      { return free(o.dir) }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
