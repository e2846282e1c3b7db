// Command ashlar is the server, the client and the offline tool in one program.
//
// `ashlar` and `ashlar server` run a member; `ashlar version` prints the version. Called under the name etcd
// (a link) it is the server with etcd's defaults. `ashlar ctl`, `ashlar util` and the names etcdctl and etcdutl
// are kept for the command lines, which are not built yet.
//
// This package only picks what to run and turns its outcome into an exit status: 0 after a graceful stop, 2 for
// a command line that cannot be read, 1 for every other failure, 128 and its number for a second signal.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ashlar-kv/ashlar/internal/version"
)

func main() {
	os.Exit(run(process{args: os.Args, environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}))
}

// process is what the operating system hands to a program. Tests run one without starting it.
type process struct {
	args           []string // with the program's own name first
	environ        []string
	stdout, stderr io.Writer
}

// run picks what was asked for, does it, and returns the exit status.
func run(p process) int {
	name := strings.TrimSuffix(filepath.Base(p.args[0]), ".exe")
	args := p.args[1:]
	switch name {
	case "etcd":
		return serve(p, "etcd", args)
	case "etcdctl", "etcdutl":
		return notBuilt(p, name)
	}
	if len(args) == 0 {
		return serve(p, "ashlar", args)
	}
	switch args[0] {
	case "server":
		return serve(p, "ashlar", args[1:])
	case "version":
		fmt.Fprint(p.stdout, version.Banner())
		return 0
	case "ctl", "util":
		return notBuilt(p, "ashlar "+args[0])
	}
	return serve(p, "ashlar", args)
}

func notBuilt(p process, what string) int {
	fmt.Fprintf(p.stderr, "%s is not built yet\n", what)
	return 1
}
