package simnet

import (
	"encoding/binary"
	"time"
)

// What a draw is for: the first word after the name of the thing concerned, so
// that no two decisions about it hang together.
const (
	forConn uint64 = iota + 1
	forEnd
	forStream
	forRead
	forWrite
	forJitter
	forWait
	forDialler
	forTelling
	forSilence
	forNotice
	forOverlap
)

// mix draws a number that depends on every word and on their order: splitmix64
// after each.
func mix(h uint64, words ...uint64) uint64 {
	for _, w := range words {
		h += w + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// word makes a name one word (FNV-1a).
func word(name string) uint64 {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return h
}

func (id ID) mixInto(h uint64) uint64 {
	for i := 0; i < len(id); i += 8 {
		h = mix(h, binary.LittleEndian.Uint64(id[i:]))
	}
	return h
}

// upTo makes a draw a duration from 0 to most, both included.
func upTo(most time.Duration, draw uint64) time.Duration {
	if most <= 0 {
		return 0
	}
	return time.Duration(draw % (uint64(most) + 1))
}
