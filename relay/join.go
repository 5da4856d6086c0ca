package relay

import (
	"bufio"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// JoinProtocol is what a new device speaks with whoever lets it in: a member, or a relay
// that holds the group's statements.
const JoinProtocol = "/sheaf/join/1"

// A JoinService lets devices join the groups that an archive knows, by codes of their
// members or by a recovery phrase, while no member is there.
type JoinService struct {
	Self    group.DeviceID
	Archive *archive.Archive
	Log     *slog.Logger
	Heard   func(group.ID) // called when a device has joined; may be nil

	mu    sync.Mutex
	limit *group.Limit
}

const (
	joinEvery   = 2 * time.Second
	joinBurst   = 10
	joinMessage = 20 * time.Second
	joinConfirm = 5 * time.Minute // that a person has to say yes
)

func (s *JoinService) allow(peer group.DeviceID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit == nil {
		s.limit = group.NewLimit(joinEvery, joinBurst)
	}
	return s.limit.Allow(peer.Hex(), time.Now())
}

// A joining is one stream of the join protocol.
type joining struct {
	stream replication.Stream
	r      *bufio.Reader
}

func (j *joining) say(m group.Message) error {
	if err := j.stream.SetWriteDeadline(time.Now().Add(joinMessage)); err != nil {
		return err
	}
	return wire.WriteMsg(j.stream, group.EncodeMessage(m), group.MaxMessage+16)
}

func (j *joining) hear(within time.Duration) (group.Message, error) {
	if err := j.stream.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	if _, err := j.r.Peek(1); err != nil {
		return nil, err
	}
	if err := j.stream.SetReadDeadline(time.Now().Add(joinMessage)); err != nil {
		return nil, err
	}
	var raw []byte
	if err := wire.ReadMsg(j.r, &raw, group.MaxMessage+16); err != nil {
		return nil, err
	}
	return group.DecodeMessage(raw)
}

// Serve lets one device in, or tells it why not. It resets the stream when ctx is done.
func (s *JoinService) Serve(ctx context.Context, peer group.DeviceID, stream replication.Stream) {
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	j := &joining{stream, bufio.NewReader(stream)}
	if err := s.admit(j, peer); err != nil {
		s.Log.Info("a device did not join", "device", peer.String(), "err", err)
		_ = j.say(group.Refuse(err))
		_ = stream.CloseWrite()
		_, _ = j.hear(joinMessage) // the refusal has to arrive before the stream goes
	}
	_ = stream.Close()
}

func (s *JoinService) admit(j *joining, peer group.DeviceID) error {
	m, err := j.hear(joinMessage)
	if err != nil {
		return err
	}
	if err := s.allow(peer); err != nil {
		return err
	}
	hello, ok := m.(group.Hello)
	if !ok {
		return group.ErrMalformed
	}
	id := hello.Group
	if !hello.Paper.IsZero() {
		if id, ok = s.Archive.GroupOfPaper(hello.Paper); !ok {
			return group.ErrWrongCode
		}
	}
	if !s.Archive.Knows(id) {
		return group.ErrWrongCode
	}
	var a *group.Admission
	var offer group.Offer
	if _, err := s.Archive.Speak(id, func(l *group.Log) ([]group.Statement, error) {
		host := group.Host{Self: s.Self, Remote: peer, Log: l}
		a, offer, err = group.NewAdmission(rand.Reader, host, hello, time.Now())
		return nil, err
	}); err != nil {
		return err
	}
	if err := j.say(offer); err != nil {
		return err
	}
	if m, err = j.hear(joinConfirm); err != nil {
		return err
	}
	claim, ok := m.(group.Claim)
	if !ok {
		return group.ErrMalformed
	}
	// Counted durably before it is answered.
	var answers []group.Answer
	if _, err := s.Archive.Speak(id, func(*group.Log) (list []group.Statement, err error) {
		list, answers, err = a.Claim(claim, time.Now())
		return list, err
	}); err != nil {
		return err
	}
	for _, answer := range answers {
		if err := j.say(answer); err != nil {
			return err
		}
	}
	if m, err = j.hear(joinMessage); err != nil {
		return err
	}
	delivery, ok := m.(group.Delivery)
	if !ok {
		return group.ErrMalformed
	}
	if _, err := s.Archive.Speak(id, func(*group.Log) ([]group.Statement, error) { return a.Deliver(delivery) }); err != nil {
		return err
	}
	if s.Heard != nil {
		s.Heard(id)
	}
	s.Log.Info("a device joined", "device", peer.String(), "group", id.String())
	return j.say(group.Done{})
}
