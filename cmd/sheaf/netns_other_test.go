//go:build unix && !linux

package main

import "os/exec"

func startIn(_ string, c *exec.Cmd) error { return c.Start() }
