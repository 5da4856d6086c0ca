package pack

import (
	"bytes"
	"errors"
	"testing"
)

var fuzzMarker = marker{1, 2, 3, 4, 5, 6, 7, 8}

// fuzzPack is a pack of a few records, with a footer.
func fuzzPack() (whole []byte, rows []entry) {
	p := &pack{id: 7, marker: fuzzMarker}
	b := p.header()
	for n := range uint64(4) {
		x := blockOf(n, int(n*60))
		d, _ := digestOf(x.Cid())
		k, data := kindBlock, x.RawData()
		if n == 2 {
			k, data = kindGone, nil
		}
		rows = append(rows, entry{digest: d, offset: uint32(len(b)), length: uint32(len(data)), kind: k})
		b = appendRecord(b, fuzzMarker, k, d, data)
	}
	return append(b, encodeFooter(7, fuzzMarker, int64(len(b)), rows)...), rows
}

// FuzzScan: whatever a pack holds, the records that are found verify, stand one
// behind the other, and what lies between is told.
func FuzzScan(f *testing.F) {
	whole, rows := fuzzPack()
	f.Add(whole)
	f.Add(whole[:rows[3].offset+100])
	f.Add(append(bytes.Clone(whole[:40]), whole...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := scan(bytes.NewReader(data), int64(len(data)), fuzzMarker)
		if err != nil {
			t.Fatal(err)
		}
		end := int64(packHeader)
		for _, e := range s.rows {
			if int64(e.offset) < end || e.end() > int64(len(data)) {
				t.Fatalf("record %+v behind %d", e, end)
			}
			if e.kind == kindBlock && !e.digest.of(data[e.offset+recordHeader:e.end()]) {
				t.Fatalf("record %+v does not verify", e)
			}
			end = e.end()
		}
		if s.end != end {
			t.Fatalf("the end is %d, not %d", s.end, end)
		}
		if got := between(s.rows, s.end); len(got) != len(s.broken) {
			t.Fatalf("between the records: %v, and %v", got, s.broken)
		}
	})
}

// FuzzFooter: a footer that is taken says what it says once more, and stands for
// records that can be.
func FuzzFooter(f *testing.F) {
	whole, _ := fuzzPack()
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, at, err := readFooter(bytes.NewReader(data), int64(len(data)), 7, fuzzMarker)
		if err != nil {
			if !errors.Is(err, errNoFooter) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(encodeFooter(7, fuzzMarker, at, rows), data[at:]) {
			t.Fatal("a footer was read that is not written so")
		}
		for _, e := range rows {
			if e.end() > at || e.length > MaxBlock {
				t.Fatalf("%+v before %d", e, at)
			}
		}
	})
}
