package api

import (
	"encoding/json"
	"time"
)

// State says what a node or one of its folders is doing.
type State string

// The states. A node's state is the first of error, paused (all folders are),
// syncing, scanning that holds for a folder of its, else idle.
const (
	Idle     State = "idle"
	Scanning State = "scanning"
	Syncing  State = "syncing"
	Paused   State = "paused"
	Failing  State = "error"
)

// Status is the whole of `sheaf status --json`.
type Status struct {
	Device   Self      `json:"device"`
	State    State     `json:"state" enum:"idle,scanning,syncing,paused,error"`
	Folders  []Folder  `json:"folders"`
	Peers    []Peer    `json:"peers"`
	Relays   []Relay   `json:"relays"`
	Traffic  Traffic   `json:"traffic"`
	Problems []Problem `json:"problems" doc:"What is wrong with the node as a whole"`
	Started  time.Time `json:"started_at" doc:"When the node started"`
}

// Self is this device.
type Self struct {
	Name    string `json:"name"`
	ID      string `json:"id" doc:"Its peer ID"`
	Version string `json:"version" doc:"The program's version"`
}

// A Folder is one replicated folder as it stands on this device.
type Folder struct {
	Name        string    `json:"name" doc:"Its name in commands, such as Sync"`
	Path        string    `json:"path" doc:"Where it is on this disk"`
	Kind        string    `json:"kind" doc:"What it is for: sync, and in later releases backup, archive, shared"`
	State       State     `json:"state" enum:"idle,scanning,syncing,paused,error"`
	Files       int64     `json:"files"`
	Directories int64     `json:"directories"`
	Bytes       int64     `json:"bytes"`
	NeedFiles   int64     `json:"need_files" doc:"Files that others have and this disk does not yet"`
	NeedBytes   int64     `json:"need_bytes"`
	Conflicts   int64     `json:"conflicts" doc:"Conflict copies there are"`
	Problems    []Problem `json:"problems"`
}

// A Problem is something that waits for a person, with what to do about it.
type Problem struct {
	Path   string `json:"path" doc:"What it is about, empty for the whole"`
	What   string `json:"what" doc:"What happened and why"`
	Remedy string `json:"remedy" doc:"What to do"`
}

// How a peer is reached.
const (
	PathLAN     = "lan"
	PathDirect  = "direct"
	PathRelayed = "relayed"
)

// A Peer is another device this one syncs with.
type Peer struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Connected bool      `json:"connected"`
	Path      string    `json:"path" enum:"lan,direct,relayed," doc:"How it is reached; empty if it is not"`
	RTT       float64   `json:"rtt_ms" doc:"Round trip in milliseconds; 0 if not known"`
	InStep    bool      `json:"in_step" doc:"Whether it has all that is ours and we all that is its"`
	Address   string    `json:"address" doc:"The multiaddr in use; empty if not connected"`
	LastSeen  time.Time `json:"last_seen,omitzero" doc:"When it was last connected; absent if never"`
}

// A Relay is an always-on node that keeps, sealed, what is to outlive the devices.
type Relay struct {
	Name          string    `json:"name"`
	ID            string    `json:"id" doc:"Its peer ID"`
	Connected     bool      `json:"connected"`
	StoredThrough time.Time `json:"stored_through,omitzero" doc:"When it last had durably stored all that this device has; absent if never since the node started"`
	QuotaBytes    int64     `json:"quota_bytes" doc:"What the account may keep there"`
	UsedBytes     int64     `json:"used_bytes" doc:"What it keeps there, sealed, the trash and versions included"`
	Problems      []Problem `json:"problems"`
}

// How things are with a backup.
const (
	BackupStored    = "stored"    // relays have all of it
	BackupStoring   = "storing"   // what was seen is on its way
	BackupScanning  = "scanning"  // it is being looked through
	BackupPaused    = "paused"    // by a person
	BackupFailing   = "error"     // its directory is not there, or cannot be read
	BackupElsewhere = "elsewhere" // of another device
)

// A Backup is a directory of a device of which relays keep a mirror.
type Backup struct {
	Name          string    `json:"name"`
	Device        string    `json:"device" doc:"Whose directory it is"`
	Path          string    `json:"path" doc:"Where it stands in the tree"`
	Source        string    `json:"source" doc:"The directory; empty if it is on another device"`
	State         string    `json:"state" enum:"stored,storing,scanning,paused,error,elsewhere"`
	Files         int64     `json:"files"`
	Bytes         int64     `json:"bytes"`
	StoredThrough time.Time `json:"stored_through,omitzero" doc:"When a relay last had all of it durably; absent if never since the node started"`
	SeenThrough   time.Time `json:"seen_through,omitzero" doc:"Of another device's: when it was last read from a relay"`
	Waiting       int64     `json:"waiting_files" doc:"Files whose content could not be read yet"`
	Problems      []Problem `json:"problems"`
}

