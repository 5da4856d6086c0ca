package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"sheaf/node/api"
	"sheaf/node/mesh"
	"sheaf/replication"
	"sheaf/replication/wire"
)

// A peerSession is the session with one connected peer.
type peerSession struct {
	*replication.Session
	end context.CancelFunc
}

// runPeers has a session with each connected device of the account for as long
// as it is connected and a member.
func (n *Node) runPeers(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	sub := n.mesh.Subscribe()
	defer sub.Close()
	for {
		_, changed := n.account.snapshot()
		select {
		case e, ok := <-sub.C:
			switch {
			case !ok:
				return nil
			case e.Connected && !n.account.member(e.Peer):
				// One that is being told that it is removed: see admits.
			case e.Connected:
				n.connected(ctx, &running, replication.DeviceID(e.Peer))
			default:
				n.disconnected(replication.DeviceID(e.Peer))
			}
		case <-changed:
			n.membersChanged(ctx, &running)
		case <-n.said:
			running.Go(func() { n.passOn(ctx, n.mesh.ID()) })
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) connected(ctx context.Context, running *sync.WaitGroup, peer replication.DeviceID) {
	ctx, cancel := context.WithCancel(ctx)
	s := &peerSession{end: cancel, Session: n.newSession(peer)}
	n.mu.Lock()
	if old := n.sessions[peer]; old != nil {
		old.end()
	}
	n.sessions[peer] = s
	n.seen[peer] = time.Now()
	n.mu.Unlock()
	s.SetFolders(n.sessionFolders(peer))
	n.log.Info("connected", "device", n.deviceName(peer))
	n.event(api.EventPeer, nil)
	running.Go(func() { n.greet(ctx, peer) })
	running.Go(func() {
		err := s.Run(ctx)
		var version *wire.VersionError
		switch {
		case ctx.Err() != nil || err == nil:
		case errors.As(err, &version):
			name := n.deviceName(peer)
			n.problem("version/"+peer.String(), name+": "+version.Error(), "update Sheaf on the older of the two devices")
		default:
			n.log.Warn("session ended", "device", n.deviceName(peer), "err", err)
		}
	})
}

// newSession makes a session; it does nothing before Run or a Serve method.
func (n *Node) newSession(peer replication.DeviceID) *replication.Session {
	return replication.NewSession(replication.Config{
		Peer: peer, Store: replication.StoreID(n.db.ID()), Program: "sheaf " + n.o.Version,
		Opener: n.opener, Source: blockSource{n}, Authority: n.authority,
		Fetcher: n.fetcher, Violation: n.violation, Log: n.log, Timing: n.timing,
	})
}

func (n *Node) disconnected(peer replication.DeviceID) {
	n.mu.Lock()
	s := n.sessions[peer]
	delete(n.sessions, peer)
	n.seen[peer] = time.Now()
	n.mu.Unlock()
	if s == nil {
		return
	}
	s.end()
	for _, f := range slices.Concat(n.folders, n.stored) {
		f.left(peer)
	}
	n.log.Info("disconnected", "device", n.deviceName(peer))
	n.event(api.EventPeer, nil)
}

// membersChanged cuts off at once who is no longer a member, and tells the
// others of new statements.
func (n *Node) membersChanged(ctx context.Context, running *sync.WaitGroup) {
	n.mu.Lock()
	peers := make([]replication.DeviceID, 0, len(n.sessions))
	for peer := range n.sessions {
		peers = append(peers, peer)
	}
	n.mu.Unlock()
	for _, peer := range peers {
		if !n.account.member(mesh.DeviceID(peer)) {
			n.disconnected(peer)
			n.mu.Lock()
			heard := n.leaving[mesh.DeviceID(peer)]
			n.mu.Unlock()
			if heard != nil {
				<-heard // farewellTime at most
			}
			n.mesh.Drop(mesh.DeviceID(peer))
			continue
		}
		running.Go(func() { n.exchangeStatements(ctx, mesh.DeviceID(peer)) })
	}
	n.mesh.Refresh()
}

// sessionFolders gives the folders as the session with a peer needs them.
func (n *Node) sessionFolders(peer replication.DeviceID) []replication.Folder {
	list := make([]replication.Folder, 0, len(n.folders))
	for _, f := range slices.Concat(n.folders, n.stored) {
		list = append(list, replication.Folder{Index: folderIndex{f, peer.String()}, Paused: f.isPaused()})
	}
	return list
}

// foldersChanged tells all sessions what is paused now.
func (n *Node) foldersChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for peer, s := range n.sessions {
		s.SetFolders(n.sessionFolders(peer))
	}
}

// session gives the session with a peer. A stream may come in before the mesh
// has told of the connection; then it waits a moment for it.
func (n *Node) session(ctx context.Context, peer mesh.DeviceID) *peerSession {
	wait := time.NewTicker(10 * time.Millisecond)
	defer wait.Stop()
	for range 200 {
		n.mu.Lock()
		s := n.sessions[replication.DeviceID(peer)]
		n.mu.Unlock()
		if s != nil {
			return s
		}
		select {
		case <-wait.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (n *Node) serveIndex(ctx context.Context, peer mesh.DeviceID, s replication.Stream) {
	if session := n.session(ctx, peer); session != nil {
		if err := session.ServeIndex(ctx, s); err != nil && ctx.Err() == nil {
			n.log.Debug("index stream ended", "device", n.deviceName(replication.DeviceID(peer)), "err", err)
		}
	}
}

func (n *Node) serveBlocks(ctx context.Context, peer mesh.DeviceID, s replication.Stream) {
	if session := n.session(ctx, peer); session != nil {
		if err := session.ServeBlocks(ctx, s); err != nil && ctx.Err() == nil {
			n.log.Debug("block stream ended", "device", n.deviceName(replication.DeviceID(peer)), "err", err)
		}
	}
}

// connectedPeers gives the devices with which there is a session.
func (n *Node) connectedPeers() []replication.DeviceID {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]replication.DeviceID, 0, len(n.sessions))
	for peer := range n.sessions {
		list = append(list, peer)
	}
	return list
}
