// Package group decides who may: who belongs to an account or a shared folder,
// in which role, by whose word, and which keys are theirs to open.
//
// The picture to hold: a group is a growing set of signed [Statement]s, each
// naming the newest ones its author had seen, so that the set is a graph of
// what was known when. [Log] holds such a set; [Log.Evaluate] is a pure
// function from the set to a [State]. Two devices that hold the same statements
// hold the same State, whatever the order in which they came; nothing else, no
// clock, no server and no order of arrival, has a say. A statement is never
// taken back, only outweighed by another one.
//
// What outweighs what:
//
//   - A Remove voids what the removed device says concurrently with it, and
//     joins through that device's invites that the remover had not seen. What it
//     had said before, and the remover had seen, stands. A removed device never
//     comes back; it may join again under new keys.
//   - A Role does the same to what the new role would not allow, a Revoke to
//     joins through the revoked invite.
//   - Where such statements contradict each other in a ring (A removes B while B
//     removes A), the one by the senior of their authors stands and those against
//     it, or against what it rests on, fall. Seniority is the order of joining in
//     the graph; the paper device is senior to all, and nobody but itself removes
//     it.
//   - An invite that was claimed by more devices than it allows admits only those
//     to whom an earlier member has granted keys, and raises an alarm.
//   - An author that says two things at one place of its own sequence raises an
//     alarm. Both count: taking sides would let the forger choose.
//
// Deterministic order: statements are ordered by depth in the graph, then by
// ID. Both are fixed when a statement is written, so no later arrival reorders
// what is there.
//
// Keys go by [Epoch]: a fresh key, sealed by HPKE (RFC 9180, with the hybrid of
// X25519 and ML-KEM-768) to each member and each open invite, with the keys of
// the epochs before it encrypted under it. So the log alone lets a member open
// all of a group's keys, a removed one none that come after, and a relay none.
// It is the invite's package as well: whoever has the log, member or relay, can
// serve a join. Device names are sealed in the log, too.
//
// Where it stands in the flow: node keeps and exchanges statements, replication,
// seal and relay ask a State who may write and a [Keyring] for keys. The package
// does no I/O, reads no clock, starts no goroutine and logs nothing: time and
// randomness are passed in. The one exception is HPKE's encapsulation, which in
// the standard library always draws from the system.
//
// Some things are asked of any device that is online, without a person: see
// Log.Tend.
//
// A Log has one owner. Reading it (Evaluate, Since, Hello) from many goroutines
// is safe while none adds to it. The functions that make statements do not
// change the Log: the caller stores what they return, then adds it, then sends
// it, and makes no other statement in between.
package group
