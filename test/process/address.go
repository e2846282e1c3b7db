package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports lie below the range from which kernels pick the ports of outgoing connections, so that none takes a server's port
// between two starts of it. They are claimed in blocks, since several test processes run at once.
const (
	firstPort  = 20000
	blockPorts = 200
	blocks     = 60
)

// given is what this test process hands out. The lock guards all fields.
var given struct {
	sync.Mutex
	// claims listen on the first port of each block as long as the process lives: whoever cannot, takes another block.
	claims []net.Listener
	port   int // the last one handed out
	end    int // of the block
}

// FreeAddress is a loopback address, host and port, that nobody listens on and that no other test process will be given.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	return loopback(FreePorts(tb, 1))
}

// FreePorts is FreeAddress for count ports in a row, fewer than a block has, of which it returns the first.
func FreePorts(tb testing.TB, count int) int {
	tb.Helper()
	given.Lock()
	defer given.Unlock()
	for row, tries := 0, 0; tries < 100*blockPorts; tries++ {
		if given.port+1 >= given.end {
			row = 0
			if l, base, ok := claimBlock(); ok {
				given.claims, given.port, given.end = append(given.claims, l), base, base+blockPorts
			}
			continue
		}
		given.port++
		if row++; !free(loopback(given.port)) {
			row = 0
		}
		if row == count {
			return given.port - count + 1
		}
	}
	tb.Fatalf("no %d free ports in a row found", count)
	return 0
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// free tells whether one can listen on address. A child that is forked meanwhile would have the socket, and listen with it until
// it executes its program, while we have closed it: so nothing is forked.
func free(address string) bool {
	defer withoutForks()()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// claimBlock tries for a block of ports drawn by lot. A block that is used up stays claimed: its servers may be started again.
func claimBlock() (net.Listener, int, bool) {
	base := firstPort + blockPorts*rand.IntN(blocks)
	l, err := net.Listen("tcp", loopback(base))
	return l, base, err == nil
}
