package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) statusCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "status", Short: "Show the node, its folders, peers and problems", Args: cobra.NoArgs,
		Example: example("sheaf status", "sheaf status --json", "sheaf status --json | jq .folders[].need_bytes"),
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			st, err := client.Status(ctx)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(st)
			}
			return a.showStatus(st)
		},
	})
}

// showStatus prints a status for people: the state of all in the first line,
// then what it is made of, last what needs them.
func (a *app) showStatus(st api.Status) error {
	if err := a.line("%s  %s  %s", a.shaded(bold, printable(st.Device.Name)), a.state(st.State), a.shaded(faint, "sheaf "+printable(st.Device.Version))); err != nil {
		return err
	}
	if err := a.line("%s", a.shaded(faint, printable(st.Device.ID))); err != nil {
		return err
	}
	t := a.table()
	problems := st.Problems
	for _, f := range st.Folders {
		t.row("", "/"+f.Name, string(f.State), folderWords(f), f.Path)
		problems = append(problems, f.Problems...)
	}
	if err := a.section("Folders", len(st.Folders), t, "none"); err != nil {
		return err
	}
	t = a.table()
	for _, p := range st.Peers {
		t.row("", p.Name, peerWords(p), stepWords(p))
	}
	if err := a.section("Peers", len(st.Peers), t, "none yet: `sheaf device invite` makes a code for one more device"); err != nil {
		return err
	}
	if len(st.Relays) > 0 {
		t = a.table()
		for _, r := range st.Relays {
			t.row("", r.Name, connected(r.Connected), "stored through "+moment(r.StoredThrough), size(r.UsedBytes)+" of "+size(r.QuotaBytes))
		}
		if err := a.section("Relays", len(st.Relays), t, ""); err != nil {
			return err
		}
	}
	if err := a.line("\nTraffic  %s sent, %s received since %s", size(st.Traffic.SentBytes), size(st.Traffic.ReceivedBytes), moment(st.Started)); err != nil {
		return err
	}
	return a.showProblems(problems)
}

// showProblems prints what needs a person, each with what to do.
func (a *app) showProblems(list []api.Problem) error {
	const most = 20 // beyond that nobody reads; --json has them all
	for i, p := range list {
		if i == 0 {
			if err := a.line("\n%s", a.shaded(bad, "Problems")); err != nil {
				return err
			}
		}
		if i == most {
			return a.line("  and %s: `sheaf status --json` lists them", count(int64(len(list)-most), "more", "more"))
		}
		what := printable(p.What)
		if p.Path != "" {
			what = printable(p.Path) + ": " + what
		}
		if err := a.line("  %s\n      %s", what, printable(p.Remedy)); err != nil {
			return err
		}
	}
	return nil
}

// section prints a title and the rows below it, or that there are none.
func (a *app) section(title string, rows int, t *table, none string) error {
	if rows == 0 {
		return a.line("\n%s  %s", title, none)
	}
	if err := a.line("\n%s", title); err != nil {
		return err
	}
	return t.end()
}

func (a *app) state(s api.State) string {
	c := busy
	switch s {
	case api.Idle:
		c = good
	case api.Failing:
		c = bad
	}
	return a.shaded(c, printable(string(s)))
}

func folderWords(f api.Folder) string {
	words := []string{fmt.Sprintf("%s, %s", count(f.Files, "file", "files"), size(f.Bytes))}
	if f.NeedFiles > 0 || f.NeedBytes > 0 {
		words = append(words, fmt.Sprintf("%s (%s) to fetch", count(f.NeedFiles, "file", "files"), size(f.NeedBytes)))
	}
	if f.Conflicts > 0 {
		words = append(words, count(f.Conflicts, "conflict", "conflicts"))
	}
	if len(f.Problems) > 0 {
		words = append(words, count(int64(len(f.Problems)), "problem", "problems"))
	}
	return strings.Join(words, ", ")
}

func peerWords(p api.Peer) string {
	if !p.Connected {
		if p.LastSeen.IsZero() {
			return "not connected"
		}
		return "not connected since " + moment(p.LastSeen)
	}
	if p.RTT > 0 {
		return fmt.Sprintf("%s, %.3g ms", p.Path, p.RTT)
	}
	return p.Path
}

func stepWords(p api.Peer) string {
	switch {
	case !p.Connected:
		return ""
	case p.InStep:
		return "in step"
	}
	return "catching up"
}

func connected(yes bool) string {
	if yes {
		return "connected"
	}
	return "not connected"
}
