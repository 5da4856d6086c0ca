package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sheaf/node/config"
)

// TestClientIsTheNode: what goes through the wire, in both directions, is what
// went in.
func TestClientIsTheNode(t *testing.T) {
	t.Parallel()
	far, near := newFake(), newFake()
	home, _ := serve(t, far, Options{}, "")
	got := everyCall(t.Context(), client(t, home))
	want := everyCall(t.Context(), near)
	for name, w := range want {
		for i := range w {
			if w[i] == nil || got[name][i] == nil {
				if w[i] != got[name][i] {
					t.Errorf("%s: result %d is %v, want %v", name, i, got[name][i], w[i])
				}
			} else if !sameJSON(t, got[name][i], w[i]) {
				t.Errorf("%s: result %d is\n%+v, want\n%+v", name, i, got[name][i], w[i])
			}
		}
	}
	if a, b := far.made(), near.made(); !reflect.DeepEqual(a, b) {
		for i := range b {
			if i >= len(a) || a[i] != b[i] {
				t.Fatalf("call %d arrived as %q, want %q", i, a[min(i, len(a)-1):], b[i])
			}
		}
	}
	// Every method of Node must have been called.
	for i := range reflect.TypeFor[Node]().NumMethod() {
		name := reflect.TypeFor[Node]().Method(i).Name
		if name == "Events" {
			continue // has tests of its own
		}
		if !slices.ContainsFunc(near.made(), func(c string) bool { return strings.HasPrefix(c, name+"[") }) {
			t.Errorf("everyCall does not call %s", name)
		}
	}
}

// TestErrorsKeepKindCodeAndRemedy: for every kind, and every method.
func TestErrorsKeepKindCodeAndRemedy(t *testing.T) {
	t.Parallel()
	exits := map[error]int{ErrUsage: 2, ErrNotFound: 1, ErrConflict: 1, ErrRefused: 5, ErrTimeout: 4, ErrNotRunning: 3, ErrLater: 1, ErrFailed: 1}
	for _, k := range kinds {
		t.Run(k.code, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.err = &Error{Kind: k.kind, Code: "own-code", Message: "what\nhappened", Remedy: "what to do", Cause: errors.New("a secret")}
			home, _ := serve(t, f, Options{}, "")
			for name, results := range everyCall(t.Context(), client(t, home)) {
				err, _ := results[len(results)-1].(error)
				var e *Error
				if !errors.As(err, &e) || !errors.Is(err, k.kind) || e.Code != "own-code" ||
					e.Message != "what happened" || e.Remedy != "what to do" || strings.Contains(err.Error(), "secret") {
					t.Errorf("%s: error is %#v", name, err)
				}
				if ExitStatus(err) != exits[k.kind] {
					t.Errorf("%s: exit status %d, want %d", name, ExitStatus(err), exits[k.kind])
				}
			}
		})
	}
	if len(exits) != len(kinds) {
		t.Errorf("%d kinds, %d have an exit status in this test", len(kinds), len(exits))
	}
}

// TestOtherErrors: what a node returns that is no *Error.
func TestOtherErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		kind error
		code string
	}{
		"plain":    {errors.New("disk on fire"), ErrFailed, "failed"},
		"sentinel": {ErrRefused, ErrRefused, "refused"},
		"no kind":  {&Error{Message: "m"}, ErrFailed, "failed"},
		"setting":  {&config.Error{Message: "m", Remedy: "r"}, ErrUsage, "bad-setting"},
		"deadline": {context.DeadlineExceeded, ErrTimeout, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.err = c.err
			home, _ := serve(t, f, Options{}, "")
			_, err := client(t, home).Status(t.Context())
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, c.kind) || e.Code != c.code || e.Message == "" {
				t.Errorf("error is %#v", err)
			}
		})
	}
}

