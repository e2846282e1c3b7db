package cluster

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/ashlar-kv/ashlar/test/process"
)

var (
	longFlag   = flag.Duration("long", 0, "how long the soak runs; 0 leaves it out")
	seedFlag   = flag.Int64("seed", 0, "seed of the soak; 0 draws one")
	serverFlag = flag.String("server", "", "run this program instead of building cmd/ashlar")
	otherFlag  = flag.String("other", "", "the program of the last -others members of each cluster")
	othersFlag = flag.Int("others", 1, "how many members run -other")
)

// parallelMin is how many tests run at once at least.
const parallelMin = 4

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) {
	if address := os.Getenv(diskAddress); address != "" {
		os.Exit(serveOnDisk(address, os.Args[1:]))
	}
	flag.Parse()
	// These tests wait more than they work.
	if runtime.GOMAXPROCS(0) < parallelMin {
		flag.Set("test.parallel", strconv.Itoa(parallelMin))
	}
	// The client library logs each retry to stderr; these tests break connections all the time.
	os.Setenv("ETCD_CLIENT_DEBUG", "fatal")
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ashlar-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program = *serverFlag; program == "" {
		if program, err = process.Build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}
