//go:build !linux

package node

// bootID cannot be told here. Each time that a node did not stop in order then
// counts as a power cut.
func bootID() string { return "" }
