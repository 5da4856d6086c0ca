package disk

import (
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sheaf/node/stat"
)

// noOpenat2 is set once when the kernel (before 5.6) or a sandbox refuses
// openat2; it only chooses between two ways to the same result.
var noOpenat2 atomic.Bool

// piece bounds the path given to one openat2, below PATH_MAX.
const piece = 3800

// openDir opens a directory below root for use in *at calls, following no
// link and entering no other mount. The caller closes it.
func openDir(root int, path string) (int, error) {
	if noOpenat2.Load() {
		return walkDir(root, path)
	}
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	at := root
	for {
		part, rest := path, ""
		if len(path) > piece {
			i := strings.LastIndexByte(path[:piece], '/')
			part, rest = path[:i], path[i+1:]
		}
		fd, err := unix.Openat2(at, part, &how)
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if at != root {
			_ = unix.Close(at)
		}
		switch {
		case err == unix.ENOSYS || err == unix.EPERM && at == root:
			noOpenat2.Store(true)
			return walkDir(root, path)
		case err != nil:
			return -1, err
		case rest == "":
			return fd, nil
		}
		at, path = fd, rest
	}
}

// walkDir is openDir one name at a time.
func walkDir(root int, path string) (int, error) {
	var first unix.Stat_t
	if err := unix.Fstat(root, &first); err != nil {
		return -1, err
	}
	at := root
	for name := range strings.SplitSeq(path, "/") {
		var fd int
		err := retry(func() (err error) {
			fd, err = unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
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

const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// statAt is lstat of one name of a directory; mount tells that a file system
// is mounted there.
func statAt(dir int, name string) (s stat.Stat, mount bool, err error) {
	return statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

func statFollow(path string) (s stat.Stat, mount bool, err error) {
	return statx(unix.AT_FDCWD, path, 0)
}

func statFD(fd int) (stat.Stat, error) {
	s, _, err := statx(fd, "", unix.AT_EMPTY_PATH)
	return s, err
}

func statx(dir int, name string, flags int) (s stat.Stat, mount bool, err error) {
	var x unix.Statx_t
	if err := retry(func() error { return unix.Statx(dir, name, flags, statMask, &x) }); err != nil {
		return s, false, err
	}
	s = stat.Stat{
		Kind:     kindOf(uint32(x.Mode)),
		Mode:     uint32(x.Mode) & 0o7777,
		Size:     int64(x.Size),
		Modified: x.Mtime.Sec*1e9 + int64(x.Mtime.Nsec),
		Changed:  x.Ctime.Sec*1e9 + int64(x.Ctime.Nsec),
		Inode:    x.Ino,
		Device:   unix.Mkdev(x.Dev_major, x.Dev_minor),
		Links:    x.Nlink,
	}
	if x.Mask&unix.STATX_BTIME != 0 {
		s.Born = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
	}
	if s.Kind == stat.Directory {
		s.Size = 0
	}
	return s, x.Attributes&x.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

func kindOf(mode uint32) stat.Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return stat.File
	case unix.S_IFDIR:
		return stat.Directory
	case unix.S_IFLNK:
		return stat.Symlink
	}
	return stat.Other
}

func renameNew(d1 int, n1 string, d2 int, n2 string) error {
	return unix.Renameat2(d1, n1, d2, n2, unix.RENAME_NOREPLACE)
}

func exchange(d1 int, n1 string, d2 int, n2 string) error {
	return unix.Renameat2(d1, n1, d2, n2, unix.RENAME_EXCHANGE)
}

// chmodAt sets the mode of what it has looked at: through a descriptor, since
// a name could become a link in between.
func chmodAt(dir int, name string, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	s, err := statFD(fd)
	if err != nil {
		return err
	}
	if s.Kind != stat.File && s.Kind != stat.Directory {
		return ErrNotFile
	}
	err = unix.Fchmodat(fd, "", mode, unix.AT_EMPTY_PATH)
	if err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EPERM && s.Mode != mode { // kernels before 6.6, old sandboxes
		return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
	}
	return err
}

func mtimeOnly(mtime int64) []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, timespec(mtime)}
}

// timespec is unix.NsecToTimespec for times before 1970 as well.
func timespec(ns int64) unix.Timespec {
	sec, rest := ns/1e9, ns%1e9
	if rest < 0 {
		sec, rest = sec-1, rest+1e9
	}
	return unix.NsecToTimespec(sec*1e9 + rest)
}

func futimes(fd int, mtime int64) error {
	ts := mtimeOnly(mtime)
	err := unix.UtimesNanoAt(fd, "", ts, unix.AT_EMPTY_PATH)
	if err == unix.EINVAL || err == unix.ENOENT { // kernels before 5.8
		return unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), ts, 0)
	}
	return err
}

func (f *osFS) syncAll() error {
	// The descriptor is open since the start: any write-back error since the
	// last call is reported here, also one of a file that is closed again.
	return retry(func() error { return unix.Syncfs(f.fd) })
}

func allocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }

func punch(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// copyRange clones where blocks may be shared (the kernel does that inside
// copy_file_range on file systems with reflinks) and copies in the kernel
// otherwise.
func copyRange(src int, srcOff int64, dst int, off, n int64) (int64, error) {
	var done int64
	for done < n {
		so, do := srcOff+done, off+done
		c, err := unix.CopyFileRange(src, &so, dst, &do, int(min(n-done, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || unsupported(err):
			return done, ErrUnsupported
		case err != nil:
			return done, osError("copy", "", err)
		case c == 0:
			return done, nil
		}
		done += int64(c)
	}
	return done, nil
}
