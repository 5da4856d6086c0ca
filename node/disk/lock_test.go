//go:build linux

package disk_test

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sheaf/node/disk"
	"sheaf/node/simdisk"
)

// holder starts a process that has the folder at root open, and returns when it has the folder open.
func holder(t *testing.T, root string) (end func(), kill func()) {
	t.Helper()
	exe, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), holdVariable+"="+root)
	in, err := cmd.StdinPipe()
	ok(t, err)
	out, err := cmd.StdoutPipe()
	ok(t, err)
	cmd.Stderr = os.Stderr
	ok(t, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	if _, err := io.ReadFull(out, make([]byte, len("held\n"))); err != nil {
		t.Fatalf("the other process does not open the folder: %v", err)
	}
	end = func() {
		ok(t, in.Close())
		ok(t, cmd.Wait())
	}
	kill = func() {
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	return end, kill
}

// again opens the folder at root a second time.
func again(t *testing.T, root string) error {
	t.Helper()
	f, err := disk.NewOS(root)
	ok(t, err)
	defer func() { ok(t, f.Close()) }()
	d, err := disk.Open(f, folderID, disk.Options{Floor: -1})
	if err == nil {
		ok(t, d.Close())
	}
	return err
}

// S25: a folder is open once, whoever opens it, and by whatever path.
func TestS25_OpenOnce(t *testing.T) {
	t.Parallel()
	f := folderAt(t, t.TempDir(), disk.Options{Floor: -1, Holder: "device a\x1b[31m, process 1\nand more"})
	f.put(".sheaf/tmp/~1", "what the first is building")
	err := again(t, f.root)
	remedy(t, err, disk.ErrLocked)
	if msg := err.Error(); !strings.Contains(msg, f.root) || !strings.HasSuffix(msg, ": device a[31m, process 1") {
		t.Errorf("it says %q", msg)
	}
	link := filepath.Join(t.TempDir(), "link")
	ok(t, os.Symlink(f.root, link))
	remedy(t, again(t, link), disk.ErrLocked)
	remedy(t, disk.CheckServed(f.fs), disk.ErrLocked)
	remedy(t, disk.Init(f.fs, folderID), disk.ErrLocked)
	// A marker that is gone is not made anew under the one who serves it.
	ok(t, os.Rename(f.path(".sheaf/folder"), f.path("away")))
	remedy(t, disk.Init(f.fs, folderID), disk.ErrLocked)
	f.absent(".sheaf/folder")
	ok(t, os.Rename(f.path("away"), f.path(".sheaf/folder")))
	// Who is refused has touched nothing.
	f.want(".sheaf/tmp/~1", "what the first is building")
	ok(t, os.Remove(f.path(".sheaf/tmp/~1")))
	// A copy is nobody's, and its lock's file is not locked.
	dup := filepath.Join(t.TempDir(), "copy")
	ok(t, os.CopyFS(dup, os.DirFS(f.root)))
	ok(t, again(t, dup))
	ok(t, f.Close())
	ok(t, disk.CheckServed(f.fs))
	ok(t, again(t, f.root))
	f.reopen(disk.Options{Floor: -1})
	remedy(t, again(t, f.root), disk.ErrLocked)
}

// A child that is just being started has all our files open, until its exec: what is
// closed meanwhile is not locked by it.
func TestS25_ClosedWhileAChildStarts(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	fds, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	held := -1
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		ok(t, err)
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == f.path(".sheaf/lock") {
			held, err = syscall.Dup(fd) // as fork does
			ok(t, err)
		}
	}
	if held < 0 {
		t.Fatal("the lock is not open")
	}
	remedy(t, again(t, f.root), disk.ErrLocked)
	ok(t, f.Close())
	ok(t, again(t, f.root))
	ok(t, syscall.Close(held))
	f.reopen(disk.Options{Floor: -1})
}

// The lock goes with the process, however that ends.
func TestS25_AnotherProcess(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	remedy(t, again(t, f.root), disk.ErrLocked)
	ok(t, f.Close())
	for _, killed := range []bool{false, true} {
		end, kill := holder(t, f.root)
		err := again(t, f.root)
		remedy(t, err, disk.ErrLocked)
		if !strings.HasSuffix(err.Error(), ": the other process") {
			t.Errorf("it says %v", err)
		}
		if killed {
			kill()
		} else {
			end()
		}
		ok(t, again(t, f.root))
	}
	f.reopen(disk.Options{Floor: -1})
}

// An Open that fails leaves nothing locked, whatever it fails at.
func TestOpenThatFailsUnlocks(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	ok(t, f.Close())
	ok(t, os.Remove(f.path(".sheaf/tmp")))
	f.put(".sheaf/tmp", "no directory")
	is(t, again(t, f.root), disk.ErrNotDirectory)
	ok(t, os.Remove(f.path(".sheaf/tmp")))
	f.reopen(disk.Options{Floor: -1})
	refused := 0
	for at := 1; ; at++ {
		sim := simdisk.New(simdisk.Options{})
		ok(t, disk.Init(sim.Open(), folderID))
		first, failed := sim.Calls(), false
		sim.Before(func(call int, _, _ string) error {
			if call-first < at {
				return nil
			}
			failed = true
			return syscall.EIO // all that follow, too: the closing of the lock
		})
		d, err := disk.Open(sim.Open(), folderID, disk.Options{Holder: "somebody"})
		sim.Before(nil)
		if err == nil {
			ok(t, d.Close())
		} else {
			refused++
		}
		if _, err := disk.Open(sim.Open(), folderID, disk.Options{}); err != nil {
			t.Fatalf("after all calls from %d on have failed: %v", at, err)
		}
		if !failed {
			break
		}
	}
	if refused < 10 {
		t.Errorf("only %d calls made Open fail", refused)
	}
}

