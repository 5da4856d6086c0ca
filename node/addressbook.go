package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"sheaf/node/mesh"
)

// An addressBook remembers where peers were last reached, in the home. It is a
// mesh.AddressBook.
type addressBook struct {
	home    home
	writing sync.Mutex // held over a change and its writing
	mu      sync.Mutex
	list    map[string][]string // by peer ID
}

var _ mesh.AddressBook = (*addressBook)(nil)

const maxRemembered = 16 // addresses of one peer

func openAddressBook(h home) (*addressBook, error) {
	b := &addressBook{home: h, list: make(map[string][]string)}
	data, err := h.read(addressesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &b.list); err != nil {
		return nil, fmt.Errorf("read %s: %w: delete it; addresses are found anew in the local network or by `sheaf peer connect`", h.path(addressesFile), err)
	}
	return b, nil
}

// Addresses implements mesh.AddressBook.
func (b *addressBook) Addresses(id mesh.DeviceID) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list[mesh.PeerID(id)])
}

// Remember implements mesh.AddressBook.
func (b *addressBook) Remember(id mesh.DeviceID, addresses []string) {
	b.writing.Lock()
	defer b.writing.Unlock()
	addresses = addresses[:min(len(addresses), maxRemembered)]
	data, changed := b.put(mesh.PeerID(id), addresses)
	if !changed {
		return
	}
	// An address that is not kept is found again; it is no reason to stop.
	_ = b.home.write(addressesFile, data, 0o600)
}

// put changes the list and gives what is to be written.
func (b *addressBook) put(key string, addresses []string) (data []byte, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(b.list[key], addresses) {
		return nil, false
	}
	b.list[key] = slices.Clone(addresses)
	data, err := json.MarshalIndent(b.list, "", "  ")
	return data, err == nil
}
