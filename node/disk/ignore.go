package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// IgnoreFile is the file in a folder's root with the person's patterns, in
// gitignore's syntax. It syncs as any other file.
const IgnoreFile = ".sheafignore"

// maxIgnore bounds the pattern file: 256 KiB, some ten thousand lines.
const maxIgnore = 256 << 10

// DefaultIgnore is what no person means to sync: what operating systems leave
// in directories, and what programs write beside a document while it is open.
// A line of .sheafignore that starts with "!" takes one back. Not here, since
// some people keep data under such names: "*~", "._*", "*.tmp", "*.part".
// Their quiet time keeps half-written downloads from being sent.
const DefaultIgnore = `
.DS_Store
.Spotlight-V100/
.Trashes/
.fseventsd/
.TemporaryItems/
.DocumentRevisions-V100/
.Trash-*/
Thumbs.db
ehthumbs.db
[Dd]esktop.ini
$RECYCLE.BIN/
System Volume Information/
lost+found/
.directory.lock
.nfs[0-9a-f]*
.fuse_hidden*
~$*
.~lock.*#
*.swp
.*.sw[a-px]
4913
!4913/
*.crdownload
`

// rules decide what is ignored; the last line that matches a name wins, and
// below an ignored directory nothing is taken back, as in git.
type rules struct {
	list    []rule // in order of the lines
	invalid []string
}

// A rule is one line.
type rule struct {
	text    string // as a person names it: `.sheafignore line 3: "*.log"`
	glob    string // for doublestar, against the name alone or (path) the whole path
	how     matcher
	path    bool // has a slash that anchors it
	dirOnly bool
	take    bool // "!": takes back
}

// Most patterns need no glob matcher: a scan asks for every name.
type matcher uint8

const (
	byGlob matcher = iota
	bySame
	bySuffix
	byPrefix
)

// parseRules reads lines in gitignore's syntax; origin names the source.
func parseRules(r *rules, origin string, data []byte) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	n := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		n++
		x, ok := parseRule(strings.TrimSuffix(line, "\r"))
		if !ok {
			continue
		}
		x.text = fmt.Sprintf("%s line %d: %q", origin, n, strings.TrimSpace(line))
		if origin == "" {
			x.text = fmt.Sprintf("default rule %q", strings.TrimSpace(line))
		}
		if !doublestar.ValidatePattern(x.glob) {
			r.invalid = append(r.invalid, x.text)
			continue
		}
		r.list = append(r.list, x)
	}
}

