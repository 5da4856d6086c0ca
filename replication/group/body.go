package group

import "fmt"

// Kind is what a statement says.
type Kind uint8

// The kinds of statements.
const (
	Genesis Kind = iota + 1 // founds the group: first devices, first epoch
	Add                     // admits a device
	Invite                  // lets the holders of a code join
	Join                    // a device joins through an invite
	Remove                  // removes devices, for ever
	SetRole                 // changes a member's role
	Rename                  // names a device
	Revoke                  // withdraws an invite
	Epoch                   // a fresh group key
	Grant                   // the key of an epoch, sealed to further devices
)

var kindNames = [...]string{"", "genesis", "add", "invite", "join", "remove", "role", "rename", "revoke", "epoch", "grant"}

// String gives the kind's name.
func (k Kind) String() string {
	if k >= Genesis && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A body is what a statement's author signs. Exactly one of the pointers is set;
// it is the kind.
type body struct {
	Version uint8         `cbor:"0,keyasint"`
	Group   ID            `cbor:"1,keyasint,omitzero"` // zero in a Genesis, whose hash it is
	Author  DeviceID      `cbor:"2,keyasint"`
	Seq     uint64        `cbor:"3,keyasint"`           // the author's own count, from 1
	Prev    StatementID   `cbor:"4,keyasint,omitzero"`  // the author's own statement before
	Parents []StatementID `cbor:"5,keyasint,omitempty"` // the heads its author had seen, ascending

	Genesis *genesisBody `cbor:"16,keyasint,omitempty"`
	Add     *addBody     `cbor:"17,keyasint,omitempty"`
	Invite  *inviteBody  `cbor:"18,keyasint,omitempty"`
	Join    *joinBody    `cbor:"19,keyasint,omitempty"`
	Remove  *removeBody  `cbor:"20,keyasint,omitempty"`
	Role    *roleBody    `cbor:"21,keyasint,omitempty"`
	Rename  *renameBody  `cbor:"22,keyasint,omitempty"`
	Revoke  *revokeBody  `cbor:"23,keyasint,omitempty"`
	Epoch   *epochBody   `cbor:"24,keyasint,omitempty"`
	Grant   *grantBody   `cbor:"25,keyasint,omitempty"`
}

// bodyVersion is the version of all that a body says, cryptography included.
// Another one is refused, never guessed at.
const bodyVersion = 1

// A certificate is a Device without its name.
type certificate struct {
	ID    DeviceID  `cbor:"0,keyasint"`
	Seal  []byte    `cbor:"1,keyasint"`
	Proof Signature `cbor:"2,keyasint"`
}

func certify(d Device) certificate { return certificate{ID: d.ID, Seal: d.Seal, Proof: d.Proof} }

func (c certificate) device() Device { return Device{ID: c.ID, Seal: c.Seal, Proof: c.Proof} }

// A sealedName is a name sealed under an epoch's key; zero Epoch: that of the
// Genesis it stands in.
type sealedName struct {
	Epoch StatementID `cbor:"0,keyasint,omitzero"`
	Box   []byte      `cbor:"1,keyasint"`
}

type founder struct {
	Device certificate `cbor:"0,keyasint"`
	Name   sealedName  `cbor:"1,keyasint"`
	Paper  bool        `cbor:"2,keyasint,omitempty"`
}

// genesisBody: the first founder is the author. All are owners, senior in the
// order given, the paper device before all.
type genesisBody struct {
	Purpose  Purpose    `cbor:"0,keyasint"`
	Founders []founder  `cbor:"1,keyasint"`
	Account  ID         `cbor:"2,keyasint,omitzero"` // of a share: the founders' account
	Label    sealedName `cbor:"3,keyasint"`
	Epoch    epochBody  `cbor:"4,keyasint"`
	Consent  Signature  `cbor:"5,keyasint,omitzero"` // of the paper device, so that nobody else founds a group in its name
}

type addBody struct {
	Device    certificate `cbor:"0,keyasint"`
	Name      sealedName  `cbor:"1,keyasint"`
	Role      Role        `cbor:"2,keyasint"`
	MayInvite bool        `cbor:"3,keyasint,omitempty"`
	Account   ID          `cbor:"4,keyasint,omitzero"`
	Consent   Signature   `cbor:"5,keyasint,omitzero"` // makes the device a paper device: its own word for it
}

type inviteBody struct {
	Public    certificate `cbor:"0,keyasint"` // of the keys that the code's secret yields
	Role      Role        `cbor:"1,keyasint"`
	MayInvite bool        `cbor:"2,keyasint,omitempty"`
	Uses      uint32      `cbor:"3,keyasint"`
	Expires   int64       `cbor:"4,keyasint"` // Unix seconds; judged by who serves a claim
	Names     sealedName  `cbor:"5,keyasint"` // the key of joiners' names, for members
	Preview   []byte      `cbor:"6,keyasint"` // who invites to what, for holders of the code
	Epoch     StatementID `cbor:"7,keyasint"`
	Key       []byte      `cbor:"8,keyasint"` // that epoch's key sealed to Public
}

// joinBody is made of the code, the joiner's keys and its name alone, so that a
// joiner who asks twice, here and there, says the same thing and not two.
type joinBody struct {
	Device  certificate `cbor:"0,keyasint"`
	Public  DeviceID    `cbor:"1,keyasint"` // the invite's
	Name    []byte      `cbor:"2,keyasint"` // sealed under the key in the invite's Names
	Account ID          `cbor:"3,keyasint,omitzero"`
	Proof   Signature   `cbor:"4,keyasint"` // of the above and the invite, by the invite's key
}

type departure struct {
	Device DeviceID `cbor:"0,keyasint"`
	Cuts   []Cut    `cbor:"1,keyasint,omitempty"`
}

type removeBody struct {
	Targets []departure `cbor:"0,keyasint"`
}

type roleBody struct {
	Device    DeviceID `cbor:"0,keyasint"`
	Role      Role     `cbor:"1,keyasint"`
	MayInvite bool     `cbor:"2,keyasint,omitempty"`
	Cuts      []Cut    `cbor:"3,keyasint,omitempty"` // for a Viewer: what it wrote before
}

type renameBody struct {
	Device DeviceID   `cbor:"0,keyasint"`
	Name   sealedName `cbor:"1,keyasint"`
}

type revokeBody struct {
	Invite StatementID `cbor:"0,keyasint"`
}

// A keyBox is an epoch's key sealed to one device or invite.
type keyBox struct {
	To  DeviceID `cbor:"0,keyasint"`
	Box []byte   `cbor:"1,keyasint"`
}

// A link is the key of an earlier epoch under the key of a later one.
type link struct {
	Epoch StatementID `cbor:"0,keyasint"`
	Box   []byte      `cbor:"1,keyasint"`
}

type epochBody struct {
	Commit [32]byte `cbor:"0,keyasint"` // derived one way from the key: tells a right key from a wrong one
	Keys   []keyBox `cbor:"1,keyasint"`
	Links  []link   `cbor:"2,keyasint,omitempty"`
}

type grantBody struct {
	Epoch StatementID `cbor:"0,keyasint"`
	Keys  []keyBox    `cbor:"1,keyasint"`
}

// kind tells what the body says; 0 if nothing or more than one thing.
func (b *body) kind() Kind {
	set := [...]bool{Genesis: b.Genesis != nil, Add: b.Add != nil, Invite: b.Invite != nil, Join: b.Join != nil,
		Remove: b.Remove != nil, SetRole: b.Role != nil, Rename: b.Rename != nil, Revoke: b.Revoke != nil,
		Epoch: b.Epoch != nil, Grant: b.Grant != nil}
	var kind Kind
	for k, is := range set {
		if is && kind != 0 {
			return 0
		}
		if is {
			kind = Kind(k)
		}
	}
	return kind
}
