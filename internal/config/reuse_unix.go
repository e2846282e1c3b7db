//go:build unix

package config

import "golang.org/x/sys/unix"

// reuse sets the asked socket options.
func reuse(fd uintptr, port, address bool) error {
	if port {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
	}
	if address {
		return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	return nil
}
