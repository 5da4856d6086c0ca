//go:build !linux

package pack

import "os"

// syncData makes a file's bytes and size durable, on darwin with F_FULLFSYNC,
// which is what Sync does there.
func syncData(f *os.File) error { return f.Sync() }
