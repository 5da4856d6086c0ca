package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"sheaf/node/stat"
)

// place puts one durable temporary file where it belongs.
func (d *Folder) place(j *job) error {
	if j.Expect.Kind == stat.None {
		if err := d.fs.RenameNew(j.tmp, j.Path); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: something is there", ErrChanged)
			}
			return err
		}
		return d.landed(j)
	}
	if j.Expect.Kind != stat.File && j.Expect.Kind != stat.Symlink {
		return fmt.Errorf("cannot replace a %s", j.Expect.Kind)
	}
	if err := d.expect(j.Path, j.Expect); err != nil {
		return err
	}
	if !d.noExchange.Load() {
		err := d.placeExchange(j)
		if !errors.Is(err, ErrUnsupported) {
			return err
		}
		d.noExchange.Store(true)
		d.o.Log.Info("this disk cannot exchange two names; what is replaced steps aside", "root", d.fs.Name())
	}
	return d.placeAside(j)
}

// landed takes the stat of what was put in place.
func (d *Folder) landed(j *job) error {
	j.placed = true
	j.res.Stat = j.mine
	if s, err := d.fs.Lstat(j.Path); err == nil && s.SameContent(j.mine) && s.Mode == j.mine.Mode {
		j.res.Stat = s
	}
	return nil
}

// expect gives ErrChanged unless path holds what the caller last saw there.
func (d *Folder) expect(path string, want stat.Stat) error {
	got, err := d.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotDirectory) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return err
	}
	if want.Kind == stat.Directory {
		if !sameDir(want, got) {
			return ErrChanged
		}
		return nil
	}
	if !same(want, got) || want.Mode != got.Mode {
		return ErrChanged
	}
	return nil
}

// sameDir tells whether two directory stats are of one directory; times and
// size move with its content.
func sameDir(a, b stat.Stat) bool {
	return a.Kind == stat.Directory && b.Kind == stat.Directory && a.Inode == b.Inode && a.Device == b.Device && a.Born == b.Born
}

// kept tells whether what was moved away is what was expected. A rename moves
// the change time, so that cannot be asked any more.
func kept(want, got stat.Stat) bool {
	if want.Kind == stat.Directory {
		return sameDir(want, got)
	}
	return want.SameContent(got) && want.Mode == got.Mode
}

// placeExchange moves the new content to the place in the trash that the old
// shall have, and swaps the two. Both names exist all the time, and whatever
// instant a crash picks, the old content is under one of them.
func (d *Folder) placeExchange(j *job) error {
	d.trash.Lock()
	spot, err := d.toTrash(j.Bucket, j.tmp, j.Path)
	d.trash.Unlock()
	if err != nil {
		return err
	}
	back := func(err error) error {
		if e := d.fs.RenameNew(spot, j.tmp); e != nil {
			err = fmt.Errorf("%w (and the new content stays in %s: %w)", err, spot, e)
		}
		d.tidy(spot)
		return err
	}
	if err := d.fs.Exchange(spot, j.Path); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotDirectory) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
		return back(err)
	}
	old, err := d.fs.Lstat(spot)
	if err == nil && kept(j.Expect, old) {
		d.trashed.Add(1) // the item is another one now
		j.spot, j.old, j.swapped = spot, old, true
		j.res.Trashed = trashID(spot)
		return d.landed(j)
	}
	// Somebody changed or replaced the file after the last look.
	if err == nil {
		err = ErrChanged
	}
	if d.swapBack(spot, j.Path, j.mine) {
		return back(err)
	}
	return err
}

// swapBack returns a person's file, which an exchange has taken to spot, to
// its path, and tells whether spot now holds our content again. If somebody
// has saved over our content in the meantime, that save is the newest and
// stays at the path; the older one stays in the trash. If the path is gone, so
// was the wish to have the file there: it stays in the trash as well.
func (d *Folder) swapBack(spot, path string, mine stat.Stat) bool {
	if err := d.fs.Exchange(spot, path); err != nil {
		d.o.Log.Warn("a changed file was displaced and is in the trash", "item", trashID(spot), "err", err)
		return false
	}
	s, err := d.fs.Lstat(spot)
	if err == nil && s.SameContent(mine) {
		return true
	}
	if err := d.fs.Exchange(spot, path); err != nil {
		d.o.Log.Warn("two saves at once; one is in the trash", "item", trashID(spot), "err", err)
	}
	return false
}

