package main

import (
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "dev"

// release gives the program's version, with the commit where the build knows it.
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

// root makes the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sheaf",
		Short: "Sync files between your devices, from device to device",
		Long: "Sheaf keeps a folder the same on all your devices, from device to device, without a server in between.\n\n" +
			"On the first device: sheaf init, then sheaf up. On each further one: sheaf join CODE, with a code from\n" +
			"sheaf device invite, then sheaf up.",
		Example: example(
			"sheaf init --name laptop        set up the first device",
			"sheaf up                        run the node",
			"sheaf device invite             a code for one more device",
			"sheaf join CODE --name phone    on that device",
			"sheaf status                    how things are"),
		Version:       release(),
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, // judged by RunE, in one line
		PersistentPreRunE: func(*cobra.Command, []string) error {
			var err error
			if a.home == "" {
				a.home, err = defaultHome(a.env)
			}
			if err == nil {
				a.home, err = absolute(a.home)
			}
			return err
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetVersionTemplate("sheaf {{.Version}}\n")
	root.PersistentFlags().StringVar(&a.home, "home", "", "where this device's state is kept (SHEAF_HOME)")
	root.AddGroup(
		&cobra.Group{ID: "setup", Title: "Set up and run:"},
		&cobra.Group{ID: "look", Title: "See how things are:"},
		&cobra.Group{ID: "files", Title: "Files:"},
		&cobra.Group{ID: "kept", Title: "Relays, backups and the archive:"},
		&cobra.Group{ID: "admin", Title: "Devices and settings:"},
	)
	root.SetHelpCommandGroupID("admin")
	root.SetCompletionCommandGroupID("admin")
	for group, cmds := range map[string][]*cobra.Command{
		"setup": {a.initCommand(), a.joinCommand(), a.recoverCommand(), a.upCommand(), a.downCommand(), a.restartCommand(), a.serviceCommand()},
		"look":  {a.statusCommand(), a.waitCommand(), a.doctorCommand(), a.whyCommand(), a.logCommand(), a.webCommand()},
		"files": {a.lsCommand(), a.conflictsCommand(), a.trashCommand(), a.holdCommand(), a.pauseCommand(), a.resumeCommand()},
		"kept":  {a.relayCommand(), a.backupCommand(), a.restoreCommand(), a.historyCommand(), a.archiveCommand(), a.cpCommand(), a.mvCommand(), a.rmCommand()},
		"admin": {a.deviceCommand(), a.peerCommand(), a.addressCommand(), a.configCommand(), a.versionCommand(), a.manCommand(root)},
	} {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	judge(root)
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the program's version", Args: cobra.NoArgs,
		Example: example("sheaf version"),
		RunE:    func(*cobra.Command, []string) error { return a.line("sheaf %s", release()) },
	}
}

// judge gives every wrong command line the form of all errors: one line, exit
// status 2.
func judge(c *cobra.Command) {
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, "%s", err) })
	switch {
	case c.HasSubCommands() && c.RunE == nil:
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 && !c.HasParent() {
				return c.Help()
			}
			if len(args) == 0 {
				return usage(c, "%s needs one of %s", c.CommandPath(), strings.Join(names(c), ", "))
			}
			return unknown(c, args[0])
		}
	case c.HasSubCommands(): // a command of its own as well, such as config
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknown(c, args[0])
			}
			return nil
		}
	case c.Args != nil:
		check := c.Args
		c.Args = func(c *cobra.Command, args []string) error {
			if check(c, args) != nil { // what is wrong is how many there are
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

func unknown(c *cobra.Command, name string) error {
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(name); len(near) > 0 {
		return usage(c, "there is no command %q: is %q meant?", c.CommandPath()+" "+name, c.CommandPath()+" "+near[0])
	}
	return usage(c, "there is no command %q", c.CommandPath()+" "+name)
}

func names(c *cobra.Command) []string {
	var list []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			list = append(list, sub.Name())
		}
	}
	slices.Sort(list)
	return list
}

// example sets the lines of an example off from the text around them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }

// answers gives a command the flag --json.
func (a *app) answers(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "answer in JSON")
	return c
}
