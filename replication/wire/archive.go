package wire

import (
	"errors"
	"fmt"
)

// ArchiveProtocol is what a device speaks with a relay's archive. The device asks and
// the relay answers, one answer to each request, in order; requests may be sent before
// earlier ones are answered. The first is an ArchiveOpen.
const ArchiveProtocol = "/sheaf/archive/1"

// Limits of the archive protocol.
const (
	MaxArchiveUp   = 17 << 20 // bytes of a request
	MaxArchiveDown = 17 << 20 // bytes of an answer
	MaxArchiveData = 16 << 20 // bytes of the records, statements or blocks in one message
	MaxOffered     = 1000     // records in one message
	MaxStored      = 4096     // blocks, or digests, in one message
	MaxSaid        = 64       // batches of statements in one message
)

// ArchiveUp is a request: exactly one of its fields.
type ArchiveUp struct {
	Open     *ArchiveOpen  `cbor:"1,keyasint,omitempty"`
	Say      *ArchiveSay   `cbor:"2,keyasint,omitempty"`
	Offer    *Sealed       `cbor:"3,keyasint,omitempty"` // records to be taken in
	Wanted   *ArchiveAfter `cbor:"4,keyasint,omitempty"` // which blocks are to be brought
	Store    *Sealed       `cbor:"5,keyasint,omitempty"` // blocks to be taken in
	After    *ArchiveFeed  `cbor:"6,keyasint,omitempty"`
	Fetch    *Digests      `cbor:"7,keyasint,omitempty"` // blocks to be given
	Versions *ArchiveEntry `cbor:"8,keyasint,omitempty"`
	Heads    *ArchiveEntry `cbor:"9,keyasint,omitempty"`  // of a folder; without a token
	Head     *Sealed       `cbor:"10,keyasint,omitempty"` // one head to be taken in
	Lack     *Digests      `cbor:"11,keyasint,omitempty"` // which of these blocks are wanted
}

// ArchiveDown is an answer: exactly one of its fields.
type ArchiveDown struct {
	Refusal  *Refusal         `cbor:"1,keyasint,omitempty"` // to any request; the stream goes on
	Welcome  *ArchiveWelcome  `cbor:"2,keyasint,omitempty"` // to Open
	Said     *ArchiveSay      `cbor:"3,keyasint,omitempty"` // to Say
	Takings  *ArchiveTakings  `cbor:"4,keyasint,omitempty"` // to Offer, Store and Head
	Digests  *Digests         `cbor:"5,keyasint,omitempty"` // to Wanted and Lack
	Items    *ArchiveItems    `cbor:"6,keyasint,omitempty"` // to After
	Blocks   *Sealed          `cbor:"7,keyasint,omitempty"` // to Fetch: as many as fit, in order; empty: not held
	Versions *ArchiveVersions `cbor:"8,keyasint,omitempty"` // to Versions
	Heads    *Sealed          `cbor:"9,keyasint,omitempty"` // to Heads
}

// ArchiveOpen says what group the stream is about.
type ArchiveOpen struct {
	Version uint64 `cbor:"1,keyasint"`
	Group   ID     `cbor:"2,keyasint"`
	Program string `cbor:"3,keyasint,omitempty"` // for people only
}

// ArchiveWelcome says what the relay keeps of the group.
type ArchiveWelcome struct {
	Store     ID     `cbor:"1,keyasint"` // numbers of the archive mean something in this one only
	Bytes     uint64 `cbor:"2,keyasint"`
	MostBytes uint64 `cbor:"3,keyasint"`
	Records   uint64 `cbor:"4,keyasint"`
	Program   string `cbor:"5,keyasint,omitempty"`
	Retention int64  `cbor:"6,keyasint,omitempty"` // milliseconds for which it keeps what was deleted
}

// ArchiveSay carries statements of the group: messages of the groups protocol, each
// encoded (group.EncodeMessage). One that holds heads is answered with the other's
// heads and what the sender lacks.
type ArchiveSay struct {
	Messages [][]byte `cbor:"1,keyasint,omitempty"`
}

// Sealed carries records, heads or blocks as they are stored.
type Sealed struct {
	Items [][]byte `cbor:"1,keyasint,omitempty"`
}

// ArchiveAfter asks for digests above one, at most MaxStored.
type ArchiveAfter struct {
	Digest []byte `cbor:"1,keyasint,omitempty"` // none: from the first
}

// Digests are addresses of blocks, 32 bytes each.
type Digests struct {
	Digests []byte `cbor:"1,keyasint,omitempty"`
}

// ArchiveFeed asks for the records of a folder above a number. With Wait the answer
// may take a while if there are none.
type ArchiveFeed struct {
	Folder ID     `cbor:"1,keyasint"`
	After  uint64 `cbor:"2,keyasint"`
	Wait   bool   `cbor:"3,keyasint,omitempty"`
}

// ArchiveEntry names a folder, or an entry of it.
type ArchiveEntry struct {
	Folder ID     `cbor:"1,keyasint"`
	Token  []byte `cbor:"2,keyasint,omitempty"`
}

// ArchiveTakings says of each thing that was handed in what became of it.
type ArchiveTakings struct {
	Takings []ArchiveTaking `cbor:"1,keyasint"`
}

