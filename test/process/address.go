package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// given holds the ports handed out by this test process; two servers must not get the same before they listen.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// FreeAddress is a loopback address, host and port, that nobody listens on. It lies below the range from which kernels pick
// the ports of outgoing connections, so that none takes it between two starts of one server.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = make(map[int]bool)
	}
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if given.ports[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		given.ports[port] = true
		return address
	}
	tb.Fatal("no free port found")
	return ""
}
