package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"sheaf/crdt"
)

func reader(b []byte) *bufio.Reader { return bufio.NewReaderSize(bytes.NewReader(b), 16) }

// samples are one of each message, with their golden encodings.
func samples() []struct {
	msg, zero any
	limit     int
	golden    string
} {
	id := ID{1, 2, 3}
	return []struct {
		msg, zero any
		limit     int
		golden    string
	}{
		{&IndexUp{Subscribe: &Subscribe{Folder: id, Sub: 1, Cursor: 500, Settled: 400, Have: 7}}, &IndexUp{}, MaxIndexUp,
			"21a101a501500102030000000000000000000000000002010319" + "01f4041901900507"},
		{&IndexUp{Unsubscribe: &Unsubscribe{Folder: id}}, &IndexUp{}, MaxIndexUp,
			"15a102a10150" + "01020300000000000000000000000000"},
		{&IndexUp{Progress: &Progress{Folder: id, Applied: 9, Settled: 8, Have: 1}}, &IndexUp{}, MaxIndexUp,
			"1ba103a40150" + "01020300000000000000000000000000" + "020903080401"},
		{&IndexUp{Ping: &Ping{}}, &IndexUp{}, MaxIndexUp, "03a104a0"},
		{&IndexDown{Status: &Status{Folder: id, Sub: 1, State: Open, From: 3}}, &IndexDown{}, MaxIndexDown,
			"1ba101a40150" + "01020300000000000000000000000000" + "020103020403"},
		{&IndexDown{Batch: &Batch{Folder: id, Sub: 1, After: 3, Next: 4, Entries: [][]byte{{0xaa}}, Lists: [][]byte{{0xbb}},
			Heads: HeadsOf(crdt.VersionVector{{Replica: crdt.ReplicaID{6}, Counter: 2}})}}, &IndexDown{}, MaxIndexDown,
			"30a102a70150" + "01020300000000000000000000000000" + "020103030404" + "058141aa" + "068141bb" + "0782480600000000000000" + "8102"},
		{&IndexDown{Ping: &Ping{}}, &IndexDown{}, MaxIndexDown, "03a103a0"},
		{&BlocksUp{Request: &Request{Folder: id, First: 5, Hashes: bytes.Repeat([]byte{9}, 32), Sizes: []uint32{10}, Verify: true}}, &BlocksUp{}, MaxBlocksUp,
			"3fa101a50150" + "01020300000000000000000000000000" + "02050358" + "20" + strings.Repeat("09", 32) + "04810a06f5"},
		{&BlocksUp{Request: &Request{Folder: id, First: 5, Hashes: bytes.Repeat([]byte{9}, 32), Lists: true}}, &BlocksUp{}, MaxBlocksUp,
			"3ca101a40150" + "01020300000000000000000000000000" + "02050358" + "20" + strings.Repeat("09", 32) + "05f5"},
		{&BlocksUp{Cancel: &Cancel{Numbers: []uint64{5, 6}}}, &BlocksUp{}, MaxBlocksUp, "07a102a101820506"},
		{&BlocksDown{Numbers: []uint64{5}, Sizes: []uint32{0}}, &BlocksDown{}, MaxBlocksDown, "0582810581" + "00"},
		{&BlocksDown{Numbers: []uint64{}, Sizes: []uint32{}}, &BlocksDown{}, MaxBlocksDown, "03828080"},
	}
}

// TestGolden holds the format to the byte.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		var out bytes.Buffer
		if err := WriteMsg(&out, s.msg, s.limit); err != nil {
			t.Errorf("%T: %v", s.msg, err)
			continue
		}
		if got := hex.EncodeToString(out.Bytes()); got != s.golden {
			t.Errorf("%+v encodes as\n%s, want\n%s", s.msg, got, s.golden)
		}
		if err := ReadMsg(bufio.NewReader(iotest.OneByteReader(&out)), s.zero, s.limit); err != nil || !reflect.DeepEqual(s.zero, s.msg) {
			t.Errorf("%+v came back as %+v: %v", s.msg, s.zero, err)
		}
	}
}

// Whatever is cut off anywhere is an error, and only the end between frames is
// io.EOF.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, s := range samples() {
		frame, err := AppendMsg(nil, s.msg, s.limit)
		if err != nil {
			t.Fatal(err)
		}
		for n := range frame {
			zero := reflect.New(reflect.TypeOf(s.zero).Elem()).Interface()
			err := ReadMsg(reader(frame[:n]), zero, s.limit)
			if n == 0 && err != io.EOF {
				t.Errorf("the end of a stream gave %v", err)
			}
			if n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%T cut off at %d gave %v", s.msg, n, err)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var size *SizeError
	var out bytes.Buffer
	if err := WriteMsg(&out, make([]byte, 100), 100); !errors.As(err, &size) || size.Size != 102 || out.Len() != 0 {
		t.Errorf("writing too much gave %v", err)
	}
	// A length beyond the limit is refused before anything is read or kept.
	frame := binary.AppendUvarint(nil, 1<<34)
	if err := ReadMsg(reader(frame), new(IndexUp), 1000); !errors.As(err, &size) || size.Size != 1<<34 || size.Max != 1000 {
		t.Errorf("reading too much gave %v", err)
	}
}

