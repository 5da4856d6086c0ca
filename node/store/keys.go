package store

import (
	"encoding/binary"

	"sheaf/crdt"
	"sheaf/replication/chunk"
)

// Every key starts with two bytes of folder number (big endian; 0 is the
// store's own) and one byte of table. What follows, and the value:
//
//	folder 0
//	  's' "schema"                        uvarint: format of the database
//	  's' "id"                            StoreID
//	  's' "next"                          uvarint: the next folder number
//	  's' "commit"                        uvarint: number of the last commit of folder 0
//	  'f' FolderID                        uint16: its number
//	  'v' space NUL key                   a value of another part of the node
//	folder n
//	  'm'                                 meta: replica, counter, last seq, counts
//	  'r' EntryID                         the row: entry, view, base
//	  's' seq (8, big endian)             EntryID          derived
//	  'n' parent, NameKey, NUL, EntryID   nameRow (linked: kept by crdt; based: derived)
//	  'b' seq (8, big endian), EntryID    uvarint: bytes to fetch; behind   derived
//	  'f' EntryID                         fallen in the view (kept by crdt)
//	  'g' EntryID                         fallen on the disk                derived
//	  'i' inode (8, big endian), EntryID  -                derived
//	  'k' block hash (first 8), EntryID   uvarint offset, uvarint size      derived
//	  'c' content, EntryID                - : an entry refers to a list     derived
//	  'l' content                         uvarint size, block list
//	  'p' peer                            StoreID, uvarint: its seq applied
//	  'e' EntryID                         uvarint: Unix seconds, uvarint: counter, ReplicaID; see Tx.PutEnded
//	  'h' ReplicaID                       uvarint: highest counter applied without a gap
const (
	tabMeta     = 'm'
	tabRow      = 'r'
	tabSeq      = 's'
	tabName     = 'n'
	tabBehind   = 'b'
	tabFallen   = 'f'
	tabOffPlace = 'g'
	tabInode    = 'i'
	tabBlock    = 'k'
	tabRef      = 'c'
	tabList     = 'l'
	tabPeer     = 'p'
	tabHead     = 'h'
	tabEnded    = 'e'

	tabStore  = 's' // of folder 0
	tabFolder = 'f'
	tabValue  = 'v'
)

const (
	prefixLen = 3
	idLen     = len(crdt.EntryID{})
	hashCut   = 8 // bytes of a block's hash in its key: a false hit costs one read
)

type number uint16 // a folder's number in keys

func (n number) key(table byte, size int) []byte {
	k := make([]byte, prefixLen, prefixLen+size)
	binary.BigEndian.PutUint16(k, uint16(n))
	k[2] = table
	return k
}

func (n number) idKey(table byte, id crdt.EntryID) []byte {
	return append(n.key(table, idLen), id[:]...)
}

func (n number) seqKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(n.key(tabSeq, 8), seq)
}

func (n number) behindKey(seq uint64, id crdt.EntryID) []byte {
	return append(binary.BigEndian.AppendUint64(n.key(tabBehind, 8+idLen), seq), id[:]...)
}

// dirKey is the prefix of all names under parent.
func (n number) dirKey(parent crdt.EntryID) []byte {
	return append(n.key(tabName, idLen+48), parent[:]...)
}

// nameKey is the prefix of all entries under parent of one NameKey. No name
// has a NUL, so that no name's prefix is another's.
func (n number) nameKey(parent crdt.EntryID, key string) []byte {
	return append(append(n.dirKey(parent), key...), 0)
}

func (n number) inodeKey(inode uint64) []byte {
	return binary.BigEndian.AppendUint64(n.key(tabInode, 8+idLen), inode)
}

func (n number) blockKey(h chunk.Hash) []byte {
	return append(n.key(tabBlock, hashCut+idLen), h[:hashCut]...)
}

func (n number) contentKey(table byte, c crdt.ContentHash) []byte {
	return append(n.key(table, len(c)+idLen), c[:]...)
}

// lastID is the EntryID at the end of a key.
func lastID(key []byte) (id crdt.EntryID, ok bool) {
	if len(key) < prefixLen+idLen {
		return id, false
	}
	return crdt.EntryID(key[len(key)-idLen:]), true
}
