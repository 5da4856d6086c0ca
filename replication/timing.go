package replication

import "time"

// Timing holds the durations that a session and a fetcher go by. Zero fields
// take the values of defaultTiming.
type Timing struct {
	KeepAlive time.Duration // an index stream that has been quiet this long says so
	Silence   time.Duration // a stream on which the peer owes a word and gives none this long is dead
	Write     time.Duration // longest that one piece (up to 64 KiB) of a message may take to leave
	Quiet     time.Duration // a cursor that moved without entries is told after this long
	Retry     time.Duration // first pause before what failed is tried again; doubles to RetryMax
	RetryMax  time.Duration
	Idle      time.Duration // a block stream without requests is closed after this long
	Answer    time.Duration // a server that cannot answer yet says so this often

	// Jitter spreads a pause, so that peers that lost each other at one moment do
	// not come back at one; default: to 75 to 125 % of it, by chance.
	Jitter func(time.Duration) time.Duration
}

// defaultTiming is what a device uses.
func defaultTiming() Timing {
	return Timing{
		KeepAlive: 30 * time.Second,
		Silence:   90 * time.Second,
		Write:     2 * time.Minute,
		Quiet:     time.Second,
		Retry:     time.Second,
		RetryMax:  time.Minute,
		Idle:      45 * time.Second,
		Answer:    15 * time.Second,
	}
}

func (t Timing) withDefaults() Timing {
	d := defaultTiming()
	for _, f := range []struct{ set, def *time.Duration }{
		{&t.KeepAlive, &d.KeepAlive}, {&t.Silence, &d.Silence}, {&t.Write, &d.Write}, {&t.Quiet, &d.Quiet},
		{&t.Retry, &d.Retry}, {&t.RetryMax, &d.RetryMax}, {&t.Idle, &d.Idle}, {&t.Answer, &d.Answer},
	} {
		if *f.set <= 0 {
			*f.set = *f.def
		}
	}
	if t.Jitter == nil {
		t.Jitter = jitter
	}
	return t
}
