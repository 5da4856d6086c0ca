package main

import (
	"fmt"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "device", Short: "Invite, list, rename and remove devices of the account",
		Example: example("sheaf device invite", "sheaf device list", "sheaf device remove phone"),
	}
	c.AddCommand(a.deviceInviteCommand(), a.deviceListCommand(), a.deviceRenameCommand(), a.deviceRemoveCommand())
	return c
}

func (a *app) deviceInviteCommand() *cobra.Command {
	expires := span(7 * 24 * time.Hour)
	c := &cobra.Command{
		Use: "invite", Short: "Make a code for one more device", Args: cobra.NoArgs,
		Long: "Prints a code that lets one more device join the account: `sheaf join CODE` on it, while this node is running. The\n" +
			"code works once. Whoever has it can read everything: hand it to nobody but yourself.",
		Example: example("sheaf device invite", "sheaf device invite --expires 1h", "ssh nas sheaf join $(sheaf device invite) --name nas"),
		RunE: func(c *cobra.Command, _ []string) error {
			if time.Duration(expires) < time.Second {
				return usage(c, "--expires must be at least 1s")
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			inv, err := client.InviteDevice(ctx, time.Duration(expires))
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(inv)
			}
			if a.terminal.err {
				qrterminal.GenerateHalfBlock(inv.Code, qrterminal.L, a.err)
				a.note("Works once, until %s. On the new device: sheaf join CODE --name NAME", moment(inv.Expires))
			}
			return a.line("%s", inv.Code)
		},
	}
	c.Flags().Var(&expires, "expires", "how long the code works")
	return a.answers(c)
}

func (a *app) deviceListCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "list", Short: "List the devices of the account", Args: cobra.NoArgs,
		Example: example("sheaf device list", "sheaf device list --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			devices, err := client.Devices(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(devices)
			}
			t := a.table("NAME", "STATE", "LAST SEEN", "JOINED", "ID")
			for _, d := range devices {
				state, seen := connected(d.Connected), moment(d.LastSeen)
				if d.This {
					state, seen = "this device", "now"
				} else if d.Connected {
					seen = "now"
				}
				t.row(d.Name, state, seen, moment(d.Joined), d.ID)
			}
			return t.end()
		},
	})
}

func (a *app) deviceRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename NAME NEW", Short: "Give a device another name", Args: cobra.ExactArgs(2),
		Example: example("sheaf device rename phone oldphone"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			return client.RenameDevice(ctx, args[0], args[1])
		},
	}
}

func (a *app) deviceRemoveCommand() *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "remove NAME", Short: "Remove a device from the account", Args: cobra.ExactArgs(1),
		Long: "Removes a device, for one that is lost or given away. From then on it gets nothing and can change nothing. What it\n" +
			"has on its disk already stays there: no program can take that back.",
		Example: example("sheaf device remove phone", "sheaf device remove phone --yes"),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes && !a.confirm("Remove "+printable(args[0])+" from the account? What is on its disk stays there.") {
				return fmt.Errorf("nothing was removed")
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			return client.RemoveDevice(ctx, args[0])
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) peerCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "peer", Short: "Connect to another device by its address",
		Example: example("sheaf peer connect /ip4/192.0.2.7/tcp/4101/p2p/12D3KooW..."),
	}
	c.AddCommand(a.answers(&cobra.Command{
		Use: "connect MULTIADDR", Short: "Dial an address now, and remember it", Args: cobra.ExactArgs(1),
		Long:    "Dials a device of the account at an address that `sheaf address` printed there, and remembers the address.",
		Example: example("sheaf peer connect /ip4/192.0.2.7/tcp/4101/p2p/12D3KooW..."),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			p, err := client.Connect(ctx, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(p)
			}
			return a.line("connected to %s (%s)", printable(p.Name), peerWords(p))
		},
	}))
	return c
}

func (a *app) addressCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "address", Short: "Print this node's addresses", Args: cobra.NoArgs,
		Long:    "Prints the multiaddrs at which other devices reach this one, one a line, for `sheaf peer connect` on them.",
		Example: example("sheaf address", "sheaf address --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			list, err := client.Addresses(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			for _, addr := range list {
				if err := a.line("%s", printable(addr)); err != nil {
					return err
				}
			}
			return nil
		},
	})
}
