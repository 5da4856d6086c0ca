package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

// A Temp is the content of one file while it is being built, in .sheaf/tmp
// under a key that the caller finds again after a crash. It becomes a file by
// Commit, or is Closed to be resumed later, or Discarded. WriteAt and ReadAt
// may be called concurrently.
type Temp struct {
	fresh bool // made by this Temp, not found
	d     *Folder
	key   string
	path  string
	size  int64
	f     File // nil once closed
}

// preallocate is the size from which space is reserved beforehand: below, the
// file system's own delayed allocation does as well.
const preallocate = 1 << 20

// checkKey judges the names that callers give to temporary and staged files.
func checkKey(key string) error {
	if key == "" || len(key) > 200 {
		return fmt.Errorf("key %.40q: %w", key, ErrName)
	}
	for _, c := range []byte(key) {
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("key %.40q: %w", key, ErrName)
		}
	}
	return nil
}

// Temp opens the temporary file key for size bytes, an existing one for
// resuming (see Verified). Keys are letters, digits, "-" and "_"; ErrBusy if
// the key is open already. ErrNoSpace if the missing bytes would take the disk
// below its floor; a sparse file counts in full.
func (d *Folder) Temp(key string, size int64) (*Temp, error) {
	if err := d.healthy(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if size < 0 {
		return nil, fmt.Errorf("temporary file %s: negative size %d", key, size)
	}
	d.mu.Lock()
	_, busy := d.open[key]
	if !busy {
		d.open[key] = struct{}{}
	}
	d.mu.Unlock()
	if busy {
		return nil, fmt.Errorf("temporary file %s: %w", key, ErrBusy)
	}
	t := &Temp{d: d, key: key, path: join(tmpDir, key), size: size}
	if err := t.openFile(); err != nil {
		t.release()
		return nil, fmt.Errorf("temporary file %s: %w", key, err)
	}
	return t, nil
}

func (t *Temp) release() {
	t.d.mu.Lock()
	delete(t.d.open, t.key)
	t.d.mu.Unlock()
}

func (t *Temp) openFile() error {
	s, err := t.d.fs.Lstat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t.create()
	case err != nil:
		return err
	case s.Kind == stat.Directory || s.Kind == stat.None:
		return ErrNotFile
	case s.Kind != stat.File || s.Links > 1:
		// Nobody puts links there, except a rename that a crash cut in half
		// on a disk that renames by link and unlink: then the other name is
		// the person's file, and writing here would write into it.
		if err := t.d.fs.Remove(t.path); err != nil {
			return err
		}
		return t.create()
	}
	if err := t.d.room(max(0, t.size-s.Size)); err != nil {
		return err
	}
	if s.Mode&0o600 != 0o600 {
		if err := t.d.fs.Chmod(t.path, 0o600); err != nil {
			return err
		}
	}
	f, err := t.d.fs.OpenWrite(t.path)
	if err != nil {
		return err
	}
	if s.Size != t.size {
		if err := f.Truncate(t.size); err != nil {
			_ = f.Close()
			return err
		}
	}
	t.f = f
	return nil
}

func (t *Temp) create() error {
	if err := t.d.room(t.size); err != nil {
		return err
	}
	f, err := t.d.fs.Create(t.path, 0o600)
	if err != nil {
		return err
	}
	err = ErrUnsupported
	if t.size >= preallocate {
		err = f.Allocate(t.size)
	}
	if errors.Is(err, ErrUnsupported) {
		err = f.Truncate(t.size)
	}
	if err != nil {
		_ = f.Close()
		_ = t.d.fs.Remove(t.path)
		return err
	}
	t.f, t.fresh = f, true
	return nil
}

// Key gives the key that the Temp was opened with.
func (t *Temp) Key() string { return t.key }

// Size gives the size that the content will have.
func (t *Temp) Size() int64 { return t.size }

