package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"sheaf/crdt"
	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
)

// A source is a folder of a device, in memory.
type source struct {
	id      crdt.FolderID
	entries []crdt.Entry // the n'th has sequence number n+1
	lists   map[crdt.ContentHash]chunk.List
	blocks  map[chunk.Hash][]byte
	read    atomic.Int64 // blocks that were read
	reading func(b chunk.Block)
}

func newSource(id crdt.FolderID) *source {
	return &source{id: id, lists: make(map[crdt.ContentHash]chunk.List), blocks: make(map[chunk.Hash][]byte)}
}

// write adds a file of some blocks, as the n'th change.
func (s *source) write(name string, blocks ...string) crdt.Entry {
	var list chunk.List
	for _, b := range blocks {
		block := chunk.Block{Hash: chunk.Sum([]byte(b)), Size: uint32(len(b))}
		s.blocks[block.Hash] = []byte(b)
		list = append(list, block)
	}
	e := sealtest.File(name, sealtest.Content{List: list}, false, sealtest.Dot(1, uint64(len(s.entries)+1)))
	s.lists[crdt.ContentHash(list.Content())] = list
	s.entries = append(s.entries, e)
	return e
}

// remove deletes a file.
func (s *source) remove(name string, was crdt.Entry) {
	e := sealtest.File(name, sealtest.Content{List: s.lists[was.Last.Content]}, true, sealtest.Dot(1, uint64(len(s.entries)+1)))
	s.entries = append(s.entries, e)
}

func (s *source) ID() crdt.FolderID { return s.id }

func (s *source) After(seq uint64, most int) ([]crdt.Entry, uint64, error) {
	rest := s.entries[seq:]
	rest = rest[:min(len(rest), most)]
	return rest, seq + uint64(len(rest)), nil
}

func (s *source) Entry(id crdt.EntryID) (e crdt.Entry, ok bool, err error) {
	for _, x := range s.entries {
		if x.ID == id {
			e, ok = x, true
		}
	}
	return e, ok, nil
}

func (s *source) ListOf(v crdt.Version) (chunk.List, bool, error) {
	list, ok := s.lists[v.Content]
	return list, ok, nil
}

func (s *source) ReadBlock(_ context.Context, b chunk.Block, dst []byte) ([]byte, error) {
	if s.reading != nil {
		s.reading(b)
	}
	data, ok := s.blocks[b.Hash]
	if !ok {
		return nil, replication.ErrNotHere
	}
	s.read.Add(1)
	return append(dst, data...), nil
}

// notes are an uploader's books, in memory.
type notes struct {
	progress map[string]deposit.Progress
	number   uint64
	refs     map[chunk.Hash]seal.Ref
}

func newNotes() *notes {
	return &notes{progress: make(map[string]deposit.Progress), refs: make(map[chunk.Hash]seal.Ref)}
}

func (n *notes) Progress(s replication.StoreID, f crdt.FolderID) (deposit.Progress, error) {
	return n.progress[fmt.Sprint(s, f)], nil
}

func (n *notes) SetProgress(s replication.StoreID, f crdt.FolderID, p deposit.Progress) error {
	n.progress[fmt.Sprint(s, f)] = p
	return nil
}

func (n *notes) Numbers(_ crdt.FolderID, count uint64) (uint64, error) {
	n.number += count
	return n.number - count + 1, nil
}

func (n *notes) Refs(hashes []chunk.Hash) (map[chunk.Hash]seal.Ref, error) {
	out := make(map[chunk.Hash]seal.Ref)
	for _, h := range hashes {
		if r, ok := n.refs[h]; ok {
			out[h] = r
		}
	}
	return out, nil
}

func (n *notes) PutRefs(refs map[chunk.Hash]seal.Ref) error {
	for h, r := range refs {
		if r == (seal.Ref{}) {
			delete(n.refs, h)
		} else {
			n.refs[h] = r
		}
	}
	return nil
}

// uploader opens a stream for a device and gives what uploads over it.
func (w *relayWorld) uploader(a *sealtest.Account, d *sealtest.Device, n *notes) *deposit.Uploader {
	w.t.Helper()
	c := w.mustOpen(a, d)
	if err := c.Exchange(context.Background(), a.Log); err != nil {
		w.t.Fatal(err)
	}
	return &deposit.Uploader{Client: c, Box: d.Box, Keys: d.Keys, Books: n, Workers: 1}
}

