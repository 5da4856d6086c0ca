package main

import (
	"io/fs"
	"path/filepath"
)

// onDisk is how many bytes the files of a directory have.
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
		sum += float64(info.Size())
		return nil
	})
	return sum, err
}
