package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/multiformats/go-multiaddr"
	"github.com/pelletier/go-toml/v2"

	"sheaf/node/api"
	"sheaf/node/config"
	"sheaf/replication/group"
)

// The roles of a relay.
const (
	RoleRelay   = "relay"   // connects devices
	RoleArchive = "archive" // keeps
	RoleLinks   = "links"   // publishes
)

// A Config is how a relay runs.
type Config struct {
	Name      string
	Listen    []string // multiaddrs
	HTTP      string   // address of the server for links; "" for none
	PublicURL string
	Roles     []string
	Retention time.Duration // how long what was deleted or replaced is kept
	Versions  int           // of a file that lives, how many replaced ones are kept however old
}

// DefaultConfig is what counts where nothing is said.
func DefaultConfig() Config {
	name, err := os.Hostname()
	if err != nil || group.CheckName(name) != nil {
		name = "relay"
	}
	return Config{
		Name: name,
		Listen: []string{
			"/ip4/0.0.0.0/tcp/22122", "/ip4/0.0.0.0/udp/22122/quic-v1",
			"/ip6/::/tcp/22122", "/ip6/::/udp/22122/quic-v1",
		},
		Roles:     []string{RoleRelay, RoleArchive},
		Retention: 30 * 24 * time.Hour, Versions: 5,
	}
}

// A Key is one setting.
type Key struct {
	Name, Meaning string
	list          bool
	get           func(*Config) string
	set           func(*Config, string) error
}

// Keys gives the settings, in the order in which people are shown them.
func Keys() []Key {
	text := func(at func(*Config) *string, judge func(string) error) (func(*Config) string, func(*Config, string) error) {
		return func(c *Config) string { return *at(c) }, func(c *Config, v string) error {
			if err := judge(v); err != nil {
				return err
			}
			*at(c) = v
			return nil
		}
	}
	list := func(at func(*Config) *[]string, judge func(string) error) (func(*Config) string, func(*Config, string) error) {
		return func(c *Config) string { return strings.Join(*at(c), ",") }, func(c *Config, v string) error {
			var out []string
			for part := range strings.SplitSeq(v, ",") {
				if part = strings.TrimSpace(part); part == "" {
					continue
				}
				if err := judge(part); err != nil {
					return err
				}
				out = append(out, part)
			}
			*at(c) = out
			return nil
		}
	}
	keys := make([]Key, 7)
	keys[0] = Key{Name: "name", Meaning: "what devices call this relay"}
	keys[0].get, keys[0].set = text(func(c *Config) *string { return &c.Name }, group.CheckName)
	keys[1] = Key{Name: "listen", Meaning: "multiaddrs at which devices reach it, with commas between", list: true}
	keys[1].get, keys[1].set = list(func(c *Config) *[]string { return &c.Listen }, func(s string) error {
		_, err := multiaddr.NewMultiaddr(s)
		return err
	})
	keys[2] = Key{Name: "roles", Meaning: "relay, archive, links: what it does (circuits and link pages come with a later release)", list: true}
	keys[2].get, keys[2].set = list(func(c *Config) *[]string { return &c.Roles }, func(s string) error {
		if !slices.Contains([]string{RoleRelay, RoleArchive, RoleLinks}, s) {
			return fmt.Errorf("%q is none of relay, archive, links", s)
		}
		return nil
	})
	keys[3] = Key{Name: "retention", Meaning: "how long what was deleted or replaced is kept, such as 30d"}
	keys[3].get = func(c *Config) string { return config.FormatDuration(c.Retention) }
	keys[3].set = func(c *Config, v string) error {
		d, err := config.ParseDuration(v)
		if err == nil && d < time.Second {
			err = errors.New("less than a second")
		}
		if err == nil {
			c.Retention = d
		}
		return err
	}
	keys[4] = Key{Name: "versions", Meaning: "how many replaced versions of a file are kept as long as it lives, however old"}
	keys[4].get = func(c *Config) string { return strconv.Itoa(c.Versions) }
	keys[4].set = func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > 1000 {
			return fmt.Errorf("%q is no number from 0 to 1000", v)
		}
		c.Versions = n
		return nil
	}
	keys[5] = Key{Name: "http", Meaning: "address of the server for link pages, which come with a later release"}
	keys[5].get, keys[5].set = text(func(c *Config) *string { return &c.HTTP }, func(s string) error {
		if s == "" {
			return nil
		}
		_, _, err := net.SplitHostPort(s)
		return err
	})
	keys[6] = Key{Name: "public_url", Meaning: "where link pages are reached from outside"}
	keys[6].get, keys[6].set = text(func(c *Config) *string { return &c.PublicURL }, func(s string) error {
		if u, err := url.Parse(s); s != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			return fmt.Errorf("%q is no address such as https://files.example.org", s)
		}
		return nil
	})
	return keys
}

