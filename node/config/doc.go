// Package config is a node's configuration: the file config.toml in its home,
// every key of it optional.
//
// The picture to hold is one table, Keys. Each row has a name, a default, a
// meaning and the one parser that judges its text; the typed Config, the strict
// reading of the file, the answer of `sheaf config` and `sheaf config set` all
// come from that table, so that they cannot disagree. A value that is inside a
// Config is valid.
//
//	config.toml ──Read──> Config ──> the node
//	     ^                   └─Values─> `sheaf config`, GET /api/v1/config
//	     └────Set: one line replaced or added, everything else left as it is
//
// Reading is strict: an unknown key is an error that names the nearest known
// one. The package never watches the file, never fills it with defaults, and
// knows nothing of what the values are used for.
package config
