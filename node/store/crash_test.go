package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/crdt"
	"sheaf/node/simdisk"
)

// dump gives all that is stored of a folder.
func dump(f *Folder) (map[string]string, error) {
	all := make(map[string]string)
	err := f.Read(func(r *Reader) error {
		return r.fail("dump", r.view.scan(f.n.key(0, 0)[:2], nil, func(k, v []byte) (bool, error) {
			all[string(k)] = string(v)
			return true, nil
		}))
	})
	return all, err
}

func mustDump(t testing.TB, f *Folder) map[string]string {
	t.Helper()
	all, err := dump(f)
	must(t, err)
	return all
}

// copyDir copies a database as a backup program would, and makes the copy pass
// for the original, unless it is to be known as a copy.
func copyDir(t testing.TB, from string, known bool) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "index")
	must(t, os.CopyFS(to, os.DirFS(from)))
	if !known {
		pass(t, to)
	}
	return to
}

func pass(t testing.TB, dir string) {
	t.Helper()
	a, err := openAcknowledged(filepath.Join(dir, ackedName))
	must(t, err)
	must(t, a.claim())
	must(t, a.close())
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	if r := s.Recovery(); r.Kind != Fresh {
		t.Fatalf("a new database was %+v", r)
	}
	tr := &tree{f: openFolder(t, s)}
	tr.grow(t, 300)
	want, id, replica, counter, seq := mustDump(t, tr.f), s.ID(), tr.f.Replica(), tr.f.Counter(), tr.f.Seq()
	if counter == 0 || seq != counter {
		t.Fatalf("303 creations used counter %d and seq %d", counter, seq)
	}
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	f := openFolder(t, s)
	if r := s.Recovery(); r.Kind != Clean || s.Rebuilt() {
		t.Errorf("reopened it was %+v", r)
	}
	if s.ID() != id || f.Replica() != replica || f.Counter() != counter || f.Seq() != seq {
		t.Error("IDs or numbers are not what they were")
	}
	if !maps.Equal(mustDump(t, f), want) {
		t.Error("what was read is not what was there")
	}
	check(t, f)
}

func TestLocked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "sheaf stop") {
		t.Errorf("opened twice: %v", err)
	}
	must(t, s.Close())
	openStore(t, dir, Options{})
}

func TestNewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	must(t, s.change(func(b *leveldb.Batch) { b.Put(storeKey("schema"), []byte{schema + 1}) }))
	must(t, s.Close())
	var newer *SchemaError
	if _, err := Open(dir, Options{}); !errors.As(err, &newer) || newer.Found != schema+1 || newer.Want != schema {
		t.Fatalf("opened a newer database: %v", err)
	}
	if names, _ := filepath.Glob(dir + ".corrupt-*"); len(names) > 0 {
		t.Error("a newer database was set aside")
	}
}

// TestCopyIsRenewed: a database that was copied, or restored from a copy, makes
// no dot and no sequence number that the original may make too (S5).
func TestCopyIsRenewed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	tr := &tree{f: openFolder(t, openStore(t, dir, Options{}))}
	for i := range 5 {
		tr.grow(t, 3+i)
		want := mustDump(t, tr.f)
		s := openStore(t, copyDir(t, dir, true), Options{})
		f := openFolder(t, s)
		if r := s.Recovery(); r.Kind != Renewed || s.ID() == tr.f.s.ID() || f.Replica() == tr.f.Replica() || f.Counter() != 0 {
			t.Fatalf("the copy was %+v, replica %s, counter %d", r, f.Replica(), f.Counter())
		}
		got := mustDump(t, f)
		for _, m := range []map[string]string{got, want} { // what must differ
			maps.DeleteFunc(m, func(k, _ string) bool { return k[2] == tabMeta || k[2] == tabHead })
		}
		if !maps.Equal(got, want) {
			t.Fatal("the copy is not what the original was")
		}
		must(t, f.Read(func(r *Reader) error {
			heads, err := r.Heads()
			if heads.Counter(tr.f.Replica()) != tr.f.Counter() {
				t.Errorf("heads of the copy are %v", heads)
			}
			return err
		}))
		check(t, f)
		must(t, s.Close())
		s = openStore(t, s.dir, Options{})
		if r := s.Recovery(); r.Kind != Clean {
			t.Fatalf("opened again it was %+v", r)
		}
	}
}

