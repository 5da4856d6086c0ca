package crdt

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain lets the heap grow: the histories make many small worlds, and the
// collector would else take a third of their time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
