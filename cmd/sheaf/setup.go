package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use: "init", Short: "Set up the first device of a new account", Args: cobra.NoArgs,
		Long: "Sets up this device as the first of a new account, with a Sync folder, and prints the account's recovery\n" +
			"phrase: 24 words, once. Whoever has them can become a device of the account; without any device and without\n" +
			"them nothing can be recovered.",
		Example: example("sheaf init --name laptop", "sheaf init --name laptop --dir ~/Documents/Sync", "sheaf init --name ci --json > account.json"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.place(&o.Home, &o.Name, &o.Dir); err != nil {
				return err
			}
			unlock, err := a.alone()
			if err != nil {
				return err
			}
			defer unlock()
			r, err := a.backend.init(c.Context(), o)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(r)
			}
			return a.showPhrase(o, r)
		},
	}
	c.Flags().StringVar(&o.Name, "name", "", "what to call this device (default: the host's name)")
	c.Flags().StringVar(&o.Dir, "dir", "", "the folder to sync (default: ~/Sync)")
	return a.answers(c)
}

func (a *app) showPhrase(o initOptions, r initResult) error {
	if err := a.line("Device %s of account %s is set up; it syncs %s.\n\nThe recovery phrase, shown this once:\n",
		printable(o.Name), r.Account, printable(o.Dir)); err != nil {
		return err
	}
	words := strings.Fields(r.RecoveryPhrase)
	const perLine = 4
	for i := 0; i < len(words); i += perLine {
		var row strings.Builder
		for j, w := range words[i:min(i+perLine, len(words))] {
			fmt.Fprintf(&row, "  %2d %-10s", i+j+1, w)
		}
		if err := a.line("%s", strings.TrimRight(row.String(), " ")); err != nil {
			return err
		}
	}
	return a.line("\nWrite it on paper and keep it apart from this device. With it the account can be recovered when every\n" +
		"device is lost; whoever else has it can read everything. It is stored nowhere and cannot be shown again.\n\n" +
		"Next: sheaf up")
}

func (a *app) joinCommand() *cobra.Command {
	var o joinOptions
	timeout, yes := span(time.Minute), false
	c := &cobra.Command{
		Use: "join CODE", Short: "Join an account with a code from another device", Args: cobra.ExactArgs(1),
		Long: "Makes this device one more of an account. The code comes from `sheaf device invite` on a device of it, which has\n" +
			"to be running and reachable. With - for CODE the code is read from the input, so that it stands in no list of\n" +
			"processes. Before anything is sent it says whose account it is and, on a terminal, asks.",
		Example: example("sheaf join sheaf-device-... --name phone", "sheaf join - --name phone < code.txt"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.place(&o.Home, &o.Name, &o.Dir); err != nil {
				return err
			}
			o.Code, o.Timeout = strings.TrimSpace(args[0]), time.Duration(timeout)
			if o.Timeout == 0 {
				return usage(c, "--timeout must be above 0")
			}
			if o.Code == "-" {
				code, err := readLine(a.in)
				if err != nil {
					return err
				}
				o.Code = strings.TrimSpace(code)
			}
			unlock, err := a.alone()
			if err != nil {
				return err
			}
			defer unlock()
			o.Confirm = func(inviter, what string) bool {
				a.note("Joining %s, invited by %s.", printable(what), printable(inviter))
				return yes || a.confirm("Go on?")
			}
			r, err := a.backend.join(c.Context(), o)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(r)
			}
			return a.line("Device %s is one of account %s now; it syncs %s.\nNext: sheaf up", printable(o.Name), r.Account, printable(o.Dir))
		},
	}
	c.Flags().StringVar(&o.Name, "name", "", "what to call this device (default: the host's name)")
	c.Flags().StringVar(&o.Dir, "dir", "", "the folder to sync (default: ~/Sync)")
	c.Flags().Var(&timeout, "timeout", "how long to try")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return a.answers(c)
}

func (a *app) recoverCommand() *cobra.Command {
	var o recoverOptions
	timeout := span(time.Minute)
	c := &cobra.Command{
		Use: "recover", Short: "Recover an account with its phrase", Args: cobra.NoArgs,
		Long: "Reads the 24-word recovery phrase from the input and makes this device one of the account, when every other device is\n" +
			"lost or out of reach. A relay that keeps things for the account (--relay, with a code from `sheaf-relay invite` or an\n" +
			"address from `sheaf-relay address`) or a device that is left knows the account. After `sheaf up`, Sync comes back by\n" +
			"itself, and `sheaf backup list` shows what there is to restore.",
		Example: example("sheaf recover --name newlaptop --relay /ip4/192.0.2.7/tcp/22122/p2p/12D3KooW... < phrase.txt"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.place(&o.Home, &o.Name, &o.Dir); err != nil {
				return err
			}
			if o.Timeout = time.Duration(timeout); o.Timeout == 0 {
				return usage(c, "--timeout must be above 0")
			}
			if a.terminal.in {
				a.note("Type the 24 words, in their order, on one line:")
			}
			var err error
			if o.Phrase, err = readPhrase(a.in); err != nil {
				return err
			}
			unlock, err := a.alone()
			if err != nil {
				return err
			}
			defer unlock()
			r, err := a.backend.recover(c.Context(), o)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(r)
			}
			return a.line("Device %s is one of account %s now; it syncs %s.\nNext: sheaf up, then sheaf backup list", printable(o.Name), r.Account, printable(o.Dir))
		},
	}
	c.Flags().StringVar(&o.Name, "name", "", "what to call this device (default: the host's name)")
	c.Flags().StringVar(&o.Dir, "dir", "", "the folder to sync (default: ~/Sync)")
	c.Flags().StringVar(&o.Relay, "relay", "", "a relay's code or address, or the address of a device that is left")
	c.Flags().Var(&timeout, "timeout", "how long to try")
	return a.answers(c)
}

// readPhrase reads words from lines of input until there are 24 of them, or no more.
func readPhrase(r io.Reader) (string, error) {
	var words []string
	for range 24 {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		words = append(words, strings.Fields(line)...)
		if len(words) >= 24 || line == "" {
			break
		}
	}
	return strings.Join(words, " "), nil
}

func (a *app) webCommand() *cobra.Command {
	var show bool
	c := &cobra.Command{
		Use: "web", Short: "Open the web page of the node (in a later release)", Args: cobra.NoArgs,
		Example: example("sheaf web", "sheaf web --print"),
		RunE: func(*cobra.Command, []string) error {
			return api.Errorf(api.ErrLater, "use `sheaf status` until then", "web needs a later release")
		},
	}
	c.Flags().BoolVar(&show, "print", false, "print the link instead of opening it")
	return c
}

// place fills in what a new device is called and where it keeps things.
func (a *app) place(home, name, dir *string) (err error) {
	*home = a.home
	if *name == "" {
		*name = defaultName()
	}
	if *dir == "" {
		*dir, err = defaultDir(a.env)
	}
	if err == nil {
		*dir, err = absolute(*dir)
	}
	return err
}

// alone makes this process the only one that works on the home.
func (a *app) alone() (unlock func(), err error) {
	l, err := api.LockHome(a.home)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := l.Unlock(); err != nil {
			a.note("sheaf: unlock the home: %s", err)
		}
	}, nil
}

// confirm asks a person a question; where there is none to ask the answer is
// yes, for a script has said what it wants.
func (a *app) confirm(question string) bool {
	if !a.terminal.in || !a.terminal.err {
		return true
	}
	_, _ = fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, err := readLine(a.in)
	answer = strings.ToLower(strings.TrimSpace(answer))
	return err == nil && (answer == "y" || answer == "yes")
}
