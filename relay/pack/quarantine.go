package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// quarantineDir holds what did not verify: blocks as PACK-OFFSET-DIGEST.block, parts of
// packs without any record that verifies as PACK-OFFSET.bytes. Nobody reads or removes them but an operator.
const quarantineDir = "quarantine"

// quarantine keeps the bytes of a block that does not verify, and then says
// durably that it is gone. It always gives an error, a CorruptError. If the block could not be
// kept aside it counts as not there until the store is opened again.
// The caller has entered.
func (s *Store) quarantine(ctx context.Context, d digest, at place, data []byte) error {
	s.table.doubt(d, at, true)
	corrupt := &CorruptError{CID: d.cid(), Offset: int64(at.offset)}
	if p := s.pack(at.pack); p != nil {
		corrupt.Pack = p.name()
	}
	s.log.Error("a block is broken", "err", corrupt)
	name := fmt.Sprintf("%08x-%08x-%x.block", at.pack, at.offset, d)
	err := s.keepAside(name, func(f file) error {
		_, err := f.WriteAt(data, 0)
		return err
	})
	if err == nil {
		_, err = s.submit(ctx, []op{{do: giveUp, digest: d, from: at}})
	}
	if err != nil {
		s.log.Warn("a broken block could not be put in quarantine; it stays in its pack", "block", corrupt.CID, "err", err)
	}
	return corrupt
}

// keepAside writes a file in quarantine, durably.
func (s *Store) keepAside(name string, write func(file) error) error {
	s.quarantined.Lock()
	defer s.quarantined.Unlock()
	path := quarantineDir + "/" + name
	f, err := s.fs.Create(path)
	if err != nil {
		return fmt.Errorf("begin %s: %w", path, err)
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.fs.SyncDir(quarantineDir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// keepGap keeps a part of a pack in which no record verifies.
func (s *Store) keepGap(id uint32, gap stretch) error {
	s.log.Warn("part of a pack cannot be read; it goes to quarantine", "pack", id, "from", gap.from, "to", gap.to)
	return s.readPack(id, func(_ *pack, from file) error {
		return s.keepAside(fmt.Sprintf("%08x-%08x.bytes", id, gap.from), func(to file) error {
			b := make([]byte, min(gap.to-gap.from, 1<<20))
			for at := gap.from; at < gap.to; {
				n, err := from.ReadAt(b[:min(int64(len(b)), gap.to-at)], at)
				if _, werr := to.WriteAt(b[:n], at-gap.from); werr != nil {
					return werr
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				at += int64(n)
			}
			return nil
		})
	})
}
