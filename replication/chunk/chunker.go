package chunk

import (
	"errors"
	"fmt"
	"math/bits"

	cdc "github.com/PlakarKorp/go-cdc-chunkers"
	"github.com/PlakarKorp/go-cdc-chunkers/chunkers/fastcdc"
)

// The stages of cutting. A block's stage follows from the offset at which it
// starts: the first stage holds below stageSpan, and each later one from there
// to twice the offset, with blocks twice as long, up to the last.
//
// Stages keep lists short without anybody knowing a file's size beforehand: a
// file that grows past a border keeps all its blocks, and an insertion of n
// bytes re-cuts only about n bytes at each border.
//
// With blocks of 128 KiB and more below 4 GiB, doubling to 4 MiB and more from
// 64 GiB on, MaxList holds any file up to 1.4 TiB, and one of ordinary content
// up to about 1.8 TiB.
const (
	stageSpan = 4 << 30
	stages    = 6
)

// A Chunker cuts content into blocks. It holds no state of any file and is
// safe for concurrent use.
type Chunker struct {
	stage [stages]cutter
}

// A cutter finds the end of one block.
type cutter struct {
	gear *fastcdc.FastCDC
	opts cdc.ChunkerOpts
}

// New gives the Chunker of a key. Equal keys cut equally, on every device and
// in every version of Sheaf; boundaries under different keys are unrelated.
//
// The algorithm is the gear hash of FastCDC (Xia et al., USENIX ATC 2016) with
// a keyed table, without its normalised chunking: a block is at least min
// bytes, then ends at the first byte after which the hash's masked bits are
// all zero, which one byte in min/4 is, and at max at the latest. So the mean
// is 1.25 min, and four fifths of the bytes need no hashing. Measured against
// the alternatives in BenchmarkAlgorithms.
func New(key [32]byte) (*Chunker, error) {
	c := &Chunker{}
	for i := range c.stage {
		least := MinBlock << i
		// The table and the mask follow from the key and NormalSize; the
		// zero FastCDC uses one mask for the whole block.
		opts := cdc.ChunkerOpts{MinSize: least, NormalSize: least / 4, MaxSize: min(4*least, MaxBlock), Key: key[:]}
		gear := new(fastcdc.FastCDC)
		if err := gear.Setup(&opts); err != nil {
			return nil, fmt.Errorf("set up the chunker: %w", err)
		}
		opts.Key = nil // the table stands for it from here on
		c.stage[i] = cutter{gear: gear, opts: opts}
	}
	return c, nil
}

// at gives the cutter of a block that starts at offset.
func (c *Chunker) at(offset int64) *cutter {
	return &c.stage[min(bits.Len64(uint64(offset)/stageSpan), stages-1)]
}

// cut gives the length of the block at the start of data, which holds at least
// the longest block unless the content ends with it. It is never zero for
// data that is not empty.
func (c *cutter) cut(data []byte) int {
	return c.gear.Algorithm(&c.opts, data, min(len(data), c.opts.MaxSize))
}

// most is the longest block that c cuts.
func (c *cutter) most() int { return c.opts.MaxSize }

// ErrTooLong is the error for a file whose list would exceed MaxList.
var ErrTooLong = errors.New("file too long: its block list would exceed 16 MiB")
