package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sheaf/node/api"
	"sheaf/node/disk"
	"sheaf/node/store"
	"sheaf/replication"
)

// peerState is what a peer last told of how far it has come with our entries.
type peerState struct {
	replication.PeerProgress
	caughtUp bool // we have taken in all that it had when it connected
}

// report publishes what the control goroutine is doing.
func (f *Folder) report(busy bool) {
	// In this order: what comes in meanwhile makes what is reported too old,
	// which its number shows, and never too good.
	fresh := f.isFresh()
	seq := f.index.Seq()
	behind, bytes := f.index.BehindCount()
	observing := f.observing()
	waiting := f.waitingGone()
	quiet := !busy && !observing && !waiting && behind == 0 && len(f.transfers) == 0 && len(f.landed) == 0 && !fresh
	if behind == 0 && f.scan.rounds > 0 {
		// What came in between reading the number and the count only makes this
		// too small.
		f.settledAt(seq)
	}
	if behind == 0 {
		for id := range f.wants {
			f.met(id)
		}
	}
	f.publish(func(s *folderStatus) {
		s.failure = nil
		s.behind, s.needed, s.seq, s.rounds = int64(behind), bytes, seq, f.scan.rounds
		s.scans = f.scans
		s.quiet = quiet
		switch {
		case f.paused:
			s.state = api.Paused
		case behind > 0 || len(f.transfers) > 0:
			s.state = api.Syncing
		case observing || waiting:
			s.state = api.Scanning
		default:
			s.state = api.Idle
		}
	})
}

// observing tells whether something on the disk is still to be looked at.
func (f *Folder) observing() bool {
	return f.scan.running || len(f.stack) > 0 || len(f.backlog) > 0 || !f.dirty.empty() || f.readingNow()
}

// settledAt notes up to where the disk shows the index.
func (f *Folder) settledAt(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.settled != seq {
		f.settled = seq
		f.announceLocked()
	}
}

// progress tells peers that this disk shows more than it did.
func (f *Folder) progress() {
	f.mu.Lock()
	f.have++
	f.announceLocked()
	f.mu.Unlock()
}

// quiesce waits until the folder has looked at all its disk once more, has
// nothing left to record, fetch or apply, and every connected peer shows all of
// it. The error of a ctx that ended tells what was still open.
func (f *Folder) quiesce(ctx context.Context, connected func() []replication.DeviceID) error {
	if f.isPaused() {
		return api.Errorf(api.ErrConflict, "run `sheaf resume "+f.name+"`", "%s is paused, so it cannot come into step", f.name)
	}
	var rounds uint64
	err := f.do(ctx, func(context.Context) error {
		rounds = f.scans + 1
		if f.scan.running {
			rounds++ // the one that runs may have passed what was just changed
		}
		f.startScan()
		return nil
	})
	if errors.Is(err, errStopped) {
		f.mu.Lock()
		err = f.shown.failure
		f.mu.Unlock()
		what, remedy := stopped(err)
		return api.Errorf(api.ErrConflict, remedy, "%s: %s", f.name, what)
	}
	if err != nil {
		return err
	}
	f.kick()
	// Besides being woken it looks now and then: the index moves a moment before
	// who waits for it is told.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		f.mu.Lock()
		// Who is open is asked first: whoever is not has had its say applied, and
		// so the number that is compared below tells of it.
		open := f.openLocked(connected())
		s, changed := f.shown, f.changed
		f.mu.Unlock()
		if s.quiet && s.scans >= rounds && s.seq == f.index.Seq() && len(open) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return f.unsettled(s, rounds, open)
		}
	}
}

// openLocked names the connected peers that do not yet show all that is ours,
// or whose state we have not yet taken in.
func (f *Folder) openLocked(connected []replication.DeviceID) (open []replication.DeviceID) {
	seq := f.index.Seq()
	for _, id := range connected {
		if p, ok := f.peers[id]; !ok || !p.caughtUp || p.Settled < seq {
			open = append(open, id)
		}
	}
	return open
}

// unsettled says what a wait that timed out was waiting for.
func (f *Folder) unsettled(s folderStatus, rounds uint64, open []replication.DeviceID) error {
	remedy := "wait longer (--timeout), or see `sheaf status`"
	switch {
	case f.isFresh():
		return api.Errorf(api.ErrTimeout, "start another of your devices, and see `sheaf status`", "%s has not yet met another device", f.name)
	case s.behind > 0:
		return api.Errorf(api.ErrTimeout, remedy, "%s still has %d entries (%d bytes) to fetch or apply", f.name, s.behind, s.needed)
	case s.scans < rounds || !s.quiet:
		return api.Errorf(api.ErrTimeout, remedy, "%s is still looking at its files", f.name)
	case len(open) > 0:
		return api.Errorf(api.ErrTimeout, remedy, "%d connected devices do not yet have all of %s", len(open), f.name)
	}
	return api.Errorf(api.ErrTimeout, remedy, "%s is not in step", f.name)
}

// inStep tells whether a peer shows all that is ours and we all that is its.
func (f *Folder) inStep(peer replication.DeviceID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.shown.behind == 0 && len(f.openLocked([]replication.DeviceID{peer})) == 0
}

// stopped says in words why a folder is stopped, and what to do.
func stopped(err error) (what, remedy string) {
	switch {
	case errors.Is(err, disk.ErrRootGone):
		return "its directory is not there: " + err.Error(), "mount the disk it is on, or put the directory back; nothing is deleted meanwhile"
	case errors.Is(err, disk.ErrNoMarker):
		return "its directory has no .sheaf/folder, so it may be the empty place where a disk is mounted", "mount the disk; nothing is deleted meanwhile"
	case errors.Is(err, disk.ErrWrongMarker):
		return "another folder is at its place: " + err.Error(), "put the right directory back"
	case errors.Is(err, disk.ErrLocked):
		return err.Error(), "stop that node (`sheaf down`, with its --home), and this one goes on, or have one of the two keep another directory; nothing is deleted meanwhile"
	case errors.Is(err, disk.ErrDiskFailed):
		return "the disk could not keep what was written: " + err.Error(), "check the disk; it is looked at again by itself"
	case err == nil:
		return "it is stopped", "see the log"
	}
	var root *disk.RootError
	if errors.As(err, &root) {
		return root.Error(), root.Remedy
	}
	return fmt.Sprint(err), "see `sheaf doctor`; it is tried again by itself"
}

// waitingGone tells whether something is gone and not yet recorded as deleted,
// other than what is held.
func (f *Folder) waitingGone() bool {
	h := f.holds.out
	for id := range f.gone {
		if h == nil || h.Released || !h.set[id] {
			return true
		}
	}
	return false
}

// stats counts what the folder has.
func (f *Folder) stats() (st store.Stats, err error) {
	err = f.index.Read(func(r *store.Reader) error {
		st = r.Stats()
		return nil
	})
	return st, err
}
