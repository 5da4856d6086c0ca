package node

import (
	"context"
	"errors"
	"sync"

	"sheaf/replication"
	"sheaf/replication/chunk"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// relayBlocks fetches blocks from relays that no connected device has: what was written
// on a device that is off, or gone.
type relayBlocks struct {
	n *Node

	mu      sync.Mutex
	pending []relayWant
	stopped bool
	come    chan struct{} // holds one
}

type relayWant struct {
	ctx     context.Context
	block   chunk.Block
	deliver func([]byte, error)
}

// relayBatch is how many blocks are asked for at once.
const relayBatch = 256

func newRelayBlocks(n *Node) *relayBlocks {
	return &relayBlocks{n: n, come: make(chan struct{}, 1)}
}

// fetch is replication.Fetcher's Fetch, with the relays as the last to be asked.
func (b *relayBlocks) fetch(ctx context.Context, want replication.Want, deliver func([]byte, error)) {
	b.n.fetcher.Fetch(ctx, want, func(data []byte, err error) {
		if want.List || !errors.Is(err, replication.ErrNoSource) || !b.ask(relayWant{ctx, want.Block, deliver}) {
			deliver(data, err)
		}
	})
}

// ask notes a want; false if there is nobody to ask.
func (b *relayBlocks) ask(w relayWant) bool {
	if len(b.n.relayLinks()) == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return false
	}
	b.pending = append(b.pending, w)
	select {
	case b.come <- struct{}{}:
	default:
	}
	return true
}

func (b *relayBlocks) take() []relayWant {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(len(b.pending), relayBatch)
	list := b.pending[:n:n]
	b.pending = b.pending[n:]
	return list
}

// run fetches until ctx ends; then what waits is told so.
func (b *relayBlocks) run(ctx context.Context) error {
	defer func() {
		b.mu.Lock()
		b.stopped = true
		left := b.pending
		b.pending = nil
		b.mu.Unlock()
		for _, w := range left {
			w.deliver(nil, replication.ErrStopped)
		}
	}()
	for {
		list := b.take()
		if len(list) == 0 {
			select {
			case <-b.come:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		b.some(ctx, list)
	}
}

// some fetches some blocks, and delivers each of them once.
func (b *relayBlocks) some(ctx context.Context, list []relayWant) {
	hashes := make([]chunk.Hash, len(list))
	for i, w := range list {
		hashes[i] = w.block.Hash
	}
	refs, err := b.n.books.Refs(hashes)
	if err != nil {
		b.n.log.Error("look up where blocks are", "err", err)
	}
	var left []relayWant
	for _, w := range list {
		switch _, known := refs[w.block.Hash]; {
		case w.ctx.Err() != nil:
			w.deliver(nil, w.ctx.Err())
		case !known:
			w.deliver(nil, replication.ErrNoSource)
		default:
			left = append(left, w)
		}
	}
	if len(left) > 0 {
		err = b.n.atRelays(ctx, func(_ *relayLink, c *deposit.Client, box *seal.Box, _ *group.State) error {
			var err error
			if left, err = fetchWants(ctx, c, box, left, refs); err != nil || len(left) == 0 {
				return err
			}
			return errNextRelay
		})
		if err != nil && len(left) > 0 && !errors.Is(err, errNextRelay) {
			b.n.log.Debug("fetch blocks from relays", "err", err)
		}
	}
	for _, w := range left {
		w.deliver(nil, replication.ErrNoSource)
	}
}

// fetchWants delivers what one relay has, and gives what is left.
func fetchWants(ctx context.Context, c *deposit.Client, box *seal.Box, list []relayWant, refs map[chunk.Hash]seal.Ref) (left []relayWant, err error) {
	for len(list) > 0 {
		digests := make([]seal.Digest, len(list))
		for i, w := range list {
			digests[i] = refs[w.block.Hash].Digest
		}
		got, err := c.Fetch(ctx, digests)
		if err != nil {
			return append(left, list...), err
		}
		for i, f := range got {
			w := list[i]
			if f.Err != nil {
				left = append(left, w)
				continue
			}
			plain, err := box.OpenBlock(nil, f.Data, refs[w.block.Hash].Epoch, w.block)
			if err != nil {
				left = append(left, w)
				continue
			}
			w.deliver(plain, nil)
		}
		list = list[len(got):]
	}
	return left, nil
}
