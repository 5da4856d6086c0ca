package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"sheaf/crdt"
)

// A RecoveryKind is what Open had to do with the database it found.
type RecoveryKind int

// The kinds of recovery.
const (
	Clean   RecoveryKind = iota // it was as it had been left
	Fresh                       // there was none
	Renewed                     // it is older than what it had acknowledged, or a copy: kept, with new IDs
	Rebuilt                     // it could not be trusted: set aside, a fresh one made
)

// String gives the kind's name.
func (k RecoveryKind) String() string {
	switch k {
	case Clean:
		return "clean"
	case Fresh:
		return "fresh"
	case Renewed:
		return "renewed"
	case Rebuilt:
		return "rebuilt"
	}
	return fmt.Sprintf("recovery(%d)", int(k))
}

// A Recovery tells what Open had to do. Renewed and Rebuilt stores have a new
// StoreID, and their folders new replica IDs.
type Recovery struct {
	Kind   RecoveryKind
	Reason string // in words, for the log and for people
	Aside  string // Rebuilt: where the old database is now
}

// damage says that the database that is there must not be used.
type damage struct{ reason error }

func (d *damage) Error() string { return d.reason.Error() }

const (
	damagedName = "DAMAGED" // holds why the database must be set aside
	lockSuffix  = ".lock"
)

// Open opens the database in dir, or makes one.
//
// It is opened strictly: whatever in it does not check out makes Open rename
// the whole of dir to dir.corrupt-TIME and make a fresh database (Rebuilt).
// Only the end of its log that a crash cut off in the middle of a write, and
// that nobody had been promised, is dropped in silence. A database that lacks
// commits that had been acknowledged, or that is a copy, goes on under new IDs
// (Renewed). What cannot be read now, for want of permission or a working
// disk, is an error and changes nothing.
//
// It fails with ErrLocked if another process has it open and a *SchemaError if
// a newer Sheaf wrote it.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open the index database: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("open the index database: %w", err)
	}
	lock, err := lockFile(dir + lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("open the index database %s: %w", dir, err)
	}
	s, err := openLocked(dir, o)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open the index database %s: %w", dir, err)
	}
	s.lock = lock
	return s, nil
}

// openLocked is Open with the lock held.
func openLocked(dir string, o Options) (*Store, error) {
	s, err := open(dir, o)
	var d *damage
	if !errors.As(err, &d) {
		return s, err
	}
	aside, err := setAside(dir, o.Now())
	if err != nil {
		return nil, fmt.Errorf("set a damaged database aside (%w): %w", d, err)
	}
	o.Logger.Error("the index database was damaged: it was set aside and a fresh one made", "dir", dir, "aside", aside, "reason", d.reason)
	if s, err = open(dir, o); err != nil {
		return nil, err
	}
	s.recovery = Recovery{Kind: Rebuilt, Reason: d.reason.Error(), Aside: aside}
	return s, nil
}

