package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) waitCommand() *cobra.Command {
	timeout, relay := span(time.Minute), false
	c := &cobra.Command{
		Use: "wait", Short: "Wait until all is in step", Args: cobra.NoArgs,
		Long: "Returns when this node has nothing left to scan, fetch or apply and every connected peer has all that is ours.\n" +
			"If that takes longer than --timeout it says what is still open and ends with exit status 4.",
		Example: example("sheaf wait", "sheaf wait --timeout 10m && shutdown now", "sheaf wait --relay"),
		RunE: func(c *cobra.Command, _ []string) error {
			if timeout == 0 {
				return usage(c, "--timeout must be above 0")
			}
			ctx, cancel := context.WithTimeout(c.Context(), time.Duration(timeout))
			defer cancel()
			client := api.NewClient(a.home)
			defer client.Close()
			stop := a.watch(ctx, client)
			err := client.Wait(ctx, api.WaitOptions{Relay: relay})
			stop()
			return err
		},
	}
	c.Flags().Var(&timeout, "timeout", "how long to wait")
	c.Flags().BoolVar(&relay, "relay", false, "also until each relay has durably stored it")
	return c
}

// watch shows on a terminal what is left, until it is stopped.
func (a *app) watch(ctx context.Context, client *api.Client) (stop func()) {
	if !a.terminal.err {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		defer func() { _, _ = fmt.Fprint(a.err, "\r\x1b[K") }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			st, err := client.Status(ctx)
			if err != nil {
				continue // Wait tells
			}
			_, _ = fmt.Fprintf(a.err, "\r\x1b[K%s", progress(st))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// progress says in less than a line what a node has left to do.
func progress(st api.Status) string {
	var files, bytes, behind int64
	for _, f := range st.Folders {
		files, bytes = files+f.NeedFiles, bytes+f.NeedBytes
	}
	for _, p := range st.Peers {
		if p.Connected && !p.InStep {
			behind++
		}
	}
	line := string(st.State)
	if files > 0 {
		line += fmt.Sprintf(": %s (%s) to fetch", count(files, "file", "files"), size(bytes))
	}
	if behind > 0 {
		line += ", " + count(behind, "peer catches up", "peers catch up")
	}
	return line
}
