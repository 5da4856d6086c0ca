package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) relayCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "relay", Short: "Add, list and remove relays",
		Long: "A relay is a node that is always on and keeps, encrypted, what is to outlive the devices: backups, the archive, the\n" +
			"trash and versions. `sheaf-relay invite` on it makes a code. All devices of the account use what one of them adds.",
		Example: example("sheaf relay add sheaf-relay-...", "sheaf relay list", "sheaf relay remove nas"),
	}
	c.AddCommand(a.relayAddCommand(), a.relayListCommand(), a.relayRemoveCommand())
	return c
}

func (a *app) relayAddCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "add CODE", Short: "Use a relay", Args: cobra.ExactArgs(1),
		Long:    "CODE is from `sheaf-relay invite`. With - for CODE it is read from the input, so that it stands in no list of processes.",
		Example: example("sheaf relay add sheaf-relay-...", "sheaf relay add - < code.txt"),
		RunE: func(c *cobra.Command, args []string) error {
			code := strings.TrimSpace(args[0])
			if code == "-" {
				line, err := readLine(a.in)
				if err != nil {
					return err
				}
				code = strings.TrimSpace(line)
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			r, err := client.AddRelay(ctx, code)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(r)
			}
			return a.line("relay %s is used from now on, by all your devices", printable(r.Name))
		},
	})
}

func (a *app) relayListCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "list", Short: "List the relays in use", Args: cobra.NoArgs, Example: example("sheaf relay list", "sheaf relay list --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			list, err := client.Relays(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			if len(list) == 0 {
				return a.line("no relay is used: `sheaf-relay invite` makes a code, `sheaf relay add CODE` uses it")
			}
			t := a.table("NAME", "", "STORED THROUGH", "USED", "OF")
			var problems []api.Problem
			for _, r := range list {
				t.row(r.Name, connected(r.Connected), moment(r.StoredThrough), size(r.UsedBytes), size(r.QuotaBytes))
				for _, p := range r.Problems {
					problems = append(problems, api.Problem{Path: r.Name, What: p.What, Remedy: p.Remedy})
				}
			}
			if err := t.end(); err != nil {
				return err
			}
			return a.showProblems(problems)
		},
	})
}

func (a *app) relayRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Use a relay no more", Args: cobra.ExactArgs(1),
		Long:    "None of your devices uses it any more. What it keeps stays there, until whoever runs it removes it.",
		Example: example("sheaf relay remove nas"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			return client.RemoveRelay(ctx, args[0])
		},
	}
}

func (a *app) backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "backup", Short: "Back up directories of this device to the relays",
		Long: "A backup is a mirror of a directory of this device, kept by the relays under the device's name, in /Backups. It is\n" +
			"kept up continuously while the node runs. What is deleted or changed is kept as well, for a while. Nothing is\n" +
			"written to the directory but a small marker, .sheaf. A .sheafignore in it says what is left out.",
		Example: example("sheaf backup add ~/Documents", "sheaf backup status", "sheaf restore /Backups/laptop/Documents --to ~/Restored"),
	}
	c.AddCommand(a.backupAddCommand(), a.backupListCommand(), a.backupStatusCommand(), a.backupRemoveCommand())
	return c
}

func (a *app) backupAddCommand() *cobra.Command {
	name := ""
	c := &cobra.Command{
		Use: "add DIR", Short: "Back up a directory from now on", Args: cobra.ExactArgs(1),
		Example: example("sheaf backup add ~/Documents", "sheaf backup add /media/photos --name photos"),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := absolute(args[0])
			if err != nil {
				return err
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			b, err := client.AddBackup(ctx, dir, name)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(b)
			}
			return a.line("%s is backed up as %s from now on; `sheaf wait --relay` returns when all of it is stored", printable(b.Source), printable(b.Path))
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to call it (default: the directory's name)")
	return a.answers(c)
}

func (a *app) backupListCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "list", Short: "List the backups of all devices", Args: cobra.NoArgs, Example: example("sheaf backup list", "sheaf backup list --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			list, err := client.Backups(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			if len(list) == 0 {
				return a.line("nothing is backed up yet: `sheaf backup add DIR`")
			}
			t := a.table("PATH", "FILES", "SIZE", "OF")
			for _, b := range list {
				from := b.Source
				if from == "" {
					from = "a directory of " + b.Device
				}
				t.row(b.Path, count(b.Files, "file", "files"), size(b.Bytes), from)
			}
			return t.end()
		},
	})
}

