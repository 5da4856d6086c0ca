package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors are what another implementation has to come to. Bytes are in hexadecimal.
// Statements are kept, not made again: HPKE draws from the system.
type vectors struct {
	Keys       string         `json:"device_keys_file"`
	Group      string         `json:"group"`
	Statements []string       `json:"statements"`
	Epoch      string         `json:"epoch"`
	BlockKey   string         `json:"block_key"`
	RecordKey  string         `json:"record_key"`
	TokenKey   string         `json:"token_key"`
	HeadKey    string         `json:"head_key"`
	SetKey     string         `json:"head_set_key"`
	Blocks     []blockVector  `json:"blocks"`
	Folder     string         `json:"folder"`
	Records    []recordVector `json:"records"`
	Head       headVector     `json:"head"`
}

type blockVector struct {
	Plain  string `json:"plain"`
	Sealed string `json:"sealed"`
	Digest string `json:"digest"`
}

type recordVector struct {
	Nonce  string   `json:"nonce"`
	Entry  string   `json:"entry"`
	List   string   `json:"block_list"`
	Refs   []string `json:"references"`
	Number uint64   `json:"number"`
	Token  string   `json:"token"`
	Record string   `json:"record"`
	Mark   string   `json:"mark"`
}

type headVector struct {
	Nonce  string `json:"nonce"`
	Number uint64 `json:"number"`
	Last   uint64 `json:"last"`
	Sum    string `json:"sum"`
	Head   string `json:"head"`
}

const vectorsFile = "testdata/vectors.json"

// makeVectors makes all that the keys and statements do not.
func makeVectors(t *testing.T, p *party) vectors {
	box := p.box(t)
	k := must(box.keys(box.Epoch()))(t)
	id, epoch := p.log.Group(), box.Epoch()
	v := vectors{
		Keys: hex.EncodeToString(p.keys.Marshal()), Group: hex.EncodeToString(id[:]), Epoch: hex.EncodeToString(epoch[:]),
		BlockKey: hex.EncodeToString(k.block[:]), RecordKey: hex.EncodeToString(k.record[:]), TokenKey: hex.EncodeToString(box.token[:]),
		HeadKey: hex.EncodeToString(k.head[:]), SetKey: hex.EncodeToString(k.set[:]), Folder: hex.EncodeToString(folder[:]),
	}
	for _, s := range p.log.Statements() {
		v.Statements = append(v.Statements, hex.EncodeToString(s.Encode()))
	}
	text := bytes.Repeat([]byte("to be compressed "), 40)
	for _, plain := range [][]byte{[]byte("x"), []byte("not worth compressing"), text} {
		sealed, ref, err := box.SealBlock(nil, plain, blockOf(plain))
		if err != nil {
			t.Fatal(err)
		}
		v.Blocks = append(v.Blocks, blockVector{hex.EncodeToString(plain), hex.EncodeToString(sealed), hex.EncodeToString(ref.Digest[:])})
	}
	var sum Sum
	for i, list := range []chunk.List{nil, listOf(1), listOf(3)} {
		d := Draft{Folder: folder, Number: uint64(i + 1), Entry: fileOf([]string{"empty", "one", "three"}[i], list), Refs: refsTo(len(list), epoch)}
		if len(list) > 1 {
			d.List = list
		}
		nonce := bytes.Repeat([]byte{byte(i + 1)}, 24)
		r, _, err := box.SealRecord(bytes.NewReader(nonce), p.keys, d)
		if err != nil {
			t.Fatal(err)
		}
		mark := must(box.Mark(epoch, r.Token, r.Seen))(t)
		sum = sum.Add(mark)
		rv := recordVector{Nonce: hex.EncodeToString(nonce), Entry: hex.EncodeToString(d.Entry.Encode(nil)), List: hex.EncodeToString(d.List.Encode()), Number: d.Number, Token: hex.EncodeToString(r.Token[:]), Record: hex.EncodeToString(r.Encode()), Mark: hex.EncodeToString(mark[:])}
		for _, ref := range d.Refs {
			rv.Refs = append(rv.Refs, hex.EncodeToString(ref.Digest[:]))
		}
		v.Records = append(v.Records, rv)
	}
	nonce := bytes.Repeat([]byte{9}, 24)
	h := must(box.SealHead(bytes.NewReader(nonce), p.keys, Head{Folder: folder, Number: 1, Last: 3, Sum: sum}))(t)
	v.Head = headVector{Nonce: hex.EncodeToString(nonce), Number: 1, Last: 3, Sum: hex.EncodeToString(sum[:]), Head: hex.EncodeToString(h.Encode())}
	return v
}

func unhex(t *testing.T, s string) []byte { return must(hex.DecodeString(s))(t) }

