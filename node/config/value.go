package config

// A Value is one key as people see it: `sheaf config` prints a list of these.
type Value struct {
	Key     string `json:"key" doc:"The key's name, as in config set KEY VALUE"`
	Value   string `json:"value" doc:"The value in force, in the form config set takes"`
	Default string `json:"default" doc:"The value if the file says nothing"`
	Meaning string `json:"meaning" doc:"What it does, its unit, and what is allowed"`
	Live    bool   `json:"live" doc:"Whether a running node takes up a change at once, or else when it starts again"`
	Set     bool   `json:"set" doc:"Whether the configuration file names it"`
}
