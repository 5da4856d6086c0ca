package relay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sheaf/relay/archive"
	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// Why a code is not accepted; for Invites.
var (
	ErrUnknownCode = errors.New("this relay knows no such code")
	ErrExpired     = errors.New("the code has expired")
	ErrUsed        = errors.New("the code has been used already")
	ErrRevoked     = errors.New("the code was revoked")
)

// Invites are the codes that a relay has given out.
type Invites interface {
	// Look tells whether a group may use a code now, by the public half of its key:
	// ErrUnknownCode, ErrExpired, ErrUsed, ErrRevoked if not.
	Look(code group.DeviceID, id group.ID, now time.Time) error
	// Use counts a group's use of a code, durably; that of one group counts once. It
	// gives what the group may keep.
	Use(code group.DeviceID, id group.ID, now time.Time) (archive.Limit, error)
}

// A HostService gives groups room by codes.
type HostService struct {
	Self    group.DeviceID
	Archive *archive.Archive
	Invites Invites
	Name    string // of the relay, for people
	Program string
	Log     *slog.Logger
	Hosted  func(group.ID) // called after a group was given room; may be nil
	Timing  Timing

	mu    sync.Mutex
	limit *group.Limit
}

// Claims are few, and each costs a signature to look at.
const (
	claimEvery = 2 * time.Second
	claimBurst = 20
)

func (s *HostService) allow(peer group.DeviceID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit == nil {
		s.limit = group.NewLimit(claimEvery, claimBurst)
	}
	return s.limit.Allow(peer.Hex(), time.Now())
}

// Serve answers one claim. It resets the stream when ctx is done, and returns.
func (s *HostService) Serve(ctx context.Context, peer group.DeviceID, stream replication.Stream) error {
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	r := bufio.NewReader(stream)
	t := s.Timing.withDefaults()
	answer := func(down *wire.HostDown) error {
		if err := stream.SetWriteDeadline(time.Now().Add(t.Write)); err != nil {
			return err
		}
		return wire.WriteMsg(stream, down, wire.MaxHost)
	}
	hear := func() (*wire.HostUp, error) {
		var up wire.HostUp
		err := stream.SetReadDeadline(time.Now().Add(t.Idle))
		if err == nil {
			err = wire.ReadMsg(r, &up, wire.MaxHost)
		}
		return &up, err
	}
	hosted, err := s.claim(peer, hear, answer)
	if err == nil {
		err = answer(&wire.HostDown{Hosted: hosted})
	} else if code := hostCode(err); code != "" {
		s.Log.Info("a claim was refused", "device", peer.String(), "code", code)
		text := err.Error()
		if code == wire.CodeFailed {
			s.Log.Error("a claim failed", "device", peer.String(), "err", err)
			text = "the relay has trouble of its own: its log says more"
		}
		if werr := answer(&wire.HostDown{Refusal: &wire.Refusal{Code: code, Text: text}}); werr == nil {
			// The refusal has to arrive before the stream goes.
			_ = stream.CloseWrite()
			_ = stream.SetReadDeadline(time.Now().Add(t.Write))
			_, _ = r.ReadByte()
		}
	}
	if err != nil {
		_ = stream.Reset()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("claim by %s: %w", peer, err)
	}
	_ = stream.CloseWrite()
	_ = stream.SetReadDeadline(time.Now().Add(t.Write))
	_, _ = r.ReadByte() // until the device has read it, and ends the stream
	return stream.Close()
}

// hostCode gives the code for an error; "" where the device is not to be heard from again.
func hostCode(err error) string {
	var format *wire.FormatError
	var size *wire.SizeError
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.code
	case errors.As(err, &format), errors.As(err, &size):
		return wire.CodeBad
	case errors.Is(err, ErrUnknownCode):
		return wire.CodeUnknownCode
	case errors.Is(err, ErrExpired):
		return wire.CodeExpired
	case errors.Is(err, ErrUsed):
		return wire.CodeUsed
	case errors.Is(err, ErrRevoked):
		return wire.CodeRevoked
	case errors.Is(err, group.ErrRateLimited):
		return wire.CodeRateLimited
	case errors.Is(err, errHeard):
		return ""
	}
	return codeOf(err)
}

