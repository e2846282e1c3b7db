package kubernetes

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// asAPIServer in the environment makes the test program a kube-apiserver.
const asAPIServer = "TEST_KUBE_APISERVER=1"

var server = flag.String("server", "", "the program of the members (default: built from this repository)")

func TestMain(m *testing.M) {
	if os.Getenv("TEST_KUBE_APISERVER") != "" {
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if *server != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "ashlar-kubernetes-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "making a directory for the program:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	*server = filepath.Join(dir, "ashlar")
	build := exec.Command("go", "build", "-o", *server, "./cmd/ashlar")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cmd/ashlar: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
