package archive

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"sheaf/replication/seal/sealtest"
)

func TestRetain(t *testing.T) {
	t.Parallel()
	at := func(days int) age { return age(time.Duration(days) * day) }
	live, dead := kept{no: 9, current: true}, kept{no: 9, current: true, dead: true, arrived: at(100)}
	old := func(no uint64, days int) kept { return kept{no: no, replaced: at(days)} }
	p := policy{30 * day, 2}
	for _, c := range []struct {
		what        string
		records     []kept
		now         age
		drop, purge []uint64
		next        age
	}{
		{"what lives", []kept{live}, at(1000), nil, nil, 0},
		{"replaced yesterday", []kept{live, old(1, 99), old(2, 99), old(3, 99)}, at(100), nil, nil, at(129)},
		{"replaced long ago", []kept{live, old(1, 5), old(2, 6), old(3, 7), old(4, 8)}, at(100), []uint64{1, 2}, nil, 0},
		{"at the last moment", []kept{live, old(1, 70), old(2, 71), old(3, 72)}, at(100) - 1, nil, nil, at(100)},
		{"and then", []kept{live, old(1, 70), old(2, 71), old(3, 72)}, at(100), []uint64{1}, nil, 0},
		{"deleted", []kept{dead, old(1, 100)}, at(129), nil, nil, at(130)},
		{"deleted 30 days ago", []kept{dead, old(1, 100)}, at(130), []uint64{1}, []uint64{9}, 0},
		{"versions of what is in the trash", []kept{dead, old(1, 5), old(2, 6), old(3, 7)}, at(129), []uint64{1}, nil, at(130)},
		{"purged before", []kept{{no: 9, current: true, dead: true, purged: true}, old(1, 5)}, at(200), []uint64{1}, nil, 0},
		{"deleted here, changed there", []kept{dead, {no: 8, current: true}, old(1, 5)}, at(200), nil, []uint64{9}, 0},
	} {
		v := retain(c.records, c.now, p)
		if !slices.Equal(v.drop, c.drop) || !slices.Equal(v.purge, c.purge) || v.ask != (c.next != 0) || v.next != c.next {
			t.Errorf("%s: %+v", c.what, v)
		}
	}
}

// TestRetainOnlyLetsGoInTime: nothing goes before its time, what goes at one time goes at
// every later one, and until the time that retain names for the next question, nothing
// more does.
func TestRetainOnlyLetsGoInTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		rnd := rand.New(sealtest.Seeded(seed))
		p := policy{time.Duration(1+rnd.IntN(40)) * day, rnd.IntN(4)}
		when := func() age { return age(rnd.Int64N(int64(90 * day))) }
		var records []kept
		for no := range uint64(rnd.IntN(8)) {
			k := kept{no: no, current: rnd.IntN(3) == 0}
			if k.current {
				k.dead, k.arrived = rnd.IntN(2) == 0, when()
				k.purged = k.dead && rnd.IntN(3) == 0
			} else {
				k.replaced = when()
			}
			records = append(records, k)
		}
		early := when()
		first := retain(records, early, p)
		for _, k := range records {
			since := k.replaced
			if k.current {
				since = k.arrived
			}
			goes := slices.Contains(first.drop, k.no) || slices.Contains(first.purge, k.no)
			if goes && since.plus(p.retention) > early || goes && k.current && !k.dead {
				t.Fatalf("seed %d: %+v goes at %d", seed, k, early)
			}
		}
		late := early + when()
		if first.ask && first.next <= early {
			t.Fatalf("seed %d: asked again at %d, which is past at %d", seed, first.next, early)
		}
		if first.ask {
			late = min(late, first.next-1)
		}
		second := retain(records, late, p)
		if late >= early && (!slices.Equal(first.drop, second.drop) || !slices.Equal(first.purge, second.purge)) {
			t.Fatalf("seed %d: at %d %+v, at %d %+v", seed, early, first, late, second)
		}
	}
}
