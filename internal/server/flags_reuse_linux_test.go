package server

import (
	"net"
	"syscall"
	"testing"
)

// provesReuseAddress asks the system. Go sets the option by itself, so without the flag it is set, too.
func provesReuseAddress(t *testing.T, _ *flagLab, name string) {
	cfg := parsed(t, "--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1",
		"--listen-peer-urls=http://127.0.0.1:0", "--"+name)
	first, others, err := Listen(t.Context(), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(append(first, others...))
	conn, err := first[0].(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set int
	var failed error
	err = conn.Control(func(fd uintptr) {
		set, failed = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR)
	})
	if err != nil || failed != nil || set == 0 {
		t.Errorf("the option is %d: %v, %v", set, err, failed)
	}
}
