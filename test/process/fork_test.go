package process_test

import (
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// TestAnAddressIsFreeWhileChildrenAreForked: tests start members all the time, and each child has the sockets of its parent until
// it executes its program.
func TestAnAddressIsFreeWhileChildrenAreForked(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var forks sync.WaitGroup
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = exec.Command(self, "-test.list", "^$").Run()
				}
			}
		})
	}
	defer forks.Wait()
	defer close(done)
	for range 150 {
		l, err := net.Listen("tcp", process.FreeAddress(t))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
