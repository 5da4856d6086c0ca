package pack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if killedProcess() {
		return
	}
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soak is how many times longer than usual the tests with chance in them run: SHEAF_SOAK.
func soak() int {
	n, err := strconv.Atoi(os.Getenv("SHEAF_SOAK"))
	if err != nil || n < 1 {
		return 1
	}
	return n * 20
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// blockOf gives block n, whose bytes nobody can guess from others.
func blockOf(n uint64, size int) blocks.Block {
	data := make([]byte, size)
	s := rand.NewChaCha8(sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)))
	_, _ = s.Read(data)
	return sealed(data)
}

func sealed(data []byte) blocks.Block {
	b, err := blocks.NewBlockWithCid(data, digest(sha256.Sum256(data)).cid())
	if err != nil {
		panic(err)
	}
	return b
}

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.MinFree == 0 {
		o.MinFree = -1
	}
	s, err := Open(t.Context(), dir, o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// openMem opens the store on a disk in memory. It need not be closed: a cut ends it.
func openMem(t testing.TB, d *memDisk, o Options) *Store {
	t.Helper()
	if o.MinFree == 0 {
		o.MinFree = -1
	}
	s, err := open(t.Context(), "mem", d, o)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// holds fails unless the store gives the block, or has it not if want is false.
func holds(s *Store, c cid.Cid, want bool) error {
	ctx := context.Background()
	has, err := s.Has(ctx, c)
	if err != nil {
		return err
	}
	b, err := s.Get(ctx, c)
	switch {
	case has != want:
		return fmt.Errorf("block %s: Has is %v", c, has)
	case want && err != nil:
		return fmt.Errorf("block %s: %w", c, err)
	case want:
		if d, _ := digestOf(c); !d.of(b.RawData()) {
			return fmt.Errorf("block %s was served with other bytes", c)
		}
	case !ipld.IsNotFound(err):
		return fmt.Errorf("block %s: it should not be there, Get gave %w", c, err)
	}
	return nil
}

// keysOf gives what AllKeysChan gives.
func keysOf(t testing.TB, s *Store) map[cid.Cid]bool {
	t.Helper()
	keys, failed, err := s.AllKeysChanWithErr(t.Context())
	must(t, err)
	all := make(map[cid.Cid]bool)
	for c := range keys {
		all[c] = true
	}
	must(t, failed())
	return all
}

// recount holds the store's counts against its packs.
func recount(s *Store) error {
	if n, m := s.Stats().Blocks, s.table.len(); n != m {
		return fmt.Errorf("the packs count %d blocks, the table %d", n, m)
	}
	live := make(map[uint32]int64)
	count := make(map[uint32]int)
	for id := s.next(0); id != 0; id = s.next(id) {
		rows, _, err := s.rows(id)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range rows {
			if _, _, ok := s.liveAt(id, e); ok {
				live[id] += e.size()
				count[id]++
			}
		}
	}
	for id, p := range s.packs {
		if p.live != live[id] || p.count != count[id] {
			return fmt.Errorf("pack %d counts %d blocks of %d bytes, and has %d of %d", id, p.count, p.live, count[id], live[id])
		}
	}
	return nil
}

func putSum(header []byte) {
	binary.BigEndian.PutUint32(header[28:], crc32.Checksum(header[:28], castagnoli))
}