// TestVectors holds the formats (X34): what was written by an earlier version opens,
// and what this one writes is the same to the byte. What is compressed need only open.
func TestVectors(t *testing.T) {
	t.Parallel()
	if *update {
		data := must(json.MarshalIndent(makeVectors(t, found(t, 1)), "", " "))(t)
		if err := os.MkdirAll(filepath.Dir(vectorsFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorsFile, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var want vectors
	if err := json.Unmarshal(must(os.ReadFile(vectorsFile))(t), &want); err != nil {
		t.Fatal(err)
	}
	p := &party{keys: must(group.ParseKeys(unhex(t, want.Keys)))(t)}
	var said []group.Statement
	for _, s := range want.Statements {
		said = append(said, must(group.ParseStatement(unhex(t, s)))(t))
	}
	p.log = must(group.LoadLog(said))(t)
	got := makeVectors(t, p)
	box := p.box(t)
	for i, b := range want.Blocks {
		plain, sealed := unhex(t, b.Plain), unhex(t, b.Sealed)
		if opened, err := box.OpenBlock(nil, sealed, box.Epoch(), blockOf(plain)); err != nil || !bytes.Equal(opened, plain) {
			t.Errorf("block %d does not open: %v", i, err)
		}
		if i < 2 && got.Blocks[i] != b {
			t.Errorf("block %d is sealed as %v", i, got.Blocks[i])
		}
	}
	for i, w := range want.Records {
		o, err := box.Open(must(ParseRecord(unhex(t, w.Record)))(t))
		if err != nil || hex.EncodeToString(o.Entry.Encode(nil)) != w.Entry {
			t.Errorf("record %d does not open: %v", i, err)
		}
		if g := got.Records[i]; g.Record != w.Record || g.Mark != w.Mark || g.Token != w.Token || !slices.Equal(g.Refs, w.Refs) {
			t.Errorf("record %d is sealed as %v", i, g)
		}
	}
	if h, err := box.OpenHead(unhex(t, want.Head.Head)); err != nil || hex.EncodeToString(h.Sum[:]) != want.Head.Sum {
		t.Errorf("the head does not open: %v", err)
	}
	if got.Head != want.Head || got.BlockKey != want.BlockKey || got.RecordKey != want.RecordKey || got.TokenKey != want.TokenKey || got.SetKey != want.SetKey {
		t.Errorf("head or keys are %v", got)
	}
}

// FuzzRecord: whatever bytes there are, they are a record to the byte, or an error.
func FuzzRecord(f *testing.F) {
	a := found(f, 1)
	box := a.box(f)
	r, _, err := box.SealRecord(seeded(1), a.keys, Draft{Folder: folder, Number: 1, Entry: fileOf("f", listOf(2)), List: listOf(2), Refs: refsTo(2, box.Epoch())})
	if err != nil {
		f.Fatal(err)
	}
	h := must(box.SealHead(seeded(1), a.keys, Head{Folder: folder, Number: 1}))(f)
	f.Add(r.Encode())
	f.Add(h.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := ParseRecord(data); err == nil && !bytes.Equal(r.Encode(), data) {
			t.Errorf("another record: %x", r.Encode())
		}
		if h, err := ParseHead(data); err == nil && !bytes.Equal(h.Encode(), data) {
			t.Errorf("another head: %x", h.Encode())
		}
		if h, err := decodeHeader(data); err == nil && !bytes.Equal(h.encode(), data) {
			t.Errorf("another header: %x", h.encode())
		}
		if list, err := ParsePage(data); err == nil && !bytes.Equal(catDigests(list), data) {
			t.Error("another page")
		}
	})
}

// FuzzBody: whatever a member seals, it opens to an entry that fits, or does not open;
// and whatever is in a frame, it comes out only if it is the one that goes in.
func FuzzBody(f *testing.F) {
	good := fileOf("f", listOf(3))
	f.Add(appendFrame(nil, recordVersion, encode(bodyItems{Entry: good.Encode(nil), List: listOf(3).Encode()})))
	f.Add(appendFrame(nil, zstdBytes, []byte("payload")))
	f.Fuzz(func(t *testing.T, data []byte) {
		if kind, payload, ok := openFrame(data); ok && !bytes.Equal(appendFrame(nil, kind, payload), data) {
			t.Error("another frame")
		}
		o, ok := readBody(data, false)
		if !ok {
			return
		}
		if _, err := crdt.Decode(o.Entry.Encode(nil)); err != nil {
			t.Errorf("an entry that is none: %v", err)
		}
		if o.List != nil && (len(o.List) != o.blocks || o.List.Content() != [32]byte(o.Entry.Shown().Content)) {
			t.Error("a list that is not of the content")
		}
	})
}
