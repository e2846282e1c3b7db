//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"time"
)

// errLinux is returned on other systems for what only Linux tells.
var errLinux = errors.New("what a process uses is read on Linux only")

func cpuTime(int) (time.Duration, error)   { return 0, errLinux }
func residentBytes(int) (int64, error)     { return 0, errLinux }
func peakBytes(int) (int64, error)         { return 0, errLinux }
func resetPeak(int) error                  { return errLinux }
func writtenBytes(int) (int64, error)      { return 0, errLinux }
func startOn(cmd *exec.Cmd, _ []int) error { return cmd.Start() }
func allowedCores() []int                  { return nil }
func stayOn([]int) error                   { return errLinux }
func fileSystem(string) string             { return "" }