// ArchiveTaking is what became of one thing.
type ArchiveTaking struct {
	_       struct{} `cbor:",toarray"`
	Outcome uint8    // archive.Outcome
	Code    string   // why not; empty if it was taken
}

// ArchiveItems are records with their numbers. Fewer than were asked for do not mean
// that there are no more: none does.
type ArchiveItems struct {
	Numbers []uint64 `cbor:"1,keyasint,omitempty"`
	Records [][]byte `cbor:"2,keyasint,omitempty"`
	Came    []int64  `cbor:"3,keyasint,omitempty"` // Unix milliseconds by the relay's clock
}

// ArchiveVersions are the records of one entry.
type ArchiveVersions struct {
	Versions []ArchiveVersion `cbor:"1,keyasint,omitempty"`
	More     bool             `cbor:"2,keyasint,omitempty"` // older ones did not fit
}

// ArchiveVersion is one record, with what the archive makes of it. Times are in Unix
// milliseconds by the relay's clock.
type ArchiveVersion struct {
	_       struct{} `cbor:",toarray"`
	Number  uint64
	Record  []byte
	Came    int64
	Gone    int64 // when it was replaced; 0: it was not
	Current bool
	Whole   bool
	Purged  bool
}

// Refusal says why a request was not done: a code for programs, a line for people.
type Refusal struct {
	Code string `cbor:"1,keyasint"`
	Text string `cbor:"2,keyasint,omitempty"`
}

// Codes of refusals.
const (
	CodeNotHosted = "not-hosted" // the relay keeps nothing for the group
	CodeNotMember = "not-member" // the device is none of the group's
	CodeQuota     = "quota"      // the group's quota is used up
	CodeUnwanted  = "unwanted"   // nothing waits for the block
	CodeCutOff    = "cut-off"    // made by a device after its removal: set aside
	CodeUnknown   = "unknown"    // the author or epoch is not known there: say the statements first
	CodeBad       = "bad"        // breaks the rules; asking again does not help
	CodeStale     = "stale"      // an older head than the one there, or another under its number
	CodeFailed    = "failed"     // the relay's own trouble; asking later may help
	CodeVersion   = "version"    // of the protocol is another
)

// Check refuses a request of no kind or several, and one over its limits.
func (m *ArchiveUp) Check() error {
	if count(m.Open != nil, m.Say != nil, m.Offer != nil, m.Wanted != nil, m.Store != nil, m.After != nil, m.Fetch != nil, m.Versions != nil, m.Heads != nil, m.Head != nil, m.Lack != nil) != 1 {
		return errUnion
	}
	switch {
	case m.Say != nil:
		return m.Say.check()
	case m.Offer != nil:
		return m.Offer.check(MaxOffered)
	case m.Wanted != nil && len(m.Wanted.Digest) != 0 && len(m.Wanted.Digest) != hashSize:
		return fmt.Errorf("digest of %d bytes", len(m.Wanted.Digest))
	case m.Store != nil:
		return m.Store.check(MaxStored)
	case m.Fetch != nil:
		return m.Fetch.check()
	case m.Lack != nil:
		return m.Lack.check()
	case m.Versions != nil && len(m.Versions.Token) != 16, m.Heads != nil && len(m.Heads.Token) != 0:
		return errors.New("token of another length")
	case m.Head != nil:
		return m.Head.check(1)
	}
	return nil
}

// Check refuses an answer of no kind or several, and one over its limits.
func (m *ArchiveDown) Check() error {
	if count(m.Refusal != nil, m.Welcome != nil, m.Said != nil, m.Takings != nil, m.Digests != nil, m.Items != nil, m.Blocks != nil, m.Versions != nil, m.Heads != nil) != 1 {
		return errUnion
	}
	switch {
	case m.Said != nil:
		return m.Said.check()
	case m.Takings != nil && len(m.Takings.Takings) > MaxStored:
		return fmt.Errorf("%d takings", len(m.Takings.Takings))
	case m.Digests != nil:
		return m.Digests.check()
	case m.Items != nil && (len(m.Items.Numbers) != len(m.Items.Records) || len(m.Items.Numbers) > MaxOffered || len(m.Items.Came) > 0 && len(m.Items.Came) != len(m.Items.Numbers)):
		return fmt.Errorf("%d numbers of %d records", len(m.Items.Numbers), len(m.Items.Records))
	case m.Items != nil:
		last := uint64(0)
		for _, n := range m.Items.Numbers {
			if n <= last {
				return errors.New("records are not in the order of their numbers")
			}
			last = n
		}
	case m.Blocks != nil:
		return m.Blocks.check(MaxStored)
	case m.Versions != nil && len(m.Versions.Versions) > MaxOffered:
		return fmt.Errorf("%d versions", len(m.Versions.Versions))
	case m.Heads != nil:
		return m.Heads.check(MaxStored)
	}
	return nil
}

func (s *ArchiveSay) check() error {
	if len(s.Messages) > MaxSaid+1 {
		return fmt.Errorf("%d messages", len(s.Messages))
	}
	return nil
}

func (s *Sealed) check(most int) error {
	if len(s.Items) > most {
		return fmt.Errorf("%d items, more than %d", len(s.Items), most)
	}
	return nil
}

func (d *Digests) check() error {
	if len(d.Digests)%hashSize != 0 || len(d.Digests) > MaxStored*hashSize {
		return fmt.Errorf("%d bytes of digests", len(d.Digests))
	}
	return nil
}