const configFile = "config.toml"

// Set puts a setting, given as text, into a configuration.
func (c *Config) Set(name, value string) error {
	for _, k := range Keys() {
		if k.Name != name {
			continue
		}
		if err := k.set(c, value); err != nil {
			return api.Errorf(api.ErrUsage, "see `sheaf-relay config`", "%s cannot be %q: %w", name, value, err)
		}
		return nil
	}
	return unknownKey(name)
}

func unknownKey(name string) error {
	best, least := "", 1<<30
	for _, k := range Keys() {
		if d := distance(k.Name, name); d < least {
			best, least = k.Name, d
		}
	}
	return api.Errorf(api.ErrUsage, "see `sheaf-relay config`", "there is no setting %q: is %q meant?", name, best)
}

// distance is how many letters have to be put in, taken out or changed between two words
// (Levenshtein, 1966).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// ReadConfig reads the settings of a home.
func ReadConfig(home string) (Config, error) {
	c := DefaultConfig()
	p := filepath.Join(home, configFile)
	data, err := os.ReadFile(p)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read the settings: %w", err)
	}
	var all map[string]any
	if err := toml.Unmarshal(data, &all); err != nil {
		return c, api.Errorf(api.ErrUsage, "correct it by hand; each line is like retention = \"30d\"", "%s: %s", p, strings.TrimPrefix(err.Error(), "toml: "))
	}
	for name, v := range all {
		text := fmt.Sprint(v)
		if list, ok := v.([]any); ok {
			var parts []string
			for _, x := range list {
				parts = append(parts, fmt.Sprint(x))
			}
			text = strings.Join(parts, ",")
		}
		if err := c.Set(name, text); err != nil {
			var e *api.Error
			if errors.As(err, &e) {
				e.Message = p + ": " + e.Message
			}
			return c, err
		}
	}
	return c, nil
}

// write writes the settings of a home, each with its meaning.
func (c *Config) write(home string) error {
	var b strings.Builder
	b.WriteString("# Settings of this relay. `sheaf-relay config set KEY VALUE` writes this file anew.\n")
	for _, k := range Keys() {
		v := strconv.Quote(k.get(c))
		if k.list {
			var parts []string
			for part := range strings.SplitSeq(k.get(c), ",") {
				if part != "" {
					parts = append(parts, strconv.Quote(part))
				}
			}
			v = "[" + strings.Join(parts, ", ") + "]"
		}
		if k.Name == "versions" {
			v = k.get(c)
		}
		fmt.Fprintf(&b, "\n# %s\n%s = %s\n", k.Meaning, k.Name, v)
	}
	return writeFile(filepath.Join(home, configFile), []byte(b.String()), 0o600)
}

// A Value is one setting as it stands.
type Value struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Default string `json:"default"`
	Meaning string `json:"meaning"`
}

// Values gives all settings of a home.
func Values(home string) ([]Value, error) {
	c, err := ReadConfig(home)
	if err != nil {
		return nil, err
	}
	d := DefaultConfig()
	var out []Value
	for _, k := range Keys() {
		out = append(out, Value{k.Name, k.get(&c), k.get(&d), k.Meaning})
	}
	return out, nil
}

// SetConfig changes one setting of a home. It counts from the next start on.
func SetConfig(home, name, value string) error {
	if err := isHome(home); err != nil {
		return err
	}
	c, err := ReadConfig(home)
	if err != nil {
		return err
	}
	if err := c.Set(name, value); err != nil {
		return err
	}
	return c.write(home)
}
