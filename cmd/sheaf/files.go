package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) conflictsCommand() *cobra.Command {
	list := func(c *cobra.Command, _ []string) error {
		ctx, client, done := a.ask(c.Context())
		defer done()
		conflicts, err := client.Conflicts(ctx)
		if err != nil {
			return err
		}
		if a.json {
			return a.answerJSON(conflicts)
		}
		if len(conflicts) == 0 {
			return a.line("no conflicts")
		}
		t := a.table("COPY", "BY", "MODIFIED", "SIZE", "OF")
		for _, x := range conflicts {
			t.row(x.Path, x.Device, moment(x.Modified), size(x.Size), x.Of)
		}
		return t.end()
	}
	c := a.answers(&cobra.Command{
		Use: "conflicts", Short: "List and resolve conflict copies", RunE: list,
		Long: "When two devices change one file apart from each other, both versions stay: one under the name, the other beside\n" +
			"it as a conflict copy. This lists the copies, with the file each belongs to.",
		Example: example("sheaf conflicts", "sheaf conflicts resolve /Sync/notes.txt --keep mine"),
	})
	c.AddCommand(
		a.answers(&cobra.Command{Use: "list", Short: "List conflict copies", Args: cobra.NoArgs, RunE: list, Example: example("sheaf conflicts list --json")}),
		a.resolveCommand(),
	)
	return c
}

func (a *app) resolveCommand() *cobra.Command {
	keep := ""
	c := &cobra.Command{
		Use: "resolve PATH", Short: "End a conflict", Args: cobra.ExactArgs(1),
		Long: "PATH is the file or the conflict copy. mine keeps what this device wrote, theirs what the other did; what goes is in\n" +
			"the trash for a while. both makes the copy an ordinary file.",
		Example: example("sheaf conflicts resolve /Sync/notes.txt --keep theirs"),
		RunE: func(c *cobra.Command, args []string) error {
			switch api.Keep(keep) {
			case api.KeepMine, api.KeepTheirs, api.KeepBoth:
			default:
				return usage(c, "--keep must be mine, theirs or both")
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			p, err := treePath(ctx, client, args[0])
			if err != nil {
				return err
			}
			return client.ResolveConflict(ctx, p, api.Keep(keep))
		},
	}
	c.Flags().StringVar(&keep, "keep", "", "what stays: mine, theirs or both")
	return c
}

func (a *app) trashCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "trash", Short: "List, restore and empty the trash",
		Long:    "What was deleted or replaced stays in the trash for a while (trash.keep, trash.max in `sheaf config`).",
		Example: example("sheaf trash list", "sheaf trash restore /Sync/notes.txt", "sheaf trash empty"),
	}
	c.AddCommand(a.trashListCommand(), a.trashRestoreCommand(), a.trashEmptyCommand())
	return c
}

func (a *app) trashListCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "list", Short: "List what can be restored", Args: cobra.NoArgs,
		Example: example("sheaf trash list", "sheaf trash list --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			items, err := client.Trash(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(items)
			}
			if len(items) == 0 {
				return a.line("the trash is empty")
			}
			t := a.table("ID", "DELETED", "BY", "SIZE", "GONE AT", "PATH")
			for _, i := range items {
				t.row(i.ID, moment(i.Deleted), i.Device, size(i.Bytes), moment(i.Purge), i.Path)
			}
			return t.end()
		},
	})
}

