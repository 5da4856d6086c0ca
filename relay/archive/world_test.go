package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"sheaf/crdt"
	"sheaf/node/simdisk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
)

// A shelf is a blockstore that forgets nothing over a crash, and can be looked at in
// the middle of a call.
type shelf struct {
	blockstore.Blockstore
	mu   sync.Mutex
	all  map[cid.Cid][]byte
	fail error
	hook func() // before and after each change
}

func newShelf(from map[cid.Cid][]byte) *shelf {
	s := &shelf{Blockstore: blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore())), all: make(map[cid.Cid][]byte), hook: func() {}}
	for c, b := range from {
		blk, _ := blocks.NewBlockWithCid(b, c)
		_ = s.Blockstore.Put(context.Background(), blk)
		s.all[c] = b
	}
	return s
}

func (s *shelf) PutMany(ctx context.Context, list []blocks.Block) error {
	if s.fail != nil {
		return s.fail
	}
	for _, b := range list {
		s.hook()
		if err := s.Put(ctx, b); err != nil {
			return err
		}
		s.mu.Lock()
		s.all[b.Cid()] = b.RawData()
		s.mu.Unlock()
	}
	s.hook()
	return nil
}

func (s *shelf) DeleteBlock(ctx context.Context, c cid.Cid) error {
	s.hook()
	s.mu.Lock()
	delete(s.all, c)
	s.mu.Unlock()
	err := s.Blockstore.DeleteBlock(ctx, c)
	s.hook()
	return err
}

func (s *shelf) image() map[cid.Cid][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[cid.Cid][]byte, len(s.all))
	for c, b := range s.all {
		out[c] = b
	}
	return out
}

// A host is an archive with what it stands on.
type host struct {
	*Archive
	dir   string
	db    *simdisk.Database
	shelf *shelf
	o     Options

	holder group.ID // the account that it serves
}

func newHost(t testing.TB, o Options) *host {
	t.Helper()
	return openHost(t, filepath.Join(t.TempDir(), "records"), newShelf(nil), o)
}

func openHost(t testing.TB, dir string, s *shelf, o Options) *host {
	t.Helper()
	h := &host{dir: dir, db: simdisk.NewDatabase(dir), shelf: s, o: o}
	h.open(t)
	return h
}

// open opens the archive, which is closed.
func (h *host) open(t testing.TB) {
	t.Helper()
	o := h.o
	o.Files = h.db.Files
	h.Archive = sealtest.Must(Open(context.Background(), h.dir, h.shelf, o))(t)
}

// reopen closes and opens it.
func (h *host) reopen(t testing.TB) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.open(t)
}

// serve makes the archive serve an account.
func (h *host) serve(t testing.TB, a *sealtest.Account, limit Limit) {
	t.Helper()
	if err := h.Host(a.ID(), limit); err != nil {
		t.Fatal(err)
	}
	h.holder = a.ID()
	sealtest.Must(h.Hear(a.ID(), a.Log.Statements()))(t)
}

var plenty = Limit{Bytes: 1 << 30, Records: 1 << 20}

// give hands in records, which are to be taken.
func (h *host) give(t testing.TB, want Outcome, records ...*seal.Record) {
	t.Helper()
	for i, got := range sealtest.Must(h.Take(context.Background(), records))(t) {
		if got.Outcome != want {
			t.Fatalf("record %d: outcome %d, %v", i, got.Outcome, got.Err)
		}
	}
}

func (h *host) put(t testing.TB, a *sealtest.Account, data ...[]byte) {
	t.Helper()
	if err := h.bring(a, data...); err != nil {
		t.Fatal(err)
	}
}

// bring puts blocks, and gives an error of any.
func (h *host) bring(a *sealtest.Account, data ...[]byte) error {
	refused, err := h.Put(context.Background(), a.ID(), data)
	for _, r := range refused {
		err = errors.Join(err, r)
	}
	return err
}

// sound has the archive check itself.
func (h *host) sound(t testing.TB) {
	t.Helper()
	if err := h.soundness(); err != nil {
		t.Fatal(err)
	}
}

func (h *host) soundness() error {
	rep, err := h.Check(context.Background(), false)
	if err != nil {
		return err
	}
	if len(rep.Faults)+len(rep.Absent) > 0 {
		return fmt.Errorf("faults %q, absent %d", rep.Faults, len(rep.Absent))
	}
	return nil
}

// shown gives the names and dots of the current records of the folder, opened.
func (h *host) shown(t testing.TB, d *sealtest.Device) (out []string) {
	t.Helper()
	for _, i := range sealtest.Must(h.After(d.Box.Group(), sealtest.Folder, 0, 1000))(t) {
		o := sealtest.Must(d.Box.Open(sealtest.Must(seal.ParseRecord(i.Record))(t)))(t)
		state := ""
		if !o.Entry.IsLive() {
			state = " dead"
		}
		out = append(out, fmt.Sprint(o.Entry.Place.Name, o.Entry.Seen, state))
	}
	return out
}

// versions counts the current and the past records of an entry.
func (h *host) versions(t testing.TB, d *sealtest.Device, e crdt.Entry) (current, past int) {
	t.Helper()
	for _, v := range sealtest.Must(h.Versions(d.Box.Group(), sealtest.Folder, d.Box.Token(sealtest.Folder, e.ID)))(t) {
		if v.Current {
			current++
		} else {
			past++
		}
	}
	return current, past
}

func (h *host) holds(t testing.TB, s sealtest.Content, i int) bool {
	t.Helper()
	b := sealtest.Must(h.Block(context.Background(), h.holder, s.Refs[i].Digest))(t)
	if b != nil && !bytes.Equal(b, s.Bytes[i]) {
		t.Fatal("another block")
	}
	there := sealtest.Must(h.shelf.Has(context.Background(), cidOf(s.Refs[i].Digest)))(t)
	if b != nil && !there {
		t.Fatal("the block is said to be held and is not there")
	}
	return b != nil
}

// tendAll lets go of what is due and collects.
func (h *host) tendAll(t testing.TB) {
	t.Helper()
	sealtest.Must(h.Tend(context.Background()))(t)
	sealtest.Must(h.Collect(context.Background()))(t)
}

const day = 24 * time.Hour