// A Version is one state of a file that relays keep.
type Version struct {
	ID       string    `json:"id"`
	At       time.Time `json:"at" doc:"When it came to the relay, by its clock"`
	Until    time.Time `json:"until,omitzero" doc:"When it was replaced or deleted; absent if it was not"`
	Device   string    `json:"device" doc:"The device that wrote it"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified_at,omitzero"`
	Current  bool      `json:"current"`
	Deleted  bool      `json:"deleted" doc:"It says that the file was deleted; what is restored is its last content"`
	Whole    bool      `json:"whole" doc:"Its content is there"`
}

// RestoreOptions say what Restore brings back, and where to.
type RestoreOptions struct {
	Path    string    // in the tree
	To      string    // a path on this disk, or one in the tree that is on this disk; "": where it was
	Version string    // ID of a version of one file, or the start of one
	At      time.Time // as it was then; zero: as it is now
}

// Restored is what a restore came to.
type Restored struct {
	To          string    `json:"to" doc:"Where it is now, on this disk"`
	Files       int64     `json:"files" doc:"Files and links that were written"`
	Directories int64     `json:"directories"`
	Bytes       int64     `json:"bytes" doc:"Of the files that were written"`
	There       int64     `json:"there" doc:"Files and links that were there already, the same"`
	Problems    []Problem `json:"problems" doc:"What could not be restored, and why"`
}

// Copied is what a copy within the tree, or into it, came to.
type Copied struct {
	Paths []string `json:"paths" doc:"Where each thing is now, in the order asked"`
	Files int64    `json:"files"`
	Bytes int64    `json:"bytes"`
}

// Traffic counts payload and protocol since the node started.
type Traffic struct {
	SentBytes     int64 `json:"sent_bytes"`
	ReceivedBytes int64 `json:"received_bytes"`
}

// WaitOptions say what Wait waits for besides disk and connected peers.
type WaitOptions struct {
	Relay bool // until each relay has durably stored everything
}

// A Device is a member of the account.
type Device struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	This      bool      `json:"this" doc:"Whether it is the one that answers"`
	Connected bool      `json:"connected"`
	Joined    time.Time `json:"joined_at,omitzero"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
}

// An Invitation lets one more device join the account. Its code is a secret.
type Invitation struct {
	Code    string    `json:"code"`
	Expires time.Time `json:"expires_at"`
}

// A Page is a part of a listing: what comes after the cursor After (empty: from
// the start), at most Limit entries (0: as many as the server gives).
type Page struct {
	After string
	Limit int
}

// A Listing is one page of a directory.
type Listing struct {
	Path    string  `json:"path"`
	Entries []Entry `json:"entries"`
	Next    string  `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// The states of an entry.
const (
	EntryInStep  = "in-step"  // here, and as the index has it
	EntryWaiting = "waiting"  // known, to be fetched
	EntryBlocked = "blocked"  // something holds it: ask why
	EntryAbsent  = "excluded" // left out on this device
)

// An Entry is one file, directory or symbolic link in the tree.
type Entry struct {
	Name     string    `json:"name"`
	Path     string    `json:"path" doc:"Its path in the tree, from /"`
	Kind     string    `json:"kind" enum:"file,directory,symlink"`
	Size     int64     `json:"size" doc:"Bytes; 0 for a directory"`
	Modified time.Time `json:"mtime"`
	Mode     string    `json:"mode" doc:"Permission bits in octal, such as 0644" pattern:"^0[0-7]{3,4}$"`
	Target   string    `json:"target,omitempty" doc:"Of a symbolic link"`
	Here     bool      `json:"here" doc:"Whether its bytes are on this disk"`
	State    string    `json:"state" enum:"in-step,waiting,blocked,excluded"`
}

// A Conflict is a conflict copy and the file it belongs to.
type Conflict struct {
	Path     string    `json:"path" doc:"The conflict copy"`
	Of       string    `json:"of" doc:"The file it belongs to"`
	Device   string    `json:"device" doc:"Who wrote the copy"`
	OfDevice string    `json:"of_device" doc:"Who wrote what now has the name"`
	Modified time.Time `json:"mtime"`
	Size     int64     `json:"size"`
}

// Keep says which side of a conflict stays.
type Keep string

// The choices: Mine is what this device wrote last, Theirs what another did,
// Both makes the copy an ordinary file.
const (
	KeepMine   Keep = "mine"
	KeepTheirs Keep = "theirs"
	KeepBoth   Keep = "both"
)

