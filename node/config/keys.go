package config

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
)

// A Key is one thing that can be configured.
type Key struct {
	Name    string // table.key in the file
	Default string
	Meaning string
	Live    bool // whether a running node takes up a change at once

	form form
	set  func(*Config, string) error // judges the text and puts it in place
	get  func(*Config) string        // the text that set would take
}

// A form is how a value is written in the file.
type form uint8

const (
	text form = iota // "..."
	bare             // true, 20
	list             // ["...", "..."]
)

// Keys gives the table of all keys, in the order people are shown.
func Keys() []Key { return append([]Key(nil), keys...) }

var keys = []Key{
	{
		Name: "scan.interval", Default: "1h",
		Meaning: "how often each folder is looked through for changes the system did not tell of; at least 1s",
		set:     duration(func(c *Config) *time.Duration { return &c.Scan.Interval }, time.Second, false),
		get:     func(c *Config) string { return FormatDuration(c.Scan.Interval) },
	},
	{
		Name: "scan.rehash", Default: "60d",
		Meaning: "within what time every file is read again to find bit rot; at least 1m, 0 for never",
		set:     duration(func(c *Config) *time.Duration { return &c.Scan.Rehash }, time.Minute, true),
		get:     func(c *Config) string { return FormatDuration(c.Scan.Rehash) },
	},
	{
		Name: "watch", Default: "true", form: bare,
		Meaning: "whether changes are seen at once, by the system's notice; if false only scans find them",
		set:     boolean(func(c *Config) *bool { return &c.Watch }),
		get:     func(c *Config) string { return strconv.FormatBool(c.Watch) },
	},
	{
		Name: "limits.upload", Default: "0", Live: true,
		Meaning: "bytes a second sent at most, all peers together, such as 2MiB; at least 1KiB, 0 for no limit",
		set:     rate(func(c *Config) *int64 { return &c.Limits.Upload }),
		get:     func(c *Config) string { return FormatSize(c.Limits.Upload) },
	},
	{
		Name: "limits.download", Default: "0", Live: true,
		Meaning: "bytes a second received at most, all peers together, such as 10MB; at least 1KiB, 0 for no limit",
		set:     rate(func(c *Config) *int64 { return &c.Limits.Download }),
		get:     func(c *Config) string { return FormatSize(c.Limits.Download) },
	},
	{
		Name: "trash.keep", Default: "30d",
		Meaning: "how long what was deleted or displaced can be restored; at least 1s",
		set:     duration(func(c *Config) *time.Duration { return &c.Trash.Keep }, time.Second, false),
		get:     func(c *Config) string { return FormatDuration(c.Trash.Keep) },
	},
	{
		Name: "trash.max", Default: "10%",
		Meaning: "how much the trash may hold, of the disk (10%) or as a size (20GB); beyond it the oldest goes first",
		set: func(c *Config, s string) (err error) {
			c.Trash.Max, err = ParseAmount(s)
			return err
		},
		get: func(c *Config) string { return c.Trash.Max.String() },
	},
	{
		Name: "hold.entries", Default: "50", form: bare,
		Meaning: "deletions and rewrites in one go up to which nobody is asked, whatever part of the folder they are",
		set:     integer(func(c *Config) *int { return &c.Hold.Entries }, 0, 1<<30),
		get:     func(c *Config) string { return strconv.Itoa(c.Hold.Entries) },
	},
	{
		Name: "hold.percent", Default: "20", form: bare,
		Meaning: "part of the folder, in percent, up to which nobody is asked, however many they are; 100: only when a folder is emptied",
		set:     integer(func(c *Config) *int { return &c.Hold.Percent }, 0, 100),
		get:     func(c *Config) string { return strconv.Itoa(c.Hold.Percent) },
	},
	{
		Name: "free.floor", Default: "auto",
		Meaning: "room that stays free on the disk, as a part (2%) or a size (5GB): nothing is received that would leave less; auto: 1% or 1GiB, by the disk's size",
		set: func(c *Config, s string) (err error) {
			if c.Free.Floor = (Amount{}); s == "auto" {
				return nil
			}
			c.Free.Floor, err = ParseAmount(s)
			if err == nil && c.Free.Floor == (Amount{}) {
				return fmt.Errorf("must be above 0, or auto")
			}
			return err
		},
		get: func(c *Config) string {
			if c.Free.Floor == (Amount{}) {
				return "auto"
			}
			return c.Free.Floor.String()
		},
	},
	{
		Name: "listen", Default: "", form: list,
		Meaning: "multiaddrs at which other devices reach this one, such as /ip4/0.0.0.0/tcp/4101; none: any free port on every interface",
		set: func(c *Config, s string) error {
			c.Listen = nil
			for _, a := range splitList(s) {
				if _, err := multiaddr.NewMultiaddr(a); err != nil {
					return fmt.Errorf("%q is not a multiaddr such as /ip4/0.0.0.0/tcp/4101", a)
				}
				c.Listen = append(c.Listen, a)
			}
			return nil
		},
		get: func(c *Config) string { return strings.Join(c.Listen, ",") },
	},
	{
		Name: "mdns", Default: "true", form: bare,
		Meaning: "whether devices of the account find each other in the local network",
		set:     boolean(func(c *Config) *bool { return &c.MDNS }),
		get:     func(c *Config) string { return strconv.FormatBool(c.MDNS) },
	},
	{
		Name: "api.address", Default: "",
		Meaning: "loopback address and port at which programs of this machine reach the API with a token, such as 127.0.0.1:8390; none: only the socket",
		set: func(c *Config, s string) error {
			if s != "" {
				if err := CheckLoopback(s); err != nil {
					return err
				}
			}
			c.API.Address = s
			return nil
		},
		get: func(c *Config) string { return c.API.Address },
	},
	{
		Name: "log.level", Default: "info",
		Meaning: "what is logged: debug, info, warn or error and what is worse",
		set: func(c *Config, s string) error {
			for _, l := range levels {
				if strings.EqualFold(l.String(), s) {
					c.Log.Level = l
					return nil
				}
			}
			return fmt.Errorf("must be debug, info, warn or error, not %q", s)
		},
		get: func(c *Config) string { return strings.ToLower(c.Log.Level.String()) },
	},
}