// contents gives what a device reads of a folder: each file with its bytes.
func (w *relayWorld) contents(a *sealtest.Account, d *sealtest.Device, folder crdt.FolderID) (out []string) {
	w.t.Helper()
	c := w.mustOpen(a, d)
	defer func() { _ = c.Close() }()
	state := a.Log.Evaluate()
	for after := uint64(0); ; {
		list, next, err := c.Tell(w.t.Context(), d.Box, &state, folder, after, false)
		if err != nil {
			w.t.Fatal(err)
		}
		if next == after {
			slices.Sort(out)
			return out
		}
		after = next
		for _, t := range list {
			if t.Err != nil {
				w.t.Fatal(t.Err)
			}
			out = append(out, w.told(c, d, t))
		}
	}
}

func (w *relayWorld) told(c *deposit.Client, d *sealtest.Device, t deposit.Told) string {
	w.t.Helper()
	name := t.Entry.Place.Name
	switch {
	case !t.Entry.IsLive():
		return name + " deleted"
	case !t.Whole:
		return name + " not whole"
	}
	var parts []deposit.Part
	first := len(t.Blocks) - int(t.Entry.Shown().Blocks)
	for n, b := range t.Blocks[first:] {
		parts = append(parts, deposit.Part{Block: b, Ref: t.Refs[first+n]})
	}
	var data []byte
	err := c.Read(w.t.Context(), d.Box, parts, func(b []byte) error {
		data = append(data, b...)
		return nil
	})
	if errors.Is(err, deposit.ErrNotHeld) {
		return name + " not held"
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if len(data) > 40 {
		return fmt.Sprintf("%s %x", name, chunk.Sum(data))
	}
	return name + " " + string(data)
}

func expect(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestUploadAndRead: what one device uploads another reads; what has not changed is not
// sent again, nor is what another folder or device has brought.
func TestUploadAndRead(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		f, n := newSource(sealtest.Folder), newNotes()
		f.write("a", "one", "two")
		f.write("empty")
		was := f.write("c", "three")
		never := f.write("d", "four", "five")
		delete(f.blocks, chunk.Sum([]byte("five"))) // it went before it could be uploaded
		u := w.uploader(a, a.Laptop, n)
		p := sealtest.Must(u.Upload(t.Context(), f))(t)
		if p.Seq != 4 || !slices.Equal(p.Waiting, []crdt.EntryID{never.ID}) {
			t.Errorf("uploaded up to %+v", p)
		}
		f.remove("c", was)
		f.remove("d", never)
		p = sealtest.Must(u.Upload(t.Context(), f))(t)
		if p.Seq != 6 || len(p.Waiting) != 0 {
			t.Errorf("then up to %+v", p)
		}
		expect(t, "the phone reads", w.contents(a, a.Phone, f.id), []string{"a onetwo", "empty ", "c deleted", "d deleted"})
		// A deletion names what was deleted, so that it can be restored.
		c := w.mustOpen(a, a.Phone)
		state := a.Log.Evaluate()
		list, _, err := c.Tell(t.Context(), a.Phone.Box, &state, f.id, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, told := range list {
			if name := told.Entry.Place.Name; name == "c" && len(told.Refs) != 1 || name == "d" && len(told.Refs) != 0 {
				t.Errorf("of %s %d blocks are named", name, len(told.Refs))
			}
		}
		sent, _ := u.Sent()
		read := f.read.Load()
		sealtest.Must(u.Upload(t.Context(), f))(t)
		// The same bytes in another folder, by another device that knows nothing.
		g := newSource(crdt.FolderID{77})
		g.write("copy", "one", "two")
		v := w.uploader(a, a.Phone, newNotes())
		sealtest.Must(v.Upload(t.Context(), g))(t)
		if again, _ := u.Sent(); again != sent || f.read.Load() != read {
			t.Error("what has not changed was read or sent again")
		}
		if bytes, records := v.Sent(); bytes != 0 || records != 1 {
			t.Errorf("what is there already was sent: %d bytes", bytes)
		}
		expect(t, "of the copy", w.contents(a, a.Laptop, g.id), []string{"copy onetwo"})
		_, _ = u.Client.Close(), v.Client.Close()
		_ = c.Close()
	})
}

// TestUploadWithoutMemory: files larger than what is held in memory, with lists in
// pieces and references on pages.
func TestUploadWithoutMemory(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		f := newSource(sealtest.Folder)
		var blocks []string
		for i := range 700 {
			blocks = append(blocks, fmt.Sprintf("block %d", i))
		}
		f.write("many", blocks...)
		f.write("few", blocks[3], "and one more")
		f.write("again", "a", "a", "a")
		u := w.uploader(a, a.Laptop, newNotes())
		u.Memory = 1000
		u.Workers = 3
		f.reading = nil
		if p := sealtest.Must(u.Upload(t.Context(), f))(t); p.Seq != 3 || len(p.Waiting) > 0 {
			t.Errorf("uploaded up to %+v", p)
		}
		expect(t, "read", w.contents(a, a.Phone, f.id), []string{
			fmt.Sprintf("many %x", chunk.Sum([]byte(strings.Join(blocks, "")))), "few block 3and one more", "again aaa",
		})
		_ = u.Client.Close()
	})
}

