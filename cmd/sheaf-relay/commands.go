package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/spf13/cobra"

	"sheaf/node/api"
	"sheaf/node/config"
	"sheaf/node/mesh"
	"sheaf/relay/daemon"
)

// A span is a flag of time that takes days too.
type span time.Duration

// Set reads the flag.
func (s *span) Set(text string) error {
	d, err := config.ParseDuration(text)
	*s = span(d)
	return err
}

// String gives the flag's value.
func (s *span) String() string { return config.FormatDuration(time.Duration(*s)) }

// Type names the kind of value in the help.
func (s *span) Type() string { return "time" }

// An amount is a flag of bytes with units.
type amount int64

// Set reads the flag.
func (n *amount) Set(text string) error {
	v, err := config.ParseSize(text)
	*n = amount(v)
	return err
}

// String gives the flag's value.
func (n *amount) String() string { return config.FormatSize(int64(*n)) }

// Type names the kind of value in the help.
func (n *amount) Type() string { return "size" }

func (a *app) initCommand() *cobra.Command {
	var listen []string
	var name, http, roles, publicURL, versions string
	retention := span(daemon.DefaultConfig().Retention)
	c := &cobra.Command{
		Use: "init", Short: "Set up a relay", Args: cobra.NoArgs,
		Long: "Makes a relay's home, with a key of its own. What is given here stands in config.toml there, and can be changed\n" +
			"with `sheaf-relay config set`.",
		Example: "  sheaf-relay init\n  sheaf-relay init --listen /ip4/0.0.0.0/tcp/22122 --retention 90d",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg := daemon.DefaultConfig()
			for flag, value := range map[string]string{
				"name": name, "listen": strings.Join(listen, ","), "http": http, "roles": roles, "public-url": publicURL,
				"retention": retention.String(), "versions": versions,
			} {
				if !c.Flags().Changed(flag) {
					continue
				}
				if err := cfg.Set(strings.ReplaceAll(flag, "-", "_"), value); err != nil {
					return err
				}
			}
			id, err := daemon.Init(a.home, cfg)
			if err != nil {
				return err
			}
			peer := mesh.PeerID(mesh.DeviceID(id))
			if a.json {
				return a.answerJSON(map[string]string{"id": peer, "home": a.home, "name": cfg.Name})
			}
			return a.line("Relay %s is set up in %s.\nNext: sheaf-relay run, and then sheaf-relay invite", peer, a.home)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&listen, "listen", nil, "a multiaddr to be reached at; may be given again (default: port 22122, TCP and QUIC)")
	f.StringVar(&name, "name", "", "what devices call it (default: the host's name)")
	f.StringVar(&http, "http", "", "address of the server for link pages (in a later release)")
	f.StringVar(&roles, "roles", "", "relay,archive,links (default: relay,archive)")
	f.StringVar(&publicURL, "public-url", "", "where link pages are reached from outside (in a later release)")
	f.Var(&retention, "retention", "how long what was deleted or replaced is kept")
	f.StringVar(&versions, "versions", "5", "replaced versions of a file that are kept however old")
	return a.answers(c)
}

// stopWithin is how long a relay may take to stop before this process ends all the same.
const stopWithin = 5 * time.Second

func (a *app) runCommand() *cobra.Command {
	debug := false
	c := &cobra.Command{
		Use: "run", Short: "Run the relay in the foreground", Args: cobra.NoArgs,
		Long:    "Runs until SIGTERM or Ctrl-C. Prints one line, ready, once it serves.",
		Example: "  sheaf-relay run",
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if debug {
				level = slog.LevelDebug
			}
			handler := slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})
			log := slog.New(handler)
			gologshim.SetDefaultHandler(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
			ctx := c.Context()
			r, err := daemon.Open(ctx, a.home, daemon.Options{Version: release(), Log: log})
			if err != nil {
				return err
			}
			done := make(chan struct{})
			defer close(done)
			stop := context.AfterFunc(ctx, func() {
				late := time.NewTimer(stopWithin)
				defer late.Stop()
				select {
				case <-done:
				case <-late.C:
					log.Error("the relay did not stop in time: ending it as it is; what it holds is built to take that")
					os.Exit(1)
				}
			})
			defer stop()
			return r.Run(ctx, func() { _ = a.line("ready") })
		},
	}
	c.Flags().BoolVar(&debug, "debug", false, "log more")
	return c
}

// with runs fn over the running relay or, if none runs and offline is set, over its home.
func (a *app) with(ctx context.Context, offline bool, fn func(daemon.Control) error) error {
	err := fn(daemon.NewClient(a.home))
	if !offline || !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	r, err := daemon.Open(ctx, a.home, daemon.Options{Version: release(), Log: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	return errors.Join(fn(r), r.Close())
}

func (a *app) inviteCommand() *cobra.Command {
	quota, uses, expires := amount(100_000_000_000), 1, span(30*24*time.Hour)
	c := &cobra.Command{
		Use: "invite", Short: "Make a code that gives an account room here", Args: cobra.NoArgs,
		Long:    "Prints a code for `sheaf relay add CODE`, alone on a line. Whoever has it can use it: hand it over with care.",
		Example: "  sheaf-relay invite\n  sheaf-relay invite --quota 2TB --expires 7d",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), true, func(r daemon.Control) error {
				code, err := r.Invite(c.Context(), daemon.InviteRequest{Quota: int64(quota), Uses: uses, Expires: time.Duration(expires)})
				if err != nil {
					return err
				}
				if a.json {
					return a.answerJSON(map[string]any{"code": code, "quota_bytes": int64(quota), "uses": uses, "expires": time.Now().Add(time.Duration(expires)).UTC()})
				}
				return a.line("%s", code)
			})
		},
	}
	c.Flags().Var(&quota, "quota", "how much the account may keep")
	c.Flags().IntVar(&uses, "uses", uses, "how many accounts may use it")
	c.Flags().Var(&expires, "expires", "how long it can be used")
	return a.answers(c)
}

