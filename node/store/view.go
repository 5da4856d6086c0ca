package store

import (
	"bytes"
	"errors"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/comparer"
	"github.com/syndtr/goleveldb/leveldb/iterator"
	"github.com/syndtr/goleveldb/leveldb/memdb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/util"
)

// source is what a database and a snapshot of it have in common.
type source interface {
	Get(key []byte, ro *opt.ReadOptions) ([]byte, error)
	NewIterator(slice *util.Range, ro *opt.ReadOptions) iterator.Iterator
}

// A view reads keys of a source as they are under an overlay of changes (nil
// for none). It is for one goroutine.
//
// One iterator serves all its scans, since making one costs more than what
// most scans read; that is right because nobody else writes what it reads
// while it lasts: a snapshot never changes, and a writer is alone in its folder.
type view struct {
	src  source
	over *overlay
	iter iterator.Iterator
	busy bool
}

// get gives a key's value, which the caller may keep.
func (v *view) get(key []byte) ([]byte, bool, error) {
	if v.over != nil {
		if val, state := v.over.get(key); state != absent {
			return val, state == there, nil
		}
	}
	val, err := v.src.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, false, nil
	}
	return val, err == nil, ofDB(err)
}

// scan calls fn for the keys with this prefix from start on (nil: from the
// first), in order, until fn says stop. Keys and values are good during the
// call only. fn may get, and scan again, but not change anything.
func (v *view) scan(prefix, start []byte, fn func(key, value []byte) (more bool, err error)) error {
	if start == nil {
		start = prefix
	}
	it := v.iter
	if v.busy || it == nil {
		it = v.src.NewIterator(nil, nil)
		if v.busy {
			defer it.Release()
		} else {
			v.iter = it
		}
	}
	if !v.busy {
		v.busy = true
		defer func() { v.busy = false }()
	}
	var changes iterator.Iterator
	if v.over != nil {
		changes = v.over.rows.NewIterator(nil)
		defer changes.Release()
	}
	return merge(it, changes, prefix, start, fn)
}

// merge walks stored rows and changes together; a change hides the stored row
// of its key.
func merge(stored, changes iterator.Iterator, prefix, start []byte, fn func(key, value []byte) (bool, error)) error {
	inStored := stored.Seek(start) && bytes.HasPrefix(stored.Key(), prefix)
	inChanges := changes != nil && changes.Seek(start) && bytes.HasPrefix(changes.Key(), prefix)
	for inStored || inChanges {
		order := -1 // of the stored key against the changed
		switch {
		case !inStored:
			order = 1
		case inChanges:
			order = bytes.Compare(stored.Key(), changes.Key())
		}
		more := true
		var err error
		if order < 0 {
			more, err = fn(stored.Key(), stored.Value())
		} else if val := changes.Value(); val[0] == put {
			more, err = fn(changes.Key(), val[1:])
		}
		if err != nil || !more {
			return err
		}
		if order <= 0 {
			inStored = stored.Next() && bytes.HasPrefix(stored.Key(), prefix)
		}
		if order >= 0 {
			inChanges = changes.Next() && bytes.HasPrefix(changes.Key(), prefix)
		}
	}
	return ofDB(stored.Error())
}

func (v *view) release() {
	if v.iter != nil {
		v.iter.Release()
		v.iter = nil
	}
}

// An overlay is the changes of a transaction that are not written yet, in
// order of their keys.
type overlay struct{ rows *memdb.DB }

const (
	removed byte = iota
	put
)

type presence int

const (
	absent presence = iota // the overlay does not know the key
	gone
	there
)

func newOverlay() *overlay { return &overlay{memdb.New(comparer.DefaultComparer, 16<<10)} }

func (o *overlay) put(key, value []byte) error {
	return o.rows.Put(key, append([]byte{put}, value...))
}

func (o *overlay) remove(key []byte) error { return o.rows.Put(key, []byte{removed}) }

func (o *overlay) get(key []byte) ([]byte, presence) {
	val, err := o.rows.Get(key)
	switch {
	case err != nil:
		return nil, absent
	case val[0] == removed:
		return nil, gone
	}
	return bytes.Clone(val[1:]), there
}

// batch gives the changes as one batch of the database.
func (o *overlay) batch() *leveldb.Batch {
	b := leveldb.MakeBatch(o.rows.Size() + 16*o.rows.Len())
	it := o.rows.NewIterator(nil)
	defer it.Release()
	for it.Next() {
		if val := it.Value(); val[0] == put {
			b.Put(it.Key(), val[1:])
		} else {
			b.Delete(it.Key())
		}
	}
	return b
}