// TestFileChangesUnderUpload: a file that changes between its sealing and its storing
// waits, and its next state is uploaded whole. What was there before stays.
func TestFileChangesUnderUpload(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		f := newSource(sealtest.Folder)
		f.write("f", "old")
		u := w.uploader(a, a.Laptop, newNotes())
		u.Memory = 1 // so that each block is read twice
		sealtest.Must(u.Upload(t.Context(), f))(t)
		e := f.write("f", "new", "er")
		reads := 0
		f.reading = func(b chunk.Block) {
			if reads++; reads == 3 {
				f.blocks[b.Hash] = []byte("xx")
			}
		}
		if p := sealtest.Must(u.Upload(t.Context(), f))(t); !slices.Equal(p.Waiting, []crdt.EntryID{e.ID}) {
			t.Errorf("uploaded up to %+v", p)
		}
		versions, _, err := u.Client.Versions(t.Context(), f.id, a.Laptop.Box.Token(f.id, e.ID))
		if err != nil || len(versions) != 2 || versions[0].Whole || !versions[1].Whole || !versions[1].Current {
			t.Errorf("the one before has to stand: %+v, %v", versions, err)
		}
		f.reading = nil
		f.write("f", "newest")
		if p := sealtest.Must(u.Upload(t.Context(), f))(t); len(p.Waiting) != 0 {
			t.Errorf("then up to %+v", p)
		}
		expect(t, "read", w.contents(a, a.Phone, f.id), []string{"f newest"})
		_ = u.Client.Close()
	})
}

// TestUploadAgainstLimits: a quota that is used up, and a relay that does not know the
// author yet, stop an upload where it can go on.
func TestUploadAgainstLimits(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), archive.Limit{Bytes: 1200, Records: 100}); err != nil {
			t.Fatal(err)
		}
		f, n := newSource(sealtest.Folder), newNotes()
		f.write("a", strings.Repeat("a", 100))
		c := w.mustOpen(a, a.Laptop)
		u := &deposit.Uploader{Client: c, Box: a.Laptop.Box, Keys: a.Laptop.Keys, Books: n}
		if _, err := u.Upload(t.Context(), f); err == nil {
			t.Error("a relay that knows nobody took something")
		}
		if err := c.Exchange(t.Context(), a.Log); err != nil {
			t.Fatal(err)
		}
		noise := make([]byte, 2000)
		_, _ = sealtest.Seeded(3).Read(noise)
		f.write("b", string(noise))
		if _, err := u.Upload(t.Context(), f); !errors.Is(err, deposit.ErrQuota) {
			t.Errorf("over the quota: %v", err)
		}
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		sealtest.Must(u.Upload(t.Context(), f))(t)
		expect(t, "read", w.contents(a, a.Phone, f.id), []string{
			fmt.Sprintf("a %x", chunk.Sum([]byte(strings.Repeat("a", 100)))), fmt.Sprintf("b %x", chunk.Sum(noise)),
		})
		_ = u.Client.Close()
	})
}

// TestRemovedDeviceUploads: what a device uploads after its removal is set aside.
func TestRemovedDeviceUploads(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		f := newSource(sealtest.Folder)
		f.write("a", "one")
		u := w.uploader(a, a.Phone, newNotes())
		sealtest.Must(w.archive.Hear(a.ID(), a.RemovePhone(t)))(t)
		if _, err := u.Upload(t.Context(), f); !refused(err, "not-member") {
			t.Errorf("uploaded by a removed device: %v", err)
		}
		_ = u.Client.Close()
	})
}

// A cutter lets so many bytes through to the relay, and breaks then.
type cutter struct {
	replication.Stream
	left int
}