// recheck looks once more at what was displaced, at the end of the batch: a
// program that had the file open may have gone on writing into it.
func (d *Folder) recheck(j *job) {
	if !j.swapped || j.res.Err != nil {
		return
	}
	s, err := d.fs.Lstat(j.spot)
	if err == nil && kept(j.old, s) {
		return
	}
	j.res.Err = fmt.Errorf("%w: it was still being written", ErrChanged)
	if err != nil {
		return // somebody took it out of the trash by hand
	}
	// Only if the path still holds ours: what a person has put there since
	// is newer.
	if now, err := d.fs.Lstat(j.Path); err != nil || !now.SameContent(j.mine) {
		return
	}
	if d.swapBack(j.spot, j.Path, j.mine) {
		j.res.Trashed, j.res.Stat = "", stat.Stat{}
		if err := d.fs.RenameNew(j.spot, j.tmp); err == nil {
			d.tidy(j.spot)
		}
	}
}

// aside is the note of a replacement during which the path is absent for an
// instant: without it, a crash there would look like a deletion.
type aside struct {
	Path string `json:"path"`
	Spot string `json:"spot"`
}

// placeAside moves the old content to the trash and the new one in, neither of them
// over anything. To link the old content into the trash and to rename the new one over
// it would keep the path all the time, and would destroy what somebody renamed there
// between the two: a file's absence for an instant is the lesser evil.
func (d *Folder) placeAside(j *job) error {
	d.trash.Lock()
	defer d.trash.Unlock()
	// Find the spot by making the note's own file lie there first.
	probe := d.temporary()
	if err := writeFile(d.fs, probe, nil); err != nil {
		return err
	}
	spot, err := d.toTrash(j.Bucket, probe, j.Path)
	if err != nil {
		_ = d.fs.Remove(probe)
		return err
	}
	if err := d.fs.Remove(spot); err != nil {
		return err
	}
	note, err := json.Marshal(aside{j.Path, spot})
	if err != nil {
		return err
	}
	intent := fmt.Sprintf("%s/%d", asideDir, d.serial.Add(1))
	if err := writeFile(d.fs, intent, note); err != nil {
		return err
	}
	if err := d.sync(intent, asideDir); err != nil {
		return err
	}
	undo := func(err error) error {
		_ = d.fs.Remove(intent)
		d.tidyLocked(spot)
		return err
	}
	if err := d.fs.RenameNew(j.Path, spot); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
		return undo(err)
	}
	old, err := d.fs.Lstat(spot)
	if err == nil && !kept(j.Expect, old) {
		err = ErrChanged
	}
	if err == nil {
		if err = d.fs.RenameNew(j.tmp, j.Path); errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: %w", ErrChanged, err)
		}
	}
	if err != nil {
		e := d.fs.RenameNew(spot, j.Path)
		if e != nil && !errors.Is(e, fs.ErrExist) && !errors.Is(e, fs.ErrNotExist) {
			// Its name is free and it cannot go there: that must not pass for a deletion.
			// The note stays, and Open puts it back.
			return fmt.Errorf("%w: %s is in the trash as %s and does not come back to its place: %w, after %w", ErrDiskFailed, j.Path, trashID(spot), e, err)
		}
		if e != nil {
			d.o.Log.Warn("a replaced file stays in the trash", "item", trashID(spot), "err", e)
		}
		return undo(err)
	}
	d.trashed.Add(1)
	j.spot, j.old, j.intent = spot, old, intent
	j.res.Trashed = trashID(spot)
	return d.landed(j)
}

// recoverAside returns files that had stepped aside when the system stopped.
func (d *Folder) recoverAside() error {
	list, err := d.fs.List(asideDir)
	if err != nil {
		return err
	}
	for _, e := range list {
		intent := join(asideDir, e.Name)
		data, err := readSmall(d.fs, intent, 1<<18)
		if err != nil {
			return err
		}
		var a aside
		// A note that a crash left incomplete was not durable, so nothing
		// had stepped aside yet.
		if json.Unmarshal(data, &a) == nil && checkPath(a.Path) == nil && inTrash(a.Spot) {
			err := d.fs.RenameNew(a.Spot, a.Path)
			switch {
			case err == nil:
				d.o.Log.Info("a file returned to its place after a crash", "path", a.Path)
				dir, _ := split(a.Path)
				if err := d.sync(dir); err != nil {
					return err
				}
			case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, ErrNotDirectory):
			default:
				return err
			}
		}
		if err := d.fs.Remove(intent); err != nil {
			return err
		}
	}
	return nil
}
