package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/relay"
	"sheaf/relay/archive"
	"sheaf/relay/pack"
	"sheaf/replication/group"
	"sheaf/replication/wire"
)

// Options say how a relay runs.
type Options struct {
	Version string
	Log     *slog.Logger
}

// A Relay is an open home. Only one process has it open.
type Relay struct {
	home    string
	cfg     Config
	keys    group.Keys
	o       Options
	log     *slog.Logger
	packs   *pack.Store
	archive *archive.Archive
	invites *invites
	started time.Time
	unlock  func()

	mesh *mesh.Mesh // while it runs

	scrubbing sync.Mutex // held while packs are read again

	mu        sync.Mutex
	members   map[mesh.DeviceID]bool // of all hosted groups
	checks    int                    // that want to read the packs
	stopScrub context.CancelFunc     // ends the slow round that runs
}

// Open opens a relay's home. Close it at the end, or Run it, which does that.
func Open(ctx context.Context, home string, o Options) (_ *Relay, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := isHome(home); err != nil {
		return nil, err
	}
	unlock, err := lock(home)
	if err != nil {
		return nil, err
	}
	r := &Relay{home: home, o: o, log: o.Log, started: time.Now(), unlock: unlock}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.cfg, err = ReadConfig(home); err != nil {
		return nil, err
	}
	if r.keys, err = readKeys(home); err != nil {
		return nil, err
	}
	if r.invites, err = openInvites(home); err != nil {
		return nil, err
	}
	if r.packs, err = pack.Open(ctx, filepath.Join(home, "packs"), pack.Options{Log: r.log}); err != nil {
		return nil, err
	}
	versions := r.cfg.Versions
	if versions == 0 {
		versions = -1 // the archive's word for none
	}
	if r.archive, err = archive.Open(ctx, filepath.Join(home, "archive"), r.packs, archive.Options{Retention: r.cfg.Retention, Versions: versions, Logger: r.log}); err != nil {
		return nil, err
	}
	return r, r.count()
}

// Close lets go of the home.
func (r *Relay) Close() error {
	var errs []error
	if r.archive != nil {
		errs = append(errs, r.archive.Close())
	}
	if r.packs != nil {
		errs = append(errs, r.packs.Close())
	}
	r.unlock()
	return errors.Join(errs...)
}

