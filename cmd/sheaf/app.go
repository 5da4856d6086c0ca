package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"time"

	"sheaf/node/api"
)

// An app is one call of the program, and all it may touch of the world.
type app struct {
	in       io.Reader
	out      io.Writer // the answer
	err      io.Writer // all else
	env      func(string) string
	terminal struct{ in, out, err bool }
	backend  backend
	manager  func(home string) (manager, error)
	signals  func(context.Context) (ctx context.Context, second <-chan struct{}, stop func())
	reexec   func() error // becomes this program anew; nil where a process cannot
	exit     func(code int)

	home string // from --home, SHEAF_HOME or the platform
	json bool   // --json
}

// A backend does what has to be done without a running node.
type backend struct {
	init func(ctx context.Context, o initOptions) (initResult, error)
	join func(ctx context.Context, o joinOptions) (joinResult, error)
	// recover makes the device one of an account by its recovery phrase.
	recover func(ctx context.Context, o recoverOptions) (joinResult, error)
	// run runs the node of a home until ctx ends or the node is told to stop;
	// api.ErrRestart says that it is to be started again.
	run func(ctx context.Context, o runOptions, ready func()) error
}

type initOptions struct{ Home, Name, Dir string }

// An initResult is what `sheaf init --json` prints.
type initResult struct {
	Device         string `json:"device"`
	Account        string `json:"account"`
	RecoveryPhrase string `json:"recovery_phrase"`
}

type joinOptions struct {
	Home, Name, Dir, Code string
	Timeout               time.Duration
	Confirm               func(inviter, what string) bool
}

type recoverOptions struct {
	Home, Name, Dir, Phrase, Relay string
	Timeout                        time.Duration
}

// A joinResult is what `sheaf join --json` prints.
type joinResult struct {
	Device  string `json:"device"`
	Account string `json:"account"`
	Inviter string `json:"inviter,omitempty"`
}

type runOptions struct {
	Home    string
	Listen  []string
	NoMDNS  bool
	API     string
	Version string
	Log     *slog.Logger
}

// brief is how long a node may take for an answer that needs no work.
const brief = time.Minute

// ask gives a client for the running node, and ctx with the time a brief answer
// may take.
func (a *app) ask(ctx context.Context) (context.Context, *api.Client, func()) {
	ctx, cancel := context.WithTimeout(ctx, brief)
	c := api.NewClient(a.home)
	return ctx, c, func() {
		cancel()
		c.Close()
	}
}

// absolute gives a local path in full: the node runs in another directory.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return abs, nil
}

// note tells a person something beside the answer.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.err, format+"\n", args...)
}
