package disk

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sheaf/node/stat"
)

// Options of Open. The zero value is right for a real disk.
type Options struct {
	// Mark, if not zero, is the random number that the marker must hold
	// (Folder.Mark): a marker that somebody made anew in an emptied directory
	// is then ErrWrongMarker.
	Mark [16]byte
	// Floor is the free space in bytes below which nothing is received; zero
	// for the default (see defaultFloor), negative for none.
	Floor int64
	// Device labels trash buckets with the device that they were made on.
	Device string
	// Holder says in one line who has the folder open, for whom is refused.
	Holder string
	// Writers is how many small files are written side by side; zero for a number
	// that suits a disk.
	Writers int
	Now     func() time.Time // time.Now
	Rand    io.Reader        // crypto/rand
	Log     *slog.Logger     // discards
}

// A Folder observes and changes the files of one folder. Its methods are safe
// for concurrent use; two that touch the same path may make each other fail
// with ErrChanged, never harm each other.
type Folder struct {
	fs   FS
	id   [16]byte
	mark [16]byte
	root stat.Stat
	lock File // nil where the file system has no locks
	o    Options

	failed     atomic.Pointer[error] // set once by the first sync that fails
	noExchange atomic.Bool           // the disk has declined Exchange
	foldsCase  bool                  // the disk takes names that differ in case for one; see fold.go
	foldsForm  bool                  // or in Unicode form
	rewrites   bool                  // and keeps them in a Unicode form of its own
	serial     atomic.Uint64         // numbers our temporary names
	trashed    atomic.Uint64         // times that something came to the trash
	ignore     atomic.Pointer[rules]

	mu      sync.Mutex
	touched map[string]struct{} // whose durability the next Barrier owes; "" means everything
	open    map[string]struct{} // keys of open Temps

	barrier sync.Mutex // held while a Barrier syncs

	trash sync.Mutex // making a bucket's directories against cleaning empty ones
}

const markerHead = "sheaf folder 1\n"

// marker is the content of .sheaf/folder.
func marker(id, mark [16]byte) []byte {
	return fmt.Appendf(nil, "%sid %x\nmark %x\n", markerHead, id, mark)
}

func parseMarker(data []byte) (id, mark [16]byte, err error) {
	bad := errors.New("it is damaged or of a newer version")
	rest, ok := strings.CutPrefix(string(data), markerHead)
	if !ok {
		return id, mark, bad
	}
	var a, b string
	if n, err := fmt.Sscanf(rest, "id %32s\nmark %32s\n", &a, &b); n != 2 || err != nil {
		return id, mark, bad
	}
	x, e1 := hex.DecodeString(a)
	y, e2 := hex.DecodeString(b)
	if e1 != nil || e2 != nil || len(x) != 16 || len(y) != 16 {
		return id, mark, bad
	}
	return [16]byte(x), [16]byte(y), nil
}

// readMarker gives the marker's ids; fs.ErrNotExist if there is none.
func readMarker(f FS) (id, mark [16]byte, err error) {
	data, err := readSmall(f, markerPath, 1<<10)
	if err != nil {
		return id, mark, err
	}
	return parseMarker(data)
}

