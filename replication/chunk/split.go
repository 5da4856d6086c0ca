package chunk

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// How Split works through long content. Small files stay on the caller's
// goroutine and one small buffer.
const (
	slabBlocks = 4 // a slab holds this many blocks of the longest kind in the first stage
	slabs      = 3 // in use at once: one being filled, the others being hashed
	maxHashers = 8 // goroutines that hash for one Split
)

// Split reads r to its end, cuts it, and calls fn for each block in order,
// with its bytes, which are valid during the call only. It gives the number of
// bytes read and their list. r and fn are called on the caller's goroutine;
// hashing of content longer than a few blocks uses all cores. Split uses up to
// 6 MiB below 4 GiB of content, rising to 48 MiB from 64 GiB on.
//
// An error of r or fn ends it and is returned wrapped; so does ErrTooLong.
// What fn was called for until then is right, but no list of the file.
// fn may be nil.
func (c *Chunker) Split(r io.Reader, fn func(b Block, data []byte) error) (size int64, list List, err error) {
	s := splitter{chunker: c, r: r, fn: fn}
	defer s.stop()
	if err := s.run(); err != nil {
		return 0, nil, err
	}
	return s.size, s.list, nil
}

// A slab is a buffer that blocks being hashed lie in.
type slab struct {
	buf  []byte
	wait int // blocks in it that fn has not had
}

// A piece is a block on its way through hashing.
type piece struct {
	in   *slab
	data []byte
	hash Hash
	done sync.WaitGroup
}

// A splitter is one run of Split.
type splitter struct {
	chunker *Chunker
	r       io.Reader
	fn      func(Block, []byte) error

	size int64 // bytes cut so far
	list List
	long int // encoded length of list

	all     []*slab
	free    []*slab
	pending []*piece // oldest first
	work    chan *piece
	hashers sync.WaitGroup
}

var slabPool = sync.Pool{New: func() any { return &slab{buf: make([]byte, slabBlocks*4*MinBlock)} }}

func (s *splitter) run() error {
	cur, err := s.slab(s.chunker.at(0).most())
	if err != nil {
		return err
	}
	have, eof := 0, false
	for {
		if !eof {
			n, err := io.ReadFull(s.r, cur.buf[have:])
			have += n
			if eof = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF); err != nil && !eof {
				return fmt.Errorf("read content at %d: %w", s.size+int64(have), err)
			}
		}
		rest := cur.buf[:have]
		single := s.size == 0 && eof && len(rest) <= 2*MinBlock
		for len(rest) > 0 {
			cut := s.chunker.at(s.size)
			if len(rest) < cut.most() && !eof {
				break
			}
			n := cut.cut(rest)
			if err := s.add(&piece{in: cur, data: rest[:n:n]}, single); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if eof {
			return s.drain(0)
		}
		next, err := s.slab(s.chunker.at(s.size).most())
		if err != nil {
			return err
		}
		have = copy(next.buf, rest)
		cur = next
	}
}

// add takes a cut piece into the list and has it hashed, here and now for the
// few blocks of a short file.
func (s *splitter) add(p *piece, here bool) error {
	if s.long += blockLen(uint32(len(p.data))); s.long > MaxList {
		return ErrTooLong
	}
	s.size += int64(len(p.data))
	p.in.wait++
	s.pending = append(s.pending, p)
	if here {
		p.hash = Sum(p.data)
		return s.drain(0)
	}
	if s.work == nil {
		s.start()
	}
	p.done.Add(1)
	s.work <- p // waits while all hashers are busy and the queue is full
	return nil
}

// drain hands the oldest pieces to fn until no more than leave are pending.
func (s *splitter) drain(leave int) error {
	for len(s.pending) > leave {
		p := s.pending[0]
		p.done.Wait()
		b := Block{Hash: p.hash, Size: uint32(len(p.data))}
		s.list = append(s.list, b)
		if s.fn != nil {
			if err := s.fn(b, p.data); err != nil {
				return fmt.Errorf("take block %d: %w", len(s.list)-1, err)
			}
		}
		if p.in.wait--; p.in.wait == 0 {
			s.free = append(s.free, p.in)
		}
		s.pending[0] = nil
		s.pending = s.pending[1:]
	}
	return nil
}

// slab gives a slab that no pending piece lies in and that holds at least two
// blocks of most bytes, draining pieces when all are in use.
func (s *splitter) slab(most int) (*slab, error) {
	for len(s.free) == 0 && len(s.all) >= slabs {
		if err := s.drain(len(s.pending) - 1); err != nil {
			return nil, err
		}
	}
	var b *slab
	if n := len(s.free); n > 0 {
		b, s.free = s.free[n-1], s.free[:n-1]
	} else {
		b = slabPool.Get().(*slab)
		s.all = append(s.all, b)
	}
	if len(b.buf) < 2*most {
		b.buf = make([]byte, 2*most)
	}
	return b, nil
}

func (s *splitter) start() {
	n := min(runtime.GOMAXPROCS(0), maxHashers)
	s.work = make(chan *piece, slabs*slabBlocks)
	for range n {
		s.hashers.Go(func() {
			for p := range s.work {
				p.hash = Sum(p.data)
				p.done.Done()
			}
		})
	}
}

// stop ends the hashers and gives the slabs back.
func (s *splitter) stop() {
	if s.work != nil {
		close(s.work)
		s.hashers.Wait()
	}
	for _, b := range s.all {
		if len(b.buf) == slabBlocks*4*MinBlock {
			b.wait = 0
			slabPool.Put(b)
		}
	}
}
