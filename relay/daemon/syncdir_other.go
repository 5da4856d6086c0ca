//go:build !unix

package daemon

// syncDir makes the names in a directory durable. Windows has no such call and
// keeps metadata in its journal.
func syncDir(string) error { return nil }
