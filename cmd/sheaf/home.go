package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
)

// defaultHome is where a device's state is if nobody says: the platform's place
// for what a program keeps between runs.
func defaultHome(env func(string) string) (string, error) {
	if dir := env("SHEAF_HOME"); dir != "" {
		return dir, nil
	}
	if dir := env("XDG_STATE_HOME"); filepath.IsAbs(dir) { // the specification: ignore it if not absolute
		return filepath.Join(dir, "sheaf"), nil
	}
	if runtime.GOOS == "windows" {
		if dir := env("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "sheaf"), nil
		}
	}
	user := env("HOME")
	if user == "" {
		var err error
		if user, err = os.UserHomeDir(); err != nil {
			return "", errors.New("there is no home directory to keep state in: set SHEAF_HOME or give --home")
		}
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(user, "Library", "Application Support", "sheaf"), nil
	}
	return filepath.Join(user, ".local", "state", "sheaf"), nil
}

// defaultDir is where a device's Sync folder is if nobody says.
func defaultDir(env func(string) string) (string, error) {
	if user := env("HOME"); user != "" {
		return filepath.Join(user, "Sync"), nil
	}
	user, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("there is no home directory to sync in: give --dir")
	}
	return filepath.Join(user, "Sync"), nil
}

// defaultName is what a device is called if nobody says.
func defaultName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	for i, r := range name {
		if r == '.' && i > 0 {
			return name[:i]
		}
	}
	return name
}