// count takes down who belongs to the groups that are hosted.
func (r *Relay) count() error {
	members := make(map[mesh.DeviceID]bool)
	for _, u := range r.archive.Usages() {
		state, err := r.archive.Group(u.Group)
		if err != nil {
			return err
		}
		for _, m := range state.Members {
			if !m.Paper {
				members[mesh.DeviceID(m.ID)] = true
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = members
	return nil
}

func (r *Relay) member(id mesh.DeviceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.members[id]
}

// heard takes in that a group has new statements: who was removed is cut off, who has
// joined is let in.
func (r *Relay) heard(group.ID) {
	if err := r.count(); err != nil {
		r.log.Error("see who belongs to the groups", "err", err)
		return
	}
	r.mesh.Refresh()
}

// limits are those of a relay: many devices, each with few streams.
func limits() mesh.Limits {
	return mesh.Limits{Conns: 16384, Handshakes: 512, Guests: 256, Streams: 65536, Memory: 2 << 30, SubnetConns: 256, SubnetRate: 20, SubnetBurst: 256}
}

func (r *Relay) listen() error {
	m, err := mesh.New(mesh.Config{
		Key: r.keys.SigningKey(), Listen: r.cfg.Listen, Allowed: r.member, Joining: func() bool { return true },
		GuestProtocols: []string{relay.JoinProtocol, wire.HostProtocol}, Limits: limits(), Log: r.log,
	})
	if err != nil {
		return api.Errorf(api.ErrFailed, "see what uses these, or give others with `sheaf-relay config set listen`", "cannot listen: %w", err)
	}
	r.mesh = m
	program := "sheaf-relay " + r.o.Version
	archives := &relay.ArchiveService{Archive: r.archive, Program: program, Log: r.log, Heard: r.heard}
	m.Handle(wire.ArchiveProtocol, func(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) {
		if err := archives.Serve(ctx, group.DeviceID(peer), s); err != nil && ctx.Err() == nil {
			r.log.Debug("a stream to the archive ended", "err", err)
		}
	})
	hosts := &relay.HostService{Self: r.keys.ID(), Archive: r.archive, Invites: r.invites, Name: r.cfg.Name, Program: program, Log: r.log, Hosted: r.heard}
	m.Handle(wire.HostProtocol, func(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) {
		if err := hosts.Serve(ctx, group.DeviceID(peer), s); err != nil && ctx.Err() == nil {
			r.log.Debug("a claim ended", "err", err)
		}
	})
	joins := &relay.JoinService{Self: r.keys.ID(), Archive: r.archive, Log: r.log, Heard: r.heard}
	m.Handle(relay.JoinProtocol, func(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) {
		joins.Serve(ctx, group.DeviceID(peer), s)
	})
	return nil
}

// Run serves until ctx ends, calls ready once it does, and closes the home.
func (r *Relay) Run(ctx context.Context, ready func()) (err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	doors, err := api.Listen(r.home, "")
	if err != nil {
		return err
	}
	defer func() { _ = doors.Close() }()
	if err := r.listen(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.mesh.Run(ctx) })
	g.Go(func() error { return r.control(ctx, doors.Socket()) })
	g.Go(func() error { return r.tend(ctx) })
	g.Go(func() error { return r.scrub(ctx) })
	ready()
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Bounds of how often what is due is looked for.
const (
	tendLeast    = 500 * time.Millisecond
	tendMost     = time.Minute
	collectEvery = time.Hour
)

// tend lets go of what need not be kept any longer, and of blocks nobody refers to.
func (r *Relay) tend(ctx context.Context) error {
	tick := time.NewTicker(min(tendMost, max(tendLeast, r.cfg.Retention/4)))
	defer tick.Stop()
	var collected time.Time
	for {
		purged, err := r.archive.Tend(ctx)
		if err == nil && (purged > 0 || time.Since(collected) > collectEvery) {
			_, err = r.collect(ctx)
			collected = time.Now()
		}
		if err != nil && ctx.Err() == nil {
			r.log.Error("let go of what is kept no longer", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// collect removes blocks that nobody refers to, and gives their room back to the disk.
func (r *Relay) collect(ctx context.Context) (freed int64, err error) {
	if freed, err = r.archive.Collect(ctx); err != nil {
		return freed, err
	}
	report, err := r.packs.Compact(ctx)
	return freed, errors.Join(err, r.lost(report.Broken, report.Unreadable))
}

// scrubIn is the time in which all that is kept is read again.
const scrubIn = 30 * 24 * time.Hour

const scrubPause = time.Hour

// scrub reads all blocks again, slowly, and has those that are broken brought anew.
func (r *Relay) scrub(ctx context.Context) error {
	for {
		if err := r.scrubOnce(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("read the packs again", "err", err)
		}
		timer := time.NewTimer(scrubPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// scrubOnce reads to the end of a round, or until a check wants to.
func (r *Relay) scrubOnce(ctx context.Context) error {
	r.scrubbing.Lock()
	defer r.scrubbing.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	r.stopScrub = cancel
	wanted := r.checks > 0
	r.mu.Unlock()
	if wanted {
		return nil
	}
	rate := max(64<<10, r.packs.Stats().LiveBytes/int64(scrubIn/time.Second))
	report, err := r.packs.Scrub(ctx, rate, nil)
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, r.lost(report.Broken, report.Unreadable))
}

// readAll reads all blocks, whatever a slow round has read already.
func (r *Relay) readAll(ctx context.Context) (out pack.ScrubReport, err error) {
	r.mu.Lock()
	r.checks++
	if r.stopScrub != nil {
		r.stopScrub()
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.checks--
		r.mu.Unlock()
	}()
	r.scrubbing.Lock()
	defer r.scrubbing.Unlock()
	rest, err := r.packs.Scrub(ctx, 0, nil) // the end of the round that was begun
	if err != nil || rest.Blocks+len(rest.Broken)+len(rest.Unreadable) >= r.packs.Stats().Blocks {
		return rest, err
	}
	out, err = r.packs.Scrub(ctx, 0, nil)
	out.Broken, out.Unreadable = append(rest.Broken, out.Broken...), append(rest.Unreadable, out.Unreadable...)
	return out, err
}

// checkReport is what Check came to.
type checkReport struct {
	Records  int      `json:"records"`
	Blocks   int      `json:"blocks"`
	Read     int      `json:"blocks_read"`
	Broken   int      `json:"broken"`
	Absent   int      `json:"absent"`
	Stray    int      `json:"stray"`
	Faults   []string `json:"faults"`
	Repaired bool     `json:"repaired"`
}

// Check reads every block, and holds the books against themselves and the packs.
func (r *Relay) check(ctx context.Context, repair bool) (out checkReport, err error) {
	scrubbed, err := r.readAll(ctx)
	if err != nil {
		return out, fmt.Errorf("read the packs: %w", err)
	}
	if repair {
		if err := r.lost(scrubbed.Broken, scrubbed.Unreadable); err != nil {
			return out, err
		}
	}
	rep, err := r.archive.Check(ctx, repair)
	if err != nil {
		return out, err
	}
	out = checkReport{
		Records: rep.Records, Blocks: rep.Blocks, Read: scrubbed.Blocks, Broken: len(scrubbed.Broken) + len(scrubbed.Unreadable),
		Absent: len(rep.Absent), Stray: len(rep.Stray), Faults: append([]string{}, rep.Faults...), Repaired: repair,
	}
	if repair && out.Stray > 0 {
		if _, err := r.collect(ctx); err != nil {
			return out, err
		}
	}
	return out, nil
}
