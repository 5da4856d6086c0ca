// Package restore writes files, directories and links to a directory of this disk,
// from wherever their bytes come.
//
// The picture to hold: nothing that is there is ever replaced, and nothing is shown under
// its name before it is whole and durable. A file is written under a name of its own,
// which follows from what it is to be; so a restore that was broken off goes on with the
// block at which it broke, and one that is repeated finds what is there already. Where a
// different file has the name, the restored one gets another beside it.
//
// It follows no link out of the directory. It knows nothing of indexes and relays. A
// Writer is for one goroutine, and starts none.
package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A DiskError says that something could not be written, or read again.
type DiskError struct {
	Path string
	Full bool // there is no room
	Err  error
}

// Error gives the path and the cause.
func (e *DiskError) Error() string { return fmt.Sprintf("write %s: %v", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *DiskError) Unwrap() error { return e.Err }

func diskError(p string, err error) error {
	if err == nil {
		return nil
	}
	return &DiskError{Path: p, Full: errors.Is(err, syscall.ENOSPC), Err: err}
}

// A File is what a file is to be.
type File struct {
	Path   string // below the place, with slashes; "." for the place itself
	Size   int64  // bytes
	Mode   uint32 // permission bits
	MTime  time.Time
	Blocks [][32]byte // SHA-256 of its runs of bytes, in order
	Sizes  []int      // their lengths
}

// A Writer restores things at one place.
type Writer struct {
	root    *os.Root // the directory above the place
	top     string   // the place in it
	made    []dirMode
	pending []finished
	bytes   int64
}

type dirMode struct {
	path string
	mode fs.FileMode
}

// finished is a file that is whole under its temporary name.
type finished struct {
	temp, final string
}

// Bounds of what is made durable at once.
const (
	groupFiles = 4096
	groupBytes = 1 << 30
)

// New gives a Writer for a place, which need not be there yet. What is above it is made.
func New(place string) (*Writer, error) {
	place = filepath.Clean(place)
	above := filepath.Dir(place)
	if err := os.MkdirAll(above, 0o755); err != nil {
		return nil, diskError(above, err)
	}
	root, err := os.OpenRoot(above)
	if err != nil {
		return nil, diskError(above, err)
	}
	top := filepath.Base(place)
	if above == place { // the root of a disk
		top = "."
	}
	return &Writer{root: root, top: top}, nil
}

// Close lets go of the place. What was not finished stays under its temporary name, for
// the next time.
func (w *Writer) Close() error {
	if err := w.root.Close(); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

func (w *Writer) at(p string) string { return filepath.Join(w.top, filepath.FromSlash(p)) }

// Directory makes a directory, and those above it. One that is there stays as it is. Until
// Finish its owner may write to it, whatever its mode.
func (w *Writer) Directory(p string, mode uint32) error {
	name := w.at(p)
	final := fs.FileMode(mode) & fs.ModePerm
	now := final | 0o700
	info, err := w.root.Lstat(name)
	switch {
	case err == nil && info.IsDir():
		if info.Mode().Perm() == now && now != final {
			w.made = append(w.made, dirMode{name, final}) // left by one that broke off
		}
		return nil
	case err == nil:
		return diskError(name, fmt.Errorf("something that is no directory is in the way: %w", fs.ErrExist))
	case !errors.Is(err, fs.ErrNotExist):
		return diskError(name, err)
	}
	if err := w.above(name); err != nil {
		return err
	}
	err = w.root.Mkdir(name, now)
	if err == nil {
		err = w.root.Chmod(name, now) // whatever the umask
	}
	if err != nil {
		return diskError(name, err)
	}
	if now != final {
		w.made = append(w.made, dirMode{name, final})
	}
	return nil
}

// Symlink makes a symbolic link. made is false if one like it is there already.
func (w *Writer) Symlink(p, target string, mtime time.Time) (made bool, err error) {
	name := w.at(p)
	for i := 0; ; i++ {
		as := name
		if i > 0 {
			as = beside(name, mtime, i)
		}
		switch there, err := w.root.Readlink(as); {
		case err == nil && there == target:
			return false, nil
		case errors.Is(err, fs.ErrNotExist):
			if err := w.above(as); err != nil {
				return false, err
			}
			if err := w.root.Symlink(target, as); err != nil {
				return false, diskError(as, err)
			}
			w.linkTime(as, mtime)
			return true, nil
		case i > maxBeside:
			return false, diskError(as, fs.ErrExist)
		}
	}
}

// above makes the directories above a name.
func (w *Writer) above(name string) error {
	dir := filepath.Dir(name)
	if dir == "." {
		return nil
	}
	return diskError(dir, w.root.MkdirAll(dir, 0o755))
}

// maxBeside is how many names are tried for a file whose own is taken.
const maxBeside = 100

// beside gives the name that something gets whose own is taken: one that is the same each
// time, so that a restore that is repeated finds it.
func beside(name string, mtime time.Time, n int) string {
	dir, base := filepath.Split(name)
	ext := path.Ext(base)
	if ext == base {
		ext = ""
	}
	mark := " (restored, of " + mtime.UTC().Format("2006-01-02 150405") + ")"
	if n > 1 {
		mark = fmt.Sprintf("%s %d", mark, n)
	}
	return filepath.Join(dir, strings.TrimSuffix(base, ext)+mark+ext)
}

// A Source gives the bytes of a file's blocks from one on, in order, each by a call of
// write.
type Source func(from int, write func(data []byte) error) error

// File writes a file. made is false if it is there already. What the source gives has
// to be right: it is held against the sizes only.
//
// The file has its name once Finish, or a later call of File, has made it durable.
func (w *Writer) File(ctx context.Context, f File, from Source) (made bool, err error) {
	name, there, err := w.nameFor(f)
	if err != nil || there {
		return false, err
	}
	if err := w.above(name); err != nil {
		return false, err
	}
	temp := filepath.Join(filepath.Dir(name), tempName(f))
	if err := w.fill(ctx, temp, f, from); err != nil {
		return false, err
	}
	w.pending = append(w.pending, finished{temp, name})
	if w.bytes += f.Size; len(w.pending) >= groupFiles || w.bytes >= groupBytes {
		return true, w.flush()
	}
	return true, nil
}

// nameFor gives the name that a file is to have, or tells that it is there.
func (w *Writer) nameFor(f File) (name string, there bool, err error) {
	own := w.at(f.Path)
	for i := 0; i <= maxBeside; i++ {
		name = own
		if i > 0 {
			name = beside(own, f.MTime, i)
		}
		info, err := w.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, false, nil
		}
		if err != nil {
			return name, false, diskError(name, err)
		}
		same, err := w.same(name, info, f)
		if err != nil || same {
			return name, same, err
		}
	}
	return name, false, diskError(own, fs.ErrExist)
}

// same tells whether what is under a name is the file: by its bytes, for who set its time
// might have done so before they were all there.
func (w *Writer) same(name string, info fs.FileInfo, f File) (bool, error) {
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return false, nil
	}
	file, err := w.root.Open(name)
	if err != nil {
		return false, diskError(name, err)
	}
	defer func() { _ = file.Close() }()
	n, err := whole(file, f)
	if err != nil {
		return false, diskError(name, err)
	}
	return n == len(f.Blocks), nil
}