// What stands at the lock's name leads nowhere, and keeps its content.
func TestLockIsAPlainFile(t *testing.T) {
	t.Parallel()
	for what, put := range map[string]func(lock, outside string) error{
		"link":          func(lock, outside string) error { return os.Symlink(outside, lock) },
		"dangling link": func(lock, outside string) error { return os.Symlink(outside+".none", lock) },
		"link inside":   func(lock, _ string) error { return os.Symlink("folder", lock) },
		"directory":     func(lock, _ string) error { return os.Mkdir(lock, 0o700) },
		"FIFO":          func(lock, _ string) error { return syscall.Mkfifo(lock, 0o600) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			ok(t, f.Close())
			defer f.reopen(disk.Options{Floor: -1})
			marker := f.get(".sheaf/folder")
			outside := filepath.Join(t.TempDir(), "outside")
			ok(t, os.WriteFile(outside, []byte("a person's"), 0o600))
			lock := f.path(".sheaf/lock")
			ok(t, os.Remove(lock))
			ok(t, put(lock, outside))
			_, err := disk.Open(f.fs, folderID, disk.Options{Floor: -1, Holder: "somebody"})
			remedy(t, err, disk.ErrNotFile)
			ok(t, disk.CheckServed(f.fs))
			if data, err := os.ReadFile(outside); err != nil || string(data) != "a person's" {
				t.Errorf("outside there is %q, %v", data, err)
			}
			if _, err := os.Lstat(outside + ".none"); err == nil {
				t.Error("a file was made outside")
			}
			f.want(".sheaf/folder", marker)
			ok(t, os.Remove(lock))
		})
	}
	t.Run("second name", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		f.put("file", "a person's")
		ok(t, f.Close())
		ok(t, os.Remove(f.path(".sheaf/lock")))
		ok(t, os.Link(f.path("file"), f.path(".sheaf/lock")))
		f.reopen(disk.Options{Floor: -1, Holder: "somebody"})
		remedy(t, again(t, f.root), disk.ErrLocked)
		f.want("file", "a person's")
	})
	t.Run("link for a directory", func(t *testing.T) {
		t.Parallel()
		f := newFolder(t)
		ok(t, f.Close())
		ok(t, os.Rename(f.path(".sheaf"), f.path("own")))
		ok(t, os.Symlink("own", f.path(".sheaf")))
		_, err := f.fs.Lock(".sheaf/lock")
		is(t, err, disk.ErrNotDirectory)
		ok(t, os.Remove(f.path(".sheaf")))
		ok(t, os.Rename(f.path("own"), f.path(".sheaf")))
		f.reopen(disk.Options{Floor: -1})
	})
}

// Where the lock's file may not be written it is locked all the same; where it may
// not be made or read the folder is not opened.
func TestLockWithoutPermission(t *testing.T) {
	t.Parallel()
	if asNobody(t) {
		return
	}
	f := newFolder(t)
	lock, home := f.path(".sheaf/lock"), f.path(".sheaf")
	ok(t, f.Close())
	defer func() { ok(t, os.Chmod(home, 0o700)) }()
	ok(t, os.Chmod(lock, 0o400))
	ok(t, os.Chmod(home, 0o500))
	f.reopen(disk.Options{Floor: -1, Holder: "somebody"})
	remedy(t, again(t, f.root), disk.ErrLocked)
	ok(t, f.Close())
	ok(t, os.Chmod(lock, 0))
	remedy(t, again(t, f.root), os.ErrPermission)
	ok(t, os.Chmod(home, 0o700))
	ok(t, os.Remove(lock))
	ok(t, os.Chmod(home, 0o500))
	remedy(t, again(t, f.root), os.ErrPermission)
	ok(t, os.Chmod(home, 0o700))
	f.reopen(disk.Options{Floor: -1})
}

// A disk that is mounted for reading alone: what is there is locked, and where
// nothing is there is nothing that two could do to each other.
func TestLockOnReadOnlyDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() { ok(t, syscall.Unmount(root, 0)) })
	f := folderAt(t, root, disk.Options{Floor: -1})
	for _, there := range []bool{true, false} {
		ok(t, f.Close())
		if !there {
			ok(t, os.Remove(f.path(".sheaf/lock")))
		}
		ok(t, syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		f.reopen(disk.Options{Floor: -1, Holder: "somebody"})
		if err := again(t, root); there {
			remedy(t, err, disk.ErrLocked)
		} else {
			ok(t, err)
		}
		ok(t, syscall.Mount("", root, "", syscall.MS_REMOUNT, ""))
	}
}

// lockless is a file system without locks, as some of the network are.
type lockless struct{ disk.FS }

func (lockless) Lock(string) (disk.File, error) { return nil, disk.ErrUnsupported }

func TestNoLocks(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	f := folderAt(t, t.TempDir(), disk.Options{Floor: -1, Log: slog.New(slog.NewTextHandler(&log, nil))}, func(f disk.FS) disk.FS { return lockless{f} })
	ok(t, disk.CheckServed(f.fs))
	ok(t, f.Check())
	if n := strings.Count(log.String(), "has no locks"); n != 1 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}
