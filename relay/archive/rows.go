package archive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/util"

	"sheaf/crdt"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// ErrDamaged is the error for rows that are not what this package writes.
var ErrDamaged = errors.New("the archive's database is damaged: run `sheaf-relay check --repair`")

// The tables, by the first byte of a key. Numbers are big endian.
const (
	tabMeta     = 'm' // name: schema, store, next, clock
	tabRecord   = 'd' // number: a record, as it was sent
	tabEntry    = 'e' // group, folder, token: the current records
	tabOld      = 'o' // group, folder, token, number: a replaced record
	tabFeed     = 'f' // group, folder, number: a current record, in the order of arrival
	tabRef      = 'r' // digest, number: the record refers to the block
	tabMissing  = 'q' // digest, number: and the block is not held
	tabWanted   = 'w' // group, digest: a block that is not held
	tabHeld     = 'b' // digest: size, and the group that it is charged to
	tabLoose    = 'x' // digest: a block that is held and that no record may refer to
	tabDue      = 't' // time, group, folder, token: when to ask what is to be kept
	tabHead     = 'h' // group, folder, author: a device's word of what it has uploaded
	tabAside    = 'a' // group, author, folder, number: a record that does not count
	tabGroup    = 'g' // group: quota and use
	tabSaid     = 's' // group, place: a statement
	digestBytes = len(seal.Digest{})
)

// A place is an entry of a folder of a group.
type place struct {
	group  group.ID
	folder crdt.FolderID
	token  seal.Token
}

func placeOf(h *seal.Header) place { return place{h.Group, h.Folder, h.Token} }

func metaKey(name string) []byte { return append([]byte{tabMeta}, name...) }

func key(tab byte, parts ...[]byte) []byte {
	k := []byte{tab}
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// numberOf is the number that a key ends with.
func numberOf(k []byte) uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }

func recordKey(no uint64) []byte { return key(tabRecord, number(no)) }
func (p place) key(tab byte) []byte {
	return key(tab, p.group[:], p.folder[:], p.token[:])
}
func (p place) old(no uint64) []byte { return append(p.key(tabOld), number(no)...) }
func feedKey(g group.ID, f crdt.FolderID, no uint64) []byte {
	return key(tabFeed, g[:], f[:], number(no))
}
func refKey(tab byte, d seal.Digest, no uint64) []byte { return key(tab, d[:], number(no)) }
func wantedKey(g group.ID, d seal.Digest) []byte       { return key(tabWanted, g[:], d[:]) }
func (p place) due(at age) []byte {
	return key(tabDue, number(uint64(at)), p.group[:], p.folder[:], p.token[:])
}

// placeAt reads the place that a key holds from an offset on.
func placeAt(k []byte, at int) (p place, ok bool) {
	if len(k) < at+48 {
		return p, false
	}
	return place{group.ID(k[at : at+16]), crdt.FolderID(k[at+16 : at+32]), seal.Token(k[at+32 : at+48])}, true
}

// A current is a record that nothing whole replaces.
type current struct {
	_       struct{} `cbor:",toarray"`
	No      uint64
	Arrived age
	Wall    int64  // when it arrived, by the clock, in Unix milliseconds; for people
	Missing uint64 // blocks that are not held, as far as known
	Whole   bool   // all were held once, or nothing lives that needs them
	Purged  bool   // dead for so long that its content is gone; the record stays, to tell of it
}

// An old is a replaced record.
type old struct {
	_        struct{} `cbor:",toarray"`
	Wall     int64
	Replaced age
	Gone     int64 // when it was replaced, by the clock, in Unix milliseconds; for people
}

// A held is a block that is here.
type held struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Group group.ID
}

var encoding, decoding = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	e, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(fmt.Sprintf("archive: encoding options: %v", err)) // constant options: a programming error
	}
	d, err := cbor.DecOptions{IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden}.DecMode()
	if err != nil {
		panic(fmt.Sprintf("archive: decoding options: %v", err))
	}
	return e, d
}

func encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("archive: encode %T: %v", v, err)) // plain data: a programming error
	}
	return b
}

// A tx is one change: it reads what it has put itself, and is committed as a whole.
type tx struct {
	db    *leveldb.DB
	batch *leveldb.Batch
	over  map[string][]byte // nil: deleted
}

func (a *Archive) begin() *tx {
	return &tx{db: a.db, batch: new(leveldb.Batch), over: make(map[string][]byte)}
}

// get gives nil for what is not there.
func (t *tx) get(k []byte) ([]byte, error) {
	if v, ok := t.over[string(k)]; ok {
		return v, nil
	}
	v, err := t.db.Get(k, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, nil
	}
	if err == nil && v == nil {
		v = []byte{}
	}
	return v, err
}

func (t *tx) has(k []byte) (bool, error) {
	v, err := t.get(k)
	return v != nil, err
}

func (t *tx) put(k, v []byte) {
	if v == nil {
		v = []byte{}
	}
	t.over[string(k)] = v
	t.batch.Put(k, v)
}

func (t *tx) delete(k []byte) {
	t.over[string(k)] = nil
	t.batch.Delete(k)
}

// load decodes a row, if it is there.
func (t *tx) load(k []byte, v any) (bool, error) {
	raw, err := t.get(k)
	if raw == nil || err != nil {
		return false, err
	}
	if err := decoding.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("row %q: %w: %w", k[:1], ErrDamaged, err)
	}
	return true, nil
}

func (t *tx) getUint(k []byte, missing uint64) (uint64, error) {
	raw, err := t.get(k)
	switch {
	case err != nil:
		return 0, err
	case raw == nil:
		return missing, nil
	case len(raw) != 8:
		return 0, fmt.Errorf("row %q: %d bytes: %w", k, len(raw), ErrDamaged)
	}
	return binary.BigEndian.Uint64(raw), nil
}

// keys gives the keys under a prefix in order, up to a limit (0: all).
func (t *tx) keys(prefix []byte, limit int) ([][]byte, error) {
	var out [][]byte
	for k, v := range t.over {
		if v != nil && bytes.HasPrefix([]byte(k), prefix) {
			out = append(out, []byte(k))
		}
	}
	fromDisk := 0
	it := t.db.NewIterator(util.BytesPrefix(prefix), nil)
	defer it.Release()
	for it.Next() && (limit == 0 || fromDisk < limit) {
		if _, ok := t.over[string(it.Key())]; !ok {
			out = append(out, bytes.Clone(it.Key()))
			fromDisk++
		}
	}
	slices.SortFunc(out, bytes.Compare)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	return out, it.Error()
}

func (t *tx) any(prefix []byte) (bool, error) {
	k, err := t.keys(prefix, 1)
	return len(k) > 0, err
}

// last gives the last key under a prefix that is committed, or nil.
func (t *tx) last(prefix []byte) ([]byte, error) {
	it := t.db.NewIterator(util.BytesPrefix(prefix), nil)
	defer it.Release()
	if !it.Last() {
		return nil, it.Error()
	}
	return bytes.Clone(it.Key()), it.Error()
}

// each calls fn for the rows under a prefix, from a key on, until it says no.
func each(it iterator.Iterator, from []byte, fn func(k, v []byte) (bool, error)) error {
	defer it.Release()
	for ok := it.Seek(from); ok; ok = it.Next() {
		if more, err := fn(it.Key(), it.Value()); err != nil || !more {
			return err
		}
	}
	return it.Error()
}
