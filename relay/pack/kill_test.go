package pack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const killEnv = "SHEAF_PACK_KILL"

// killedProcess is the child of TestKill: it puts, deletes and compacts for ever,
// and says on its output what it begins and what was acknowledged.
func killedProcess() bool {
	dir := os.Getenv(killEnv)
	if dir == "" {
		return false
	}
	ctx := context.Background()
	s, err := Open(ctx, dir, Options{PackSize: 100 << 10, MinFree: -1})
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	fmt.Println("open")
	var out sync.Mutex
	say := func(what string, n uint64) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(what, n)
	}
	for w := range uint64(3) {
		rnd := seeded(uint64(time.Now().UnixNano()) + w)
		go func() {
			for {
				n := w*100 + rnd.Uint64N(30)
				b := blockOf(n, int(n)*97%9000)
				if rnd.IntN(2) == 0 {
					say("putting", n)
					err = s.Put(ctx, b)
					say("put", n)
				} else {
					say("deleting", n)
					err = s.DeleteBlock(ctx, b.Cid())
					say("deleted", n)
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
			}
		}()
	}
	for {
		if _, err := s.Compact(ctx); err != nil {
			fmt.Println("error", err)
			return true
		}
	}
}

// TestKill: a process killed in the middle of puts, deletions and compaction loses
// nothing that it had acknowledged, and nothing that was deleted comes back.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "blocks")
	rnd := seeded(uint64(os.Getpid()))
	state := make(map[uint64]string)
	acked := 0
	for round := range 4 * soak() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for i, kill := 0, 1+rnd.IntN(400); lines.Scan(); i++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "open":
			case "putting", "put", "deleting", "deleted":
				n, err := strconv.ParseUint(rest, 10, 64)
				must(t, err)
				state[n] = word
				acked += len(word) % 2 // put, deleted
			default:
				t.Errorf("round %d: %s", round, lines.Text())
			}
			if i == kill {
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		s, err := Open(t.Context(), dir, Options{PackSize: 100 << 10, MinFree: -1})
		must(t, err)
		for n, was := range state {
			c := blockOf(n, int(n)*97%9000).Cid()
			has, err := s.Has(t.Context(), c)
			must(t, err)
			if was == "put" && !has || was == "deleted" && has {
				t.Errorf("round %d: block %d was %s, Has is %v", round, n, was, has)
			}
			must(t, holds(s, c, has))
			state[n] = map[bool]string{true: "put", false: "deleted"}[has]
		}
		if r := s.Recovery(); len(r.Damaged) > 0 {
			t.Errorf("round %d: %+v", round, r)
		}
		must(t, errors.Join(recount(s), s.Close()))
	}
	t.Logf("%d acknowledged", acked)
}
