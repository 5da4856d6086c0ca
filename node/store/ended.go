package store

import (
	"encoding/binary"
	"time"

	"sheaf/crdt"
)

// PutEnded remembers that a person replaced or deleted a version on this disk, by
// the ID that its conflict copy has if it has lost a conflict somewhere: whoever
// made that copy did not know, and a copy may yet come. SweepEnded forgets it.
func (t *Tx) PutEnded(x crdt.Ended, at time.Time) error {
	if err := t.usable(); err != nil {
		return err
	}
	v := binary.AppendUvarint(nil, uint64(max(0, at.Unix())))
	v = binary.AppendUvarint(v, x.Dot.Counter)
	return t.fail("put a replaced version", t.over.put(t.f.n.idKey(tabEnded, x.Copy), append(v, x.Dot.Replica[:]...)))
}

// SweepEnded forgets versions that were replaced before a time, up to as many of
// them, and gives how many it forgot.
func (t *Tx) SweepEnded(before time.Time, most int) (n int, err error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	var old [][]byte
	err = t.view.scan(t.f.n.key(tabEnded, 0), nil, func(k, v []byte) (bool, error) {
		_, at, err := decodeEnded(v)
		if err == nil && at < before.Unix() {
			old = append(old, append([]byte(nil), k...))
		}
		return len(old) < most, err
	})
	for _, k := range old {
		if err == nil {
			err = t.over.remove(k)
		}
	}
	return len(old), t.fail("forget replaced versions", err)
}

// Ended gives the version that a person replaced or deleted on this disk, and
// that has this conflict copy; false if none is known.
func (r *Reader) Ended(copied crdt.EntryID) (crdt.Ended, bool, error) {
	if err := r.usable(); err != nil {
		return crdt.Ended{}, false, err
	}
	v, ok, err := r.view.get(r.f.n.idKey(tabEnded, copied))
	if err != nil || !ok {
		return crdt.Ended{}, false, r.fail("read a replaced version", err)
	}
	dot, _, err := decodeEnded(v)
	return crdt.Ended{Copy: copied, Dot: dot}, err == nil, r.fail("read a replaced version", err)
}

func decodeEnded(v []byte) (dot crdt.Dot, at int64, err error) {
	d := reading{b: v}
	at = int64(d.uint())
	dot.Counter = d.uint()
	copy(dot.Replica[:], d.take(len(dot.Replica)))
	return dot, at, d.end()
}
