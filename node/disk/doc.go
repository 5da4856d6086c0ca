// Package disk is everything that touches the files of one folder.
//
// It stands at both ends of the flow: it observes (list, hash, watch) what the
// engine then decides about, and it carries out what was decided (install,
// rename, discard). It decides nothing about versions and remembers nothing
// beyond the folder itself: the caller says what it believes a path holds, and
// every operation that could hurt a file checks that belief against the disk
// at the last moment and, where the system can exchange two names in one step,
// once more afterwards. Disagreement is ErrChanged, and the person's file stays.
//
// # What a reader must hold
//
// A person's bytes are never overwritten and never unlinked. New content is
// built under .sheaf/tmp, made durable, and put in place by a rename that
// either needs the name to be free or swaps the two files; what was displaced
// or discarded lies in .sheaf/trash under its own path, where mv can get it.
// The order is always: bytes durable, names changed, names durable, and only
// then does the caller write down that it happened.
//
//	.sheaf/folder              the marker: folder ID and a random number
//	.sheaf/lock                locked while a node has the folder open; says which, as a hint
//	.sheaf/tmp/KEY             content being built; never a person's only copy
//	.sheaf/stage/KEY           a file on its way round a rename cycle
//	.sheaf/stage/KEY.json      where it was
//	.sheaf/trash/BUCKET/PATH   what was displaced or discarded
//	.sheaf/trash/BUCKET.json   when, why and by which device
//	.sheaf/aside/N             a replacement under way on a disk that cannot exchange
//	.sheafignore               what the person leaves out
//
// # Paths
//
// Paths are slash-separated, relative to the folder's root, "." being the
// root. On Linux and macOS the directory of every path is opened from the
// root's descriptor without following any symbolic link and without crossing
// into another mounted file system, and the last name is used relative to
// that descriptor. This is stricter than os.Root, which follows links that
// stay inside: a directory swapped for a link to its neighbour would send a
// write to the wrong file. Elsewhere os.Root is used, after a look for links.
//
// # What it never does
//
// It follows no symbolic link, opens no FIFO, device or socket, takes no
// unreadable directory for an empty one, retries no failed fsync, and knows
// neither the index nor the network.
package disk
