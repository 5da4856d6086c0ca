package crdt

import "slices"

// IsLive tells whether something keeps the entry alive by itself.
func (e Entry) IsLive() bool { return len(e.Live) > 0 }

// Versions gives the facets of Live that are contents: in normal form (see
// [Normalize]) at most one.
func (e Entry) Versions() []Facet {
	var vs []Facet
	for _, f := range e.Live {
		if f.Version != nil {
			vs = append(vs, f)
		}
	}
	return vs
}

// liveVersion gives the greatest Version in Live, nil for none.
func (e Entry) liveVersion() *Version {
	var v *Version
	for _, f := range e.Live {
		if compareVersions(f.Version, v) > 0 {
			v = f.Version
		}
	}
	return v
}

// Shown gives the Version that a file or symbolic link shows: the one in Live;
// where only a presence is left (deleted here by somebody who had seen the
// content, moved there), Last. Nil for a directory.
func (e Entry) Shown() *Version {
	if v := e.liveVersion(); v != nil {
		return v
	}
	return e.Last
}

// MTime gives the modification time shown, in Unix nanoseconds: of the Version
// shown or of Attrs, whichever Stamp is greater. Zero for a directory whose time
// nobody has set.
func (e Entry) MTime() int64 {
	if e.attrsTime() {
		return e.Attrs.MTime
	}
	if v := e.Shown(); v != nil {
		return v.MTime
	}
	return 0
}

// attrsTime tells whether the time of Attrs is in force.
func (e Entry) attrsTime() bool {
	v := e.Shown()
	return e.Attrs.HasMTime && (v == nil || e.Attrs.Stamp.Compare(v.Stamp) > 0)
}

// Mode gives the permission bits shown.
func (e Entry) Mode() uint32 { return e.Attrs.Mode }

// Equal tells whether the states are the same.
func (e Entry) Equal(f Entry) bool {
	return e.ID == f.ID && e.Kind == f.Kind && e.Place == f.Place && e.Attrs == f.Attrs &&
		compareVersions(e.Last, f.Last) == 0 &&
		slices.Equal(e.Seen, f.Seen) &&
		slices.EqualFunc(e.Live, f.Live, func(x, y Facet) bool { return x.compare(y) == 0 })
}
