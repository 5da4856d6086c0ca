package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"

	"sheaf/replication/group"
)

// Errors that a caller decides by.
var (
	// ErrNotHosted: the group is none that this relay keeps anything for.
	ErrNotHosted = errors.New("this relay does not host the group")
	// ErrQuota: the group has used up what it may keep here.
	ErrQuota = errors.New("the group's quota on this relay is used up")
	// ErrUnwanted: no record refers to the block, or it is held already.
	ErrUnwanted = errors.New("no record here waits for the block")
	// ErrFailed: a write failed before; nothing is written until the archive is opened
	// again, for what reached the disk is not known.
	ErrFailed = errors.New("a write has failed: restart the relay once its disk is in order")
	// ErrSchema: a newer program has written the database.
	ErrSchema = errors.New("the archive was written by a newer sheaf-relay: update this one")
)

// Options are what an Archive is opened with. Zero values have defaults.
type Options struct {
	Retention time.Duration // how long what was deleted or replaced is kept; 30 days
	Versions  int           // of a file that lives, how many replaced versions are kept however old; 5; -1 for none
	Now       func() time.Time
	Logger    *slog.Logger
	Files     func(storage.Storage) storage.Storage // around the database's files, for tests
	Buffer    int                                   // bytes of the database's write buffer; 8 MiB
}

func (o Options) withDefaults() Options {
	if o.Retention == 0 {
		o.Retention = 30 * 24 * time.Hour
	}
	switch {
	case o.Versions == 0:
		o.Versions = 5
	case o.Versions < 0:
		o.Versions = 0
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Buffer == 0 {
		o.Buffer = 8 * opt.MiB
	}
	if o.Files == nil {
		o.Files = func(s storage.Storage) storage.Storage { return s }
	}
	return o
}

// A StoreID names a database: a new one has another, so that cursors into the old one
// mean nothing.
type StoreID [16]byte

// An Archive holds sealed records and the blocks that they refer to.
type Archive struct {
	o      Options
	files  storage.Storage
	db     *leveldb.DB
	blocks blockstore.Blockstore
	id     StoreID

	mu     sync.Mutex // held by who writes
	clock  clock
	next   uint64 // number of the next record
	failed error
	groups map[group.ID]*hosted
	news   chan struct{} // closed when something was committed
}

const schema = 1

// Open opens the archive whose database is in dir, or makes one. The blockstore must
// have a block durably when Put returns, and must be of this archive alone.
func Open(ctx context.Context, dir string, blocks blockstore.Blockstore, o Options) (*Archive, error) {
	o = o.withDefaults()
	a := &Archive{o: o, blocks: blocks, next: 1, groups: make(map[group.ID]*hosted), news: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	files, err := storage.OpenFile(dir, false)
	if err != nil {
		return nil, fmt.Errorf("open the archive in %s: %w", dir, err)
	}
	a.files = files
	if a.db, err = leveldb.Open(o.Files(files), o.database()); err != nil {
		_ = files.Close()
		return nil, fmt.Errorf("open the archive in %s (`sheaf-relay check --repair` saves what can be read): %w", dir, err)
	}
	if err := a.load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open the archive in %s: %w", dir, err), a.Close())
	}
	return a, nil
}

// database: everything strict; memory bounded whatever the size of the database.
func (o Options) database() *opt.Options {
	return &opt.Options{
		Strict:                       opt.StrictAll,
		DisableLargeBatchTransaction: true,
		WriteBuffer:                  o.Buffer,
		BlockCacheCapacity:           32 * opt.MiB,
		OpenFilesCacheCapacity:       256,
		Filter:                       filter.NewBloomFilter(10),
	}
}

// load reads what is kept in memory, and makes it if the database is new.
func (a *Archive) load(ctx context.Context) error {
	t := a.begin()
	raw, err := t.get(metaKey("schema"))
	if err != nil {
		return err
	}
	if raw == nil {
		if _, err := rand.Read(a.id[:]); err != nil {
			return err
		}
		t.put(metaKey("schema"), []byte{schema})
		t.put(metaKey("store"), a.id[:])
	} else if len(raw) != 1 || raw[0] != schema {
		return fmt.Errorf("schema %x: %w", raw, ErrSchema)
	}
	id, err := t.get(metaKey("store"))
	if err != nil {
		return err
	}
	if len(id) != len(a.id) {
		return fmt.Errorf("the store's ID has %d bytes: %w", len(id), ErrDamaged)
	}
	a.id = StoreID(id)
	if err := a.loadClock(t); err != nil {
		return err
	}
	last, err := t.last([]byte{tabRecord})
	if err != nil {
		return err
	}
	// The number of a record is never used again, also of one that is gone.
	if a.next, err = t.getUint(metaKey("next"), 1); err != nil {
		return err
	}
	if last != nil {
		a.next = max(a.next, numberOf(last)+1)
	}
	if err := a.loadGroups(ctx, t); err != nil {
		return err
	}
	return a.commit(t)
}

// Retention is how long what was deleted or replaced is kept.
func (a *Archive) Retention() time.Duration { return a.o.Retention }

// ID names the database.
func (a *Archive) ID() StoreID { return a.id }

// Close closes the database; the blockstore is its owner's to close.
func (a *Archive) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil {
		// Time has gone on to here.
		t := a.begin()
		a.tick(t)
		_ = a.commit(t)
	}
	return errors.Join(a.db.Close(), a.files.Close())
}

// commit makes what was put durable, all or nothing.
func (a *Archive) commit(t *tx) error {
	if a.failed != nil {
		return fmt.Errorf("%w (%w)", ErrFailed, a.failed)
	}
	if t.batch.Len() == 0 {
		return nil
	}
	if err := a.db.Write(t.batch, &opt.WriteOptions{Sync: true}); err != nil {
		a.failed = err
		return fmt.Errorf("%w (%w)", ErrFailed, err)
	}
	close(a.news)
	a.news = make(chan struct{})
	return nil
}

// News gives a channel that is closed when something next changes. Whoever asks for it
// before looking misses nothing.
func (a *Archive) News() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.news
}
