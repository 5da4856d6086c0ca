package deposit

import (
	"context"
	"errors"
	"fmt"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// A Told is what a record at a relay says of an entry.
type Told struct {
	Number uint64 // of the relay
	Came   int64  // when it came, in Unix milliseconds by the relay's clock
	Author group.DeviceID
	Upload uint64 // the author's own number for it: see seal.Header.Number
	Entry  crdt.Entry
	List   chunk.List // of its content, where that is more than one block
	// Blocks are the pieces of the list, then the blocks of the content; Refs says of each
	// where it is. Both are empty where the record names none, or where what names them has
	// not arrived at the relay yet: see Whole.
	Blocks []chunk.Block
	Refs   []seal.Ref
	Whole  bool // what names its blocks is there; the blocks need not be
	// Err says why the record is not to be believed, or cannot be read here: a
	// *ForgedError, an error of seal.Judge, group.ErrNoKey. Number alone is set then.
	Err error
}

// Tell reads the next records of a folder above a number, judges them by the group's
// statements and opens them. next is where to go on; after, if there are no more.
func (c *Client) Tell(ctx context.Context, box *seal.Box, state *group.State, folder crdt.FolderID, after uint64, wait bool) (list []Told, next uint64, err error) {
	items, err := c.After(ctx, folder, after, wait)
	if err != nil {
		return nil, after, err
	}
	for _, i := range items {
		t, err := c.told(ctx, box, state, i)
		if err != nil {
			return nil, after, err
		}
		list, after = append(list, t), i.Number
	}
	return list, after, nil
}

// TellVersion is Tell for a version that Versions gave.
func (c *Client) TellVersion(ctx context.Context, box *seal.Box, state *group.State, v Version) (Told, error) {
	return c.told(ctx, box, state, v.Item)
}

func (c *Client) told(ctx context.Context, box *seal.Box, state *group.State, i Item) (Told, error) {
	t := Told{Number: i.Number, Came: i.Came}
	if t.Err = i.Err; t.Err != nil {
		return t, nil
	}
	if t.Err = seal.Judge(state, &i.Record.Header); t.Err != nil {
		return t, nil
	}
	o, err := box.Open(i.Record)
	if err != nil {
		if !errors.Is(err, group.ErrNoKey) {
			err = &ForgedError{"a record", err}
		}
		t.Err = err
		return t, nil
	}
	t.Author, t.Upload, t.Entry = i.Record.Author, i.Record.Header.Number, o.Entry
	blocks, refs, list, err := c.contentOf(ctx, box, i.Record, o)
	switch {
	case errors.Is(err, ErrNotHeld):
		return t, nil
	case err != nil:
		var forged *ForgedError
		if errors.As(err, &forged) {
			return Told{Number: i.Number, Err: err}, nil
		}
		return t, err
	}
	t.Blocks, t.Refs, t.List, t.Whole = blocks, refs, list, true
	return t, nil
}

// contentOf gives what a record names, from the pages and pieces that it may stand on.
func (c *Client) contentOf(ctx context.Context, box *seal.Box, r *seal.Record, o *seal.Opened) (blocks []chunk.Block, refs []seal.Ref, list chunk.List, err error) {
	if r.Dead && len(r.Refs)+len(r.Pages) == 0 {
		return nil, nil, nil, nil
	}
	pages, err := c.fetchAll(ctx, r.Pages)
	if err != nil {
		return nil, nil, nil, err
	}
	if refs, err = o.Refs(r, pages...); err != nil {
		return nil, nil, nil, &ForgedError{"a page of references", err}
	}
	list = o.List
	if len(o.Pieces) > 0 {
		digests := make([]seal.Digest, len(o.Pieces))
		for n := range o.Pieces {
			digests[n] = refs[n].Digest
		}
		sealed, err := c.fetchAll(ctx, digests)
		if err != nil {
			return nil, nil, nil, err
		}
		pieces := make([][]byte, len(sealed))
		for n, b := range sealed {
			if pieces[n], err = box.OpenBlock(nil, b, refs[n].Epoch, o.Pieces[n]); err != nil {
				return nil, nil, nil, &ForgedError{"a piece of a block list", err}
			}
		}
		if list, err = o.Join(pieces...); err != nil {
			return nil, nil, nil, &ForgedError{"a block list", err}
		}
	}
	blocks = append(append([]chunk.Block(nil), o.Pieces...), list...)
	if len(blocks) != len(refs) {
		return nil, nil, nil, &ForgedError{"a record", fmt.Errorf("%d references to %d blocks", len(refs), len(blocks))}
	}
	if len(list) < 2 {
		list = nil
	}
	return blocks, refs, list, nil
}

// fetchAll gives blocks in order; ErrNotHeld or a *ForgedError for the first that is not
// to be had.
func (c *Client) fetchAll(ctx context.Context, list []seal.Digest) (out [][]byte, err error) {
	for len(list) > 0 {
		got, err := c.Fetch(ctx, list)
		if err != nil {
			return nil, err
		}
		for _, f := range got {
			if f.Err != nil {
				return nil, f.Err
			}
			out = append(out, f.Data)
		}
		list = list[len(got):]
	}
	return out, nil
}

// A Part is a block of a file, with where it is.
type Part struct {
	Block chunk.Block
	Ref   seal.Ref
}

// Read fetches parts and hands on the bytes of each, in order, opened and held against
// what the index says of them: what it gives is right. The bytes are valid during the
// call only. It ends with the first part that is not to be had: ErrNotHeld, a
// *ForgedError, or group.ErrNoKey; those before it have been handed on.
func (c *Client) Read(ctx context.Context, box *seal.Box, parts []Part, fn func(data []byte) error) error {
	var plain []byte
	for len(parts) > 0 {
		ask := make([]seal.Digest, 0, min(len(parts), readAhead))
		for _, p := range parts[:min(len(parts), readAhead)] {
			ask = append(ask, p.Ref.Digest)
		}
		got, err := c.Fetch(ctx, ask)
		if err != nil {
			return err
		}
		for n, f := range got {
			if f.Err != nil {
				return f.Err
			}
			plain, err = box.OpenBlock(plain[:0], f.Data, parts[n].Ref.Epoch, parts[n].Block)
			if errors.Is(err, group.ErrNoKey) {
				return err
			}
			if err != nil {
				return &ForgedError{"a block", err}
			}
			if err := fn(plain); err != nil {
				return err
			}
		}
		parts = parts[len(got):]
	}
	return nil
}

// readAhead is how many blocks are asked for at once: more than an answer holds of
// blocks of the usual size, and few enough that small ones do not fill the memory.
const readAhead = 512
