// Package mesh is a device's place in the network: it listens, finds the
// devices it knows, keeps one usable connection to each, and hands streams to
// whoever speaks a protocol over them.
//
// The picture to hold: three circles, judged anew at each connection and at
// each stream.
//
//	stranger ──X  no stream, no list of protocols, no address
//	guest    ──>  may say hello and open the join protocol; nothing else
//	member   ──>  may open every protocol that has a handler
//
// A peer is a member when Config.Allowed says so. It is a guest while
// Config.Joining is true, or because this device itself asked for it by
// [Mesh.Connect]. Everybody else is refused right after the handshake that
// proves who they are. A peer counts as connected ([Event], [Peer]) when both
// sides have told each other that they hold the other for a member, which they
// do in the first exchange over a new connection (see hello.go).
//
// It stands at the edge of the flow: sessions ask it for streams, and it asks
// them nothing. Below it is go-libp2p, put together in host.go from the parts
// we use: TCP (TLS 1.3, then Noise; yamux) and QUIC, with certificates that are
// valid by every clock (tls.go). What the parts we do not use would offer
// (relaying, address discovery by strangers, ping, public bootstrap) is not
// switched off but absent.
//
// It never decides who is a member, reads no folder, sends nothing to any host
// that is neither named by its caller, nor in the address book, nor seen on the
// local network, and never tells an address of the local network to a peer on
// the public one.
package mesh
