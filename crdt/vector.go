package crdt

import (
	"bytes"
	"slices"
)

// A VersionVector tells which dots have been seen: for each replica named, all
// up to and including its Counter. It is sorted by replica and names each once.
type VersionVector []Dot

// Covers tells whether d has been seen.
func (v VersionVector) Covers(d Dot) bool { return v.Counter(d.Replica) >= d.Counter }

// Counter gives the highest counter seen of a replica, zero for none.
func (v VersionVector) Counter(r ReplicaID) uint64 {
	if i, ok := v.find(r); ok {
		return v[i].Counter
	}
	return 0
}

func (v VersionVector) find(r ReplicaID) (int, bool) {
	return slices.BinarySearchFunc(v, r, func(d Dot, r ReplicaID) int { return bytes.Compare(d.Replica[:], r[:]) })
}

// With gives the vector that has also seen d (and all earlier dots of its
// replica).
func (v VersionVector) With(d Dot) VersionVector {
	i, ok := v.find(d.Replica)
	if ok && v[i].Counter >= d.Counter {
		return v
	}
	if ok {
		w := slices.Clone(v)
		w[i] = d
		return w
	}
	return slices.Insert(slices.Clone(v), i, d)
}

// Merge gives the pointwise maximum.
func (v VersionVector) Merge(w VersionVector) VersionVector {
	if len(v) == 0 {
		return w
	}
	if len(w) == 0 || slices.Equal(v, w) {
		return v
	}
	out := make(VersionVector, 0, len(v)+len(w))
	for len(v) > 0 && len(w) > 0 {
		switch c := bytes.Compare(v[0].Replica[:], w[0].Replica[:]); {
		case c < 0:
			out, v = append(out, v[0]), v[1:]
		case c > 0:
			out, w = append(out, w[0]), w[1:]
		default:
			d := v[0]
			d.Counter = max(d.Counter, w[0].Counter)
			out, v, w = append(out, d), v[1:], w[1:]
		}
	}
	return append(append(out, v...), w...)
}

// Includes tells whether all that w has seen has been seen.
func (v VersionVector) Includes(w VersionVector) bool {
	for _, d := range w {
		if !v.Covers(d) {
			return false
		}
	}
	return true
}
