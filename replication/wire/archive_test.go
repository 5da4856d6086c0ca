package wire

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
)

// archiveSamples are messages of the archive protocol, one of each kind.
func archiveSamples() map[string]struct{ msg, zero any } {
	id, digest := ID{1, 2, 3}, bytes.Repeat([]byte{9}, 32)
	type sample = struct{ msg, zero any }
	up := func(m ArchiveUp) sample { return sample{&m, &ArchiveUp{}} }
	down := func(m ArchiveDown) sample { return sample{&m, &ArchiveDown{}} }
	return map[string]sample{
		"open":          up(ArchiveUp{Open: &ArchiveOpen{Version: 1, Group: id, Program: "sheaf"}}),
		"say":           up(ArchiveUp{Say: &ArchiveSay{Messages: [][]byte{{7}}}}),
		"offer":         up(ArchiveUp{Offer: &Sealed{Items: [][]byte{{1}, {2, 3}}}}),
		"wanted":        up(ArchiveUp{Wanted: &ArchiveAfter{}}),
		"wanted after":  up(ArchiveUp{Wanted: &ArchiveAfter{Digest: digest}}),
		"store":         up(ArchiveUp{Store: &Sealed{Items: [][]byte{{1}}}}),
		"after":         up(ArchiveUp{After: &ArchiveFeed{Folder: id, After: 500, Wait: true}}),
		"fetch":         up(ArchiveUp{Fetch: &Digests{Digests: digest}}),
		"versions":      up(ArchiveUp{Versions: &ArchiveEntry{Folder: id, Token: digest[:16]}}),
		"heads":         up(ArchiveUp{Heads: &ArchiveEntry{Folder: id}}),
		"head":          up(ArchiveUp{Head: &Sealed{Items: [][]byte{{4}}}}),
		"lack":          up(ArchiveUp{Lack: &Digests{Digests: digest}}),
		"claim":         {&HostUp{Claim: &HostClaim{Version: 1, Group: id, Code: digest, Proof: append(digest, digest...)}}, &HostUp{}},
		"host said":     {&HostUp{Said: &HostSaid{Statements: [][]byte{{7}}, Last: true}}, &HostUp{}},
		"host go":       {&HostDown{GoOn: &HostGo{}}, &HostDown{}},
		"hosted":        {&HostDown{Hosted: &Hosted{Name: "nas", Bytes: 5, Program: "relay"}}, &HostDown{}},
		"host refusal":  {&HostDown{Refusal: &Refusal{Code: CodeUsed}}, &HostDown{}},
		"refusal":       down(ArchiveDown{Refusal: &Refusal{Code: CodeQuota, Text: "full"}}),
		"welcome":       down(ArchiveDown{Welcome: &ArchiveWelcome{Store: id, Bytes: 5, MostBytes: 6, Records: 7, Program: "relay"}}),
		"said":          down(ArchiveDown{Said: &ArchiveSay{Messages: [][]byte{{7}}}}),
		"takings":       down(ArchiveDown{Takings: &ArchiveTakings{Takings: []ArchiveTaking{{Outcome: 1}, {Outcome: 4, Code: CodeBad}}}}),
		"digests":       down(ArchiveDown{Digests: &Digests{Digests: digest}}),
		"items":         down(ArchiveDown{Items: &ArchiveItems{Numbers: []uint64{3, 4}, Records: [][]byte{{1}, {2}}}}),
		"blocks":        down(ArchiveDown{Blocks: &Sealed{Items: [][]byte{{1}, {}}}}),
		"versions told": down(ArchiveDown{Versions: &ArchiveVersions{Versions: []ArchiveVersion{{Number: 3, Record: []byte{1}, Came: 10, Gone: 11, Whole: true}}, More: true}}),
		"heads told":    down(ArchiveDown{Heads: &Sealed{Items: [][]byte{{4}}}}),
	}
}

// archiveGolden is each of them as it is sent: the format, to the byte.
var archiveGolden = map[string]string{
	"host refusal":  "09a101a1016475736564",
	"host said":     "09a102a20181410702f5",
	"hosted":        "11a103a301636e61730205036572656c6179",
	"claim":         "7da101a40101025001020300000000000000000000000000035820090909090909090909090909090909090909090909090909090909090909090904584009090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909090909",
	"host go":       "03a102a0",
	"after":         "1ba106a3015001020300000000000000000000000000021901f403f5",
	"blocks":        "08a107a10182410140",
	"digests":       "26a105a10158200909090909090909090909090909090909090909090909090909090909090909",
	"fetch":         "26a107a10158200909090909090909090909090909090909090909090909090909090909090909",
	"head":          "07a10aa101814104",
	"heads told":    "07a109a101814104",
	"heads":         "15a109a1015001020300000000000000000000000000",
	"items":         "0da106a201820304028241014102",
	"lack":          "26a10ba10158200909090909090909090909090909090909090909090909090909090909090909",
	"offer":         "0aa103a101824101420203",
	"open":          "1ea101a3010102500102030000000000000000000000000003657368656166",
	"refusal":       "10a101a2016571756f7461026466756c6c",
	"said":          "07a103a101814107",
	"say":           "07a102a101814107",
	"store":         "07a105a101814101",
	"takings":       "0ea104a10182820160820463626164",
	"versions told": "10a108a20181870341010a0bf4f5f402f5",
	"versions":      "27a108a2015001020300000000000000000000000000025009090909090909090909090909090909",
	"wanted after":  "26a104a10158200909090909090909090909090909090909090909090909090909090909090909",
	"wanted":        "03a104a0",
	"welcome":       "22a102a5015001020300000000000000000000000000020503060407056572656c6179",
}

func TestArchiveGolden(t *testing.T) {
	t.Parallel()
	for name, s := range archiveSamples() {
		frame, err := AppendMsg(nil, s.msg, MaxArchiveUp)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := hex.EncodeToString(frame); got != archiveGolden[name] {
			t.Errorf("%q: %q,", name, got)
		}
		if err := ReadMsg(reader(frame), s.zero, MaxArchiveUp); err != nil || !reflect.DeepEqual(s.msg, s.zero) {
			t.Errorf("%s: read as %+v, %v", name, s.zero, err)
		}
	}
}
