package config

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestDefaults: what the design says a node does when nobody says otherwise.
func TestDefaults(t *testing.T) {
	t.Parallel()
	want := Config{
		Scan: Scan{time.Hour, 60 * day}, Watch: true, Trash: Trash{30 * day, Amount{Percent: 10}},
		Hold: Hold{50, 20}, MDNS: true, Log: Log{slog.LevelInfo},
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got, err := Read(t.TempDir()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("without a file: %+v, %v", got, err)
	}
}

// TestTable: each key has all it needs, and its default reads back as itself.
func TestTable(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, k := range Keys() {
		if names[k.Name] || k.Meaning == "" || strings.Count(k.Name, ".") > 1 {
			t.Errorf("%q is there twice, has no meaning or is too deep", k.Name)
		}
		names[k.Name] = true
		c := Default()
		if got := k.get(&c); got != k.Default {
			t.Errorf("%s: its default %q reads back as %q", k.Name, k.Default, got)
		}
	}
	for _, name := range []string{
		"scan.interval", "scan.rehash", "watch", "limits.upload", "limits.download", "trash.keep", "trash.max", "hold.entries",
		"hold.percent", "free.floor", "listen", "mdns", "api.address", "log.level",
	} {
		if !names[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

const everything = `# all of it
watch = false
listen = [ # two
  "/ip4/0.0.0.0/tcp/4101", # TCP
  '/ip4/0.0.0.0/udp/4101/quic-v1'
]
mdns = false
api.address = "[::1]:8390"

[scan]
interval = "30m"
rehash = "0"
[limits]
upload = "2MiB/s"
download = 1_000_000
[trash]
keep = "1d12h"
max = "20 GB"
[hold]
entries = 7
percent = 100
[free]
floor = "2.5%"
[log]
level = "DEBUG"
`

func TestReadEverything(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	write(t, home, everything)
	got, err := Read(home)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Scan: Scan{30 * time.Minute, 0}, Limits: Limits{2 << 20, 1_000_000}, Trash: Trash{36 * time.Hour, Amount{Bytes: 20e9}},
		Hold: Hold{7, 100}, Free: Free{Amount{Percent: 2.5}}, API: API{"[::1]:8390"}, Log: Log{slog.LevelDebug},
		Listen: []string{"/ip4/0.0.0.0/tcp/4101", "/ip4/0.0.0.0/udp/4101/quic-v1"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	values, err := Values(home)
	if err != nil || len(values) != len(keys) {
		t.Fatalf("%d values, %v", len(values), err)
	}
	for _, v := range values {
		if !v.Set {
			t.Errorf("%s is not said to be set", v.Key)
		}
		// What is shown can be set.
		c := Default()
		k, err := find(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.apply(&c, v.Value); err != nil || k.get(&c) != v.Value {
			t.Errorf("%s: %q reads back as %q, %v", v.Key, v.Value, k.get(&c), err)
		}
	}
}

func write(t *testing.T, home, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(home, FileName), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestRefused: what is wrong is told, where it stands and what to do, and none
// of it is taken.
func TestRefused(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"[trash]\nkep = \"3d\"":                  `line 2: there is no key "trash.kep"; the nearest is "trash.keep"`,
		"interval = \"1h\"":                      `the nearest is "scan.interval"`,
		"trash = {keep = \"3d\", mx = \"1GB\"}":  `there is no key "trash.mx"; the nearest is "trash.max"`,
		"Watch = true":                           `the nearest is "watch"`,
		"[watch]\nx = 1":                         `no key "watch.x"`,
		"watch = 1":                              "must be true or false",
		"watch = true\nwatch = false":            "line 2",
		"[scan]\ninterval = 3600":                `must be a time such as`,
		"[scan]\ninterval = \"10ms\"":            "at least 1s",
		"[scan]\ninterval = \"-1h\"":             "must be a time",
		"[scan]\ninterval = \"9999999d\"":        "must be a time",
		"[limits]\nupload = \"100B\"":            "at least 1KiB",
		"[limits]\nupload = \"-1MB\"":            "must be a size",
		"[limits]\nupload = \"1XB\"":             "must be a size",
		"[limits]\nupload = \"99999999PB\"":      "must be a size",
		"[trash]\nkeep = \"0\"":                  "at least 1s",
		"[trash]\nmax = \"110%\"":                "at most 100%",
		"[trash]\nmax = \"0%\"":                  "above 0%",
		"[free]\nfloor = \"0\"":                  "above 0, or auto",
		"[hold]\npercent = 101":                  "from 0 to 100",
		"[hold]\nentries = 1.5":                  "whole number",
		"listen = [\"0.0.0.0:4101\"]":            "is not a multiaddr",
		"listen = [[\"/ip4/0.0.0.0/tcp/4101\"]]": "",
		"api.address = \"0.0.0.0:8390\"":         "this machine alone",
		"api.address = \"127.0.0.1:99999\"":      "port",
		"[log]\nlevel = \"loud\"":                "debug, info, warn or error",
		"watch = ":                               "line 1",
		"\x00":                                   "line 1",
	} {
		home := t.TempDir()
		write(t, home, text)
		_, err := Read(home)
		var e *Error
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if !errors.As(err, &e) || !strings.Contains(err.Error(), says) || e.Remedy == "" || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error is %v, want %q in one line", text, err, says)
		}
		// Set refuses to build on it, and leaves it.
		if err := Set(home, "mdns", "true"); err == nil {
			t.Errorf("%q: Set went over it", text)
		}
		if got, _ := os.ReadFile(filepath.Join(home, FileName)); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
	home := t.TempDir()
	write(t, home, strings.Repeat("#", maxFile+1))
	if _, err := Read(home); err == nil {
		t.Error("a huge file was read")
	}
}

// TestSet: one line changes, and the rest of the file stays to the byte.
func TestSet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, key, value, after string }{
		"new file":             {"", "trash.keep", "90d", "[trash]\nkeep = \"90d\"\n"},
		"new file, no table":   {"", "watch", "false", "watch = false\n"},
		"replaced":             {"# c\n[trash]\n keep=\"1d\" # why\n\n[scan]\n", "trash.keep", "90d", "# c\n[trash]\n keep=\"90d\" # why\n\n[scan]\n"},
		"added to its table":   {"[trash]\nkeep = \"1d\" # why\n\n# next\n[scan]\n", "trash.max", "5GB", "[trash]\nkeep = \"1d\" # why\nmax = \"5GB\"\n\n# next\n[scan]\n"},
		"added to empty table": {"[trash] # mine\n[scan]\n", "trash.max", "5GB", "[trash] # mine\nmax = \"5GB\"\n[scan]\n"},
		"new table":            {"watch = true", "trash.max", "5%", "watch = true\n\n[trash]\nmax = \"5%\"\n"},
		"dotted":               {"trash.keep = \"1d\"\n[scan]\n", "trash.max", "5%", "trash.keep = \"1d\"\ntrash.max = \"5%\"\n[scan]\n"},
		"dotted, replaced":     {"trash.keep = \"1d\"", "trash.keep", "2d", "trash.keep = \"2d\""},
		"before tables":        {"# c\nmdns = true\n[scan]\n", "watch", "false", "# c\nmdns = true\nwatch = false\n[scan]\n"},
		"only tables":          {"[scan]\ninterval = \"2h\"\n", "watch", "false", "watch = false\n[scan]\ninterval = \"2h\"\n"},
		"a list of lines":      {"listen = [\n  \"/ip4/1.2.3.4/tcp/1\", # x\n] # y\nmdns = true\n", "listen", "/ip4/0.0.0.0/tcp/1,/ip4/0.0.0.0/udp/1/quic-v1", "listen = [\"/ip4/0.0.0.0/tcp/1\", \"/ip4/0.0.0.0/udp/1/quic-v1\"] # y\nmdns = true\n"},
		"an empty list":        {"listen = [\"/ip4/1.2.3.4/tcp/1\"]\n", "listen", "", "listen = []\n"},
		"Windows' line ends":   {"[trash]\r\nkeep = \"1d\"\r\n", "trash.max", "5%", "[trash]\r\nkeep = \"1d\"\r\nmax = \"5%\"\r\n"},
		"no last line end":     {"[trash]\nkeep = \"1d\"", "trash.max", "5%", "[trash]\nkeep = \"1d\"\nmax = \"5%\""},
		"tidied":               {"", "limits.upload", "2048KiB", "[limits]\nupload = \"2MiB\"\n"},
		"quoted key":           {"[\"trash\"]\n\"keep\" = '1d'\n", "trash.keep", "2d", "[\"trash\"]\n\"keep\" = \"2d\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			if c.before != "" {
				write(t, home, c.before)
			}
			if err := Set(home, c.key, c.value); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(home, FileName)
			if got, err := os.ReadFile(path); err != nil || string(got) != c.after {
				t.Errorf("got\n%q, want\n%q, %v", got, c.after, err)
			}
			info, err := os.Stat(path)
			want := os.FileMode(0o600)
			if c.before != "" {
				want = 0o640
			}
			if err != nil || runtime.GOOS != "windows" && info.Mode() != want {
				t.Errorf("mode is %v, want %v, %v", info.Mode(), want, err)
			}
			if left, _ := os.ReadDir(home); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestSetRefused: what cannot be done leaves the file alone.
func TestSetRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, key, value, says string }{
		"inline table": {"trash = {keep = \"1d\"}\n", "trash.keep", "2d", "by hand"},
		"beside one":   {"trash = {keep = \"1d\"}\n", "trash.max", "2%", "by hand"},
		"unknown key":  {"", "trash.kep", "2d", "trash.keep"},
		"wrong value":  {"", "trash.keep", "soon", "must be a time"},
		"two values":   {"", "watch", "true\nmdns = false", "must be true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			write(t, home, c.before)
			err := Set(home, c.key, c.value)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v", err)
			}
			if got, _ := os.ReadFile(filepath.Join(home, FileName)); string(got) != c.before {
				t.Errorf("the file became %q", got)
			}
		})
	}
}

// TestSetLeavesALink: who keeps the file elsewhere keeps it there.
func TestSetLeavesALink(t *testing.T) {
	t.Parallel()
	home, elsewhere := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, "sheaf.toml")
	if err := os.WriteFile(target, []byte("watch = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(home, FileName)); err != nil {
		t.Skip("no links here: ", err)
	}
	if err := Set(home, "watch", "false"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "watch = false\n" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if _, err := os.Readlink(filepath.Join(home, FileName)); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"scan.intervall": "scan.interval", "rehash": "scan.rehash", "TRASH.KEEP": "trash.keep", "limit.upload": "limits.upload",
		"upload": "limits.upload", "loglevel": "log.level", "mdsn": "mdns", "trash.kep": "trash.keep", strings.Repeat("x", 1<<20): "",
	} {
		if got := nearest(name); got != want && want != "" {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}