var levels = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// apply puts a text in place, or gives an *Error.
func (k Key) apply(c *Config, s string) error {
	if err := k.set(c, strings.TrimSpace(s)); err != nil {
		return &Error{Key: k.Name, Message: k.Name + ": " + err.Error(), Remedy: "it says " + k.Meaning}
	}
	return nil
}

// find gives the key of a name, or an *Error that names the nearest one.
func find(name string) (Key, error) {
	for _, k := range keys {
		if k.Name == name {
			return k, nil
		}
	}
	return Key{}, UnknownKey(name)
}

// UnknownKey is the error for a key that is not there: it names the nearest one.
func UnknownKey(name string) error {
	return &Error{
		Key: name, Message: fmt.Sprintf("there is no key %q", name),
		Remedy: fmt.Sprintf("the nearest is %q; `sheaf config` lists them all", nearest(name)),
	}
}

// CheckLoopback tells what is wrong with an address for the API on TCP: it may
// only be one of this machine for itself.
func CheckLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("must be an address and port such as 127.0.0.1:8390, not %q", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("must have a port of 0 to 65535, not %q", port)
	} else if port != strconv.FormatUint(n, 10) {
		return fmt.Errorf("must have a plain port, not %q", port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("must be 127.0.0.1, [::1] or localhost, for it is for this machine alone, not %q", host)
	}
	return nil
}

func duration(at func(*Config) *time.Duration, least time.Duration, zero bool) func(*Config, string) error {
	return func(c *Config, s string) error {
		d, err := ParseDuration(s)
		if err != nil {
			return err
		}
		if d < least && (d != 0 || !zero) {
			return fmt.Errorf("must be at least %s, not %s", FormatDuration(least), s)
		}
		*at(c) = d
		return nil
	}
}

// leastRate is the least limit on traffic: with less no message would get
// through in time.
const leastRate = 1 << 10

func rate(at func(*Config) *int64) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := ParseSize(strings.TrimSuffix(s, "/s"))
		if err != nil {
			return err
		}
		if n != 0 && n < leastRate {
			return fmt.Errorf("must be 0 or at least 1KiB, not %s", s)
		}
		*at(c) = n
		return nil
	}
}

func boolean(at func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, s string) error {
		switch s {
		case "true", "false":
			*at(c) = s == "true"
			return nil
		}
		return fmt.Errorf("must be true or false, not %q", s)
	}
}

func integer(at func(*Config) *int, least, most int) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("must be a whole number from %d to %d, not %q", least, most, s)
		}
		*at(c) = n
		return nil
	}
}

func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
