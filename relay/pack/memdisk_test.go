package pack

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// A memDisk is a directory in memory that knows what of it was synced, so that it
// can tell what a power cut would leave. Changes of names have an order, and a
// cut keeps all up to some point that lies no earlier than the last sync. Bytes
// that were not synced are lost, kept, or zeros, by sector.
type memDisk struct {
	mu     sync.Mutex
	names  map[string]*memFile // as they are seen
	kept   map[string]*memFile // as they were when the directory was synced last
	log    []nameChange        // since then
	room   int64               // bytes that may be written; negative: any number
	fail   func(op, name string) error
	moment func(op string) // called, with mu held, before each change
}

type nameChange struct {
	name string
	file *memFile // nil: removed
}

type memFile struct {
	data  []byte
	saved []byte       // as it was synced last
	dirty map[int]bool // sectors written since, which a sync would bring to the disk
}

const sector = 512

func newMemDisk() *memDisk {
	return &memDisk{names: make(map[string]*memFile), kept: make(map[string]*memFile), room: -1}
}

// after gives the disk after a power cut now. The caller holds mu.
func (d *memDisk) after(rnd *rand.Rand) *memDisk {
	names := maps.Clone(d.kept)
	for _, c := range d.log[:rnd.IntN(len(d.log)+1)] {
		rename(names, c)
	}
	left := newMemDisk()
	for name, f := range names {
		data := f.cut(rnd)
		left.names[name] = &memFile{data: data, saved: slices.Clone(data), dirty: make(map[int]bool)}
	}
	left.kept = maps.Clone(left.names)
	return left
}

func rename(names map[string]*memFile, c nameChange) {
	if c.file == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.file
	}
}

// cut gives what a power cut leaves of a file.
func (f *memFile) cut(rnd *rand.Rand) []byte {
	data := slices.Clone(f.saved)
	mode := rnd.IntN(4)
	if mode == 0 {
		return data
	}
	short, long := min(len(f.saved), len(f.data)), max(len(f.saved), len(f.data))
	size := short + rnd.IntN(long-short+1)
	if mode == 1 {
		size = len(f.data)
	}
	data = append(data, make([]byte, long)...)[:size]
	for at := 0; at < size; at += sector {
		end := min(at+sector, size)
		if !f.dirty[at/sector] {
			continue
		}
		if mode == 1 || rnd.IntN(2) == 0 {
			if at < len(f.data) {
				copy(data[at:end], f.data[at:min(end, len(f.data))])
			}
		}
	}
	return data
}

// do is called at the begin of each change.
func (d *memDisk) do(op, name string) error {
	if d.moment != nil {
		d.moment(op)
	}
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

func (d *memDisk) MakeDir(string) error { return nil }

func (d *memDisk) List(string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.names)), nil
}

func (d *memDisk) Open(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[name]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memHandle{d, f, name}, nil
}

func (d *memDisk) Edit(name string) (file, error) { return d.Open(name) }

func (d *memDisk) Create(name string) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.do("create", name); err != nil {
		return nil, err
	}
	f := d.names[name]
	if f == nil {
		f = &memFile{dirty: make(map[int]bool)}
		d.names[name] = f
		d.log = append(d.log, nameChange{name, f})
	}
	f.resize(0)
	return &memHandle{d, f, name}, nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.do("remove", name); err != nil {
		return err
	}
	if d.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(d.names, name)
	d.log = append(d.log, nameChange{name, nil})
	return nil
}

// SyncDir makes the names of that directory durable, and those before them.
func (d *memDisk) SyncDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.do("syncdir", dir); err != nil {
		return err
	}
	last := 0
	for i, c := range d.log {
		if strings.HasPrefix(c.name, quarantineDir+"/") == (dir == quarantineDir) {
			last = i + 1
		}
	}
	for _, c := range d.log[:last] {
		rename(d.kept, c)
	}
	d.log = slices.Clone(d.log[last:])
	return nil
}

func (d *memDisk) Free() (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.room < 0 {
		return 1 << 50, nil
	}
	return d.room, nil
}

type memHandle struct {
	d    *memDisk
	f    *memFile
	name string
}

func (h *memHandle) ReadAt(b []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.d.fail != nil {
		if err := h.d.fail("read", h.name); err != nil {
			return 0, err
		}
	}
	if at >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, at int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.do("write", h.name); err != nil {
		return 0, err
	}
	var full error
	if grow := at + int64(len(b)) - int64(len(h.f.data)); h.d.room >= 0 && grow > 0 {
		if grow > h.d.room { // what fits is written
			b, full = b[:max(int64(len(b))-(grow-h.d.room), 0)], &fs.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
			grow = max(at+int64(len(b))-int64(len(h.f.data)), 0)
		}
		h.d.room -= grow
	}
	if len(b) > 0 {
		if at+int64(len(b)) > int64(len(h.f.data)) {
			h.f.resize(int(at) + len(b))
		}
		copy(h.f.data[at:], b)
		for i := int(at) / sector; i*sector < int(at)+len(b); i++ {
			h.f.dirty[i] = true
		}
	}
	return len(b), full
}

func (f *memFile) resize(size int) {
	for i := min(size, len(f.data)) / sector; i*sector < max(size, len(f.data)); i++ {
		f.dirty[i] = true
	}
	if size <= len(f.data) {
		f.data = f.data[:size:size]
		return
	}
	f.data = append(f.data, make([]byte, size-len(f.data))...)
}

func (h *memHandle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.do("truncate", h.name); err != nil {
		return err
	}
	if shrink := int64(len(h.f.data)) - size; h.d.room >= 0 {
		h.d.room += shrink
	}
	h.f.resize(int(size))
	return nil
}

// Sync brings the sectors to the disk that were written. When it fails they are
// not, nor will a later one bring them there, though they are what is read.
func (h *memHandle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	err := h.d.do("sync", h.name)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		clear(h.f.dirty)
		return err
	}
	saved := append(slices.Clone(h.f.saved), make([]byte, max(0, len(h.f.data)-len(h.f.saved)))...)[:len(h.f.data)]
	for i := range h.f.dirty {
		if at := i * sector; at < len(saved) {
			copy(saved[at:min(at+sector, len(saved))], h.f.data[at:])
		}
	}
	h.f.saved = saved
	clear(h.f.dirty)
	return err
}

func (h *memHandle) Size() (int64, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return int64(len(h.f.data)), nil
}

func (h *memHandle) Close() error { return nil }
