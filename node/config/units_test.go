package config

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"30d": 30 * day, "1d12h": 36 * time.Hour, "90s": 90 * time.Second, "0": 0, "0s": 0, "1.5d": 36 * time.Hour, "1h30m": 90 * time.Minute,
	} {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "x", "1", "-1d", "-1h", "1d-1h", "1d+1h", "+1h", "1e3d", "NaNd", "infd", "1h1d", "1dd", "200000d", "106751d23h48m", "1 d"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{
		"0": 0, "17": 17, "10GB": 10e9, "64MiB": 64 << 20, "64mib": 64 << 20, "1.5 kB": 1500, "1B": 1, "7EiB": 7 << 60, "9223372036854775807": math.MaxInt64,
		"9007199254740993": 9007199254740993, // exact beyond what a float64 holds
	} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%q is %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "GB", "-1", "+1", "1e9", "1.2.3", "8EiB", "9223372036854775808", "1GBs", "1 G B", "0x10", ".", "NaN", "infGB"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

func TestAmount(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"10%": 100, "0.5%": 5, "100 %": 1000, "7B": 7, "0": 0} {
		a, err := ParseAmount(s)
		if err != nil || a.Of(1000) != want {
			t.Errorf("%q of 1000 is %d, %v", s, a.Of(1000), err)
		}
	}
}

// TestUnitsReadBack: what is shown can be set, and is the same then.
func TestUnitsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "n")
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Errorf("size %d is shown as %q, which is %d, %v", n, FormatSize(n), got, err)
		}
		d := time.Duration(n)
		if got, err := ParseDuration(FormatDuration(d)); err != nil || got != d {
			t.Errorf("time %d is shown as %q, which is %d, %v", d, FormatDuration(d), got, err)
		}
		a := Amount{Percent: float64(rapid.IntRange(1, 10000).Draw(t, "p")) / 100}
		if got, err := ParseAmount(a.String()); err != nil || got != a {
			t.Errorf("amount %v is shown as %q, which is %v, %v", a, a, got, err)
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"30d", "1d12h", "90s", "1.5d", "-1d", "9e9d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q is %v", s, d)
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Fatalf("%q is %v, shown as %q, which is %v, %v", s, d, FormatDuration(d), again, err)
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"10GB", "64MiB", "1.5kB", "10%", "0.1%", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		if err != nil {
			return
		}
		if a.Bytes < 0 || a.Percent < 0 || a.Percent > 100 || a.Of(1<<50) < 0 {
			t.Fatalf("%q is %+v", s, a)
		}
		if again, err := ParseAmount(a.String()); err != nil || again != a {
			t.Fatalf("%q is %v, shown as %q, which is %v, %v", s, a, a, again, err)
		}
	})
}

// FuzzEdit: whatever file there is, and whatever is set, an edit that is made
// reads back as what was set, with all else as it was; and nothing panics.
func FuzzEdit(f *testing.F) {
	for _, file := range []string{everything, "", "trash = {keep = \"1d\"}", "[trash]\r\nkeep = '1d'\r\n", "a.b.c = [[1], {x = 2}]", "listen = \"\"\"\n[trash]\n\"\"\""} {
		for _, k := range keys {
			f.Add(file, k.Name, k.Default)
		}
	}
	f.Fuzz(func(t *testing.T, file, key, value string) {
		before, _, err := parse("x", []byte(file))
		edited, editErr := edit("x", []byte(file), key, value)
		if editErr != nil {
			return
		}
		after, set, readErr := parse("x", edited)
		if readErr != nil || !set[key] {
			t.Fatalf("the edited file does not read: %v\n%s", readErr, edited)
		}
		if err != nil {
			return // the edit put right what was wrong: there is nothing to compare with
		}
		for _, k := range keys {
			if k.Name != key && k.get(&before) != k.get(&after) {
				t.Fatalf("setting %s changed %s from %q to %q\n%s", key, k.Name, k.get(&before), k.get(&after), edited)
			}
		}
	})
}
