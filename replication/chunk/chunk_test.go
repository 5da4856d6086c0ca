package chunk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ipfs/go-cid"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noise gives n pseudorandom bytes.
func noise(seed byte, n int) []byte {
	out := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(out)
	return out
}

func chunker(t testing.TB, key byte) *Chunker {
	t.Helper()
	c, err := New([32]byte{key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// split splits and checks that blocks and list say the same as the bytes.
func split(t testing.TB, c *Chunker, data []byte) List {
	t.Helper()
	var joined []byte
	var seen List
	size, list, err := c.Split(bytes.NewReader(data), func(b Block, part []byte) error {
		if Sum(part) != b.Hash || len(part) != int(b.Size) {
			t.Fatalf("block %d is not its bytes", len(seen))
		}
		joined = append(joined, part...)
		seen = append(seen, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if size != int64(len(data)) || list.Size() != size || !bytes.Equal(joined, data) {
		t.Fatalf("split of %d bytes gave %d, list of %d, joined %d", len(data), size, list.Size(), len(joined))
	}
	for i := range list {
		if list[i] != seen[i] {
			t.Fatalf("block %d of the list is not the one given", i)
		}
		if i < len(list)-1 && list[i].Size < MinBlock || list[i].Size > MaxBlock {
			t.Fatalf("block %d of %d has %d bytes", i, len(list), list[i].Size)
		}
	}
	return list
}

func TestSplitSizes(t *testing.T) {
	t.Parallel()
	c := chunker(t, 1)
	data := noise(1, 9<<20)
	for _, n := range []int{0, 1, 4095, MinBlock - 1, MinBlock, MinBlock + 1, 2*MinBlock - 1, 2 * MinBlock, 2*MinBlock + 1, 512 << 10, 2 << 20, 2<<20 + 1, 4 << 20, 9 << 20} {
		list := split(t, c, data[:n])
		switch {
		case n == 0 && len(list) != 0:
			t.Errorf("an empty file has %d blocks", len(list))
		case n > 0 && n <= MinBlock && len(list) != 1:
			t.Errorf("a file of %d bytes has %d blocks", n, len(list))
		case n > 512<<10 && len(list) < 2:
			t.Errorf("a file of %d bytes has %d blocks", n, len(list))
		}
		if len(list) < 2 && list.Content() != sha256.Sum256(data[:n]) {
			t.Errorf("the content hash of %d bytes is not their hash", n)
		}
		if len(list) > 1 && list.Content() != sha256.Sum256(list.Encode()) {
			t.Errorf("the content hash of %d bytes is not their list's", n)
		}
	}
}

// Where the cuts fall depends on the bytes and the key, not on how they come.
func TestSplitDeterministic(t *testing.T) {
	t.Parallel()
	data := noise(2, 5<<20)
	want := split(t, chunker(t, 1), data).Content()
	for name, r := range map[string]io.Reader{
		"half reads":    iotest.HalfReader(bytes.NewReader(data)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(data)),
	} {
		_, list, err := chunker(t, 1).Split(r, nil)
		if err != nil || list.Content() != want {
			t.Errorf("%s: %v, or other cuts", name, err)
		}
	}
	if split(t, chunker(t, 2), data).Content() == want {
		t.Error("another key, the same cuts")
	}
	other := map[Hash]bool{}
	for _, b := range split(t, chunker(t, 2), data) {
		other[b.Hash] = true
	}
	same := 0
	for _, b := range split(t, chunker(t, 1), data) {
		if other[b.Hash] {
			same++
		}
	}
	if same > 1 {
		t.Errorf("%d blocks under both keys", same)
	}
}

// An edit changes the blocks it touches and few others.
func TestEditsAreLocal(t *testing.T) {
	t.Parallel()
	c := chunker(t, 3)
	inputs := [][]byte{noise(0, 2<<20), noise(1, 2<<20), noise(2, 2<<20)}
	rapid.Check(t, func(t *rapid.T) {
		data := inputs[rapid.IntRange(0, len(inputs)-1).Draw(t, "seed")]
		at := rapid.IntRange(0, len(data)).Draw(t, "at")
		cut := min(rapid.IntRange(0, 100_000).Draw(t, "removed"), len(data)-at)
		ins := noise(9, rapid.IntRange(0, 100_000).Draw(t, "inserted"))
		edited := append(append(bytes.Clone(data[:at]), ins...), data[at+cut:]...)
		before, err1 := list(c, data)
		after, err2 := list(c, edited)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		known := map[Hash]bool{}
		for _, b := range before {
			known[b.Hash] = true
		}
		fresh := 0
		for _, b := range after {
			if !known[b.Hash] {
				fresh += int(b.Size)
			}
		}
		// Usually one or two blocks; on a bad day cuts take a while to meet again.
		if fresh > len(ins)+2<<20 {
			t.Fatalf("%d fresh bytes for an edit of %d", fresh, len(ins)+cut)
		}
	})
}

func list(c *Chunker, data []byte) (List, error) {
	_, l, err := c.Split(bytes.NewReader(data), nil)
	return l, err
}

// Bytes without any variety have no cut in them, or only cuts.
func TestMonotone(t *testing.T) {
	t.Parallel()
	c := chunker(t, 4)
	for _, v := range []byte{0, 1, 0xff} {
		list := split(t, c, bytes.Repeat([]byte{v}, 5<<20))
		if len(list) > 5<<20/MinBlock {
			t.Errorf("%d blocks of %#x", len(list), v)
		}
	}
}

// The stages hold the list of the longest files within its bound.
func TestStages(t *testing.T) {
	t.Parallel()
	c := chunker(t, 5)
	for _, x := range []struct {
		offset int64
		stage  int
	}{{0, 0}, {4<<30 - 1, 0}, {4 << 30, 1}, {8<<30 - 1, 1}, {8 << 30, 2}, {16 << 30, 3}, {32 << 30, 4}, {64 << 30, 5}, {1 << 50, 5}} {
		if c.at(x.offset) != &c.stage[x.stage] {
			t.Errorf("offset %d is not in stage %d", x.offset, x.stage)
		}
	}
	if m := c.stage[stages-1].most(); m != MaxBlock {
		t.Errorf("the longest block has %d bytes", m)
	}
	// A file of blocks as short as they come.
	var offset int64
	encoded := 0
	for {
		least := c.at(offset).opts.MinSize
		n := blockLen(uint32(least))
		if encoded+n > MaxList {
			break
		}
		encoded += n
		offset += int64(least)
	}
	if offset < 1400<<30 {
		t.Errorf("MaxList holds no more than %d GiB in the worst case", offset>>30)
	}
	t.Logf("at least %d GiB", offset>>30)
	// A gigabyte's list, as the budget for one insertion counts it.
	if got := blockLen(160<<10) * (1 << 30) / (160 << 10); got > 1<<20 {
		t.Errorf("the list of 1 GiB has %d bytes", got)
	}
}

// A reader that is nearly endless but costs no memory.
type virtual struct{ left int64 }

func (v *virtual) Read(p []byte) (int, error) {
	if v.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), v.left))
	v.left -= int64(n)
	return n, nil // whatever is in p
}

func TestSplitErrors(t *testing.T) {
	t.Parallel()
	c := chunker(t, 6)
	boom := errors.New("boom")
	for _, n := range []int64{10, 3 << 20, 20 << 20} {
		_, l, err := c.Split(io.MultiReader(&virtual{n}, iotest.ErrReader(boom)), nil)
		if !errors.Is(err, boom) || l != nil {
			t.Errorf("a reader's error after %d bytes gave %v", n, err)
		}
		_, l, err = c.Split(&virtual{n}, func(Block, []byte) error { return boom })
		if !errors.Is(err, boom) || l != nil {
			t.Errorf("fn's error gave %v", err)
		}
	}
}

// TestGolden holds the format: a change of any cut or hash would make devices
// of two versions share nothing.
func TestGolden(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/golden.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, key := range []byte{0, 7} {
		for _, n := range []int{0, 1, MinBlock, MinBlock + 1, 1 << 20, 7 << 20} {
			l := split(t, chunker(t, key), noise(42, n))
			content := l.Content()
			fmt.Fprintf(&got, "key %d size %d content %s\n", key, n, hex.EncodeToString(content[:]))
			for _, b := range l {
				fmt.Fprintf(&got, "\t%d %s\n", b.Size, b.Hash)
			}
		}
	}
	// Later stages, by their cutters alone.
	for i := range stages {
		c := chunker(t, 7)
		fmt.Fprintf(&got, "stage %d cuts at", i)
		data := noise(43, 12<<20)
		for range 3 {
			n := c.stage[i].cut(data)
			fmt.Fprintf(&got, " %d", n)
			data = data[n:]
			if len(data) == 0 {
				break
			}
		}
		fmt.Fprintln(&got)
	}
	if os.Getenv("SHEAF_GOLDEN") != "" {
		if err := os.WriteFile("testdata/golden.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got.String() != string(data) {
		t.Errorf("cuts or hashes have changed:\n%s", got.String())
	}
}

func TestCID(t *testing.T) {
	t.Parallel()
	got := Sum([]byte("hello")).CID()
	want, err := cid.V1Builder{Codec: cid.Raw, MhType: 0x12}.Sum([]byte("hello"))
	if err != nil || !got.Equals(want) {
		t.Errorf("%s, want %s (%v)", got, want, err)
	}
}

func TestListRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var l List
		for _, s := range rapid.SliceOf(rapid.Uint32Range(1, MaxBlock)).Draw(t, "sizes") {
			l = append(l, Block{Hash: Sum([]byte{byte(s)}), Size: s})
		}
		data := l.Encode()
		if len(data) != l.EncodedSize() {
			t.Fatalf("%d bytes, EncodedSize says %d", len(data), l.EncodedSize())
		}
		back, err := DecodeList(data, l.Size())
		if err != nil || len(back) != len(l) {
			t.Fatalf("%v: %v", back, err)
		}
		for i := range l {
			if l[i] != back[i] {
				t.Fatalf("block %d", i)
			}
		}
		if _, err := DecodeList(data, l.Size()+1); err == nil {
			t.Fatal("taken for another size")
		}
		if len(data) > 0 {
			if _, err := DecodeList(data[:len(data)-1], l.Size()); err == nil {
				t.Fatal("taken cut off")
			}
		}
	})
}

func TestDecodeListRefuses(t *testing.T) {
	t.Parallel()
	h := bytes.Repeat([]byte{5}, 32)
	for name, x := range map[string]struct {
		data []byte
		size int64
	}{
		"a size of zero":         {append([]byte{0}, h...), 0},
		"a long form of a size":  {append([]byte{0x81, 0}, h...), 1},
		"a block too long":       {append([]byte{0x81, 0x80, 0x80, 4}, h...), MaxBlock + 1},
		"a varint without end":   {bytes.Repeat([]byte{0xff}, 40), 1},
		"a hash cut off":         {append([]byte{1}, h[:31]...), 1},
		"a negative size":        {nil, -1},
		"nothing for something":  {nil, 1},
		"something for nothing":  {append([]byte{1}, h...), 0},
		"more than the file has": {append(append([]byte{1}, h...), append([]byte{1}, h...)...), 1},
		"too long":               {make([]byte, MaxList+1), 1},
	} {
		var bad *ListError
		if l, err := DecodeList(x.data, x.size); !errors.As(err, &bad) {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

func FuzzDecodeList(f *testing.F) {
	h := bytes.Repeat([]byte{5}, 32)
	f.Add([]byte{}, int64(0))
	f.Add(append([]byte{1}, h...), int64(1))
	f.Add(append(append([]byte{0x80, 0x80, 8}, h...), append([]byte{9}, h...)...), int64(128<<10+9))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, int64(1))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		l, err := DecodeList(data, size)
		if err != nil {
			return
		}
		if !bytes.Equal(l.Encode(), data) || l.Size() != size {
			t.Fatalf("accepted what Encode does not give")
		}
	})
}

// TestTooLong shortens the limit by way of a splitter that is nearly there.
func TestTooLong(t *testing.T) {
	t.Parallel()
	s := splitter{chunker: chunker(t, 1), r: bytes.NewReader(noise(1, 4<<20)), long: MaxList - 100}
	err := s.run()
	s.stop()
	if !errors.Is(err, ErrTooLong) {
		t.Errorf("got %v", err)
	}
}

// TestFrontInsertion is the budget: 1 KiB before 1 GiB costs at most 2 MiB on
// the wire, list included. It runs on 128 MiB, the list scaled up.
func TestFrontInsertion(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("reads 256 MiB")
	}
	c := chunker(t, 8)
	data := noise(7, 128<<20)
	before, err := list(c, data)
	if err != nil {
		t.Fatal(err)
	}
	_, after, err := c.Split(io.MultiReader(bytes.NewReader(noise(8, 1024)), bytes.NewReader(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	known := map[Hash]bool{}
	for _, b := range before {
		known[b.Hash] = true
	}
	fresh := 0
	for _, b := range after {
		if !known[b.Hash] {
			fresh += int(b.Size)
		}
	}
	wire := fresh + 8*after.EncodedSize()
	t.Logf("%d KiB of blocks, %d KiB of list for 1 GiB", fresh>>10, 8*after.EncodedSize()>>10)
	if wire > 2<<20 {
		t.Errorf("%d bytes on the wire", wire)
	}
}
