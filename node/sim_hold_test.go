package node

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A directory that is deleted file by file is as many deletions as there were files
// in it, and one: not each file for itself and once more with the directory.
func TestDeletionsAreCountedOnce(t *testing.T) {
	t.Parallel()
	h := history{Seed: 1, Scan: 10 * time.Minute, Hold: 8, Devices: []simKind{
		{Watch: true, Latency: time.Millisecond}, {Watch: true, Latency: time.Millisecond},
	}}
	add := func(s step) { h.Steps = append(h.Steps, s) }
	add(step{Do: "start"})
	add(step{On: 1, Do: "start"})
	add(step{Do: "mkdir", A: "dir"})
	for i := range uint32(14) {
		name := fmt.Sprintf("other %d", i)
		if i < 6 {
			name = fmt.Sprintf("dir/%d", i)
		}
		add(step{Do: "write", A: name, Blob: &blob{i + 1, 100}})
	}
	add(step{Do: "sync", Wait: time.Minute})
	for i := range 6 { // each is seen to be gone before the next
		add(step{Do: "remove", A: fmt.Sprintf("dir/%d", i), Wait: 290 * time.Millisecond})
	}
	add(step{Do: "rmdir", A: "dir", Wait: 290 * time.Millisecond})
	v := simulate(t, h, quietLog())
	diary := strings.Join(v.diary, "\n")
	if v.faults != nil || strings.Contains(diary, "releases") {
		t.Errorf("%s\n%s", strings.Join(v.faults, "\n"), diary)
	}
}
