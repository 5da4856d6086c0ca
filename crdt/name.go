package crdt

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A NameError tells why a name can never enter a folder.
type NameError struct {
	Name   string
	Reason string
}

// Error gives the quoted name and the reason.
func (e *NameError) Error() string { return fmt.Sprintf("name %q: %s", e.Name, e.Reason) }

// NameKey gives the form by which two names in one directory are equal: Unicode
// normalisation form C. Shown names keep the bytes they were given.
func NameKey(name string) string {
	for i := range len(name) {
		if name[i] >= utf8.RuneSelf {
			return norm.NFC.String(name)
		}
	}
	return name
}

// ValidName returns a *[NameError] for a name that no system could hold safely:
// empty, "." or "..", with a slash or control character (NUL among them), over
// [MaxNameBytes] bytes, or not UTF-8.
func ValidName(name string) error {
	switch {
	case name == "":
		return &NameError{name, "is empty"}
	case len(name) > MaxNameBytes:
		return &NameError{name, fmt.Sprintf("is longer than %d bytes", MaxNameBytes)}
	case name == "." || name == "..":
		return &NameError{name, "means a directory itself"}
	case !utf8.ValidString(name):
		return &NameError{name, "is not UTF-8"}
	}
	for _, r := range name {
		if r == '/' {
			return &NameError{name, "holds a slash"}
		}
		if unicode.IsControl(r) {
			return &NameError{name, "holds a control character"}
		}
	}
	return nil
}

// splitExt cuts a name before its extension: what follows its last dot, with
// the dot. A dot that comes first begins no extension, nor one that spaces or
// parentheses follow: in "Dr. Jekyll", or in the time that marks a conflict copy,
// it is only a dot.
func splitExt(name string) (stem, ext string) {
	if i := strings.LastIndexByte(name, '.'); i > 0 && !strings.ContainsAny(name[i:], " ()") {
		return name[:i], name[i:]
	}
	return name, ""
}

// insertMark gives stem + mark + ext of name, no longer than MaxNameBytes. What
// is too long loses the end of its stem, at a rune border; an extension that
// leaves the stem no room counts as stem.
func insertMark(name, mark string) string {
	stem, ext := splitExt(name)
	if len(ext)+len(mark) >= MaxNameBytes-utf8.UTFMax {
		stem, ext = name, ""
	}
	return cutRunes(stem, MaxNameBytes-len(mark)-len(ext)) + mark + ext
}

// cutRunes gives the longest start of s that is at most n bytes and ends at a
// rune border.
func cutRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
