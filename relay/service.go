package relay

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"sheaf/crdt"
	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// An ArchiveService serves an archive to devices.
type ArchiveService struct {
	Archive *archive.Archive
	Program string // name and version, for people
	Log     *slog.Logger
	Heard   func(group.ID) // called when new statements of a group have come; may be nil
	Timing  Timing
}

// Timing is how long things may take. Zero values have defaults.
type Timing struct {
	Idle  time.Duration // until the next request; 5 minutes
	Write time.Duration // for an answer to be taken; 2 minutes
	Wait  time.Duration // that an answer to a waiting request is held back; 25 seconds
}

func (t Timing) withDefaults() Timing {
	if t.Idle == 0 {
		t.Idle = 5 * time.Minute
	}
	if t.Write == 0 {
		t.Write = 2 * time.Minute
	}
	if t.Wait == 0 {
		t.Wait = 25 * time.Second
	}
	return t
}

// A refusal ends a request and not its stream.
type refusal struct {
	code string
	err  error
}

func (r *refusal) Error() string { return r.code + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Serve answers the requests of one stream until it ends: nil if the device ended it.
// It resets the stream when ctx is done, and returns.
func (s *ArchiveService) Serve(ctx context.Context, peer group.DeviceID, stream replication.Stream) error {
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	c := &conversation{s: s, peer: peer, stream: stream, r: bufio.NewReader(stream), timing: s.Timing.withDefaults()}
	err := c.run(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return stream.Close()
	}
	_ = stream.Reset()
	return fmt.Errorf("serve the archive to %s: %w", peer, err)
}

// A conversation is one stream.
type conversation struct {
	s      *ArchiveService
	peer   group.DeviceID
	stream replication.Stream
	r      *bufio.Reader
	timing Timing
	group  group.ID
	open   bool
}

// run answers until something ends it: the error says what; io.EOF if the device did.
func (c *conversation) run(ctx context.Context) error {
	for {
		if err := c.stream.SetReadDeadline(time.Now().Add(c.timing.Idle)); err != nil {
			return err
		}
		var up wire.ArchiveUp
		if err := wire.ReadMsg(c.r, &up, wire.MaxArchiveUp); err != nil {
			return err
		}
		down, err := c.answer(ctx, &up)
		if err != nil {
			down = &wire.ArchiveDown{Refusal: c.refuse(err)}
		}
		if err := c.stream.SetWriteDeadline(time.Now().Add(c.timing.Write)); err != nil {
			return err
		}
		if err := wire.WriteMsg(c.stream, down, wire.MaxArchiveDown); err != nil {
			return err
		}
	}
}

// refuse says to a device why a request was not done. The relay's own trouble goes to
// its log, and no further.
func (c *conversation) refuse(err error) *wire.Refusal {
	code := codeOf(err)
	if code == wire.CodeFailed {
		c.s.Log.Error("a request to the archive failed", "device", c.peer.String(), "group", c.group.String(), "error", err)
		return &wire.Refusal{Code: code, Text: "the relay has trouble of its own: its log says more"}
	}
	return &wire.Refusal{Code: code, Text: err.Error()}
}

// codeOf gives the code for an error.
func codeOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.code
	}
	for code, kinds := range map[string][]error{
		wire.CodeNotHosted: {archive.ErrNotHosted},
		wire.CodeQuota:     {archive.ErrQuota},
		wire.CodeUnwanted:  {archive.ErrUnwanted},
		wire.CodeCutOff:    {seal.ErrCutOff},
		wire.CodeUnknown:   {seal.ErrUnknown},
		wire.CodeStale:     {seal.ErrRolledBack, seal.ErrForked},
		wire.CodeNotMember: {group.ErrNotMember},
		wire.CodeBad:       {seal.ErrForeign, seal.ErrNotWriter, seal.ErrMalformed, group.ErrSignature, group.ErrMalformed, group.ErrForeign, group.ErrUnauthorized, archive.ErrTooMany},
	} {
		for _, kind := range kinds {
			if errors.Is(err, kind) {
				return code
			}
		}
	}
	return wire.CodeFailed
}

func (c *conversation) answer(ctx context.Context, up *wire.ArchiveUp) (*wire.ArchiveDown, error) {
	if up.Open != nil {
		return c.welcome(up.Open)
	}
	if !c.open {
		return nil, &refusal{wire.CodeBad, errors.New("the first request has to say the group")}
	}
	if up.Say != nil {
		return c.say(up.Say)
	}
	if err := c.member(c.group); err != nil {
		return nil, err
	}
	switch {
	case up.Offer != nil:
		return c.offer(ctx, up.Offer)
	case up.Store != nil:
		return c.store(ctx, up.Store)
	case up.Wanted != nil:
		return c.wanted(up.Wanted)
	case up.Lack != nil:
		return c.lacks(up.Lack)
	case up.After != nil:
		return c.after(ctx, up.After)
	case up.Fetch != nil:
		return c.fetch(ctx, up.Fetch)
	case up.Versions != nil:
		return c.versions(up.Versions)
	case up.Heads != nil:
		heads, err := c.s.Archive.Heads(c.group, crdt.FolderID(up.Heads.Folder))
		return &wire.ArchiveDown{Heads: &wire.Sealed{Items: heads}}, err
	default:
		return c.head(up.Head)
	}
}

