package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"sheaf/node/api"
)

func main() { os.Exit(execute()) }

// execute runs the program as the operating system called it.
func execute() int {
	a := &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv,
		backend: realBackend(), manager: systemManager, signals: signals, exit: os.Exit,
	}
	a.reexec = reexec
	a.terminal.in = term.IsTerminal(int(os.Stdin.Fd()))
	a.terminal.out = term.IsTerminal(int(os.Stdout.Fd()))
	a.terminal.err = term.IsTerminal(int(os.Stderr.Fd()))
	return run(a, os.Args[1:])
}

// run runs one command line and gives its exit status.
func run(a *app, args []string) int {
	ctx, second, stop := a.signals(context.Background())
	defer stop()
	done := make(chan struct{})
	defer close(done)
	go func() { // ends with run
		select {
		case <-second:
			a.exit(1)
		case <-done:
		}
	}()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	a.complain(ctx, err)
	return api.ExitStatus(err)
}

// errSilent fails a command that has said all there is to say.
var errSilent = errors.New("told already")

// complain says in one line what went wrong and what to do.
func (a *app) complain(ctx context.Context, err error) {
	switch {
	case errors.Is(err, errSilent):
		return
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		err = errors.New("interrupted")
	}
	line := err.Error()
	if e := (*api.Error)(nil); errors.As(err, &e) {
		line = e.Error()
	}
	_, _ = fmt.Fprintln(a.err, "sheaf: "+strings.TrimRight(printable(line), ". "))
}

// signals ends ctx at the first SIGINT or SIGTERM, and closes second at the
// second one.
func signals(parent context.Context) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 2)
	second, done := make(chan struct{}), make(chan struct{})
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with stop
		for n := 0; ; n++ {
			select {
			case <-ch:
				cancel()
				if n == 1 {
					close(second)
					return
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, second, func() {
		signal.Stop(ch)
		close(done)
		cancel()
	}
}

// readLine reads one line of input, without its end.
func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	buf := make([]byte, 1) // byte by byte: what follows is for others
	for line.Len() < 64<<10 {
		n, err := r.Read(buf)
		if n == 1 && buf[0] == '\n' {
			return strings.TrimSuffix(line.String(), "\r"), nil
		}
		line.Write(buf[:n])
		if err == io.EOF {
			return line.String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("read the input: %w", err)
		}
	}
	return "", errors.New("the input is longer than any answer")
}
