package node

import (
	"context"
	"encoding/binary"
	"slices"

	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// Of a device that is removed counts what it had handed in at relays by then: its backups
// are to outlive it. So the highest number of its records that was seen is noted for each
// folder, and the removal names it.

// uploadsSpace is the space of a folder's highest numbers, by device.
func uploadsSpace(f *Folder) string { return "uploads/" + f.id.String() }

// noteUploads notes how far devices have come with what they hand in to a folder.
func (n *Node) noteUploads(f *Folder, list []deposit.Told) error {
	highest := make(map[group.DeviceID]uint64)
	for _, t := range list {
		highest[t.Author] = max(highest[t.Author], t.Upload)
	}
	rows := make(map[string][]byte)
	for author, number := range highest {
		known, err := n.uploadsOf(f, author)
		if err != nil {
			return err
		}
		if number > known {
			rows[author.Hex()] = binary.BigEndian.AppendUint64(nil, number)
		}
	}
	return n.db.PutAll(uploadsSpace(f), rows)
}

// uploadsOf gives the highest number of a device's records in a folder; 0 if none is known.
func (n *Node) uploadsOf(f *Folder, author group.DeviceID) (uint64, error) {
	v, ok, err := n.db.Get(uploadsSpace(f), author.Hex())
	if err != nil || !ok || len(v) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// uploadCuts says up to where what a device has handed in counts, for its removal. Relays
// that are reached are asked for the newest first.
func (n *Node) uploadCuts(ctx context.Context, device group.DeviceID) (cuts []group.Cut, err error) {
	ctx, cancel := context.WithTimeout(ctx, refreshWait)
	defer cancel()
	reached := len(n.relayLinks()) > 0
	cut := func(f *Folder) error {
		if reached && (f.stored || f.mayApply()) {
			if err := n.refreshNow(ctx, f); err != nil {
				n.log.Warn("what a device has handed in last is not known at its removal", "folder", f.name, "err", err)
			}
		}
		number, err := n.uploadsOf(f, device)
		if err == nil && number > 0 {
			cuts = append(cuts, group.Cut{Replica: seal.UploadReplica(f.id, device), Counter: number})
		}
		return err
	}
	for _, f := range slices.Concat(n.stored, n.folders) {
		if err := cut(f); err != nil {
			return nil, err
		}
	}
	mirrors, err := n.mirrorList() // as the list of backups has them now
	if err != nil {
		return nil, err
	}
	for _, f := range mirrors {
		if err := cut(f); err != nil {
			return nil, err
		}
	}
	return cuts, nil
}
