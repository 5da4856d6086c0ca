package store

import (
	"encoding/binary"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"

	"sheaf/crdt"
)

// TestMigrateFromFormat1: a database of the first format, which kept what is
// behind in the order of the IDs, is one of this format after it was opened, and
// so it is when a migration was broken off in the middle.
func TestMigrateFromFormat1(t *testing.T) {
	t.Parallel()
	for _, brokenOff := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "index")
		s := openStore(t, dir, Options{})
		f := openFolder(t, s)
		tr := &tree{f: f}
		tr.grow(t, 40)
		var dropped []crdt.EntryID
		must(t, f.Update(func(tx *Tx) error {
			ids, _, err := tx.BaseChildIDs(tr.dirs[0], "", 0)
			if err != nil {
				return err
			}
			for i, id := range ids {
				if i%3 == 0 {
					dropped = append(dropped, id)
					if err := tx.DropBase(id); err != nil {
						return err
					}
				}
			}
			return nil
		}))
		want := mustDump(t, f)
		id, replica, counter := s.ID(), f.Replica(), f.Counter()
		must(t, s.change(func(b *leveldb.Batch) {
			v := view{src: s.db}
			defer v.release()
			must(t, v.scan(f.n.key(tabBehind, 0), nil, func(k, val []byte) (bool, error) {
				if brokenOff && binary.BigEndian.Uint64(k[prefixLen:])%2 == 0 {
					return true, nil
				}
				b.Put(append(f.n.key(tabBehind, idLen), k[prefixLen+8:]...), slices.Clone(val))
				b.Delete(k)
				return true, nil
			}))
			b.Put(storeKey("schema"), []byte{1})
		}))
		must(t, s.Close())

		s = openStore(t, dir, Options{})
		f = openFolder(t, s)
		if r := s.Recovery(); r.Kind != Clean {
			t.Fatalf("migrated it was %+v", r)
		}
		if s.ID() != id || f.Replica() != replica || f.Counter() != counter || !maps.Equal(mustDump(t, f), want) {
			t.Error("the migration changed what it should not")
		}
		check(t, f)
		must(t, f.Read(func(r *Reader) error {
			got, _, err := r.Behind(0, 0)
			slices.SortFunc(got, crdt.EntryID.Compare)
			slices.SortFunc(dropped, crdt.EntryID.Compare)
			if !slices.Equal(got, dropped) || len(dropped) < 10 {
				t.Errorf("behind are %v, must be %v", got, dropped)
			}
			return err
		}))
		must(t, s.Close())
		if s = openStore(t, dir, Options{}); s.Recovery().Kind != Clean {
			t.Errorf("opened again it was %+v", s.Recovery())
		}
	}
}
