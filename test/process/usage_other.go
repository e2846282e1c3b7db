//go:build !linux

package process

import (
	"errors"
	"syscall"
	"time"
)

// DiesWithParent asks for nothing: only Linux kills a child whose parent died.
func DiesWithParent() *syscall.SysProcAttr { return nil }

// CPUTime is read on Linux only.
func CPUTime(int) (time.Duration, error) {
	return 0, errors.New("the CPU time of a process is read on Linux only")
}

// ResidentBytes is read on Linux only.
func ResidentBytes(int) (int64, error) {
	return 0, errors.New("the memory of a process is read on Linux only")
}
