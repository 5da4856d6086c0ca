package disk

import (
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The folder's own directory and its parts.
const (
	home       = ".sheaf"
	markerPath = home + "/folder"
	lockPath   = home + "/lock"
	tmpDir     = home + "/tmp"
	stageDir   = home + "/stage"
	trashDir   = home + "/trash"
	asideDir   = home + "/aside"
)

// MaxName is the longest name in bytes that any folder syncs.
const MaxName = 255

// maxPath bounds a path: 256 levels of the longest name.
const maxPath = 256 * (MaxName + 1)

// CheckName tells why a name cannot sync; "" if it can.
func CheckName(name string) string {
	switch {
	case name == "" || name == "." || name == "..":
		return "not a name"
	case len(name) > MaxName:
		return "name longer than 255 bytes"
	case !utf8.ValidString(name):
		return "name is not UTF-8"
	case strings.ContainsRune(name, '/'):
		return "name contains a slash"
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return "name contains a control character"
		}
	}
	return ""
}

// checkPath judges a path of the person's files: every name must be one that
// syncs, and nothing may lie in the folder's own directory, under whatever
// spelling a disk might take for it. "." is valid.
func checkPath(path string) error {
	if len(path) > maxPath || !fs.ValidPath(path) {
		return fmt.Errorf("path %.80q: %w", path, ErrName)
	}
	if path == "." {
		return nil
	}
	for name := range strings.SplitSeq(path, "/") {
		if why := CheckName(name); why != "" {
			return fmt.Errorf("path %.80q: %w: %s", path, ErrName, why)
		}
	}
	first, _, _ := strings.Cut(path, "/")
	if private(first) {
		return fmt.Errorf("path %.80q: %w: %s is Sheaf's own directory", path, ErrName, home)
	}
	return nil
}

// private tells whether a disk that folds case, drops ignorable characters
// (HFS+) or knows short names (Windows) might take name for the folder's own
// directory. See CVE-2014-9390 for what happens to those who compare bytes.
func private(name string) bool {
	plain := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Variation_Selector, r) {
			return -1
		}
		return r
	}, name)
	if runtime.GOOS == "windows" {
		plain = strings.TrimRight(plain, ". ")
		if strings.HasPrefix(strings.ToLower(plain), "sheaf~") {
			return true
		}
	}
	return strings.EqualFold(plain, home)
}

// join appends a name to a directory's path.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// split gives a path's directory and last name.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return ".", path
	}
	return path[:i], path[i+1:]
}
