package relay

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"

	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
	"sheaf/replication/wire"
)

// A stream is one end of a stream in memory.
type stream struct {
	net.Conn
	once sync.Once
}

func (s *stream) CloseWrite() error { return s.Close() }
func (s *stream) Reset() error      { return s.Close() }
func (s *stream) Close() (err error) {
	s.once.Do(func() { err = s.Conn.Close() })
	return err
}

// A relayWorld is a relay, and the streams to it.
type relayWorld struct {
	t       *testing.T
	archive *archive.Archive
	service *ArchiveService
	running sync.WaitGroup
	ends    []error
	mu      sync.Mutex
}

// inRelay runs a test with a relay on virtual time.
func inRelay(t *testing.T, fn func(t *testing.T, w *relayWorld)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocks := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
		a := sealtest.Must(archive.Open(context.Background(), filepath.Join(t.TempDir(), "records"), blocks, archive.Options{Buffer: 64 << 10}))(t)
		w := &relayWorld{t: t, archive: a, service: &ArchiveService{Archive: a, Program: "test", Log: slog.New(slog.DiscardHandler)}}
		fn(t, w)
		w.running.Wait()
		rep := sealtest.Must(a.Check(context.Background(), false))(t)
		if len(rep.Faults)+len(rep.Absent) > 0 {
			t.Errorf("the archive's books: %q", rep.Faults)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // the database's pool ends by itself
	})
}

var plenty = archive.Limit{Bytes: 1 << 30, Records: 1 << 20}

// An as opens streams as one device.
type as struct {
	w    *relayWorld
	peer group.DeviceID
}

func (o as) Open(ctx context.Context, _ replication.DeviceID, protocol string) (replication.Stream, error) {
	if protocol != wire.ArchiveProtocol {
		return nil, fmt.Errorf("no protocol %s", protocol)
	}
	return o.w.connect(o.peer), nil
}

// streams gives both ends of a stream.
func streams() (near, far *stream) {
	a, b := net.Pipe()
	return &stream{Conn: a}, &stream{Conn: b}
}

// connect gives a device's end of a new stream.
func (w *relayWorld) connect(peer group.DeviceID) *stream {
	ours, theirs := streams()
	w.running.Go(func() {
		err := w.service.Serve(context.Background(), peer, theirs)
		_ = theirs.Close()
		w.mu.Lock()
		w.ends = append(w.ends, err)
		w.mu.Unlock()
	})
	return ours
}

// open opens the archive as a device of an account.
func (w *relayWorld) open(a *sealtest.Account, d *sealtest.Device) (*deposit.Client, error) {
	return deposit.Open(context.Background(), as{w, d.Keys.ID()}, replication.DeviceID{1}, a.ID(), "test")
}

func (w *relayWorld) mustOpen(a *sealtest.Account, d *sealtest.Device) *deposit.Client {
	w.t.Helper()
	return sealtest.Must(w.open(a, d))(w.t)
}

// refused tells whether an error is a refusal by a code.
func refused(err error, code string) bool {
	var r *deposit.RefusedError
	return errors.As(err, &r) && r.Code == code
}