func (a *app) backupStatusCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "status", Short: "Show how far each backup is stored", Args: cobra.NoArgs, Example: example("sheaf backup status", "sheaf backup status --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			list, err := client.Backups(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			if len(list) == 0 {
				return a.line("nothing is backed up yet: `sheaf backup add DIR`")
			}
			t := a.table("PATH", "STATE", "FILES", "SIZE", "STORED THROUGH", "WAITING")
			var problems []api.Problem
			for _, b := range list {
				through := moment(b.StoredThrough)
				if b.State == api.BackupElsewhere {
					through = "read " + moment(b.SeenThrough)
				}
				waiting := ""
				if b.Waiting > 0 {
					waiting = count(b.Waiting, "file", "files")
				}
				t.row(b.Path, b.State, count(b.Files, "file", "files"), size(b.Bytes), through, waiting)
				problems = append(problems, b.Problems...)
			}
			if err := t.end(); err != nil {
				return err
			}
			return a.showProblems(problems)
		},
	})
}

func (a *app) backupRemoveCommand() *cobra.Command {
	keep := false
	c := &cobra.Command{
		Use: "remove NAME", Short: "End a backup", Args: cobra.ExactArgs(1),
		Long: "NAME is one of this device's backups, or a path such as /Backups/laptop/Documents. What is stored goes to the trash,\n" +
			"and is gone for good after the relay's retention; with --keep it stays as it is. The directory is not touched.",
		Example: example("sheaf backup remove Documents --keep", "sheaf backup remove /Backups/oldlaptop/Documents"),
		RunE: func(c *cobra.Command, args []string) error {
			client := api.NewClient(a.home)
			defer client.Close()
			return client.RemoveBackup(c.Context(), args[0], keep)
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "keep what is stored")
	return c
}

func (a *app) historyCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "history PATH", Short: "List the versions of a file that relays keep", Args: cobra.ExactArgs(1),
		Example: example("sheaf history /Sync/notes.txt", "sheaf history /Backups/laptop/Documents/notes.txt --json"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			p, err := treePath(ctx, client, args[0])
			if err != nil {
				return err
			}
			list, err := client.History(ctx, p)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(list)
			}
			if len(list) == 0 {
				return a.line("no relay has a version of it yet")
			}
			t := a.table("ID", "CAME", "BY", "SIZE", "")
			for _, v := range list {
				what := ""
				switch {
				case v.Deleted:
					what = "deleted"
				case v.Current:
					what = "current"
				}
				if !v.Whole && !v.Deleted {
					what = strings.TrimPrefix(what+", not whole yet", ", ")
				}
				t.row(v.ID, v.At.Local().Format("2006-01-02 15:04:05"), v.Device, size(v.Bytes), what)
			}
			return t.end()
		},
	})
}

func (a *app) restoreCommand() *cobra.Command {
	var o api.RestoreOptions
	at := ""
	c := &cobra.Command{
		Use: "restore PATH", Short: "Bring back what relays keep", Args: cobra.ExactArgs(1),
		Long: "Brings a file, a directory or a whole backup back to this disk: as it is now, as it was at a time, or one version of\n" +
			"a file. Without --to it goes where it was. Nothing that is there is replaced: what differs gets another name beside\n" +
			"it. A restore that was interrupted goes on where it was when it is run again.",
		Example: example("sheaf restore /Backups/laptop/Documents --to ~/Restored", "sheaf restore /Backups/laptop/Documents --to ~/Restored --at 2026-11-01T12:00",
			"sheaf restore /Sync/notes.txt --version 3f9a"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			var err error
			if o.Path, err = treePath(ctx, client, args[0]); err != nil {
				return err
			}
			if at != "" {
				if o.At, err = parseTime(at); err != nil {
					return usage(c, "--at: %s", err)
				}
				if o.Version != "" {
					return usage(c, "--at and --version cannot both be given")
				}
			}
			if o.To != "" && !isTree(o.To) {
				if o.To, err = absolute(o.To); err != nil {
					return err
				}
			}
			r, err := client.Restore(c.Context(), o) // for as long as it takes
			if err != nil {
				return err
			}
			return a.showRestored(r)
		},
	}
	c.Flags().StringVar(&o.Version, "version", "", "a version's ID, from `sheaf history`, or the start of one")
	c.Flags().StringVar(&at, "at", "", "as it was at a time, such as 2026-11-01T12:00")
	c.Flags().StringVar(&o.To, "to", "", "where to put it, on this disk or in a folder that is on it")
	return a.answers(c)
}