// TestRenewalGoesOn: a renewal that a crash cut short is done again.
func TestRenewalGoesOn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	tr := &tree{f: openFolder(t, s)}
	tr.grow(t, 5)
	must(t, s.acked.disown()) // as a renewal begins
	must(t, s.RenewID())
	replica := tr.f.Replica()
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	if f := openFolder(t, s); s.Recovery().Kind != Renewed || f.Replica() == replica {
		t.Errorf("it was %+v", s.Recovery())
	}
	must(t, s.Close())
	if s = openStore(t, dir, Options{}); s.Recovery().Kind != Clean {
		t.Errorf("then it was %+v", s.Recovery())
	}
}

// TestPowerCut: whatever was synced is there after a power cut, whatever was
// lazy is there up to some commit and whole, and neither is taken for damage.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4 * soak()) {
		rnd := seeded(seed)
		// Every other database goes on to a new log every few commits.
		dir := filepath.Join(t.TempDir(), "index")
		disk := simdisk.NewDatabase(dir)
		o := Options{WriteBuffer: []int{0, 2 << 10}[seed%2], Files: disk.Files}
		s := openStore(t, dir, o)
		f := openFolder(t, s)
		after := []map[string]string{mustDump(t, f)} // after each commit
		synced := 0
		h := &history{rnd: rnd}
		for i := range 16 {
			lazy := rnd.IntN(3) > 0
			update := f.Update
			if lazy {
				update = f.UpdateLazy
			}
			must(t, update(func(tx *Tx) error {
				e := remoteFile(uint64(i), rnd)
				_, err := crdt.Apply(tx, []crdt.Entry{e})
				return errors.Join(err, tx.SetCursor([32]byte{1}, StoreID{2}, uint64(i+1)), tx.PutList(e.Last.Content, h.list(uint64(i))))
			}))
			after = append(after, mustDump(t, f))
			if !lazy {
				synced = len(after) - 1
			}
			dead := filepath.Join(t.TempDir(), "index")
			image, err := disk.Image(rnd)
			must(t, err)
			must(t, image.Write(dead))
			pass(t, dead)
			again, err := Open(dead, Options{})
			if err != nil {
				t.Fatalf("seed %d, commit %d: %v", seed, i, err)
			}
			if r := again.Recovery(); r.Kind != Clean {
				t.Fatalf("seed %d, commit %d: the database was %+v", seed, i, r)
			}
			f := openFolder(t, again)
			got := mustDump(t, f)
			at := synced
			for at < len(after) && !maps.Equal(after[at], got) {
				at++
			}
			if at == len(after) {
				t.Fatalf("seed %d, commit %d: after the cut it is not as after any commit from %d on", seed, i, synced)
			}
			check(t, f)
			must(t, again.Close())
		}
		must(t, s.Close())
	}
}

// remoteFile is a file that another device made.
func remoteFile(n uint64, rnd *rand.Rand) crdt.Entry {
	list := (&history{}).list(n)
	at := crdt.Location{Name: fmt.Sprintf("file %d %d", n, rnd.Uint32())}
	dot := crdt.Dot{Replica: crdt.ReplicaID{9}, Counter: n + 1}
	stamp := crdt.Stamp{Count: 1, Time: int64(n), Replica: dot.Replica}
	v := &crdt.Version{Stamp: stamp, Content: crdt.ContentHash(list.Content()), Size: list.Size(), Blocks: uint32(len(list))}
	return crdt.Entry{
		ID: crdt.NewEntryID(testFolder, crdt.Root, crdt.File, at.Name, nil), Kind: crdt.File,
		Place: crdt.Place{Stamp: stamp, Location: at, From: at}, Attrs: crdt.Attrs{Stamp: stamp, Mode: 0o644},
		Live: []crdt.Facet{{Dot: dot, Version: v}}, Last: v, Seen: crdt.VersionVector{dot},
	}
}

// helperProcess is the child of TestKill: it commits for ever and says so.
func helperProcess() bool {
	dir := os.Getenv("SHEAF_STORE_KILL")
	if dir == "" {
		return false
	}
	s, err := Open(dir, Options{})
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	f, err := s.Folder(testFolder)
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	fmt.Println("open", s.Recovery().Kind, f.Counter())
	pad := strings.Repeat("n", 100)
	for {
		err := f.Update(func(tx *Tx) error {
			_, err := record(tx, func(r *crdt.Recorder) error {
				for range 60 {
					at := crdt.Location{Name: fmt.Sprintf("%s-%d", pad, r.Counter())}
					if _, err := r.Create(at, crdt.File, content(r.Counter()), 0o644); err != nil {
						return err
					}
				}
				return nil
			}, onDiskAsIs)
			return err
		})
		if err != nil {
			fmt.Println("error", err)
			return true
		}
		fmt.Println("acked", f.Counter())
	}
}

