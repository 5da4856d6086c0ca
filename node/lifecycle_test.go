package node_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sheaf/node"
	"sheaf/node/api"
)

// goleveldb's pool ends by itself a second after its database was closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// started runs a node in this process and gives it with a function that stops
// it and waits for its end.
func started(t *testing.T, home string) (*node.Node, func()) {
	t.Helper()
	n, err := node.Open(t.Context(), node.Options{Home: home, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, NoMDNS: true, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- n.Run(ctx, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the node ended before it served: %v", err)
	}
	return n, func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("stopped: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("not stopped after 10 s")
		}
	}
}

// Two nodes come into step, and when they have stopped nothing of them is left
// running (TestMain) and nothing locked.
func TestStartStepStop(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	at := func(name string) string { return filepath.Join(base, name) }
	for _, dir := range []string{at("a"), at("b")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(at("a"), "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := node.Init(t.Context(), node.InitOptions{Home: at("home-a"), Name: "a", Dir: at("a")})
	if err != nil {
		t.Fatal(err)
	}
	if r.RecoveryPhrase == "" {
		t.Error("no recovery phrase")
	}
	a, stopA := started(t, at("home-a"))
	defer stopA()
	invitation, err := a.InviteDevice(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Join(t.Context(), node.JoinOptions{Home: at("home-b"), Name: "b", Dir: at("b"), Code: invitation.Code, Timeout: 30 * time.Second, Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	b, stopB := started(t, at("home-b"))
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, n := range []*node.Node{a, b} { // the first until it has read its file
		if err := n.Wait(wait, api.WaitOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(at("b"), "file"))
	if err != nil || string(got) != "content" {
		t.Fatalf("%q, %v", got, err)
	}
	checks, err := b.Doctor(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		if c.Result == api.CheckFault {
			t.Errorf("%s: %s", c.Name, c.What)
		}
	}
	stopB()
	// And once more in the same home.
	_, stopB = started(t, at("home-b"))
	stopB()
}

func TestOpenWithoutInit(t *testing.T) {
	t.Parallel()
	_, err := node.Open(t.Context(), node.Options{Home: t.TempDir()})
	if !errors.Is(err, api.ErrUsage) {
		t.Errorf("opening no home: %v", err)
	}
}

// A home that is in use is never set up again, and a setup that would sync its
// own state is refused.
func TestInitRefuses(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	o := node.InitOptions{Home: filepath.Join(base, "home"), Name: "a", Dir: filepath.Join(base, "dir")}
	if _, err := node.Init(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(o.Home, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.Init(t.Context(), o); !errors.Is(err, api.ErrConflict) {
		t.Errorf("setting up twice: %v", err)
	}
	after, err := os.ReadFile(filepath.Join(o.Home, "keys"))
	if err != nil || string(before) != string(after) {
		t.Errorf("the keys were replaced, %v", err)
	}
	inside := node.InitOptions{Home: filepath.Join(base, "other", ".sheaf-state"), Name: "b", Dir: filepath.Join(base, "other")}
	if _, err := node.Init(t.Context(), inside); !errors.Is(err, api.ErrUsage) {
		t.Errorf("a home inside the folder: %v", err)
	}
	if _, err := os.Stat(inside.Home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made all the same: %v", err)
	}
}
