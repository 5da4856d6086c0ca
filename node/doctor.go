package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sheaf/node/api"
)

// Doctor implements api.Node.
func (n *Node) Doctor(ctx context.Context, deep bool) ([]api.Check, error) {
	var list []api.Check
	add := func(name, result, what, remedy string) {
		list = append(list, api.Check{Name: name, Result: result, What: what, Remedy: remedy})
	}
	for _, f := range n.folders {
		f.examine(ctx, deep, add)
	}
	if now := time.Now(); now.Before(n.started) || now.Year() < 2025 {
		add("clock", api.CheckWarning, "the clock of this device is wrong: "+now.UTC().Format(time.RFC3339), "set it; it decides between changes made at the same time, and when trash ends")
	} else {
		add("clock", api.CheckOK, now.UTC().Format(time.RFC3339), "")
	}
	switch addresses := n.mesh.Addresses(); len(addresses) {
	case 0:
		add("network", api.CheckFault, "this device listens nowhere", "give an address with `sheaf up --listen`")
	default:
		add("network", api.CheckOK, "listens at "+strings.Join(addresses, ", "), "")
	}
	connected, known := 0, 0
	for _, p := range n.mesh.Peers() {
		if !n.account.member(p.ID) {
			continue
		}
		known++
		if p.Connected {
			connected++
		}
	}
	switch {
	case known == 0:
		add("peers", api.CheckWarning, "this is the account's only device", "add one with `sheaf device invite`")
	case connected == 0:
		add("peers", api.CheckWarning, fmt.Sprintf("none of %d other devices is connected", known), "start one; on another network, `sheaf peer connect ADDRESS`")
	default:
		add("peers", api.CheckOK, fmt.Sprintf("%d of %d other devices connected", connected, known), "")
	}
	for _, p := range n.listProblems() {
		add("node", api.CheckFault, p.What, p.Remedy)
	}
	return list, nil
}

// examine checks one folder.
func (f *Folder) examine(ctx context.Context, deep bool, add func(name, result, what, remedy string)) {
	name := "folder " + f.name
	d := f.serving.Load()
	f.mu.Lock()
	failure := f.shown.failure
	f.mu.Unlock()
	if d == nil {
		what, remedy := stopped(failure)
		add(name, api.CheckFault, what, remedy)
		return
	}
	if err := d.Check(); err != nil {
		what, remedy := stopped(err)
		add(name, api.CheckFault, what, remedy)
		return
	}
	add(name, api.CheckOK, f.root, "")
	for _, p := range f.ownProblems() {
		add(name, api.CheckWarning, p.Path+": "+p.What, p.Remedy)
	}
	if w := f.watching.Load(); w != nil {
		for _, p := range w.Problems() {
			add(name+" watches", api.CheckWarning, p.Text, p.Remedy)
		}
	}
	if !deep {
		return
	}
	if err := f.index.Check(ctx); err != nil {
		add(name+" index", api.CheckFault, err.Error(), "stop the node, set its index directory aside and start it: the index is built anew, and nothing is deleted")
		return
	}
	add(name+" index", api.CheckOK, "every table agrees with the entries", "")
}
