package deposit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"sheaf/replication"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// A Hosting is what a relay gives a group.
type Hosting struct {
	Name    string // of the relay, for people
	Bytes   uint64 // that the group may keep
	Program string // for people
}

// Claim has the relay that made a code keep things for a group, and tells it who belongs
// to that. self is this device, as the relay sees it. It may be done again, which counts
// once. A *RefusedError has one of the host protocol's codes.
func Claim(ctx context.Context, o replication.Opener, code group.Code, self group.DeviceID, id group.ID, log Log) (Hosting, error) {
	relay := replication.DeviceID(code.Inviter)
	keys, err := code.Keys()
	if err != nil {
		return Hosting{}, fmt.Errorf("claim room on a relay: %w", err)
	}
	s, err := o.Open(ctx, relay, wire.HostProtocol)
	if err != nil {
		return Hosting{}, fmt.Errorf("claim room on relay %s: %w", relay, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	c := &claiming{relay: relay, stream: s, r: bufio.NewReader(s)}
	hosted, err := c.run(keys, code, self, id, log)
	if err != nil {
		_ = s.Reset()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Hosting{}, fmt.Errorf("claim room on relay %s: %w", relay, err)
	}
	_ = s.Close()
	return Hosting{Name: hosted.Name, Bytes: hosted.Bytes, Program: hosted.Program}, nil
}

// A claiming is one stream of the host protocol.
type claiming struct {
	relay  replication.DeviceID
	stream replication.Stream
	r      *bufio.Reader
}

func (c *claiming) run(keys group.Keys, code group.Code, self group.DeviceID, id group.ID, log Log) (*wire.Hosted, error) {
	public := keys.ID()
	sig := keys.Sign(wire.HostMessage(code.Inviter, self, wire.ID(id)))
	down, err := c.ask(&wire.HostUp{Claim: &wire.HostClaim{Version: wire.Version, Group: wire.ID(id), Code: public[:], Proof: sig[:]}})
	if err != nil {
		return nil, err
	}
	if down.GoOn == nil {
		return nil, c.violation(errAnswer)
	}
	batches, err := log.Lacking(group.Heads{Group: id})
	if err != nil {
		return nil, err
	}
	for i, b := range batches {
		up := &wire.HostSaid{Statements: b.Statements, Last: i == len(batches)-1}
		if down, err = c.ask(&wire.HostUp{Said: up}); err != nil {
			return nil, err
		}
		if up.Last != (down.Hosted != nil) {
			return nil, c.violation(errAnswer)
		}
	}
	if down.Hosted == nil {
		return nil, errors.New("there are no statements of the group to tell of")
	}
	return down.Hosted, nil
}

func (c *claiming) violation(err error) error {
	return &replication.Violation{Peer: c.relay, Err: err}
}

func (c *claiming) ask(up *wire.HostUp) (*wire.HostDown, error) {
	var down wire.HostDown
	err := c.stream.SetDeadline(time.Now().Add(patience))
	if err == nil {
		err = wire.WriteMsg(c.stream, up, wire.MaxHost)
	}
	if err == nil {
		err = wire.ReadMsg(c.r, &down, wire.MaxHost)
	}
	if err != nil {
		var format *wire.FormatError
		var size *wire.SizeError
		if errors.As(err, &format) || errors.As(err, &size) {
			err = c.violation(err)
		}
		return nil, err
	}
	if r := down.Refusal; r != nil {
		return nil, &RefusedError{Code: r.Code, Text: r.Text}
	}
	return &down, nil
}