// readSmall reads a whole file of at most max bytes.
func readSmall(f FS, path string, max int64) ([]byte, error) {
	file, err := f.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.NewSectionReader(file, 0, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > max {
		return nil, fmt.Errorf("read %s: longer than %d bytes", path, max)
	}
	return data, nil
}

// Init makes the directory of f the folder id: .sheaf (0700) with the marker.
// A directory that already is this folder is left as it is; another folder's
// is a *RootError with ErrMarked, one that a node serves with ErrLocked. Making a marker is a person's decision (add,
// join, relocate), never a repair: a marker in an empty directory says that
// what was in the folder is gone.
func Init(f FS, id [16]byte) error {
	have, _, err := readMarker(f)
	switch {
	case err == nil && have == id:
		return CheckServed(f)
	case err == nil:
		return &RootError{Is: ErrMarked, Root: f.Name(), Detail: fmt.Sprintf("folder %x", have),
			Remedy: "Choose another directory, or remove that folder from Sheaf first."}
	case !errors.Is(err, fs.ErrNotExist):
		return &RootError{Is: ErrMarked, Root: f.Name(), Detail: err.Error(),
			Remedy: "Look at " + home + " in that directory; remove it only if no folder of Sheaf uses the directory."}
	}
	// Without a marker, too: the node that serves it may not have noticed yet.
	if err := CheckServed(f); err != nil {
		return err
	}
	if err := f.Mkdir(home, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder's own directory: %w", err)
	}
	s, err := f.Lstat(home)
	if err != nil {
		return fmt.Errorf("make the folder's own directory: %w", err)
	}
	if s.Kind != stat.Directory {
		return fmt.Errorf("%s: %w", home, ErrNotDirectory)
	}
	if err := f.Chmod(home, 0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("make the folder's own directory: %w", err)
	}
	var mark [16]byte
	if _, err := io.ReadFull(rand.Reader, mark[:]); err != nil {
		return fmt.Errorf("make the marker: %w", err)
	}
	// Under another name first: a marker is whole or not there.
	next := markerPath + ".new"
	if err := f.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the marker: %w", err)
	}
	if err := writeFile(f, next, marker(id, mark)); err != nil {
		return fmt.Errorf("make the marker: %w", err)
	}
	if err := f.Sync(next); err != nil {
		return fmt.Errorf("make the marker: %w: %w", ErrDiskFailed, err)
	}
	if err := f.RenameNew(next, markerPath); err != nil {
		return fmt.Errorf("make the marker: %w", err)
	}
	if err := f.Sync(home, "."); err != nil {
		return fmt.Errorf("make the marker: %w: %w", ErrDiskFailed, err)
	}
	return nil
}

// writeFile makes a new private file with content; it is not synced.
func writeFile(f FS, path string, data []byte) error {
	file, err := f.Create(path, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, 0)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = f.Remove(path)
	}
	return err
}

// Open opens the folder id in f, which stays the caller's to close after the
// folder. A missing or wrong marker is a *RootError; so is a directory that is
// open already, here or in another process (ErrLocked). Whatever a crash left of
// replacements under way is put right; temporary content stays for resuming
// (Temp), staged files wait for the caller (Staged).
func Open(f FS, id [16]byte, o Options) (_ *Folder, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Writers <= 0 {
		o.Writers = writers
	}
	d := &Folder{fs: f, id: id, mark: o.Mark, o: o, touched: map[string]struct{}{}, open: map[string]struct{}{}}
	if err := f.Check(); err != nil {
		return nil, d.gone(err)
	}
	if d.root, err = f.Lstat("."); err != nil {
		return nil, d.gone(err)
	}
	if err := d.checkMarker(); err != nil {
		return nil, err
	}
	if _, d.mark, err = readMarker(f); err != nil {
		return nil, d.markerError(err)
	}
	// Before anything is changed: what lies in .sheaf may be another node's work.
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	for _, dir := range []string{tmpDir, stageDir, trashDir, asideDir} {
		if err := f.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("open folder %s: %w", f.Name(), err)
		}
	}
	if err := d.recover(); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", f.Name(), err)
	}
	d.probeNames()
	if err := d.Reload(); err != nil {
		return nil, fmt.Errorf("open folder %s: %w", f.Name(), err)
	}
	return d, nil
}

// Mark gives the marker's random number, made by Init. A caller that keeps it
// and gives it to Open notices a marker that was made anew.
func (d *Folder) Mark() [16]byte { return d.mark }

// Check tells whether the folder's root still is the directory that was
// opened, is on the same device and holds the marker, and whether the disk has
// failed. It is cheap: before and after every scan, nothing that was found
// gone may be believed unless both calls gave nil.
func (d *Folder) Check() error {
	if err := d.healthy(); err != nil {
		return err
	}
	if err := d.fs.Check(); err != nil {
		return d.gone(err)
	}
	s, err := d.fs.Lstat(".")
	if err != nil {
		return d.gone(err)
	}
	if s.Device != d.root.Device || s.Inode != d.root.Inode {
		return d.gone(errors.New("another directory is in its place"))
	}
	return d.checkMarker()
}

