package node

import (
	"bufio"
	"bytes"
	"math"
	"testing"
	"time"

	"sheaf/replication/wire"
)

func TestWordsEnd(t *testing.T) {
	t.Parallel()
	now := time.Now().Unix()
	day := int64(24 * 60 * 60)
	for at, over := range map[int64]bool{
		now: false, now - 6*day: false, now - 8*day: true,
		now + 60:       false, // the clock was set back a little since
		now + 3650*day: true, 0: true, now - math.MaxInt64: true,
	} {
		if got := (word{At: at}).over(); got != over {
			t.Errorf("said %d days ago, over: %t", (now-at)/day, got)
		}
	}
}

// When a word was said is by the clock of the device that has it: what another
// device is told is how long ago that is.
func TestWordTravelsWithoutTime(t *testing.T) {
	t.Parallel()
	var way bytes.Buffer
	if err := wire.WriteMsg(&way, note{Word: &word{ID: "x", At: 1, Age: 2}}, maxWordSize); err != nil {
		t.Fatal(err)
	}
	var got note
	if err := wire.ReadMsg(bufio.NewReader(&way), &got, maxWordSize); err != nil {
		t.Fatal(err)
	}
	if got.Word.At != 0 || got.Word.Age != 2 || got.Word.ID != "x" {
		t.Errorf("arrived: %+v", got.Word)
	}
}
