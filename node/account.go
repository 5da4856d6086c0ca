package node

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"sheaf/node/mesh"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// An account is the group of one person's devices as this device knows it: its
// statements, kept in the home, and what they come to. Safe for concurrent use.
type account struct {
	home home
	keys group.Keys
	log  *slog.Logger

	saying  sync.Mutex  // held while statements are made, written and taken into force
	mu      sync.Mutex  // never held over a write to the disk
	said    *group.Log  // changed under both
	state   group.State // with names
	ring    group.Keyring
	changed chan struct{} // closed and replaced when statements come
}

// openAccount reads the statements of a home.
func openAccount(h home, log *slog.Logger) (*account, error) {
	data, err := h.read(keysFile)
	if err != nil {
		return nil, err
	}
	keys, err := group.ParseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w: restore it from a copy, or join anew with another --home", h.path(keysFile), err)
	}
	if data, err = h.read(statementsFile); err != nil {
		return nil, err
	}
	statements, err := decodeStatements(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", h.path(statementsFile), err)
	}
	said, err := group.LoadLog(statements)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", h.path(statementsFile), err)
	}
	a := &account{home: h, keys: keys, log: log, said: said, changed: make(chan struct{})}
	a.evaluate()
	return a, nil
}

// evaluate brings state and keys up to the statements. The caller holds both
// locks or is alone.
func (a *account) evaluate() {
	a.state = a.said.Evaluate()
	ring, err := a.state.OpenKeys(a.keys)
	if err != nil {
		a.log.Warn("not all keys of the account are here", "err", err)
	}
	a.ring = ring
	a.state = a.state.Named(ring)
}

// Statements are kept as a list: a varint length and the statement, each.
func encodeStatements(list []group.Statement) []byte {
	var b []byte
	for _, s := range list {
		b = binary.AppendUvarint(b, uint64(len(s.Encode())))
		b = append(b, s.Encode()...)
	}
	return b
}

func decodeStatements(data []byte) (list []group.Statement, err error) {
	r := bufio.NewReader(bytes.NewReader(data))
	for {
		n, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil || n > uint64(len(data)) {
			return nil, fmt.Errorf("statement %d is cut off", len(list))
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(r, raw); err != nil {
			return nil, fmt.Errorf("statement %d is cut off", len(list))
		}
		s, err := group.ParseStatement(raw)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", len(list), err)
		}
		list = append(list, s)
	}
}

// say has fn make statements on top of what has been said, keeps them durably
// and takes them into force.
func (a *account) say(fn func(l *group.Log, k group.Keys) ([]group.Statement, error)) error {
	a.saying.Lock()
	defer a.saying.Unlock()
	list, err := fn(a.said, a.keys)
	if err != nil {
		return err
	}
	_, err = a.takeLocked(list)
	return err
}

// take adds statements that came from elsewhere, and gives those that were new. What
// is refused is left out and said in the error; the others count all the same.
func (a *account) take(list []group.Statement) ([]group.Statement, error) {
	a.saying.Lock()
	defer a.saying.Unlock()
	return a.takeLocked(list)
}

// takeLocked is take for who holds saying.
func (a *account) takeLocked(list []group.Statement) ([]group.Statement, error) {
	// On a copy first: what is in force is what is on disk.
	next, err := group.LoadLog(a.said.Statements())
	if err != nil {
		return nil, err
	}
	added, refused := next.Add(list...)
	if len(added) == 0 {
		return nil, refused
	}
	if err := a.home.write(statementsFile, encodeStatements(next.Statements()), 0o600); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// The same log grows, as an admission under way refers to it.
	if _, err := a.said.Add(added...); err != nil {
		return nil, err
	}
	a.evaluate()
	close(a.changed)
	a.changed = make(chan struct{})
	return added, refused
}

// snapshot gives what the statements come to.
func (a *account) snapshot() (group.State, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state, a.changed
}

// view runs fn over the log, which it must not keep or change.
func (a *account) view(fn func(l *group.Log)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn(a.said)
}

// member tells whether a device belongs to the account now.
func (a *account) member(id mesh.DeviceID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	m, ok := a.state.Member(group.DeviceID(id))
	return ok && !m.Paper
}

// inviting tells whether an invite is open, so that a stranger may come to
// claim it.
func (a *account) inviting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, i := range a.state.Invites {
		if i.Status == group.InviteOpen {
			return true
		}
	}
	return false
}

// others gives the account's other devices.
func (a *account) others() (ids []mesh.DeviceID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	self := a.keys.ID()
	for _, m := range a.state.Members {
		if m.ID != self && !m.Paper {
			ids = append(ids, mesh.DeviceID(m.ID))
		}
	}
	return ids
}

// name gives what people call a device, or the start of its ID.
func (a *account) name(id mesh.DeviceID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.state.Member(group.DeviceID(id)); ok && m.Name != "" {
		return m.Name
	}
	for _, m := range a.state.Removed {
		if m.ID == group.DeviceID(id) && m.Name != "" {
			return m.Name
		}
	}
	return group.DeviceID(id).String()
}

// sealer gives what seals and opens with the account's keys as they are now, and who
// may be believed. The caller closes the Box.
func (a *account) sealer() (*seal.Box, group.State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	box, err := seal.NewBox(a.said.Group(), a.ring)
	if err != nil {
		return nil, a.state, fmt.Errorf("the account's keys are not here: %w", err)
	}
	return box, a.state, nil
}

// relayLog is the account's statements as an exchange with a relay needs them: a
// deposit.Log.
type relayLog struct{ a *account }

// Tell implements deposit.Log.
func (l relayLog) Tell() (h group.Heads) {
	l.a.view(func(log *group.Log) { h = log.Tell() })
	return h
}

// Lacking implements deposit.Log.
func (l relayLog) Lacking(h group.Heads) (list []group.Batch, err error) {
	l.a.view(func(log *group.Log) { list, err = log.Lacking(h) })
	return list, err
}

// Take implements deposit.Log.
func (l relayLog) Take(b group.Batch) ([]group.Statement, error) { return l.a.takeBatch(b) }

// chunker gives the account's way to cut files into blocks.
func (a *account) chunker() (*chunk.Chunker, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key, err := a.ring.ChunkKey()
	if err != nil {
		return nil, fmt.Errorf("the account's keys are not here: %w", err)
	}
	return chunk.New(key)
}

// found makes a new account with this device and a recovery phrase.
func foundAccount(h home, name string) (keys group.Keys, id group.ID, phrase string, err error) {
	if keys, err = group.GenerateKeys(rand.Reader); err != nil {
		return keys, id, "", err
	}
	if phrase, err = group.NewPhrase(rand.Reader); err != nil {
		return keys, id, "", err
	}
	paper, err := group.PhraseKeys(phrase)
	if err != nil {
		return keys, id, "", err
	}
	list, err := group.Found(rand.Reader, keys, group.Founding{Purpose: group.Account, Name: name, Paper: paper})
	if err != nil {
		return keys, id, "", err
	}
	if err := h.write(keysFile, keys.Marshal(), 0o600); err != nil {
		return keys, id, "", err
	}
	if err := h.write(statementsFile, encodeStatements(list), 0o600); err != nil {
		return keys, id, "", err
	}
	return keys, list[0].Group(), phrase, nil
}