// TestDeposit: what one device hands in another gets, having told the relay nothing but
// who belongs to the group.
func TestDeposit(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a := sealtest.NewAccount(t, 1)
		if _, err := w.open(a, a.Laptop); !refused(err, wire.CodeNotHosted) {
			t.Fatalf("a group that is not hosted: %v", err)
		}
		if err := w.archive.Host(a.ID(), plenty); err != nil {
			t.Fatal(err)
		}
		c := w.mustOpen(a, a.Laptop)
		if c.Welcome().MostBytes != plenty.Bytes || c.Welcome().Store == (replication.StoreID{}) {
			t.Errorf("welcomed with %+v", c.Welcome())
		}
		if err := c.Exchange(ctx, a.Log); err != nil {
			t.Fatal(err)
		}
		s := a.Laptop.Content(t, "one", "two", "three")
		e := sealtest.File("f", s, false, sealtest.Dot(1, 1))
		r, _ := a.Laptop.Record(t, e, s)
		if got := sealtest.Must(c.Offer(ctx, []*seal.Record{r, r}))(t); got[0].Outcome != deposit.Taken || got[1].Outcome != deposit.Known {
			t.Fatalf("offered: %+v", got)
		}
		wanted := sealtest.Must(c.Wanted(ctx, seal.Digest{}))(t)
		if rest := sealtest.Must(c.Wanted(ctx, wanted[0]))(t); len(wanted) != 3 || len(rest) != 2 {
			t.Fatalf("wanted are %d blocks, after the first %d", len(wanted), len(rest))
		}
		if lacking := sealtest.Must(c.Lacking(ctx, []seal.Digest{{1}, s.Refs[2].Digest}))(t); len(lacking) != 1 || lacking[0] != s.Refs[2].Digest {
			t.Errorf("lacking are %v", lacking)
		}
		got := sealtest.Must(c.Store(ctx, [][]byte{s.Bytes[0], []byte("unasked"), s.Bytes[1], s.Bytes[2]}))(t)
		if got[0].Outcome != deposit.Taken || got[1].Code != wire.CodeUnwanted || got[3].Outcome != deposit.Taken {
			t.Errorf("stored: %+v", got)
		}
		head := sealtest.Must(a.Laptop.Box.SealHead(sealtest.Seeded(1), a.Laptop.Keys, seal.Head{Folder: sealtest.Folder, Number: 2, Last: 1}))(t)
		earlier := sealtest.Must(a.Laptop.Box.SealHead(sealtest.Seeded(2), a.Laptop.Keys, seal.Head{Folder: sealtest.Folder, Number: 1}))(t)
		if err := c.PutHead(ctx, head); err != nil {
			t.Error(err)
		}
		if err := c.PutHead(ctx, earlier); !refused(err, wire.CodeStale) {
			t.Errorf("an earlier head: %v", err)
		}
		_ = c.Close()

		// The other device has nothing but the group's name.
		fresh := group.NewLog(a.ID())
		c = w.mustOpen(a, a.Phone)
		if err := c.Exchange(ctx, fresh); err != nil || fresh.Len() != a.Log.Len() {
			t.Fatalf("%d statements, of %d: %v", fresh.Len(), a.Log.Len(), err)
		}
		items := sealtest.Must(c.After(ctx, sealtest.Folder, 0, false))(t)
		if len(items) != 1 || items[0].Err != nil {
			t.Fatalf("read %+v", items)
		}
		o := sealtest.Must(a.Phone.Box.Open(items[0].Record))(t)
		if !o.Entry.Equal(e) {
			t.Errorf("it is %+v", o.Entry)
		}
		refs := sealtest.Must(o.Refs(items[0].Record))(t)
		for i, f := range sealtest.Must(c.Fetch(ctx, []seal.Digest{refs[0].Digest, refs[1].Digest, refs[2].Digest, {9}}))(t) {
			if i == 3 {
				if !errors.Is(f.Err, deposit.ErrNotHeld) {
					t.Errorf("a block that is not there: %v", f.Err)
				}
				continue
			}
			plain, err := a.Phone.Box.OpenBlock(nil, f.Data, refs[i].Epoch, o.List[i])
			if err != nil || string(plain) != []string{"one", "two", "three"}[i] {
				t.Errorf("block %d is %q, %v", i, plain, err)
			}
		}
		if heads := sealtest.Must(c.Heads(ctx, sealtest.Folder))(t); len(heads) != 1 || sealtest.Must(a.Phone.Box.OpenHead(heads[0]))(t).Number != 2 {
			t.Errorf("%d heads", len(heads))
		}
		list, more, err := c.Versions(ctx, sealtest.Folder, r.Token)
		if err != nil || more || len(list) != 1 || !list[0].Current || !list[0].Whole || list[0].Err != nil {
			t.Errorf("versions are %+v, %v", list, err)
		}
		if again := sealtest.Must(c.After(ctx, sealtest.Folder, items[0].Number, false))(t); len(again) != 0 {
			t.Errorf("after the last there are %+v", again)
		}
		_ = c.Close()
	})
}

// TestWaiting: who waits for records hears of them at once, and of none after a while.
func TestWaiting(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a := sealtest.NewAccount(t, 1)
		_ = w.archive.Host(a.ID(), plenty)
		c, other := w.mustOpen(a, a.Laptop), w.mustOpen(a, a.Phone)
		if err := c.Exchange(ctx, a.Log); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if got := sealtest.Must(other.After(ctx, sealtest.Folder, 0, true))(t); len(got) != 0 || time.Since(begin) != 25*time.Second {
			t.Errorf("%d records after %v", len(got), time.Since(begin))
		}
		done := make(chan []deposit.Item)
		go func() {
			got, _ := other.After(ctx, sealtest.Folder, 0, true)
			done <- got
		}()
		time.Sleep(7 * time.Second)
		begin = time.Now()
		r, _ := a.Laptop.Record(t, sealtest.File("f", sealtest.Content{}, false, sealtest.Dot(1, 1)), sealtest.Content{})
		sealtest.Must(c.Offer(ctx, []*seal.Record{r}))(t)
		if got := <-done; len(got) != 1 || time.Since(begin) != 0 {
			t.Errorf("%d records after %v", len(got), time.Since(begin))
		}
		_, _ = c.Close(), other.Close()
	})
}

