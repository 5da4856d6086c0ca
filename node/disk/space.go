package disk

import (
	"fmt"
	"math"
)

// defaultFloor is the free space that is left to the person: 1 % of the disk
// or 1 GiB, whichever is more, but never more than 5 % of a small disk.
func defaultFloor(total int64) int64 {
	return min(max(total/100, 1<<30), total/20)
}

// room gives ErrNoSpace if writing need more bytes would leave less than the floor.
func (d *Folder) room(need int64) error {
	free, total, err := d.fs.Space()
	if err != nil {
		return err
	}
	floor := d.o.Floor
	switch {
	case floor == 0:
		floor = defaultFloor(total)
	case floor < 0:
		floor = 0
	}
	if need > math.MaxInt64-floor || free < need+floor {
		return fmt.Errorf("%w: %d bytes needed, %d free, %d kept free", ErrNoSpace, need, free, floor)
	}
	return nil
}

// Space gives the free bytes of the folder's disk, its size, and how much
// Sheaf leaves free.
func (d *Folder) Space() (free, total, floor int64, err error) {
	free, total, err = d.fs.Space()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("ask for free space: %w", err)
	}
	switch floor = d.o.Floor; {
	case floor == 0:
		floor = defaultFloor(total)
	case floor < 0:
		floor = 0
	}
	return free, total, floor, nil
}
