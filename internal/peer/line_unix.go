//go:build unix

package peer

import (
	"errors"
	"syscall"
)

const canAttempt = true

// attemptWrite writes what the kernel takes at once.
func attemptWrite(fd uintptr, p []byte) (int, error) {
	n, err := syscall.Write(int(fd), p)
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return 0, nil
	}
	return max(0, n), err
}
