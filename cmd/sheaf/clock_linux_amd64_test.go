package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A wrong clock: a node's process is given another time of day than the machine
// has, without touching the machine. A program asks the kernel for the time by a
// function that the kernel maps into it (the vDSO); in the one process that is
// under test this function is overwritten by one that makes the system call and
// adds an offset, which can be changed while the process runs. The monotonic clock
// is left as it is, as when somebody sets a clock.
type wrongClock struct {
	pid    int
	at     int64 // where the function is in the process
	offset time.Duration
}

// clockCode is the function, for x86-64: of the arguments, the clock is in edi, and
// where the time goes in rsi; the system call changes rax, rcx and r11 alone.
func clockCode(offset time.Duration) []byte {
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: CLOCK_REALTIME is 0
		0x75, 13, // jne to the end
		0x48, 0xb9, // mov rcx, the offset in seconds
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(int64(offset/time.Second))) //nolint:gosec // two's complement
	return append(code,
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3, // ret
	)
}

// misset has a device's nodes run with a clock of their own from the next start on.
func misset(t *testing.T, d *device, offset time.Duration) *wrongClock {
	t.Helper()
	w := &wrongClock{offset: offset}
	d.launch = func(c *exec.Cmd) error {
		if c.SysProcAttr == nil {
			c.SysProcAttr = &syscall.SysProcAttr{}
		}
		c.SysProcAttr.Ptrace = true // stopped before its first instruction
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // ptrace is between threads
			defer runtime.UnlockOSThread()
			done <- w.start(c)
		}()
		return <-done
	}
	return w
}

func (w *wrongClock) start(c *exec.Cmd) error {
	if err := c.Start(); err != nil {
		return err
	}
	w.pid = c.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(w.pid, &status, 0, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("it did not stop at its start: %w, %v", err, status)
	}
	if err := w.find(); err != nil {
		return err
	}
	if err := w.set(w.offset); err != nil {
		return err
	}
	return syscall.PtraceDetach(w.pid)
}

// find looks for the function that gives the time.
func (w *wrongClock) find() error {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", w.pid))
	if err != nil {
		return err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", w.pid))
	if err != nil {
		return err
	}
	defer func() { _ = mem.Close() }()
	for line := range strings.SplitSeq(string(maps), "\n") {
		if !strings.HasSuffix(line, "[vdso]") {
			continue
		}
		from, to, _ := strings.Cut(strings.Fields(line)[0], "-")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("maps: %q", line)
		}
		image := make([]byte, end-start)
		if _, err := mem.ReadAt(image, start); err != nil {
			return err
		}
		file, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return err
		}
		symbols, err := file.DynamicSymbols()
		if err != nil {
			return err
		}
		for _, s := range symbols {
			if s.Name == "__vdso_clock_gettime" && int(s.Size) >= len(clockCode(0)) { //nolint:gosec // small
				w.at = start + int64(s.Value) //nolint:gosec // within the image
				return nil
			}
		}
	}
	return fmt.Errorf("this kernel gives no time by its vDSO")
}

// set sets the clock, that of a running process too.
func (w *wrongClock) set(offset time.Duration) error {
	w.offset = offset
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", w.pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	code := clockCode(offset)
	if _, err := mem.WriteAt(code, w.at); err != nil {
		_ = mem.Close()
		return fmt.Errorf("the time of a process cannot be changed here: %w", err)
	}
	return mem.Close()
}
