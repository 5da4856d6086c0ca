package crdt

import (
	"bytes"
	"cmp"
	"strings"
)

// Join merges two states of one entry: the least state that includes both. It is
// commutative, associative and idempotent. The result may need [Normalize].
//
// The states must be of one ID and Kind, as [Apply] makes sure of; of two that
// are not, the lesser by kind and ID comes back unchanged.
//
// Live and Seen are a causal dot store (Almeida, Shoker, Baquero: "Delta state
// replicated data types", 2018): a dot stays if both sides have it, or if the
// side without it has not seen it; a dot that one side has seen and no longer
// has, was replaced or deleted there by somebody who knew it.
func Join(a, b Entry) Entry {
	if c := cmp.Or(cmp.Compare(a.Kind, b.Kind), bytes.Compare(a.ID[:], b.ID[:])); c != 0 {
		if c > 0 {
			return b
		}
		return a
	}
	if a.Equal(b) {
		return a
	}
	out := a
	out.Live = joinLive(a, b)
	out.Seen = a.Seen.Merge(b.Seen)
	if comparePlaces(b.Place, a.Place) > 0 {
		out.Place = b.Place
	}
	if compareAttrs(b.Attrs, a.Attrs) > 0 {
		out.Attrs = b.Attrs
	}
	if compareVersions(b.Last, a.Last) > 0 {
		out.Last = b.Last
	}
	return out
}

func joinLive(a, b Entry) []Facet {
	x, y := a.Live, b.Live
	if len(x)+len(y) == 0 {
		return nil
	}
	out := make([]Facet, 0, len(x)+len(y))
	for len(x) > 0 || len(y) > 0 {
		c := compareHeads(x, y)
		switch {
		case c < 0:
			n := dotRun(x)
			if !b.Seen.Covers(x[0].Dot) {
				out = append(out, x[:n]...)
			}
			x = x[n:]
		case c > 0:
			n := dotRun(y)
			if !a.Seen.Covers(y[0].Dot) {
				out = append(out, y[:n]...)
			}
			y = y[n:]
		default:
			n, m := dotRun(x), dotRun(y)
			out = unite(out, x[:n], y[:m])
			x, y = x[n:], y[m:]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// compareHeads compares the dots at the front; an empty list comes last.
func compareHeads(x, y []Facet) int {
	switch {
	case len(x) == 0:
		return 1
	case len(y) == 0:
		return -1
	}
	return x[0].Dot.Compare(y[0].Dot)
}

// dotRun gives the number of facets at the front that have one dot.
func dotRun(x []Facet) int {
	n := 1
	for n < len(x) && x[n].Dot == x[0].Dot {
		n++
	}
	return n
}

// unite appends the union of two sorted runs of one dot. Different facets under
// one dot are a replica that repeated itself: both are kept.
func unite(out, x, y []Facet) []Facet {
	for len(x) > 0 && len(y) > 0 {
		switch c := x[0].compare(y[0]); {
		case c < 0:
			out, x = append(out, x[0]), x[1:]
		case c > 0:
			out, y = append(out, y[0]), y[1:]
		default:
			out, x, y = append(out, x[0]), x[1:], y[1:]
		}
	}
	return append(append(out, x...), y...)
}

// compare orders facets by dot, then version, a presence first.
func (f Facet) compare(g Facet) int {
	if c := f.Dot.Compare(g.Dot); c != 0 {
		return c
	}
	return compareVersions(f.Version, g.Version)
}

// The orders below are total on values, so that equal stamps, which honest
// writers never give to different values, still end the same everywhere.

// compareVersions orders by Stamp, then value; nil comes first.
func compareVersions(v, w *Version) int {
	if v == w {
		return 0
	}
	if v == nil {
		return -1
	}
	if w == nil {
		return 1
	}
	if c := v.Stamp.Compare(w.Stamp); c != 0 {
		return c
	}
	if c := bytes.Compare(v.Content[:], w.Content[:]); c != 0 {
		return c
	}
	return cmp.Or(
		cmp.Compare(v.Size, w.Size),
		cmp.Compare(v.Blocks, w.Blocks),
		cmp.Compare(v.MTime, w.MTime),
		strings.Compare(v.Author, w.Author),
		strings.Compare(v.Target, w.Target),
	)
}

func comparePlaces(p, q Place) int {
	if c := p.Stamp.Compare(q.Stamp); c != 0 {
		return c
	}
	if c := p.Location.compare(q.Location); c != 0 {
		return c
	}
	return p.From.compare(q.From)
}

func (l Location) compare(m Location) int {
	if c := bytes.Compare(l.Parent[:], m.Parent[:]); c != 0 {
		return c
	}
	return strings.Compare(l.Name, m.Name)
}

func compareAttrs(a, b Attrs) int {
	if c := a.Stamp.Compare(b.Stamp); c != 0 {
		return c
	}
	if a.HasMTime != b.HasMTime {
		if a.HasMTime {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Mode, b.Mode), cmp.Compare(a.MTime, b.MTime))
}
