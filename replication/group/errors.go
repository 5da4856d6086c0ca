package group

import "errors"

// What can be wrong with statements, lists of them, and messages.
var (
	// ErrMalformed: bytes that are no statement, message or key file of a version
	// known here. Whoever sent them is faulty or hostile.
	ErrMalformed = errors.New("malformed")
	// ErrSignature: well-formed, but not signed by whom it names.
	ErrSignature = errors.New("signature does not verify")
	// ErrForeign: a statement of another group.
	ErrForeign = errors.New("statement belongs to another group")
	// ErrUnauthorized: a statement by a device that nobody, at any time its author
	// knew of, had given the right to make it. It is refused for ever.
	ErrUnauthorized = errors.New("author was never allowed to say this")
	// ErrFull: the log holds MaxStatements.
	ErrFull = errors.New("statement log is full")
)

// Why a device cannot make a statement.
var (
	// ErrNotMember: the device is not, or no longer, a member of the group.
	ErrNotMember = errors.New("not a member of the group")
	// ErrNotAllowed: the member's role does not allow it.
	ErrNotAllowed = errors.New("role does not allow this")
	// ErrUnknownDevice: no such device in the group.
	ErrUnknownDevice = errors.New("no such device in the group")
	// ErrUnknownInvite: no such open invite in the group.
	ErrUnknownInvite = errors.New("no such invite in the group")
	// ErrLastOwner: the group would have no owner left.
	ErrLastOwner = errors.New("the last owner cannot leave or step down")
	// ErrName: a device or folder name that cannot be shown safely or is too long.
	ErrName = errors.New("not a usable name")
	// ErrNoKey: the group's current or first key cannot be opened with these
	// keys: the device is not a member, or waits for a grant.
	ErrNoKey = errors.New("group key not available to this device")
	// ErrTooMany: the group has MaxMembers members and open invites.
	ErrTooMany = errors.New("group is full")
)

// Why a code is not accepted. Each is one clear message to a person.
var (
	// ErrMistyped: the text is not a code, or was mistyped or cut off.
	ErrMistyped = errors.New("code is mistyped or incomplete")
	// ErrWrongKind: a code for something else; see WrongKindError.
	ErrWrongKind = errors.New("code is for something else")
	// ErrWrongCode: the code is well formed, but not known where it was shown.
	ErrWrongCode = errors.New("code is not known here")
	// ErrExpired: the invite's time is over.
	ErrExpired = errors.New("invite has expired")
	// ErrUsed: the invite has been used as often as it allows.
	ErrUsed = errors.New("invite has been used already")
	// ErrRevoked: the invite was withdrawn.
	ErrRevoked = errors.New("invite was revoked")
	// ErrRateLimited: too many attempts; try again later.
	ErrRateLimited = errors.New("too many attempts, try again later")
	// ErrRemoved: this device was removed from the group; it needs new keys.
	ErrRemoved = errors.New("this device was removed from the group")
	// ErrAlreadyMember: this device belongs to the group; an owner changes its
	// role, not a code.
	ErrAlreadyMember = errors.New("this device is a member already")
	// ErrProof: the other side does not hold what it claims to hold, or the
	// answer is not by the group that the code names.
	ErrProof = errors.New("the other side could not prove what it claims")
)
