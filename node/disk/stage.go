package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"sheaf/node/stat"
)

// A StagedItem is a file or directory that lies in .sheaf/stage.
type StagedItem struct {
	Key  string
	From string // where Stage took it; "" if its note is lost
	Stat stat.Stat
}

// note is what stage/KEY.json says.
type note struct {
	From string `json:"from"`
}

// Stage takes what expect describes out of the way, under a key (letters,
// digits, "-", "_"; fs.ErrExist if it is in use), to break a cycle of renames.
// Until Unstage it is in nobody's sight: whoever opens a folder asks Staged
// and puts back what a crash left there before the first scan, since a scan
// would find it gone.
func (d *Folder) Stage(path, key string, expect stat.Stat) (stat.Stat, error) {
	s, err := d.stage(path, key, expect)
	return s, wrap("stage", path, err)
}

func (d *Folder) stage(path, key string, expect stat.Stat) (stat.Stat, error) {
	if err := d.change(path); err != nil {
		return stat.Stat{}, err
	}
	if err := checkKey(key); err != nil {
		return stat.Stat{}, err
	}
	to, from := join(stageDir, key), join(stageDir, key+".json")
	if _, err := d.fs.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return stat.Stat{}, err
	}
	if err := d.expect(path, expect); err != nil {
		return stat.Stat{}, err
	}
	data, err := json.Marshal(note{path})
	if err != nil {
		return stat.Stat{}, err
	}
	// A note without its item is left over from a crash, or ours from a Stage
	// that failed.
	if err := d.fs.Remove(from); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stat.Stat{}, err
	}
	if err := writeFile(d.fs, from, data); err != nil {
		return stat.Stat{}, err
	}
	if err := d.sync(from, stageDir); err != nil {
		return stat.Stat{}, err
	}
	if err := d.fs.RenameNew(path, to); err != nil {
		_ = d.fs.Remove(from)
		return stat.Stat{}, err
	}
	s, err := d.moved(path, to, expect)
	if err != nil {
		if _, gone := d.fs.Lstat(to); errors.Is(gone, fs.ErrNotExist) {
			_ = d.fs.Remove(from)
		}
	}
	return s, err
}

// ErrLeft is the error for what is in the stage no more: it was put back, and somebody
// has changed it or taken it elsewhere since.
var ErrLeft = errors.New("no longer staged")

// Unstage puts a staged item, which expect describes, at a free name; fs.ErrExist if it
// is taken, and the item stays where it is. ErrLeft if it was put there and is not what
// is there now, or was put back before.
func (d *Folder) Unstage(key, path string, expect stat.Stat) (stat.Stat, error) {
	s, err := d.unstage(key, path, expect)
	return s, wrap("unstage to", path, err)
}

func (d *Folder) unstage(key, path string, expect stat.Stat) (stat.Stat, error) {
	if err := d.change(path); err != nil {
		return stat.Stat{}, err
	}
	if err := checkKey(key); err != nil {
		return stat.Stat{}, err
	}
	if err := d.fs.RenameNew(join(stageDir, key), path); err != nil {
		if _, gone := d.fs.Lstat(join(stageDir, key)); errors.Is(gone, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrLeft, gone)
		}
		return stat.Stat{}, err
	}
	dir, _ := split(path)
	d.touch(dir, stageDir)
	_ = d.fs.Remove(join(stageDir, key+".json"))
	s, err := d.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !kept(expect, s) {
		return stat.Stat{}, ErrLeft
	}
	return s, err
}

// recoverStage removes the notes of what is not staged: a crash, or a disk that
// failed, came between the note and the item, or between the item and the note.
func (d *Folder) recoverStage() error {
	list, err := d.fs.List(stageDir)
	if err != nil {
		return err
	}
	items := make(map[string]bool, len(list))
	for _, e := range list {
		items[e.Name] = true
	}
	for _, e := range list { // in the disk's order: what a seed decides is decided again
		key, note := strings.CutSuffix(e.Name, ".json")
		if !note || items[key] {
			continue
		}
		if err := d.fs.Remove(join(stageDir, e.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Staged gives what lies in the stage, for the caller to put where the folder
// should have it.
func (d *Folder) Staged() ([]StagedItem, error) {
	list, err := d.fs.List(stageDir)
	if err != nil {
		return nil, fmt.Errorf("list staged files: %w", err)
	}
	var items []StagedItem
	for _, e := range list {
		if strings.HasSuffix(e.Name, ".json") {
			continue
		}
		it := StagedItem{Key: e.Name, Stat: e.Stat}
		data, err := readSmall(d.fs, join(stageDir, e.Name+".json"), 1<<18)
		var n note
		if err == nil && json.Unmarshal(data, &n) == nil && checkPath(n.From) == nil {
			it.From = n.From
		}
		items = append(items, it)
	}
	return items, nil
}