func (d *Folder) checkMarker() error {
	id, mark, err := readMarker(d.fs)
	if err != nil {
		return d.markerError(err)
	}
	if id != d.id {
		return &RootError{Is: ErrWrongMarker, Root: d.fs.Name(), Detail: fmt.Sprintf("it says folder %x", id),
			Remedy: "Point the folder to its own directory again, or mount its disk there."}
	}
	if d.mark != [16]byte{} && mark != d.mark {
		return &RootError{Is: ErrWrongMarker, Root: d.fs.Name(), Detail: "it was made anew",
			Remedy: "If this directory is meant to be the folder from now on, remove the folder from this device and add the directory again: its files are then merged, and nothing is deleted elsewhere."}
	}
	return nil
}

func (d *Folder) markerError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &RootError{Is: ErrNoMarker, Root: d.fs.Name(),
			Remedy: "Mount the disk that holds the folder, or point the folder to where its files are now. Nothing is deleted while the marker is missing."}
	}
	return &RootError{Is: ErrNoMarker, Root: d.fs.Name(), Detail: "cannot read " + markerPath + ": " + err.Error(),
		Remedy: "Check that the disk is well and that Sheaf may read " + home + ". Nothing is deleted meanwhile."}
}

func (d *Folder) gone(err error) error {
	return &RootError{Is: ErrRootGone, Root: d.fs.Name(), Detail: err.Error(),
		Remedy: "Mount the disk again, or point the folder to where its files are now. Nothing is deleted meanwhile."}
}

// healthy gives ErrDiskFailed once a sync has failed.
func (d *Folder) healthy() error {
	if p := d.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// sync is the only way to FS.Sync: its first failure stays for good.
func (d *Folder) sync(paths ...string) error {
	if err := d.healthy(); err != nil {
		return err
	}
	if err := d.fs.Sync(paths...); err != nil {
		err = fmt.Errorf("%w: %w", ErrDiskFailed, err)
		if d.failed.CompareAndSwap(nil, &err) {
			d.o.Log.Error("sync failed; folder stopped", "root", d.fs.Name(), "err", err)
		}
		return *d.failed.Load()
	}
	return nil
}

// maxTouched bounds the memory of what a Barrier owes; beyond it is everything.
const maxTouched = 64

// touch notes paths that the next Barrier makes durable.
func (d *Folder) touch(paths ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range paths {
		if len(d.touched) < maxTouched {
			d.touched[p] = struct{}{}
		}
	}
	if len(d.touched) >= maxTouched {
		d.touched[""] = struct{}{}
	}
}

// Barrier makes durable what MakeDir, MakeLink, Rename, SetAttrs, Discard,
// RemoveDir, Stage and Unstage have done. Call it before recording any of
// that; Commit does it by itself.
func (d *Folder) Barrier() error {
	// One at a time: what another Barrier has taken over is durable only when
	// that one is done.
	d.barrier.Lock()
	defer d.barrier.Unlock()
	d.mu.Lock()
	touched := d.touched
	d.touched = map[string]struct{}{}
	d.mu.Unlock()
	if len(touched) == 0 {
		return d.healthy()
	}
	var paths []string
	if _, all := touched[""]; !all {
		for p := range touched {
			paths = append(paths, p)
		}
	}
	return d.sync(paths...)
}

// temporary gives a name in .sheaf/tmp that no Temp can have and nobody resumes.
func (d *Folder) temporary() string {
	return fmt.Sprintf("%s/~%d", tmpDir, d.serial.Add(1))
}

// recover puts right what a crash left: our own unresumable temporary files
// go, and a file that had stepped aside for a replacement (on a disk without
// exchange) steps back if its place is free.
func (d *Folder) recover() error {
	list, err := d.fs.List(tmpDir)
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name, "~") && e.Stat.Kind != stat.Directory {
			if err := d.fs.Remove(join(tmpDir, e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	if err := d.recoverStage(); err != nil {
		return err
	}
	return d.recoverAside()
}

// Leave takes Sheaf's own directory out of one that is no folder any more, and that
// nobody serves. What is not empty of it, and what this package does not know, stays.
func Leave(f FS) {
	for _, p := range []string{markerPath, markerPath + ".new", lockPath} {
		_ = f.Remove(p)
	}
	for _, p := range []string{tmpDir, stageDir, trashDir, asideDir, home} {
		_ = f.RemoveDir(p) // not there, or not empty
	}
}