// A TrashItem is something deleted or displaced that can still be restored.
type TrashItem struct {
	ID      string    `json:"id"`
	Path    string    `json:"path" doc:"The path it had in the tree"`
	Deleted time.Time `json:"deleted_at"`
	Purge   time.Time `json:"purge_at" doc:"When it is deleted for good"`
	Bytes   int64     `json:"bytes"`
	Device  string    `json:"device" doc:"The device that deleted it"`
}

// Why tells all this device knows about one path.
type Why struct {
	Path      string    `json:"path"`
	Summary   string    `json:"summary" doc:"The state in one sentence"`
	Kind      string    `json:"kind,omitempty" doc:"Absent if there is nothing at the path"`
	Size      int64     `json:"size"`
	Modified  time.Time `json:"mtime,omitzero"`
	Here      bool      `json:"here"`
	State     string    `json:"state,omitempty"`
	Version   string    `json:"version,omitempty" doc:"Names this content, the same on every device"`
	Author    string    `json:"author,omitempty" doc:"The device that wrote it"`
	Written   time.Time `json:"written_at,omitzero" doc:"When the author recorded it"`
	Others    []string  `json:"others" doc:"Other devices known to have this version"`
	WaitsFor  string    `json:"waits_for,omitempty" doc:"What has to happen next; absent if nothing"`
	WaitsFrom []string  `json:"waits_from" doc:"Devices it can come from"`
	Conflicts []string  `json:"conflicts" doc:"Conflict copies of it"`
	Problems  []Problem `json:"problems" doc:"What holds it: an ignore rule, a name clash, a permission, with the remedy"`
}

// A Hold is a mass change that waits for a person's word.
type Hold struct {
	ID      string    `json:"id"`
	Folder  string    `json:"folder"`
	Device  string    `json:"device" doc:"Where the change was made"`
	At      time.Time `json:"at"`
	Deleted int64     `json:"deleted" doc:"Entries it deletes"`
	Changed int64     `json:"changed" doc:"Entries it rewrites"`
	Total   int64     `json:"total" doc:"Entries the folder has"`
	Sample  []string  `json:"sample" doc:"Some of the paths"`
	What    string    `json:"what" doc:"What happened, in one sentence"`
}

// A ChangeSet is what one device did in one go.
type ChangeSet struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Device  string    `json:"device"`
	Folder  string    `json:"folder"`
	Changes []Change  `json:"changes"`
	More    int64     `json:"more" doc:"Further changes in the set that are not listed"`
}

// The verbs of changes.
const (
	Created  = "created"
	Modified = "modified"
	Moved    = "moved"
	Deleted  = "deleted"
)

// A Change is what happened to one path.
type Change struct {
	What string `json:"what" enum:"created,modified,moved,deleted"`
	Path string `json:"path"`
	From string `json:"from,omitempty" doc:"The path before, of what moved"`
	Kind string `json:"kind" enum:"file,directory,symlink"`
	Size int64  `json:"size"`
}

// The results of a check.
const (
	CheckOK      = "ok"
	CheckWarning = "warning"
	CheckFault   = "fault"
)

// A Check is one thing `sheaf doctor` looked at.
type Check struct {
	Name   string `json:"name"`
	Result string `json:"result" enum:"ok,warning,fault"`
	What   string `json:"what" doc:"What was found"`
	Remedy string `json:"remedy,omitempty" doc:"What to do; absent when all is well"`
}

// The types of events.
const (
	EventGap      = "gap"      // some events were lost: ask for the state anew; no data
	EventState    = "state"    // a folder or the node changed state; data: Folder or Status
	EventTransfer = "transfer" // a file is being fetched; data: Transfer
	EventPeer     = "peer"     // a peer came, went or got in step; data: Peer
	EventConflict = "conflict" // a conflict copy appeared; data: Conflict
	EventHold     = "hold"     // a mass change waits; data: Hold
	EventProblem  = "problem"  // something needs a person; data: Problem
	EventInvite   = "invite"   // an invitation was used; data: Device
)

// An Event is something that happened. IDs rise by time within one run of a
// node and are never zero.
type Event struct {
	ID   uint64          `json:"id"`
	Type string          `json:"type"`
	At   time.Time       `json:"at"`
	Data json.RawMessage `json:"data,omitempty" doc:"By type: see the constants named Event..."`
}

// A Transfer is the progress of one file.
type Transfer struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes" doc:"Here so far"`
	Size  int64  `json:"size"`
	From  string `json:"from" doc:"The device it comes from"`
}
