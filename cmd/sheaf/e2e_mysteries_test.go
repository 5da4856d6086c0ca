//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sheaf/node/api"
)

// A journal is what the people of a history did, kept by nobody who syncs: each
// content that was written, once, and those that somebody knowingly replaced or
// removed.
type journal struct {
	t       *testing.T
	written map[string]string // content to who wrote it where
	done    map[string]bool   // replaced or removed by somebody who had it before him
}

// write replaces what a file holds by a content that nobody has written yet, as a
// program does that has the file open: what it replaces is just what it read.
func (j *journal) write(d *device, p string) {
	j.t.Helper()
	content := fmt.Sprintf("%s wrote %d into %s", d.name, len(j.written), p)
	j.written[content] = d.name + " " + p
	f, err := os.OpenFile(d.path(p), os.O_RDWR|os.O_CREATE, 0o644) //nolint:gosec // as people's files are
	must(j.t, err)
	old, err := io.ReadAll(f)
	must(j.t, err)
	if len(old) > 0 {
		j.done[string(old)] = true
	}
	must(j.t, f.Truncate(0))
	_, err = f.WriteAt([]byte(content), 0)
	must(j.t, err)
	must(j.t, f.Close())
}

// remove takes a file away: out of the folder, to see what it was that went.
func (j *journal) remove(d *device, p string) {
	j.t.Helper()
	out := d.dir + ".removed"
	if os.Rename(d.path(p), out) != nil {
		return // there is none
	}
	old, err := os.ReadFile(out)
	must(j.t, err)
	j.done[string(old)] = true
	must(j.t, os.Remove(out))
}

// audit waits until the disks are equal and hold all that must be there, and holds
// what they show against what was done. It believes no node that says to be in step.
func (j *journal) audit(devices ...*device) {
	j.t.Helper()
	wrong := ""
	for end := time.Now().Add(2 * patience()); ; {
		if wrong = j.judge(devices); wrong == "" {
			return
		}
		if time.Now().After(end) {
			for _, d := range devices {
				wrong += "\n" + d.run("status") + show(d.tree("."))
			}
			j.t.Fatal(wrong)
		}
		time.Sleep(50 * time.Millisecond) // between two looks, not for something to happen
	}
}

func (j *journal) judge(devices []*device) string {
	first := devices[0].contents()
	for _, d := range devices[1:] {
		if diff := differences(devices[0].all(), d.all()); diff != "" {
			return fmt.Sprintf("%s, as against %s:\n%s", d.name, devices[0].name, diff)
		}
	}
	for c, by := range j.written {
		if first[c] == 0 && !j.done[c] {
			return fmt.Sprintf("lost: %q, by %s, which nobody replaced", c, by)
		}
		if first[c] > 1 {
			return fmt.Sprintf("doubled: %q is there %d times", c, first[c])
		}
	}
	for c := range first {
		if _, ok := j.written[c]; !ok {
			return fmt.Sprintf("made up: nobody wrote %q", c)
		}
	}
	return ""
}

// Q9, Q15: what "Mysteries of Dropbox" asks of a synchroniser, of three devices:
// two names, unique values, written and deleted at random and at times while one
// is away or is killed. Whenever all is quiet, all disks are equal, every value
// that nobody knowingly replaced is there, once, and there is none that nobody
// wrote. What the disks hold is held against the journal of the test, not against
// anything that the nodes say.
func TestQ9Mysteries(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	c := newDevice(t, "tablet")
	c.join(a)
	c.up()
	c.connected(a)
	c.run("peer", "connect", strings.TrimSpace(b.run("address")))
	devices := []*device{a, b, c}
	j := &journal{t: t, written: make(map[string]string), done: make(map[string]bool)}
	for round := range sized(3, 40) {
		var away *device
		if rnd.IntN(2) == 0 {
			away = devices[rnd.IntN(3)]
			if rnd.IntN(2) == 0 {
				away.kill()
			} else {
				away.down()
			}
		}
		for range 25 {
			d, p := devices[rnd.IntN(3)], fmt.Sprintf("file %d", rnd.IntN(2))
			switch rnd.IntN(8) {
			case 0:
				j.remove(d, p)
			case 1, 2, 3:
				pause(rnd, 500*time.Millisecond) // as the people take
			default:
				j.write(d, p)
			}
		}
		if away != nil {
			away.up()
			away.connected(devices[(rnd.IntN(2)+1+index(devices, away))%3])
		}
		began := time.Now()
		j.audit(devices...)
		t.Logf("round %d: %d values written, %d of them knowingly replaced; all is right after %s", round, len(j.written), len(j.done), time.Since(began).Round(time.Millisecond))
	}
}

// A version is replaced by its writer before anybody has its content, while another
// device has met it as the loser of a conflict: its content is nowhere any more, and
// was knowingly replaced. All come into step without it.
func TestReplacedBeforeAnybodyHadIt(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	a, b := pair(t)
	c := newDevice(t, "tablet")
	c.join(a)
	c.up()
	c.connected(a)
	a.put("file", "before")
	alike(t, a, b, c)
	b.down()
	c.run("config", "set", "limits.download", "1KiB") // it hears of what it cannot have so soon
	must(t, os.WriteFile(a.path("file"), bytesOf(rnd, 1<<20), 0o600))
	until(t, "the tablet knows of the version", func() bool { return ask[api.Why](c, "why", "/Sync/file").Size == 1<<20 })
	a.down()
	a.put("file", "after")
	b.put("file", "on the phone")
	b.up()
	b.run("peer", "connect", strings.TrimSpace(c.run("address")))
	until(t, "the phone has met it", func() bool { return len(ask[[]api.Conflict](b, "conflicts")) == 1 })
	c.run("config", "set", "limits.download", "0")
	a.up()
	a.connected(c)
	alike(t, a, b, c)
	have := a.contents()
	if have["after"] != 1 || have["on the phone"] != 1 || len(have) != 2 {
		t.Errorf("there is %s", show(a.tree(".")))
	}
	if n := len(ask[[]api.Conflict](a, "conflicts")); n != 1 {
		t.Errorf("%d conflict copies are listed, should be one", n)
	}
}

func index(devices []*device, d *device) int {
	for i, x := range devices {
		if x == d {
			return i
		}
	}
	return -1
}
