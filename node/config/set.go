package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Set writes one key to the configuration file of a home, making the file if
// need be. What else stands in it, order and comments included, stays as it is.
// The file is replaced whole: a crash leaves the old one or the new one. An
// *Error tells what is wrong with key, value or file; nothing is written then.
//
// Two Sets at once are for the caller to keep apart.
func Set(home, key, value string) error {
	path := filepath.Join(home, FileName)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // somebody keeps it elsewhere: leave the link
	}
	old, err := readFile(path)
	if err != nil {
		return err
	}
	edited, err := edit(path, old, key, value)
	if err != nil {
		return err
	}
	return replace(path, edited)
}

// edit gives the file with key set to value.
func edit(path string, old []byte, name, value string) ([]byte, error) {
	k, err := find(name)
	if err != nil {
		return nil, err
	}
	want := Default()
	if err := k.apply(&want, value); err != nil {
		return nil, err
	}
	settings, err := parseFile(path, old)
	if err != nil {
		return nil, err
	}
	edited := place(old, settings, k.Name, k.write(&want))

	// The proof of the edit is that it reads back.
	got, set, err := parse(path, edited)
	if err != nil {
		return nil, err
	}
	if !set[k.Name] || k.get(&got) != k.get(&want) {
		return nil, &Error{Key: name, Message: fmt.Sprintf("%s is written in %s in a way that cannot be changed here", name, path), Remedy: "change it by hand"}
	}
	return edited, nil
}

// write gives a value as it stands in the file.
func (k Key) write(c *Config) string {
	v := k.get(c)
	switch k.form {
	case bare:
		return v
	case list:
		parts := splitList(v)
		for i, p := range parts {
			parts[i] = strconv.Quote(p)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return strconv.Quote(v) // values hold nothing that Go and TOML quote differently
	}
}

// place puts a value where the key stands already, else at the end of its
// table, else at the end of the file in a table of its own; a key of no table
// goes before the first table.
func place(old []byte, settings []setting, name, value string) []byte {
	eol := "\n"
	if i := bytes.IndexByte(old, '\n'); i > 0 && old[i-1] == '\r' {
		eol = "\r\n"
	}
	table, key, inTable := strings.Cut(name, ".")
	if !inTable {
		table, key = "", name
	}
	after, line := -1, key+" = "+value
	for _, s := range settings {
		switch {
		case s.key == name && !s.inline:
			return splice(old, s.value, s.end, value)
		case inTable && strings.HasPrefix(s.key, table+"."):
			after = s.end
			if line = key + " = " + value; s.top { // trash.max = ... outside a table
				line = name + " = " + value
			}
		case !inTable && s.top:
			after = s.end
		}
	}
	if after >= 0 {
		at := lineEnd(old, after)
		return splice(old, at, at, eol+line)
	}
	if !inTable {
		return splice(old, 0, 0, line+eol)
	}
	header := regexp.MustCompile(`(?m)^[ \t]*\[[ \t]*` + regexp.QuoteMeta(table) + `[ \t]*\][^\r\n]*`)
	if at := header.FindIndex(old); at != nil { // an empty table
		return splice(old, at[1], at[1], eol+line)
	}
	if len(old) > 0 {
		if !bytes.HasSuffix(old, []byte("\n")) {
			old = splice(old, len(old), len(old), eol)
		}
		old = splice(old, len(old), len(old), eol)
	}
	return splice(old, len(old), len(old), "["+table+"]"+eol+line+eol)
}

func splice(b []byte, from, to int, with string) []byte {
	out := make([]byte, 0, len(b)+len(with))
	return append(append(append(out, b[:from]...), with...), b[to:]...)
}

// lineEnd gives where the line of an offset ends, before its line end.
func lineEnd(b []byte, at int) int {
	i := bytes.IndexByte(b[at:], '\n')
	if i < 0 {
		return len(b)
	}
	if at += i; at > 0 && b[at-1] == '\r' {
		at--
	}
	return at
}

// replace puts a file in place durably and whole.
func replace(path string, data []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the configuration: %w", err)
		}
	}()
	mode := os.FileMode(0o600)
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(filepath.Dir(path), FileName+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
