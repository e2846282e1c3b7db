package config

import (
	"net"
	"syscall"
)

// ListenConfig returns what listeners of this member are made with: it sets the socket options of
// SocketReusePort and SocketReuseAddress.
func (c *Config) ListenConfig() net.ListenConfig {
	port, address := c.SocketReusePort, c.SocketReuseAddress
	if !port && !address {
		return net.ListenConfig{}
	}
	return net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) { failed = reuse(fd, port, address) })
		if err != nil {
			return err
		}
		return failed
	}}
}
