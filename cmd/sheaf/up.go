package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/gologshim"
	"github.com/spf13/cobra"

	"sheaf/node/api"
	"sheaf/node/config"
)

const (
	// stopWithin is how long a node may take to stop cleanly (contract: 5 s)
	// before this process ends all the same.
	stopWithin = 5 * time.Second
	// stopWait is how long down and restart wait for it.
	stopWait = 15 * time.Second
	// restartedVariable tells the new process that "ready" was said before.
	restartedVariable = "SHEAF_RESTARTED"
)

func (a *app) upCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use: "up", Short: "Run the node in the foreground", Args: cobra.NoArgs,
		Long: "Runs the node of this device until it is told to stop by SIGTERM, Ctrl-C or `sheaf down`. Prints one line,\n" +
			"ready, once it serves. A second signal ends it at once. `sheaf service install` has it run always.",
		Example: example("sheaf up", "sheaf up --listen /ip4/0.0.0.0/tcp/4101", "sheaf up --api 127.0.0.1:8390"),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Home, o.Version = a.home, release()
			if o.API != "" {
				if err := config.CheckLoopback(o.API); err != nil {
					return usage(c, "--api %s", err)
				}
			}
			return supervised(c.Context(), a.home, func(ctx context.Context) error { return a.up(ctx, o) })
		},
	}
	c.Flags().StringArrayVar(&o.Listen, "listen", nil, "a multiaddr to be reached at; may be given again")
	c.Flags().StringVar(&o.API, "api", "", "serve the API on 127.0.0.1:PORT as well")
	c.Flags().BoolVar(&o.NoMDNS, "no-mdns", false, "do not look for devices in the local network")
	return c
}

// up runs the node, and runs it again if it asks for that.
func (a *app) up(ctx context.Context, o runOptions) error {
	unlock, err := a.alone()
	if err != nil {
		return err
	}
	defer unlock()
	said := a.env(restartedVariable) != ""
	ready := func() {
		if !said {
			said = true
			_ = a.line("ready") // nobody listens: the node runs all the same
		}
	}
	for {
		err := a.runOnce(ctx, o, ready)
		if !errors.Is(err, api.ErrRestart) || ctx.Err() != nil {
			return err
		}
		if a.reexec == nil {
			continue
		}
		if err := a.reexec(); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
}

// runOnce runs the node once. After ctx has ended it has five seconds.
func (a *app) runOnce(ctx context.Context, o runOptions, ready func()) error {
	c, err := config.Read(o.Home)
	if err != nil {
		return settingError(err)
	}
	handler := slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: c.Log.Level})
	o.Log = slog.New(handler)
	// libp2p would log by itself, in a form of its own; and what QUIC warns of
	// (buffers) stands in docs/performance.md.
	gologshim.SetDefaultHandler(handler)
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(stopWithin)
		defer late.Stop()
		select {
		case <-done:
		case <-late.C:
			o.Log.Error("the node did not stop in time: ending it as it is; what it holds is built to take that")
			a.exit(1)
		}
	})
	defer stop()
	defer close(done)
	err = a.backend.run(ctx, o, ready)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (a *app) downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Stop the node", Args: cobra.NoArgs,
		Long:    "Stops the node of this device and returns when its process has let go of everything.",
		Example: example("sheaf down", "sheaf down --home /srv/sheaf"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), stopWait)
			defer cancel()
			client := api.NewClient(a.home)
			defer client.Close()
			// A node that is gone before it could answer has stopped.
			if _, err := client.Instance(ctx); err != nil {
				return err
			}
			if err := client.Stop(ctx, false); err != nil && !errors.Is(err, api.ErrNotRunning) {
				return err
			}
			return stillThere(api.WaitUnlocked(ctx, a.home))
		},
	}
}

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart", Short: "Stop the node and start it again", Args: cobra.NoArgs,
		Long: "Has the node stop and start again in the process it runs in, with the flags it was started with, and returns when\n" +
			"it serves again. A newer program is taken up; on Windows only `sheaf down` and `sheaf up` do that.",
		Example: example("sheaf restart"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 2*stopWait)
			defer cancel()
			client := api.NewClient(a.home)
			defer client.Close()
			before, err := client.Instance(ctx)
			if err != nil {
				return err
			}
			if err := client.Stop(ctx, true); err != nil && !errors.Is(err, api.ErrNotRunning) {
				return err
			}
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				now, err := client.Instance(ctx)
				if err == nil && now != before {
					return nil
				}
				if err != nil && !errors.Is(err, api.ErrNotRunning) && ctx.Err() == nil {
					return err
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return stillThere(ctx.Err())
				}
			}
		},
	}
}

// stillThere makes of a time that ran out what a person can use.
func stillThere(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.ErrTimeout, "its log says what it is doing; end its process if need be", "the node is not through with stopping or starting")
	}
	return err
}

// settingError gives what is wrong in the configuration the form of all errors.
func settingError(err error) error {
	if e := (*config.Error)(nil); errors.As(err, &e) {
		return &api.Error{Kind: api.ErrUsage, Message: e.Message, Remedy: e.Remedy, Cause: err}
	}
	return err
}
