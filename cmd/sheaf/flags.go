package main

import (
	"time"

	"sheaf/node/config"
)

// A span is a flag of time that takes days too.
type span time.Duration

// Set reads the flag.
func (s *span) Set(text string) error {
	d, err := config.ParseDuration(text)
	*s = span(d)
	return err
}

// String gives the flag's value.
func (s *span) String() string { return config.FormatDuration(time.Duration(*s)) }

// Type names the kind of value in the help.
func (s *span) Type() string { return "time" }
