package node

import (
	"log/slog"
	"testing"
	"time"

	"sheaf/node/mesh"
	"sheaf/replication/group"
)

// TestAccountAnswersWhileItIsWritten: who asks does not wait for statements that
// are being made and written, which on a disk that stands still takes a minute.
func TestAccountAnswersWhileItIsWritten(t *testing.T) {
	t.Parallel()
	h := home{dir: t.TempDir()}
	keys, _, _, err := foundAccount(h, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAccount(h, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	making, release, said := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		said <- a.say(func(*group.Log, group.Keys) ([]group.Statement, error) {
			close(making)
			<-release
			return nil, nil
		})
	}()
	<-making
	answered := make(chan string, 1)
	go func() {
		a.snapshot()
		a.member(mesh.DeviceID(keys.ID()))
		answered <- a.name(mesh.DeviceID(keys.ID()))
	}()
	select {
	case name := <-answered:
		if name != "laptop" {
			t.Errorf("the device is called %q", name)
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer while statements are made")
	}
	close(release)
	if err := <-said; err != nil {
		t.Error(err)
	}
}