// errHeard wraps what goes wrong with the stream itself.
var errHeard = errors.New("the device is gone")

// claim goes through one claim up to its last answer.
func (s *HostService) claim(peer group.DeviceID, hear func() (*wire.HostUp, error), answer func(*wire.HostDown) error) (*wire.Hosted, error) {
	up, err := hear()
	if err != nil {
		return nil, lost(err)
	}
	if err := s.allow(peer); err != nil {
		return nil, err
	}
	c := up.Claim
	switch {
	case c == nil:
		return nil, &refusal{wire.CodeBad, errors.New("the first request has to show a code")}
	case c.Version != wire.Version:
		return nil, &refusal{wire.CodeVersion, fmt.Errorf("this relay (%s) speaks version %d of the host protocol, the device %d", s.Program, wire.Version, c.Version)}
	}
	id, code := group.ID(c.Group), group.DeviceID(c.Code)
	context, message := wire.HostMessage(s.Self, peer, c.Group)
	if !code.Verify(context, message, group.Signature(c.Proof)) {
		return nil, &refusal{wire.CodeBad, errors.New("the code was not proved")}
	}
	if err := s.Invites.Look(code, id, time.Now()); err != nil {
		return nil, err
	}
	list, err := statements(id, hear, answer)
	if err != nil {
		return nil, err
	}
	// Whoever claims for a group belongs to it, by its own statements.
	log, err := group.LoadLog(list)
	if err != nil {
		return nil, err
	}
	state := log.Evaluate()
	if m, ok := state.Member(peer); !ok || m.Paper {
		return nil, fmt.Errorf("device %s: %w", peer, group.ErrNotMember)
	}
	// In this order: whatever is done when the power fails, to claim again completes it.
	limit, err := s.Invites.Use(code, id, time.Now())
	if err != nil {
		return nil, err
	}
	if err := s.Archive.Host(id, limit); err != nil {
		return nil, err
	}
	if _, err := s.Archive.Hear(id, list); err != nil {
		return nil, err
	}
	if s.Hosted != nil {
		s.Hosted(id)
	}
	s.Log.Info("a group has room here", "group", id.String(), "device", peer.String(), "bytes", limit.Bytes)
	return &wire.Hosted{Name: s.Name, Bytes: limit.Bytes, Program: s.Program}, nil
}

func lost(err error) error {
	var format *wire.FormatError
	var size *wire.SizeError
	if errors.As(err, &format) || errors.As(err, &size) {
		return err
	}
	return fmt.Errorf("%w: %w", errHeard, err)
}

// statements hears the statements of a group.
func statements(id group.ID, hear func() (*wire.HostUp, error), answer func(*wire.HostDown) error) (list []group.Statement, err error) {
	for range wire.MaxHostMessages {
		if err := answer(&wire.HostDown{GoOn: &wire.HostGo{}}); err != nil {
			return nil, lost(err)
		}
		up, err := hear()
		if err != nil {
			return nil, lost(err)
		}
		if up.Said == nil {
			return nil, &refusal{wire.CodeBad, errors.New("statements were to follow")}
		}
		for _, raw := range up.Said.Statements {
			st, err := group.ParseStatement(raw)
			if err != nil {
				return nil, err
			}
			if st.Group() != id {
				return nil, fmt.Errorf("statements of group %s: %w", st.Group(), group.ErrForeign)
			}
			if list = append(list, st); len(list) > group.MaxStatements {
				return nil, group.ErrFull
			}
		}
		if up.Said.Last {
			return list, nil
		}
	}
	return nil, &refusal{wire.CodeBad, errors.New("statements without end")}
}
