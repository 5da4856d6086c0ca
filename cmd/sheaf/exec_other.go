//go:build !unix

package main

import "errors"

// reexec cannot be done here: a process keeps its program. The node is started
// again within it; for a newer program stop it and start it.
func reexec() error { return errors.ErrUnsupported }
