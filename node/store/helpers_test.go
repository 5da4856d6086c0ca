package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/storage"
	"go.uber.org/goleak"

	"sheaf/crdt"
	"sheaf/node/stat"
)

func TestMain(m *testing.M) {
	if helperProcess() {
		return
	}
	// The library's own buffer pool sweeps itself some time after the end.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// soak says how many times as long as usual random tests are to run.
func soak() int {
	if n, err := strconv.Atoi(os.Getenv("SHEAF_SOAK")); err == nil && n > 0 {
		return n
	}
	return 1
}

var testFolder = crdt.FolderID{0xf0}

// randBytes is a repeatable source of IDs.
type randBytes struct{ *rand.Rand }

func (r randBytes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x5eaf)) }

// inMemory keeps the database's files in memory: for tests that are not about
// them.
func inMemory(o Options) Options {
	o.Files = func(inner storage.Storage) storage.Storage {
		return &memStorage{storage.NewMemStorage(), inner}
	}
	return o
}

type memStorage struct {
	storage.Storage
	inner io.Closer
}

func (m *memStorage) Close() error { return errors.Join(m.Storage.Close(), m.inner.Close()) }

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openFolder(t testing.TB, s *Store) *Folder {
	t.Helper()
	f, err := s.Folder(testFolder)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// memFolder is a folder in a store of its own, in memory.
func memFolder(t testing.TB) *Folder {
	return openFolder(t, openStore(t, filepath.Join(t.TempDir(), "index"), inMemory(Options{})))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t testing.TB, f *Folder) {
	t.Helper()
	if err := f.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func content(n uint64) crdt.Content {
	c := crdt.Content{Size: int64(n%5000) + 1, Blocks: 1, MTime: 1_700_000_000_000_000_000 + int64(n)*977}
	randBytes{seeded(n)}.Read(c.Hash[:])
	return c
}

// record makes local changes on what the disk has, as the engine does it: with
// a Recorder, in one transaction that also settles the changed entries' bases.
func record(tx *Tx, do func(*crdt.Recorder) error, settle func(e crdt.Entry, b *Base)) ([]crdt.Entry, error) {
	r := crdt.NewRecorder(tx.AsBase(), tx, crdt.Writer{
		Folder: tx.f.id, Replica: tx.meta.replica, Counter: tx.meta.counter, Author: "test", Now: 1_700_000_000_000 + int64(tx.meta.seq),
	})
	if err := do(r); err != nil {
		return nil, err
	}
	entries := r.Entries()
	if _, err := crdt.Apply(tx, entries); err != nil {
		return nil, fmt.Errorf("apply what was recorded: %w", err)
	}
	for _, e := range entries {
		b, _, err := tx.Base(e.ID)
		if err != nil {
			return nil, err
		}
		b.ID, b.Entry = e.ID, e
		settle(e, &b)
		if err := tx.SetBase(b); err != nil {
			return nil, err
		}
	}
	return entries, tx.SetCounter(r.Counter())
}

func statKind(k crdt.Kind) stat.Kind {
	return map[crdt.Kind]stat.Kind{crdt.Directory: stat.Directory, crdt.File: stat.File, crdt.Symlink: stat.Symlink}[k]
}
