package disk_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sheaf/node/disk"
)

// rulesOfGit is what git's documentation of gitignore promises, each line:
// patterns (separated by "|"), path (directories end in "/"), ignored or not.
var rulesOfGit = []struct {
	patterns, path string
	ignored        bool
}{
	{"# comment", "# comment", false},
	{`\#file`, "#file", true},
	{"", "a", false},
	{"   ", "   ", false},
	{"trail   ", "trail", true},
	{"trail   ", "trail   ", false},
	{`trail\ `, "trail ", true},
	{`trail\  `, "trail ", true},
	{`back\\ `, `back\`, true},
	{`lead`, " lead", false},
	{` lead`, " lead", true},
	{`\!file`, "!file", true},
	{"*.log|!keep.log", "keep.log", false},
	{"*.log|!keep.log", "d/other.log", true},
	{"!keep.log|*.log", "keep.log", true},
	{"d/|!d/keep", "d/keep", true}, // no taking back below an ignored directory
	{"d/*|!d/keep", "d/keep", false},
	{"d/*|!d/keep", "d/lose", true},
	{"/*|!/foo|/foo/*|!/foo/bar", "foo/bar", false},
	{"/*|!/foo|/foo/*|!/foo/bar", "foo/bar/x", false},
	{"/*|!/foo|/foo/*|!/foo/bar", "foo/baz", true},
	{"/*|!/foo|/foo/*|!/foo/bar", "other", true},
	{"foo/", "foo/", true},
	{"foo/", "foo/in", true},
	{"foo/", "foo", false},
	{"foo/", "d/foo/", true},
	{"foo/", "d/foo", false},
	{"doc/frotz/", "doc/frotz/", true},
	{"doc/frotz/", "a/doc/frotz/", false},
	{"frotz/", "a/frotz/", true},
	{"doc/frotz", "a/doc/frotz", false},
	{"/doc/frotz", "doc/frotz", true},
	{"/a.c", "a.c", true},
	{"/a.c", "d/a.c", false},
	{"/*.c", "cat.c", true},
	{"/*.c", "d/cat.c", false},
	{"foo/*", "foo/test.json", true},
	{"foo/*", "foo/bar/", true},
	{"foo/*", "foo/bar/hello.c", true}, // since foo/bar is
	{"foo/*.c", "foo/bar/hello.c", false},
	{"foo*", "foobar", true},
	{"foo*", "d/foobar/x", true},
	{"*o*", "a/foo", true},
	{"f?o", "fxo", true},
	{"f?o", "f/o", false},
	{"f?o", "fo", false},
	{"[abc]x", "bx", true},
	{"[!abc]x", "bx", false},
	{"[!abc]x", "dx", true},
	{"[^abc]x", "dx", true},
	{"[a-c]x", "bx", true},
	{"[]]x", "]x", true},
	{`[\]]x`, "]x", true},
	{"[[:digit:]]x", "7x", true},
	{"[[:digit:]]x", "ax", false},
	{"[[:alpha:]_]x", "_x", true},
	{"**/foo", "foo", true},
	{"**/foo", "a/b/foo", true},
	{"**/foo/bar", "foo/bar", true},
	{"**/foo/bar", "a/foo/bar", true},
	{"**/foo/bar", "a/foo/x/bar", false},
	{"abc/**", "abc/x", true},
	{"abc/**", "abc/x/y", true},
	{"abc/**", "abc/", false},
	{"abc/**", "d/abc/x", false},
	{"a/**/b", "a/b", true},
	{"a/**/b", "a/x/b", true},
	{"a/**/b", "a/x/y/b", true},
	{"a/**/b", "a/x/y/c", false},
	{"a/**/b", "d/a/b", false},
	{"foo**bar", "fooxbar", true},
	{"foo**bar", "foo/bar", false},
	{"a/foo**", "a/foox", true},
	{"a/foo**", "a/foo/x", true}, // since a/foo is
	{"a/**/", "a/x/", true},
	{"a/**/", "a/x", false},
	{"**", "anything", true},
	{"**", "a/b", true},
	{"**/", "d/", true},
	{"**/", "f", false},
	{"{a,b}", "a", false},
	{"{a,b}", "{a,b}", true},
	{`\*`, "*", true},
	{`\*`, "x", false},
	{`a\?`, "a?", true},
	{`a\?`, "ab", false},
	{"[x", "[x", false}, // no pattern
	{"[x", "x", false},
	{".*", ".hidden", true},
	{"*", ".hidden", true},
	{"*.tar.gz", "a.tar.gz", true},
	{"a b", "a b", true},
	{"Case", "case", false},
	{"x\r", "x", true},
	{"/", "a", false},
	{"!", "a", false},
	{"d/e", "d/e/f", true},
	{"d/*/f", "d/x/f", true},
	{"d/*/f", "d/x/y/f", false},
}

func TestIgnoreAsGitDocumentsIt(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, c := range rulesOfGit {
		f.put(disk.IgnoreFile, strings.ReplaceAll(c.patterns, "|", "\n")+"\n")
		ok(t, f.Reload())
		path, dir := strings.CutSuffix(c.path, "/")
		if rule, got := f.Ignored(path, dir); got != c.ignored || got == (rule == "") {
			t.Errorf("%q: %q ignored %v by %q, want %v", c.patterns, c.path, got, rule, c.ignored)
		}
	}
}

// Where there is a git, it is asked the same.
func TestIgnoreAsGitDoesIt(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	dir := t.TempDir()
	git := func(stdin string, args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "core.ignorecase=false", "-c", "core.excludesFile=/dev/null"}, args...)...)
		cmd.Stdin = strings.NewReader(stdin)
		cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1")
		var out bytes.Buffer
		cmd.Stdout = &out
		err := cmd.Run()
		return out.String(), err
	}
	if _, err := git("", "init", "-q"); err != nil {
		t.Skipf("git init: %v", err)
	}
	for _, c := range rulesOfGit {
		if strings.ContainsAny(c.path, "\r") || strings.Contains(c.patterns, "\r") {
			continue // git keeps the carriage return
		}
		ok(t, os.WriteFile(filepath.Join(dir, ".gitignore"), []byte(strings.ReplaceAll(c.patterns, "|", "\n")+"\n"), 0o644))
		full := filepath.Join(dir, c.path)
		if strings.HasSuffix(c.path, "/") {
			ok(t, os.MkdirAll(full, 0o755))
		} else {
			ok(t, os.MkdirAll(filepath.Dir(full), 0o755))
			ok(t, os.WriteFile(full, nil, 0o644))
		}
		_, err := git(strings.TrimSuffix(c.path, "/")+"\x00", "check-ignore", "-q", "--no-index", "-z", "--stdin")
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			t.Fatalf("%q: git: %v", c.patterns, err)
		}
		if (err == nil) != c.ignored {
			t.Errorf("%q: git ignores %q: %v", c.patterns, c.path, err == nil)
		}
		first, _, _ := strings.Cut(c.path, "/")
		ok(t, os.RemoveAll(filepath.Join(dir, first)))
	}
}

func TestDefaultIgnore(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	for _, p := range []string{".DS_Store", "d/.DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "~$report.docx", "a.swp", ".a.txt.swp", ".a.txt.swx", "4913", ".~lock.a.odt#", "x.crdownload", ".nfs0000a1", ".fuse_hidden0001"} {
		if rule, got := f.Ignored(p, false); !got || !strings.Contains(rule, "default") {
			t.Errorf("%s: not ignored (%s)", p, rule)
		}
	}
	for _, p := range []string{"a.txt", "a.part", "a.tmp", "a~", "._a", ".git", ".env", "Icon", "swp", "a.sw", "~a", "4913.jpg", ".sheafignore", "my.lock", "x.download", ".nfs"} {
		if rule, got := f.Ignored(p, false); got {
			t.Errorf("%s: ignored by %s", p, rule)
		}
	}
	if _, got := f.Ignored("4913", true); got {
		t.Error("a directory 4913 is somebody's")
	}
	if _, got := f.Ignored("lost+found", true); !got {
		t.Error("lost+found")
	}
	f.put(disk.IgnoreFile, "\ufeff!*.swp\n*\n[oops\n")
	ok(t, f.Reload())
	if rule, got := f.Ignored("a.swp", false); !got || !strings.Contains(rule, `.sheafignore line 2: "*"`) {
		t.Error(rule, got)
	}
	if _, got := f.Ignored(disk.IgnoreFile, false); got {
		t.Error("the rules ignore themselves")
	}
	if p := f.IgnoreProblems(); len(p) != 1 || !strings.Contains(p[0], "line 3") {
		t.Error(p)
	}
	f.put(disk.IgnoreFile, "!*.swp\n/priv/\n")
	ok(t, f.Reload())
	if _, got := f.Ignored("a.swp", false); got {
		t.Error("a default cannot be taken back")
	}
	// Below an ignored directory everything is, in a listing as well.
	f.put("priv/sub/x", "1")
	f.put("priv/y", "1")
	l, err := f.List(context.Background(), "priv")
	ok(t, err)
	if len(l.Items) != 0 || len(l.Skipped) != 2 {
		t.Error(l)
	}
	f.put(disk.IgnoreFile, strings.Repeat("x\n", 1<<18))
	if f.Reload() == nil {
		t.Error("a file of half a megabyte was read")
	}
	if _, got := f.Ignored("priv", true); !got {
		t.Error("rules were lost by a bad file")
	}
}

func FuzzIgnore(f *testing.F) {
	for _, c := range rulesOfGit {
		f.Add(c.patterns, strings.TrimSuffix(c.path, "/"))
	}
	d := newFolder(f)
	f.Fuzz(func(t *testing.T, patterns, path string) {
		if len(patterns) > 200 || len(path) > 200 {
			return
		}
		ok(t, os.WriteFile(d.path(disk.IgnoreFile), []byte(patterns), 0o644))
		ok(t, d.Reload())
		rule, got := d.Ignored(path, false)
		if got == (rule == "") {
			t.Fatal(rule, got)
		}
	})
}
