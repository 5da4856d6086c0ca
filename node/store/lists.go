package store

import (
	"encoding/binary"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// MaxBlockRefs bounds what Block answers with.
const MaxBlockRefs = 8

// List gives the block list of a content of more than one block. (Lists of one
// block or none are not stored, since the Version says all of them: ListOf.)
func (r *Reader) List(content crdt.ContentHash) (chunk.List, bool, error) {
	if err := r.usable(); err != nil {
		return nil, false, err
	}
	val, ok, err := r.view.get(r.f.n.contentKey(tabList, content))
	if err != nil || !ok {
		return nil, false, r.fail("read a block list", err)
	}
	size, n := binary.Uvarint(val)
	if n <= 0 {
		return nil, false, r.fail("read a block list", errShort)
	}
	list, err := chunk.DecodeList(val[n:], int64(size))
	return list, err == nil, r.fail("read a block list", err)
}

// ListOf gives the block list of a version's content, also where it is of one
// block or none; false if it is not known here (yet).
func (r *Reader) ListOf(v crdt.Version) (chunk.List, bool, error) {
	switch v.Blocks {
	case 0:
		return nil, true, r.usable()
	case 1:
		if v.Size < 0 || v.Size > chunk.MaxBlock {
			return nil, false, r.usable() // no block has that size
		}
		return chunk.List{{Hash: chunk.Hash(v.Content), Size: uint32(v.Size)}}, true, r.usable()
	}
	return r.List(v.Content)
}

// A BlockRef is a place on this disk where a block's bytes were when the base
// was last brought up to date. Whoever uses what is there verifies the hash: the
// file may have changed, and the block's name is kept in short.
type BlockRef struct {
	ID     crdt.EntryID
	Offset int64
	Size   uint32
}

// Block gives up to MaxBlockRefs places on this disk where a block is.
func (r *Reader) Block(hash chunk.Hash) (refs []BlockRef, err error) {
	if err := r.ready(); err != nil {
		return nil, err
	}
	err = r.view.scan(r.f.n.blockKey(hash), nil, func(k, v []byte) (bool, error) {
		b, err := decodeBlock(v)
		if id, ok := lastID(k); ok && err == nil {
			refs = append(refs, BlockRef{ID: id, Offset: b.offset, Size: b.size})
		}
		return len(refs) < MaxBlockRefs, err
	})
	return refs, r.fail("find a block", err)
}

func (b blockRow) encode() []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(b.offset)), uint64(b.size))
}

func decodeBlock(v []byte) (blockRow, error) {
	d := reading{b: v}
	b := blockRow{offset: int64(d.uint()), size: uint32(d.uint())}
	return b, d.end()
}
