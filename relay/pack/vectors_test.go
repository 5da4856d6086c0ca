package pack

import (
	"bytes"
	"slices"
	"testing"
)

// TestFormat: what is written is what the package's description says, and is read
// so again; a block that has within it what looks like a record is just a block.
func TestFormat(t *testing.T) {
	t.Parallel()
	whole, rows := fuzzPack()
	if string(whole[:8]) != "sheafpak" || !bytes.Equal(whole[8:24], append([]byte{0, 0, 0, 1, 0, 0, 0, 7}, fuzzMarker[:]...)) {
		t.Errorf("header %x", whole[:packHeader])
	}
	r := whole[rows[1].offset:]
	if !bytes.Equal(r[:8], fuzzMarker[:]) || !bytes.Equal(r[12:16], []byte{1, 0, 0, 60}) || !bytes.Equal(r[16:48], rows[1].digest[:]) {
		t.Errorf("record %x", r[:recordHeader])
	}
	got, at, err := readFooter(bytes.NewReader(whole), int64(len(whole)), 7, fuzzMarker)
	must(t, err)
	if !slices.Equal(got, rows) || at != rows[3].end() || int64(len(whole)) != at+footerSize(4) {
		t.Errorf("footer %+v at %d", got, at)
	}
	found, err := scan(bytes.NewReader(whole), int64(len(whole)), fuzzMarker)
	must(t, err)
	if !slices.Equal(found.rows, rows) {
		t.Errorf("records %+v", found.rows)
	}

	// Somebody uploads a tombstone for another's block within a block of his
	// own, and the record's header breaks.
	d := newMemDisk()
	s := openMem(t, d, Options{})
	victim := blockOf(1, 100)
	dg, _ := digestOf(victim.Cid())
	evil := appendRecord(nil, fuzzMarker, kindGone, dg, nil)
	must(t, s.Put(t.Context(), victim))
	must(t, s.Put(t.Context(), sealed(evil)))
	must(t, s.Put(t.Context(), blockOf(2, 100)))
	at2, _, _ := s.table.get(digest(sealed(evil).Cid().Hash()[2:]))
	d.names[packNames(d)[0]].data[at2.offset+13] ^= 1
	s = openMem(t, copyDisk(d), Options{})
	must(t, holds(s, victim.Cid(), true))
	must(t, holds(s, sealed(evil).Cid(), false))
	must(t, holds(s, blockOf(2, 100).Cid(), true))
}