func (a *app) statusCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "status", Short: "Show how the relay is", Args: cobra.NoArgs, Example: "  sheaf-relay status --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), false, func(r daemon.Control) error {
				s, err := r.Status(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.answerJSON(s)
				}
				t := a.table()
				t.row("relay", s.Name)
				t.row("id", s.ID)
				t.row("running since", s.Started.Local().Format("2006-01-02 15:04"))
				t.row("devices connected", strconv.Itoa(s.Connected))
				t.row("accounts and shares", strconv.Itoa(s.Groups))
				t.row("kept", fmt.Sprintf("%d blocks, %s on disk", s.Blocks, config.FormatSize(s.DiskBytes)))
				t.row("what goes is kept", fmt.Sprintf("%s, and %d versions", s.Retention, s.Versions))
				for _, x := range s.Addresses {
					t.row("address", x)
				}
				return t.end()
			})
		},
	})
}

func (a *app) groupsCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "groups", Short: "List the accounts and shares that have room here", Args: cobra.NoArgs, Example: "  sheaf-relay groups --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), true, func(r daemon.Control) error {
				list, err := r.Groups(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.answerJSON(list)
				}
				if len(list) == 0 {
					return a.line("nobody has room here yet: sheaf-relay invite makes a code")
				}
				t := a.table()
				t.row("GROUP", "DEVICES", "USED", "OF", "RECORDS")
				for _, g := range list {
					t.row(g.ID, strconv.Itoa(g.Devices), size(g.UsedBytes), size(g.QuotaBytes), strconv.FormatUint(g.Records, 10))
				}
				return t.end()
			})
		},
	})
}

func size(n uint64) string { return config.FormatSize(int64(min(n, 1<<62))) } //nolint:gosec // bounded

func (a *app) addressCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "address", Short: "Print where the relay is reached", Args: cobra.NoArgs, Example: "  sheaf-relay address",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), true, func(r daemon.Control) error {
				s, err := r.Status(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.answerJSON(s.Addresses)
				}
				for _, x := range s.Addresses {
					if err := a.line("%s", x); err != nil {
						return err
					}
				}
				return nil
			})
		},
	})
}

func (a *app) checkCommand() *cobra.Command {
	repair := false
	c := &cobra.Command{
		Use: "check", Short: "Read all that is kept, and count the books anew", Args: cobra.NoArgs,
		Long: "Reads every block and holds it against its address, and holds the books against themselves and the packs. With\n" +
			"--repair, what is broken or missing is asked for again from the devices, and what nobody refers to is removed.",
		Example: "  sheaf-relay check\n  sheaf-relay check --repair",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), true, func(r daemon.Control) error {
				rep, err := r.Check(c.Context(), repair)
				if err != nil {
					return err
				}
				return a.showCheck(rep)
			})
		},
	}
	c.Flags().BoolVar(&repair, "repair", false, "mend what can be mended")
	return a.answers(c)
}

func (a *app) showCheck(rep daemon.CheckReport) error {
	if a.json {
		if err := a.answerJSON(rep); err != nil {
			return err
		}
	} else {
		if err := a.line("%d records, %d blocks, %d read: %d broken, %d missing, %d that nobody refers to", rep.Records, rep.Blocks, rep.Read, rep.Broken, rep.Absent, rep.Stray); err != nil {
			return err
		}
		for _, f := range rep.Faults {
			if err := a.line("%s", f); err != nil {
				return err
			}
		}
	}
	if bad := rep.Broken + rep.Absent + len(rep.Faults); bad > 0 && !rep.Repaired {
		return api.Errorf(api.ErrFailed, "run `sheaf-relay check --repair`, with the devices connected", "%d things are not right", bad)
	}
	return nil
}

func (a *app) gcCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "gc", Short: "Let go now of what is kept no longer", Args: cobra.NoArgs,
		Long:    "Purges what has been in the trash for long enough, and gives the room of blocks that nobody refers to back to the disk.\nIt is done by itself, too.",
		Example: "  sheaf-relay gc",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), true, func(r daemon.Control) error {
				got, err := r.Collect(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.answerJSON(got)
				}
				return a.line("%d versions purged, %s freed; the packs are %s now", got.Purged, config.FormatSize(got.FreedBytes), config.FormatSize(got.DiskBytes))
			})
		},
	})
}

func (a *app) configCommand() *cobra.Command {
	c := a.answers(&cobra.Command{
		Use: "config", Short: "List the settings", Args: cobra.NoArgs, Example: "  sheaf-relay config\n  sheaf-relay config set retention 90d",
		RunE: func(*cobra.Command, []string) error {
			list, err := daemon.Values(a.home)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			t := a.table()
			t.row("KEY", "VALUE", "DEFAULT", "MEANING")
			for _, v := range list {
				t.row(v.Key, v.Value, v.Default, v.Meaning)
			}
			return t.end()
		},
	})
	c.AddCommand(&cobra.Command{
		Use: "set KEY VALUE", Short: "Change a setting", Args: cobra.ExactArgs(2), Long: "It counts from the next start of the relay on.",
		Example: "  sheaf-relay config set versions 10",
		RunE:    func(_ *cobra.Command, args []string) error { return daemon.SetConfig(a.home, args[0], args[1]) },
	})
	return c
}

// A table prints rows in columns.
type table struct{ w *tabwriter.Writer }

func (a *app) table() *table { return &table{tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)} }

func (t *table) row(cells ...string) { _, _ = fmt.Fprintln(t.w, strings.Join(cells, "\t")) } // end tells

func (t *table) end() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
