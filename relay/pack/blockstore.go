package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"
)

// Put puts a block. It is durable when Put returns. A block that is there is not
// written again. ErrAddress, ErrTooLarge, ErrMismatch: the block is none that the
// store takes. ErrNoSpace, ErrFailed: see there.
//
// When ctx ends while the block is being written, Put still waits for it.
func (s *Store) Put(ctx context.Context, b blocks.Block) error {
	return s.PutMany(ctx, []blocks.Block{b})
}

// PutMany puts blocks with one sync. When it fails some of them may be there.
func (s *Store) PutMany(ctx context.Context, list []blocks.Block) error {
	ops := make([]op, 0, len(list))
	for _, b := range list {
		d, err := digestOf(b.Cid())
		if err != nil {
			return fmt.Errorf("put a block: %w", err)
		}
		data := b.RawData()
		if len(data) > MaxBlock {
			return fmt.Errorf("put block %s of %d bytes: %w", b.Cid(), len(data), ErrTooLarge)
		}
		if !d.of(data) {
			return fmt.Errorf("put block %s: %w", b.Cid(), ErrMismatch)
		}
		if _, doubted, ok := s.table.get(d); ok && !doubted {
			continue // what the table knows of is durable
		}
		ops = append(ops, op{do: put, digest: d, data: data})
	}
	return s.change(ctx, ops)
}

// DeleteBlock deletes a block, durably. There need not be one.
func (s *Store) DeleteBlock(ctx context.Context, c cid.Cid) error {
	return s.DeleteMany(ctx, []cid.Cid{c})
}

// DeleteMany deletes blocks with one sync. The space is free after compaction.
// What was deleted is not there again after a crash. When DeleteMany fails some may have been deleted.
func (s *Store) DeleteMany(ctx context.Context, list []cid.Cid) error {
	ops := make([]op, 0, len(list))
	for _, c := range list {
		d, err := digestOf(c)
		if err != nil {
			return fmt.Errorf("delete a block: %w", err)
		}
		if _, _, ok := s.table.get(d); ok {
			ops = append(ops, op{do: remove, digest: d})
		}
	}
	return s.change(ctx, ops)
}

func (s *Store) change(ctx context.Context, ops []op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(ops) == 0 {
		if s.ending.Err() != nil {
			return ErrClosed
		}
		return nil
	}
	_, err := s.submit(ctx, ops)
	return err
}

// Has tells whether a block is there. It reads no disk.
func (s *Store) Has(ctx context.Context, c cid.Cid) (bool, error) {
	_, err := s.GetSize(ctx, c)
	if ipld.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// GetSize gives the size of a block in bytes; -1 and ipld.ErrNotFound if it is not there. It reads no disk.
func (s *Store) GetSize(ctx context.Context, c cid.Cid) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	d, err := digestOf(c)
	if err != nil {
		return -1, err
	}
	if s.ending.Err() != nil {
		return -1, ErrClosed
	}
	at, doubted, ok := s.table.get(d)
	if !ok || doubted {
		return -1, ipld.ErrNotFound{Cid: c}
	}
	return int(at.length), nil
}

// Get gives a block, whose bytes have been hashed. ipld.ErrNotFound if it is not
// there; a CorruptError, which is an ErrNotFound too, if it was just found broken.
func (s *Store) Get(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	d, err := digestOf(c)
	if err != nil {
		return nil, err
	}
	data, err := s.get(ctx, d)
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// View calls fn with the bytes of a block, as Get gives them.
func (s *Store) View(ctx context.Context, c cid.Cid, fn func([]byte) error) error {
	b, err := s.Get(ctx, c)
	if err != nil {
		return err
	}
	return fn(b.RawData())
}

func (s *Store) get(ctx context.Context, d digest) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at, doubted, ok := s.table.get(d)
		if !ok {
			return nil, ipld.ErrNotFound{Cid: d.cid()}
		}
		data, err := s.fetch(d, at)
		switch {
		case errors.Is(err, errGone):
			continue // compacted away meanwhile: it is elsewhere now
		case errors.Is(err, errBroken):
			return nil, s.quarantine(ctx, d, at, data)
		case err != nil:
			return nil, err
		}
		if doubted {
			s.table.doubt(d, at, false)
		}
		return data, nil
	}
}

// errBroken: the bytes do not hash to what they should.
var errBroken = errors.New("the block does not verify")

// fetch reads a block where it should be and verifies it: errBroken, with the bytes,
// if it does not verify; errGone if the pack has been removed. A block that cannot
// be read counts as not there until it can, so that somebody puts it again.
func (s *Store) fetch(d digest, at place) (data []byte, err error) {
	data = make([]byte, at.length)
	err = s.readPack(at.pack, func(_ *pack, f file) error {
		// A second time, lest the memory was at fault and not the disk.
		for range 2 {
			err := readFull(f, data, int64(at.offset)+recordHeader)
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				s.table.doubt(d, at, true)
				return err
			}
			if err == nil && d.of(data) {
				return nil
			}
		}
		return errBroken
	})
	if errors.Is(err, fs.ErrNotExist) {
		s.table.doubt(d, at, true)
	}
	if err != nil {
		return data, fmt.Errorf("read block %s: %w", d.cid(), err)
	}
	return data, nil
}