// WriteAt writes part of the content. Zeros become a hole where the disk has
// holes. A failed write leaves only this temporary file incomplete.
func (t *Temp) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > t.size || int64(len(p)) > t.size-off {
		return 0, fmt.Errorf("temporary file %s: write of %d bytes at %d outside of %d", t.key, len(p), off, t.size)
	}
	if t.f == nil {
		return 0, fmt.Errorf("temporary file %s: %w", t.key, fs.ErrClosed)
	}
	if len(p) >= holeMin && zero(p) && t.f.Punch(off, int64(len(p))) == nil {
		return len(p), nil
	}
	n, err := t.f.WriteAt(p, off)
	if err != nil {
		return n, fmt.Errorf("temporary file %s: %w", t.key, err)
	}
	return n, nil
}

// holeMin is the shortest run of zeros worth a hole: a block of most disks.
const holeMin = 4096

// zero tells whether p holds nothing but zeros.
func zero(p []byte) bool {
	var block [512]byte
	for len(p) > 0 {
		n := min(len(p), len(block))
		if string(p[:n]) != string(block[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}

// ReadAt reads what was written.
func (t *Temp) ReadAt(p []byte, off int64) (int, error) {
	if t.f == nil {
		return 0, fmt.Errorf("temporary file %s: %w", t.key, fs.ErrClosed)
	}
	return t.f.ReadAt(p, off)
}

// Verified reads everything and tells which blocks of list are there. After a
// crash nothing else is to be believed about a temporary file.
func (t *Temp) Verified(list chunk.List) ([]bool, error) {
	if list.Size() != t.size {
		return nil, fmt.Errorf("temporary file %s: list of %d bytes for %d", t.key, list.Size(), t.size)
	}
	have := make([]bool, len(list))
	if t.fresh {
		// Nothing was ever written. Blocks of zeros would seem to be there, and
		// would keep the room that was set aside for them instead of being holes.
		return have, nil
	}
	var buf []byte
	var off int64
	for i, b := range list {
		if int(b.Size) > cap(buf) {
			buf = make([]byte, min(int(b.Size), chunk.MaxBlock))
		}
		if b.Size > chunk.MaxBlock {
			return nil, fmt.Errorf("temporary file %s: block of %d bytes", t.key, b.Size)
		}
		p := buf[:b.Size]
		if n, err := t.ReadAt(p, off); n == len(p) {
			have[i] = chunk.Sum(p) == b.Hash
		} else if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("temporary file %s: %w", t.key, err)
		}
		off += int64(b.Size)
	}
	return have, nil
}

// Close leaves the content for a later Temp with the same key. It says nothing
// about durability. Closing a Temp that was committed does nothing.
func (t *Temp) Close() error {
	if t.f == nil {
		return nil
	}
	err := t.f.Close()
	t.f = nil
	t.release()
	return err
}

// Discard closes the Temp and removes its content.
func (t *Temp) Discard() error {
	if t.f == nil {
		return nil
	}
	_ = t.f.Close()
	t.f = nil
	err := t.d.fs.Remove(t.path)
	t.release()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard temporary file %s: %w", t.key, err)
	}
	return nil
}

// A TempInfo is a temporary file that lies in the folder.
type TempInfo struct {
	Key      string
	Size     int64
	Modified int64 // Unix nanoseconds
	Open     bool
}

// Temps gives the temporary files that are there, for the caller to resume or
// to drop (DropTemp) what nothing wants any more.
func (d *Folder) Temps() ([]TempInfo, error) {
	list, err := d.fs.List(tmpDir)
	if err != nil {
		return nil, fmt.Errorf("list temporary files: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var temps []TempInfo
	for _, e := range list {
		if strings.HasPrefix(e.Name, "~") || e.Stat.Kind != stat.File {
			continue
		}
		_, open := d.open[e.Name]
		temps = append(temps, TempInfo{e.Name, e.Stat.Size, e.Stat.Modified, open})
	}
	return temps, nil
}

// DropTemp removes a temporary file that is not open (else ErrBusy); one that
// is not there is no error.
func (d *Folder) DropTemp(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, open := d.open[key]; open {
		return fmt.Errorf("temporary file %s: %w", key, ErrBusy)
	}
	if err := d.fs.Remove(join(tmpDir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop temporary file %s: %w", key, err)
	}
	return nil
}
