// Package replication is a session between two nodes: how two devices that
// share folders come to hold the same entries, and the same bytes.
//
// The picture to hold: two planes that never wait for each other.
//
//	index plane   one stream each way per session; small, ordered, live.
//	              A subscriber names, per folder, the sequence number of the
//	              peer's store up to which it has durably applied; the publisher
//	              sends batches of what changed after it, and stays.
//	block plane   streams opened by need; bulk, any order, from many peers.
//	              One Fetcher per node asks all peers that share a folder, each
//	              as fast as it answers, and believes nothing it has not hashed.
//
// The invariant: a cursor moves only together with the entries below it, in
// one commit of [Index.Apply]. Whatever breaks, wherever, the next session
// asks again from there, and taking a batch twice changes nothing.
//
// It stands between the stores and disks of two nodes. It works over
// interfaces ([Stream], [Opener], [Index], [Source], [Authority]) and never
// touches a disk, a database or a network itself; it decides nothing about
// who may see a folder, but asks before each batch and each answer. What a
// peer sends that it may not send costs that peer the folder, and nothing
// else.
//
// Relays will travel the same index plane with sealed records in place of
// plain entries; their place is a protocol of their own beside these two.
package replication
