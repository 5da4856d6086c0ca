package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	dberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"sheaf/crdt"
)

// A StoreID names one life of one database: it is drawn with a new one, and
// drawn anew when the database may have gone back in time, so that a sequence
// number of one StoreID always means the same change.
type StoreID [16]byte

// String gives the ID in hexadecimal.
func (id StoreID) String() string { return hex.EncodeToString(id[:]) }

// Options are what a Store takes from its surroundings. All may be left out.
type Options struct {
	Logger *slog.Logger
	Now    func() time.Time // names what is set aside
	Rand   io.Reader        // new IDs; must never repeat itself

	// Files, if not nil, gives the database's files in another's stead: for
	// simulations, that put faults in between.
	Files       func(storage.Storage) storage.Storage
	WriteBuffer int // bytes written until they go from the log to a table; default: 8 MiB
}

// A Store is a device's database. Its methods are safe for concurrent use. It
// has no goroutines but the database's own, which end with Close.
type Store struct {
	dir      string
	log      *slog.Logger
	rand     io.Reader
	lock     io.Closer
	files    storage.Storage
	db       *leveldb.DB
	acked    *acknowledged
	recovery Recovery

	write   sync.Mutex // held by the one writer of folder 0
	commits uint64     // of folder 0

	mu      sync.Mutex
	id      StoreID
	folders map[crdt.FolderID]*Folder
	next    number
	failed  error // of a write: no more are taken
	noted   bool  // damage is noted on the disk
	closed  bool
	inUse   sync.WaitGroup
}

// database: everything strict; writes of any size through the journal; memory
// bounded whatever the size of the database.
func (o Options) database() *opt.Options {
	return &opt.Options{
		Strict:                       opt.StrictAll,
		DisableLargeBatchTransaction: true,
		WriteBuffer:                  o.WriteBuffer,
		BlockCacheCapacity:           8 * opt.MiB,
		OpenFilesCacheCapacity:       128,
		Filter:                       filter.NewBloomFilter(10),
	}
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Files == nil {
		o.Files = func(s storage.Storage) storage.Storage { return s }
	}
	if o.WriteBuffer == 0 {
		o.WriteBuffer = 8 * opt.MiB
	}
	return o
}

// ID gives the store's ID.
func (s *Store) ID() StoreID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// RenewID draws a new ID: peers then ask for everything again.
func (s *Store) RenewID() error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.renewLocked(nil)
}

// renewLocked puts a new ID, and these numbers with it.
func (s *Store) renewLocked(with map[string]uint64) error {
	var id StoreID
	if _, err := io.ReadFull(s.rand, id[:]); err != nil {
		return fmt.Errorf("draw a store ID: %w", err)
	}
	if err := s.changeLocked(func(b *leveldb.Batch) {
		b.Put(storeKey("id"), id[:])
		for name, n := range with {
			b.Put(storeKey(name), binary.AppendUvarint(nil, n))
		}
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = id
	return nil
}

// Recovery tells what Open had to do.
func (s *Store) Recovery() Recovery { return s.recovery }

// Rebuilt tells whether Open found a database it could not trust, set it aside
// and made a fresh one.
func (s *Store) Rebuilt() bool { return s.recovery.Kind == Rebuilt }

// Folders gives the IDs of the folders there are, in order.
func (s *Store) Folders() ([]crdt.FolderID, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]crdt.FolderID, 0, len(s.folders))
	for id := range s.folders {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b crdt.FolderID) int { return slices.Compare(a[:], b[:]) })
	return ids, nil
}