// setAside renames dir to a name that says when and is not taken.
func setAside(dir string, now time.Time) (string, error) {
	stem := dir + ".corrupt-" + now.UTC().Format("20060102T150405Z")
	for i := 1; i < 1000; i++ {
		aside := stem
		if i > 1 {
			aside = fmt.Sprintf("%s-%d", stem, i)
		}
		if _, err := os.Lstat(aside); err == nil {
			continue
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if err := os.Rename(dir, aside); err != nil {
			return "", err
		}
		return aside, syncDir(filepath.Dir(dir))
	}
	return "", errors.New("too many damaged databases beside it: move them away")
}

// open opens what is in dir, or makes a database there; a *damage if it must
// be set aside.
func open(dir string, o Options) (_ *Store, err error) {
	if note, err := os.ReadFile(filepath.Join(dir, damagedName)); err == nil {
		return nil, &damage{errors.New(strings.TrimSpace(string(note)))}
	}
	files, err := databaseFiles(dir)
	if err != nil {
		return nil, err
	}
	if files == nil { // no dir yet
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	cuts, suspect, err := judgeLogs(files)
	if err != nil {
		return nil, err
	}
	if err := checkTables(files); err != nil {
		return nil, err
	}
	acked, err := openAcknowledged(filepath.Join(dir, ackedName))
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, log: o.Logger, rand: o.Rand, acked: acked, folders: make(map[crdt.FolderID]*Folder)}
	defer func() {
		if err != nil {
			s.discard()
		}
	}()
	if len(files) == 0 && acked.any() {
		return nil, &damage{errors.New("its files are gone")}
	}
	if suspect != "" { // noted before the trace of it goes
		if err := acked.disown(); err != nil {
			return nil, err
		}
	}
	if err := cutLogs(cuts, o.Logger); err != nil {
		return nil, err
	}
	if s.files, err = openFiles(dir, o); err != nil {
		return nil, err
	}
	if s.db, err = openDB(s.files, o.database()); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, s.settleIdentity(suspect)
}

// discard closes what open had opened when it failed.
func (s *Store) discard() {
	if s.db != nil {
		_ = s.db.Close()
	}
	if s.files != nil {
		_ = s.files.Close()
	}
	_ = s.acked.close()
}

// openDB opens the database and tells damage from what is only in the way now.
func openDB(files storage.Storage, o *opt.Options) (db *leveldb.DB, err error) {
	defer func() {
		// The library checks sums before it believes anything, but it is not
		// ours to swear that nothing in a mangled file makes it stumble.
		if p := recover(); p != nil {
			db, err = nil, &damage{fmt.Errorf("reading it failed: %v", p)}
		}
	}()
	db, err = leveldb.Open(files, o)
	if err != nil && corrupted(err) {
		return nil, &damage{err}
	}
	return db, err
}

// load reads what is kept in memory, and makes it if the database is new.
func (s *Store) load() error {
	v := view{src: s.db}
	defer v.release()
	format, err := loadUint(&v, "schema")
	if err != nil {
		return err
	}
	if format == 0 {
		return s.initialize(&v)
	}
	if format > schema {
		return &SchemaError{Dir: s.dir, Found: format, Want: schema}
	}
	for ; format < schema; format++ {
		step := migrations()[format]
		if step == nil {
			return &damage{fmt.Errorf("there was never a format %d", format)}
		}
		if err := step(s); err != nil {
			return broken(fmt.Sprintf("format %d, which is to become the next", format), err)
		}
	}
	id, ok, err := v.get(storeKey("id"))
	if err != nil || !ok || len(id) != len(s.id) {
		return broken("store ID", err)
	}
	copy(s.id[:], id)
	next, err := loadUint(&v, "next")
	if err != nil {
		return err
	}
	if next > maxFolders {
		next = 0
	}
	s.next = number(next)
	if s.commits, err = loadUint(&v, "commit"); err != nil {
		return err
	}
	if err := s.loadFolders(&v); err != nil {
		return err
	}
	return s.sweepUnnamed(&v)
}

func (s *Store) initialize(v *view) error {
	empty := true
	err := v.scan(nil, nil, func([]byte, []byte) (bool, error) {
		empty = false
		return false, nil
	})
	if err != nil || !empty {
		return broken("format number", err)
	}
	if err := s.renewLocked(map[string]uint64{"schema": schema, "next": 1}); err != nil {
		return err
	}
	s.next = 1
	s.recovery = Recovery{Kind: Fresh, Reason: "there was no database"}
	return nil
}

func loadUint(v *view, name string) (uint64, error) {
	val, ok, err := v.get(storeKey(name))
	if err != nil {
		return 0, broken(name, err)
	}
	if !ok {
		return 0, nil
	}
	n, k := binary.Uvarint(val)
	if k != len(val) {
		return 0, &damage{fmt.Errorf("its %s is not a number", name)}
	}
	return n, nil
}

// broken is the error for something that must be there and is not, or could
// not be read.
func broken(what string, err error) error {
	switch {
	case err == nil:
		return &damage{fmt.Errorf("its %s is missing or malformed", what)}
	case corrupted(err):
		return &damage{fmt.Errorf("its %s: %w", what, err)}
	}
	return fmt.Errorf("read its %s: %w", what, err)
}

func (s *Store) loadFolders(v *view) error {
	prefix := number(0).key(tabFolder, 0)
	err := v.scan(prefix, nil, func(k, val []byte) (bool, error) {
		id, n := crdt.FolderID{}, number(0)
		if len(k) != prefixLen+len(id) || len(val) != 2 {
			return false, errShort
		}
		copy(id[:], k[prefixLen:])
		n = number(binary.BigEndian.Uint16(val))
		s.folders[id] = newFolder(s, id, n, meta{})
		return true, nil
	})
	if err != nil {
		return broken("list of folders", err)
	}
	for id, f := range s.folders {
		val, ok, err := v.get(f.n.key(tabMeta, 0))
		if err != nil || !ok {
			return broken("folder "+id.String(), err)
		}
		m, err := decodeMeta(val)
		if err != nil {
			return &damage{err}
		}
		s.folders[id] = newFolder(s, id, f.n, m)
	}
	return nil
}

// sweepUnnamed deletes rows of folders that were being forgotten.
func (s *Store) sweepUnnamed(v *view) error {
	named := make(map[number]bool)
	for _, f := range s.folders {
		named[f.n] = true
	}
	for n := number(1); n != 0; n++ {
		start := n.key(0, 0)[:2]
		found := false
		err := v.scan(nil, start, func(k, _ []byte) (bool, error) {
			if len(k) < prefixLen {
				return false, errShort
			}
			n, found = number(binary.BigEndian.Uint16(k)), true
			return false, nil
		})
		if err != nil {
			return broken("rows", err)
		}
		if !found {
			return nil
		}
		if !named[n] {
			if err := s.sweep(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleIdentity draws new IDs if the database may have gone back in time.
func (s *Store) settleIdentity(suspect string) error {
	reason := suspect
	switch {
	case reason != "" || s.recovery.Kind == Fresh:
	case s.acked.foreign:
		reason = "it is a copy, or was restored from one"
	case s.acked.ahead(0, s.commits):
		reason = "commits that it had acknowledged are missing"
	default:
		for _, f := range s.folders {
			if s.acked.ahead(f.n, f.state.Load().commit) {
				reason = "commits that it had acknowledged are missing"
				break
			}
		}
	}
	if reason == "" {
		if s.recovery.Kind == Fresh {
			return s.acked.claim()
		}
		return nil
	}
	s.log.Warn("the index database may be older than it once was: it gets new IDs", "dir", s.dir, "reason", reason)
	// Until all of it is done the next Open does it again.
	if err := s.acked.disown(); err != nil {
		return err
	}
	if err := s.RenewID(); err != nil {
		return err
	}
	for _, f := range s.folders {
		if err := f.FreshReplica(); err != nil {
			return fmt.Errorf("draw a new replica ID for folder %s: %w", f.id, err)
		}
	}
	s.recovery = Recovery{Kind: Renewed, Reason: reason}
	return s.acked.claim()
}
