package pack

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// A place is where a block is. The zero place is none.
type place struct {
	pack   uint32 // number of the pack; 0 for none
	offset uint32 // of the record
	length uint32 // of the block
}

// A table says where the blocks are: 28 bytes a slot, three to four in five slots in
// use. It knows a block by half its digest, 128 bits, which nobody can make two
// blocks of others share; what is read is compared with the whole. Where in the
// table a block stands depends on a seed, so that nobody can choose blocks that
// crowd one place. It is safe for concurrent use; nothing waits for a disk in it.
type table struct {
	seed   maphash.Seed
	shards [256]shard
}

type shard struct {
	mu    sync.RWMutex
	slots []slot
	used  int
}

type key [4]uint32

type slot struct {
	key key
	place
}

// suspect is set in a slot's length when the block could not be read: it is still
// looked for there, but counts as not there.
const suspect = 1 << 31

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

// find gives the key, the shard and a number that says where in the shard.
func (t *table) find(d digest) (key, *shard, uint64) {
	var k key
	for i := range k {
		k[i] = binary.LittleEndian.Uint32(d[4*i:])
	}
	h := maphash.Bytes(t.seed, d[:16])
	return k, &t.shards[h&0xff], h >> 8
}

// home is the slot where a hash belongs.
func (s *shard) home(h uint64) int {
	// The 56 bits of h scaled to the number of slots.
	return int((h >> 24) * uint64(len(s.slots)) >> 32)
}

// slot gives where the key is, or the free slot where it would be. There is one.
func (s *shard) slot(k key, h uint64) int {
	i := s.home(h)
	for s.slots[i].pack != 0 && s.slots[i].key != k {
		if i++; i == len(s.slots) {
			i = 0
		}
	}
	return i
}

// get gives where a block is. One that is suspect is there, too, and said to be so.
func (t *table) get(d digest) (at place, isSuspect, ok bool) {
	k, s, h := t.find(d)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.slots) == 0 {
		return place{}, false, false
	}
	at = s.slots[s.slot(k, h)].place
	isSuspect = at.length&suspect != 0
	at.length &^= suspect
	return at, isSuspect, at.pack != 0
}

// set makes at the place of the block, in place of another.
func (t *table) set(d digest, at place) {
	k, s, h := t.find(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if (s.used+1)*5 > len(s.slots)*4 {
		t.grow(s)
	}
	i := s.slot(k, h)
	if s.slots[i].pack == 0 {
		s.used++
	}
	s.slots[i] = slot{k, at}
}

// doubt marks or clears the suspicion on a block, if it is still at that place.
func (t *table) doubt(d digest, at place, doubted bool) {
	k, s, h := t.find(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slots) == 0 {
		return
	}
	p := &s.slots[s.slot(k, h)].place
	if now := (place{p.pack, p.offset, p.length &^ suspect}); now != at {
		return
	}
	p.length = at.length
	if doubted {
		p.length |= suspect
	}
}

// remove forgets a block.
func (t *table) remove(d digest) {
	k, s, h := t.find(d)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.slots) == 0 {
		return
	}
	hole := s.slot(k, h)
	if s.slots[hole].pack == 0 {
		return
	}
	s.used--
	// What follows without a gap moves up where that brings it nearer to its home
	// (Knuth, The Art of Computer Programming, volume 3, 6.4, algorithm R).
	n := len(s.slots)
	for i := (hole + 1) % n; s.slots[i].pack != 0; i = (i + 1) % n {
		home := s.home(t.hash(s.slots[i].key))
		if (i-home+n)%n >= (i-hole+n)%n {
			s.slots[hole] = s.slots[i]
			hole = i
		}
	}
	s.slots[hole] = slot{}
}

// hash of a key that is in the table.
func (t *table) hash(k key) uint64 {
	var b [16]byte
	for i, w := range k {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	return maphash.Bytes(t.seed, b[:]) >> 8
}

// grow makes room for a quarter more.
func (t *table) grow(s *shard) {
	old := s.slots
	s.slots = make([]slot, max(8, len(old)*5/4))
	for _, x := range old {
		if x.pack != 0 {
			s.slots[s.slot(x.key, t.hash(x.key))] = x
		}
	}
}

// len is how many blocks the table knows, suspects included.
func (t *table) len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		n += s.used
		s.mu.RUnlock()
	}
	return n
}