func (c *cutter) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		_ = c.Stream.Reset()
		return 0, errors.New("cut")
	}
	return c.Stream.Write(b)
}

type cutting struct {
	as
	left int
}

func (o cutting) Open(ctx context.Context, d replication.DeviceID, protocol string) (replication.Stream, error) {
	s, err := o.as.Open(ctx, d, protocol)
	return &cutter{s, o.left}, err
}

// TestUploadCutAnywhere: an upload that breaks off again and again, further on each time,
// ends with all there, and sends no block twice.
func TestUploadCutAnywhere(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		sealtest.Must(w.archive.Hear(a.ID(), a.Log.Statements()))(t)
		f, n := newSource(sealtest.Folder), newNotes()
		var want []string
		for i := range 9 {
			noise := make([]byte, 300*(i+1))
			_, _ = sealtest.Seeded(uint64(i)).Read(noise)
			f.write(fmt.Sprint(i), string(noise), fmt.Sprintf("tail %d", i))
			want = append(want, fmt.Sprintf("%d %x", i, chunk.Sum(append(noise, fmt.Sprintf("tail %d", i)...))))
		}
		sent, tries := int64(0), 0
		for left := 200; ; left += 700 {
			if tries++; tries > 200 {
				t.Fatal("it does not come to an end")
			}
			c, err := deposit.Open(t.Context(), cutting{as{w, a.Laptop.Keys.ID()}, left}, replication.DeviceID{1}, a.ID(), "test")
			if err != nil {
				continue
			}
			u := &deposit.Uploader{Client: c, Box: a.Laptop.Box, Keys: a.Laptop.Keys, Books: n, Workers: 1, Memory: 2000}
			_, err = u.Upload(t.Context(), f)
			bytes, _ := u.Sent()
			sent += bytes
			_ = c.Close()
			if err == nil {
				break
			}
		}
		expect(t, "read", w.contents(a, a.Phone, f.id), want)
		total := int64(sealtest.Must(w.archive.Usage(a.ID()))(t).Bytes)
		if sent > total {
			t.Errorf("%d bytes were sent, and %d are there", sent, total)
		}
		if tries < 5 {
			t.Errorf("%d tries prove nothing", tries)
		}
	})
}

// TestReadForged: what a relay changes is found out and named, and what it has not
// changed is read.
func TestReadForged(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		a := sealtest.NewAccount(t, 1)
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		f := newSource(sealtest.Folder)
		f.write("a", "one")
		u := w.uploader(a, a.Laptop, newNotes())
		sealtest.Must(u.Upload(t.Context(), f))(t)
		_ = u.Client.Close()
		c := w.mustOpen(a, a.Phone)
		defer func() { _ = c.Close() }()
		state := a.Log.Evaluate()
		list, _, err := c.Tell(t.Context(), a.Phone.Box, &state, f.id, 0, false)
		if err != nil || len(list) != 1 || list[0].Err != nil {
			t.Fatalf("%+v, %v", list, err)
		}
		part := deposit.Part{Block: list[0].Blocks[0], Ref: list[0].Refs[0]}
		other := part
		other.Block.Hash[0] ^= 1
		var forged *deposit.ForgedError
		if err := c.Read(t.Context(), a.Phone.Box, []deposit.Part{part, other}, func(b []byte) error {
			if !bytes.Equal(b, []byte("one")) {
				t.Errorf("read %q", b)
			}
			return nil
		}); !errors.As(err, &forged) {
			t.Errorf("a block that is another: %v", err)
		}
		// The device of another group's statements believes none of it.
		b := sealtest.NewAccount(t, 2)
		foreign := b.Log.Evaluate()
		list, _, err = c.Tell(t.Context(), a.Phone.Box, &foreign, f.id, 0, false)
		if err != nil || len(list) != 1 || !errors.Is(list[0].Err, seal.ErrForeign) && !errors.Is(list[0].Err, seal.ErrUnknown) {
			t.Errorf("judged by another group's statements: %+v, %v", list, err)
		}
		// Nor one that has no key.
		strange := sealtest.Must(seal.NewBox(b.ID(), sealtest.Must(foreign.OpenKeys(b.Laptop.Keys))(t)))(t)
		defer strange.Close()
		list, _, err = c.Tell(t.Context(), strange, &state, f.id, 0, false)
		if err != nil || len(list) != 1 || list[0].Err == nil {
			t.Errorf("opened by a stranger: %+v, %v", list, err)
		}
	})
}
