package seal

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"sheaf/crdt"
	"sheaf/replication/group"
)

// Why a record is not taken in, though its signature is right.
var (
	// ErrForeign: it is of another group.
	ErrForeign = errors.New("of another group")
	// ErrUnknown: its author or its epoch is not known here. The statements that tell of
	// them may still be on their way.
	ErrUnknown = errors.New("its author or key is not known here")
	// ErrNotWriter: its author may not write.
	ErrNotWriter = errors.New("its author may not write")
	// ErrCutOff: it, or a change in it, is none of those that a removed device had made
	// when it was removed. Such a record is set aside and shown, neither taken in nor
	// dropped.
	ErrCutOff = errors.New("made by a removed device after its removal")
)

// UploadReplica names a device's records in a folder as if they were changes by one
// replica: the Number'th record is its Number'th change. A Remove names it in a Cut,
// with the last number that counts; without that none of the removed device's records
// do.
func UploadReplica(folder crdt.FolderID, author group.DeviceID) [8]byte {
	h := sha256.New()
	h.Write([]byte("sheaf uploads 1\x00"))
	h.Write(folder[:])
	h.Write(author[:])
	return [8]byte(h.Sum(nil)[:8])
}

// Judge tells whether a record may be taken in, as far as a group's statements go:
// nil, or one of the errors above. It is what a relay asks when it is handed a record,
// and what each reader asks again: a relay is believed in nothing.
//
// A device that may write may hand on changes that others made; so a record counts by
// who signed it, and by the changes in it only where their makers were removed.
func Judge(state *group.State, h *Header) error {
	if h.Group != state.Group {
		return fmt.Errorf("record %d by %s: %w", h.Number, h.Author, ErrForeign)
	}
	if !slices.ContainsFunc(state.Epochs, func(e group.EpochInfo) bool { return e.ID == h.Epoch }) {
		return fmt.Errorf("record %d by %s: epoch %s: %w", h.Number, h.Author, h.Epoch, ErrUnknown)
	}
	if !state.AcceptsFrom(h.Author, UploadReplica(h.Folder, h.Author), h.Number) {
		_, member := state.Member(h.Author)
		switch {
		case state.IsRemoved(h.Author):
			return fmt.Errorf("record %d by %s: %w", h.Number, h.Author, ErrCutOff)
		case member:
			return fmt.Errorf("record %d by %s: %w", h.Number, h.Author, ErrNotWriter)
		}
		return fmt.Errorf("record %d by %s: %w", h.Number, h.Author, ErrUnknown)
	}
	for _, d := range h.Seen {
		if !state.Accepts(d.Replica, d.Counter) {
			return fmt.Errorf("record %d by %s: change %s: %w", h.Number, h.Author, d, ErrCutOff)
		}
	}
	return nil
}
