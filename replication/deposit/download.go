package deposit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"sheaf/crdt"
	"sheaf/replication/seal"
	"sheaf/replication/wire"
)

// ErrNotHeld is the error for a block that the relay does not have.
var ErrNotHeld = errors.New("the relay does not hold the block")

// A ForgedError is something from a relay that is not what it has to be. It stops
// nothing else; who gave it is to be named to people.
type ForgedError struct {
	What string
	Err  error
}

// Error says what was not right.
func (e *ForgedError) Error() string {
	return "the relay gave " + e.What + " that is not right: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *ForgedError) Unwrap() error { return e.Err }

// An Item is a record with the relay's number for it. Where Err is set, a *ForgedError,
// there is no Record.
type Item struct {
	Number uint64
	Record *seal.Record
	Err    error
	Came   int64 // when it came, in Unix milliseconds by the relay's clock
}

// After gives the next records of a folder above a number, in order; none when there
// are no more. With wait the answer may be held back for half a minute, until there are
// some. The last Number is where to go on, in this Welcome.Store alone.
func (c *Client) After(ctx context.Context, folder crdt.FolderID, after uint64, wait bool) ([]Item, error) {
	down, err := c.ask(ctx, &wire.ArchiveUp{After: &wire.ArchiveFeed{Folder: folderOf(folder), After: after, Wait: wait}})
	if err != nil {
		return nil, fmt.Errorf("read records of folder %s: %w", folder, err)
	}
	if down.Items == nil {
		return nil, c.violation(errAnswer)
	}
	out := make([]Item, 0, len(down.Items.Records))
	for i, raw := range down.Items.Records {
		n := down.Items.Numbers[i]
		if n <= after {
			return nil, c.violation(fmt.Errorf("record %d is not above %d", n, after))
		}
		r, err := c.record(folder, raw)
		i := Item{Number: n, Record: r, Err: err}
		if len(down.Items.Came) > 0 {
			i.Came = down.Items.Came[len(out)]
		}
		out = append(out, i)
	}
	return out, nil
}

// record reads a record, which has to be of the folder.
func (c *Client) record(folder crdt.FolderID, raw []byte) (*seal.Record, error) {
	r, err := seal.ParseRecord(raw)
	if err == nil && (r.Group != c.group || r.Folder != folder) {
		err = seal.ErrForeign
	}
	if err != nil {
		return nil, &ForgedError{"a record", err}
	}
	return r, nil
}

// A Version is one record of an entry, with what the relay makes of it. Times are in
// Unix milliseconds by the relay's clock.
type Version struct {
	Item
	Gone                   int64 // when it was replaced; 0: it was not
	Current, Whole, Purged bool
}

// Versions gives the records of an entry that the relay keeps, the newest first. more
// says that there are older ones.
func (c *Client) Versions(ctx context.Context, folder crdt.FolderID, token seal.Token) (list []Version, more bool, err error) {
	down, err := c.ask(ctx, &wire.ArchiveUp{Versions: &wire.ArchiveEntry{Folder: folderOf(folder), Token: token[:]}})
	if err != nil {
		return nil, false, fmt.Errorf("list versions: %w", err)
	}
	if down.Versions == nil {
		return nil, false, c.violation(errAnswer)
	}
	for _, v := range down.Versions.Versions {
		r, err := c.record(folder, v.Record)
		if err == nil && r.Token != token {
			r, err = nil, &ForgedError{"a version", seal.ErrForeign}
		}
		list = append(list, Version{Item{v.Number, r, err, v.Came}, v.Gone, v.Current, v.Whole, v.Purged})
	}
	return list, down.Versions.More, nil
}

// Heads gives what the group's devices say that they have uploaded to a folder, as the
// relay has it, still encoded: seal.Box.OpenHead reads one, and refuses a forged one.
func (c *Client) Heads(ctx context.Context, folder crdt.FolderID) ([][]byte, error) {
	down, err := c.ask(ctx, &wire.ArchiveUp{Heads: &wire.ArchiveEntry{Folder: folderOf(folder)}})
	if err != nil {
		return nil, fmt.Errorf("read heads of folder %s: %w", folder, err)
	}
	if down.Heads == nil {
		return nil, c.violation(errAnswer)
	}
	return down.Heads.Items, nil
}

// A Fetched is a block, or why there is none: ErrNotHeld, or a *ForgedError.
type Fetched struct {
	Data []byte
	Err  error
}

// Fetch gives blocks, in order: as many as fit into an answer, at least one. They are
// what their addresses say.
func (c *Client) Fetch(ctx context.Context, list []seal.Digest) ([]Fetched, error) {
	if len(list) == 0 {
		return nil, nil
	}
	list = list[:min(len(list), wire.MaxStored)]
	down, err := c.ask(ctx, &wire.ArchiveUp{Fetch: &wire.Digests{Digests: digests(list)}})
	if err != nil {
		return nil, fmt.Errorf("fetch blocks: %w", err)
	}
	if down.Blocks == nil || len(down.Blocks.Items) == 0 || len(down.Blocks.Items) > len(list) {
		return nil, c.violation(errAnswer)
	}
	out := make([]Fetched, len(down.Blocks.Items))
	for i, b := range down.Blocks.Items {
		switch {
		case len(b) == 0:
			out[i].Err = ErrNotHeld
		case sha256.Sum256(b) != [32]byte(list[i]):
			out[i].Err = &ForgedError{"a block", errors.New("its bytes are not those of its address")}
		default:
			out[i].Data = b
		}
	}
	return out, nil
}
