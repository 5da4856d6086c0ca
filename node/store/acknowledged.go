package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// acknowledged is a small file beside the database that remembers which commit
// of each folder was the last to be acknowledged as durable. The log of the
// database cannot tell that its own end is missing; this file can. It is
// written after each synced commit and not itself synced, so after a power cut
// it may lag behind the truth (and then claims too little), never run ahead.
//
// It also holds its own inode number: a database whose file has another one
// was copied or restored from a copy, and perhaps lives on elsewhere.
//
// Format: a header of 32 bytes (magic, inode number and CRC-32C of these), then
// per folder number 16 bytes: the commit (8, big endian), CRC-32C of folder
// number and commit (4), zero (4). All zero: never.
type acknowledged struct {
	mu      sync.Mutex
	f       *os.File
	foreign bool // the file was missing, damaged or another's
	slots   []byte
}

const (
	ackedName   = "ACKNOWLEDGED"
	ackedMagic  = "sheafack"
	ackedHeader = 32
	ackedSlot   = 16
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// openAcknowledged opens the file, a new one if there is none or it is damaged.
func openAcknowledged(path string) (*acknowledged, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	a := &acknowledged{f: f}
	data, err := io.ReadAll(io.LimitReader(f, ackedHeader+ackedSlot*(maxFolders+1)))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	if len(data) >= ackedHeader {
		a.slots = data[ackedHeader:]
	}
	want, err := a.header()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	a.foreign = !bytes.HasPrefix(data, want)
	return a, nil
}

func (a *acknowledged) header() ([]byte, error) {
	inode, err := inodeOf(a.f)
	if err != nil {
		return nil, err
	}
	h := make([]byte, ackedHeader)
	copy(h, ackedMagic)
	binary.BigEndian.PutUint64(h[8:], inode)
	binary.BigEndian.PutUint32(h[16:], crc32.Checksum(h[:16], castagnoli()))
	return h, nil
}

// any tells whether anything was ever acknowledged.
func (a *acknowledged) any() bool { return len(bytes.Trim(a.slots, "\x00")) > 0 }

func slot(n number, commit uint64) []byte {
	b := make([]byte, 0, ackedSlot+2)
	b = binary.BigEndian.AppendUint64(b, commit)
	sum := crc32.Checksum(binary.BigEndian.AppendUint16(b[:8:8], uint16(n)), castagnoli())
	return append(binary.BigEndian.AppendUint32(b, sum), 0, 0, 0, 0)
}

// ahead tells whether a later commit of the folder than this one was
// acknowledged, or the file cannot tell.
func (a *acknowledged) ahead(n number, commit uint64) bool {
	at := int(n) * ackedSlot
	if at+ackedSlot > len(a.slots) {
		return false // never acknowledged
	}
	s := a.slots[at : at+ackedSlot]
	if len(bytes.Trim(s, "\x00")) == 0 {
		return false
	}
	have := binary.BigEndian.Uint64(s)
	return !bytes.Equal(s, slot(n, have)) || have > commit
}

// claim makes the file this database's own.
func (a *acknowledged) claim() error {
	h, err := a.header()
	if err != nil {
		return err
	}
	if _, err := a.f.WriteAt(h, 0); err != nil {
		return fmt.Errorf("write %s: %w", ackedName, err)
	}
	a.slots = nil
	return a.f.Sync()
}

// disown makes the file nobody's, durably, until it is claimed.
func (a *acknowledged) disown() error {
	if _, err := a.f.WriteAt(make([]byte, ackedHeader), 0); err != nil {
		return fmt.Errorf("write %s: %w", ackedName, err)
	}
	return a.f.Sync()
}

// note remembers a commit as acknowledged.
func (a *acknowledged) note(n number, commit uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.f.WriteAt(slot(n, commit), ackedHeader+int64(n)*ackedSlot)
	return err
}

func (a *acknowledged) close() error {
	err := a.f.Sync()
	if cerr := a.f.Close(); err == nil {
		err = cerr
	}
	return err
}
