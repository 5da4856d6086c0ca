package group

import (
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// linkBoxSize is the size of an earlier key under a later one.
const linkBoxSize = chacha20poly1305.NonceSizeX + 32 + chacha20poly1305.Overhead

// derive gives the key for one purpose from another key, by HKDF-SHA-256.
func derive(key [32]byte, label string) [32]byte {
	return [32]byte(must(hkdf.Key(sha256.New, key[:], nil, "sheaf "+label, 32))) // fails for huge lengths only
}

func commitment(key [32]byte) [32]byte { return derive(key, epochCommitLabel) }

// keyInfo binds a sealed key to the epoch it is of and to whom it is for. The
// statement it stands in is signed by its granter.
func keyInfo(commit [32]byte, to DeviceID) []byte {
	return slices.Concat([]byte("sheaf epoch key 1\x00"), commit[:], to[:])
}

func sealKey(key, commit [32]byte, to Device) ([]byte, error) {
	pub, err := hpke.MLKEM768X25519().NewPublicKey(to.Seal)
	if err != nil {
		return nil, fmt.Errorf("seal key to %s: %w", to.ID, err)
	}
	box, err := hpke.Seal(pub, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), keyInfo(commit, to.ID), key[:])
	if err != nil {
		return nil, fmt.Errorf("seal key to %s: %w", to.ID, err)
	}
	return box, nil
}

// openKey is the inverse of sealKey; false also if the key is not the one that
// the epoch committed to.
func (k Keys) openKey(commit [32]byte, box []byte) ([32]byte, bool) {
	plain, err := hpke.Open(k.seal, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), keyInfo(commit, k.ID()), box)
	if err != nil || len(plain) != 32 {
		return [32]byte{}, false
	}
	key := [32]byte(plain)
	return key, commitment(key) == commit
}

// sealKeys seals a key to devices. One whose sealing key turns out to be of no
// use gets nothing: a member cannot stop a removal by a bad key of its own.
func sealKeys(key [32]byte, to []Device) []keyBox {
	commit := commitment(key)
	var out []keyBox
	for _, d := range to {
		if box, err := sealKey(key, commit, d); err == nil {
			out = append(out, keyBox{To: d.ID, Box: box})
		}
	}
	slices.SortFunc(out, func(a, b keyBox) int { return a.To.compare(b.To) })
	return slices.CompactFunc(out, func(a, b keyBox) bool { return a.To == b.To })
}

// newEpoch draws a key and seals it to devices. Of the epochs before it, it
// links those given whose keys are in the ring.
func newEpoch(rand io.Reader, to []Device, ring Keyring, before []StatementID) (epochBody, [32]byte, error) {
	var key [32]byte
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return epochBody{}, key, fmt.Errorf("draw epoch key: %w", err)
	}
	e := epochBody{Commit: commitment(key), Keys: sealKeys(key, to)}
	for _, id := range before {
		earlier, ok := ring.keys[id]
		if !ok {
			continue
		}
		box, err := sealBox(rand, derive(key, epochLinkLabel), linkContext+string(id[:]), earlier[:])
		if err != nil {
			return epochBody{}, key, err
		}
		e.Links = append(e.Links, link{Epoch: id, Box: box})
	}
	slices.SortFunc(e.Links, func(a, b link) int { return a.Epoch.compare(b.Epoch) })
	return e, key, nil
}

// An offeredKey is an epoch's key sealed to somebody, by whatever statement.
type offeredKey struct {
	epoch StatementID
	box   []byte
}

// foldEpochs finds the epochs, the current one, whether it is stale, and all
// sealed keys. Keys in statements that do not count are kept: they open what was
// written in good faith, and each is checked against its epoch's commitment.
func (e *evaluation) foldEpochs(s *State) {
	readers := map[StatementID]map[DeviceID]bool{}
	granters := map[StatementID]map[DeviceID][]DeviceID{}
	offer := func(n *node, epoch StatementID, k keyBox) {
		s.keys[k.To] = append(s.keys[k.To], offeredKey{epoch, k.Box})
		if !e.counts(n) || readers[epoch] == nil {
			return
		}
		granters[epoch][k.To] = append(granters[epoch][k.To], n.b.Author)
		// A grant made in knowledge of the removal is no race that a new epoch
		// could mend: its author would grant that, too.
		if n.b.Grant == nil || !slices.ContainsFunc(e.removes[k.To], func(r *node) bool { return e.counts(r) && n.sees(r) }) {
			readers[epoch][k.To] = true
		}
	}
	for _, n := range e.order {
		if b := n.epoch(); b != nil {
			s.Epochs = append(s.Epochs, EpochInfo{ID: n.id, By: n.b.Author, Void: !e.counts(n)})
			s.epochs[n.id] = b
			readers[n.id], granters[n.id] = map[DeviceID]bool{}, map[DeviceID][]DeviceID{}
			for _, k := range b.Keys {
				offer(n, n.id, k)
			}
		}
		if i := n.b.Invite; i != nil {
			offer(n, i.Epoch, keyBox{To: i.Public.ID, Box: i.Key})
		}
		if g := n.b.Grant; g != nil {
			for _, k := range g.Keys {
				offer(n, g.Epoch, k)
			}
		}
	}
	good := map[DeviceID]bool{}
	for _, m := range s.Members {
		good[m.ID] = true
	}
	for _, i := range s.Invites {
		if i.Status == InviteOpen || i.Status == InviteUsed {
			good[i.Public] = true
		}
	}
	s.chooseEpoch(readers, good)
	s.granted = granters[s.Current]
}

// chooseEpoch takes, of the epochs that count, the last that only good ones can
// read, or the last at all, which then is stale. Whoever reads an epoch reads
// those that it links.
func (s *State) chooseEpoch(readers map[StatementID]map[DeviceID]bool, good map[DeviceID]bool) {
	s.stale = true
	for _, e := range slices.Backward(s.Epochs) {
		if e.Void {
			continue
		}
		clean := true
		for r := range readers[e.ID] {
			clean = clean && good[r]
			for _, l := range s.epochs[e.ID].Links {
				readers[l.Epoch][r] = true
			}
		}
		if s.Current.IsZero() || (clean && s.stale) {
			s.Current = e.ID
		}
		s.stale = s.stale && !clean
	}
}
