package api

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSocketIsForTheUserAlone(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no modes there")
	}
	home := t.TempDir()
	l, err := Listen(home, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(home, socketName))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket is %v, %v", info.Mode(), err)
	}
	if _, err := Listen(home, ""); !errors.Is(err, ErrConflict) {
		t.Errorf("a second node: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, socketName)); err != nil {
		t.Errorf("the second took the first one's socket: %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if left, err := os.ReadDir(home); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestLongHome: sockets have short names; homes need not.
func TestLongHome(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), strings.Repeat("long", 30), strings.Repeat("way", 30))
	if err := os.MkdirAll(home, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(crash bool) (target string) {
		l, err := Listen(home, "")
		if err != nil {
			t.Fatal(err)
		}
		target, err = os.Readlink(filepath.Join(home, socketName))
		if err != nil || len(target) > maxSocketPath {
			t.Fatalf("the socket is at %q: %v", target, err)
		}
		dir, err := os.Stat(filepath.Dir(target))
		if err != nil || dir.Mode().Perm() != 0o700 {
			t.Errorf("its directory is %v, %v", dir.Mode(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- NewServer(newFake(), Options{}).Run(ctx, l) }()
		if _, err := client(t, home).Status(t.Context()); err != nil {
			t.Errorf("a client does not find it: %v", err)
		}
		if crash {
			l.remove = nil // as if killed: nothing is cleared up
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return target
	}
	first := run(true)
	if _, err := os.Lstat(first); err != nil {
		t.Fatalf("the crash left nothing: %v", err)
	}
	second := run(false) // clears up after the first and after itself
	for _, target := range []string{first, second} {
		if _, err := os.Lstat(filepath.Dir(target)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", target, err)
		}
	}
}

func TestSocketOfADeadNodeIsReplaced(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dead, err := net.Listen("unix", filepath.Join(home, socketName))
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	l, err := Listen(home, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestTCPIsForThisMachineAlone(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "example.org:80", "127.0.0.1", "nonsense"} {
		home := t.TempDir()
		if l, err := Listen(home, addr); !errors.Is(err, ErrUsage) {
			t.Errorf("%s: %v, %v", addr, l, err)
		}
		if left, _ := os.ReadDir(home); len(left) != 0 {
			t.Errorf("%s: left behind %v", addr, left)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if _, err := Listen(t.TempDir(), taken.Addr().String()); err == nil || !strings.Contains(err.Error(), "--api") {
		t.Errorf("a taken port: %v", err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	var wg sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		wg.Go(func() {
			var err error
			if tokens[i], err = Token(home); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, tok := range tokens {
		if len(tok) < 52 || tok != tokens[0] {
			t.Errorf("tokens differ or are short: %q", tokens)
		}
	}
	if info, err := os.Stat(filepath.Join(home, tokenName)); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("token file: %v, %v", info.Mode(), err)
	}
	fresh, err := NewToken(home)
	if err != nil || fresh == tokens[0] {
		t.Errorf("the new token is %q, %v", fresh, err)
	}
	if again, err := Token(home); err != nil || again != fresh {
		t.Errorf("then it is %q, %v", again, err)
	}
	if left, _ := os.ReadDir(home); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	for _, broken := range []string{"", "short\n", strings.Repeat("x", maxToken+1)} {
		if err := os.WriteFile(filepath.Join(home, tokenName), []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if tok, err := Token(home); err == nil {
			t.Errorf("a broken file gives %q", tok)
		}
	}
}

func TestLockHome(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "new", "home")
	first, err := LockHome(home)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LockHome(home); !errors.Is(err, ErrConflict) {
		t.Errorf("a second lock: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := WaitUnlocked(ctx, home); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what is locked: %v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- WaitUnlocked(t.Context(), home) }()
	if err := first.Unlock(); err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Errorf("waiting for what was let go: %v", err)
	}
	again, err := LockHome(home)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unlock(); err != nil {
		t.Error(err)
	}
}
