//go:build unix

package main

import (
	"io/fs"
	"path/filepath"
	"syscall"
)

// onDisk is how many bytes of the disk a directory takes, directories included.
func onDisk(dir string) (float64, error) {
	var sum float64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if s, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += float64(s.Blocks) * 512
		}
		return nil
	})
	return sum, err
}
