package api

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// judgePath is the one place that judges a path in the tree coming from
// outside. It gives the clean path, or an error that says what is wrong.
func judgePath(p string) (string, error) {
	wrong := ""
	switch {
	case !strings.HasPrefix(p, "/"):
		wrong = "does not start with /"
	case !utf8.ValidString(p):
		wrong = "is not UTF-8"
	case strings.ContainsRune(p, 0):
		wrong = "holds a zero byte"
	case slices.Contains(strings.Split(p, "/"), ".."):
		wrong = "holds .."
	default:
		return path.Clean(p), nil
	}
	return "", Errorf(ErrUsage, "give a path in the tree such as /Sync/notes.txt", "the path %s", wrong)
}