// whole gives how many of a file's blocks are there, from the first on.
func whole(r io.Reader, f File) (n int, err error) {
	var buf []byte
	for i, size := range f.Sizes {
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		switch _, err := io.ReadFull(r, buf); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return i, nil
		case err != nil:
			return i, err
		}
		if sha256.Sum256(buf) != f.Blocks[i] {
			return i, nil
		}
	}
	return len(f.Sizes), nil
}

// tempName gives the name under which a file is written.
func tempName(f File) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s\x00%d\x00", f.Path, f.Size) // a hash takes all
	for _, b := range f.Blocks {
		_, _ = h.Write(b[:])
	}
	return ".sheaf-restore-" + hex.EncodeToString(h.Sum(nil)[:8])
}

// fill brings the bytes of a file under its temporary name, from where they broke off.
func (w *Writer) fill(ctx context.Context, temp string, f File, from Source) (err error) {
	file, err := w.root.OpenFile(temp, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return diskError(temp, err)
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = diskError(temp, cerr)
		}
	}()
	have, err := whole(file, f)
	if err != nil {
		return diskError(temp, err)
	}
	off := int64(0)
	for _, s := range f.Sizes[:have] {
		off += int64(s)
	}
	if err := file.Truncate(off); err != nil {
		return diskError(temp, err)
	}
	at := have
	if at < len(f.Blocks) {
		err := from(have, func(data []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if at >= len(f.Sizes) || len(data) != f.Sizes[at] {
				return fmt.Errorf("block %d of %s is of %d bytes", at, f.Path, len(data))
			}
			if _, err := file.WriteAt(data, off); err != nil {
				return diskError(temp, err)
			}
			at++
			off += int64(len(data))
			return nil
		})
		if err != nil {
			return err
		}
	}
	if at != len(f.Blocks) || off != f.Size {
		return fmt.Errorf("%d of %d blocks of %s came", at, len(f.Blocks), f.Path)
	}
	if !syncsAll {
		if err := file.Sync(); err != nil {
			return diskError(temp, err)
		}
	}
	if err := w.root.Chmod(temp, fs.FileMode(f.Mode)&fs.ModePerm); err != nil {
		return diskError(temp, err)
	}
	return diskError(temp, w.root.Chtimes(temp, time.Time{}, f.MTime))
}

// flush makes what is written durable, and gives it its names.
func (w *Writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	if err := w.sync(); err != nil {
		return err
	}
	for _, p := range w.pending {
		// A link first: a rename would replace what has come there meanwhile.
		err := w.root.Link(p.temp, p.final)
		switch {
		case err == nil:
			err = w.root.Remove(p.temp)
		case errors.Is(err, fs.ErrExist):
			err = fmt.Errorf("something has come there meanwhile; what was restored is in %s: %w", p.temp, err)
		default: // a file system without links
			if _, lerr := w.root.Lstat(p.final); errors.Is(lerr, fs.ErrNotExist) {
				err = w.root.Rename(p.temp, p.final)
			}
		}
		if err != nil {
			return diskError(p.final, err)
		}
	}
	w.pending, w.bytes = nil, 0
	return nil
}

// Finish gives what was written last its names, and the directories that were made their
// permissions.
func (w *Writer) Finish() error {
	if err := w.flush(); err != nil {
		return err
	}
	for i := len(w.made) - 1; i >= 0; i-- {
		if err := w.root.Chmod(w.made[i].path, w.made[i].mode); err != nil {
			return diskError(w.made[i].path, err)
		}
	}
	w.made = nil
	return w.sync()
}
