package store

import (
	"encoding/binary"
	"fmt"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"sheaf/crdt"
)

// schema is the format that this program writes. A new one adds a step to
// migrations, from the format before it.
const schema = 2

// migrations bring a database from the format that is the key to the next, in
// one or more commits that can be repeated from the start; the last of them is
// synced and puts the new format's number. They are not numbered: what had been
// acknowledged before is still to be compared.
func migrations() map[uint64]func(*Store) error {
	return map[uint64]func(*Store) error{1: behindBySeq}
}

// migrationBatch is how many rows one commit of a migration changes.
const migrationBatch = 10_000

// behindBySeq brings format 1 to 2: what is behind is kept in the order of the
// last changes; it was in that of the IDs.
func behindBySeq(s *Store) error {
	v := view{src: s.db}
	defer v.release()
	b := new(leveldb.Batch)
	flush := func(least int) error {
		if b.Len() < least {
			return nil
		}
		defer b.Reset()
		return ofDB(s.db.Write(b, nil))
	}
	err := v.scan(nil, nil, func(k, val []byte) (bool, error) {
		if len(k) < prefixLen || k[0] == 0 && k[1] == 0 {
			return true, nil // the store's own
		}
		switch n := number(binary.BigEndian.Uint16(k)); {
		case k[2] == tabBehind: // before the rows, so not those that are put below
			b.Delete(k)
		case k[2] == tabRow && len(k) == prefixLen+idLen:
			w, err := decodeRow(crdt.EntryID(k[prefixLen:]), val)
			if err != nil {
				return false, err
			}
			f, err := derive(w)
			if err != nil {
				return false, fmt.Errorf("row of entry %s: %w", w.id, err)
			}
			if f.behind {
				b.Put(n.behindKey(f.seq, w.id), binary.AppendUvarint(nil, uint64(f.missing)))
			}
		}
		return true, flush(migrationBatch)
	})
	if err == nil {
		err = flush(1)
	}
	if err != nil {
		return err
	}
	b.Put(storeKey("schema"), binary.AppendUvarint(nil, 2))
	return ofDB(s.db.Write(b, &opt.WriteOptions{Sync: true}))
}
