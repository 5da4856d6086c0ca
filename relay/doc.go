// Package relay is what the sheaf-relay program is made of.
//
// An ArchiveService speaks the archive protocol (replication/wire) with devices: it
// hands what they bring to a relay/archive and gives them what is there. A device is
// served what its group's statements allow, asked anew at each request, so that a
// removed device is cut off in the middle of a stream.
package relay