// TestKill: a process killed in the middle of its updates loses nothing that it
// had acknowledged, and what it left half-written is not taken for damage.
func TestKill(t *testing.T) {
	t.Parallel()
	rounds := 3 * soak()
	dir := filepath.Join(t.TempDir(), "index")
	rnd := seeded(uint64(os.Getpid()))
	acked := uint64(0)
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "SHEAF_STORE_KILL="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		kill := 1 + rnd.IntN(40)
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "acked":
				acked, err = strconv.ParseUint(rest, 10, 64)
				must(t, err)
			case "open":
				if kind, _, _ := strings.Cut(rest, " "); round > 0 && kind != Clean.String() {
					t.Errorf("round %d: after kill -9 the database was %s", round, kind)
				}
			default:
				t.Errorf("round %d: %s", round, lines.Text())
			}
			if i == kill {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		again := copyDir(t, dir, false)
		s, err := Open(again, Options{})
		must(t, err)
		f := openFolder(t, s)
		if r := s.Recovery(); r.Kind != Clean || f.Counter() < acked || f.Counter()%60 != 0 {
			t.Fatalf("round %d: acknowledged up to %d, found %+v with %d", round, acked, r, f.Counter())
		}
		if uint64(f.state.Load().stats.Files) != f.Counter() {
			t.Fatalf("round %d: %d files, %d were made", round, f.state.Load().stats.Files, f.Counter())
		}
		check(t, f)
		must(t, s.Close())
	}
	t.Logf("%d creations acknowledged over %d kills", acked, rounds)
}

// TestFailedSync: after a write that failed nothing more is written, and what
// was acknowledged is there when the database is opened again.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	disk := &failing{}
	s := openStore(t, dir, Options{Files: func(inner storage.Storage) storage.Storage { disk.Storage = inner; return disk }})
	tr := &tree{f: openFolder(t, s)}
	tr.grow(t, 10)
	want := mustDump(t, tr.f)
	seq := tr.f.Seq()
	disk.fail.Lock()
	disk.err = errors.New("the disk is gone")
	disk.fail.Unlock()
	put := func(tx *Tx) error { return tx.SetCursor([32]byte{1}, StoreID{1}, 7) }
	if err := tr.f.Update(put); !errors.Is(err, ErrFailed) || !errors.Is(err, disk.err) {
		t.Fatalf("a failed sync gave %v", err)
	}
	disk.fail.Lock()
	disk.err = nil
	disk.fail.Unlock()
	if err := tr.f.Update(put); !errors.Is(err, ErrFailed) {
		t.Fatalf("after a failed sync an update gave %v", err)
	}
	if err := s.Put("space", "key", nil); !errors.Is(err, ErrFailed) {
		t.Fatalf("after a failed sync a value was put: %v", err)
	}
	if tr.f.Seq() != seq || !maps.Equal(mustDump(t, tr.f), want) {
		t.Error("what failed is to be seen")
	}
	_ = s.Close()
	f := openFolder(t, openStore(t, dir, Options{}))
	must(t, f.Read(func(r *Reader) error {
		if at, err := r.Cursor([32]byte{1}, StoreID{1}); err != nil || at != 0 && at != 7 {
			t.Errorf("cursor is %d, %v", at, err)
		}
		return nil
	}))
	check(t, f)
}

type failing struct {
	storage.Storage
	fail sync.Mutex
	err  error
}

func (f *failing) Create(fd storage.FileDesc) (storage.Writer, error) {
	w, err := f.Storage.Create(fd)
	return &failingWriter{w, f}, err
}

type failingWriter struct {
	storage.Writer
	f *failing
}

func (w *failingWriter) Sync() error {
	w.f.fail.Lock()
	defer w.f.fail.Unlock()
	if w.f.err != nil {
		return w.f.err
	}
	return w.Writer.Sync()
}