// Folder gives a folder, a new one with a fresh replica ID if there is none of
// this ID. There is one Folder of each.
func (s *Store) Folder(id crdt.FolderID) (*Folder, error) {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mu.Lock()
	f, n := s.folders[id], s.next
	s.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if n == 0 {
		return nil, fmt.Errorf("add folder %s: the database has had %d folders and can have no more", id, maxFolders)
	}
	var m meta
	if _, err := io.ReadFull(s.rand, m.replica[:]); err != nil {
		return nil, fmt.Errorf("draw a replica ID: %w", err)
	}
	f = newFolder(s, id, n, m)
	err := s.changeLocked(func(b *leveldb.Batch) {
		b.Put(folderKey(id), binary.BigEndian.AppendUint16(nil, uint16(n)))
		b.Put(storeKey("next"), binary.AppendUvarint(nil, uint64(n)+1))
		b.Put(n.key(tabMeta, 0), m.encode())
	})
	if err != nil {
		return nil, fmt.Errorf("add folder %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = n + 1 // wraps to 0 after maxFolders
	s.folders[id] = f
	return f, nil
}

const maxFolders = 1<<16 - 1

func folderKey(id crdt.FolderID) []byte { return append(number(0).key(tabFolder, len(id)), id[:]...) }

func newFolder(s *Store, id crdt.FolderID, n number, m meta) *Folder {
	f := &Folder{s: s, id: id, n: n, cache: newRowCache(m.commit), durable: m.seq, moved: make(chan struct{})}
	f.state.Store(&m)
	return f
}

// Forget removes all that is remembered of a folder; if the folder comes back
// it starts anew, under a new replica ID. It waits for the folder's writer and
// must not be called by it.
func (s *Store) Forget(id crdt.FolderID) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.mu.Lock()
	f := s.folders[id]
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	f.write.Lock()
	defer f.write.Unlock()
	// First the name, durably: rows without one are swept by the next Open.
	err := s.changeLocked(func(b *leveldb.Batch) {
		b.Delete(folderKey(id))
		b.Delete(f.n.key(tabMeta, 0))
	})
	if err != nil {
		return fmt.Errorf("forget folder %s: %w", id, err)
	}
	f.end(ErrForgotten)
	s.mu.Lock()
	delete(s.folders, id)
	s.mu.Unlock()
	return s.sweep(f.n)
}

// sweep deletes all rows of a folder number, in pieces.
func (s *Store) sweep(n number) error {
	v := view{src: s.db}
	defer v.release()
	b := new(leveldb.Batch)
	err := v.scan(n.key(0, 0)[:2], nil, func(k, _ []byte) (bool, error) {
		if b.Delete(k); b.Len() < 10_000 {
			return true, nil
		}
		defer b.Reset()
		return true, s.commit(b, n, 0, false)
	})
	if err == nil && b.Len() > 0 {
		err = s.commit(b, n, 0, false)
	}
	return s.fault(wrap("sweep a forgotten folder", err))
}

// commit writes a batch. A synced one is acknowledged under its number when it
// is durable.
func (s *Store) commit(b *leveldb.Batch, n number, commit uint64, synced bool) error {
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	if failed != nil {
		return fmt.Errorf("%w: %w", ErrFailed, failed)
	}
	if err := s.db.Write(b, &opt.WriteOptions{Sync: synced}); err != nil {
		return s.fail(ofDB(err))
	}
	if synced {
		if err := s.acked.note(n, commit); err != nil {
			s.log.Warn("could not note a commit beside the index database", "dir", s.dir, "error", err)
		}
	}
	return nil
}

// fail makes the store refuse writes from now on: what a failed write or sync
// left behind is not known, and trying again can make it look well.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = err
		s.log.Error("the index database could not be written", "dir", s.dir, "error", err)
	}
	s.mu.Unlock()
	return fmt.Errorf("write to the index database: %w: %w", ErrFailed, s.fault(err))
}

// fault gives an error its type: whatever says that the database is damaged is
// noted on the disk, for the next Open, and becomes a CorruptError.
func (s *Store) fault(err error) error {
	var have *CorruptError
	switch {
	case err == nil || errors.As(err, &have):
		return err
	case errors.Is(err, leveldb.ErrClosed):
		return ErrClosed
	case !corrupted(err):
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.noted {
		s.noted = true
		s.log.Error("the index database is damaged", "dir", s.dir, "error", err)
		if werr := writeSynced(filepath.Join(s.dir, damagedName), []byte(err.Error()+"\n")); werr != nil {
			s.log.Error("could not note the damage", "dir", s.dir, "error", werr)
		}
	}
	return &CorruptError{Dir: s.dir, Err: err}
}

// A dbError is one that the database gave, as opposed to what was read from it
// and made no sense.
type dbError struct{ err error }

func (e *dbError) Error() string { return e.err.Error() }
func (e *dbError) Unwrap() error { return e.err }

func ofDB(err error) error {
	if err == nil {
		return nil
	}
	return &dbError{err}
}

// corrupted tells whether an error says that stored bytes are not what was
// stored, rather than that they cannot be read now.
func corrupted(err error) bool {
	if errors.As(err, new(*dberrors.ErrCorrupted)) || errors.As(err, new(*storage.ErrCorrupted)) {
		return true
	}
	if errors.Is(err, os.ErrNotExist) {
		return true // a file of the database is missing
	}
	return !errors.As(err, new(*dbError)) && !errors.As(err, new(*os.PathError))
}

func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.inUse.Add(1)
	return nil
}

func (s *Store) leave() { s.inUse.Done() }

// Close waits for the calls under way and closes the database. Those that wait
// for something (Folder.Wait) and all later ones fail with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for _, f := range s.folders {
		f.end(ErrClosed)
	}
	s.mu.Unlock()
	s.inUse.Wait()
	err := s.db.Close()
	if cerr := s.files.Close(); err == nil {
		err = cerr
	}
	if cerr := s.acked.close(); err == nil {
		err = cerr
	}
	if cerr := s.lock.Close(); err == nil {
		err = cerr
	}
	return wrap("close the index database", err)
}
