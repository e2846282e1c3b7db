//go:build !linux

package e2e

import (
	"errors"
	"syscall"
	"time"
)

func diesWithParent() *syscall.SysProcAttr { return nil }

func cpuTime(int) (time.Duration, error) {
	return 0, errors.New("the CPU time of a process is read on Linux only")
}

func residentBytes(int) (int64, error) {
	return 0, errors.New("the memory of a process is read on Linux only")
}
