// Package sealtest makes accounts whose devices seal files, for tests of what keeps and
// carries sealed things. What it makes is the same in each run, but for what HPKE draws.
package sealtest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// Folder is the folder that all files are in.
var Folder = crdt.FolderID{5}

// Must gives a value, or fails the test.
func Must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Seeded is a source of bytes that are the same in each run.
func Seeded(n uint64) *rand.ChaCha8 {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n)
	return rand.NewChaCha8(seed)
}

// An Account is a group with two devices that write.
type Account struct {
	Log           *group.Log
	Laptop, Phone *Device
}

// A Device seals.
type Device struct {
	Keys   group.Keys
	Box    *seal.Box
	Number uint64 // of its last record
}

// NewAccount founds an account.
func NewAccount(t testing.TB, seed uint64) *Account {
	t.Helper()
	rnd := Seeded(seed)
	keys, paper, other := Must(group.GenerateKeys(rnd))(t), Must(group.GenerateKeys(rnd))(t), Must(group.GenerateKeys(rnd))(t)
	list := Must(group.Found(rnd, keys, group.Founding{Purpose: group.Account, Name: "laptop", Paper: paper}))(t)
	a := &Account{Log: Must(group.LoadLog(list))(t)}
	d := other.Device()
	d.Name = "phone"
	a.Hear(t, Must(a.Log.Admit(rnd, keys, group.New{Device: d, Role: group.Owner}))(t))
	a.Laptop, a.Phone = a.device(t, keys), a.device(t, other)
	return a
}

// ID is the account's group.
func (a *Account) ID() group.ID { return a.Log.Group() }

// Hear adds statements to the account's log.
func (a *Account) Hear(t testing.TB, list []group.Statement) {
	t.Helper()
	Must(a.Log.Add(list...))(t)
}

// RemovePhone removes the phone, letting stand what the cuts name.
func (a *Account) RemovePhone(t testing.TB, cuts ...group.Cut) []group.Statement {
	t.Helper()
	list := Must(a.Log.Remove(Seeded(9), a.Laptop.Keys, group.Departure{Device: a.Phone.Keys.ID(), Cuts: cuts}))(t)
	a.Hear(t, list)
	return list
}

func (a *Account) device(t testing.TB, keys group.Keys) *Device {
	t.Helper()
	st := a.Log.Evaluate()
	d := &Device{Keys: keys, Box: Must(seal.NewBox(a.ID(), Must(st.OpenKeys(keys))(t)))(t)}
	t.Cleanup(d.Box.Close)
	return d
}

// A Content is what is in a file, as it is uploaded.
type Content struct {
	List  chunk.List
	Refs  []seal.Ref
	Bytes [][]byte // sealed
}

// Content seals blocks.
func (d *Device) Content(t testing.TB, plain ...string) (c Content) {
	t.Helper()
	for _, p := range plain {
		b := chunk.Block{Hash: chunk.Sum([]byte(p)), Size: uint32(len(p))}
		data, ref, err := d.Box.SealBlock(nil, []byte(p), b)
		if err != nil {
			t.Fatal(err)
		}
		c.List, c.Refs, c.Bytes = append(c.List, b), append(c.Refs, ref), append(c.Bytes, data)
	}
	return c
}

// Dot is the n'th change by a replica.
func Dot(replica byte, n uint64) crdt.Dot {
	return crdt.Dot{Replica: crdt.ReplicaID{replica}, Counter: n}
}

// File makes the entry of a file, or of one that is deleted.
func File(name string, c Content, dead bool, seen ...crdt.Dot) crdt.Entry {
	last := seen[len(seen)-1]
	stamp := crdt.Stamp{Count: 1, Time: 1_700_000_000_000, Replica: last.Replica}
	at := crdt.Location{Name: name}
	v := &crdt.Version{Stamp: stamp, Author: "laptop", Content: crdt.ContentHash(c.List.Content()), Size: c.List.Size(), Blocks: uint32(len(c.List)), MTime: 1}
	e := crdt.Entry{
		ID: crdt.NewEntryID(Folder, crdt.Root, crdt.File, name, nil), Kind: crdt.File,
		Place: crdt.Place{Stamp: stamp, Location: at, From: at}, Attrs: crdt.Attrs{Stamp: stamp, Mode: 0o644},
		Live: []crdt.Facet{{Dot: last, Version: v}}, Last: v, Seen: crdt.VersionVector(seen),
	}
	if dead {
		e.Live = nil
	}
	return e
}

// Record seals an entry with its content. The pages are to be stored with its blocks.
func (d *Device) Record(t testing.TB, e crdt.Entry, c Content) (r *seal.Record, pages [][]byte) {
	t.Helper()
	d.Number++
	draft := seal.Draft{Folder: Folder, Number: d.Number, Entry: e, Refs: c.Refs}
	if len(c.List) > 1 {
		draft.List = c.List
	}
	r, pages, err := d.Box.SealRecord(Seeded(d.Number), d.Keys, draft)
	if err != nil {
		t.Fatal(err)
	}
	return r, pages
}
