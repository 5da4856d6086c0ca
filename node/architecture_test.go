package node_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// mayImport is the table of docs/architecture.md: which of our packages each
// package may import. A package that is not named here fails the test, so that
// a new one is given its place in the flow before it is used.
var mayImport = map[string][]string{
	"crdt":                      {},
	"replication/chunk":         {},
	"replication/simnet":        {},
	"replication/group":         {},
	"replication/wire":          {"crdt", "replication/chunk"},
	"replication":               {"crdt", "replication/wire", "replication/chunk"},
	"replication/seal":          {"crdt", "replication/chunk", "replication/group"},
	"replication/seal/sealtest": {"crdt", "replication/chunk", "replication/group", "replication/seal"},
	"replication/deposit":       {"crdt", "replication", "replication/chunk", "replication/group", "replication/seal", "replication/wire"},
	"node/stat":                 {},
	"node/store":                {"crdt", "replication/chunk", "node/stat"},
	"node/disk":                 {"replication/chunk", "node/stat"},
	"node/simdisk":              {"node/disk", "node/stat"},
	"node/plan":                 {"crdt", "node/stat"},
	"node/mesh":                 {},
	"node/config":               {},
	"node/restore":              {},
	"node/api":                  {"node/config"},
	"node": {
		"crdt", "replication", "replication/wire", "replication/chunk", "replication/group",
		"replication/seal", "replication/deposit",
		"node/stat", "node/store", "node/disk", "node/plan", "node/mesh", "node/config", "node/api", "node/restore",
	},
	"relay/pack":    {},
	"relay/archive": {"crdt", "replication/seal", "replication/group"},
	"relay":         {"crdt", "relay/archive", "replication", "replication/group", "replication/seal", "replication/wire"},
	"relay/daemon":  {"relay", "relay/archive", "relay/pack", "replication/group", "replication/seal", "replication/wire", "node/api", "node/config", "node/mesh"},
	"cmd/sheaf":     {"node", "node/api", "node/config"},
	"cmd/sheaf-relay": {
		"relay/daemon", "node/api", "node/config", "node/mesh",
	},
}

// pure lists the packages that decide: they may not touch disk, network, clock
// or logs, so they may not import what does.
var pure = map[string]bool{"crdt": true, "node/plan": true, "node/stat": true, "replication/group": true, "replication/seal": true}

// log/slog is not among them: keys say there how they are logged, which is not.
var impure = []string{"os", "net", "net/http", "log", "os/exec", "path/filepath", "syscall", "time/tzdata"}

func TestImportsFollowTheFlow(t *testing.T) {
	t.Parallel()
	const module = "sheaf/"
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "../...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list output: %v", err)
		}
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		seen++
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s has no place in the flow: name it in docs/architecture.md and here", name)
			continue
		}
		for _, imp := range p.Imports {
			if dep, ours := strings.CutPrefix(imp, module); ours && !contains(allowed, dep) {
				t.Errorf("%s imports %s, which the flow does not allow", name, dep)
			}
			if pure[name] && contains(impure, imp) {
				t.Errorf("%s decides and so must be pure, but imports %s", name, imp)
			}
		}
	}
	if seen < len(mayImport) {
		t.Errorf("saw %d packages of %d named in the table", seen, len(mayImport))
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
