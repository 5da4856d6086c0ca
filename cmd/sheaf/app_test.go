package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func oneLineAndRemedy(s string) bool {
	return strings.HasPrefix(s, "sheaf: ") && strings.Count(s, "\n") == 1 && strings.HasSuffix(s, "\n") && strings.Contains(s, "; ")
}

func testApp(t *testing.T) (*app, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"SHEAF_HOME": filepath.Join(t.TempDir(), "home")}
	a := &app{
		in: strings.NewReader(""), out: &out, err: &errs, env: func(k string) string { return env[k] },
		signals: func(ctx context.Context) (context.Context, <-chan struct{}, func()) { return ctx, nil, func() {} },
		exit:    func(int) { t.Error("the process would end") },
	}
	a.backend = fakeBackend(a.env)
	return a, &out, &errs
}

// everyCommand calls f for each command there is.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		everyCommand(sub, f)
	}
}

// TestEveryCommandHelps: help with an example for each command, and no command
// of the contract is missing.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	a, _, _ := testApp(t)
	root := a.root()
	seen := map[string]bool{}
	everyCommand(root, func(c *cobra.Command) {
		seen[c.CommandPath()] = true
		if c.Short == "" || c.Example == "" || !strings.Contains(c.Example, "sheaf ") {
			t.Errorf("%s has no short text or no example", c.CommandPath())
		}
		var out bytes.Buffer
		c.SetOut(&out)
		if err := c.Help(); err != nil || !strings.Contains(out.String(), "Examples:") {
			t.Errorf("%s --help: %v\n%s", c.CommandPath(), err, out.String())
		}
	})
	for _, name := range []string{
		"init", "up", "down", "restart", "service install", "service remove", "service status", "device invite", "device list",
		"device rename", "device remove", "join", "recover", "status", "wait", "address", "peer connect", "web", "pause", "resume",
		"doctor", "ls", "conflicts", "conflicts list", "conflicts resolve", "why", "log", "hold list", "hold release", "hold revert",
		"trash list", "trash restore", "trash empty", "config", "config list", "config set", "config token", "man",
		"relay add", "relay list", "relay remove", "backup add", "backup list", "backup status", "backup remove", "restore", "history",
		"archive add", "cp", "mv", "rm",
	} {
		if !seen["sheaf "+name] {
			t.Errorf("there is no command sheaf %s", name)
		}
	}
	for _, name := range []string{"share", "link", "cat", "get", "put"} {
		if seen["sheaf "+name] {
			t.Errorf("sheaf %s is there already", name)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain Grüße 文件.txt": "plain Grüße 文件.txt",
		"\x1b[2Jx":           `\x1b[2Jx`,
		"a\nb\tc":            `a\nb\tc`,
		"gpj.\u202etxt":      `gpj.\u202etxt`,
		"zero\u200bwidth":    `zero\u200bwidth`,
		"\xff":               `\ufffd`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestSizeAndCount(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1499: "1.5 kB", 9949: "9.9 kB", 9999: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB",
		3_400_000_000: "3.4 GB", 1 << 62: "4.6 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 files", 1: "1 file", 999: "999 files", 1000: "1,000 files", 1234567: "1,234,567 files"} {
		if got := count(n, "file", "files"); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
		}
	}
}

func TestDefaultHome(t *testing.T) {
	t.Parallel()
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"SHEAF_HOME": "/h", "XDG_STATE_HOME": "/s", "HOME": "/u"}, "/h"},
		{map[string]string{"XDG_STATE_HOME": "/s", "HOME": "/u"}, filepath.Join("/s", "sheaf")},
	} {
		if got, err := defaultHome(env(c.env)); err != nil || got != c.want {
			t.Errorf("%v: %q, %v", c.env, got, err)
		}
	}
	got, err := defaultHome(env(map[string]string{"XDG_STATE_HOME": "relative", "HOME": filepath.FromSlash("/u")}))
	if err != nil || !strings.HasPrefix(got, filepath.FromSlash("/u")) {
		t.Errorf("without an absolute XDG_STATE_HOME: %q, %v", got, err)
	}
}

// TestColours: on a terminal, and only if nobody forbids it.
func TestColours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		terminal bool
		noColor  string
		want     bool
	}{{true, "", true}, {true, "1", false}, {false, "", false}} {
		a, out, _ := testApp(t)
		a.terminal.out = c.terminal
		a.env = func(k string) string { return map[string]string{"NO_COLOR": c.noColor}[k] }
		if err := a.showStatus(api.Status{Device: api.Self{Name: "x"}, State: api.Idle}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b["); got != c.want {
			t.Errorf("%+v: coloured %v: %q", c, got, out)
		}
	}
}

// TestWordsNotSaid: a person says no, and nothing happens.
func TestWordsNotSaid(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{"n\n": 5, "\n": 5, "": 5, "yes\n": 0, "Y\n": 0} {
		a, _, errs := testApp(t)
		a.in, a.terminal.in, a.terminal.err = strings.NewReader(answer), true, true
		if got := run(a, []string{"join", "code", "--name", "phone", "--dir", t.TempDir()}); got != want {
			t.Errorf("answer %q: exit status %d, want %d: %s", answer, got, want, errs)
		}
		if !strings.Contains(errs.String(), "invited by laptop") {
			t.Errorf("it did not say who invites: %s", errs)
		}
	}
}

// TestQRCode: on a terminal beside the code, not in it.
func TestQRCode(t *testing.T) {
	t.Parallel()
	a, out, errs := testApp(t)
	home := a.env("SHEAF_HOME")
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := &fakeNode{o: runOptions{Home: home}, stop: make(chan bool, 1)}
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.run(ctx, func() { close(ready) }) }()
	<-ready
	a.terminal.err = true
	if got := run(a, []string{"device", "invite", "--expires", "1h"}); got != 0 {
		t.Errorf("exit status %d: %s", got, errs)
	}
	if out.String() != "sheaf-code-for-1h0m0s\n" {
		t.Errorf("stdout is %q", out)
	}
	if !strings.Contains(errs.String(), "▀") {
		t.Errorf("no QR code on stderr: %q", errs)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStuckNode: a node that does not stop is ended, within the five seconds of
// the contract and a little.
func TestStuckNode(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, signals := range map[string]int{"one signal": 1, "two signals": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), self)
			cmd.Args = []string{"sheaf", "up"}
			cmd.Env = append(os.Environ(), "SHEAF_HOME="+t.TempDir(), "FAKE_STUCK=1")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 6)
			if _, err := out.Read(line); err != nil || string(line) != "ready\n" {
				t.Fatalf("it said %q, %v", line, err)
			}
			start := time.Now()
			for range signals {
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				pause := time.NewTimer(100 * time.Millisecond) // signals of one kind at once are one
				<-pause.C
			}
			_ = cmd.Wait()
			took := time.Since(start)
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d", code)
			}
			if most := map[int]time.Duration{1: stopWithin + 5*time.Second, 2: stopWithin - time.Second}[signals]; took > most {
				t.Errorf("it took %v", took)
			}
		})
	}
}
