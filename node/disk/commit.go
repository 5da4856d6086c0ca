package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sync/errgroup"

	"sheaf/node/stat"
)

// An Install is one file or link to be put in place. Its content is Temp, or
// Target if that is not empty (a symbolic link), or Data (which may be empty).
type Install struct {
	Path   string
	Temp   *Temp  // used up by success; by failure it stays open, the caller's
	Data   []byte // for small files: saves the caller a temporary file
	Target string

	Mode  uint32 // permission bits; set-ID and sticky bits are never set
	MTime int64  // Unix nanoseconds; ignored for a link if zero

	// Expect is what the path holds: Kind None if it must be free, else the
	// file or link that is replaced, as last seen, change time included.
	Expect stat.Stat
	// Bucket takes what is replaced. The zero Bucket stands for one made for
	// this call.
	Bucket Bucket
}

// A Result is what became of one Install.
type Result struct {
	// Stat is the new file as it lies there, with what the disk could not
	// hold of mode and time already lost. If somebody changed it at once, it
	// is the file as it was installed, so that the change shows.
	Stat stat.Stat
	// Trashed is the trash item that holds what was replaced, or "".
	Trashed string
	// Err is nil if the file is in place and durable. ErrChanged: the path
	// did not hold Expect; it holds what it held. ErrNoSpace, fs.ErrNotExist
	// (no parent), fs.ErrPermission: nothing happened. ErrDiskFailed: nothing
	// is known, see there.
	Err error
}

// writers is how many small files are written at once: enough to overlap the
// file system's work with ours.
const writers = 4

// job is one Install on its way.
type job struct {
	Install
	res     *Result
	tmp     string    // where the content lies
	mine    stat.Stat // the content with its attributes, before it is placed
	spot    string    // trash path of what was displaced
	old     stat.Stat // what was displaced
	swapped bool      // by Exchange
	intent  string    // aside's note
	placed  bool
}

// Commit puts a batch of files in place, durably: contents are made durable
// by one sync, then each is put in place without its path ever being absent or
// half-written, what is replaced goes to the trash, and a second sync makes
// the names durable. When Commit returns the caller may record the results
// that have no error. Results correspond to the batch by index; files do not
// depend on each other, and one path must not appear twice.
//
// On a disk that cannot exchange two names, the old file steps aside first and
// the path is absent for that instant; a crash then is put right by Open.
func (d *Folder) Commit(ctx context.Context, batch []Install) []Result {
	results := make([]Result, len(batch))
	jobs := make([]*job, 0, len(batch))
	if err := d.ready(ctx, batch); err != nil {
		for i := range results {
			results[i].Err = fmt.Errorf("install %s: %w", batch[i].Path, err)
		}
		return results
	}
	for i := range batch {
		jobs = append(jobs, &job{Install: batch[i], res: &results[i]})
	}
	d.prepare(ctx, jobs)
	jobs = d.durable(jobs)
	bucket := d.NewBucket("replaced")
	for _, j := range jobs {
		if j.Bucket.ID == "" {
			j.Bucket = bucket
		}
		if j.res.Err = ctx.Err(); j.res.Err == nil {
			j.res.Err = d.place(j)
		}
	}
	for _, j := range jobs {
		d.recheck(j)
	}
	if err := d.finish(jobs); err != nil {
		for _, j := range jobs {
			if j.placed {
				j.res.Err = err
			}
		}
	}
	for i := range results {
		j := batch[i]
		if results[i].Err != nil {
			results[i].Err = fmt.Errorf("install %s: %w", j.Path, results[i].Err)
		} else if j.Temp != nil {
			_ = j.Temp.Close() // durable already
		}
	}
	return results
}

// ready judges a batch before anything is done.
func (d *Folder) ready(ctx context.Context, batch []Install) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.Check(); err != nil {
		return err
	}
	var need int64
	for _, in := range batch {
		if in.Temp == nil {
			need += int64(len(in.Data)) + 512
		}
	}
	return d.room(need)
}

