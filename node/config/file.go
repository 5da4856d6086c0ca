package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// A setting is one value in the file, and where its text stands.
type setting struct {
	key        string // with its table, "scan.interval"
	text       string // as Key.set takes it
	line       int
	start, end int  // of the whole expression in the file
	value      int  // where the value starts in it
	inline     bool // part of an inline table: not to be edited here
	top        bool // stands before the first table
}

// parseFile finds the settings in a file. The error is an *Error.
func parseFile(path string, data []byte) ([]setting, error) {
	// The decoder judges the syntax, and that nothing is said twice; the parser
	// below tells where things stand, which the decoder does not.
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		where := ""
		var d *toml.DecodeError
		if errors.As(err, &d) {
			line, _ := d.Position()
			where = fmt.Sprintf(" line %d", line)
		}
		return nil, &Error{
			Message: fmt.Sprintf("%s%s: %s", path, where, strings.TrimPrefix(err.Error(), "toml: ")),
			Remedy:  "correct it by hand; each line is like trash.keep = \"30d\"",
		}
	}
	var out []setting
	var p unstable.Parser
	p.Reset(data)
	table, top := "", true
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, top = dotted(e.Key()), false
		case unstable.KeyValue:
			s := setting{
				key:   join(table, dotted(e.Key())),
				start: int(e.Raw.Offset), end: int(e.Raw.Offset + e.Raw.Length), top: top,
			}
			s.line = 1 + bytes.Count(data[:s.start], []byte("\n"))
			s.value = valueStart(data, e)
			out = append(out, settings(s, e.Value())...)
		}
	}
	if err := p.Error(); err != nil {
		return nil, &Error{Message: path + ": " + err.Error(), Remedy: "correct it by hand"}
	}
	return out, nil
}

// settings gives the one setting of a value, or, of an inline table, those in it.
func settings(s setting, v *unstable.Node) []setting {
	switch v.Kind {
	case unstable.InlineTable:
		var out []setting
		for it := v.Children(); it.Next(); {
			in := s
			in.key, in.inline = join(s.key, dotted(it.Node().Key())), true
			out = append(out, settings(in, it.Node().Value())...)
		}
		return out
	case unstable.Array:
		var parts []string
		for it := v.Children(); it.Next(); {
			if it.Node().Kind != unstable.Comment {
				parts = append(parts, string(it.Node().Data))
			}
		}
		s.text = strings.Join(parts, ",")
	case unstable.Integer:
		s.text = strings.ReplaceAll(string(v.Data), "_", "")
	default:
		s.text = string(v.Data)
	}
	return []setting{s}
}

// valueStart finds where the value of an expression starts: after the equals
// sign, before which is only the key.
func valueStart(data []byte, e *unstable.Node) int {
	at := int(e.Raw.Offset)
	for it := e.Key(); it.Next(); {
		at = int(it.Node().Raw.Offset + it.Node().Raw.Length)
	}
	at += bytes.IndexByte(data[at:], '=') + 1
	for at < len(data) && (data[at] == ' ' || data[at] == '\t') {
		at++
	}
	return at
}

func dotted(it unstable.Iterator) string {
	var parts []string
	for it.Next() {
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, ".")
}

func join(table, key string) string {
	if table == "" {
		return key
	}
	return table + "." + key
}
