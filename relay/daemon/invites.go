package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"sheaf/relay"
	"sheaf/relay/archive"
	"sheaf/replication/group"
)

const invitesFile = "invites"

// maxInvites bounds the codes that are remembered: the oldest that are of no use any more
// are forgotten first.
const maxInvites = 10_000

// recordsPerByte says how many records a group may keep, by its quota: one for each KiB,
// which is more than files have, and never less than a hundred thousand.
const (
	bytesPerRecord = 1 << 10
	leastRecords   = 100_000
)

// invites are the codes that were given out: a relay.Invites. Of a code only the public
// half of its key is kept.
type invites struct {
	path string

	mu   sync.Mutex
	list []invite
}

var _ relay.Invites = (*invites)(nil)

type invite struct {
	Code    string    `json:"code"` // public half of its key, hex
	Quota   uint64    `json:"quota_bytes"`
	Uses    int       `json:"uses"`
	Expires time.Time `json:"expires"`
	Groups  []string  `json:"groups,omitempty"` // that have claimed it, hex
}

func openInvites(home string) (*invites, error) {
	i := &invites{path: filepath.Join(home, invitesFile)}
	data, err := os.ReadFile(i.path)
	if errors.Is(err, fs.ErrNotExist) {
		return i, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the invites: %w", err)
	}
	if err := json.Unmarshal(data, &i.list); err != nil {
		return nil, fmt.Errorf("read %s: %w: restore it from a copy, or remove it, which makes all codes void that were not used yet", i.path, err)
	}
	return i, nil
}

// change changes the list durably, or not at all.
func (i *invites) change(fn func(list []invite) ([]invite, error)) error {
	next, err := fn(slices.Clone(i.list))
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("write the invites: %w", err)
	}
	if err := writeFile(i.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	i.list = next
	return nil
}

// make makes a code.
func (i *invites) make(self group.DeviceID, addresses []string, quota uint64, uses int, expires time.Time) (group.Code, error) {
	code, err := group.NewCode(rand.Reader, group.RelayCode, group.ID{}, self, addresses)
	if err != nil {
		return code, err
	}
	keys, err := code.Keys()
	if err != nil {
		return code, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return code, i.change(func(list []invite) ([]invite, error) {
		now := time.Now()
		if len(list) >= maxInvites {
			list = slices.DeleteFunc(list, func(x invite) bool { return now.After(x.Expires) })
		}
		if len(list) >= maxInvites {
			return nil, fmt.Errorf("%d codes are open: wait until some have expired", len(list))
		}
		return append(list, invite{Code: keys.ID().Hex(), Quota: quota, Uses: uses, Expires: expires.UTC()}), nil
	})
}

func (i *invites) at(code group.DeviceID) int {
	return slices.IndexFunc(i.list, func(x invite) bool { return x.Code == code.Hex() })
}

// Look implements relay.Invites.
func (i *invites) Look(code group.DeviceID, id group.ID, now time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, err := i.lookLocked(code, id, now)
	return err
}

func (i *invites) lookLocked(code group.DeviceID, id group.ID, now time.Time) (at int, err error) {
	at = i.at(code)
	if at < 0 {
		return at, relay.ErrUnknownCode
	}
	x := i.list[at]
	switch {
	case slices.Contains(x.Groups, hex.EncodeToString(id[:])):
		return at, nil // it has room already
	case len(x.Groups) >= x.Uses:
		return at, relay.ErrUsed
	case now.After(x.Expires):
		return at, relay.ErrExpired
	}
	return at, nil
}

// Use implements relay.Invites.
func (i *invites) Use(code group.DeviceID, id group.ID, now time.Time) (archive.Limit, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	at, err := i.lookLocked(code, id, now)
	if err != nil {
		return archive.Limit{}, err
	}
	name := hex.EncodeToString(id[:])
	if !slices.Contains(i.list[at].Groups, name) {
		err = i.change(func(list []invite) ([]invite, error) {
			list[at].Groups = append(slices.Clone(list[at].Groups), name)
			return list, nil
		})
	}
	quota := i.list[at].Quota
	return archive.Limit{Bytes: quota, Records: max(leastRecords, quota/bytesPerRecord)}, err
}