// A length within the limit is believed only as bytes come. (Not parallel: it
// counts what the process allocates.)
func TestAnnouncedLength(t *testing.T) {
	frame := append(binary.AppendUvarint(nil, 1<<30), make([]byte, 100)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := ReadFrame(bufio.NewReader(bytes.NewReader(frame)), nil, 1<<30); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("%d bytes were allocated for a frame of 100", got)
	}
}

func TestReadFrameReuses(t *testing.T) {
	t.Parallel()
	frame, _ := AppendMsg(nil, make([]byte, 200<<10), 1<<20)
	buf := make([]byte, 0, 1<<20)
	got, err := ReadFrame(reader(frame), buf, 1<<20)
	if err != nil || &got[0] != &buf[:1][0] {
		t.Errorf("the buffer was not used: %v", err)
	}
	got, err = ReadFrame(reader(frame), nil, 1<<20)
	if err != nil || len(got) != 200<<10+5 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	var format *FormatError
	for name, frame := range map[string][]byte{
		"a length in long form": {0x83, 0x00, 0xa1, 0x04, 0xa0},
		"a length without end":  {0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"two items":             {0x04, 0xa1, 0x04, 0xa0, 0xa0},
		"nothing":               {0x00},
		"no kind":               {0x01, 0xa0},
		"two kinds":             {0x1a, 0xa2, 0x02, 0xa1, 0x01, 0x50, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x04, 0xa0, 0, 0, 0},
		"a kind twice":          {0x05, 0xa2, 0x04, 0xa0, 0x04, 0xa0},
		"an unknown kind":       {0x04, 0xa1, 0x18, 0x63, 0xa0},
		"an indefinite map":     {0x05, 0xbf, 0x04, 0xa0, 0xff, 0x00},
		"a tag":                 {0x04, 0xc1, 0xa1, 0x04, 0xa0},
		"a short ID":            {0x06, 0xa1, 0x02, 0xa1, 0x01, 0x41, 0x01},
		"text for a map":        {0x03, 0x62, 'h', 'i'},
	} {
		if err := ReadMsg(reader(frame), new(IndexUp), MaxIndexUp); !errors.As(err, &format) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDeepNesting(t *testing.T) {
	t.Parallel()
	frame := append(binary.AppendUvarint(nil, 3000), bytes.Repeat([]byte{0x81}, 3000)...)
	var format *FormatError
	if err := ReadMsg(reader(frame), new(any), MaxIndexUp); !errors.As(err, &format) {
		t.Errorf("got %v", err)
	}
}

func TestChecks(t *testing.T) {
	t.Parallel()
	full := func(n int) *Request {
		return &Request{Hashes: make([]byte, 32*n), Sizes: bytes2sizes(n)}
	}
	for name, x := range map[string]struct {
		m  Checker
		ok bool
	}{
		"most requests":      {&BlocksUp{Request: full(MaxRequests)}, true},
		"too many requests":  {&BlocksUp{Request: full(MaxRequests + 1)}, false},
		"most answers":       {&BlocksDown{Numbers: make([]uint64, MaxRequests), Sizes: make([]uint32, MaxRequests)}, true},
		"too many answers":   {&BlocksDown{Numbers: make([]uint64, MaxRequests+1), Sizes: make([]uint32, MaxRequests+1)}, false},
		"too many withdrawn": {&BlocksUp{Cancel: &Cancel{Numbers: make([]uint64, MaxRequests+1)}}, false},
		"a list of a size":   {&BlocksUp{Request: &Request{Hashes: make([]byte, 32), Sizes: []uint32{1}, Lists: true}}, false},
		"too many entries":   {&IndexDown{Batch: &Batch{Entries: make([][]byte, MaxEntries+1)}}, false},
		"too many lists":     {&IndexDown{Batch: &Batch{Lists: make([][]byte, MaxEntries+1)}}, false},
		"an unknown state":   {&IndexDown{Status: &Status{State: 3}}, false},
	} {
		if err := x.m.Check(); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The largest messages fit their frames.
	for _, x := range []struct {
		m     any
		limit int
	}{
		{BlocksUp{Request: full(MaxRequests)}, MaxBlocksUp},
		{BlocksUp{Cancel: &Cancel{Numbers: most(MaxRequests)}}, MaxBlocksUp},
		{BlocksDown{Numbers: most(MaxRequests), Sizes: bytes2sizes(MaxRequests)}, MaxBlocksDown},
	} {
		if _, err := AppendMsg(nil, x.m, x.limit); err != nil {
			t.Errorf("%T: %v", x.m, err)
		}
	}
}

func bytes2sizes(n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = MaxData
	}
	return out
}

func most(n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = 1<<64 - 1
	}
	return out
}

func TestHello(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := WriteHello(&out, Hello{Program: "sheaf 1.0", Store: ID{5}}); err != nil {
		t.Fatal(err)
	}
	h, err := ReadHello(bufio.NewReader(&out))
	if err != nil || h != (Hello{Version: Version, Program: "sheaf 1.0", Store: ID{5}}) {
		t.Fatal(h, err)
	}
	frame := func(v any) *bufio.Reader {
		f, err := AppendMsg(nil, v, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return reader(f)
	}
	// Another version's Hello may hold anything beside the first two fields.
	var version *VersionError
	_, err = ReadHello(frame(map[any]any{1: 2, 2: "sheaf 2.0\n", 3: "no ID", "x": []int{1}}))
	if !errors.As(err, &version) || version.Ours != Version || version.Theirs != 2 {
		t.Fatalf("got %v", err)
	}
	if text := err.Error(); !strings.Contains(text, "version 2 of /sheaf/index") || !strings.Contains(text, "version 1") || strings.Contains(text, "\n") {
		t.Errorf("the text names not both: %s", text)
	}
	var format *FormatError
	for _, bad := range []any{map[any]any{1: 1, 2: "x", 3: "no ID"}, map[any]any{1: 1, 2: "x", 9: 9}, map[any]any{1: 1, 2: strings.Repeat("x", 300)}, 5, map[any]any{1: "one"}} {
		if _, err := ReadHello(frame(bad)); !errors.As(err, &format) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestHeads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var v crdt.VersionVector
		for i := range rapid.IntRange(0, 20).Draw(t, "replicas") {
			v = v.With(crdt.Dot{Replica: crdt.ReplicaID{byte(rapid.IntRange(0, 9).Draw(t, "id")), byte(i)}, Counter: rapid.Uint64Min(1).Draw(t, "counter")})
		}
		back, err := HeadsOf(v).Vector()
		if err != nil || len(back) != len(v) || !back.Includes(v) || !v.Includes(back) {
			t.Fatalf("%v came back as %v: %v", v, back, err)
		}
	})
	for name, h := range map[string]Heads{
		"zero":     {Replicas: make([]byte, 8), Counters: []uint64{0}},
		"twice":    {Replicas: make([]byte, 16), Counters: []uint64{1, 1}},
		"odd":      {Replicas: make([]byte, 9), Counters: []uint64{1}},
		"too many": {Replicas: make([]byte, 8*(MaxHeads+1)), Counters: make([]uint64, MaxHeads+1)},
	} {
		if _, err := h.Vector(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzRead feeds bytes to every message's reader. What is taken must encode
// and read back to the same message.
func FuzzRead(f *testing.F) {
	for _, s := range samples() {
		frame, err := AppendMsg(nil, s.msg, s.limit)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	for _, s := range archiveSamples() {
		frame, err := AppendMsg(nil, s.msg, MaxArchiveUp)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte{0x06, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, x := range []struct {
			new   func() any
			limit int
		}{
			{func() any { return new(IndexUp) }, MaxIndexUp},
			{func() any { return new(IndexDown) }, MaxIndexDown},
			{func() any { return new(BlocksUp) }, MaxBlocksUp},
			{func() any { return new(BlocksDown) }, MaxBlocksDown},
			{func() any { return new(ArchiveUp) }, MaxArchiveUp},
			{func() any { return new(ArchiveDown) }, MaxArchiveDown},
			{func() any { return new(HostUp) }, MaxHost},
			{func() any { return new(HostDown) }, MaxHost},
		} {
			m := x.new()
			if ReadMsg(reader(data), m, x.limit) != nil {
				continue
			}
			frame, err := AppendMsg(nil, m, x.limit)
			if err != nil {
				t.Fatalf("%+v was read but does not encode: %v", m, err)
			}
			again := x.new()
			if err := ReadMsg(reader(frame), again, x.limit); err != nil {
				t.Fatalf("%+v does not read back: %v", m, err)
			}
			if second, _ := AppendMsg(nil, again, x.limit); !bytes.Equal(frame, second) {
				t.Fatalf("%+v reads back as %+v", m, again)
			}
			if d, ok := m.(*IndexDown); ok && d.Batch != nil {
				if v, err := d.Batch.Heads.Vector(); err == nil && !reflect.DeepEqual(HeadsOf(v).Counters, d.Batch.Heads.Counters) && len(v) > 0 {
					t.Fatal("heads changed")
				}
			}
		}
	})
}

func FuzzHello(f *testing.F) {
	var out bytes.Buffer
	if err := WriteHello(&out, Hello{Program: "sheaf 1.0", Store: ID{5}}); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte{0x05, 0xa2, 0x01, 0x02, 0x02, 0x60})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := ReadHello(reader(data))
		if err == nil && (h.Version != Version || len(h.Program) > maxProgram) {
			t.Fatalf("took %+v", h)
		}
	})
}