// isTree tells whether a path is meant as one of the tree.
func isTree(p string) bool {
	return p == "/Sync" || strings.HasPrefix(p, "/Sync/") || strings.HasPrefix(p, "/Backups/")
}

func (a *app) showRestored(r api.Restored) error {
	if a.json {
		if err := a.answerJSON(r); err != nil {
			return err
		}
	} else {
		there := ""
		if r.There > 0 {
			there = fmt.Sprintf("; %s there already", count(r.There, "was", "were"))
		}
		if err := a.line("%s, %s, to %s%s", count(r.Files, "file", "files"), size(r.Bytes), printable(filepath.ToSlash(r.To)), there); err != nil {
			return err
		}
	}
	const shown = 100
	for _, p := range r.Problems[:min(len(r.Problems), shown)] {
		a.note("sheaf: %s: %s: %s", printable(p.Path), printable(p.What), printable(p.Remedy))
	}
	if len(r.Problems) > 0 {
		return api.Errorf(api.ErrFailed, "run the same command again once that is mended: what is there already is passed over", "%s could not be restored", count(int64(len(r.Problems)), "thing", "things"))
	}
	return nil
}

// parseTime reads a time that a person gives: in their zone, unless they say another.
func parseTime(s string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time such as 2026-11-01T12:00", s)
}

func (a *app) archiveCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "archive", Short: "Put things into the archive",
		Long: "The archive, /Archive, is kept by the relays and not by any device's disk: what is put there stays until somebody\n" +
			"deletes it by hand.",
		Example: example("sheaf archive add ~/Pictures/2019", "sheaf archive add /Backups/oldlaptop/Documents"),
	}
	add := a.answers(&cobra.Command{
		Use: "add PATH-OR-LOCAL...", Short: "Put files and directories into the archive", Args: cobra.MinimumNArgs(1),
		Long: "What is in a backup or in the archive already is not sent again. Returns when a relay has durably stored it; then the\n" +
			"originals may go.",
		Example: example("sheaf archive add ~/Pictures/2019", "sheaf archive add /Backups/oldlaptop/Documents"),
		RunE:    func(c *cobra.Command, args []string) error { return a.copyInto(c, args, "/Archive", false) },
	})
	c.AddCommand(add)
	return c
}

func (a *app) copyInto(c *cobra.Command, from []string, to string, move bool) error {
	ctx, client, done := a.ask(c.Context())
	defer done()
	var list []string
	for _, p := range from {
		// A path of the tree is one if it is not one of this disk.
		if full, err := treePath(ctx, client, p); err == nil && (isTree(full) || strings.HasPrefix(full, "/Archive/")) {
			list = append(list, full)
			continue
		}
		full, err := absolute(p)
		if err != nil {
			return err
		}
		list = append(list, full)
	}
	r, err := client.Copy(c.Context(), list, to, move) // for as long as it takes
	if err != nil {
		return err
	}
	if a.json {
		return a.answerJSON(r)
	}
	for _, p := range r.Paths {
		if err := a.line("%s", printable(p)); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) cpCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "cp FROM TO", Short: "Copy into the archive", Args: cobra.ExactArgs(2),
		Long:    "Copies something of the tree, or of this disk, into a directory of /Archive. What relays have already is not sent again.",
		Example: example("sheaf cp /Backups/laptop/Documents/taxes /Archive/2026"),
		RunE:    func(c *cobra.Command, args []string) error { return a.copyInto(c, args[:1], args[1], false) },
	})
}

func (a *app) mvCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "mv FROM TO", Short: "Move or rename something in the archive", Args: cobra.ExactArgs(2),
		Example: example("sheaf mv /Archive/taxes /Archive/2026/taxes"),
		RunE:    func(c *cobra.Command, args []string) error { return a.copyInto(c, args[:1], args[1], true) },
	})
}

func (a *app) rmCommand() *cobra.Command {
	recursive := false
	c := &cobra.Command{
		Use: "rm PATH", Short: "Delete something in the archive", Args: cobra.ExactArgs(1),
		Long:    "What is deleted is kept by the relays for a while (their retention), and can be restored: `sheaf history`, `sheaf restore`.",
		Example: example("sheaf rm /Archive/old.iso", "sheaf rm -r /Archive/2009"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			p, err := treePath(ctx, client, args[0])
			if err != nil {
				return err
			}
			return client.Remove(ctx, p, recursive)
		},
	}
	c.Flags().BoolVarP(&recursive, "recursive", "r", false, "a directory with all that is in it")
	return c
}
