package deposit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// An Outcome is what became of a thing that was handed in; as of archive.Outcome.
type Outcome uint8

// The outcomes.
const (
	Taken   Outcome = iota + 1 // it is durable there
	Known                      // the relay has what knows all that it does
	Aside                      // it does not count, and is kept to be shown
	Refused                    // it is not taken
)

// A Taking is what became of a thing and, unless it was taken or known, by which of the
// wire package's codes it was not.
type Taking struct {
	Outcome Outcome
	Code    string
}

// Offer hands in records, at most wire.MaxOffered and wire.MaxArchiveData bytes of
// them. What is Taken is durable there; whether it has its blocks, Wanted tells.
func (c *Client) Offer(ctx context.Context, records []*seal.Record) ([]Taking, error) {
	up := &wire.Sealed{}
	for _, r := range records {
		up.Items = append(up.Items, r.Encode())
	}
	down, err := c.ask(ctx, &wire.ArchiveUp{Offer: up})
	if err != nil {
		return nil, fmt.Errorf("offer records: %w", err)
	}
	return c.takings(down, len(records))
}

// Store hands in blocks, at most wire.MaxStored and wire.MaxArchiveData bytes of them.
// What is Taken is durable there.
func (c *Client) Store(ctx context.Context, blocks [][]byte) ([]Taking, error) {
	down, err := c.ask(ctx, &wire.ArchiveUp{Store: &wire.Sealed{Items: blocks}})
	if err != nil {
		return nil, fmt.Errorf("store blocks: %w", err)
	}
	return c.takings(down, len(blocks))
}

// PutHead hands in this device's word of what it has uploaded to a folder.
func (c *Client) PutHead(ctx context.Context, h *seal.Head) error {
	down, err := c.ask(ctx, &wire.ArchiveUp{Head: &wire.Sealed{Items: [][]byte{h.Encode()}}})
	if err == nil {
		_, err = c.takings(down, 1)
	}
	if err != nil {
		return fmt.Errorf("hand in a head: %w", err)
	}
	return nil
}

func (c *Client) takings(down *wire.ArchiveDown, n int) ([]Taking, error) {
	if down.Takings == nil || len(down.Takings.Takings) != n {
		return nil, c.violation(errAnswer)
	}
	out := make([]Taking, n)
	for i, t := range down.Takings.Takings {
		out[i] = Taking{Outcome(t.Outcome), t.Code}
	}
	return out, nil
}

// Wanted gives blocks that the relay lacks for records that it has, by address, above
// one (the zero Digest: from the first); none when it lacks no more.
func (c *Client) Wanted(ctx context.Context, after seal.Digest) ([]seal.Digest, error) {
	up := &wire.ArchiveAfter{}
	if after != (seal.Digest{}) {
		up.Digest = after[:]
	}
	down, err := c.ask(ctx, &wire.ArchiveUp{Wanted: up})
	if err != nil {
		return nil, fmt.Errorf("ask which blocks are wanted: %w", err)
	}
	if down.Digests == nil {
		return nil, c.violation(errAnswer)
	}
	var out []seal.Digest
	for b := down.Digests.Digests; len(b) > 0; b = b[sha256.Size:] {
		d := seal.Digest(b[:sha256.Size])
		if string(d[:]) <= string(after[:]) && after != (seal.Digest{}) {
			return nil, c.violation(fmt.Errorf("wanted blocks are not in order"))
		}
		after = d
		out = append(out, d)
	}
	return out, nil
}

// Lacking gives those of some blocks that the relay waits for, in their order: at most
// wire.MaxStored are asked about.
func (c *Client) Lacking(ctx context.Context, list []seal.Digest) ([]seal.Digest, error) {
	if len(list) == 0 {
		return nil, nil
	}
	list = list[:min(len(list), wire.MaxStored)]
	down, err := c.ask(ctx, &wire.ArchiveUp{Lack: &wire.Digests{Digests: digests(list)}})
	if err != nil {
		return nil, fmt.Errorf("ask which blocks are lacking: %w", err)
	}
	if down.Digests == nil {
		return nil, c.violation(errAnswer)
	}
	var out []seal.Digest
	for b := down.Digests.Digests; len(b) > 0; b = b[sha256.Size:] {
		d := seal.Digest(b[:sha256.Size])
		at := slices.Index(list, d)
		if at < 0 {
			return nil, c.violation(errors.New("it lacks blocks that it was not asked about, or not in order"))
		}
		list = list[at+1:]
		out = append(out, d)
	}
	return out, nil
}
