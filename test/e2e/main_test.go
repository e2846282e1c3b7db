package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

func TestMain(m *testing.M) {
	flag.Parse()
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
		if program.path, err = build(dir); err != nil {
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
