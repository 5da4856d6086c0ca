package relay

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sheaf/relay/archive"
	"sheaf/relay/pack"
	"sheaf/replication/chunk"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
)

// TestKeptOnPacks: an archive on real packs takes a file in, tells nobody on the disk
// what is in it, gives it back after a restart, and lets it go, with its bytes, when
// its time has come.
func TestKeptOnPacks(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	a := sealtest.NewAccount(t, 1)
	open := func(now func() time.Time) (*pack.Store, *archive.Archive) {
		t.Helper()
		s := sealtest.Must(pack.Open(ctx, filepath.Join(dir, "packs"), pack.Options{MinFree: -1}))(t)
		return s, sealtest.Must(archive.Open(ctx, filepath.Join(dir, "records"), s, archive.Options{Retention: 2 * time.Second, Versions: -1, Now: now}))(t)
	}
	stop := func(s *pack.Store, keep *archive.Archive) {
		t.Helper()
		if err := keep.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	packs, keep := open(time.Now)
	if err := keep.Host(a.ID(), archive.Limit{Bytes: 1 << 30, Records: 100}); err != nil {
		t.Fatal(err)
	}
	sealtest.Must(keep.Hear(a.ID(), a.Log.Statements()))(t)
	noise := make([]byte, chunk.MaxBlock) // the largest block there can be
	_, _ = sealtest.Seeded(7).Read(noise)
	secret := "a line that nobody else is to read"
	s := a.Laptop.Content(t, string(noise), secret)
	r, _ := a.Laptop.Record(t, sealtest.File("diary.txt", s, false, sealtest.Dot(1, 1)), s)
	if got := sealtest.Must(keep.Take(ctx, []*seal.Record{r}))(t)[0]; got.Outcome != archive.Taken {
		t.Fatal(got.Err)
	}
	if refused := sealtest.Must(keep.Put(ctx, a.ID(), s.Bytes))(t); len(refused) > 0 {
		t.Fatal(refused)
	}
	stop(packs, keep)
	for _, word := range []string{"diary", secret, string(noise[:16])} {
		if where := searched(t, dir, word); where != "" {
			t.Errorf("%q is to be read in %s", word, where)
		}
	}
	packs, keep = open(time.Now)
	for i, ref := range s.Refs {
		if b := sealtest.Must(keep.Block(ctx, a.ID(), ref.Digest))(t); !bytes.Equal(b, s.Bytes[i]) {
			t.Errorf("block %d is not what was stored", i)
		}
	}
	dead, _ := a.Laptop.Record(t, sealtest.File("diary.txt", s, true, sealtest.Dot(1, 2)), s)
	sealtest.Must(keep.Take(ctx, []*seal.Record{dead}))(t)
	sealtest.Must(keep.Tend(ctx))(t)
	sealtest.Must(keep.Collect(ctx))(t)
	if n := packs.Stats().Blocks; n != 2 {
		t.Errorf("before its time %d blocks are there", n)
	}
	stop(packs, keep)
	// An hour later, as far as the archive can know.
	packs, keep = open(func() time.Time { return time.Now().Add(time.Hour) })
	sealtest.Must(keep.Tend(ctx))(t)
	if freed := sealtest.Must(keep.Collect(ctx))(t); freed < chunk.MaxBlock {
		t.Errorf("%d bytes are freed", freed)
	}
	sealtest.Must(packs.Compact(ctx))(t)
	if st := packs.Stats(); st.Blocks != 0 || st.DiskBytes > 1<<20 {
		t.Errorf("at its end there are %+v", st)
	}
	if rep := sealtest.Must(keep.Check(ctx, false))(t); len(rep.Faults)+len(rep.Absent)+len(rep.Stray) > 0 || rep.Records != 1 {
		t.Errorf("the books: %+v", rep)
	}
	stop(packs, keep)
}

// searched gives a file under dir that has a word in it, or "".
func searched(t *testing.T, dir, word string) (where string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			where = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return where
}
