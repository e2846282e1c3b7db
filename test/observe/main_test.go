package observe

import (
	"fmt"
	"os"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) {
	os.Setenv("ETCD_CLIENT_DEBUG", "fatal")
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ashlar-observe-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = process.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
