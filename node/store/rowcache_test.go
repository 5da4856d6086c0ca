package store

import (
	"errors"
	"fmt"
	"testing"

	"sheaf/crdt"
)

// TestSnapshotsSeeTheirOwnRows: what is kept of rows between reads never shows a
// snapshot what was committed after it, nor a later one what was there before.
func TestSnapshotsSeeTheirOwnRows(t *testing.T) {
	t.Parallel()
	f := openFolder(t, openStore(t, t.TempDir()+"/index", inMemory(Options{})))
	tr := &tree{f: f}
	tr.grow(t, 3)
	dir := tr.dirs[0]
	mode := func(r *Reader) uint32 {
		e, ok, err := r.Entry(dir)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return e.Mode()
	}
	set := func(to uint32) {
		must(t, f.Update(func(tx *Tx) error {
			_, err := record(tx, func(r *crdt.Recorder) error { return r.SetAttrs(dir, to, nil) }, func(crdt.Entry, *Base) {})
			return err
		}))
	}
	set(0o700)
	must(t, f.Read(func(early *Reader) error {
		set(0o711)
		must(t, f.Read(func(later *Reader) error {
			set(0o755)
			for i := range 3 {
				// The first time each reads, the second time it is asked again.
				early.last, later.last = nil, nil
				if a, b := mode(early), mode(later); a != 0o700 || b != 0o711 {
					t.Errorf("read %d: the snapshots show modes %o and %o, must be 700 and 711", i, a, b)
				}
				must(t, f.Read(func(now *Reader) error {
					if m := mode(now); m != 0o755 {
						t.Errorf("read %d: now it shows mode %o, must be 755", i, m)
					}
					return nil
				}))
			}
			return nil
		}))
		return nil
	}))
}

// TestBaseAtInBusyDirectories: whether it is looked up by itself or among all
// names of its directory, an entry is found by the name that the disk has.
func TestBaseAtInBusyDirectories(t *testing.T) {
	t.Parallel()
	f := openFolder(t, openStore(t, t.TempDir()+"/index", inMemory(Options{})))
	tr := &tree{f: f}
	tr.grow(t, 30)
	dir := tr.dirs[0]
	must(t, f.Read(func(r *Reader) error {
		stats, err := r.BaseStats(dir)
		if err != nil || len(stats) != 30 {
			t.Fatalf("%d names, %v", len(stats), err)
		}
		for round := range 2 {
			for i, s := range stats {
				id, ok, err := r.BaseAt(dir, s.Name)
				if err != nil || !ok || id != s.ID {
					t.Errorf("round %d, look %d: %s is %s, %v, %v; must be %s", round, i, s.Name, id, ok, err, s.ID)
				}
				if _, ok, err := r.BaseAt(dir, fmt.Sprintf("none-%d", i)); ok || err != nil {
					t.Errorf("found what is not there: %v", err)
				}
			}
		}
		return nil
	}))
}

// TestTransactionSeesItsOwnRows: also when it has looked at so many that it no
// longer holds them; and what it rolls back nobody sees.
func TestTransactionSeesItsOwnRows(t *testing.T) {
	t.Parallel()
	f := openFolder(t, openStore(t, t.TempDir()+"/index", inMemory(Options{})))
	tr := &tree{f: f}
	tr.grow(t, 3)
	dir := tr.dirs[0]
	links := func(r *Reader) uint32 {
		b, ok, err := r.Base(dir)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return b.Stat.Links
	}
	must(t, f.Read(func(r *Reader) error { links(r); return nil })) // it is kept
	rolledBack := errors.New("rolled back")
	err := f.Update(func(tx *Tx) error {
		b, _, err := tx.Base(dir)
		if err != nil {
			return err
		}
		b.Stat.Links = 77
		if err := tx.SetBase(b); err != nil {
			return err
		}
		if _, err := tx.Fallen(); err != nil { // settles it
			return err
		}
		for i := range maxRows + 10 {
			if _, _, err := tx.Base(crdt.EntryID{1, byte(i >> 16), byte(i >> 8), byte(i)}); err != nil {
				return err
			}
		}
		if n := links(&tx.Reader); n != 77 {
			t.Errorf("the transaction reads %d where it has put 77", n)
		}
		return rolledBack
	})
	if !errors.Is(err, rolledBack) {
		t.Fatal(err)
	}
	must(t, f.Read(func(r *Reader) error {
		if n := links(r); n == 77 {
			t.Error("what was rolled back is read")
		}
		return nil
	}))
}
