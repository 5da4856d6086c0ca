// Package api is the local programming interface of a node: JSON over HTTP on a
// Unix socket for the command line, and on loopback TCP for other programs.
//
//	sheaf (cmd) ── Client ──> sheaf.sock ──┐
//	                                       ├─ Server ──> Node (package node)
//	a program ── HTTP, token ──> 127.0.0.1 ┘
//
// Server and Client stand on the same types, so that what `sheaf X --json`
// prints is what GET /api/v1/x answers. Node is everything the outside may ask
// of a node; nothing else goes in or out.
//
// The invariant of the two doors: whoever can open the socket file (mode 0600)
// is the user. Whoever comes by TCP is the user only with the token, only under
// a loopback Host (a web page that points its own name at 127.0.0.1 has another
// one) and never from a foreign Origin. No GET changes anything.
//
// The package never decides anything about files: it checks form, calls Node,
// and turns the answer, or the Error with its remedy, into HTTP.
package api
