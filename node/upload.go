package node

import (
	"context"

	"sheaf/crdt"
	"sheaf/node/store"
	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
)

// A deposited folder is a folder as it is handed in at relays: a deposit.Folder. Each
// device hands in all that it knows; what a relay has it does not take twice.
type deposited struct {
	f *Folder
	// elsewhere reads a block that is not on the folder's own disk; nil for none.
	elsewhere func(ctx context.Context, b chunk.Block, dst []byte) ([]byte, error)
}

var _ deposit.Folder = deposited{}

func (d deposited) ID() crdt.FolderID { return d.f.id }

// maxDeposit bounds the bytes of the entries that are read at once.
const maxDeposit = 4 << 20

func (d deposited) After(seq uint64, most int) (entries []crdt.Entry, next uint64, err error) {
	err = d.f.index.Read(func(r *store.Reader) error {
		entries, next, err = r.After(seq, most, maxDeposit)
		return err
	})
	return entries, next, err
}

func (d deposited) Entry(id crdt.EntryID) (e crdt.Entry, ok bool, err error) {
	err = d.f.index.Read(func(r *store.Reader) error {
		e, ok, err = r.Entry(id)
		return err
	})
	return e, ok, err
}

func (d deposited) ListOf(v crdt.Version) (list chunk.List, ok bool, err error) {
	err = d.f.index.Read(func(r *store.Reader) error {
		list, ok, err = r.ListOf(v)
		return err
	})
	return list, ok, err
}

// ReadBlock reads a block from any file on this disk that the base says holds it.
func (d deposited) ReadBlock(ctx context.Context, b chunk.Block, dst []byte) ([]byte, error) {
	if serving := d.f.serving.Load(); serving != nil {
		if data, ok := d.f.localBlock(serving, b, false, dst); ok {
			return data, ctx.Err()
		}
	}
	if d.elsewhere != nil {
		return d.elsewhere(ctx, b, dst)
	}
	return nil, replication.ErrNotHere
}