// parseRule turns one line into a rule; false for blank lines and comments.
func parseRule(line string) (x rule, ok bool) {
	// Trailing spaces go, unless a backslash keeps the last of them.
	for strings.HasSuffix(line, " ") && !escapedEnd(line) {
		line = line[:len(line)-1]
	}
	if line == "" || line[0] == '#' {
		return x, false
	}
	if line[0] == '!' {
		x.take, line = true, line[1:]
	}
	if s, cut := strings.CutSuffix(line, "/"); cut {
		x.dirOnly, line = true, s
	}
	if line == "" {
		return x, false
	}
	x.path = strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if rest, cut := strings.CutPrefix(line, "**/"); cut && !strings.Contains(rest, "/") {
		x.path, line = false, rest // "**/foo" is "foo"
	}
	if base, cut := strings.CutSuffix(line, "/**"); cut {
		line = base + "/**/*" // what is inside, not the directory itself
	}
	x.glob = toGlob(line)
	switch lit := strings.Trim(line, "*"); {
	case x.path || strings.ContainsAny(lit, `*?[\`):
	case lit == line:
		x.how, x.glob = bySame, lit
	case "*"+lit == line:
		x.how = bySuffix
	case lit+"*" == line:
		x.how = byPrefix
	}
	return x, true
}

// escapedEnd tells whether the last byte of line is escaped.
func escapedEnd(line string) bool {
	n := 0
	for i := len(line) - 2; i >= 0 && line[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

// posix are the classes that fnmatch knows inside brackets and doublestar does not.
var posix = strings.NewReplacer(
	"[:alpha:]", "a-zA-Z", "[:digit:]", "0-9", "[:alnum:]", "a-zA-Z0-9", "[:upper:]", "A-Z",
	"[:lower:]", "a-z", "[:space:]", " \t", "[:blank:]", " \t", "[:xdigit:]", "0-9a-fA-F", "[:punct:]", `!-/:-@\[-`+"`{-~",
)

// toGlob says a gitignore pattern in doublestar's words: braces mean
// themselves in git, and two stars inside a name are one.
func toGlob(s string) string {
	parts := strings.Split(s, "/")
	for i, p := range parts {
		if p == "**" {
			continue
		}
		for strings.Contains(p, "**") {
			p = strings.ReplaceAll(p, "**", "*")
		}
		p = posix.Replace(p)
		var b strings.Builder
		for k := 0; k < len(p); k++ {
			switch c := p[k]; {
			case c == '\\' && k+1 < len(p):
				b.WriteByte(c)
				k++
				b.WriteByte(p[k])
			case c == '{' || c == '}':
				b.WriteByte('\\')
				b.WriteByte(c)
			case c == '[': // a "]" that comes first is one of the class
				b.WriteByte(c)
				if k+1 < len(p) && (p[k+1] == '!' || p[k+1] == '^') {
					k++
					b.WriteByte(p[k])
				}
				if k+1 < len(p) && p[k+1] == ']' {
					k++
					b.WriteString(`\]`)
				}
			default:
				b.WriteByte(c)
			}
		}
		parts[i] = b.String()
	}
	return strings.Join(parts, "/")
}

func (x *rule) matches(path, name string, dir bool) bool {
	if x.dirOnly && !dir {
		return false
	}
	switch {
	case x.path:
		return doublestar.MatchUnvalidated(x.glob, path)
	case x.how == bySame:
		return name == x.glob
	case x.how == bySuffix:
		return strings.HasSuffix(name, strings.TrimLeft(x.glob, "*"))
	case x.how == byPrefix:
		return strings.HasPrefix(name, strings.TrimRight(x.glob, "*"))
	}
	return doublestar.MatchUnvalidated(x.glob, name)
}

// match gives the rule that ignores path, not asking about its directories.
func (r *rules) match(path string, dir bool) (string, bool) {
	if path == IgnoreFile {
		return "", false // else the rules would not reach the other devices
	}
	_, name := split(path)
	for i := len(r.list) - 1; i >= 0; i-- {
		if x := &r.list[i]; x.matches(path, name, dir) {
			if x.take {
				return "", false
			}
			return x.text, true
		}
	}
	return "", false
}

// ignored is match for path and, first, every directory above it.
func (r *rules) ignored(path string, dir bool) (string, bool) {
	for i := range path {
		if path[i] == '/' {
			if rule, ok := r.match(path[:i], true); ok {
				return rule, true
			}
		}
	}
	return r.match(path, dir)
}

// Ignored tells whether path (a directory if dir) is left out, and names the
// rule: of .sheafignore or a default.
func (d *Folder) Ignored(path string, dir bool) (rule string, ok bool) {
	if path == "." {
		return "", false
	}
	return d.ignore.Load().ignored(path, dir)
}

// Reload reads .sheafignore again, to be called when it has changed. An
// unreadable or overlong file is an error and leaves the rules as they were,
// or at the first time the defaults alone; a line that is no pattern is
// skipped and named by IgnoreProblems.
func (d *Folder) Reload() error {
	r := new(rules)
	parseRules(r, "", []byte(DefaultIgnore))
	if d.ignore.Load() == nil {
		d.ignore.Store(&rules{list: r.list})
	}
	data, err := readSmall(d.fs, IgnoreFile, maxIgnore)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNotFile) {
		return fmt.Errorf("read ignore patterns: %w", err)
	}
	parseRules(r, IgnoreFile, data)
	d.ignore.Store(r)
	return nil
}

// IgnoreProblems names the lines of .sheafignore that are no valid patterns
// and therefore ignore nothing.
func (d *Folder) IgnoreProblems() []string { return d.ignore.Load().invalid }
