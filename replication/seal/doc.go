// Package seal closes entries and blocks for those who keep them and may not read
// them, and opens them again.
//
// The picture to hold: a relay holds three kinds of things, each of which anybody
// can verify and only a member of the group can open.
//
//   - A sealed block is a run of a file's bytes, addressed by the SHA-256 of what
//     is stored. Equal bytes sealed in one epoch of one group are equal, so they
//     are stored once; in two groups they have nothing in common.
//   - A [Record] is one entry of a folder's index. In the clear stands what the
//     relay needs to keep house: which record it replaces (token and version
//     vector), whether it is dead, which blocks it refers to. The entry is sealed,
//     and all of it is signed by the device that uploaded it.
//   - A [Head] is a device's word of how much it has uploaded to a folder and what
//     that adds up to, so that a relay which withholds or goes back in time is
//     noticed.
//
// What a block is sealed with depends on nothing but the group's epoch and its
// bytes; so each key must meet one plaintext only. That compression may come out
// otherwise in another version of a library would break this, so the nonce is made
// of what is encrypted: see [Box.SealBlock].
//
// Formats stand in docs/security.md to the byte, and testdata/vectors.json has
// examples of each. Sizes are padded by Padmé (Nikitin et al., "Reducing Metadata
// Leakage from Encrypted Files and Communication with PURBs", 2019, section 4).
//
// Whoever may not open something learns nothing of why: every failure to open is
// ErrOpen. Whether what could be opened may be believed is for [Judge]: a pure
// function of the group's statements.
//
// It stands between the index and the relay. It does no I/O, reads no clock,
// starts no goroutine and logs nothing. A Box is safe for concurrent use.
package seal
