package archive

import (
	"fmt"
	"time"
)

// An age is a time of the archive's own, in nanoseconds since it was made. It never
// goes back, and goes on no faster than time does: see clock.
type age int64

func (a age) plus(d time.Duration) age { return a + age(d) }

// mostOff is how much of the time while the archive did not run is believed to have
// gone by.
const mostOff = 24 * time.Hour

// A clock tells the age. While the archive runs it goes by the machine's monotonic
// clock, which nobody can set.
type clock struct {
	base  age
	since time.Time // with a monotonic reading
}

func (c *clock) now() age { return c.base.plus(max(0, time.Since(c.since))) }

// clockRow is what is stored of a clock.
type clockRow struct {
	_    struct{} `cbor:",toarray"`
	Age  age
	Wall int64 // by the clock, in Unix nanoseconds, at that age
}

func (a *Archive) loadClock(t *tx) error {
	var row clockRow
	found, err := t.load(metaKey("clock"), &row)
	if err != nil {
		return fmt.Errorf("read the archive's clock: %w", err)
	}
	a.clock = clock{base: row.Age, since: time.Now()}
	if found {
		a.clock.base = row.Age.plus(min(mostOff, max(0, time.Duration(a.o.Now().UnixNano()-row.Wall))))
	}
	a.tick(t)
	return nil
}

// tick writes down what age it is, for after a restart.
func (a *Archive) tick(t *tx) age {
	now := a.clock.now()
	t.put(metaKey("clock"), encode(clockRow{Age: now, Wall: a.o.Now().UnixNano()}))
	return now
}
