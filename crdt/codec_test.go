package crdt

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// samples are entries of the usual kinds, by name.
func samples() map[string]Entry {
	w := newWorld(1, 3)
	a, b := w.replicas[0], w.replicas[1]
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	for _, s := range []string{"mkdir holidays", "create holidays/IMG_20260817_142233.jpg=1", "create notes.txt=1"} {
		must(w.step(a, s))
	}
	must(w.sync(a, b))
	out := map[string]Entry{}
	get := func(r *replica, path string) Entry {
		id, err := r.find(path)
		must(err)
		return r.disk.entries[id]
	}
	out["directory"] = get(a, "holidays")
	out["new file"] = get(a, "holidays/IMG_20260817_142233.jpg")
	must(w.step(a, "move notes.txt holidays/notes.txt"))
	out["moved file"] = get(a, "holidays/notes.txt")
	must(w.step(b, "edit notes.txt=2"))
	must(w.step(b, "touch notes.txt 5"))
	must(w.step(a, "edit holidays/notes.txt=3"))
	must(w.sync(a, b))
	out["after a conflict"] = get(a, "holidays/notes.txt")
	out["conflict copy"] = get(a, "holidays/notes~.txt")
	must(w.step(a, "rm holidays/notes.txt"))
	out["removed"] = a.disk.entries[out["moved file"].ID]
	rec := w.recorder(a)
	id, err := rec.Create(Location{Root, "link"}, Symlink, Content{Target: "holidays/notes.txt"}, 0o777)
	must(err)
	out["symbolic link"] = rec.entries[id]
	return out
}

// TestVectors holds the format to testdata/entries.txt, which a second
// implementation could use. SHEAF_UPDATE=1 writes it anew.
func TestVectors(t *testing.T) {
	t.Parallel()
	const file = "testdata/entries.txt"
	entries := samples()
	if os.Getenv("SHEAF_UPDATE") != "" {
		var b strings.Builder
		b.WriteString("# Encoded entries: name, then bytes in hexadecimal. See codec.go for the format.\n")
		for _, name := range []string{"directory", "new file", "moved file", "after a conflict", "conflict copy", "removed", "symbolic link"} {
			fmt.Fprintf(&b, "%s: %x\n", name, entries[name].Encode(nil))
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, text, ok := strings.Cut(lines.Text(), ": ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		seen++
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		want := entries[name]
		if got := want.Encode(nil); !bytes.Equal(got, data) {
			t.Errorf("%s is encoded as\n%x, want\n%x", name, got, data)
		}
		if got, err := Decode(data); err != nil || !got.Equal(want) {
			t.Errorf("%s: decoded %+v, %v, want %+v", name, got, err, want)
		}
		if err := checkEntry(want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %d bytes", name, len(data))
	}
	if seen != len(entries) {
		t.Errorf("%d vectors of %d", seen, len(entries))
	}
}

// TestNewFileIsSmall: a million of them are kept and sent.
func TestNewFileIsSmall(t *testing.T) {
	t.Parallel()
	if n := len(samples()["new file"].Encode(nil)); n > 200 {
		t.Errorf("a new file takes %d bytes", n)
	}
}

// TestCodecRoundTrip: any well-formed entry comes back, and its encoding is core
// deterministic CBOR in the eyes of another codec.
func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry(t, genID(t))
		data := e.Encode([]byte("before"))[len("before"):]
		got, err := Decode(data)
		if err != nil || !got.Equal(e) {
			t.Fatalf("%v:\n%+v came back as\n%+v", err, e, got)
		}
		if bound := e.encodedBound(); len(data) > bound {
			t.Fatalf("%d bytes, bound %d", len(data), bound)
		}
		var any any
		if err := cbor.Unmarshal(data, &any); err != nil {
			t.Fatal(err)
		}
		again, err := enc.Marshal(any)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: another codec writes\n%x, not\n%x", err, again, data)
		}
	})
}

// TestDecodeRefuses: every cut, every changed byte and every appended one is
// either refused or another entry in its one form.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, e := range samples() {
		data := e.Encode(nil)
		for n := range data {
			if _, err := Decode(data[:n]); err == nil {
				t.Errorf("%s: the first %d bytes of %d are taken", name, n, len(data))
			}
			for _, bit := range []byte{1, 2, 0x20, 0x80, 0xff} {
				checkDecode(t, append(append(bytes.Clone(data[:n]), data[n]^bit), data[n+1:]...))
			}
		}
		if _, err := Decode(append(bytes.Clone(data), 0)); err == nil {
			t.Errorf("%s: a byte too many is taken", name)
		}
	}
	if _, err := Decode(make([]byte, MaxEncoded+1)); err == nil {
		t.Error("too many bytes are taken")
	}
	// A count that the data cannot hold must not be believed.
	huge := []byte{0x87, 0x50}
	huge = append(huge, make([]byte, 16)...)
	huge = append(huge, 0x01, 0x40, 0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	if _, err := Decode(huge); err == nil {
		t.Error("a huge count is taken")
	}
}

// TestDecodeOtherForms: the same entry in any other form is refused.
func TestDecodeOtherForms(t *testing.T) {
	t.Parallel()
	e := samples()["new file"]
	data := e.Encode(nil)
	forms := map[string][]byte{
		"a long head": append([]byte{0x98, 0x07}, data[1:]...),
		"seen spelled out": func() []byte {
			if data[len(data)-1] != 0x80 {
				t.Fatal("the sample has an explicit vector")
			}
			return append(bytes.Clone(data[:len(data)-1]), 0x82, 0x00, byte(e.Seen[0].Counter))
		}(),
		"null last": func() []byte {
			d := append(bytes.Clone(data), cborNull)
			d[0]++
			return d
		}(),
		"an indefinite array": append(append([]byte{0x9f}, data[1:]...), 0xff),
	}
	for name, form := range forms {
		var de *DecodeError
		if got, err := Decode(form); err == nil && got.Equal(e) {
			t.Errorf("%s is taken", name)
		} else if err != nil && !errors.As(err, &de) {
			t.Errorf("%s: %T is not a DecodeError", name, err)
		}
	}
}

// checkDecode holds Decode to its word on any bytes.
func checkDecode(t *testing.T, data []byte) {
	t.Helper()
	e, err := Decode(data)
	if err != nil {
		var de *DecodeError
		if !errors.As(err, &de) {
			t.Errorf("%x: %T is not a DecodeError", data, err)
		}
		return
	}
	if again := e.Encode(nil); !bytes.Equal(again, data) {
		t.Errorf("%x is taken, and written as %x", data, again)
	}
	if err := checkShape(e); err != nil {
		t.Errorf("%x is taken: %v", data, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range samples() {
		f.Add(e.Encode(nil))
	}
	f.Add([]byte{})
	f.Add([]byte{0x87})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, data)
		e, err := Decode(data)
		if err != nil {
			return
		}
		// Whatever comes in may be joined, normalised and shown without harm.
		n, _ := Normalize(Join(e, e))
		_ = n.MTime()
		rows := NewMemRows()
		if _, err := Apply(rows, []Entry{e}); err == nil {
			if err := checkRows(rows); err != nil {
				t.Error(err)
			}
		}
	})
}