// member refuses who does not belong to the group, as its statements stand now.
func (c *conversation) member(id group.ID) error {
	state, err := c.s.Archive.Group(id)
	if err != nil {
		return err
	}
	if _, ok := state.Member(c.peer); !ok {
		return fmt.Errorf("device %s: %w", c.peer, group.ErrNotMember)
	}
	return nil
}

func (c *conversation) welcome(o *wire.ArchiveOpen) (*wire.ArchiveDown, error) {
	if o.Version != wire.Version {
		return nil, &refusal{wire.CodeVersion, fmt.Errorf("this relay (%s) speaks version %d of the archive protocol, the device %d", c.s.Program, wire.Version, o.Version)}
	}
	id := group.ID(o.Group)
	u, err := c.s.Archive.Usage(id)
	if err != nil {
		return nil, err
	}
	// A group that the relay has been told to host and knows nothing of yet takes its
	// first statements from whoever has them: they prove themselves.
	if c.s.Archive.Knows(id) {
		if err := c.member(id); err != nil {
			return nil, err
		}
	}
	c.group, c.open = id, true
	return &wire.ArchiveDown{Welcome: &wire.ArchiveWelcome{Store: wire.ID(c.s.Archive.ID()), Bytes: u.Bytes, MostBytes: u.Limit.Bytes, Records: u.Records, Program: c.s.Program, Retention: c.s.Archive.Retention().Milliseconds()}}, nil
}

// say takes in statements, and answers heads with heads and what the device lacks.
// Only a member gets any.
func (c *conversation) say(m *wire.ArchiveSay) (*wire.ArchiveDown, error) {
	if c.s.Archive.Knows(c.group) {
		if err := c.member(c.group); err != nil {
			return nil, err
		}
	}
	out := &wire.ArchiveSay{}
	size := 0
	for _, raw := range m.Messages {
		msg, err := group.DecodeMessage(raw)
		if err != nil {
			return nil, err
		}
		switch msg := msg.(type) {
		case group.Heads:
			ours, err := c.s.Archive.Tell(c.group)
			if err != nil {
				return nil, err
			}
			out.Messages = append(out.Messages, group.EncodeMessage(ours))
			lacking, err := c.s.Archive.Lacking(c.group, msg)
			if err != nil {
				return nil, err
			}
			for _, b := range lacking {
				enc := group.EncodeMessage(b)
				if size += len(enc); size > wire.MaxArchiveData || len(out.Messages) > wire.MaxSaid {
					break // it says again what it has, and hears the rest
				}
				out.Messages = append(out.Messages, enc)
			}
		case group.Batch:
			if msg.Group != c.group {
				return nil, fmt.Errorf("statements of group %s: %w", msg.Group, group.ErrForeign)
			}
			var list []group.Statement
			for _, raw := range msg.Statements {
				st, err := group.ParseStatement(raw)
				if err != nil {
					return nil, err
				}
				list = append(list, st)
			}
			added, err := c.s.Archive.Hear(c.group, list)
			if err != nil {
				return nil, err
			}
			if len(added) > 0 && c.s.Heard != nil {
				c.s.Heard(c.group)
			}
		default:
			return nil, &refusal{wire.CodeBad, fmt.Errorf("a %T is no part of an exchange of statements", msg)}
		}
	}
	return &wire.ArchiveDown{Said: out}, nil
}

// offer takes in records. One that is not right ends nothing for the others.
func (c *conversation) offer(ctx context.Context, m *wire.Sealed) (*wire.ArchiveDown, error) {
	takings := make([]wire.ArchiveTaking, len(m.Items))
	var records []*seal.Record
	var at []int
	for i, raw := range m.Items {
		r, err := seal.ParseRecord(raw)
		if err == nil && r.Group != c.group {
			err = fmt.Errorf("record %d: %w", r.Number, seal.ErrForeign)
		}
		if err != nil {
			takings[i] = wire.ArchiveTaking{Outcome: uint8(archive.Refused), Code: codeOf(err)}
			continue
		}
		records, at = append(records, r), append(at, i)
	}
	got, err := c.s.Archive.Take(ctx, records)
	if err != nil {
		return nil, err
	}
	for j, g := range got {
		t := wire.ArchiveTaking{Outcome: uint8(g.Outcome)}
		if g.Err != nil {
			t.Code = codeOf(g.Err)
		}
		takings[at[j]] = t
	}
	return &wire.ArchiveDown{Takings: &wire.ArchiveTakings{Takings: takings}}, nil
}

