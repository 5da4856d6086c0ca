package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"sheaf/node/api"
	"sheaf/node/config"
)

func (a *app) configCommand() *cobra.Command {
	list := func(c *cobra.Command, _ []string) error {
		values, err := a.settings(c)
		if err != nil {
			return err
		}
		if a.json {
			return a.answerJSON(values)
		}
		t := a.table("KEY", "VALUE", "DEFAULT", "MEANING")
		for _, v := range values {
			t.row(v.Key, orNone(v.Value), orNone(v.Default), v.Meaning)
		}
		return t.end()
	}
	c := a.answers(&cobra.Command{
		Use: "config", Short: "List and set the configuration", RunE: list,
		Long: "Lists each key with value, default and meaning. The configuration is the file config.toml in the home; all of it is\n" +
			"optional, and it may be edited by hand.",
		Example: example("sheaf config", "sheaf config set trash.keep 90d", "sheaf config set limits.upload 2MiB", "sheaf config token"),
	})
	c.AddCommand(
		a.answers(&cobra.Command{Use: "list", Short: "List each key with value, default and meaning", Args: cobra.NoArgs, RunE: list, Example: example("sheaf config list --json")}),
		a.configGetCommand(), a.configSetCommand(), a.configTokenCommand())
	return c
}

// settings asks the node, or, if none runs, reads the file.
func (a *app) settings(c *cobra.Command) ([]config.Value, error) {
	ctx, client, done := a.ask(c.Context())
	defer done()
	values, err := client.Config(ctx)
	if errors.Is(err, api.ErrNotRunning) {
		values, err = config.Values(a.home)
	}
	return values, settingError(err)
}

func (a *app) configGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get KEY", Short: "Print the value of a key", Args: cobra.ExactArgs(1),
		Example: example("sheaf config get trash.keep"),
		RunE: func(c *cobra.Command, args []string) error {
			values, err := a.settings(c)
			if err != nil {
				return err
			}
			for _, v := range values {
				if v.Key == args[0] {
					return a.line("%s", printable(v.Value))
				}
			}
			return settingError(config.UnknownKey(args[0]))
		},
	}
}

func (a *app) configSetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "Set a key", Args: cobra.ExactArgs(2),
		Long:    "Sets a key in config.toml; comments and order in it stay. Works whether the node runs or not.",
		Example: example("sheaf config set trash.keep 90d", "sheaf config set trash.max 20GB", "sheaf config set watch false", "sheaf config set listen /ip4/0.0.0.0/tcp/4101,/ip4/0.0.0.0/udp/4101/quic-v1"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			err := client.SetConfig(ctx, args[0], args[1])
			if err == nil && !live(args[0]) {
				a.note("It is in force when the node starts again: sheaf restart")
			}
			if !errors.Is(err, api.ErrNotRunning) {
				return err
			}
			if err := a.homeExists(); err != nil {
				return err
			}
			return settingError(config.Set(a.home, args[0], args[1]))
		},
	}
}

// live tells whether a running node takes up a change of a key at once.
func live(key string) bool {
	return slices.ContainsFunc(config.Keys(), func(k config.Key) bool { return k.Name == key && k.Live })
}

func (a *app) configTokenCommand() *cobra.Command {
	renew := false
	c := &cobra.Command{
		Use: "token", Short: "Print the token of the API on TCP", Args: cobra.NoArgs,
		Long: "Prints the token that programs send to the API on TCP (`sheaf up --api`): Authorization: Bearer TOKEN. Whoever has\n" +
			"it and is on this machine is you to the node.",
		Example: example("sheaf config token", "sheaf config token --new",
			`curl -H "Authorization: Bearer $(sheaf config token)" http://127.0.0.1:8390/api/v1/status`),
		RunE: func(*cobra.Command, []string) error {
			if err := a.homeExists(); err != nil {
				return err
			}
			get := api.Token
			if renew {
				get = api.NewToken
			}
			token, err := get(a.home)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(struct {
					Token string `json:"token"`
				}{token})
			}
			return a.line("%s", token)
		},
	}
	c.Flags().BoolVar(&renew, "new", false, "make a new one; the old one stops working at once")
	return a.answers(c)
}

// homeExists keeps commands that write a file from making a home by mistake.
func (a *app) homeExists() error {
	if _, err := os.Stat(a.home); err != nil {
		return api.Errorf(api.ErrFailed, "set this device up with `sheaf init` or `sheaf join`, or give another --home", "there is no device at %s", a.home)
	}
	return nil
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (a *app) doctorCommand() *cobra.Command {
	deep := false
	c := &cobra.Command{
		Use: "doctor", Short: "Check disk, watches, clock, network and index", Args: cobra.NoArgs,
		Long: "Checks the node and says the remedy of each fault. Ends with exit status 1 if there is one. With --deep it also\n" +
			"checks the whole index and reads every file.",
		Example: example("sheaf doctor", "sheaf doctor --deep", "sheaf doctor --json"),
		RunE: func(c *cobra.Command, _ []string) error {
			client := api.NewClient(a.home)
			defer client.Close()
			checks, err := client.Doctor(c.Context(), deep)
			if err != nil {
				return err
			}
			if a.json {
				err = a.answerJSON(checks)
			} else {
				err = a.showChecks(checks)
			}
			if err != nil {
				return err
			}
			return verdict(checks)
		},
	}
	c.Flags().BoolVar(&deep, "deep", false, "also check the whole index and read every file: takes long")
	return a.answers(c)
}

func (a *app) showChecks(checks []api.Check) error {
	for _, x := range checks {
		c := map[string]shade{api.CheckOK: good, api.CheckWarning: busy, api.CheckFault: bad}[x.Result]
		if err := a.line("%s  %s: %s", a.shaded(c, fmt.Sprintf("%-7s", printable(x.Result))), printable(x.Name), printable(x.What)); err != nil {
			return err
		}
		if x.Remedy != "" {
			if err := a.line("         %s", printable(x.Remedy)); err != nil {
				return err
			}
		}
	}
	return nil
}

func verdict(checks []api.Check) error {
	faults := int64(0)
	for _, x := range checks {
		if x.Result == api.CheckFault {
			faults++
		}
	}
	if faults == 0 {
		return nil
	}
	return api.Errorf(api.ErrFailed, "the remedy of each stands with it", "%s found", count(faults, "fault was", "faults were"))
}
