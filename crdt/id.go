package crdt

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Domain labels of the hashes that make EntryIDs.
const (
	createdLabel  = "sheaf/entry/created/1"
	conflictLabel = "sheaf/entry/conflict/1"
)

// NewEntryID gives the ID of an entry that is created under parent by name: a
// hash of all that it is given, the name in its [NameKey] form. So two devices
// that create the same path while apart make the same entry. Where that entry
// is already visible at another place, the creating dot is the salt; else salt
// is nil. Its last two bits are the kind: see [EntryID.Kind].
func NewEntryID(folder FolderID, parent EntryID, kind Kind, name string, salt *Dot) EntryID {
	h := sha256.New()
	h.Write([]byte(createdLabel))
	h.Write(folder[:])
	h.Write(parent[:])
	h.Write([]byte{byte(kind)})
	key := NameKey(name)
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(key)))
	h.Write(length[:])
	h.Write([]byte(key))
	if salt != nil {
		writeDot(h, *salt)
	}
	return entryID(h, kind)
}

// conflictID gives the ID of the copy that keeps the version which lost under
// dot d in entry id. It is the same wherever that conflict is met.
//
// It is made from the dot, though one content written by two devices may so
// become two copies: were it made from the content, the second dot could come to
// a copy whose vector covers it by a later change of the same replica, and would
// be taken for deleted.
func conflictID(id EntryID, kind Kind, d Dot) EntryID {
	h := sha256.New()
	h.Write([]byte(conflictLabel))
	h.Write(id[:])
	writeDot(h, d)
	return entryID(h, kind)
}

func writeDot(h hash.Hash, d Dot) {
	h.Write(d.Replica[:])
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], d.Counter)
	h.Write(counter[:])
}

func entryID(h hash.Hash, kind Kind) EntryID {
	var id EntryID
	copy(id[:], h.Sum(nil))
	id[len(id)-1] = id[len(id)-1]&^3 | byte(kind)&3
	return id
}

// Kind gives the kind that the ID itself states, in its last two bits; a
// directory for [Root], zero where it states none. It is there so that an entry
// of the wrong kind can be refused by looking at it alone: were a file to one
// device a directory to another, the two could never agree again.
func (id EntryID) Kind() Kind {
	if id == Root {
		return Directory
	}
	return Kind(id[len(id)-1] & 3)
}
