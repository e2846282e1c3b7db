package server

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// capabilityIPCLock is CAP_IPC_LOCK: with it memory is locked without a limit.
const capabilityIPCLock = 14

// errLockLimit is returned when memory could be locked now and be refused later, which would end the process.
var errLockLimit = errors.New("the limit of locked memory (RLIMIT_MEMLOCK) is not unlimited, and the process does not have CAP_IPC_LOCK")

// lockMemory keeps the pages of the process in memory, those that it has and those that it will get, from when each is first used.
func lockMemory() error {
	free, err := mayLock()
	if err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	if !free {
		return fmt.Errorf("lock memory: %w", errLockLimit)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	return nil
}

// mayLock tells whether memory can be locked without a limit. It raises the limit where the process may.
func mayLock() (bool, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l); err != nil {
		return false, err
	}
	if l.Max == unix.RLIM_INFINITY {
		l.Cur = l.Max
		return true, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &l)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return false, err
	}
	return caps[0].Effective&(1<<capabilityIPCLock) != 0, nil
}
