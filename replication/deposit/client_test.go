package deposit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"sheaf/crdt"
	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/seal/sealtest"
	"sheaf/replication/wire"
)

// A pipe is one end of a stream in memory.
type pipe struct {
	net.Conn
	once sync.Once
}

func (p *pipe) CloseWrite() error { return p.Close() }
func (p *pipe) Reset() error      { return p.Close() }
func (p *pipe) Close() (err error) {
	p.once.Do(func() { err = p.Conn.Close() })
	return err
}

// A liar is a relay that answers as it likes.
type liar struct {
	answers []any // wire.ArchiveDown, or bytes that are sent as they are
	running sync.WaitGroup
}

func (l *liar) Open(context.Context, replication.DeviceID, string) (replication.Stream, error) {
	near, far := net.Pipe()
	l.running.Go(func() {
		defer func() { _ = far.Close() }()
		r := bufio.NewReader(far)
		for i := 0; ; i++ {
			var up wire.ArchiveUp
			if err := wire.ReadMsg(r, &up, wire.MaxArchiveUp); err != nil {
				return
			}
			a := l.answers[min(i, len(l.answers)-1)]
			if raw, ok := a.([]byte); ok {
				if _, err := far.Write(raw); err != nil {
					return
				}
				continue
			}
			if err := wire.WriteMsg(far, a, 64<<20); err != nil {
				return
			}
		}
	})
	return &pipe{Conn: near}, nil
}

func welcome() any { return &wire.ArchiveDown{Welcome: &wire.ArchiveWelcome{Store: wire.ID{1}}} }

// withLiar opens the archive of a relay that answers the first question as it is told
// to, and then goes on so.
func withLiar(t *testing.T, id group.ID, answer any, fn func(t *testing.T, c *Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &liar{answers: []any{welcome(), answer}}
		c, err := Open(t.Context(), l, replication.DeviceID{3}, id, "test")
		if err != nil {
			t.Fatal(err)
		}
		fn(t, c)
		_ = c.Close()
		l.running.Wait()
	})
}

func violated(err error) bool {
	var v *replication.Violation
	return errors.As(err, &v) && v.Peer == replication.DeviceID{3}
}

// TestBrokenProtocol: a relay that breaks the protocol is named, and not asked again.
func TestBrokenProtocol(t *testing.T) {
	t.Parallel()
	a := sealtest.NewAccount(t, 1)
	r, _ := a.Laptop.Record(t, sealtest.File("f", sealtest.Content{}, false, sealtest.Dot(1, 1)), sealtest.Content{})
	down := func(d wire.ArchiveDown) any { return &d }
	offer := func(c *Client) error { _, err := c.Offer(context.Background(), []*seal.Record{r}); return err }
	after := func(c *Client) error {
		_, err := c.After(context.Background(), sealtest.Folder, 5, false)
		return err
	}
	fetch := func(c *Client) error { _, err := c.Fetch(context.Background(), []seal.Digest{{1}}); return err }
	wanted := func(c *Client) error { _, err := c.Wanted(context.Background(), seal.Digest{5}); return err }
	exchange := func(c *Client) error { return c.Exchange(context.Background(), a.Log) }
	for name, l := range map[string]struct {
		answer any
		ask    func(c *Client) error
	}{
		"noise":               {bytes.Repeat([]byte{0xff}, 50), offer},
		"no CBOR":             {[]byte{2, 0xff, 0xff}, after},
		"a huge answer":       {[]byte{0xff, 0xff, 0xff, 0xff, 0x3f}, fetch},
		"nothing":             {down(wire.ArchiveDown{}), offer},
		"too few takings":     {down(wire.ArchiveDown{Takings: &wire.ArchiveTakings{}}), offer},
		"another answer":      {welcome(), after},
		"earlier records":     {down(wire.ArchiveDown{Items: &wire.ArchiveItems{Numbers: []uint64{5}, Records: [][]byte{r.Encode()}}}), after},
		"records in disorder": {down(wire.ArchiveDown{Items: &wire.ArchiveItems{Numbers: []uint64{7, 6}, Records: [][]byte{nil, nil}}}), after},
		"a number of no use":  {down(wire.ArchiveDown{Items: &wire.ArchiveItems{Numbers: []uint64{7}}}), after},
		"more blocks":         {down(wire.ArchiveDown{Blocks: &wire.Sealed{Items: make([][]byte, 2)}}), fetch},
		"no block":            {down(wire.ArchiveDown{Blocks: &wire.Sealed{}}), fetch},
		"earlier digests":     {down(wire.ArchiveDown{Digests: &wire.Digests{Digests: make([]byte, 32)}}), wanted},
		"lacks unasked": {down(wire.ArchiveDown{Digests: &wire.Digests{Digests: make([]byte, 32)}}), func(c *Client) error {
			_, err := c.Lacking(context.Background(), []seal.Digest{{1}})
			return err
		}},
		"statements, no heads": {down(wire.ArchiveDown{Said: &wire.ArchiveSay{}}), exchange},
		"statements that are none": {down(wire.ArchiveDown{Said: &wire.ArchiveSay{Messages: [][]byte{
			group.EncodeMessage(group.Heads{Group: a.ID()}), group.EncodeMessage(group.Batch{Group: a.ID(), Statements: [][]byte{{1}}})}}}), exchange},
		"another group's statements": {down(wire.ArchiveDown{Said: &wire.ArchiveSay{Messages: [][]byte{
			group.EncodeMessage(a.Log.Tell()), group.EncodeMessage(group.Batch{Group: group.ID{8}})}}}), exchange},
		"deaf to statements": {down(wire.ArchiveDown{Said: &wire.ArchiveSay{Messages: [][]byte{group.EncodeMessage(group.Heads{Group: a.ID()})}}}), exchange},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withLiar(t, a.ID(), l.answer, func(t *testing.T, c *Client) {
				if err := l.ask(c); !violated(err) {
					t.Errorf("%v", err)
				}
				if err := l.ask(c); !violated(err) {
					t.Errorf("asked again: %v", err)
				}
			})
		})
	}
}

