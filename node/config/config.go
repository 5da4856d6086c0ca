package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// FileName is the configuration file's name in a node's home.
const FileName = "config.toml"

// A Config is the configuration of a node, every value of it valid. Its zero
// value is not: start from Default or Read.
type Config struct {
	Scan   Scan
	Watch  bool // be told of changes by the system, besides scanning
	Limits Limits
	Trash  Trash
	Hold   Hold
	Free   Free
	Listen []string // multiaddrs to be reached at; none: any free port on every interface
	MDNS   bool     // find devices in the local network, and be found
	API    API
	Log    Log
}

// Scan says how often a folder is looked through.
type Scan struct {
	Interval time.Duration // between two walks of the whole tree
	Rehash   time.Duration // within which every file is read again; 0: never
}

// Limits bound the traffic of the whole node.
type Limits struct {
	Upload   int64 // bytes a second; 0: none
	Download int64
}

// Trash says how long what was deleted or displaced can be restored.
type Trash struct {
	Keep time.Duration
	Max  Amount // of the disk; beyond it the oldest goes first
}

// Hold says what counts as a mass change, which waits for a person's word:
// more than both of these, deleted or rewritten in one go.
type Hold struct {
	Entries int
	Percent int // of the folder
}

// Free is about the room that stays on the disk.
type Free struct {
	Floor Amount // nothing is received that would leave less; zero: the disk package's own rule
}

// API is about the local API on TCP.
type API struct {
	Address string // "127.0.0.1:8390"; "": none
}

// Log is about the node's log.
type Log struct {
	Level slog.Level
}

// Default gives the configuration of a node whose file says nothing.
func Default() Config {
	var c Config
	for _, k := range keys {
		if err := k.set(&c, k.Default); err != nil {
			panic("config: the default of " + k.Name + " is not valid: " + err.Error())
		}
	}
	return c
}

// Read reads the configuration of a home. Without a file it is Default. An
// *Error tells what is wrong in the file, where, and what to do.
func Read(home string) (Config, error) {
	c, _, err := read(home)
	return c, err
}

// Values lists every key with what is in force in a home, in the order of Keys.
func Values(home string) ([]Value, error) {
	c, set, err := read(home)
	if err != nil {
		return nil, err
	}
	list := make([]Value, 0, len(keys))
	for _, k := range keys {
		list = append(list, Value{
			Key: k.Name, Value: k.get(&c), Default: k.Default, Meaning: k.Meaning, Live: k.Live, Set: set[k.Name],
		})
	}
	return list, nil
}

func read(home string) (Config, map[string]bool, error) {
	path := filepath.Join(home, FileName)
	data, err := readFile(path)
	if err != nil {
		return Config{}, nil, err
	}
	return parse(path, data)
}

// parse gives the configuration a file holds, and which keys it names.
func parse(path string, data []byte) (Config, map[string]bool, error) {
	c := Default()
	set := map[string]bool{}
	settings, err := parseFile(path, data)
	if err != nil {
		return c, nil, err
	}
	for _, s := range settings {
		k, err := find(s.key)
		if err == nil {
			err = k.apply(&c, s.text)
		}
		if err != nil {
			e := err.(*Error)
			e.Message = fmt.Sprintf("%s line %d: %s", path, s.line, e.Message)
			return c, nil, e
		}
		set[k.Name] = true
	}
	return c, set, nil
}

// maxFile bounds the configuration file.
const maxFile = 1 << 20

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if info.Size() > maxFile {
		return nil, &Error{Message: fmt.Sprintf("%s has %d bytes, more than a configuration can have", path, info.Size()), Remedy: "remove or shorten it"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return data, nil
}

// An Error is something wrong in the configuration, told to who wrote it.
type Error struct {
	Key     string // the key it is about; "" if none
	Message string // what is wrong, one line
	Remedy  string // what to do, one line
}

// Error gives message and remedy in one line.
func (e *Error) Error() string { return e.Message + "; " + e.Remedy }
