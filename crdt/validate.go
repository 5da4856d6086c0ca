package crdt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A BatchError tells why a whole batch was refused: the entry at fault and what
// is wrong with it. No honest writer makes such an entry.
type BatchError struct {
	ID     EntryID
	Reason string
}

// Error gives the entry and the reason.
func (e *BatchError) Error() string { return fmt.Sprintf("entry %s: %s", e.ID, e.Reason) }

// Validate tells whether [Apply] would take a batch that came from elsewhere. A
// *[BatchError] names what is wrong; any other error is one of rows. Nothing is
// written. Refused are:
//
//   - more than [MaxBatch] entries (Apply itself does not count: a local change
//     is as large as it is);
//   - an entry that is not well-formed: its ID against its kind, names, modes,
//     sizes, registers, dots of Live that are not in Seen, versions in a
//     directory, targets of symbolic links that do not hash to their content;
//   - a parent in Place or From that is neither Root nor a directory present in
//     rows or in the batch;
//   - one that, merged with what is known, would pass [MaxReplicas] or
//     [MaxEncoded], or whose new place is deeper than [MaxChain].
func Validate(rows Rows, batch []Entry) error {
	if len(batch) > MaxBatch {
		return &BatchError{batch[MaxBatch].ID, fmt.Sprintf("batch of more than %d entries", MaxBatch)}
	}
	_, err := prepare(rows, batch)
	return err
}

// checkEntry judges what can be judged by an entry alone.
func checkEntry(e Entry) error {
	refuse := func(reason string) error { return &BatchError{e.ID, reason} }
	switch {
	case e.ID == Root:
		return refuse("the root has no entry")
	case e.Kind < Directory || e.Kind > Symlink:
		return refuse("unknown " + e.Kind.String())
	case e.ID.Kind() != e.Kind:
		return refuse("a " + e.Kind.String() + " by the ID of another kind")
	}
	if err := checkShape(e); err != nil {
		return refuse(err.Error())
	}
	for _, l := range []Location{e.Place.Location, e.Place.From} {
		if err := ValidName(l.Name); err != nil {
			return refuse(err.Error())
		}
		if l.Parent.Kind() != Directory {
			return refuse("its parent is not a directory")
		}
	}
	switch {
	case e.Place.Stamp.Count > MaxCount || e.Attrs.Stamp.Count > MaxCount:
		return refuse("count out of range")
	case e.Attrs.Mode > MaxMode:
		return refuse("mode out of range")
	case !e.Attrs.HasMTime && e.Attrs.MTime != 0:
		return refuse("a time that is not in force")
	case len(e.Seen) == 0:
		return refuse("nothing has been seen")
	case e.Kind == Directory && e.Last != nil:
		return refuse("a directory with content")
	case e.Kind != Directory && e.Last == nil:
		return refuse("a " + e.Kind.String() + " without content")
	}
	if err := checkVersion(e.Kind, e.Last); err != nil {
		return refuse(err.Error())
	}
	for _, f := range e.Live {
		if f.Version != nil && e.Kind == Directory {
			return refuse("a directory with content")
		}
		if compareVersions(f.Version, e.Last) > 0 {
			return refuse("a version greater than the last")
		}
		if err := checkVersion(e.Kind, f.Version); err != nil {
			return refuse(err.Error())
		}
	}
	return checkSize(e)
}

// checkSize holds an entry against the caps.
func checkSize(e Entry) error {
	if len(e.Seen) > MaxReplicas {
		return &BatchError{e.ID, fmt.Sprintf("changed by more than %d replicas", MaxReplicas)}
	}
	if replicas := e.replicas(); replicas > maxTable {
		return &BatchError{e.ID, fmt.Sprintf("names %d replicas", replicas)}
	}
	if e.encodedBound() > MaxEncoded && len(e.Encode(nil)) > MaxEncoded {
		return &BatchError{e.ID, fmt.Sprintf("larger than %d bytes", MaxEncoded)}
	}
	return nil
}

// checkShape holds an entry against what its types promise: sorted, without
// repetitions, and every dot of Live in Seen.
func checkShape(e Entry) error {
	for i, d := range e.Seen {
		if d.Counter == 0 {
			return errors.New("a counter of zero")
		}
		if i > 0 && string(e.Seen[i-1].Replica[:]) >= string(d.Replica[:]) {
			return errors.New("a vector out of order")
		}
	}
	for i, f := range e.Live {
		if f.Dot.Counter == 0 {
			return errors.New("a counter of zero")
		}
		if i > 0 && e.Live[i-1].compare(f) >= 0 {
			return errors.New("dots out of order")
		}
		if !e.Seen.Covers(f.Dot) {
			return errors.New("a dot that has not been seen")
		}
	}
	return nil
}

func checkVersion(kind Kind, v *Version) error {
	switch {
	case v == nil:
		return nil
	case v.Stamp.Count > MaxCount:
		return errors.New("count out of range")
	case v.Size < 0:
		return errors.New("a negative size")
	case len(v.Author) > MaxAuthor || !utf8.ValidString(v.Author):
		return errors.New("an author's label that is too long or not UTF-8")
	case kind == Symlink:
		return checkTarget(v)
	case v.Target != "":
		return errors.New("a target that is not of a symbolic link")
	}
	return nil
}

func checkTarget(v *Version) error {
	switch {
	case v.Target == "" || len(v.Target) > MaxTarget || !utf8.ValidString(v.Target) || strings.IndexByte(v.Target, 0) >= 0:
		return errors.New("a target that is empty, too long, not UTF-8 or holds NUL")
	case v.Content != sha256.Sum256([]byte(v.Target)):
		return errors.New("a target that is not its content")
	}
	return nil
}