// TestWhoIsServed: strangers are not, removed devices no more, also in the middle of a
// stream, and one group gets nothing of another (X4, X20).
func TestWhoIsServed(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a, b := sealtest.NewAccount(t, 1), sealtest.NewAccount(t, 2)
		for _, x := range []*sealtest.Account{a, b} {
			_ = w.archive.Host(x.ID(), plenty)
			c := w.mustOpen(x, x.Laptop)
			if err := c.Exchange(ctx, x.Log); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		if _, err := w.open(a, b.Laptop); !refused(err, wire.CodeNotMember) {
			t.Errorf("a stranger: %v", err)
		}
		c, phone, other := w.mustOpen(a, a.Laptop), w.mustOpen(a, a.Phone), w.mustOpen(b, b.Laptop)
		s := a.Laptop.Content(t, "mine")
		r, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
		sealtest.Must(c.Offer(ctx, []*seal.Record{r}))(t)
		sealtest.Must(c.Store(ctx, s.Bytes))(t)
		if got := sealtest.Must(other.Offer(ctx, []*seal.Record{r}))(t)[0]; got.Outcome != deposit.Refused || got.Code != wire.CodeBad {
			t.Errorf("a record of another group: %+v", got)
		}
		if got := sealtest.Must(other.Fetch(ctx, []seal.Digest{s.Refs[0].Digest}))(t)[0]; !errors.Is(got.Err, deposit.ErrNotHeld) {
			t.Errorf("a block of another group: %+v", got)
		}
		if got := sealtest.Must(other.After(ctx, sealtest.Folder, 0, false))(t); len(got) != 0 {
			t.Errorf("records of another group: %+v", got)
		}
		waiting := make(chan error)
		go func() {
			_, err := phone.After(ctx, sealtest.Folder, 1, true)
			waiting <- err
		}()
		synctest.Wait()
		a.RemovePhone(t)
		if err := c.Exchange(ctx, a.Log); err != nil {
			t.Fatal(err)
		}
		if err := <-waiting; !refused(err, wire.CodeNotMember) {
			t.Errorf("removed while it waits: %v", err)
		}
		if _, err := phone.Fetch(ctx, []seal.Digest{s.Refs[0].Digest}); !refused(err, wire.CodeNotMember) {
			t.Errorf("removed in the middle of a stream: %v", err)
		}
		if err := phone.Exchange(ctx, a.Log); !refused(err, wire.CodeNotMember) {
			t.Errorf("removed, it asks for statements: %v", err)
		}
		_, _, _ = c.Close(), phone.Close(), other.Close()
	})
}

// TestHostileDevice: whatever a device sends, its stream ends and nothing else.
func TestHostileDevice(t *testing.T) {
	frame := func(v any) []byte {
		b, err := wire.AppendMsg(nil, v, 64<<20)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		send    []byte
		refused string // by this code, and the stream goes on
	}{
		"noise":               {send: bytes.Repeat([]byte{0xff}, 100)},
		"no CBOR":             {send: append([]byte{3}, "abc"...)},
		"a huge length":       {send: []byte{0xff, 0xff, 0xff, 0xff, 0x7f}},
		"nothing asked":       {send: frame(&wire.ArchiveUp{})},
		"two things asked":    {send: frame(&wire.ArchiveUp{Wanted: &wire.ArchiveAfter{}, Fetch: &wire.Digests{}})},
		"half a digest":       {send: frame(&wire.ArchiveUp{Fetch: &wire.Digests{Digests: make([]byte, 33)}})},
		"too many records":    {send: frame(&wire.ArchiveUp{Offer: &wire.Sealed{Items: make([][]byte, wire.MaxOffered+1)}})},
		"a token of no size":  {send: frame(&wire.ArchiveUp{Versions: &wire.ArchiveEntry{}})},
		"before it is opened": {send: frame(&wire.ArchiveUp{Wanted: &wire.ArchiveAfter{}}), refused: wire.CodeBad},
		"another version":     {send: frame(&wire.ArchiveUp{Open: &wire.ArchiveOpen{Version: 99}}), refused: wire.CodeVersion},
		"half a message":      {send: frame(&wire.ArchiveUp{Open: &wire.ArchiveOpen{Version: 1, Program: "a long name"}})[:9]},
		"nothing, for long":   {},
	} {
		t.Run(name, func(t *testing.T) {
			inRelay(t, func(t *testing.T, w *relayWorld) {
				s := w.connect(group.DeviceID{7})
				go func() {
					_, _ = s.Write(c.send)
					if name == "half a message" {
						_ = s.Close()
					}
				}()
				var down wire.ArchiveDown
				err := wire.ReadMsg(bufio.NewReader(s), &down, wire.MaxArchiveDown)
				if c.refused != "" {
					if err != nil || down.Refusal == nil || down.Refusal.Code != c.refused {
						t.Errorf("answered with %+v, %v", down, err)
					}
				} else if err == nil {
					t.Errorf("answered with %+v", down)
				}
				_ = s.Close()
				w.running.Wait()
				if c.refused == "" && w.ends[0] == nil {
					t.Error("the stream ended as if all was well")
				}
			})
		})
	}
}

