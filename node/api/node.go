package api

import (
	"context"
	"time"

	"sheaf/node/config"
)

// Node is what a running node answers to. Its methods may be called from many
// goroutines at once; each returns when ctx ends.
//
// Errors that a person is to see are *Error: they say what happened and what to
// do. Any other error is reported as an internal failure and logged. A nil slice
// in an answer is served as an empty one.
type Node interface {
	// Status is cheap: it is asked for once a second by whoever watches.
	Status(ctx context.Context) (Status, error)
	// Wait returns nil when the node has nothing left to scan, fetch or apply
	// and every connected peer has all that is ours. When ctx ends first the
	// error is ErrTimeout and names what is still open.
	Wait(ctx context.Context, o WaitOptions) error
	// Addresses gives the node's own multiaddrs, each ending in /p2p/ID.
	Addresses(ctx context.Context) ([]string, error)
	// Connect dials a multiaddr that ends in /p2p/ID now and remembers it.
	Connect(ctx context.Context, addr string) (Peer, error)

	// Devices lists the devices of the account, this one first.
	Devices(ctx context.Context) ([]Device, error)
	// InviteDevice makes a code that lets one more device join the account.
	InviteDevice(ctx context.Context, expires time.Duration) (Invitation, error)
	RenameDevice(ctx context.Context, name, newName string) error
	RemoveDevice(ctx context.Context, name string) error

	// Pause stops sending, fetching and applying for a folder, or, for "", for
	// all; Resume ends it.
	Pause(ctx context.Context, folder string) error
	Resume(ctx context.Context, folder string) error

	// List lists a directory of the tree ("/", "/Sync", "/Sync/...").
	List(ctx context.Context, path string, recursive bool, page Page) (Listing, error)
	Conflicts(ctx context.Context) ([]Conflict, error)
	// ResolveConflict ends the conflict at path, the original's or a copy's.
	ResolveConflict(ctx context.Context, path string, keep Keep) error

	Trash(ctx context.Context) ([]TrashItem, error)
	// RestoreTrash brings items (IDs, or the paths they had) back to where they
	// were, or into the directory to if it is not "". It never replaces
	// anything, and returns the paths given, in the order of ids.
	RestoreTrash(ctx context.Context, ids []string, to string) ([]string, error)
	// EmptyTrash deletes items for good, all of them when ids is empty. It
	// returns how many items and bytes that were.
	EmptyTrash(ctx context.Context, ids []string) (n int, bytes int64, err error)

	// Relays lists the relays that the account uses.
	Relays(ctx context.Context) ([]Relay, error)
	// AddRelay has all devices of the account use the relay whose code it is.
	AddRelay(ctx context.Context, code string) (Relay, error)
	// RemoveRelay has them use it no more. What it keeps stays there.
	RemoveRelay(ctx context.Context, name string) error
	// Backups lists the backups of all devices.
	Backups(ctx context.Context) ([]Backup, error)
	// AddBackup has relays keep a mirror of a directory of this device, from now on.
	AddBackup(ctx context.Context, dir, name string) (Backup, error)
	// RemoveBackup ends a backup and moves what is stored to the trash; with keep what
	// is stored stays.
	RemoveBackup(ctx context.Context, name string, keep bool) error
	// History lists the versions of a file that relays keep, the newest first.
	History(ctx context.Context, path string) ([]Version, error)
	// Restore brings what relays keep back to this disk. It replaces nothing; done
	// again, it goes on where it was.
	Restore(ctx context.Context, o RestoreOptions) (Restored, error)
	// Copy puts things of the tree, or of this disk, into a directory of the archive;
	// with move, things of the archive are moved. It returns when a relay has them.
	Copy(ctx context.Context, from []string, to string, move bool) (Copied, error)
	// Remove deletes something of the archive: it is in the trash for a while.
	Remove(ctx context.Context, path string, recursive bool) error

	Why(ctx context.Context, path string) (Why, error)
	Holds(ctx context.Context) ([]Hold, error)
	// ReleaseHold lets a held mass change happen; RevertHold undoes it.
	ReleaseHold(ctx context.Context, id string) error
	RevertHold(ctx context.Context, id string) error
	// Log lists the change-sets at and below path (all for ""), newest first, at
	// most limit of them.
	Log(ctx context.Context, path string, limit int) ([]ChangeSet, error)
	// Doctor checks the node; deep also reads everything it has on disk.
	Doctor(ctx context.Context, deep bool) ([]Check, error)

	Config(ctx context.Context) ([]config.Value, error)
	SetConfig(ctx context.Context, key, value string) error

	// Events gives what happens from now on, after first giving the events with
	// an ID above after that are still held; after 0 gives only new ones. If
	// some above after are no longer held, the first event is an EventGap: the
	// receiver has to ask for the state anew. The channel is closed by the node
	// when ctx ends, when the node stops, or when the receiver is too slow.
	Events(ctx context.Context, after uint64) (<-chan Event, error)
	// Stop asks the node to stop, and to start again if restart. It returns
	// when that has begun.
	Stop(ctx context.Context, restart bool) error
}
