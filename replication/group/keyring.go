package group

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
)

// A Keyring holds the group keys that a device could open, by epoch. It does not
// change and does not show its keys when printed or logged. From each epoch's key
// others are derived by HKDF-SHA-256 under labels; that key itself seals nothing.
type Keyring struct {
	group   ID
	first   StatementID
	current StatementID
	keys    map[StatementID][32]byte
}

// OpenKeys opens all the group's keys that are sealed to a device, directly or
// along the links from later epochs to earlier ones. ErrNoKey if the current
// epoch's is not among them, or the first's: the device was removed, or waits for
// somebody's Grant. The Keyring then holds what could be opened, to read by.
func (s State) OpenKeys(k Keys) (Keyring, error) {
	ring := Keyring{group: s.Group, current: s.Current, keys: map[StatementID][32]byte{}}
	if len(s.Epochs) == 0 {
		return ring, fmt.Errorf("open group keys: %w", ErrNoKey)
	}
	ring.first = s.Epochs[0].ID
	for _, e := range slices.Backward(s.Epochs) {
		if _, ok := ring.keys[e.ID]; ok {
			continue
		}
		commit := s.epochs[e.ID].Commit
		for _, o := range s.keys[k.ID()] {
			if o.epoch != e.ID {
				continue
			}
			if key, ok := k.openKey(commit, o.box); ok {
				s.followLinks(ring, e.ID, key)
				break
			}
		}
	}
	for _, id := range []StatementID{ring.current, ring.first} {
		if _, ok := ring.keys[id]; !ok {
			return ring, fmt.Errorf("open group keys: epoch %s: %w", id, ErrNoKey)
		}
	}
	return ring, nil
}

func (s State) followLinks(ring Keyring, id StatementID, key [32]byte) {
	ring.keys[id] = key
	for _, l := range s.epochs[id].Links {
		if _, ok := ring.keys[l.Epoch]; ok {
			continue
		}
		plain, ok := openBox(derive(key, epochLinkLabel), linkContext+string(l.Epoch[:]), l.Box)
		if ok && len(plain) == 32 && commitment([32]byte(plain)) == s.epochs[l.Epoch].Commit {
			s.followLinks(ring, l.Epoch, [32]byte(plain))
		}
	}
}

// Current is the epoch to write under.
func (k Keyring) Current() StatementID { return k.current }

// Has tells whether an epoch's key is here.
func (k Keyring) Has(epoch StatementID) bool {
	_, ok := k.keys[epoch]
	return ok
}

// ChunkKey keys where files are cut. It comes from the first epoch, so that it
// is the same for ever: equal files are cut alike whenever they were added.
func (k Keyring) ChunkKey() ([32]byte, error) { return k.Key(k.first, "chunk 1") }

// TokenKey keys the tokens by which relays know entries. It comes from the first
// epoch, too: an entry's token must not change.
func (k Keyring) TokenKey() ([32]byte, error) { return k.Key(k.first, "token 1") }

// BlockKey keys the sealing of blocks in an epoch.
func (k Keyring) BlockKey(epoch StatementID) ([32]byte, error) { return k.Key(epoch, "block 1") }

// RecordKey keys the sealing of records in an epoch.
func (k Keyring) RecordKey(epoch StatementID) ([32]byte, error) { return k.Key(epoch, "record 1") }

// Key derives a key from an epoch's under a label of the caller's. ErrNoKey if
// the epoch's is not here.
func (k Keyring) Key(epoch StatementID, label string) ([32]byte, error) {
	key, ok := k.keys[epoch]
	if !ok {
		return [32]byte{}, fmt.Errorf("derive %s of epoch %s: %w", label, epoch, ErrNoKey)
	}
	return derive(key, "epoch key "+label), nil
}

// String tells how many epochs' keys there are.
func (k Keyring) String() string { return fmt.Sprintf("keyring of %d epochs", len(k.keys)) }

// Format writes that whatever the verb, so that no key is printed.
func (k Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue gives the same.
func (k Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }
