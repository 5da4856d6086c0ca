package disk

import "golang.org/x/sys/windows"

// diskSpace gives free and total bytes of the volume that holds path.
func diskSpace(path string) (free, total int64, err error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, err
	}
	var f, t uint64
	if err := windows.GetDiskFreeSpaceEx(p, &f, &t, nil); err != nil {
		return 0, 0, err
	}
	return int64(min(f, 1<<62)), int64(min(t, 1<<62)), nil
}
