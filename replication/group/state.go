package group

import (
	"crypto/sha256"
	"slices"
	"time"
)

// A State is what a set of statements comes to. It does not change; a log that
// has grown has another one. Its slices are to be read only.
type State struct {
	Group   ID
	Purpose Purpose
	Label   string     // name of a shared folder; empty until Named
	Members []Member   // by seniority
	Removed []Departed // in the order of their removal
	Invites []Invitation
	Epochs  []EpochInfo // in order
	Current StatementID // the epoch to write under
	Alarms  []Alarm
	Void    []Voided // statements without effect, in order

	writers  map[DeviceID]bool
	cuts     map[DeviceID]map[[8]byte]uint64 // of devices that wrote once
	replicas map[[8]byte]uint64              // all cuts together

	epochs  map[StatementID]*epochBody
	keys    map[DeviceID][]offeredKey
	names   map[DeviceID]nameSource
	label   sealedName
	stale   bool
	granted map[DeviceID][]DeviceID // who sealed the current key to whom
}

// A Member is a device that belongs to the group.
type Member struct {
	Device                // Name is empty until State.Named
	Role      Role        // what it may do
	MayInvite bool        // an editor that may invite editors and viewers
	Account   ID          // in a share: whose device it says it is; only owners' Adds vouch for it
	Paper     bool        // a recovery phrase
	Joined    StatementID // what admitted it
	Invite    StatementID // what it joined through; zero if it was added
}

// A Departed is a device that was removed, for ever.
type Departed struct {
	Device
	By   DeviceID // who removed it
	Cuts []Cut    // up to where its changes count
}

// InviteStatus is what an invite is good for.
type InviteStatus uint8

// The statuses of invites. Expiry is not among them: it depends on a clock.
const (
	InviteOpen      InviteStatus = iota + 1
	InviteUsed                   // claimed as often as it allows
	InviteClosed                 // revoked, or its inviter or somebody who knew the code was removed
	InviteOverdrawn              // claimed more often than it allows: see Alarm
)

// String gives the status's name.
func (s InviteStatus) String() string {
	switch s {
	case InviteOpen:
		return "open"
	case InviteUsed:
		return "used"
	case InviteClosed:
		return "closed"
	case InviteOverdrawn:
		return "overdrawn"
	}
	return "unknown"
}

// An Invitation is an invite as it stands.
type Invitation struct {
	ID        StatementID
	Public    DeviceID // the public half of the code's key
	By        DeviceID
	Role      Role
	MayInvite bool
	Uses      int
	Expires   time.Time // judged by who serves a claim, with its own clock
	Claims    []DeviceID
	Status    InviteStatus

	seal Device // to seal epoch keys to
}

// An EpochInfo is a group key's public side.
type EpochInfo struct {
	ID   StatementID
	By   DeviceID
	Void bool // made by a device that was being removed: opened still, never written under
}

// AlarmKind is what is wrong.
type AlarmKind uint8

// The kinds of alarms.
const (
	// Fork: a device said two things at one place of its own sequence. Its keys
	// are in two hands, or its disk was restored from a copy.
	Fork AlarmKind = iota + 1
	// DoubleClaim: an invite was claimed by more devices than it allows: the code
	// leaked, or was asked for in two places. See Log.Confirm.
	DoubleClaim
)

// String gives the kind's name.
func (k AlarmKind) String() string {
	switch k {
	case Fork:
		return "fork"
	case DoubleClaim:
		return "double claim"
	}
	return "unknown"
}

// An Alarm is something that an owner must see. It is Settled when nothing is
// left to decide: the forking device is removed, each claimant is confirmed or
// removed.
type Alarm struct {
	Kind       AlarmKind
	Devices    []DeviceID    // the forking device; the claimants
	Invite     StatementID   // of a DoubleClaim
	Statements []StatementID // the evidence
	Settled    bool
}

// A Voided is a statement without effect and why.
type Voided struct {
	ID     StatementID
	Kind   Kind
	Author DeviceID
	Why    string
}

// Member gives a member by its ID.
func (s State) Member(id DeviceID) (Member, bool) {
	i := slices.IndexFunc(s.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return s.Members[i], true
}

// IsRemoved tells whether a device was removed from the group.
func (s State) IsRemoved(id DeviceID) bool {
	return slices.ContainsFunc(s.Removed, func(d Departed) bool { return d.ID == id })
}

// CanWrite tells whether a device is a member that may write files.
func (s State) CanWrite(id DeviceID) bool { return s.writers[id] }

// Invite gives an effective invite by its ID.
func (s State) Invite(id StatementID) (Invitation, bool) {
	i := slices.IndexFunc(s.Invites, func(v Invitation) bool { return v.ID == id })
	if i < 0 {
		return Invitation{}, false
	}
	return s.Invites[i], true
}

// Accepts tells whether the counter'th change by a replica counts, whoever
// brings it: not if it lies beyond what a removed (or demoted) device had done
// when it was removed. Such a change is set aside and shown, neither applied nor
// dropped. It does not say that the replica's device may write: see AcceptsFrom.
func (s State) Accepts(replica [8]byte, counter uint64) bool {
	last, cut := s.replicas[replica]
	return !cut || counter <= last
}

// AcceptsFrom tells whether the counter'th change by a replica, signed by a
// device, counts: the device may write now, or it could once and the change is
// among those that its removal lets stand. Of a removed device's replicas, those
// that the remover did not name are not accepted at all.
func (s State) AcceptsFrom(author DeviceID, replica [8]byte, counter uint64) bool {
	if !s.Accepts(replica, counter) {
		return false
	}
	if s.writers[author] {
		return true
	}
	last, cut := s.cuts[author][replica]
	return cut && counter <= last
}

// FolderID derives the ID of one of the group's folders from its name, such as
// "sync": the first 16 bytes of the SHA-256 of a label, the group's ID and the
// name. Every member derives the same; nobody has to say it.
func (s State) FolderID(name string) [16]byte {
	h := sha256.New()
	h.Write([]byte("sheaf folder 1\x00"))
	h.Write(s.Group[:])
	h.Write([]byte(name))
	return [16]byte(h.Sum(nil)[:16])
}

// NeedsEpoch tells whether somebody who is no member, or a code that should be
// dead, can open the current epoch: an owner should call Log.Rotate. This is so
// after a member left by itself, or when removals met that did not know of each
// other.
func (s State) NeedsEpoch() bool { return s.stale }

// Ungranted gives the members and open invites to whom the current epoch's key
// is not sealed as far as by can rely on: not by an owner, themselves, or by.
// Any member that has the key serves them with Log.Grant.
func (s State) Ungranted(by DeviceID) []DeviceID {
	var out []DeviceID
	for _, d := range s.recipients() {
		relied := slices.ContainsFunc(s.granted[d.ID], func(g DeviceID) bool {
			m, ok := s.Member(g)
			return g == d.ID || g == by || (ok && m.Role == Owner)
		})
		if !relied {
			out = append(out, d.ID)
		}
	}
	return out
}

// recipients are those who ought to have the current key.
func (s State) recipients() []Device {
	var out []Device
	for _, m := range s.Members {
		out = append(out, m.Device)
	}
	for _, i := range s.Invites {
		if i.Status == InviteOpen {
			out = append(out, i.seal)
		}
	}
	return out[:min(len(out), MaxMembers)]
}
