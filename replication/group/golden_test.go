package group

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors are what another implementation has to come to. Statements are kept,
// not made again: HPKE draws from the system.
type vectors struct {
	Phrase     string            `json:"phrase"`
	PaperID    string            `json:"paper_device_id"`
	PaperSeal  string            `json:"paper_seal_key_sha256"`
	Keys       string            `json:"keys_file_hex"`
	KeysID     string            `json:"keys_device_id"`
	Codes      []codeVector      `json:"codes"`
	Group      string            `json:"group"`
	Statements []statementVector `json:"statements"`
	Share      []statementVector `json:"share_statements"` // a share's, for the kinds that an account has not
	Members    []memberVector    `json:"members"`
	Current    string            `json:"current_epoch"`
	SyncFolder string            `json:"folder_sync"`
	ChunkKey   string            `json:"chunk_key"`
	BlockKey   string            `json:"block_key_of_current_epoch"`
}

type codeVector struct {
	Text      string   `json:"text"`
	Kind      string   `json:"kind"`
	Secret    string   `json:"secret"`
	Group     string   `json:"group"`
	Inviter   string   `json:"inviter"`
	Addresses []string `json:"addresses"`
	PublicID  string   `json:"public_id"`
}

type statementVector struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Author string `json:"author"`
	Raw    string `json:"base64"`
}

type memberVector struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role string `json:"role"`
}

// goldenWorld says one statement of each kind.
func goldenWorld(t *testing.T, paper Keys) *world {
	w := newWorld(t, Founding{Purpose: Account, Name: "a", Paper: paper})
	w.admit("a", "b", Owner)
	code := w.invite("a", oneOwner)
	_, _, err := w.join(code, "a", "c", noon)
	w.must(err)
	w.invite("a", oneOwner) // never used
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Revoke(w.rand, k, l.Evaluate().Invites[1].ID) })
	w.say("a", func(l *Log, k Keys) ([]Statement, error) { return l.Rename(w.rand, k, idOf("c"), "sea") })
	w.say("a", func(l *Log, k Keys) ([]Statement, error) {
		return l.Remove(w.rand, k, Departure{Device: idOf("b"), Cuts: []Cut{{[8]byte{1}, 7}}})
	})
	return w
}

func goldenCodes() []Code {
	return []Code{
		testCode(DeviceCode, "/ip4/192.0.2.7/tcp/4001"),
		testCode(ShareCode, "/dns4/relay.example.org/udp/443/quic-v1/p2p/"+peerText(idOf("b")), "/ip6/2001:db8::7/tcp/4001/p2p/"+peerText(idOf("a")), "/unix/x"),
		testCode(RelayCode, "/ip4/192.0.2.7/tcp/4001"),
	}
}

func TestVectors(t *testing.T) {
	t.Parallel()
	path := filepath.Join("testdata", "vectors.json")
	if *update {
		writeVectors(t, path)
	}
	var v vectors
	if err := json.Unmarshal(must(os.ReadFile(path)), &v); err != nil {
		t.Fatal(err)
	}
	paper := must(PhraseKeys(v.Phrase))
	seal := hashBody(paper.Device().Seal)
	if paper.ID().Hex() != v.PaperID || hex.EncodeToString(seal[:]) != v.PaperSeal {
		t.Error("keys of the phrase")
	}
	if k := must(ParseKeys(must(hex.DecodeString(v.Keys)))); k.ID().Hex() != v.KeysID || k.ID() != keysOf("a").ID() {
		t.Error("keys file")
	}
	for _, c := range v.Codes {
		got, err := ReadCode(c.Text)
		if err != nil || got.Text() != c.Text || got.Kind.String() != c.Kind || hex.EncodeToString(got.secret[:]) != c.Secret || got.Group.String() != c.Group ||
			got.Inviter.Hex() != c.Inviter || strings.Join(got.Addresses, " ") != strings.Join(c.Addresses, " ") || must(got.Keys()).ID().Hex() != c.PublicID {
			t.Errorf("%s: %+v, %v", c.Text, got, err)
		}
	}
	read := func(vs []statementVector) *Log {
		var statements []Statement
		for _, s := range vs {
			got, err := ParseStatement(must(base64.StdEncoding.DecodeString(s.Raw)))
			if err != nil || got.Kind().String() != s.Kind || hex.EncodeToString(got.id[:]) != s.ID || got.Author().Hex() != s.Author {
				t.Fatalf("%v: %v", got, err)
			}
			statements = append(statements, got)
		}
		return must(LoadLog(statements))
	}
	if m, _ := read(v.Share).Evaluate().Member(idOf("b")); m.Role != Viewer {
		t.Errorf("b in the share: %+v", m)
	}
	l := read(v.Statements)
	st := l.Evaluate()
	ring := must(st.OpenKeys(paper))
	st = st.Named(ring)
	folder, chunk, block := st.FolderID("sync"), must(ring.ChunkKey()), must(ring.BlockKey(ring.Current()))
	if st.Group.String() != v.Group || hex.EncodeToString(st.Current[:]) != v.Current || hex.EncodeToString(folder[:]) != v.SyncFolder ||
		hex.EncodeToString(chunk[:]) != v.ChunkKey || hex.EncodeToString(block[:]) != v.BlockKey {
		t.Error("what the statements come to")
	}
	if len(st.Members) != len(v.Members) {
		t.Fatalf("%d members", len(st.Members))
	}
	for i, m := range st.Members {
		if (memberVector{m.ID.Hex(), m.Name, m.Role.String()}) != v.Members[i] {
			t.Errorf("member %+v, want %+v", m, v.Members[i])
		}
	}
	if !st.AcceptsFrom(idOf("b"), [8]byte{1}, 7) || st.AcceptsFrom(idOf("b"), [8]byte{1}, 8) {
		t.Error("cut")
	}
}

