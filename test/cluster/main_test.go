package cluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	longFlag   = flag.Duration("long", 0, "how long the soak runs; 0 leaves it out")
	seedFlag   = flag.Int64("seed", 0, "seed of the soak; 0 draws one")
	serverFlag = flag.String("server", "", "run this program instead of building cmd/ashlar")
	otherFlag  = flag.String("other", "", "the program of the last -others members of each cluster")
	othersFlag = flag.Int("others", 1, "how many members run -other")
)

// patience bounds every wait: a shared machine may stall for seconds.
const patience = 60 * time.Second

// program is the path of the binary under test.
var program string

func TestMain(m *testing.M) {
	flag.Parse()
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
		if program, err = build(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// build compiles cmd/ashlar into dir.
func build(dir string) (string, error) {
	root, err := repositoryRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ashlar")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/ashlar")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building cmd/ashlar: %w\n%s", err, out)
	}
	return path, nil
}

// repositoryRoot is the nearest directory above that holds go.mod.
func repositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("finding the repository: no go.mod in any directory above")
		}
		dir = parent
	}
}