func TestExitStatusOfOthers(t *testing.T) {
	t.Parallel()
	if ExitStatus(nil) != 0 || ExitStatus(errors.New("x")) != 1 {
		t.Error("nil must be 0 and an unknown error 1")
	}
	// A cause's kind is not the error's.
	if got := ExitStatus(&Error{Kind: ErrFailed, Cause: ErrRefused}); got != 1 {
		t.Errorf("exit status %d, want 1", got)
	}
}

// TestWait: the deadline reaches the node, whose answer names what is open.
func TestWait(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.wait = func(ctx context.Context) error {
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline arrived")
		}
		<-ctx.Done()
		return Errorf(ErrTimeout, "wait longer", "/Sync/big is not here yet")
	}
	home, _ := serve(t, f, Options{}, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := client(t, home).Wait(ctx, WaitOptions{})
	if !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "/Sync/big") {
		t.Errorf("error is %v", err)
	}
}

// TestWaitEndsWithItsCaller: the node does not go on waiting for nobody.
func TestWaitEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	f := newFake()
	began, ended := make(chan struct{}), make(chan struct{})
	f.wait = func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	home, _ := serve(t, f, Options{}, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	go func() {
		<-began
		cancel()
	}()
	if err := client(t, home).Wait(ctx, WaitOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	<-ended
}

// TestStoppingNodeAnswers: a wait under way is told that the node stops, and
// stopping does not take long.
func TestStoppingNodeAnswers(t *testing.T) {
	t.Parallel()
	f := newFake()
	began := make(chan struct{})
	f.wait = func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}
	home := t.TempDir()
	l, err := Listen(home, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- NewServer(f, Options{}).Run(ctx, l) }()
	waited := make(chan error, 1)
	c := client(t, home)
	go func() { waited <- c.Wait(context.Background(), WaitOptions{}) }()
	<-began
	start := time.Now()
	stop()
	if err := <-waited; !errors.Is(err, ErrNotRunning) {
		t.Errorf("the wait ended with %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("stopping took %v", d)
	}
	if _, err := os.Lstat(filepath.Join(home, socketName)); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestNotRunning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dead, socketName))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close() // a socket nobody listens at, as after kill -9

	for home, remedy := range map[string]string{
		dir: "`sheaf up`", filepath.Join(dir, "nowhere"): "`sheaf init`", dead: "`sheaf up`",
		filepath.Join(dir, strings.Repeat("long", 40)): "`sheaf init`",
	} {
		_, err := client(t, home).Status(t.Context())
		if !errors.Is(err, ErrNotRunning) || ExitStatus(err) != 3 || !strings.Contains(err.Error(), remedy) {
			t.Errorf("%s: error is %v", home, err)
		}
	}
}

// TestNodeDiesWhileAnswering: no answer is not an answer.
func TestNodeDiesWhileAnswering(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"nothing": "",
		"half":    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"device\":",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(home, socketName))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range 2 { // net/http tries a second time when nothing came
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 1024))
					_, _ = io.WriteString(conn, says)
					_ = conn.Close()
				}
			}()
			_, err = client(t, home).Status(t.Context())
			if !errors.Is(err, ErrNotRunning) {
				t.Errorf("error is %v", err)
			}
			_ = l.Close()
			<-done
		})
	}
}

// TestPanicIsAnAnswer: a fault in one request ends neither the node nor the
// client's patience.
func TestPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.wait = func(context.Context) error { panic("a fault") }
	var log strings.Builder
	home, _ := serve(t, f, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, "")
	c := client(t, home)
	if err := c.Wait(t.Context(), WaitOptions{}); !errors.Is(err, ErrFailed) {
		t.Errorf("error is %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("after the panic: %v", err)
	}
	if !strings.Contains(log.String(), "a fault") {
		t.Error("the panic is not in the log")
	}
}

func TestInstanceTellsRuns(t *testing.T) {
	t.Parallel()
	home1, _ := serve(t, newFake(), Options{}, "")
	home2, _ := serve(t, newFake(), Options{}, "")
	a, err := client(t, home1).Instance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := client(t, home1).Instance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := client(t, home2).Instance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if a == "" || a != again || a == b {
		t.Errorf("instances %q, %q and %q", a, again, b)
	}
}