// TestForgery: what a relay makes up, changes, swaps or mixes is told apart from what is
// right, and does not stop it (X5 to X9).
func TestForgery(t *testing.T) {
	t.Parallel()
	a, b := sealtest.NewAccount(t, 1), sealtest.NewAccount(t, 2)
	s := a.Laptop.Content(t, "one", "two")
	good, _ := a.Laptop.Record(t, sealtest.File("f", s, false, sealtest.Dot(1, 1)), s)
	other, _ := a.Laptop.Record(t, sealtest.File("g", sealtest.Content{}, false, sealtest.Dot(1, 2)), sealtest.Content{})
	foreign, _ := b.Laptop.Record(t, sealtest.File("f", sealtest.Content{}, false, sealtest.Dot(1, 1)), sealtest.Content{})
	flipped := bytes.Clone(good.Encode())
	flipped[200] ^= 1
	records := [][]byte{flipped, good.Encode(), foreign.Encode(), []byte("made up"), other.Encode()}
	forged := func(err error) bool {
		var f *ForgedError
		return errors.As(err, &f)
	}
	withLiar(t, a.ID(), &wire.ArchiveDown{Items: &wire.ArchiveItems{Numbers: []uint64{1, 2, 3, 4, 5}, Records: records}}, func(t *testing.T, c *Client) {
		for i, item := range sealtest.Must(c.After(t.Context(), sealtest.Folder, 0, false))(t) {
			if bad := i != 1 && i != 4; bad != forged(item.Err) || bad != (item.Record == nil) {
				t.Errorf("record %d: %v", i, item.Err)
			}
		}
		for i, item := range sealtest.Must(c.After(t.Context(), crdt.FolderID{77}, 0, false))(t) {
			if !forged(item.Err) {
				t.Errorf("record %d is taken for one of another folder", i)
			}
		}
	})
	withLiar(t, a.ID(), &wire.ArchiveDown{Versions: &wire.ArchiveVersions{Versions: []wire.ArchiveVersion{{Record: good.Encode()}, {Record: other.Encode()}}}}, func(t *testing.T, c *Client) {
		list, _, err := c.Versions(t.Context(), sealtest.Folder, good.Token)
		if err != nil || list[0].Err != nil || !forged(list[1].Err) {
			t.Errorf("another entry's record is taken for a version: %+v, %v", list, err)
		}
	})
	flippedBlock := bytes.Clone(s.Bytes[1])
	flippedBlock[0] ^= 1
	withLiar(t, a.ID(), &wire.ArchiveDown{Blocks: &wire.Sealed{Items: [][]byte{s.Bytes[0], flippedBlock, s.Bytes[0], nil}}}, func(t *testing.T, c *Client) {
		got := sealtest.Must(c.Fetch(t.Context(), []seal.Digest{s.Refs[0].Digest, s.Refs[1].Digest, s.Refs[1].Digest, s.Refs[1].Digest}))(t)
		if got[0].Err != nil || !forged(got[1].Err) || !forged(got[2].Err) || !errors.Is(got[3].Err, ErrNotHeld) {
			t.Errorf("%+v", got)
		}
	})
}

// TestCalledOff: a question that is called off ends the stream and nothing hangs.
func TestCalledOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &liar{answers: []any{welcome(), []byte{}}}
		c, err := Open(t.Context(), l, replication.DeviceID{3}, group.ID{}, "test")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := c.Wanted(ctx, seal.Digest{})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if _, err := c.Wanted(t.Context(), seal.Digest{}); err == nil {
			t.Error("the stream goes on")
		}
		l.running.Wait()
		// And one that is never answered ends by itself.
		l = &liar{answers: []any{welcome(), []byte{}}}
		if c, err = Open(t.Context(), l, replication.DeviceID{3}, group.ID{}, "test"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wanted(t.Context(), seal.Digest{}); err == nil {
			t.Error("no answer is an answer")
		}
		l.running.Wait()
	})
}
