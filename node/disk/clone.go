package disk

import (
	"errors"
	"fmt"
	"io"
)

// A Copy is one range to take from another file: N bytes at From there become
// the bytes at To here.
type Copy struct{ From, To, N int64 }

// CopyBlocks fills ranges of t from a file of this folder or its trash,
// sharing the blocks where the disk can (reflink) and copying inside the
// kernel otherwise. ErrChanging if the source is not or no longer what its
// Reader was opened for. The caller verifies the result (Temp.Verified): a
// copy is as good as the source was at that moment.
func (d *Folder) CopyBlocks(t *Temp, src *Reader, copies []Copy) error {
	if err := d.healthy(); err != nil {
		return err
	}
	if t.f == nil {
		return fmt.Errorf("copy to temporary file %s: closed", t.key)
	}
	for _, c := range copies {
		if c.N < 0 || c.From < 0 || c.To < 0 || c.N > t.size || c.To > t.size-c.N {
			return fmt.Errorf("copy to temporary file %s: range %+v outside of %d", t.key, c, t.size)
		}
		n, err := t.f.CopyFrom(src.f, c.From, c.To, c.N)
		if errors.Is(err, ErrUnsupported) {
			err = t.copyPlain(src, Copy{c.From + n, c.To + n, c.N - n})
			n = c.N
		}
		if err == nil && n < c.N {
			err = ErrChanging // the source ended early
		}
		if err != nil {
			return fmt.Errorf("copy to temporary file %s: %w", t.key, err)
		}
	}
	if err := src.Check(); err != nil {
		return fmt.Errorf("copy to temporary file %s: %w", t.key, err)
	}
	return nil
}

// CloneFile is CopyBlocks for a whole file of the same size.
func (d *Folder) CloneFile(t *Temp, src *Reader) error {
	if src.expect.Size != t.size {
		return fmt.Errorf("clone to temporary file %s: %d bytes for %d", t.key, src.expect.Size, t.size)
	}
	return d.CopyBlocks(t, src, []Copy{{N: t.size}})
}

func (t *Temp) copyPlain(src *Reader, c Copy) error {
	buf := make([]byte, min(c.N, 1<<20))
	for c.N > 0 {
		p := buf[:min(c.N, int64(len(buf)))]
		n, err := src.ReadAt(p, c.From)
		if n < len(p) {
			if err == nil || errors.Is(err, io.EOF) {
				err = ErrChanging
			}
			return err
		}
		if _, err := t.WriteAt(p, c.To); err != nil {
			return err
		}
		c = Copy{c.From + int64(n), c.To + int64(n), c.N - int64(n)}
	}
	return nil
}
