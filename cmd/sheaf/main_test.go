package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"sheaf/node/api"
)

// leakless runs the tests and then looks for goroutines left behind.
type leakless struct{ m *testing.M }

// Run is testscript.TestingM's.
func (l leakless) Run() int {
	// Devices wait for one another more than they compute. -parallel on the command
	// line goes before this.
	if err := flag.Set("test.parallel", fmt.Sprint(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// realName is the name by which the test binary is the real program.
const realName = "sheaf-real"

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"sheaf":  func() { os.Exit(runFake()) },
		realName: main,
	})
}

// runFake is the program with a fake node.
func runFake() int {
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
		backend: fakeBackend(os.Getenv), signals: signals, reexec: reexec, exit: os.Exit,
		manager: func(home string) (manager, error) { return fakeManager{filepath.Join(home, "service")}, nil },
	}
	if os.Getenv("FAKE_TERMINAL") != "" {
		a.terminal.in, a.terminal.out, a.terminal.err = true, true, true
	}
	if os.Getenv("FAKE_STUCK") != "" { // a node that does not stop
		a.backend.run = func(_ context.Context, _ runOptions, ready func()) error {
			ready()
			select {}
		}
	}
	return run(a, os.Args[1:])
}

// TestScripts runs the scripts in testdata: what a person types, and what comes
// of it. Each has a home of its own in $SHEAF_HOME.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("SHEAF_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serving": serving, "exits": exits,
		},
	})
}

// serving waits until the node of a home (default $SHEAF_HOME) answers; with !
// until it does not.
func serving(ts *testscript.TestScript, neg bool, args []string) {
	home := ts.Getenv("SHEAF_HOME")
	if len(args) > 0 {
		home = args[0]
	}
	c := api.NewClient(home)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.Instance(ctx)
		if (err == nil) != neg {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("the node of %s: %v", home, err)
		}
	}
}

// exits runs a command and demands its exit status, nothing on stdout, and
// exactly one line on stderr, of more than one part: what, and what to do.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if e, ok := err.(interface{ ExitCode() int }); ok {
		got = e.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("%v: exit status %d, want %s", args[1:], got, args[0])
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("%v: stdout is %q", args[1:], out)
	}
	if !oneLineAndRemedy(ts.ReadFile("stderr")) {
		ts.Fatalf("%v: stderr is not one line with a remedy: %q", args[1:], ts.ReadFile("stderr"))
	}
}
