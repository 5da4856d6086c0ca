package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
)

// errSpace: the names of spaces are the program's, so this is a mistake in it.
var errSpace = errors.New("the name of a space may not hold a NUL")

func spaceKey(space, key string) ([]byte, error) {
	if strings.ContainsRune(space, 0) {
		return nil, errSpace
	}
	k := append(number(0).key(tabValue, len(space)+1+len(key)), space...)
	return append(append(k, 0), key...), nil
}

// Get gives a small value that another part of the node has put. A space is
// that part's own.
func (s *Store) Get(space, key string) ([]byte, bool, error) {
	k, err := spaceKey(space, key)
	if err != nil {
		return nil, false, err
	}
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.leave()
	v := view{src: s.db}
	val, ok, err := v.get(k)
	return val, ok, s.fault(wrap("read a setting", err))
}

// Put puts a small value. It is durable when Put returns.
func (s *Store) Put(space, key string, v []byte) error {
	k, err := spaceKey(space, key)
	if err != nil {
		return err
	}
	return s.change(func(b *leveldb.Batch) { b.Put(k, v) })
}

// PutAll puts values of one space, all of them or, if it fails, none. They are durable
// when it returns. An empty value is put as one; nil removes.
func (s *Store) PutAll(space string, values map[string][]byte) error {
	if len(values) == 0 {
		return nil
	}
	keys := make(map[string][]byte, len(values))
	for key, v := range values {
		k, err := spaceKey(space, key)
		if err != nil {
			return err
		}
		keys[string(k)] = v
	}
	return s.change(func(b *leveldb.Batch) {
		for k, v := range keys {
			if v == nil {
				b.Delete([]byte(k))
			} else {
				b.Put([]byte(k), v)
			}
		}
	})
}

// Delete removes a value, durably. There need not be one.
func (s *Store) Delete(space, key string) error {
	k, err := spaceKey(space, key)
	if err != nil {
		return err
	}
	return s.change(func(b *leveldb.Batch) { b.Delete(k) })
}

// Each calls fn for all the values of a space, by key, until fn fails. It sees
// one state of them, and fn may change them.
func (s *Store) Each(space string, fn func(key string, v []byte) error) error {
	prefix, err := spaceKey(space, "")
	if err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	v := view{src: s.db}
	defer v.release()
	var called error
	err = v.scan(prefix, nil, func(k, val []byte) (bool, error) {
		called = fn(string(k[len(prefix):]), append([]byte(nil), val...))
		return called == nil, nil
	})
	if called != nil {
		return called
	}
	return s.fault(wrap("read settings", err))
}

// change commits a change of folder 0, synced.
func (s *Store) change(fill func(*leveldb.Batch)) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.changeLocked(fill)
}

func (s *Store) changeLocked(fill func(*leveldb.Batch)) error {
	b := new(leveldb.Batch)
	fill(b)
	b.Put(storeKey("commit"), binary.AppendUvarint(nil, s.commits+1))
	if err := s.commit(b, 0, s.commits+1, true); err != nil {
		return err
	}
	s.commits++
	return nil
}

func storeKey(name string) []byte {
	return append(number(0).key(tabStore, len(name)), name...)
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
