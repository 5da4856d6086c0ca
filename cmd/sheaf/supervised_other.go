//go:build !windows

package main

import "context"

// supervised runs the node. systemd and launchd need nothing from a program but
// that it runs in the foreground and heeds SIGTERM.
func supervised(ctx context.Context, _ string, run func(context.Context) error) error {
	return run(ctx)
}