// harm does something to one file of a database, and says what.
func harm(t testing.TB, dir string, rnd *rand.Rand) string {
	names, err := os.ReadDir(dir)
	must(t, err)
	name := names[rnd.IntN(len(names))].Name()
	for name == "LOCK" || name == "LOG" {
		name = names[rnd.IntN(len(names))].Name()
	}
	path := filepath.Join(dir, name)
	data, err := os.ReadFile(path)
	must(t, err)
	what := "nothing"
	switch n := len(data); {
	case n == 0:
	case rnd.IntN(12) == 0:
		must(t, os.Remove(path))
		return name + " removed"
	default:
		at := rnd.IntN(n)
		if rnd.IntN(4) == 0 {
			at = n - 1 - rnd.IntN(min(n, 60))
		}
		switch rnd.IntN(5) {
		case 0, 1:
			data[at] ^= 1 << rnd.IntN(8)
			what = "a bit flipped"
		case 2:
			data, what = data[:at], "cut"
		case 3:
			end := min(n, at+1+rnd.IntN(600))
			clear(data[at:end])
			what = "zeroed"
		case 4:
			end := min(n, at+1+rnd.IntN(600))
			_, _ = randBytes{rnd}.Read(data[at:end])
			what = "overwritten"
		}
		must(t, os.WriteFile(path, data, 0o600))
		return fmt.Sprintf("%s of %d bytes %s at %d", name, n, what, at)
	}
	return name + " left alone"
}

// TestDamage: whatever happens to one file of the database, it opens with all
// that was acknowledged, or says that it does not have it.
func TestDamage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	tr := &tree{f: openFolder(t, s)}
	// Tables at two levels, and a journal.
	tr.grow(t, 400)
	must(t, s.db.CompactRange(util.Range{}))
	tr.grow(t, 200)
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	tr.f = openFolder(t, s)
	for range 10 {
		tr.grow(t, 30)
	}
	must(t, s.Put("space", "key", []byte("value")))
	want, id, replica := mustDump(t, tr.f), s.ID(), tr.f.Replica()
	must(t, s.Close())
	n := 50 * soak()
	found := make(map[string]int)
	for seed := range uint64(n) {
		rnd := seeded(seed)
		dead := copyDir(t, dir, false)
		what := harm(t, dead, rnd)
		outcome, err := openHarmed(dead, want, id, replica)
		if err != nil {
			t.Fatalf("seed %d, %s: %v", seed, what, err)
		}
		found[outcome]++
		must(t, os.RemoveAll(filepath.Dir(dead)))
	}
	t.Logf("of %d databases with one damaged file: %v", n, found)
	for _, outcome := range []string{"clean", "renewed", "rebuilt", "found while reading"} {
		if found[outcome] == 0 {
			t.Errorf("none was %s", outcome)
		}
	}
}

// openHarmed opens a damaged database and judges what it says of itself.
func openHarmed(dir string, want map[string]string, id StoreID, replica crdt.ReplicaID) (outcome string, err error) {
	s, err := Open(dir, Options{})
	if err != nil {
		return "", fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	kind := s.Recovery().Kind
	switch kind {
	case Rebuilt:
		if s.ID() == id {
			return "", errors.New("rebuilt, but under the old ID")
		}
		if _, err := os.Stat(s.Recovery().Aside); err != nil {
			return "", fmt.Errorf("rebuilt, but the old one is not aside: %w", err)
		}
		if ids, err := s.Folders(); err != nil || len(ids) != 0 {
			return "", fmt.Errorf("rebuilt, but with folders %v (%w)", ids, err)
		}
		return kind.String(), nil
	case Fresh:
		return "", errors.New("taken for new")
	}
	f, err := s.Folder(testFolder)
	if err != nil {
		return "", err
	}
	if kind == Renewed {
		if s.ID() == id || f.Replica() == replica {
			return "", errors.New("renewed, but under an old ID")
		}
	} else if s.ID() != id || f.Replica() != replica {
		return "", errors.New("clean, but under a new ID")
	}
	got, err := dump(f)
	if err == nil {
		err = f.Check(context.Background())
	}
	var damage *CorruptError
	if errors.As(err, &damage) {
		return "found while reading", reopenDamaged(s)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", kind, err)
	}
	if kind == Clean && !maps.Equal(got, want) {
		return "", errors.New("clean, but not what it was")
	}
	return kind.String(), nil
}

// reopenDamaged: damage that was found while reading is remembered.
func reopenDamaged(s *Store) error {
	if err := s.Close(); err != nil {
		return err
	}
	again, err := Open(s.dir, Options{})
	if err != nil {
		return err
	}
	if !again.Rebuilt() {
		err = errors.New("damage that was found while reading was forgotten")
	}
	return errors.Join(err, again.Close())
}
