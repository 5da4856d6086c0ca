//go:build unix

package main

import (
	"fmt"
	"os"
	"testing"
	"time"

	"sheaf/node/api"
)

// The ways in which programs save, again and again while it syncs: no conflict
// copies, no content lost, and the file stays one file whose history goes on.
func TestEditorsSaves(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	saves := map[string]func(p, content string){
		"rename": func(p, content string) { // vim, gedit, most
			a.put(p+".tmp123", content)
			must(t, os.Rename(a.path(p+".tmp123"), a.path(p)))
		},
		"backup": func(p, content string) { // Emacs: the old one becomes name~
			if a.has(p) {
				must(t, os.Rename(a.path(p), a.path(p+"~")))
			}
			a.put(p, content)
		},
		"delete": func(p, content string) {
			_ = os.Remove(a.path(p))
			time.Sleep(300 * time.Millisecond) // as the program takes
			a.put(p, content)
		},
		"truncate": func(p, content string) { a.put(p, content) },
		"pieces": func(p, content string) {
			f, err := os.Create(a.path(p))
			must(t, err)
			for _, c := range []byte(content) {
				_, err = f.Write([]byte{c})
				must(t, err)
			}
			must(t, f.Close())
		},
		"swap": func(p, content string) { // Word: write new, old aside, new in place, old removed
			a.put(p+".new", content)
			if a.has(p) {
				must(t, os.Rename(a.path(p), a.path(p+".old")))
			}
			must(t, os.Rename(a.path(p+".new"), a.path(p)))
			_ = os.Remove(a.path(p + ".old"))
		},
	}
	must(t, os.Mkdir(a.path("docs"), 0o755))
	for round := range 6 {
		for how, save := range saves {
			save("docs/"+how, fmt.Sprintf("%s, version %d", how, round))
		}
		if round < 2 {
			alike(t, a, b)
		}
	}
	end := alike(t, a, b)
	for how := range saves {
		if got, want := b.get("docs/"+how), fmt.Sprintf("%s, version 5", how); got != want {
			t.Errorf("%s: %q, should be %q", how, got, want)
		}
		for _, d := range []*device{a, b} {
			created := 0
			for _, set := range ask[[]api.ChangeSet](d, "log", "/Sync/docs/"+how) {
				for _, c := range set.Changes {
					if c.Path != "/Sync/docs/"+how {
						continue
					}
					switch c.What {
					case api.Created:
						created++
					case api.Deleted:
						t.Errorf("%s: the log of %s says it was deleted", how, d.name)
					}
				}
			}
			if created > 1 {
				t.Errorf("%s: the log of %s says it was created %d times", how, d.name, created)
			}
		}
	}
	if n := files(end); n != len(saves)+1 { // Emacs' backup stays
		t.Errorf("%d files, should be %d: %s", n, len(saves)+1, show(end))
	}
	for _, d := range []*device{a, b} {
		if n := d.folder().Conflicts; n != 0 {
			t.Errorf("%s has %d conflicts", d.name, n)
		}
	}
}

// A file is written without a pause, for a while, from both sides in turn.
func TestWrittenWhileItSyncs(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for round := range 4 {
		d := []*device{a, b}[round%2]
		for i := range 60 {
			d.put("busy", fmt.Sprintf("by %s, round %d, write %d", d.name, round, i))
			time.Sleep(10 * time.Millisecond) // the pace of the writer
		}
		end := alike(t, a, b)
		if want := fmt.Sprintf("by %s, round %d, write 59", d.name, round); a.get("busy") != want || files(end) != 1 {
			t.Fatalf("%q, should be %q; there is\n%s", a.get("busy"), want, show(end))
		}
	}
	if n := a.folder().Conflicts; n != 0 {
		t.Errorf("%d conflicts", n)
	}
}
