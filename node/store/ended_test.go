package store

import (
	"path/filepath"
	"testing"
	"time"

	"sheaf/crdt"
)

// TestEnded: replaced versions are remembered over a restart, each until its time
// is over, and do not disturb a check.
func TestEnded(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "index")
	s := openStore(t, dir, Options{})
	f := openFolder(t, s)
	day := time.Unix(1_700_000_000, 0)
	x := func(n byte) crdt.Ended {
		return crdt.Ended{Copy: crdt.EntryID{1, n}, Dot: crdt.Dot{Replica: crdt.ReplicaID{n}, Counter: uint64(n) << 40}}
	}
	must(t, f.Update(func(tx *Tx) error {
		for n := byte(1); n <= 5; n++ {
			if err := tx.PutEnded(x(n), day.Add(time.Duration(n)*time.Hour)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, s.Close())
	s = openStore(t, dir, Options{})
	f = openFolder(t, s)
	known := func() (out []byte) {
		must(t, f.Read(func(r *Reader) error {
			for n := byte(0); n <= 6; n++ {
				got, ok, err := r.Ended(crdt.EntryID{1, n})
				if err != nil {
					return err
				}
				if ok && got != x(n) {
					t.Errorf("remembered %v as %v", x(n), got)
				}
				if ok {
					out = append(out, n)
				}
			}
			return nil
		}))
		return out
	}
	if got := known(); string(got) != "\x01\x02\x03\x04\x05" {
		t.Errorf("remembered %v", got)
	}
	check(t, f)
	for _, want := range []string{"\x02\x03\x04\x05", "\x04\x05", "\x04\x05"} {
		most := 2
		if len(want) == 4 {
			most = 1
		}
		must(t, f.Update(func(tx *Tx) error {
			_, err := tx.SweepEnded(day.Add(3*time.Hour+time.Minute), most)
			return err
		}))
		if got := known(); string(got) != want {
			t.Errorf("swept to %v, want %v", got, []byte(want))
		}
	}
}