// prepare writes what is not yet in a temporary file and sets modes and times.
func (d *Folder) prepare(ctx context.Context, jobs []*job) {
	var g errgroup.Group
	g.SetLimit(d.o.Writers)
	for _, j := range jobs {
		if j.res.Err = checkPath(j.Path); j.res.Err != nil {
			continue
		}
		g.Go(func() error {
			if j.res.Err = ctx.Err(); j.res.Err == nil {
				j.res.Err = d.prepareOne(j)
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (d *Folder) prepareOne(j *job) (err error) {
	switch {
	case j.Path == ".":
		return ErrName
	case j.Temp != nil:
		if j.Temp.f == nil {
			return fmt.Errorf("temporary file %s: %w", j.Temp.key, fs.ErrClosed)
		}
		j.tmp = j.Temp.path
		j.mine, err = setFile(j.Temp.f, j.Mode, j.MTime)
		return err
	case j.Target != "":
		if err := checkTarget(j.Target); err != nil {
			return err
		}
		j.tmp = d.temporary()
		if err := d.fs.Symlink(j.Target, j.tmp); err != nil {
			return err
		}
		if j.MTime != 0 {
			err = d.fs.Chtimes(j.tmp, j.MTime)
		}
		if err == nil {
			j.mine, err = d.fs.Lstat(j.tmp)
		}
	default:
		j.tmp = d.temporary()
		var f File
		if f, err = d.fs.Create(j.tmp, 0o600); err != nil {
			return err
		}
		if len(j.Data) > 0 {
			_, err = f.WriteAt(j.Data, 0)
		}
		if err == nil {
			j.mine, err = setFile(f, j.Mode, j.MTime)
		}
		if e := f.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		_ = d.fs.Remove(j.tmp)
	}
	return err
}

// setFile sets mode and time last, after all writing, and reads back what the
// disk made of them.
func setFile(f File, mode uint32, mtime int64) (stat.Stat, error) {
	// A disk without modes (FAT) refuses; the Stat will tell.
	if err := f.Chmod(mode & 0o777); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, ErrUnsupported) {
		return stat.Stat{}, err
	}
	if err := f.Chtimes(mtime); err != nil {
		return stat.Stat{}, err
	}
	return f.Stat()
}

// durable syncs the contents, and gives the jobs that go on.
func (d *Folder) durable(jobs []*job) []*job {
	var going []*job
	var paths []string
	for _, j := range jobs {
		if j.res.Err == nil {
			going = append(going, j)
			paths = append(paths, j.tmp)
		}
	}
	if len(going) == 0 {
		return nil
	}
	if err := d.sync(paths...); err != nil {
		for _, j := range going {
			j.res.Err = err
			d.dropData(j)
		}
		return nil
	}
	return going
}

// dropData removes content that only this Commit had.
func (d *Folder) dropData(j *job) {
	if j.Temp == nil {
		_ = d.fs.Remove(j.tmp)
	}
}

// finish makes the names durable and forgets notes of asides.
func (d *Folder) finish(jobs []*job) error {
	dirs := map[string]struct{}{}
	some := false
	for _, j := range jobs {
		if j.res.Err != nil {
			d.dropData(j)
		}
		if !j.placed {
			continue
		}
		some = true
		dir, _ := split(j.Path)
		dirs[dir] = struct{}{}
		if j.spot != "" {
			dir, _ = split(j.spot)
			dirs[dir] = struct{}{}
		}
	}
	if !some {
		return d.healthy()
	}
	dirs[tmpDir] = struct{}{}
	for dir := range dirs {
		d.touch(dir)
	}
	if err := d.Barrier(); err != nil {
		return err
	}
	for _, j := range jobs {
		if j.intent != "" {
			_ = d.fs.Remove(j.intent)
		}
	}
	return nil
}
