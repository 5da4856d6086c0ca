package replication

// marks translates between the sequence numbers of two stores: what of the
// peer's entries our disk shows, given how much of our own index it shows.
//
// Each mark says that the peer's entries up to theirs were in our index when
// it had given the number ours. So once our disk shows all up to ours, it
// shows theirs.
type marks struct {
	list    []mark // both numbers rise
	settled uint64 // of theirs
}

type mark struct{ theirs, ours uint64 }

// maxMarks bounds marks. Beyond it the last two become one, which tells a
// little later what is settled, and never too early.
const maxMarks = 256

// add says that theirs is in our index, whose number is ours.
func (m *marks) add(theirs, ours uint64) {
	if n := len(m.list); n > 0 && (n >= maxMarks || m.list[n-1].ours == ours) {
		m.list[n-1] = mark{theirs: max(theirs, m.list[n-1].theirs), ours: max(ours, m.list[n-1].ours)}
		return
	}
	m.list = append(m.list, mark{theirs, ours})
}

// upTo says that our disk shows everything up to ours, and gives the number up
// to which it shows theirs.
func (m *marks) upTo(ours uint64) uint64 {
	n := 0
	for n < len(m.list) && m.list[n].ours <= ours {
		m.settled = max(m.settled, m.list[n].theirs)
		n++
	}
	m.list = append(m.list[:0], m.list[n:]...)
	return m.settled
}
