package store

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/journal"
	"pgregory.net/rapid"

	"sheaf/crdt"
	"sheaf/node/stat"
)

// seedRows gives rows of every shape that a history makes.
func seedRows(t testing.TB) map[crdt.EntryID][]byte {
	h := newHistory(t, 11, 2)
	must(t, h.run(t, 60, false))
	rows := make(map[crdt.EntryID][]byte)
	for _, d := range h.devices {
		must(t, d.f.Read(func(r *Reader) error {
			return r.view.scan(d.f.n.key(tabRow, 0), nil, func(k, v []byte) (bool, error) {
				id, _ := lastID(k)
				rows[id] = bytes.Clone(v)
				return true, nil
			})
		}))
	}
	return rows
}

// FuzzRow: no value makes a row's reader panic, and what it takes it gives back.
func FuzzRow(f *testing.F) {
	for id, v := range seedRows(f) {
		f.Add(id[:], v)
	}
	f.Fuzz(func(t *testing.T, key, data []byte) {
		var id crdt.EntryID
		copy(id[:], key)
		r, err := decodeRow(id, data)
		if err != nil {
			return
		}
		facts, err := derive(r)
		if err != nil {
			return
		}
		enc, err := r.encode()
		if err != nil {
			return
		}
		again, err := decodeRow(id, enc)
		if err != nil {
			t.Fatalf("%x became %x: %v", data, enc, err)
		}
		if same, err := derive(again); err != nil || !reflect.DeepEqual(same, facts) {
			t.Fatalf("%x became %x: facts %+v, were %+v (%v)", data, enc, same, facts, err)
		}
	})
}

// FuzzNameAndMeta: the small rows.
func FuzzNameAndMeta(f *testing.F) {
	n := nameRow{linked: true, based: true, name: "e\u0301", stat: stat.Stat{Kind: stat.File, Size: 7, Links: 1}}
	f.Add(n.encode())
	f.Add(meta{counter: 1, seq: 2, commit: 3, stats: Stats{Files: 4}, behind: 5}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := decodeName(data); err == nil {
			if again, err := decodeName(n.encode()); err != nil || again != n {
				t.Fatalf("%x is %+v, then %+v (%v)", data, n, again, err)
			}
		}
		if m, err := decodeMeta(data); err == nil {
			if again, err := decodeMeta(m.encode()); err != nil || again != m {
				t.Fatalf("%x is %+v, then %+v (%v)", data, m, again, err)
			}
		}
	})
}

func TestStatRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := stat.Stat{
			Kind: stat.Kind(rapid.Uint8().Draw(t, "kind")), Mode: rapid.Uint32().Draw(t, "mode"), Size: rapid.Int64().Draw(t, "size"),
			Modified: rapid.Int64().Draw(t, "modified"), Changed: rapid.Int64().Draw(t, "changed"), Born: rapid.Int64().Draw(t, "born"),
			Inode: rapid.Uint64().Draw(t, "inode"), Device: rapid.Uint64().Draw(t, "device"), Links: rapid.Uint32().Draw(t, "links"),
		}
		d := reading{b: appendStat(nil, s)}
		if got := d.stat(); d.end() != nil || got != s {
			t.Fatalf("%v became %v", s, got)
		}
	})
}

// logOf writes records as the database does, and tells where each ends.
func logOf(t testing.TB, records [][]byte) (data []byte, ends []int) {
	var buf bytes.Buffer
	w := journal.NewWriter(&buf)
	for _, r := range records {
		c, err := w.Next()
		must(t, err)
		_, err = c.Write(r)
		must(t, err)
		must(t, w.Flush())
		ends = append(ends, buf.Len())
	}
	return buf.Bytes(), ends
}

// TestScanLog: a log that is cut anywhere is known as cut, with the last whole
// record before it; one bit flipped is never taken for whole, and, except in
// what looks like the length of an unfinished last record, never for cut.
func TestScanLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		rnd := seeded(rapid.Uint64().Draw(rt, "seed"))
		var records [][]byte
		for range 1 + rnd.IntN(6) {
			r := make([]byte, 1+rnd.IntN([]int{100, 3000, 80_000}[rnd.IntN(3)]))
			_, _ = randBytes{rnd}.Read(r)
			records = append(records, r)
		}
		data, ends := logOf(t, records)
		if end, state := scanLog(data); state != logWhole || end != len(data) {
			rt.Fatalf("a good log of %d bytes is %d up to %d", len(data), state, end)
		}
		at := rnd.IntN(len(data))
		last := 0
		for _, e := range ends {
			if e <= at {
				last = e
			}
		}
		end, state := scanLog(data[:at])
		padding := at - last // of a block that no header fits into: nothing is missing
		if whole := state == logWhole && end == last && (padding == 0 || padding < logHeader); !whole && (state != logCut || end != last) {
			rt.Fatalf("cut at %d after a record's end at %d it is %d up to %d", at, last, state, end)
		}
		// The file is longer than what came to be written.
		filled := append(bytes.Clone(data[:at]), make([]byte, sector+rnd.IntN(5000))...)
		if end, state := scanLog(filled); state != logCut && state != logWhole || end != last {
			rt.Fatalf("cut at %d and filled up it is %d up to %d, must be cut up to %d", at, state, end, last)
		}
		flipped := bytes.Clone(data)
		flipped[at] ^= 1 << rnd.IntN(8)
		end, state = scanLog(flipped)
		inLast := len(ends) == 1 || at >= ends[len(ends)-2]
		switch {
		case state == logWhole && end == len(data) && isPadding(data, ends, at):
		case state == logWhole:
			rt.Fatalf("a bit flipped at %d of %d is not seen", at, len(data))
		case end > at:
			rt.Fatalf("a bit flipped at %d is said to be after %d", at, end)
		case !inLast && state != logHoled:
			rt.Fatalf("a bit flipped at %d of %d, before other records: %d", at, len(data), state)
		}
	})
}

// isPadding: the rest of a block that no header fits into is not read.
func isPadding(_ []byte, _ []int, at int) bool { return logBlock-at%logBlock < logHeader }

// FuzzScanLog: it never panics, and what it keeps the library reads strictly.
func FuzzScanLog(f *testing.F) {
	data, _ := logOf(f, [][]byte{[]byte("one"), bytes.Repeat([]byte("two"), 11_000), []byte("three")})
	f.Add(data)
	f.Add(data[:len(data)-5])
	f.Fuzz(func(t *testing.T, data []byte) {
		end, state := scanLog(data)
		if state == logWhole {
			end = len(data)
		}
		r := journal.NewReader(bytes.NewReader(data[:end]), nil, true, true)
		for {
			rec, err := r.Next()
			if err == io.EOF {
				return
			}
			if err == nil {
				_, err = io.Copy(io.Discard, rec)
			}
			if err != nil {
				t.Fatalf("of %x the first %d bytes (%d) are not a log: %v", data, end, state, err)
			}
		}
	})
}
