// Package daemon is the relay program's inside: a home directory, and what runs on it.
//
// The picture to hold: a relay is a mesh that lets in the members of the groups it hosts,
// and guests who come with a code; an archive on packs; and a socket at which the person
// who runs it asks and says things. All that has to outlive a restart is in the home:
//
//	key           the relay's identity
//	config.toml   settings, all of them optional
//	invites       the codes that were given out, without their secrets
//	packs/        blocks (relay/pack)
//	archive/      records and who refers to what (relay/archive)
//	sheaf.lock    locked while a process works on the home
//	sheaf.sock    the person's socket
//
// To back a relay up is to copy the directory while it does not run.
//
// It decides nothing about what is kept, and can read none of it.
package daemon
