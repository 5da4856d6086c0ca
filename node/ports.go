package node

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"sheaf/node/mesh"
)

// listenFile remembers the ports that the system chose at the first start: with
// others at each start, every address that peers remember would be stale.
const listenFile = "listen.json"

// chosenPorts is what listenFile holds: where a person asked to listen, with any
// port, and which it came to be.
type chosenPorts struct {
	Asked []string `json:"asked"`
	Got   []string `json:"got"`
}

// listenAt opens the mesh where it was asked for or, where any port will do, at
// the port of the last start.
func (n *Node) listenAt(cfg mesh.Config, asked []string) (*mesh.Mesh, error) {
	if len(asked) > 0 && !slices.ContainsFunc(asked, anyPort) {
		cfg.Listen = asked
		return mesh.New(cfg)
	}
	var last chosenPorts
	if data, err := n.home.read(listenFile); err == nil {
		if err := json.Unmarshal(data, &last); err != nil {
			n.log.Warn("the ports of the last start are not readable: choosing others", "err", err)
		}
	}
	if slices.Equal(last.Asked, asked) && len(last.Got) > 0 {
		cfg.Listen = last.Got
		m, err := mesh.New(cfg)
		if err == nil {
			return m, nil
		}
		n.log.Warn("the ports of the last start are in use: choosing others", "err", err)
	}
	cfg.Listen = asked
	m, err := mesh.New(cfg)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(chosenPorts{asked, withPorts(asked, m.Addresses())})
	if err == nil {
		err = n.home.write(listenFile, data, 0o600)
	}
	if err != nil {
		n.log.Warn("remember the ports", "err", err)
	}
	return m, nil
}

// anyPort tells whether an address leaves the port to the system.
func anyPort(a string) bool {
	return strings.Contains(a+"/", "/tcp/0/") || strings.Contains(a+"/", "/udp/0/")
}

var portOf = regexp.MustCompile(`^/(ip[46])/[^/]+/(tcp|udp)/(\d+)`)

// withPorts puts the ports that addresses have into those that were asked for.
func withPorts(asked, addresses []string) (listen []string) {
	if len(asked) == 0 {
		asked = mesh.DefaultListen()
	}
	for _, a := range asked {
		want := portOf.FindStringSubmatch(a)
		if want == nil || !anyPort(a) {
			listen = append(listen, a)
			continue
		}
		for _, got := range addresses {
			m := portOf.FindStringSubmatch(got)
			if m != nil && m[1] == want[1] && m[2] == want[2] {
				listen = append(listen, strings.Replace(a, "/"+want[2]+"/0", "/"+want[2]+"/"+m[3], 1))
				break
			}
		}
	}
	return listen
}
