package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a span of time as Go does, and d for days of 24 hours
// too, first: "30d", "1d12h", "90s". It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("must be a time such as 30d, 12h or 90s, not %q", s)
	days, rest, found := strings.Cut(s, "d")
	var sum time.Duration
	if found {
		n, ok := decimal(days)
		if !ok || n*float64(day) >= math.MaxInt64 {
			return 0, bad
		}
		sum = time.Duration(n * float64(day))
		if rest == "" {
			return sum, nil
		}
		s = rest
	}
	if strings.ContainsAny(s, "+-") {
		return 0, bad
	}
	d, err := time.ParseDuration(s)
	if err != nil || sum+d < sum {
		return 0, bad
	}
	return sum + d, nil
}

// FormatDuration is the way back, in days, hours, minutes and seconds.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	days := ""
	if d >= day {
		days = strconv.FormatInt(int64(d/day), 10) + "d"
		if d %= day; d == 0 {
			return days
		}
	}
	s := d.String() // "1h0m0s"
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return days + s
}

// The units of sizes, each before those that divide it.
var units = []struct {
	name  string
	bytes int64
}{
	{"EiB", 1 << 60}, {"EB", 1e18},
	{"PiB", 1 << 50}, {"PB", 1e15},
	{"TiB", 1 << 40}, {"TB", 1e12},
	{"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6},
	{"KiB", 1 << 10}, {"kB", 1e3},
	{"B", 1},
}

// ParseSize reads a number of bytes: "10GB" is ten times 1000³, "64MiB" is 64
// times 1024², a bare number is bytes. Case does not matter, nor a space before
// the unit. It is never negative.
func ParseSize(s string) (int64, error) {
	bad := fmt.Errorf("must be a size such as 10GB, 64MiB or 0, not %q", s)
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, unit := s[:end], strings.TrimSpace(s[end:])
	factor := int64(0)
	if unit == "" {
		factor = 1
	}
	for _, u := range units {
		if strings.EqualFold(u.name, unit) {
			factor = u.bytes
		}
	}
	if factor == 0 {
		return 0, bad
	}
	if n, err := strconv.ParseUint(number, 10, 63); err == nil { // exactly
		if n != 0 && int64(n) > math.MaxInt64/factor {
			return 0, bad
		}
		return int64(n) * factor, nil
	}
	n, ok := decimal(number)
	if !ok || n*float64(factor) >= math.MaxInt64 {
		return 0, bad
	}
	return int64(math.Round(n * float64(factor))), nil
}

// FormatSize is the way back, exactly: in the greatest unit that divides it.
func FormatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range units {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	panic("unreachable: every number is divided by one byte")
}

// An Amount is a part of a whole, or, if Percent is zero, a number of bytes.
type Amount struct {
	Percent float64 // above 0, at most 100
	Bytes   int64
}

// ParseAmount reads "10%" or a size.
func ParseAmount(s string) (Amount, error) {
	number, found := strings.CutSuffix(s, "%")
	if !found {
		n, err := ParseSize(s)
		if err != nil {
			return Amount{}, fmt.Errorf("must be a part such as 10%% or a size such as 20GB, not %q", s)
		}
		return Amount{Bytes: n}, nil
	}
	p, ok := decimal(strings.TrimSpace(number))
	if !ok || p <= 0 || p > 100 {
		return Amount{}, fmt.Errorf("must be a part above 0%% and at most 100%%, not %q", s)
	}
	return Amount{Percent: p}, nil
}

// Of gives the amount in bytes of a whole of so many bytes.
func (a Amount) Of(whole int64) int64 {
	if a.Percent == 0 {
		return a.Bytes
	}
	return int64(float64(whole) / 100 * a.Percent)
}

// String gives the text ParseAmount takes.
func (a Amount) String() string {
	if a.Percent == 0 {
		return FormatSize(a.Bytes)
	}
	return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
}

// decimal reads digits with at most one point among them: no sign, exponent or
// name, which strconv would take.
func decimal(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789.") != "" || s == "." {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}
