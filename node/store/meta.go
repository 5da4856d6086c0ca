package store

import (
	"encoding/binary"
	"fmt"

	"sheaf/crdt"
)

// meta is the one row of a folder that every commit writes.
type meta struct {
	replica crdt.ReplicaID
	counter uint64 // last counter of replica that was used
	seq     uint64 // last sequence number given
	commit  uint64 // number of the commit that wrote this row
	stats   Stats
	behind  int64 // entries behind
	missing int64 // bytes they are to fetch
}

func (m meta) encode() []byte {
	b := append(make([]byte, 0, 96), m.replica[:]...)
	b = binary.AppendUvarint(b, m.counter)
	b = binary.AppendUvarint(b, m.seq)
	b = binary.AppendUvarint(b, m.commit)
	b = binary.AppendVarint(b, m.behind)
	b = binary.AppendVarint(b, m.missing)
	for _, n := range m.stats.list() {
		b = binary.AppendVarint(b, *n)
	}
	return b
}

func decodeMeta(data []byte) (m meta, err error) {
	d := reading{b: data}
	copy(m.replica[:], d.take(len(m.replica)))
	m.counter = d.uint()
	m.seq = d.uint()
	m.commit = d.uint()
	m.behind = d.int()
	m.missing = d.int()
	for _, n := range m.stats.list() {
		*n = d.int()
	}
	if err := d.end(); err != nil {
		return meta{}, fmt.Errorf("folder's meta row: %w", err)
	}
	return m, nil
}
