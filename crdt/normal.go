package crdt

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Normalize brings an entry to normal form: at most one Version in Live. It
// gives the entry and, for each concurrent version that lost, the conflict copy
// that keeps it: an entry of its own, to be joined into the state in its turn.
// An entry in normal form comes back unchanged, without copies.
//
//  1. Versions of equal content fold into the one with the greatest Stamp, so
//     that whoever replaces it knowingly has replaced them all.
//  2. Of what is left, the greatest stays. Each other one leaves Live (its dot
//     stays in Seen) and becomes a copy beside it, under its own dot, by an ID
//     made from entry and dot. The Stamp of the copy's Place and Attrs has
//     Count zero: any later change outranks it.
//
// No new dot is needed: whoever meets the same conflict makes the same copy, and
// a copy that somebody deleted stays deleted. Whatever part of the versions is
// known, the greatest of them is never the one to leave.
func Normalize(e Entry) (Entry, []Entry) {
	vs := e.Versions()
	if len(vs) < 2 {
		return e, nil
	}
	slices.SortFunc(vs, func(f, g Facet) int {
		if c := compareVersions(g.Version, f.Version); c != 0 { // greatest first
			return c
		}
		return g.Dot.Compare(f.Dot)
	})
	kept := vs[:1:1]
	for _, f := range vs[1:] {
		if !slices.ContainsFunc(kept, func(k Facet) bool { return sameContent(k.Version, f.Version) }) {
			kept = append(kept, f)
		}
	}
	winner := vs[0]
	out := e
	out.Live = nil
	for _, f := range e.Live {
		if f.Version == nil || f == winner {
			out.Live = append(out.Live, f)
		}
	}
	var copies []Entry
	for _, f := range kept[1:] {
		copies = append(copies, conflictCopy(e, f))
	}
	return out, copies
}

// sameContent tells whether two versions give the same file. Size and number of
// blocks belong to it: were they left out, a false record of them could take the
// place of the true one.
func sameContent(v, w *Version) bool {
	return v.Content == w.Content && v.Size == w.Size && v.Blocks == w.Blocks && v.Target == w.Target
}

func conflictCopy(e Entry, lost Facet) Entry {
	v := lost.Version
	at := Location{Parent: e.Place.Parent, Name: conflictName(e.Place.Name, v)}
	stamp := Stamp{Time: v.Stamp.Time, Replica: v.Stamp.Replica}
	return Entry{
		ID:    conflictID(e.ID, e.Kind, lost.Dot),
		Kind:  e.Kind,
		Place: Place{Stamp: stamp, Location: at, From: at},
		Attrs: Attrs{Stamp: stamp, Mode: e.Attrs.Mode},
		Live:  []Facet{lost},
		Last:  v,
		Seen:  VersionVector{lost.Dot},
	}
}

// conflictName gives "name (conflict from AUTHOR YYYY-MM-DD HH.MM.SS).ext" in
// UTC: the same on every device, whatever its language, zone or clock.
func conflictName(name string, v *Version) string {
	return insertMark(name, fmt.Sprintf(" (conflict from %s %s)", authorPart(v.Author), timePart(v.Stamp.Time)))
}

// timePart writes Unix milliseconds for people; a time that no calendar of four
// digits holds as the bare number.
func timePart(ms int64) string {
	const first, end = -62167219200000, 253402300800000 // the years 0 to 9999
	if ms < first || ms >= end {
		return fmt.Sprintf("clock %d", ms)
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15.04.05")
}

// authorPart makes a label fit to stand in a name.
func authorPart(author string) string {
	author = strings.Map(func(r rune) rune {
		if r == '/' || unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(author, ""))
	author = strings.TrimSpace(cutRunes(author, 64))
	if author == "" {
		return "unknown"
	}
	return author
}