// TestBadThings: records, heads and statements that are not right are refused one by
// one, and those beside them taken.
func TestBadThings(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a := sealtest.NewAccount(t, 1)
		_ = w.archive.Host(a.ID(), plenty)
		s := w.connect(a.Laptop.Keys.ID())
		r := bufio.NewReader(s)
		ask := func(up *wire.ArchiveUp) (down wire.ArchiveDown) {
			t.Helper()
			if err := wire.WriteMsg(s, up, wire.MaxArchiveUp); err != nil {
				t.Fatal(err)
			}
			if err := wire.ReadMsg(r, &down, wire.MaxArchiveDown); err != nil {
				t.Fatal(err)
			}
			return down
		}
		ask(&wire.ArchiveUp{Open: &wire.ArchiveOpen{Version: wire.Version, Group: wire.ID(a.ID())}})
		c := w.mustOpen(a, a.Laptop)
		if err := c.Exchange(ctx, a.Log); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		good, _ := a.Laptop.Record(t, sealtest.File("f", sealtest.Content{}, false, sealtest.Dot(1, 1)), sealtest.Content{})
		flipped := bytes.Clone(good.Encode())
		flipped[len(flipped)-1] ^= 1
		down := ask(&wire.ArchiveUp{Offer: &wire.Sealed{Items: [][]byte{flipped, []byte("no record"), good.Encode(), nil}}})
		if got := down.Takings.Takings; len(got) != 4 || got[0].Code != wire.CodeBad || got[1].Code != wire.CodeBad || got[2].Outcome != uint8(archive.Taken) || got[3].Code != wire.CodeBad {
			t.Errorf("offered: %+v", got)
		}
		for what, up := range map[string]*wire.ArchiveUp{
			"a head that is none":     {Head: &wire.Sealed{Items: [][]byte{{1}}}},
			"no head":                 {Head: &wire.Sealed{}},
			"a message of no kind":    {Say: &wire.ArchiveSay{Messages: [][]byte{{0xa0}}}},
			"a message of a join":     {Say: &wire.ArchiveSay{Messages: [][]byte{group.EncodeMessage(group.Done{})}}},
			"a statement that is bad": {Say: &wire.ArchiveSay{Messages: [][]byte{group.EncodeMessage(group.Batch{Group: a.ID(), Statements: [][]byte{{1, 2}}})}}},
			"another group's":         {Say: &wire.ArchiveSay{Messages: [][]byte{group.EncodeMessage(group.Batch{Group: group.ID{9}})}}},
		} {
			if down := ask(up); down.Refusal == nil || down.Refusal.Code != wire.CodeBad {
				t.Errorf("%s: %+v", what, down)
			}
		}
		_ = s.Close()
	})
}

// TestUploadGoesOn: an upload that breaks off at any message goes on from what is wanted
// still, and nothing is sent twice that was taken.
func TestUploadGoesOn(t *testing.T) {
	inRelay(t, func(t *testing.T, w *relayWorld) {
		ctx := t.Context()
		a := sealtest.NewAccount(t, 1)
		_ = w.archive.Host(a.ID(), plenty)
		known := map[seal.Digest][]byte{}
		var records []*seal.Record
		for i := range 5 {
			s := a.Laptop.Content(t, fmt.Sprint("a", i), fmt.Sprint("b", i))
			for j, ref := range s.Refs {
				known[ref.Digest] = s.Bytes[j]
			}
			r, _ := a.Laptop.Record(t, sealtest.File(fmt.Sprint("f", i), s, false, sealtest.Dot(1, uint64(i+1))), s)
			records = append(records, r)
		}
		sent, taken := 0, 0
		for round := 0; taken < len(known); round++ {
			if round > 50 {
				t.Fatal("no end to it")
			}
			c := w.mustOpen(a, a.Laptop)
			if err := c.Exchange(ctx, a.Log); err != nil {
				t.Fatal(err)
			}
			sealtest.Must(c.Offer(ctx, records[:min(round, 5)]))(t)
			for i, d := range sealtest.Must(c.Wanted(ctx, seal.Digest{}))(t) {
				if i == 1 {
					break // off
				}
				sent++
				if got := sealtest.Must(c.Store(ctx, [][]byte{known[d]}))(t); got[0].Outcome == deposit.Taken {
					taken++
				}
			}
			_ = c.Close()
		}
		if sent != len(known) {
			t.Errorf("%d blocks were sent, for %d", sent, len(known))
		}
		for _, r := range records {
			if v := sealtest.Must(w.archive.Versions(a.ID(), sealtest.Folder, r.Token))(t); len(v) != 1 || !v[0].Whole {
				t.Errorf("%+v", v)
			}
		}
	})
}
