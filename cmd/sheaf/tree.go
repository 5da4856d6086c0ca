package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"sheaf/node/api"
)

func (a *app) lsCommand() *cobra.Command {
	var long, recursive bool
	c := &cobra.Command{
		Use: "ls [PATH]", Short: "List a directory of the tree", Args: cobra.MaximumNArgs(1),
		Long: "Lists what is in the tree, also what is not on this disk. PATH is a path in the tree, such as /Sync/photos, or a\n" +
			"path on this disk inside a folder. Directories end in a slash.",
		Example: example("sheaf ls /Sync", "sheaf ls -l ~/Sync/photos", "sheaf ls -R /Sync --json"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			dir := "/"
			if len(args) == 1 {
				var err error
				if dir, err = treePath(ctx, client, args[0]); err != nil {
					return err
				}
			}
			return a.list(c.Context(), client, dir, long, recursive)
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "with mode, size, time and whether it is here")
	c.Flags().BoolVarP(&recursive, "recursive", "R", false, "also what is below")
	return a.answers(c)
}

// list prints a directory page by page, so that a million entries are never in
// memory at once.
func (a *app) list(ctx context.Context, client *api.Client, dir string, long, recursive bool) error {
	var page api.Page
	items := &jsonList{a: a}
	for {
		pageCtx, cancel := context.WithTimeout(ctx, brief)
		l, err := client.List(pageCtx, dir, recursive, page)
		cancel()
		if err != nil {
			return err
		}
		t := a.table()
		for _, e := range l.Entries {
			name := e.Name
			if recursive {
				name = strings.TrimPrefix(strings.TrimPrefix(e.Path, strings.TrimSuffix(dir, "/")), "/")
			}
			switch {
			case a.json:
				err = items.add(e)
			case long:
				t.row(longEntry(e, name)...)
			default:
				err = a.line("%s", printable(name+suffix(e)))
			}
			if err != nil {
				return err
			}
		}
		if err := t.end(); err != nil {
			return err
		}
		if l.Next == "" {
			break
		}
		page.After = l.Next
	}
	if a.json {
		return items.end()
	}
	return nil
}

func longEntry(e api.Entry, name string) []string {
	bytes := size(e.Size)
	if e.Kind == "directory" {
		bytes = "-"
	}
	state := e.State
	if state == api.EntryInStep {
		state = ""
		if !e.Here {
			state = "not here"
		}
	}
	name += suffix(e)
	if e.Target != "" {
		name += " -> " + e.Target
	}
	return []string{e.Mode, bytes, moment(e.Modified), name, state}
}

func suffix(e api.Entry) string {
	if e.Kind == "directory" {
		return "/"
	}
	return ""
}

// A jsonList writes a JSON array element by element.
type jsonList struct {
	a *app
	n int
}

func (l *jsonList) add(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	before := ",\n"
	if l.n == 0 {
		before = "[\n"
	}
	l.n++
	if _, err := fmt.Fprintf(l.a.out, "%s  %s", before, data); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

func (l *jsonList) end() error {
	if l.n == 0 {
		return l.a.line("[]")
	}
	return l.a.line("\n]")
}

// treePath gives the path in the tree for what a person typed: that itself, or
// a path on this disk inside a folder.
func treePath(ctx context.Context, client *api.Client, arg string) (string, error) {
	if arg == "" {
		return "", api.Errorf(api.ErrUsage, "give a path such as /Sync/notes.txt", "the path is empty")
	}
	st, err := client.Status(ctx)
	if err != nil {
		return "", err
	}
	local, err := absolute(arg)
	if err != nil {
		return "", err
	}
	// A folder's own place is most particular: ~/Sync lies under /, and a tree
	// path lies in no folder unless somebody syncs the root of the disk.
	for _, f := range st.Folders {
		rel, err := filepath.Rel(f.Path, local)
		if err == nil && filepath.IsLocal(rel) {
			return path.Join("/", f.Name, filepath.ToSlash(rel)), nil
		}
	}
	if strings.HasPrefix(arg, "/") {
		return path.Clean(arg), nil
	}
	return "", api.Errorf(api.ErrNotFound, "give a path in the tree such as /Sync/notes.txt, or one inside a folder (`sheaf status` lists them)", "%s is in no folder of this device", arg)
}

func (a *app) whyCommand() *cobra.Command {
	return a.answers(&cobra.Command{
		Use: "why PATH", Short: "Explain the state of a file", Args: cobra.ExactArgs(1),
		Long: "Tells all this device knows about a path: version and author, who else has it, what it waits for and from whom,\n" +
			"and what holds it (an ignore rule, a name clash, a permission), with what to do.",
		Example: example("sheaf why /Sync/notes.txt", "sheaf why ~/Sync/notes.txt --json"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, client, done := a.ask(c.Context())
			defer done()
			p, err := treePath(ctx, client, args[0])
			if err != nil {
				return err
			}
			w, err := client.Why(ctx, p)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(w)
			}
			return a.showWhy(w)
		},
	})
}

func (a *app) showWhy(w api.Why) error {
	if err := a.line("%s\n%s\n", a.shaded(bold, printable(w.Path)), printable(w.Summary)); err != nil {
		return err
	}
	t := a.table()
	fact := func(name, value string) {
		if value != "" {
			t.row("", name, value)
		}
	}
	fact("kind", w.Kind)
	if w.Kind != "" {
		fact("size", size(w.Size))
		fact("here", map[bool]string{true: "yes", false: "no"}[w.Here])
		fact("state", w.State)
	}
	fact("version", w.Version)
	if w.Author != "" {
		fact("written by", fmt.Sprintf("%s, %s", w.Author, moment(w.Written)))
	}
	if !w.Modified.IsZero() {
		fact("modified", moment(w.Modified))
	}
	fact("also on", strings.Join(w.Others, ", "))
	fact("waits for", w.WaitsFor)
	fact("from", strings.Join(w.WaitsFrom, ", "))
	for _, p := range w.Conflicts {
		fact("conflict copy", p)
	}
	if err := t.end(); err != nil {
		return err
	}
	return a.showProblems(w.Problems)
}

func (a *app) logCommand() *cobra.Command {
	limit := 50
	c := &cobra.Command{
		Use: "log [PATH]", Short: "Show what was changed, when and where", Args: cobra.MaximumNArgs(1),
		Example: example("sheaf log", "sheaf log /Sync/photos --limit 10", "sheaf log --json"),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 || limit > 10000 {
				return usage(c, "--limit must be from 1 to 10000")
			}
			ctx, client, done := a.ask(c.Context())
			defer done()
			p := ""
			if len(args) == 1 {
				var err error
				if p, err = treePath(ctx, client, args[0]); err != nil {
					return err
				}
			}
			sets, err := client.Log(ctx, p, limit)
			if err != nil {
				return err
			}
			if a.json {
				return a.answerJSON(sets)
			}
			return a.showLog(sets)
		},
	}
	c.Flags().IntVarP(&limit, "limit", "n", limit, "change-sets at most")
	return a.answers(c)
}

func (a *app) showLog(sets []api.ChangeSet) error {
	if len(sets) == 0 {
		return a.line("nothing was changed yet")
	}
	for _, s := range sets {
		if err := a.line("%s  %s  /%s  %s", moment(s.At), a.shaded(bold, printable(s.Device)), printable(s.Folder), a.shaded(faint, printable(s.ID))); err != nil {
			return err
		}
		t := a.table()
		for _, ch := range s.Changes {
			what := ch.Path
			if ch.From != "" {
				what = ch.From + " -> " + ch.Path
			}
			t.row("", ch.What, what)
		}
		if err := t.end(); err != nil {
			return err
		}
		if s.More > 0 {
			if err := a.line("  and %s", count(s.More, "more", "more")); err != nil {
				return err
			}
		}
	}
	return nil
}
