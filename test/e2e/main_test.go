package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

var (
	serverFlag = flag.String("server", "", "test this program, with etcd's command line, instead of building cmd/ashlar")
	seedFlag   = flag.Int64("seed", 0, "seed of the random tests; 0 draws one")
)

// program is the binary under test.
var program struct {
	path string
	// ours is false for a server that was named by -server and is etcd: a few expectations hold for us only.
	ours bool
}

// parallelMin is how many tests run at once at least.
const parallelMin = 2

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for disks and processes: one after the other they take several times as long.
	if runtime.GOMAXPROCS(0) < parallelMin {
		flag.Set("test.parallel", strconv.Itoa(parallelMin))
	}
	// The client library logs each retry to stderr; these tests break connections all the time.
	os.Setenv("ETCD_CLIENT_DEBUG", "fatal")
	os.Exit(run(m))
}

func run(m *testing.M) int {
	program.ours = !strings.HasPrefix(filepath.Base(*serverFlag), "etcd")
	if *serverFlag != "" {
		var err error
		if program.path, err = filepath.Abs(*serverFlag); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	} else {
		dir, err := os.MkdirTemp("", "ashlar-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if program.path, err = process.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