func (a *app) trashRestoreCommand() *cobra.Command {
	to := ""
	c := &cobra.Command{
		Use: "restore ID-OR-PATH...", Short: "Bring things back", Args: cobra.MinimumNArgs(1),
		Long:    "Brings things back to where they were, or into the directory --to. Nothing is replaced. Prints where each is now.",
		Example: example("sheaf trash restore /Sync/notes.txt", "sheaf trash restore 7f3a /Sync/old --to /Sync/restored"),
		RunE: func(c *cobra.Command, args []string) error {
			client := api.NewClient(a.home)
			defer client.Close()
			paths, err := client.RestoreTrash(c.Context(), args, to)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(paths)
			}
			for _, p := range paths {
				if err := a.line("%s", printable(p)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "a directory in the tree to put them in")
	return a.answers(c)
}

func (a *app) trashEmptyCommand() *cobra.Command {
	yes := false
	c := &cobra.Command{
		Use: "empty [ID...]", Short: "Delete things in the trash for good",
		Example: example("sheaf trash empty", "sheaf trash empty 7f3a --yes"),
		Args:    cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			what := "everything in the trash"
			if len(args) > 0 {
				what = count(int64(len(args)), "thing", "things")
			}
			if !yes && !a.confirm("Delete "+what+" for good?") {
				return fmt.Errorf("nothing was deleted")
			}
			client := api.NewClient(a.home)
			defer client.Close()
			n, bytes, err := client.EmptyTrash(c.Context(), args)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(struct {
					Items int   `json:"items"`
					Bytes int64 `json:"bytes"`
				}{n, bytes})
			}
			return a.line("%s deleted, %s", count(int64(n), "thing", "things"), size(bytes))
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.answers(c)
}

func (a *app) holdCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "hold", Short: "Decide on mass changes that wait for a word",
		Long: "When very much is deleted or rewritten in one go it may be a mistake, a broken disk or ransomware. Such a change\n" +
			"waits, on every device, until a person has said on one whether it is meant. All else goes on.",
		Example: example("sheaf hold list", "sheaf hold release 3", "sheaf hold revert 3"),
	}
	act := func(use, short string, f func(*api.Client, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use: use + " ID", Short: short, Args: cobra.ExactArgs(1), Example: example("sheaf hold " + use + " 3"),
			RunE: func(c *cobra.Command, args []string) error {
				client := api.NewClient(a.home)
				defer client.Close()
				return f(client, c.Context(), args[0])
			},
		}
	}
	c.AddCommand(a.holdListCommand(),
		act("release", "Let a change happen: it is meant", (*api.Client).ReleaseHold),
		act("revert", "Undo a change: it is not meant", (*api.Client).RevertHold))
	return c
}

func (a *app) holdListCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "list", Short: "List mass changes that wait", Args: cobra.NoArgs,
		Example: example("sheaf hold list", "sheaf hold list --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			holds, err := client.Holds(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(holds)
			}
			if len(holds) == 0 {
				return a.line("nothing is held")
			}
			for _, h := range holds {
				if err := a.line("%s  /%s  %s  %s\n    %s deleted, %s rewritten, of %s\n    %s",
					a.shaded(bold, printable(h.ID)), printable(h.Folder), printable(h.Device), moment(h.At),
					count(h.Deleted, "entry", "entries"), count(h.Changed, "entry", "entries"), count(h.Total, "entry", "entries"), printable(h.What)); err != nil {
					return err
				}
				for _, p := range h.Sample {
					if err := a.line("      %s", printable(p)); err != nil {
						return err
					}
				}
			}
			return a.line("\nIf it is meant: sheaf hold release ID. If not: sheaf hold revert ID.")
		},
	})
}

func (a *app) pauseCommand() *cobra.Command {
	return a.pausing("pause", "Send, fetch and apply nothing for a while",
		"Until `sheaf resume` nothing is sent, fetched or applied, for one folder or for all. Changes here are still seen.",
		(*api.Client).Pause)
}

func (a *app) resumeCommand() *cobra.Command {
	return a.pausing("resume", "End a pause", "Ends a pause, of one folder or of all.", (*api.Client).Resume)
}

func (a *app) pausing(use, short, long string, f func(*api.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " [FOLDER]", Short: short, Long: long, Args: cobra.MaximumNArgs(1),
		Example: example("sheaf "+use, "sheaf "+use+" Sync"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			folder := ""
			if len(args) == 1 {
				folder = args[0]
			}
			return f(client, ctx, folder)
		},
	}
}
