package pack

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// TestTable: random operations against a map.
func TestTable(t *testing.T) {
	t.Parallel()
	rnd := seeded(5)
	tab, model := newTable(), make(map[digest]place)
	dig := func() digest {
		return sha256.Sum256(binary.BigEndian.AppendUint64(nil, rnd.Uint64N(20_000)))
	}
	for i := range 200_000 {
		d := dig()
		switch was, ok := model[d]; {
		case rnd.IntN(5) < 3:
			at := place{1 + rnd.Uint32N(9), rnd.Uint32(), rnd.Uint32N(MaxBlock + 1)}
			tab.set(d, at)
			model[d] = at
		case ok && rnd.IntN(3) == 0:
			tab.doubt(d, was, true)
			if at, doubted, there := tab.get(d); at != was || !doubted || !there {
				t.Fatalf("doubted: %v, %v, %v", at, doubted, there)
			}
			tab.doubt(d, place{99, 0, 0}, false) // another place: nothing
			if _, doubted, _ := tab.get(d); !doubted {
				t.Fatal("the doubt on another place was cleared")
			}
			tab.doubt(d, was, false)
		default:
			tab.remove(d)
			delete(model, d)
		}
		d = dig()
		want, ok := model[d]
		if at, doubted, there := tab.get(d); at != want || there != ok || doubted {
			t.Fatalf("operation %d: %v %v, not %v %v", i, at, there, want, ok)
		}
	}
	for d, want := range model {
		if at, _, ok := tab.get(d); !ok || at != want {
			t.Fatal("lost one")
		}
	}
	if tab.len() != len(model) {
		t.Errorf("%d, not %d", tab.len(), len(model))
	}
}
