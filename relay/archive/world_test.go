package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
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
	"sheaf/replication/chunk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func seeded(n uint64) *rand.ChaCha8 {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n)
	return rand.NewChaCha8(seed)
}

var folder = crdt.FolderID{5}

// An account is a group with two devices that write.
type account struct {
	log           *group.Log
	laptop, phone *device
}

// A device seals.
type device struct {
	keys   group.Keys
	box    *seal.Box
	number uint64
}

func newAccount(t testing.TB, seed uint64) *account {
	t.Helper()
	rnd := seeded(seed)
	keys, paper, other := must(group.GenerateKeys(rnd))(t), must(group.GenerateKeys(rnd))(t), must(group.GenerateKeys(rnd))(t)
	list := must(group.Found(rnd, keys, group.Founding{Purpose: group.Account, Name: "laptop", Paper: paper}))(t)
	a := &account{log: must(group.LoadLog(list))(t)}
	d := other.Device()
	d.Name = "phone"
	must(a.log.Add(must(a.log.Admit(rnd, keys, group.New{Device: d, Role: group.Owner}))(t)...))(t)
	a.laptop, a.phone = a.device(t, keys), a.device(t, other)
	return a
}

func (a *account) device(t testing.TB, keys group.Keys) *device {
	t.Helper()
	st := a.log.Evaluate()
	d := &device{keys: keys, box: must(seal.NewBox(a.log.Group(), must(st.OpenKeys(keys))(t)))(t)}
	t.Cleanup(d.box.Close)
	return d
}

// A sealed is a file's content as it is uploaded.
type sealed struct {
	list  chunk.List
	refs  []seal.Ref
	bytes [][]byte
}

func (d *device) content(t testing.TB, plain ...string) (s sealed) {
	t.Helper()
	for _, p := range plain {
		b := chunk.Block{Hash: chunk.Sum([]byte(p)), Size: uint32(len(p))}
		data, ref, err := d.box.SealBlock(nil, []byte(p), b)
		if err != nil {
			t.Fatal(err)
		}
		s.list, s.refs, s.bytes = append(s.list, b), append(s.refs, ref), append(s.bytes, data)
	}
	return s
}

func dot(replica byte, n uint64) crdt.Dot {
	return crdt.Dot{Replica: crdt.ReplicaID{replica}, Counter: n}
}

// file makes the entry of a file.
func file(name string, s sealed, dead bool, seen ...crdt.Dot) crdt.Entry {
	last := seen[len(seen)-1]
	stamp := crdt.Stamp{Count: 1, Time: 1_700_000_000_000, Replica: last.Replica}
	at := crdt.Location{Name: name}
	v := &crdt.Version{Stamp: stamp, Author: "laptop", Content: crdt.ContentHash(s.list.Content()), Size: s.list.Size(), Blocks: uint32(len(s.list)), MTime: 1}
	e := crdt.Entry{
		ID: crdt.NewEntryID(folder, crdt.Root, crdt.File, name, nil), Kind: crdt.File,
		Place: crdt.Place{Stamp: stamp, Location: at, From: at}, Attrs: crdt.Attrs{Stamp: stamp, Mode: 0o644},
		Live: []crdt.Facet{{Dot: last, Version: v}}, Last: v, Seen: crdt.VersionVector(seen),
	}
	if dead {
		e.Live = nil
	}
	return e
}

func (d *device) record(t testing.TB, e crdt.Entry, s sealed) (*seal.Record, [][]byte) {
	t.Helper()
	d.number++
	draft := seal.Draft{Folder: folder, Number: d.number, Entry: e, Refs: s.refs}
	if len(s.list) > 1 {
		draft.List = s.list
	}
	r, pages, err := d.box.SealRecord(seeded(d.number), d.keys, draft)
	if err != nil {
		t.Fatal(err)
	}
	return r, pages
}

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
}

func newHost(t testing.TB, o Options) *host {
	t.Helper()
	return openHost(t, filepath.Join(t.TempDir(), "records"), newShelf(nil), o)
}

func openHost(t testing.TB, dir string, s *shelf, o Options) *host {
	t.Helper()
	h := &host{dir: dir, db: simdisk.NewDatabase(dir), shelf: s, o: o}
	o.Files = h.db.Files
	a, err := Open(context.Background(), dir, s, o)
	if err != nil {
		t.Fatal(err)
	}
	h.Archive = a
	return h
}

// reopen closes and opens the archive.
func (h *host) reopen(t testing.TB) *host {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	return openHost(t, h.dir, h.shelf, h.o)
}

// host makes the archive serve an account.
func (h *host) serve(t testing.TB, a *account, limit Limit) {
	t.Helper()
	if err := h.Host(a.log.Group(), limit); err != nil {
		t.Fatal(err)
	}
	must(h.Hear(a.log.Group(), a.log.Statements()))(t)
}

var plenty = Limit{Bytes: 1 << 30, Records: 1 << 20}

// give hands in records, which are to be taken.
func (h *host) give(t testing.TB, want Outcome, records ...*seal.Record) {
	t.Helper()
	for i, got := range must(h.Take(context.Background(), records))(t) {
		if got.Outcome != want {
			t.Fatalf("record %d: outcome %d, %v", i, got.Outcome, got.Err)
		}
	}
}

func (h *host) put(t testing.TB, a *account, data ...[]byte) {
	t.Helper()
	if err := h.Put(context.Background(), a.log.Group(), data); err != nil {
		t.Fatal(err)
	}
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
func (h *host) shown(t testing.TB, d *device) (out []string) {
	t.Helper()
	for _, i := range must(h.After(d.box.Group(), folder, 0, 1000))(t) {
		o := must(d.box.Open(must(seal.ParseRecord(i.Record))(t)))(t)
		state := ""
		if !o.Entry.IsLive() {
			state = " dead"
		}
		out = append(out, fmt.Sprint(o.Entry.Place.Name, o.Entry.Seen, state))
	}
	return out
}

// versions counts the current and the past records of an entry.
func (h *host) versions(t testing.TB, d *device, e crdt.Entry) (current, past int) {
	t.Helper()
	for _, v := range must(h.Versions(d.box.Group(), folder, d.box.Token(folder, e.ID)))(t) {
		if v.Current {
			current++
		} else {
			past++
		}
	}
	return current, past
}

func (h *host) holds(t testing.TB, s sealed, i int) bool {
	t.Helper()
	b := must(h.Block(context.Background(), s.refs[i].Digest))(t)
	if b != nil && !bytes.Equal(b, s.bytes[i]) {
		t.Fatal("another block")
	}
	there := must(h.shelf.Has(context.Background(), cidOf(s.refs[i].Digest)))(t)
	if b != nil && !there {
		t.Fatal("the block is said to be held and is not there")
	}
	return b != nil
}

// tendAll lets go of what is due and collects.
func (h *host) tendAll(t testing.TB) {
	t.Helper()
	must(h.Tend(context.Background()))(t)
	must(h.Collect(context.Background()))(t)
}

const day = 24 * time.Hour