func writeVectors(t *testing.T, path string) {
	v := vectors{Phrase: must(NewPhrase(seeded("vectors"))), Keys: hex.EncodeToString(keysOf("a").Marshal()), KeysID: idOf("a").Hex()}
	paper := must(PhraseKeys(v.Phrase))
	seal := hashBody(paper.Device().Seal)
	v.PaperID, v.PaperSeal = paper.ID().Hex(), hex.EncodeToString(seal[:])
	for _, c := range goldenCodes() {
		v.Codes = append(v.Codes, codeVector{c.Text(), c.Kind.String(), hex.EncodeToString(c.secret[:]), c.Group.String(), c.Inviter.Hex(), c.Addresses, must(c.Keys()).ID().Hex()})
	}
	l := must(LoadLog(goldenWorld(t, paper).all))
	write := func(ss []Statement) (out []statementVector) {
		for _, s := range ss {
			out = append(out, statementVector{s.Kind().String(), hex.EncodeToString(s.id[:]), s.Author().Hex(), base64.StdEncoding.EncodeToString(s.raw)})
		}
		return out
	}
	v.Statements = write(l.Statements())
	share := newShare(t)
	share.admit("a", "b", Editor)
	share.say("a", func(l *Log, k Keys) ([]Statement, error) {
		return l.SetRole(k, idOf("b"), Viewer, false, []Cut{{[8]byte{1}, 7}})
	})
	v.Share = write(share.all)
	st := l.Evaluate()
	ring := must(st.OpenKeys(paper))
	st = st.Named(ring)
	for _, m := range st.Members {
		v.Members = append(v.Members, memberVector{m.ID.Hex(), m.Name, m.Role.String()})
	}
	folder, chunk, block := st.FolderID("sync"), must(ring.ChunkKey()), must(ring.BlockKey(ring.Current()))
	v.Group, v.Current, v.SyncFolder = st.Group.String(), hex.EncodeToString(st.Current[:]), hex.EncodeToString(folder[:])
	v.ChunkKey, v.BlockKey = hex.EncodeToString(chunk[:]), hex.EncodeToString(block[:])
	if err := os.WriteFile(path, append(must(json.MarshalIndent(v, "", "\t")), '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestJoinIsDeterministic: a joiner says the same thing each time.
func TestJoinIsDeterministic(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	code := w.invite("a", oneOwner)
	invite := w.all[len(w.all)-1]
	var first Statement
	for range 2 {
		j, _, err := NewJoiner(w.rand, code, keysOf("phone"), "phone", ID{})
		w.must(err)
		s := must(j.join(invite, nil))
		if !first.IsZero() && string(first.raw) != string(s.raw) {
			t.Error("two joins")
		}
		first = s
	}
	if code.Kind != DeviceCode || time.Unix(invite.b.Invite.Expires, 0).UTC() != oneOwner.Expires {
		t.Error("invite")
	}
}
