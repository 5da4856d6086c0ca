package store

import (
	"sync"

	"sheaf/crdt"
)

// A rowCache keeps encoded rows that were read or written lately: one entry is
// read several times on its way from the index to the disk and then by the peers
// that fetch it, with the directories above it each time, and a read of the
// database costs ten times as much.
//
// It holds only what the last commit left, with the number of a commit since
// which it is so: a snapshot of before must not see it. A snapshot is told from
// the last commit by number, too, so that what it read late is not kept.
type rowCache struct {
	mu         sync.Mutex
	commit     uint64 // the last one, or the one that is being written
	young, old map[crdt.EntryID]cachedRow
}

type cachedRow struct {
	data  []byte // never changed
	since uint64
}

// rowsKept bounds each of the two generations, some 300 bytes a row.
const rowsKept = 6 << 10

func newRowCache(commit uint64) *rowCache {
	return &rowCache{commit: commit, young: make(map[crdt.EntryID]cachedRow)}
}

// get gives a row as a snapshot of that commit has it.
func (c *rowCache) get(id crdt.EntryID, commit uint64) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.young[id]
	if !ok {
		if r, ok = c.old[id]; ok {
			c.keep(id, r)
		}
	}
	return r.data, ok && r.since <= commit
}

// put keeps what a snapshot of that commit has read.
func (c *rowCache) put(id crdt.EntryID, data []byte, commit uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if commit == c.commit {
		c.keep(id, cachedRow{data, commit})
	}
}

func (c *rowCache) keep(id crdt.EntryID, r cachedRow) {
	if len(c.young) >= rowsKept {
		c.old, c.young = c.young, make(map[crdt.EntryID]cachedRow, rowsKept)
	}
	c.young[id] = r
}

// begin is called before a commit is written, with the rows that it changes:
// from then on nobody knows which of the two states a snapshot finds.
func (c *rowCache) begin(commit uint64, rows map[crdt.EntryID][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commit = commit
	for id := range rows {
		delete(c.young, id)
		delete(c.old, id)
	}
}

// end is called when it has been written.
func (c *rowCache) end(rows map[crdt.EntryID][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, data := range rows {
		c.keep(id, cachedRow{data, c.commit})
	}
}
