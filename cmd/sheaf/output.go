package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// answerJSON prints v as the answer, for people to read as well.
func (a *app) answerJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// line prints a line of the answer.
func (a *app) line(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, format+"\n", args...); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// A table prints rows in columns, the last one of free width.
type table struct{ w *tabwriter.Writer }

func (a *app) table(header ...string) *table {
	t := &table{tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	_, _ = fmt.Fprintln(t.w, strings.TrimRight(strings.Join(cells, "\t"), "\t ")) // Flush tells
}

func (t *table) end() error {
	if err := t.w.Flush(); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// printable gives s so that it cannot steer a terminal or show in another order
// than it stands: control, format and unassigned characters are escaped.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRuneToASCII(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

// A shade colours a word on a terminal.
type shade string

const (
	good  shade = "\x1b[32m"
	busy  shade = "\x1b[33m"
	bad   shade = "\x1b[31m"
	faint shade = "\x1b[2m"
	bold  shade = "\x1b[1m"
)

// shaded colours s if the answer goes to a terminal and nobody forbids it
// (no-color.org).
func (a *app) shaded(c shade, s string) string {
	if !a.terminal.out || a.env("NO_COLOR") != "" || a.env("TERM") == "dumb" {
		return s
	}
	return string(c) + s + "\x1b[0m"
}

// size gives bytes for people: three digits and a unit of 1000.
func size(n int64) string {
	const names = "kMGTPE"
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, i := float64(n)/1000, 0
	for v >= 999.5 && i < len(names)-1 {
		v, i = v/1000, i+1
	}
	digits := 0
	if v < 9.95 {
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + names[i:i+1] + "B"
}

// count gives a number of things, in words a person reads: "1 file",
// "12,345 files".
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s + " " + many
}

// moment gives a time for people, in their zone; "-" for none.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}
