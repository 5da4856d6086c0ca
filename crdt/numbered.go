package crdt

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// Names of one directory that are equal by NameKey are told apart by a number:
// the entry placed first keeps the name, the next are shown as "name (2).ext",
// "name (3).ext", passing over names that visible siblings have of their own.
//
// Names made from different keys never meet: the number can be read back out of
// a made name (numberedBase), and gives the one key that it was made from. That
// holds because an extension has no spaces or parentheses (see splitExt): where
// there is one, the number is before it, and where there is none, at the end.

// A namesake is one of the visible entries of a directory whose names are equal.
type namesake struct {
	id    EntryID
	name  string // its own name
	stamp Stamp  // of its Place
}

// compare orders namesakes: the one placed first by the clock comes first. The
// Counts of different entries say nothing about one another.
func (n namesake) compare(m namesake) int {
	if c := n.stamp.compareTime(m.stamp); c != 0 {
		return c
	}
	return bytes.Compare(n.id[:], m.id[:])
}

// shownNames sorts the namesakes and gives the names to show them by, in that
// order. used tells whether a visible sibling has a name of its own with that
// NameKey.
func shownNames(group []namesake, used func(key string) (bool, error)) ([]string, error) {
	slices.SortFunc(group, namesake.compare)
	shown := make([]string, len(group))
	k := 2
	for i, n := range group {
		if i == 0 {
			shown[0] = n.name
			continue
		}
		for shown[i] == "" {
			name, ok := numbered(n.name, k)
			if !ok {
				var err error
				if name, err = identified(n, used); err != nil {
					return nil, err
				}
				shown[i] = name
				break
			}
			k++
			taken, err := used(NameKey(name))
			if err != nil {
				return nil, err
			}
			if !taken {
				shown[i] = name
			}
		}
	}
	return shown, nil
}

// numbered gives "name (k).ext"; false when that is too long.
func numbered(name string, k int) (string, bool) {
	stem, ext := splitExt(name)
	s := stem + " (" + strconv.Itoa(k) + ")" + ext
	return s, len(s) <= MaxNameBytes
}

// identified gives the name of a namesake whose own is too long for a number:
// shortened, with its whole ID, so that it is the only one of that name
// whatever was cut off.
func identified(n namesake, used func(key string) (bool, error)) (string, error) {
	id := n.id.String()
	name := insertMark(n.name, " ("+id+")")
	for k := 2; ; k++ {
		taken, err := used(NameKey(name))
		if err != nil || !taken {
			return name, err
		}
		name = insertMark(n.name, " ("+id+" "+strconv.Itoa(k)+")")
	}
}

// numberedBase reads a made name back: the key of the names that would be shown
// by key for want of their own; false when there are none such.
func numberedBase(key string) (string, bool) {
	stem, mark, ext, ok := cutMark(key)
	if !ok || mark[0] == '0' {
		return "", false
	}
	if k, err := strconv.Atoi(mark); err != nil || k < 2 || strconv.Itoa(k) != mark {
		return "", false
	}
	return NameKey(stem + ext), true
}

// identifiedEntries reads the IDs out of a name that identified may have made.
func identifiedEntries(key string) []EntryID {
	var ids []EntryID
	for rest := key; ; {
		_, after, ok := strings.Cut(rest, " (")
		if !ok {
			return ids
		}
		rest = after
		var id EntryID
		if len(after) <= 2*len(id) {
			return ids
		}
		if _, err := hex.Decode(id[:], []byte(after[:2*len(id)])); err == nil {
			ids = append(ids, id)
		}
	}
}

// cutMark takes "stem (mark).ext" apart.
func cutMark(key string) (stem, mark, ext string, ok bool) {
	stem, ext = splitExt(key)
	if !strings.HasSuffix(stem, ")") {
		return "", "", "", false
	}
	i := strings.LastIndex(stem, " (")
	if i < 1 || i+3 > len(stem)-1 {
		return "", "", "", false
	}
	return stem[:i], stem[i+2 : len(stem)-1], ext, true
}