// store takes in blocks.
func (c *conversation) store(ctx context.Context, m *wire.Sealed) (*wire.ArchiveDown, error) {
	takings := make([]wire.ArchiveTaking, len(m.Items))
	refused, err := c.s.Archive.Put(ctx, c.group, m.Items)
	if err != nil {
		return nil, err
	}
	for i := range takings {
		takings[i] = wire.ArchiveTaking{Outcome: uint8(archive.Taken)}
		if err := refused[i]; err != nil {
			takings[i] = wire.ArchiveTaking{Outcome: uint8(archive.Refused), Code: codeOf(err)}
		}
	}
	return &wire.ArchiveDown{Takings: &wire.ArchiveTakings{Takings: takings}}, nil
}

func (c *conversation) wanted(m *wire.ArchiveAfter) (*wire.ArchiveDown, error) {
	var after seal.Digest
	copy(after[:], m.Digest)
	return digestsOf(c.s.Archive.Wanted(c.group, after, wire.MaxStored))
}

func (c *conversation) lacks(m *wire.Digests) (*wire.ArchiveDown, error) {
	list := make([]seal.Digest, 0, len(m.Digests)/sha256.Size)
	for rest := m.Digests; len(rest) > 0; rest = rest[sha256.Size:] {
		list = append(list, seal.Digest(rest[:sha256.Size]))
	}
	return digestsOf(c.s.Archive.Lacks(c.group, list))
}

func digestsOf(list []seal.Digest, err error) (*wire.ArchiveDown, error) {
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(list)*sha256.Size)
	for _, d := range list {
		out = append(out, d[:]...)
	}
	return &wire.ArchiveDown{Digests: &wire.Digests{Digests: out}}, nil
}

// after gives the next records of a folder; if there are none and the device waits, it
// is answered when there are, or at last with none.
func (c *conversation) after(ctx context.Context, m *wire.ArchiveFeed) (*wire.ArchiveDown, error) {
	var late <-chan time.Time
	if m.Wait {
		timer := time.NewTimer(c.timing.Wait)
		defer timer.Stop()
		late = timer.C
	}
	for {
		news := c.s.Archive.News()
		items, err := c.s.Archive.After(c.group, crdt.FolderID(m.Folder), m.After, wire.MaxOffered)
		if err != nil {
			return nil, err
		}
		if len(items) > 0 || !m.Wait {
			out := &wire.ArchiveItems{}
			size := 0
			for _, i := range items {
				if size += len(i.Record); size > wire.MaxArchiveData {
					break
				}
				out.Numbers, out.Records, out.Came = append(out.Numbers, i.Number), append(out.Records, i.Record), append(out.Came, i.Wall)
			}
			return &wire.ArchiveDown{Items: out}, nil
		}
		select {
		case <-news:
		case <-late:
			return &wire.ArchiveDown{Items: &wire.ArchiveItems{}}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// It may have been removed meanwhile.
		if err := c.member(c.group); err != nil {
			return nil, err
		}
	}
}

// fetch gives blocks: as many of those asked for, in order, as fit.
func (c *conversation) fetch(ctx context.Context, m *wire.Digests) (*wire.ArchiveDown, error) {
	out := &wire.Sealed{}
	size := 0
	for rest := m.Digests; len(rest) > 0; rest = rest[sha256.Size:] {
		b, err := c.s.Archive.Block(ctx, c.group, seal.Digest(rest[:sha256.Size]))
		if err != nil {
			return nil, err
		}
		if size += len(b); size > wire.MaxArchiveData && len(out.Items) > 0 {
			break
		}
		out.Items = append(out.Items, b)
	}
	return &wire.ArchiveDown{Blocks: out}, nil
}

func (c *conversation) versions(m *wire.ArchiveEntry) (*wire.ArchiveDown, error) {
	list, err := c.s.Archive.Versions(c.group, crdt.FolderID(m.Folder), seal.Token(m.Token))
	if err != nil {
		return nil, err
	}
	out := &wire.ArchiveVersions{}
	size := 0
	for i := len(list) - 1; i >= 0; i-- { // the newest are asked for most
		v := list[i]
		if size += len(v.Record); size > wire.MaxArchiveData || len(out.Versions) == wire.MaxOffered {
			out.More = true
			break
		}
		out.Versions = append(out.Versions, wire.ArchiveVersion{Number: v.Number, Record: v.Record, Came: v.Wall, Gone: v.Gone, Current: v.Current, Whole: v.Whole, Purged: v.Purged})
	}
	return &wire.ArchiveDown{Versions: out}, nil
}

func (c *conversation) head(m *wire.Sealed) (*wire.ArchiveDown, error) {
	if len(m.Items) != 1 {
		return nil, &refusal{wire.CodeBad, errors.New("one head at a time")}
	}
	h, err := seal.ParseHead(m.Items[0])
	if err != nil {
		return nil, err
	}
	if h.Group != c.group {
		return nil, fmt.Errorf("head %d: %w", h.Number, seal.ErrForeign)
	}
	if err := c.s.Archive.TakeHead(h); err != nil {
		return nil, err
	}
	return &wire.ArchiveDown{Takings: &wire.ArchiveTakings{Takings: []wire.ArchiveTaking{{Outcome: uint8(archive.Taken)}}}}, nil
}
