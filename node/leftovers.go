package node

import (
	"encoding/hex"
	"errors"
	"strings"

	"sheaf/crdt"
	"sheaf/node/disk"
	"sheaf/node/plan"
	"sheaf/node/store"
)

// tempKey names the temporary file in which a content of an entry is built.
func tempKey(id crdt.EntryID, content crdt.ContentHash) string {
	return hex.EncodeToString(id[:]) + "-" + hex.EncodeToString(content[:])
}

func parseTempKey(key string) (id crdt.EntryID, content crdt.ContentHash, ok bool) {
	a, b, _ := strings.Cut(key, "-")
	x, err1 := hex.DecodeString(a)
	y, err2 := hex.DecodeString(b)
	if err1 != nil || err2 != nil || len(x) != len(id) || len(y) != len(content) {
		return id, content, false
	}
	return crdt.EntryID(x), crdt.ContentHash(y), true
}

// wants tells whether an entry is to get a content that its file does not have.
func wants(r *store.Reader, id crdt.EntryID, content crdt.ContentHash) (bool, error) {
	e, ok, err := r.Entry(id)
	if err != nil || !ok {
		return false, err
	}
	n, _, err := r.Node(id)
	if err != nil {
		return false, err
	}
	if t := plan.TargetOf(e, n); !t.Visible || t.Content != content {
		return false, nil
	}
	b, ok, err := r.Base(id)
	return !ok || !b.Here || knownOf(b).Content != content, err
}

// withdrawSuperseded ends transfers of large files whose content nobody wants any
// more: their peers may no longer have it either.
func (f *Folder) withdrawSuperseded() error {
	if f.inFlight.large == 0 {
		return nil
	}
	return f.index.Read(func(r *store.Reader) error {
		for _, t := range f.transfers {
			if t.target.Blocks < 2 || t.again {
				continue
			}
			ok, err := wants(r, t.id, t.target.Content)
			if err != nil {
				return err
			}
			if !ok {
				t.cancel() // it ends like any other
			}
		}
		return nil
	})
}

// sweepTemps removes the temporary files of transfers that nobody will go on with:
// those that a crash or a change of plan left. What a transfer left that is still
// wanted stays, and is looked at again when nothing is behind any more.
func (f *Folder) sweepTemps() error {
	temps, err := f.disk.Temps()
	if err != nil {
		return err
	}
	f.temps, f.sweep = 0, false
	if len(temps) == 0 {
		return nil
	}
	return f.index.Read(func(r *store.Reader) error {
		for _, t := range temps {
			wanted := t.Open
			if id, content, ok := parseTempKey(t.Key); ok && !wanted {
				if wanted, err = wants(r, id, content); err != nil {
					return err
				}
				wanted = wanted || f.heal[id] != ""
			}
			if wanted {
				f.temps++
				continue
			}
			if err := f.disk.DropTemp(t.Key); err != nil && !errors.Is(err, disk.ErrBusy) {
				f.o.log.Warn("a temporary file could not be removed", "folder", f.name, "key", t.Key, "err", err)
			}
		}
		return nil
	})
}
