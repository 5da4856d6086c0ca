package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"sheaf/node/stat"
	"sheaf/replication/chunk"
)

// Hashed is the content of one file or link, all of it read from one state.
type Hashed struct {
	List    chunk.List // empty for a link
	Content [32]byte   // List.Content(), or the SHA-256 of a link's target
	Size    int64
	Stat    stat.Stat
	Target  string // of a link
}

// fresh is how long a change time must lie back before bytes are believed to
// belong to it: system clocks stamp files in steps (10 ms at the coarsest), and
// a further write within the step would not show. CoarseTick is the same for file
// systems that keep whole seconds (two on FAT).
const (
	fresh = 20 * time.Millisecond
	// CoarseTick is the longest step in which a disk keeps times (FAT).
	CoarseTick = 2 * time.Second
)

// Hash reads the file or link at path, which must be what expect says and
// stay so, else ErrChanging: the bytes are of one state or of none. A file
// that changed in the last moment is waited for briefly (20 ms), or with a
// file system that keeps whole seconds refused as ErrChanging.
func (d *Folder) Hash(ctx context.Context, path string, expect stat.Stat, c *chunk.Chunker) (Hashed, error) {
	h, err := d.hash(ctx, path, expect, c)
	if err != nil {
		return Hashed{}, fmt.Errorf("hash %s: %w", path, err)
	}
	return h, nil
}

func (d *Folder) hash(ctx context.Context, path string, expect stat.Stat, c *chunk.Chunker) (h Hashed, err error) {
	if err := checkPath(path); err != nil {
		return h, err
	}
	if err := d.settle(ctx, expect); err != nil {
		return h, err
	}
	switch expect.Kind {
	case stat.Symlink:
		return d.hashLink(path, expect)
	case stat.File:
	default:
		return h, ErrNotFile
	}
	f, err := d.fs.Open(path)
	if errors.Is(err, ErrNotFile) {
		return h, fmt.Errorf("%w: %w", ErrChanging, err)
	}
	if err != nil {
		return h, err
	}
	defer func() { _ = f.Close() }()
	before, err := f.Stat()
	if err != nil {
		return h, err
	}
	if !same(before, expect) {
		return h, ErrChanging
	}
	// One byte more than expected is enough to notice growth.
	r := &ctxReader{ctx: ctx, r: io.NewSectionReader(f, 0, before.Size+1)}
	size, list, err := c.Split(r, func(chunk.Block, []byte) error { return nil })
	if err != nil {
		return h, err
	}
	after, err := f.Stat()
	if err != nil {
		return h, err
	}
	named, err := d.fs.Lstat(path)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrChanging, err)
	}
	if size != before.Size || !same(after, before) || !same(named, before) {
		return h, ErrChanging
	}
	return Hashed{List: list, Content: list.Content(), Size: size, Stat: after}, nil
}

// same is Unchanged on one device.
func same(a, b stat.Stat) bool { return a.Unchanged(b) && a.Device == b.Device }

func (d *Folder) hashLink(path string, expect stat.Stat) (h Hashed, err error) {
	before, err := d.fs.Lstat(path)
	if err != nil {
		return h, err
	}
	target, err := d.fs.Readlink(path)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrChanging, err)
	}
	after, err := d.fs.Lstat(path)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrChanging, err)
	}
	if !same(before, expect) || !same(after, before) {
		return h, ErrChanging
	}
	return Hashed{Content: sha256.Sum256([]byte(target)), Size: int64(len(target)), Stat: after, Target: target}, nil
}

// Coarse tells whether a file's times look like those of a disk that keeps them in
// whole seconds.
func Coarse(s stat.Stat) bool { return s.Changed%1e9 == 0 && s.Modified%1e9 == 0 }

// settle waits until a change that could still go on within the same clock
// step would show.
func (d *Folder) settle(ctx context.Context, s stat.Stat) error {
	at := s.Changed
	if at == 0 {
		at = s.Modified
	}
	age := time.Duration(d.o.Now().UnixNano() - at)
	if Coarse(s) {
		if age >= 0 && age < CoarseTick {
			return ErrChanging
		}
		return nil
	}
	if age < 0 || age >= fresh { // a time ahead of our clock says nothing
		return nil
	}
	t := time.NewTimer(fresh - age)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ctxReader ends a long read when nobody wants it any more.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// A Reader reads one file that was known as some Stat.
type Reader struct {
	f      File
	expect stat.Stat
}

// Reader opens a file for reading blocks of it. ErrChanging if it is no
// longer the file that expect describes (change time apart, which a rename or
// chmod moves). The caller closes it.
func (d *Folder) Reader(path string, expect stat.Stat) (*Reader, error) {
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	r, err := d.reader(path, expect)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (d *Folder) reader(path string, expect stat.Stat) (*Reader, error) {
	f, err := d.fs.Open(path)
	if errors.Is(err, ErrNotFile) {
		return nil, fmt.Errorf("%w: %w", ErrChanging, err)
	}
	if err != nil {
		return nil, err
	}
	r := &Reader{f, expect}
	if err := r.Check(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return r, nil
}

// ReadAt reads bytes of the file. What they are worth only their hash or a
// later Check can tell.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) { return r.f.ReadAt(p, off) }

// Check gives ErrChanging if the file is no longer as expected.
func (r *Reader) Check() error {
	s, err := r.f.Stat()
	if err != nil {
		return err
	}
	if !s.SameContent(r.expect) {
		return ErrChanging
	}
	return nil
}

// Close ends the use of the Reader.
func (r *Reader) Close() error { return r.f.Close() }

// ReadBlock fills dst from offset off of a file, for serving. ErrChanging when
// it is no longer the file that expect describes, or ends earlier. The caller
// compares the hash before it hands bytes out.
func (d *Folder) ReadBlock(path string, expect stat.Stat, off int64, dst []byte) error {
	r, err := d.Reader(path, expect)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	n, err := r.ReadAt(dst, off)
	if n < len(dst) {
		if err == nil || errors.Is(err, io.EOF) {
			err = ErrChanging
		}
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := r.Check(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
