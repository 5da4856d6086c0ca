package group

// bits is a set of small numbers: the places in a log of a statement's
// ancestors.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

func (b bits) set(i int) { b[i/64] |= 1 << (i % 64) }

// union adds all of c, which must not be longer than b.
func (b bits) union(c bits) {
	for i, w := range c {
		b[i] |= w
	}
}
