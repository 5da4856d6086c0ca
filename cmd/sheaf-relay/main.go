// Command sheaf-relay is an always-on node: it keeps what devices entrust to it, sealed,
// and lets them find it. See docs/relay.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr, os.Getenv)) }

// An app is one call of the program.
type app struct {
	out, err io.Writer
	env      func(string) string
	home     string
	json     bool
}

// execute runs one command line and gives its exit status.
func execute(args []string, out, errs io.Writer, env func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{out: out, err: errs, env: env}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	line := err.Error()
	if e := (*api.Error)(nil); errors.As(err, &e) {
		line = e.Error()
	}
	_, _ = fmt.Fprintln(errs, "sheaf-relay: "+strings.TrimRight(strings.ReplaceAll(line, "\n", "; "), ". "))
	return api.ExitStatus(err)
}

func release() string {
	if version != "dev" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return version + "-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}

// defaultHome is where a relay's state is if nobody says.
func defaultHome(env func(string) string) (string, error) {
	if dir := env("SHEAF_RELAY_HOME"); dir != "" {
		return dir, nil
	}
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) { // the specification: ignore it if not absolute
		return filepath.Join(dir, "sheaf-relay"), nil
	}
	if dir := env("LOCALAPPDATA"); runtime.GOOS == "windows" && dir != "" {
		return filepath.Join(dir, "sheaf-relay"), nil
	}
	user := env("HOME")
	if user == "" {
		var err error
		if user, err = os.UserHomeDir(); err != nil {
			return "", errors.New("there is no home directory to keep state in: set SHEAF_RELAY_HOME or give --home")
		}
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(user, "Library", "Application Support", "sheaf-relay"), nil
	}
	return filepath.Join(user, ".local", "state", "sheaf-relay"), nil
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sheaf-relay",
		Short: "Keep the files of Sheaf's devices, sealed, on a machine that is always on",
		Long: "A relay keeps what devices entrust to it, encrypted, so that it can read none of it: backups, the archive, the\n" +
			"trash and versions. A code from `sheaf-relay invite` gives an account room on it: `sheaf relay add CODE`.",
		Example: "  sheaf-relay init\n  sheaf-relay run\n  sheaf-relay invite --quota 100GB",
		Version: release(), SilenceErrors: true, SilenceUsage: true, Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			var err error
			if a.home == "" {
				a.home, err = defaultHome(a.env)
			}
			if err == nil {
				a.home, err = filepath.Abs(a.home)
			}
			return err
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return usage(c, "there is no command %q", "sheaf-relay "+args[0])
		},
	}
	root.SetVersionTemplate("sheaf-relay {{.Version}}\n")
	root.PersistentFlags().StringVar(&a.home, "home", "", "where the relay's state is kept (SHEAF_RELAY_HOME)")
	root.AddCommand(a.initCommand(), a.runCommand(), a.inviteCommand(), a.statusCommand(), a.groupsCommand(),
		a.addressCommand(), a.checkCommand(), a.gcCommand(), a.configCommand(), a.versionCommand())
	judge(root)
	return root
}

// judge gives every wrong command line one form: one line, exit status 2.
func judge(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%s", err) })
	if check := c.Args; check != nil && c.HasParent() {
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) != nil {
				return usage(c, "%d arguments are too many or too few: it is %q", len(args), c.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		judge(sub)
	}
}

// usage is the error for a command line that makes no sense.
func usage(c *cobra.Command, format string, args ...any) error {
	return api.Errorf(api.ErrUsage, fmt.Sprintf("see `%s --help`", c.CommandPath()), "%s", fmt.Sprintf(format, args...))
}

// answers gives a command the flag --json.
func (a *app) answers(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "answer in JSON")
	return c
}

func (a *app) line(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, format+"\n", args...); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func (a *app) answerJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the program's version", Args: cobra.NoArgs, Example: "  sheaf-relay version",
		RunE: func(*cobra.Command, []string) error { return a.line("sheaf-relay %s", release()) },
	}
}
