package disk

import (
	"strings"

	"golang.org/x/sys/unix"

	"sheaf/node/stat"
)

// openDir opens a directory below root for use in *at calls, one name at a
// time, following no link and entering no other mount. The caller closes it.
func openDir(root int, path string) (int, error) {
	var first unix.Stat_t
	if err := unix.Fstat(root, &first); err != nil {
		return -1, err
	}
	at := root
	for name := range strings.SplitSeq(path, "/") {
		var fd int
		err := retry(func() (err error) {
			fd, err = unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
			return err
		})
		if at != root {
			_ = unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		var s unix.Stat_t
		if err := unix.Fstat(fd, &s); err != nil || s.Dev != first.Dev {
			_ = unix.Close(fd)
			if err == nil {
				err = unix.EXDEV
			}
			return -1, err
		}
		at = fd
	}
	return at, nil
}

// statAt is lstat of one name of a directory. Whether something is mounted
// there is left to the comparison of device numbers.
func statAt(dir int, name string) (s stat.Stat, mount bool, err error) {
	var x unix.Stat_t
	if err := unix.Fstatat(dir, name, &x, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return s, false, err
	}
	return fromStat(&x), false, nil
}

func statFollow(path string) (s stat.Stat, mount bool, err error) {
	var x unix.Stat_t
	if err := unix.Stat(path, &x); err != nil {
		return s, false, err
	}
	return fromStat(&x), false, nil
}

func statFD(fd int) (stat.Stat, error) {
	var x unix.Stat_t
	if err := unix.Fstat(fd, &x); err != nil {
		return stat.Stat{}, err
	}
	return fromStat(&x), nil
}

func fromStat(x *unix.Stat_t) stat.Stat {
	s := stat.Stat{
		Kind:     stat.Other,
		Mode:     uint32(x.Mode) & 0o7777,
		Size:     x.Size,
		Modified: x.Mtim.Nano(),
		Changed:  x.Ctim.Nano(),
		Born:     x.Btim.Nano(),
		Inode:    x.Ino,
		Device:   uint64(x.Dev),
		Links:    uint32(x.Nlink),
	}
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s.Kind = stat.File
	case unix.S_IFDIR:
		s.Kind, s.Size = stat.Directory, 0
	case unix.S_IFLNK:
		s.Kind = stat.Symlink
	}
	return s
}

func renameNew(d1 int, n1 string, d2 int, n2 string) error {
	return unix.RenameatxNp(d1, n1, d2, n2, unix.RENAME_EXCL)
}

func exchange(d1 int, n1 string, d2 int, n2 string) error {
	return unix.RenameatxNp(d1, n1, d2, n2, unix.RENAME_SWAP)
}

func chmodAt(dir int, name string, mode uint32) error {
	return unix.Fchmodat(dir, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

func timespec(ns int64) unix.Timespec {
	sec, rest := ns/1e9, ns%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return unix.Timespec{Sec: sec, Nsec: rest}
}

// mtimeOnly leaves the access time to the modification time as well: the
// system call of this platform has no word for "as it was".
func mtimeOnly(mtime int64) []unix.Timespec {
	return []unix.Timespec{timespec(mtime), timespec(mtime)}
}

// futimes has microseconds here; the caller reads back what was kept.
func futimes(fd int, mtime int64) error {
	tv := unix.NsecToTimeval(mtime)
	return unix.Futimes(fd, []unix.Timeval{tv, tv})
}

// syncAll asks for everything on every disk: there is no narrower call that
// covers closed files.
func (f *osFS) syncAll() error {
	if err := unix.Sync(); err != nil {
		return err
	}
	return f.dir.Sync() // F_FULLFSYNC: past the drive's cache as well
}

// allocate is left out: reserving needs a second call to fix the length, and
// APFS gains nothing from it.
func allocate(int, int64) error { return unix.EOPNOTSUPP }

func punch(int, int64, int64) error { return unix.EOPNOTSUPP }

func copyRange(int, int64, int, int64, int64) (int64, error) { return 0, ErrUnsupported }
