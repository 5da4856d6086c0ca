package crdt

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"pgregory.net/rapid"
)

// Generators of entries: small worlds of dots, stamps and contents, so that two
// drawn entries have much in common.

func genReplica(t *rapid.T) ReplicaID {
	return replicaID(rapid.IntRange(0, 2).Draw(t, "replica"))
}

func genDot(t *rapid.T) Dot {
	return Dot{genReplica(t), rapid.Uint64Range(1, 4).Draw(t, "counter")}
}

func genStamp(t *rapid.T) Stamp {
	return Stamp{
		Count:   rapid.Uint64Range(0, 3).Draw(t, "count"),
		Time:    rapid.SampledFrom([]int64{0, 1, -1, 1_700_000_000_000, 50 * year, -1 << 63, 1<<63 - 1}).Draw(t, "time"),
		Replica: genReplica(t),
	}
}

func genVersion(t *rapid.T, kind Kind) *Version {
	v := &Version{
		Stamp:  genStamp(t),
		Author: rapid.SampledFrom([]string{"", "ada", "bob's laptop"}).Draw(t, "author"),
		Size:   rapid.SampledFrom([]int64{0, 1, 1 << 40}).Draw(t, "size"),
		Blocks: rapid.Uint32Range(0, 2).Draw(t, "blocks"),
		MTime:  rapid.SampledFrom([]int64{0, -1, 1_700_000_000_123_456_789}).Draw(t, "mtime"),
	}
	text := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "text")
	v.Content = sha256.Sum256([]byte(text))
	if kind == Symlink {
		v.Target = text
	}
	return v
}

var genNames = []string{"a", "b", "a (2)", "\u00e9.b", "e\u0301.b", longName}

// genParents are the directories that any generated entry may be in.
func genParents() []EntryID {
	ids := []EntryID{Root}
	for i := range 3 {
		ids = append(ids, NewEntryID(FolderID{}, Root, Directory, fmt.Sprint("dir", i), nil))
	}
	return ids
}

func genLocation(t *rapid.T) Location {
	return Location{rapid.SampledFrom(genParents()).Draw(t, "parent"), rapid.SampledFrom(genNames).Draw(t, "name")}
}

// genEntry draws a state of an entry that Validate takes, whether or not honest
// replicas could come to it: other facets under one dot among them.
func genEntry(t *rapid.T, id EntryID) Entry {
	e := Entry{ID: id, Kind: id.Kind()}
	e.Place = Place{Stamp: genStamp(t), Location: genLocation(t), From: genLocation(t)}
	e.Attrs = Attrs{Stamp: genStamp(t), Mode: rapid.Uint32Range(0, MaxMode).Draw(t, "mode")}
	if rapid.Bool().Draw(t, "has mtime") {
		e.Attrs.HasMTime, e.Attrs.MTime = true, rapid.Int64().Draw(t, "attrs mtime")
	}
	e.Seen = VersionVector{}.With(genDot(t))
	for range rapid.IntRange(0, 2).Draw(t, "seen") {
		e.Seen = e.Seen.With(genDot(t))
	}
	if e.Kind != Directory {
		e.Last = genVersion(t, e.Kind)
	}
	for range rapid.IntRange(0, 3).Draw(t, "live") {
		f := Facet{Dot: genDot(t)}
		if e.Kind != Directory && rapid.Bool().Draw(t, "content") {
			f.Version = genVersion(t, e.Kind)
			if compareVersions(f.Version, e.Last) > 0 {
				e.Last = f.Version
			}
		}
		e.Seen = e.Seen.With(f.Dot)
		if i, found := slices.BinarySearchFunc(e.Live, f, Facet.compare); !found {
			e.Live = slices.Insert(e.Live, i, f)
		}
	}
	return e
}

func genID(t *rapid.T) EntryID {
	kind := rapid.SampledFrom([]Kind{Directory, File, Symlink}).Draw(t, "kind")
	return NewEntryID(FolderID{}, Root, kind, "f", nil)
}
