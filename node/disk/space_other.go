//go:build !linux && !darwin && !windows

package disk

// diskSpace knows nothing here: the floor is not enforced.
func diskSpace(string) (free, total int64, err error) { return 1 << 62, 1 << 62, nil }
